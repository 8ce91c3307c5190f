package cli

import (
	"context"
	"fmt"
	"time"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/kb"
	"semantos/telemetry"
)

// rooms are the parts every command that looks at the machine needs: the door to it, the catalogue,
// the rules and the facts of this host.
type rooms struct {
	host  *host.Host
	cat   *kb.Catalogue
	rules []tune.Rule
	facts tune.Facts
	aid   telemetry.Aid // of a serve without root's rights; nil looks itself
	// probes are opened with the first sampler, and shared by all.
	probes *probes
}

// openRooms loads the catalogue and rules whole, or not at all.
func (a *app) openRooms() (*rooms, error) {
	hostCfg := host.Config{Root: a.cfg.Root}
	if a.over != nil {
		hostCfg.Aid = a.over.looks
	}
	h := host.New(hostCfg)
	a.onClose(h.Close)
	options := kb.Options{ExtraDir: a.cfg.CatalogDir, Protected: a.cfg.Protected}
	for _, n := range a.cfg.Limits {
		options.Limits = append(options.Limits, kb.Limit{Tunable: n.Tunable, Range: tune.Range{Min: n.Min, Max: n.Max}})
	}
	cat, err := kb.Load(options)
	if err != nil {
		return nil, err
	}
	rules, err := kb.LoadRules(options)
	if err != nil {
		return nil, err
	}
	facts, err := h.Facts()
	if err != nil {
		return nil, fmt.Errorf("read facts of the host: %w", err)
	}
	r := &rooms{host: h, cat: cat, rules: rules, facts: facts}
	if a.over != nil {
		r.aid = a.over.looks
	}
	return r, nil
}

// current reads a tunable by name on a target, as rules and invariants ask for it.
func (r *rooms) current(name, target string) (tune.Value, error) {
	t, inName, err := r.cat.Lookup(name)
	if err != nil {
		return "", err
	}
	if inName != "" {
		target = inName
	}
	target, err = r.host.Resolve(t, target)
	if err != nil {
		return "", err
	}
	return r.host.Read(t, target)
}

// lookup finds a tunable by the name of an instance.
func (r *rooms) lookup(name string) (*tune.Tunable, error) {
	t, _, err := r.cat.Lookup(name)
	return t, err
}

// newSampler makes telemetry over this host with the window given. The first one loads the probes.
func (a *app) newSampler(ctx context.Context, r *rooms, window time.Duration) (*telemetry.Sampler, error) {
	if err := a.openProbes(ctx, r); err != nil {
		return nil, err
	}
	s, err := r.sampler(window, a.now)
	if err != nil {
		return nil, err
	}
	a.onClose(s.Close)
	return s, nil
}

// sampler makes telemetry that its caller closes; the probes are open already.
func (r *rooms) sampler(window time.Duration, now func() time.Time) (*telemetry.Sampler, error) {
	return telemetry.New(telemetry.Config{Host: r.host, Window: window, Now: now, Probes: r.probes.set, Aid: r.aid})
}
