package rollout

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"semantos/internal/tune"
	"semantos/safety/gate"
	"semantos/safety/guard"
)

// Writer is the way to the machine: the guard's client.
type Writer interface {
	Apply(ctx context.Context, rollout string, changes []tune.Change, actor string) ([]guard.Applied, error)
	Revert(ctx context.Context, rollout string, targets ...string) ([]guard.Restored, error)
	Commit(ctx context.Context, rollout string) error
	Rollback(ctx context.Context, rollout, actor string) ([]guard.Restored, error)
	Reopen(ctx context.Context, rollout string) error
}

var _ Writer = (*guard.Client)(nil)

// Meter measures the workload for d. It fails rather than guess: a failed sample is missing data.
// Fresh says that each sample makes new sockets and opens its own files.
type Meter interface {
	Name() string
	Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error)
	Fresh() bool
}

// Sensor is a meter of one value, such as the signal of a symptom: it says what the value is, so that
// the right direction counts as better.
type Sensor interface {
	Meter
	Measure() tune.Measure
}

// Witness is a meter from outside that has the kernel count, over each sample, what clients lost
// ([tune.MeterSample].Lost); LossMS is what one loss costs a client.
type Witness interface {
	Meter
	LossMS() float64
}

func lossOf(m Meter) float64 {
	if w, ok := m.(Witness); ok {
		return w.LossMS()
	}
	return 0
}

// RunnerConfig is what a runner needs. Dead closes when the guard dies; Vitals and Audit may be nil.
type RunnerConfig struct {
	Writer   Writer
	Audit    Audit
	Dead     <-chan struct{}
	Gate     *gate.Gate
	Tunables Tunables
	Vitals   Vitals
	Now      func() time.Time
	Rand     *rand.Rand
	BootID   string
}

// Runner performs what [Step] asks for.
type Runner struct{ cfg RunnerConfig }

// NewRunner makes a runner.
func NewRunner(cfg RunnerConfig) *Runner {
	return &Runner{cfg: cfg}
}

// Request is one rollout to run. Meter may be a [Sensor]; nil leaves only the limits to watch.
type Request struct {
	ID             string // "": made from the recommendation and the time
	Recommendation tune.Recommendation
	Meter          Meter
	StageTime      time.Duration
	Steps          []float64
	Margin         float64
	Limits         Limits
	Yes            bool
	Set            bool
	Hold           bool
	Gates          bool // wait after every stage
	Persist        bool // the caller's affair after a commit; saved with the rest
	Actor          string
	Vetoes         []string       // what stands against starting now, beside the gate; Yes passes them
	Commands       <-chan Command // nil: nobody can speak to it while it runs
	// Allowance says why nothing more may be exposed, "" while it may; exposed is what this rollout has
	// had. It is asked at every look and must not wait. Nil: no end.
	Allowance func(now time.Time, exposed time.Duration) string
	// Keeper lets the rollout go on in another process, once Ending is closed or the process is killed;
	// nil ends it with the process.
	Keeper Keeper
	Ending <-chan struct{}
}

// Command is what a person says to a running rollout: KindAdvance, KindHold, KindAbort, or KindInterrupt
// for a freeze.
type Command struct {
	Kind  Kind
	Actor string
	Why   string
}

// Event is progress: the rollout as it stands, and a line for people.
type Event struct {
	Rollout tune.Rollout
	Text    string
	Elapsed time.Duration
	Total   time.Duration // if every stage is judged at its earliest
	Sample  *tune.MeterSample
	Treated bool
}

// errGuardDead ends a run: with the guard gone nothing may be written, and it restored what was open.
var errGuardDead = errors.New("the guard process ended")

// restoreTime is what putting back may take after the caller has given up.
const restoreTime = 30 * time.Second

// Run takes a recommendation through gate and stages. What ended well or badly is in the rollout; the
// error is for what could not be done: a refusal, a dead guard, a value that could not be put back.
func (r *Runner) Run(ctx context.Context, req Request, progress func(Event)) (tune.Rollout, error) {
	started := r.cfg.Now()
	if req.ID == "" {
		req.ID = NewID(req.Recommendation, started)
	}
	out := tune.Rollout{
		ID:             req.ID,
		Recommendation: req.Recommendation, State: tune.Vetoed, Stages: []tune.Stage{},
		Actor: req.Actor, Started: started, BootID: r.cfg.BootID,
	}
	refused := func(reason string, err error) (tune.Rollout, error) {
		out.Reason, out.Ended = reason, r.cfg.Now()
		r.recordEnd(out)
		return out, err
	}
	decision, err := r.cfg.Gate.Check(ctx, req.Recommendation)
	decision.Vetoes = append(decision.Vetoes, req.Vetoes...)
	r.recordChoice(req, out, decision, err)
	if err != nil {
		return refused(err.Error(), err)
	}
	out.Gate = &tune.Admission{Tau: decision.Tau, Calibrated: decision.Calibrated, Passed: req.Yes && len(decision.Vetoes) > 0}
	if !decision.Admitted(req.Yes) {
		return refused(decision.Reason(), nil)
	}
	meter, measure := req.Meter, tune.Measure{}
	if one, ok := meter.(Sensor); ok {
		measure = one.Measure()
	}
	plan, err := NewPlan(PlanRequest{Changes: req.Recommendation.Changes, Steps: req.Steps,
		StageTime: req.StageTime, Fresh: meter == nil || meter.Fresh(), Apart: apart(meter, req.Recommendation.Changes)}, r.cfg.Tunables, r.cfg.Rand)
	if err != nil {
		return refused(err.Error(), err)
	}
	if meter != nil {
		out.Meter = meter.Name()
	}
	trial := NewTrial(plan, Policy{Measure: measure, Measured: meter != nil, LossMS: lossOf(meter),
		Margin: req.Margin, Limits: req.Limits, Set: req.Set, Yes: req.Yes, Hold: req.Hold, Gates: req.Gates})
	run := &run{Runner: r, req: req, meter: meter, trial: trial, out: out, progress: progress, note: decision.Note, mixed: decision.Mixed}
	return run.whole(ctx, Observation{Kind: KindBegin})
}

// NewID names a rollout: its recommendation and when it was asked for, in milliseconds.
func NewID(rec tune.Recommendation, at time.Time) string {
	return rec.ID + "-" + strconv.FormatInt(at.UnixMilli(), 36)
}

// whole runs it from the first observation to its end, or to where another process goes on.
func (r *run) whole(ctx context.Context, first Observation) (tune.Rollout, error) {
	stop := r.startWatch()
	defer stop()
	r.saver = newSaver(r.req.Keeper)
	err := r.loop(ctx, first)
	r.saver.stop()
	r.out.Detail = join(join(r.out.Detail, r.mixed), r.watch.spared())
	if !r.suspended {
		r.recordEnd(r.out)
	}
	return r.out, err
}

// run is one rollout under way.
type run struct {
	*Runner
	req      Request
	meter    Meter
	trial    Trial
	out      tune.Rollout
	progress func(Event)
	note     string
	watch    *watch
	looks    <-chan time.Time // when the watch is to look
	exposure exposureClock
	mixed    string // why effects of the bundle cannot be told apart
	unheard  bool   // held with nobody to hear
	wrote    bool   // a value was applied: there is something to put back
	fatal    error  // what the caller must know beside the rollout
	saver    *saver
	// suspended: everything is put back, and the next process goes on.
	suspended bool
}

func (r *run) loop(ctx context.Context, first Observation) error {
	pending := []Observation{first}
	for !r.trial.Over() {
		if len(pending) == 0 { // never: but values that stand with no next step would stand for good
			lost := fmt.Errorf("run rollout %s: no next step", r.out.ID)
			r.fatal = errors.Join(r.fatal, lost)
			pending = []Observation{{Kind: KindFault, Why: lost.Error()}}
		}
		o := pending[0]
		pending = pending[1:]
		if o.Kind == KindInterrupt && o.Why == "" && r.ending() && r.suspend() {
			return r.fatal
		}
		var effects []Effect
		before := r.trial
		r.trial, effects = Step(r.trial, o, r.cfg.Now())
		r.save()
		// A restore comes before anybody is told of it: who listens may be waiting for the disk.
		restoring := len(effects) > 0 && effects[0].Do == DoRollback
		if !restoring {
			r.told(o, before)
		}
		if r.trial.State == tune.Held && r.req.Commands == nil {
			pending, r.unheard = []Observation{{Kind: KindAbort, Actor: r.req.Actor}}, true
			continue // nobody can let it go on: do not measure, put back
		}
		for _, e := range effects {
			seen, more := r.perform(ctx, e)
			if errors.Is(r.fatal, errGuardDead) {
				return r.abandon()
			}
			pending = append(pending, seen...)
			if !more {
				break
			}
		}
		if restoring {
			r.told(o, before)
		}
	}
	r.exposure.turn(r.cfg.Now(), false) // kept or put back: the trial is over
	r.sync()
	r.out.Ended = r.cfg.Now()
	if r.unheard {
		r.out.State, r.out.Reason = tune.Held, string(tune.Held)
		r.out.Detail = "every partial stage passed, and it was put back since nobody can let it go on from here: " +
			"apply again without --hold, or while serve runs"
	}
	return r.fatal
}

func (r *run) told(o Observation, before Trial) {
	r.tell(o, before)
	r.recordStep(o, before)
	r.tellUnsaved()
}

// abandon ends a rollout whose guard is gone: the guard restores what was open when it can, and the
// next command with rights does when it cannot.
func (r *run) abandon() error {
	r.sync()
	r.out.State, r.out.Reason, r.out.Ended = tune.RolledBack, tune.ReasonFault, r.cfg.Now()
	r.out.Detail = "the guard process ended; run semantos status to see what it left"
	return fmt.Errorf("run rollout %s: %w", r.out.ID, errGuardDead)
}

// perform does one effect. more is false when the effects after it no longer hold.
func (r *run) perform(ctx context.Context, e Effect) (seen []Observation, more bool) {
	select {
	case <-r.cfg.Dead:
		r.fatal = errGuardDead
		return nil, false
	default:
	}
	if e.Do == DoMeasure {
		return r.slot(ctx, e), true
	}
	// A write that began is finished whatever the caller wants: half of one helps nobody.
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTime)
	defer cancel()
	var err error
	var broke *Observation
	switch e.Do {
	case DoExpose:
		broke, err = r.expose(wctx, e.Changes)
	case DoRevert:
		var got []guard.Restored
		got, err = r.cfg.Writer.Revert(wctx, r.out.ID, e.Targets...)
		if broke = r.turn(r.trial.exposed); err == nil && broke == nil {
			if gone, why := goneOf(got); len(gone) > 0 {
				broke = r.vanished(gone, why)
			}
			if lost := notOurs(got); lost != "" && broke == nil {
				broke = &Observation{Kind: KindYield, Why: lost}
			}
		}
	case DoCommit:
		broke, err = r.watched(wctx, func(ctx context.Context) error { return r.cfg.Writer.Commit(ctx, r.out.ID) })
		if err == nil && broke == nil {
			return []Observation{{Kind: KindDone}}, true
		}
	case DoRollback:
		return r.rollback(wctx), true
	}
	switch {
	case broke != nil:
		return []Observation{*broke}, false
	case err == nil:
		return nil, true
	case errors.Is(err, tune.ErrDrifted):
		return []Observation{{Kind: KindYield, Why: err.Error()}}, false
	case errors.Is(err, tune.ErrFrozen): // a person's word, and no fault
		return []Observation{{Kind: KindInterrupt, Why: err.Error()}}, false
	}
	r.fatal = errors.Join(r.fatal, err)
	return []Observation{{Kind: KindFault, Why: err.Error()}}, false
}

func (r *run) rollback(ctx context.Context) []Observation {
	got, err := r.cfg.Writer.Rollback(ctx, r.out.ID, r.req.Actor)
	if err == nil || !r.wrote && errors.Is(err, tune.ErrUnknown) {
		r.trial.Detail = join(r.trial.Detail, notOurs(got))
		return []Observation{{Kind: KindDone}}
	}
	r.fatal = errors.Join(r.fatal, fmt.Errorf("put back rollout %s: %w", r.out.ID, err))
	return []Observation{{Kind: KindFault, Why: err.Error()}}
}

// notOurs names what was left alone because something else set it, or because it is gone.
func notOurs(got []guard.Restored) string {
	said := ""
	for _, g := range got {
		if g.Outcome == guard.Yielded || g.Outcome == guard.Gone {
			said = join(said, fmt.Sprintf("%s on %s was left alone: %s", g.Tunable, g.Target, g.Detail))
		}
	}
	return said
}

// sync copies the trial into the rollout.
func (r *run) sync() {
	r.out.State, r.out.Reason, r.out.Detail = r.trial.State, r.trial.Reason, r.trial.Detail
	r.out.ExposedSeconds = r.exposure.at(r.cfg.Now()).Seconds()
	r.out.Stages, r.out.Effect = append([]tune.Stage{}, r.trial.Stages...), r.trial.Effect
}
