package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// Tunables finds catalogue entries by the name of an instance.
type Tunables interface {
	Lookup(name string) (t *tune.Tunable, target string, err error)
}

// Ranges gives the safe range of a tunable's elements on this host.
type Ranges interface {
	Safe(t *tune.Tunable, facts tune.Facts) ([]tune.Range, error)
}

// Live says what semantos holds now.
type Live interface {
	Managed(ctx context.Context) ([]tune.Managed, error)
}

// Calibration says where the threshold learned from outcomes stands; [Calibrator] is one.
type Calibration interface {
	Standing(ctx context.Context) tune.Calibration
}

// Pace says what should be left alone for a while, and why: cool-downs, what goes back and forth.
type Pace interface {
	Objections(ctx context.Context, changes []tune.Change) ([]string, error)
}

// Config is what the gate asks. Calibration may be nil: then nothing was learned yet. So may Pace.
type Config struct {
	Tau         float64 // the loosest threshold ever allowed
	Tunables    Tunables
	Ranges      Ranges
	Live        Live
	Calibration Calibration
	Pace        Pace
	Facts       tune.Facts
	Outcomes    int // unsafe ones needed for a bound; said when Calibration is nil
}

// Gate decides whether a recommendation may be tried at all.
type Gate struct{ cfg Config }

// New makes a gate.
func New(cfg Config) *Gate { return &Gate{cfg: cfg} }

// Decision is the gate's answer. Vetoes are reasons a person may pass with --yes.
type Decision struct {
	Vetoes     []string
	Note       string // "uncalibrated, 9 more needed", or why history does not tell
	Calibrated bool
	Tau        float64
	Mixed      string // why the effects of the bundle cannot be told apart; "" when they can
	Uncertain  bool   // u alone is in the way: trying it with --yes tells whether the veto was right
}

// Admitted reports whether the rollout may start; yes passes every veto.
func (d Decision) Admitted(yes bool) bool { return yes || len(d.Vetoes) == 0 }

// Reason joins the vetoes.
func (d Decision) Reason() string { return strings.Join(d.Vetoes, "; ") }

// Check answers for a recommendation. An error is a refusal nobody passes: an unknown or protected
// tunable, or one that another rollout is trying now.
func (g *Gate) Check(ctx context.Context, rec tune.Recommendation) (Decision, error) {
	d := g.threshold(ctx)
	if !(rec.Uncertainty < d.Tau) { // NaN is a veto too
		d.Vetoes = append(d.Vetoes, fmt.Sprintf("uncertainty %.2f is not below %.2f", rec.Uncertainty, d.Tau))
	}
	if rec.Veto != "" {
		d.Vetoes = append(d.Vetoes, rec.Veto)
	}
	managed, err := g.cfg.Live.Managed(ctx)
	if err != nil {
		return d, fmt.Errorf("ask what is live: %w", err)
	}
	var classes []string
	for _, c := range rec.Changes {
		t, _, err := g.cfg.Tunables.Lookup(c.Tunable)
		if err != nil {
			return d, fmt.Errorf("check %s: %w", c.Tunable, err)
		}
		if err := g.forbidden(t, c); err != nil {
			return d, err
		}
		said, err := g.unsafe(t, c)
		if err != nil {
			return d, err
		}
		d.Vetoes = append(d.Vetoes, said...)
		said, err = conflicts(t, c, managed)
		if err != nil {
			return d, err
		}
		d.Vetoes = append(d.Vetoes, said...)
		if class := t.Class(); !slices.Contains(classes, class) {
			classes = append(classes, class)
		}
	}
	if len(classes) > 1 {
		d.Mixed = "changes of " + strings.Join(classes, " and ") + " in one trial: their effects cannot be told apart"
		d.Vetoes = append(d.Vetoes, d.Mixed)
	}
	d.Vetoes = append(d.Vetoes, g.pace(ctx, rec.Changes)...)
	d.Uncertain = len(d.Vetoes) == 1 && !(rec.Uncertainty < d.Tau)
	return d, nil
}

// forbidden refuses what is protected, and what the kernel would change with it.
func (g *Gate) forbidden(t *tune.Tunable, c tune.Change) error {
	target := c.Target
	if _, own, err := g.cfg.Tunables.Lookup(c.Tunable); err == nil && own != "" {
		target = own
	}
	if err := t.Forbidden(target); err != nil {
		return err
	}
	return tune.ForbiddenBeside(t, target, g.cfg.Tunables.Lookup)
}

// pace is what rests. History that cannot be read rests everything: nobody knows what did harm an hour ago.
func (g *Gate) pace(ctx context.Context, changes []tune.Change) []string {
	if g.cfg.Pace == nil {
		return nil
	}
	said, err := g.cfg.Pace.Objections(ctx, changes)
	if err != nil {
		return []string{"history cannot be read, so what should rest is not known: " + err.Error()}
	}
	return said
}

// threshold is the smaller of TAU and the calibrated one: taking the larger would lose the guarantee.
func (g *Gate) threshold(ctx context.Context) Decision {
	if g.cfg.Calibration == nil {
		return Decision{Tau: g.cfg.Tau, Note: uncalibrated(g.cfg.Outcomes)}
	}
	c := g.cfg.Calibration.Standing(ctx)
	d := Decision{Tau: min(g.cfg.Tau, c.Tau), Calibrated: c.Calibrated}
	switch {
	case !c.Known:
		d.Note = c.Note
	case !c.Calibrated:
		d.Note = uncalibrated(c.Needed)
	case c.Fault != "":
		d.Note = "the last threshold known stands: " + c.Fault
	}
	return d
}

// uncalibrated is what is said while too few outcomes are unsafe for a bound.
func uncalibrated(needed int) string {
	return fmt.Sprintf("uncalibrated, %d more needed (of unsafe outcomes: docs/calibration.md)", needed)
}

// unsafe names each element that would end outside the safe range; the steps on the way are not judged.
func (g *Gate) unsafe(t *tune.Tunable, c tune.Change) ([]string, error) {
	ranges, err := g.cfg.Ranges.Safe(t, g.cfg.Facts)
	if err != nil {
		return nil, fmt.Errorf("safe range of %s: %w", c.Tunable, err)
	}
	if len(ranges) == 0 {
		return nil, nil
	}
	var out []string
	for i, f := range c.Proposed.Fields() {
		if _, special := t.SpecialOf(f); special {
			continue
		}
		n, err := tune.Value(f).Numbers()
		if err != nil {
			continue // a word has no range; its own list was checked when it was parsed
		}
		r := ranges[min(i, len(ranges)-1)]
		if n[0] < r.Min || n[0] > r.Max {
			out = append(out, fmt.Sprintf("%s=%s lies outside the safe range %s to %s",
				c.Tunable, f, tune.FormatNumber(r.Min), tune.FormatNumber(r.Max)))
		}
	}
	return out, nil
}

func conflicts(t *tune.Tunable, c tune.Change, managed []tune.Managed) ([]string, error) {
	var out []string
	for _, m := range managed {
		same := m.Tunable == c.Tunable && m.Target == c.Target
		if same && (m.State == managedTrying || m.State == managedInDoubt) {
			return nil, &tune.Error{Op: "change", Subject: c.Tunable, Err: tune.ErrConflict,
				Hint: fmt.Sprintf("rollout %s is trying it now: wait for it, or roll it back", m.Rollout)}
		}
		for _, name := range t.Conflicts {
			if name == m.Tunable && m.State != managedGone && m.State != managedYielded && meet(m, c) {
				out = append(out, fmt.Sprintf("%s conflicts with %s, which rollout %s holds at %s",
					c.Tunable, m.Tunable, m.Rollout, m.Current))
			}
		}
	}
	return out, nil
}

// meet reports whether two values can act on the same thing: those of two namespaces, or of two devices,
// never do. Of different scopes it is not known, so they may.
func meet(m tune.Managed, c tune.Change) bool { return m.Scope != c.Scope || m.Target == c.Target }

// The states of a [tune.Managed] the gate tells apart.
const (
	managedTrying  = "trying"
	managedInDoubt = "in_doubt"
	managedYielded = "yielded"
	managedGone    = "gone"
)
