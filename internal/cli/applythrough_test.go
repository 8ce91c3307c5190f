package cli

import (
	"testing"

	"semantos/internal/tune"
)

// TestSettingsNameTheirTargets: serve may live in another network namespace than the command, so what it
// is sent leaves nothing to be found there.
func TestSettingsNameTheirTargets(t *testing.T) {
	t.Parallel()
	all := []tune.Change{
		{Tunable: "net.core.somaxconn", Target: "netns:4026532317", Proposed: "77"},
		{Tunable: "socket/listen_backlog", Target: "tcp:127.0.0.1:80;netns=1;cookie=4f", Proposed: "511"},
		{Tunable: "net.ipv4.tcp_rmem", Target: "netns:1", Proposed: "4096 131072 16777216"},
		{Tunable: "vm.stat_interval", Target: "host", Proposed: "2"},
	}
	sent := settingsOf(tune.Recommendation{Changes: all})
	for i, c := range all {
		got, err := parseSetting(sent[i])
		if want := (setting{Name: c.Tunable, Target: c.Target, Value: string(c.Proposed)}); err != nil || got != want {
			t.Errorf("%s: %+v, %v", sent[i], got, err)
		}
	}
}
