package gate

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"semantos/internal/tune"
)

// History gives past rollouts, newest first; kb's stores do.
type History interface {
	Rollouts(ctx context.Context, limit int) ([]tune.Rollout, error)
}

// CalibratorConfig is what a calibrator needs. Tau and Alpha lie in (0, 1).
type CalibratorConfig struct {
	History History
	Tau     float64
	Alpha   float64
	Now     func() time.Time
}

// Calibrator keeps the gate's threshold in step with history. It is safe for concurrent use.
type Calibrator struct {
	cfg CalibratorConfig

	mu   sync.Mutex
	last tune.Calibration // Known is false until history was read once
	read time.Time        // the newest attempt
}

// NewCalibrator makes one that has read nothing yet.
func NewCalibrator(cfg CalibratorConfig) *Calibrator { return &Calibrator{cfg: cfg} }

const (
	// historyRead is how many rollouts are looked at: the window, and as many that have no label.
	historyRead = 3 * calibrationWindow
	// staleAfter is how old an answer may be. Outcomes are learned from at once; this is for what expires.
	staleAfter = time.Minute
)

// Standing is the newest calibration, brought up to date where it is older than a minute. What it says
// when history cannot be read is the last that was known, with the fault beside it.
func (c *Calibrator) Standing(ctx context.Context) tune.Calibration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := c.cfg.Now().Sub(c.read); c.read.IsZero() || age < 0 || age >= staleAfter {
		_ = c.refresh(ctx) // said in the answer
	}
	return c.answer()
}

// Calibrate reads history now. With an error the answer is the last that was known: a history that
// cannot be read must not loosen the threshold.
func (c *Calibrator) Calibrate(ctx context.Context) (tune.Calibration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.refresh(ctx)
	return c.answer(), err
}

func (c *Calibrator) answer() tune.Calibration {
	out := c.last
	out.Cuts = slices.Clone(out.Cuts)
	if out.Cuts == nil {
		out.Cuts = []tune.DriftCut{}
	}
	return out
}

func (c *Calibrator) refresh(ctx context.Context) error {
	now := c.cfg.Now()
	rollouts, err := c.cfg.History.Rollouts(ctx, historyRead)
	if err != nil {
		if ctx.Err() == nil {
			c.read = now
		}
		c.failed(now, err)
		return fmt.Errorf("calibrate from history: %w", err)
	}
	c.read = now
	previous := previousTau(c.last, rollouts)
	c.last = calibrate(rollouts, c.cfg.Tau, c.cfg.Alpha, now)
	c.last.Previous = previous
	return nil
}

// failed keeps what was known. Where nothing was, TAU stands for a person's apply, and Known false keeps
// the loop from starting anything by itself.
func (c *Calibrator) failed(now time.Time, err error) {
	c.last.Fault = "history cannot be read: " + err.Error()
	if c.last.Known {
		return
	}
	c.last = tune.Calibration{Time: now, Tau: c.cfg.Tau, TauLimit: c.cfg.Tau, Alpha: c.cfg.Alpha, Needed: fewestUnsafe(c.cfg.Alpha),
		BasisKind: basisAll, Window: window(nil), Fault: c.last.Fault,
		Note: "uncalibrated, and it is not known how many more are needed: " + c.last.Fault}
	c.last.Vetoes, c.last.Rollbacks = accuracy(nil)
}

// previousTau is the threshold before this calibration: the last answer's, or what the newest rollout met.
func previousTau(last tune.Calibration, newestFirst []tune.Rollout) *float64 {
	if last.Known {
		return new(last.Tau)
	}
	for _, r := range newestFirst {
		if r.Gate != nil {
			return new(r.Gate.Tau)
		}
	}
	return nil
}

const basisOpen, basisAll = "open", "all"

// calibrate replays history, newest first, through the adaptive window.
func calibrate(newestFirst []tune.Rollout, tau, alpha float64, now time.Time) tune.Calibration {
	t := &tracker{limit: tau, alpha: alpha}
	var all []outcome
	for _, r := range newestFirst {
		if o, ok := labelled(r); ok {
			all = append(all, o)
		}
	}
	slices.SortStableFunc(all, func(a, b outcome) int { return a.At.Compare(b.At) })
	for _, o := range all {
		if o.At.After(now) { // the clock was set back since: it happened, and forgetting it would loosen the threshold
			o.At = now
		}
		t.add(o)
	}
	s := t.threshold(now)
	out := tune.Calibration{Time: now, Known: true, Calibrated: s.bounded, Tau: s.tau, TauLimit: tau, Alpha: alpha, Needed: s.needed,
		Outcomes: len(t.items), Unsafe: len(unsafeOf(t.items)), Basis: s.unsafe, BasisKind: basisAll,
		Window: window(t.items), Cuts: t.cuts}
	if s.open {
		out.BasisKind = basisOpen
	}
	if s.bounded {
		out.TauConformal = new(s.bound)
	}
	out.Vetoes, out.Rollbacks = accuracy(t.items)
	out.Note = note(s, alpha, tau)
	return out
}

func note(s threshold, alpha, tau float64) string {
	if !s.bounded {
		return uncalibrated(s.needed) + fmt.Sprintf(": u below TAU %.2f is admitted for a person, unattended only under AUTO_APPLY=on", tau)
	}
	text := fmt.Sprintf("at most %.0f %% of unsafe recommendations pass, from %d unsafe outcomes: u below %.2f is admitted", 100*alpha, s.unsafe, s.tau)
	switch {
	case s.tau == tau:
		text += " (TAU is the tighter)"
	case s.tau < s.bound:
		text += fmt.Sprintf(" (the bound alone allows %.2f; what lies between cost more than it gained)", s.bound)
	}
	return text
}

func window(items []outcome) tune.Window {
	w := tune.Window{Limit: calibrationWindow, MaxAge: calibrationAge.Hours() / 24}
	if n := len(items); n > 0 {
		w.Oldest, w.Newest = items[0].At, items[n-1].At
	}
	return w
}

// accuracy says how right vetoes and rollbacks were, from what later outcomes tell: a veto is checked
// when a person went past it, a rollback when the same recommendation is tried again.
func accuracy(oldestFirst []outcome) (vetoes, rollbacks tune.Accuracy) {
	var past, pastUnsafe, undone, confirmed, refuted, missed int
	before := map[string]outcome{}
	for _, o := range oldestFirst {
		if o.Passed && o.U >= o.Tau {
			past++
			if o.Unsafe {
				pastUnsafe++
			}
		}
		if last, again := before[o.Rec]; again && o.Rec != "" {
			switch {
			case last.Unsafe && o.Unsafe:
				confirmed++
			case last.Unsafe:
				refuted++
			case o.Unsafe:
				missed++
			}
		}
		if o.Unsafe {
			undone++
		} else if o.Back {
			missed++
		}
		before[o.Rec] = o
	}
	vetoes = tune.Accuracy{Precision: share(pastUnsafe, past), Recall: share(pastUnsafe, undone), Checked: past,
		Meaning: "of vetoes a person went past, how many were unsafe; and of all unsafe outcomes, how many a veto had met (more were vetoed and never tried)"}
	rollbacks = tune.Accuracy{Precision: share(confirmed, confirmed+refuted), Recall: share(undone, undone+missed), Checked: confirmed + refuted,
		Meaning: "of changes put back as unsafe and tried again, how many were unsafe again; and of all that proved bad, how many were put back at once"}
	return vetoes, rollbacks
}

func share(part, whole int) *float64 {
	if whole == 0 {
		return nil
	}
	return new(float64(part) / float64(whole))
}
