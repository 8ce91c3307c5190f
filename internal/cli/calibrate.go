package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/safety/gate"
)

func (a *app) calibrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "calibrate",
		Short: "compute the gate's threshold from past outcomes, and say what it rests on",
		Long: "Reads how past rollouts ended, the newest 400 of the last 30 days and since the last drift, and computes\n" +
			"the uncertainty below which a recommendation may be tried so that at most ALPHA of the unsafe ones pass.\n" +
			"It only ever tightens TAU. In a running serve the result holds at once.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := a.calibrate(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(doc, func() { showCalibration(a.stdout, doc) })
		},
	}
}

func (a *app) calibrate(ctx context.Context) (tune.Calibration, error) {
	if c := a.serving(ctx); c != nil {
		var doc tune.Calibration
		return doc, c.call(ctx, http.MethodPost, "/calibrate", console.CalibrateRequest{}, &doc)
	}
	store, err := a.openHistory(ctx)
	if err != nil {
		return tune.Calibration{}, err
	}
	return a.newCalibrator(store).Calibrate(ctx)
}

// Calibrate renews the threshold of a running serve; the gate asks for it at the next recommendation.
func (s *server) Calibrate(ctx context.Context) (tune.Calibration, error) {
	l := s.ready()
	if l == nil {
		return tune.Calibration{}, starting("calibrate")
	}
	doc, err := l.cal.Calibrate(ctx)
	if err == nil {
		s.hub.Publish(console.Event{Time: doc.Time, Kind: "calibrated", Message: doc.Note, Data: doc})
	}
	return doc, err
}

// newCalibrator joins TAU and ALPHA with what the store remembers; a nil store remembers nothing.
func (a *app) newCalibrator(s store) *gate.Calibrator {
	return gate.NewCalibrator(gate.CalibratorConfig{History: past{s}, Tau: a.cfg.Tau, Alpha: a.cfg.Alpha, Now: a.now})
}

// past is a store's history for calibration.
type past struct{ store store }

// Rollouts gives the newest first. A store that is away and holds no copy is not an empty history.
func (p past) Rollouts(ctx context.Context, limit int) ([]tune.Rollout, error) {
	if p.store == nil {
		return nil, nil
	}
	out, err := p.store.Rollouts(ctx, limit)
	if why := awayReason(p.store); err == nil && len(out) == 0 && why != "" {
		return nil, fmt.Errorf("%s: %w", why, tune.ErrStorage)
	}
	return out, err
}

// showGate is the line of status.
func showGate(w io.Writer, c tune.Calibration) {
	paragraph(w, 2, "", "Gate: "+oneLine(c.Note)+faultText(c))
	fmt.Fprintf(w, "  vetoes: precision %s, recall %s; rollbacks: precision %s, recall %s\n",
		shareText(c.Vetoes.Precision), shareText(c.Vetoes.Recall), shareText(c.Rollbacks.Precision), shareText(c.Rollbacks.Recall))
}

func faultText(c tune.Calibration) string {
	if c.Fault == "" || strings.Contains(c.Note, c.Fault) {
		return ""
	}
	return "; as last known, for " + oneLine(c.Fault)
}

// showCalibration is the page of calibrate.
func showCalibration(w io.Writer, c tune.Calibration) {
	fmt.Fprintf(w, "tau %.2f, TAU %.2f, ALPHA %.2f\n", c.Tau, c.TauLimit, c.Alpha)
	paragraph(w, 2, "", oneLine(c.Note)+faultText(c))
	switch {
	case c.Previous == nil:
		fmt.Fprintln(w, "  what changes: not known, no rollout has met the gate yet")
	case *c.Previous == c.Tau:
		fmt.Fprintln(w, "  what changes: nothing")
	default:
		fmt.Fprintf(w, "  what changes: %.2f was in force, %.2f is now\n", *c.Previous, c.Tau)
	}
	fmt.Fprintf(w, "Outcomes: %d in the window (at most %d, of at most %.0f days), %d of them unsafe; %d more needed\n",
		c.Outcomes, c.Window.Limit, c.Window.MaxAge, c.Unsafe, c.Needed)
	if !c.Window.Oldest.IsZero() {
		fmt.Fprintf(w, "  from %s to %s\n", c.Window.Oldest.Local().Format("2006-01-02 15:04"), c.Window.Newest.Local().Format("2006-01-02 15:04"))
	}
	for _, cut := range c.Cuts {
		fmt.Fprintf(w, "  cut %s: the %s drifted, %d older outcomes no longer count\n", cut.At.Local().Format("2006-01-02 15:04"), cut.Stream, cut.Dropped)
	}
	for _, row := range []struct {
		name string
		a    tune.Accuracy
	}{{"Vetoes", c.Vetoes}, {"Rollbacks", c.Rollbacks}} {
		paragraph(w, 2, "", fmt.Sprintf("%s: precision %s, recall at least %s (%d checked): %s", row.name,
			shareText(row.a.Precision), shareText(row.a.Recall), row.a.Checked, row.a.Meaning))
	}
}

// shareText prints a share, or that it is not known.
func shareText(p *float64) string {
	if p == nil {
		return "not known"
	}
	return fmt.Sprintf("%.2f", *p)
}
