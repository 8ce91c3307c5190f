package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"semantos/internal/config"
	"semantos/internal/host"
	"semantos/internal/tune"
)

// standing says which limits are in force and where they stand.
func (b *budget) standing(cfg config.Config, now time.Time) tune.LimitStanding {
	s := tune.LimitStanding{MaxP95MS: cfg.SLOMaxP95, MaxErrorRate: cfg.MaxErrorRate, MinMemAvailable: cfg.MinMemAvailable,
		Protected: append([]string{}, cfg.Protected...), Narrowed: []string{}, Pressure: []tune.PressureLine{}}
	for _, n := range cfg.Limits {
		s.Narrowed = append(s.Narrowed, n.String())
	}
	v := &vitals{path: host.New(host.Config{Root: cfg.Root}).Path, cfg: cfg}
	for _, p := range v.stalls() {
		_, ok := v.stall(p)
		s.Pressure = append(s.Pressure, tune.PressureLine{Key: p.key, Percent: p.limit, Readable: ok})
	}
	left, _ := b.left(now)
	s.Budget = tune.BudgetStanding{LimitSeconds: b.limit.Seconds(), UsedSeconds: b.used(now).Seconds(), LeftSeconds: left.Seconds()}
	s.Window = tune.WindowStanding{Window: b.window.String(), Open: b.window.Open(now)}
	switch {
	case b.window.Always():
	case s.Window.Open:
		s.Window.Until = now.Add(b.window.Left(now))
	default:
		s.Window.Until = b.window.Opens(now)
	}
	return s
}

// showLimits prints them for people.
func showLimits(w io.Writer, s tune.LimitStanding) {
	for _, line := range limitLines(s) {
		label, text, _ := strings.Cut(line, ": ")
		paragraph(w, 0, label+": ", text)
	}
}

func limitLines(s tune.LimitStanding) []string {
	limits := []string{fmt.Sprintf("p95 %s ms", number(s.MaxP95MS)), fmt.Sprintf("failed requests %s %%", number(100*s.MaxErrorRate))}
	for _, p := range s.Pressure {
		text := fmt.Sprintf("%s %s %%", strings.ToLower(strings.TrimPrefix(p.Key, "PSI_MAX_"))+" pressure", number(p.Percent))
		if !p.Readable {
			text += " (not told by this kernel)"
		}
		limits = append(limits, text)
	}
	if s.MinMemAvailable > 0 {
		limits = append(limits, fmt.Sprintf("available memory at least %s %%", number(s.MinMemAvailable)))
	}
	out := []string{"Limits while treated: " + strings.Join(limits, ", ") + "."}
	if len(s.Protected) > 0 {
		out = append(out, "Never written: "+strings.Join(s.Protected, ", ")+".")
	}
	if len(s.Narrowed) > 0 {
		out = append(out, "Ranges narrowed: "+strings.Join(s.Narrowed, ", ")+".")
	}
	seconds := func(x float64) time.Duration { return time.Duration(x * float64(time.Second)).Round(time.Second) }
	if s.Budget.LimitSeconds > 0 {
		out = append(out, fmt.Sprintf("Exposure in 24 hours: %s of %s used, %s left.", seconds(s.Budget.UsedSeconds), seconds(s.Budget.LimitSeconds), seconds(s.Budget.LeftSeconds)))
	} else {
		out = append(out, fmt.Sprintf("Exposure in 24 hours: %s, without a budget.", seconds(s.Budget.UsedSeconds)))
	}
	switch {
	case s.Window.Until.IsZero():
	case s.Window.Open:
		out = append(out, fmt.Sprintf("Maintenance window: %s, open until %s.", s.Window.Window, clock(s.Window.Until)))
	default:
		out = append(out, fmt.Sprintf("Maintenance window: %s, closed, opens %s.", s.Window.Window, clock(s.Window.Until)))
	}
	return out
}

// limitFindings is what doctor says of the limits: one that cannot be watched is named.
func (a *app) limitFindings(ctx context.Context) []finding {
	b := newBudget(a.cfg)
	if store, err := a.openHistory(ctx); err == nil && store != nil {
		_ = b.load(ctx, store, a.now()) // a history that cannot be read is said with the store
	}
	s := b.standing(a.cfg, a.now())
	out := []finding{{Area: "limits", Status: "ok", Text: strings.Join(limitLines(s), " ")}}
	for _, p := range s.Pressure {
		if !p.Readable {
			out = append(out, finding{Area: "limits", Status: "limited", Text: p.Key + " is not watched: this kernel does not tell how long work stands still",
				Hint: "boot with psi=1 on a kernel with CONFIG_PSI (4.20 or newer), or set " + p.Key + "=off"})
		}
	}
	return out
}
