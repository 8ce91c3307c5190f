package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"semantos/internal/config"
	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/kb/knowledge"
	"semantos/safety/gate"
	"semantos/safety/guard"
	"semantos/safety/rollout"
	"semantos/telemetry"
)

// trials runs rollouts through one guard: for apply, for serve's loop and for what arrives at its socket.
type trials struct {
	rooms   *rooms
	store   store
	guard   *guard.Client
	gate    *gate.Gate
	sampler *telemetry.Sampler // of its own: a slot is a window
	cfg     config.Config
	now     func() time.Time
	rand    *rand.Rand
	bootID  string
	know    *knowledge.Knowledge
	cal     *gate.Calibrator
	budget  *budget
	pace    *pace
	alerts  *alerter
	learned func(error) // told of an outcome that could not be learned from
}

// newGate joins TAU, the safe ranges and what is live now.
func (r *rooms) newGate(cfg config.Config, live gate.Live, cal *gate.Calibrator, pace *pace) *gate.Gate {
	return gate.New(gate.Config{
		Tau: cfg.Tau, Tunables: r.cat, Ranges: r.cat, Live: live, Facts: r.facts, Calibration: cal, Pace: pace,
	})
}

// onDisk is what semantos holds, read from the journal without a guard.
type onDisk struct{ dataDir, runDir, bootID string }

func (a *app) onDisk() onDisk {
	// Without a boot id nothing is taken for an earlier boot's.
	boot, _ := host.New(host.Config{Root: a.cfg.Root}).BootID()
	return onDisk{dataDir: a.cfg.DataDir, runDir: a.runDir(), bootID: boot}
}

func (d onDisk) Managed(context.Context) ([]tune.Managed, error) {
	managed, err := guard.Inspect(d.dataDir, d.runDir, d.bootID)
	if managed == nil {
		managed = []tune.Managed{}
	}
	return managed, err
}

// trialRequest is one rollout as a command line, a request or the loop asks for it.
type trialRequest struct {
	rec       tune.Recommendation
	meter     rollout.Meter // nil: the symptom's own signal, where it has one
	stageTime time.Duration
	steps     []float64
	margin    float64
	maxP95    float64
	maxErrors float64
	yes       bool
	set       bool
	hold      bool
	persist   bool
	actor     string
	alone     bool // nobody watches it: it keeps to budget and window
	commands  <-chan rollout.Command
	id        string          // "": made when it begins
	gates     bool            // wait after every stage
	keeper    rollout.Keeper  // nil: it ends with this process
	ending    <-chan struct{} // closed when serve ends
	exposed   time.Duration   // what it had before it was resumed
}

// run takes one recommendation through gate and stages, and records it. An error beside a rollout that
// began says what could not be done; the rollout says what stands.
func (t *trials) run(ctx context.Context, req trialRequest, tell func(rollout.Event)) (tune.Rollout, error) {
	return t.conduct(ctx, req, tell, (*rollout.Runner).Run)
}

// resume goes on with what an earlier serve left, and records it as run does.
func (t *trials) resume(ctx context.Context, s rollout.Saved, req trialRequest, tell func(rollout.Event)) (tune.Rollout, error) {
	req.rec, req.persist, req.exposed = s.Rollout.Recommendation, s.Persist, s.Exposed
	req.yes, req.alone = s.Trial.Policy.Yes, s.Rollout.Actor == byServe
	return t.conduct(ctx, req, tell, func(r *rollout.Runner, ctx context.Context, q rollout.Request, told func(rollout.Event)) (tune.Rollout, error) {
		return r.Resume(ctx, s, q, told)
	})
}

// conducting is how a runner goes through a request.
type conducting func(r *rollout.Runner, ctx context.Context, q rollout.Request, told func(rollout.Event)) (tune.Rollout, error)

func (t *trials) conduct(ctx context.Context, req trialRequest, tell func(rollout.Event), do conducting) (tune.Rollout, error) {
	before, meter := glance(ctx, t.sampler), t.meterOf(ctx, req)
	runner := rollout.NewRunner(rollout.RunnerConfig{
		Writer: t.guard, Audit: t.guard, Dead: t.guard.Done(), Gate: t.gate, Tunables: t.rooms.cat,
		Vitals: t.newVitals(req.rec.Changes, meter), Now: t.now, Rand: t.rand, BootID: t.bootID,
	})
	// History shows what runs now; its loss stops no rollout, and the final record reports it. Neither it
	// nor who listens holds the rollout up.
	saves := newBehind(func(r tune.Rollout) { _ = t.store.SaveRollout(context.WithoutCancel(ctx), r) })
	told := newBehind(tell)
	stages, state, saved := -1, tune.State(""), 0.0
	rollout, err := do(runner, ctx, rollout.Request{
		ID: req.id, Recommendation: req.rec, Meter: meter, StageTime: req.stageTime, Steps: req.steps, Margin: req.margin,
		Limits: rollout.Limits{MaxP95MS: req.maxP95, MaxErrorRate: req.maxErrors},
		Yes:    req.yes, Set: req.set, Hold: req.hold, Gates: req.gates, Persist: req.persist, Actor: req.actor,
		Commands: req.commands, Keeper: req.keeper, Ending: req.ending, Vetoes: t.budget.vetoes(t.now()), Allowance: t.allowanceOf(req),
	}, func(e rollout.Event) {
		if n := len(e.Rollout.Stages); n != stages || e.Rollout.State != state || e.Rollout.ExposedSeconds > saved+unsaved.Seconds() {
			stages, state, saved = n, e.Rollout.State, e.Rollout.ExposedSeconds
			saves.put(e.Rollout)
		}
		told.put(e)
	})
	told.finish()
	saves.finish()
	t.budget.add(rollout, t.now())
	// The record is written whatever ended the rollout, the caller's patience included.
	keep := context.WithoutCancel(ctx)
	rollout, err = t.record(keep, req, rollout, err)
	if rollout.ID != "" && rollout.State != tune.Held && rollout.State != tune.Running {
		// What stands on the host and in history is settled; what could not be learned is only told.
		if _, learnErr := t.know.Learn(keep, traceOf(rollout, t.rooms.facts, before, glance(ctx, t.sampler))); learnErr != nil {
			t.learned(learnErr)
		}
		// A threshold that could not be renewed stands as it was, and says so in status.
		_, _ = t.cal.Calibrate(keep)
	}
	return rollout, err
}

// allowanceOf ends a trial when its time is over: a person's with the window, which --yes passes, and what
// serve began also with the budget. What a resumed one had before is counted in the budget already.
func (t *trials) allowanceOf(req trialRequest) func(time.Time, time.Duration) string {
	switch {
	case req.alone:
	case req.yes:
		return nil
	default:
		return func(now time.Time, _ time.Duration) string { return t.budget.shut(now) }
	}
	allowed := t.budget.allowance(t.now())
	return func(now time.Time, exposed time.Duration) string { return allowed(now, exposed-req.exposed) }
}

// meterOf is what measures a request: its own meter, else the symptom's signal.
func (t *trials) meterOf(ctx context.Context, req trialRequest) rollout.Meter {
	meter, measure := req.meter, req.rec.Provenance.Measure
	fresh := func() bool {
		netns := newSocketsOf(req.rec.Changes)
		return netns != "" && shortLived(ctx, t.sampler, netns)
	}
	if m, ok := meter.(*ebpfMeter); ok {
		m.fresh = fresh()
	}
	switch {
	case meter == nil && measure.Signal != "":
		meter = &signalMeter{sampler: t.sampler, measure: measure, fresh: fresh(), keep: t.rooms.probes.keep(measure)}
	case meter != nil && measure.LossMS > 0:
		meter = &witnessMeter{Meter: meter, sampler: t.sampler, measure: measure}
	}
	return meter
}

// record keeps how a rollout ended: what stands, what the next boot sets, and history.
func (t *trials) record(ctx context.Context, req trialRequest, rollout tune.Rollout, err error) (tune.Rollout, error) {
	if err == nil && rollout.State == tune.Committed {
		rollout.Kept = t.rounded(ctx, rollout)
	}
	if err == nil && req.persist && rollout.State == tune.Committed {
		rollout.Persisted, err = t.guard.Persist(ctx, rollout.ID)
		if err != nil {
			rollout.Detail += " It is not written for the next boot: " + err.Error() + "."
			err = fmt.Errorf("committed, but not persisted: %w", err)
		}
	}
	t.alerts.ended(rollout, err)
	saveErr := t.store.SaveRollout(ctx, rollout)
	if saveErr == nil && !rollout.Ended.IsZero() && req.keeper != nil {
		saveErr = t.store.DropTrial(ctx, rollout.ID)
	}
	if saveErr != nil {
		err = errors.Join(err, saveErr)
	}
	t.pace.forget()
	return rollout, err
}

// rounded finds what of a kept rollout reads back otherwise than it was proposed.
func (t *trials) rounded(ctx context.Context, r tune.Rollout) map[string]tune.Value {
	managed, err := t.guard.Managed(ctx)
	if err != nil {
		return nil // what was proposed is the best that is known
	}
	var out map[string]tune.Value
	for _, m := range managed {
		for _, c := range r.Recommendation.Changes {
			if m.Rollout == r.ID && m.Tunable == c.Tunable && m.Target == c.Target && m.Current != c.Proposed {
				if out == nil {
					out = map[string]tune.Value{}
				}
				out[c.Tunable+"@"+c.Target] = m.Current
			}
		}
	}
	return out
}

// actor names who asked.
func (a *app) actor() string { return fmt.Sprintf("uid %d", a.uid) }

// bootID tells this boot from others; a fake root may lack one.
func (a *app) bootID(r *rooms) (string, error) {
	boot, err := r.host.BootID()
	if err != nil && a.cfg.Root == "" {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return boot, nil
}

// newTrials starts the guard, which first restores what a killed semantos left behind, and says so.
func (a *app) newTrials(ctx context.Context, r *rooms, store store, know *knowledge.Knowledge, cal *gate.Calibrator) (*trials, error) {
	guard, err := a.startGuard(ctx)
	if err != nil {
		return nil, err
	}
	boot, err := a.bootID(r)
	if err != nil {
		return nil, err
	}
	sampler, err := a.newSampler(ctx, r, time.Hour)
	if err != nil {
		return nil, err
	}
	spent := newBudget(a.cfg)
	if err := spent.load(ctx, store, a.now()); err != nil {
		return nil, err
	}
	seed := uint64(a.now().UnixNano())
	pace := a.newPace(store)
	return &trials{
		rooms: r, store: store, guard: guard, gate: r.newGate(a.cfg, guard, cal, pace), cal: cal, pace: pace, sampler: sampler, cfg: a.cfg, now: a.now,
		rand: rand.New(rand.NewPCG(seed, uint64(os.Getpid()))), bootID: boot, know: know, budget: spent,
		alerts:  a.alerts,
		learned: func(err error) { fmt.Fprintln(a.stderr, "semantos: not learned from:", err) },
	}, nil
}
