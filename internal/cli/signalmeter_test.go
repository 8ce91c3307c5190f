package cli

import (
	"testing"

	"semantos/internal/tune"
)

func TestShortLivedConnections(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signals map[string]float64
		want    bool
	}{
		"one connection per request": {map[string]float64{"tcp.active_opens": 900, "tcp.passive_opens": 900, "tcpinfo.established": 40}, true},
		"long streams":               {map[string]float64{"tcp.active_opens": 0, "tcp.passive_opens": 0, "tcpinfo.established": 8}, false},
		"a few among many":           {map[string]float64{"tcp.active_opens": 2, "tcp.passive_opens": 2, "tcpinfo.established": 400}, false},
		"nothing at all":             {map[string]float64{"tcp.active_opens": 0, "tcp.passive_opens": 0, "tcpinfo.established": 0}, false},
		"not readable":               {map[string]float64{"tcp.active_opens": 900}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			snap := tune.Snapshot{Entities: map[string][]tune.Entity{tune.EntityNetns: {{Kind: tune.EntityNetns, ID: "netns:1", Signals: c.signals}}}}
			if got := shortLived(t.Context(), oneWindow{snap}, "netns:1"); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestNewSocketsOf(t *testing.T) {
	t.Parallel()
	rmem := tune.Change{Scope: tune.ScopeNetns, Target: "netns:1", TakesEffect: tune.NewSockets}
	other := tune.Change{Scope: tune.ScopeNetns, Target: "netns:2", TakesEffect: tune.NewSockets}
	host := tune.Change{Scope: tune.ScopeHost, Target: "host", TakesEffect: tune.NewSockets}
	now := tune.Change{Scope: tune.ScopeHost, Target: "host", TakesEffect: tune.Immediately}
	file := tune.Change{Scope: tune.ScopeDevice, Target: "vda", TakesEffect: tune.NewMappings}
	for want, bundles := range map[string][][]tune.Change{
		"netns:1": {{rmem}, {rmem, now}}, "": {{now}, {rmem, other}, {rmem, host}, {rmem, file}, nil},
	} {
		for _, b := range bundles {
			if got := newSocketsOf(b); got != want {
				t.Errorf("%v: %q, want %q", b, got, want)
			}
		}
	}
}
