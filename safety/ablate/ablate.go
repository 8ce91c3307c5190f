package ablate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"semantos/internal/tune"
	"semantos/safety/guard"
	"semantos/safety/rollout"
)

// Writer is the way to the machine: the guard's client.
type Writer interface {
	Apply(ctx context.Context, rollout string, changes []tune.Change, actor string) ([]guard.Applied, error)
	Revert(ctx context.Context, rollout string, targets ...string) ([]guard.Restored, error)
	Rollback(ctx context.Context, rollout, actor string) ([]guard.Restored, error)
	Release(ctx context.Context, rollout string, named []tune.Change, actor string) ([]guard.Restored, error)
}

var _ Writer = (*guard.Client)(nil)

// Config is what a runner needs. Dead closes when the guard dies; Vitals may be nil.
type Config struct {
	Writer   Writer
	Dead     <-chan struct{}
	Tunables rollout.Tunables
	Vitals   rollout.Vitals
	Now      func() time.Time
	Rand     *rand.Rand
}

// Request is one ablation. Changes are those of the committed rollout that stand: Current the original,
// Proposed what stands.
type Request struct {
	Rollout   string
	Changes   []tune.Change
	Meter     rollout.Meter
	StageTime time.Duration
	Policy    rollout.Policy
	Keep      bool // say what each earns and undo nothing
	Actor     string
}

// Runner performs ablations.
type Runner struct{ cfg Config }

// NewRunner makes a runner.
func NewRunner(cfg Config) *Runner { return &Runner{cfg: cfg} }

// patience is how many stage times a change in question may take until it counts as undecided.
const patience = 5

const (
	leastSettle = 200 * time.Millisecond
	leastSample = time.Second
	slotsAStage = 40
)

// Run leaves the changes out in turn until each has its answer or its time is over, and undoes what earns
// nothing, one at a time: after each the rest is measured anew, for one may stand in for another. The
// bundle stands whenever Run returns, less what it undid; the error is for what could not be done.
func (r *Runner) Run(ctx context.Context, req Request, tell func(string)) (tune.Ablation, error) {
	out := tune.Ablation{ID: req.Rollout, State: tune.Committed, Reason: tune.ReasonAblated, Meter: req.Meter.Name(), Actor: req.Actor, Started: r.cfg.Now()}
	run := &run{Runner: r, req: req, out: &out, tell: tell, wrote: map[int]bool{}}
	for _, c := range req.Changes {
		out.Changes = append(out.Changes, tune.Ablated{Tunable: c.Tunable, Target: c.Target, Verdict: tune.Undecided})
	}
	if err := run.prepare(); err != nil {
		return out, err
	}
	err := run.passes(ctx)
	if endErr := run.end(); endErr != nil {
		err = errors.Join(err, endErr)
	}
	if err != nil {
		out.Reason, out.Detail = tune.ReasonFault, err.Error()
	}
	out.Ended = r.cfg.Now()
	return out, err
}

// prepare works out the slots, and which changes can be seen in one.
func (r *run) prepare() error {
	r.sample = max(leastSample, r.req.StageTime/slotsAStage)
	r.settle = leastSettle
	for i, c := range r.req.Changes {
		t, _, err := r.cfg.Tunables.Lookup(c.Tunable)
		if err != nil {
			return fmt.Errorf("ablate %s: %w", r.req.Rollout, err)
		}
		switch {
		case c.TakesEffect == tune.NextListen || c.TakesEffect == tune.Restart || c.TakesEffect == tune.Reboot:
			r.out.Changes[i].Why = fmt.Sprintf("it takes effect at the next %s, which no slot sees", nextOf(c.TakesEffect))
		case c.TakesEffect.Outlives() && !r.req.Meter.Fresh():
			r.out.Changes[i].Why = "sockets and files keep it beyond a slot: give a meter that makes its own, such as http: or cmd:"
		default:
			r.seen = append(r.seen, i)
			r.settle = max(r.settle, min(t.Settle(), max(leastSettle, r.req.StageTime/patience)))
		}
	}
	if len(r.seen) == 0 {
		return &tune.Error{Op: "ablate", Subject: r.req.Rollout, Err: fmt.Errorf("%w: none of its changes can be measured: %s", tune.ErrUnsupported, r.out.Changes[0].Why),
			Hint: "semantos explain " + r.req.Rollout + " says when each takes effect"}
	}
	return nil
}

func nextOf(t tune.TakesEffect) string {
	if t == tune.NextListen {
		return "listen"
	}
	return string(t)
}
