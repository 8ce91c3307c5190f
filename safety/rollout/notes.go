package rollout

import (
	"context"
	"fmt"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
	"semantos/safety/gate"
)

// Audit keeps what was decided; the guard's client is one. What it cannot keep stops new changes in the
// guard itself, so nobody here waits for it or fails with it.
type Audit interface {
	Note(ctx context.Context, e audit.Entry) error
}

// noteTime bounds what a decision waits to be noted: the restore behind it must not.
const noteTime = 50 * time.Millisecond

// record notes one decision of a rollout, by whoever asked for it unless the entry says who.
func (r *Runner) record(out tune.Rollout, e audit.Entry) {
	if r.cfg.Audit == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), noteTime) // also when the caller has given up
	defer cancel()
	if e.Actor == "" {
		e.Actor = out.Actor
	}
	e.Rollout, e.Recommendation = out.ID, out.Recommendation.ID
	_ = r.cfg.Audit.Note(ctx, e.Clip()) // see Audit
}

// recordChoice notes what is to be tried and what the gate said of it.
func (r *Runner) recordChoice(req Request, out tune.Rollout, d gate.Decision, refusal error) {
	why := "advice"
	if req.Set {
		why = "operator"
	}
	rec := req.Recommendation
	u := audit.Number(rec.Uncertainty)
	r.record(out, audit.Entry{Kind: audit.Chosen, Reason: why, Detail: rec.Rationale, Changes: audit.ChangesOf(rec.Changes),
		Numbers: &audit.Numbers{U: u}})
	e := audit.Entry{Kind: audit.Gate, Reason: "admitted", Detail: join(d.Reason(), d.Note),
		Numbers: &audit.Numbers{U: u, Tau: audit.Number(d.Tau), Calibrated: &d.Calibrated}}
	switch {
	case refusal != nil:
		e.Reason, e.Detail = "refused", refusal.Error()
	case !d.Admitted(req.Yes):
		e.Reason = "vetoed"
	case len(d.Vetoes) > 0:
		e.Reason = "passed" // --yes
	}
	r.record(out, e)
}

// recordEnd notes how a rollout ended.
func (r *Runner) recordEnd(out tune.Rollout) {
	n := audit.NewNumbers(out.Effect)
	for _, st := range out.Stages {
		n.Treated += st.Treated
		n.Untreated += st.Compared
	}
	r.record(out, audit.Entry{Kind: audit.Ended, Reason: string(out.State), Detail: join(out.Reason, out.Detail), Numbers: &n})
}

// recordStep notes what somebody said to a rollout, and each stage that was judged by the step.
func (r *run) recordStep(o Observation, before Trial) {
	switch o.Kind {
	case KindHold:
		r.record(r.out, audit.Entry{Kind: audit.Held, Actor: o.Actor, Detail: o.Why})
	case KindAdvance:
		r.record(r.out, audit.Entry{Kind: audit.Advanced, Actor: o.Actor, Detail: o.Why})
	case KindAbort:
		r.record(r.out, audit.Entry{Kind: audit.Aborted, Actor: o.Actor, Reason: tune.ReasonOperator, Detail: o.Why})
	case KindInterrupt:
		r.record(r.out, audit.Entry{Kind: audit.Aborted, Reason: tune.ReasonInterrupted, Detail: o.Why})
	case KindLimit, KindYield, KindFault, KindExpired:
		reason := map[Kind]string{KindLimit: tune.ReasonLimit, KindYield: tune.ReasonYielded, KindFault: tune.ReasonFault, KindExpired: tune.ReasonExpired}[o.Kind]
		r.record(r.out, audit.Entry{Kind: audit.Aborted, Reason: reason, Detail: o.Why})
	}
	for i, st := range r.trial.Stages {
		if st.Reason == "" || i < len(before.Stages) && before.Stages[i].Reason == st.Reason && before.Stages[i].Verdict == st.Verdict {
			continue
		}
		n := audit.NewNumbers(st.Effect)
		n.Treated, n.Untreated, n.Share, n.Exposed = st.Treated, st.Compared, audit.Number(st.Share), audit.Number(st.Exposed)
		r.record(r.out, audit.Entry{Kind: audit.Stage, Reason: string(st.Verdict),
			Detail: fmt.Sprintf("stage %d, %.4g %% by %s: %s", i+1, st.Share, st.Mode, st.Reason), Numbers: &n})
	}
}
