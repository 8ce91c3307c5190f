package kb

import (
	"errors"
	"math"
	"strings"
	"testing"

	"semantos/internal/tune"
)

func TestProtectedNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		protected string
		name      string // asked as PROTECTED is enforced: entry and target
		target    string
		forbidden bool
	}{
		{"vm.swappiness", "vm.swappiness", "host", true},
		{"vm/swappiness", "vm.swappiness", "host", true},
		{"/proc/sys/vm/swappiness", "vm.swappiness", "host", true},
		{"vm.swappiness", "vm.dirty_ratio", "host", false},
		{"net.ipv4.*", "net.ipv4.tcp_rmem", "netns:1", true},
		{"net.ipv4.*", "net.core.somaxconn", "netns:1", false},
		{"block/vda/queue/read_ahead_kb", "block/vda/queue/read_ahead_kb", "vda", true},
		{"block/vda/queue/read_ahead_kb", "block/vdb/queue/read_ahead_kb", "vdb", false},
		{"block/sd*/queue/*", "block/sdc/queue/nr_requests", "sdc", true},
		{"block/sd*/queue/*", "block/vda/queue/nr_requests", "vda", false},
		{"block/*/queue/*", "block/vda/queue/nr_requests", "vda", true},
		{"block/{device}/queue/nr_requests", "block/vda/queue/nr_requests", "vda", true},
		{"*", "vm.swappiness", "host", true},
	} {
		c, err := Load(Options{Protected: []string{tc.protected}})
		if err != nil {
			t.Fatalf("%s: %v", tc.protected, err)
		}
		entry, _, err := c.Lookup(tc.name)
		if err != nil {
			t.Fatal(err)
		}
		got := entry.Forbidden(tc.target)
		if (got != nil) != tc.forbidden || got != nil && !errors.Is(got, tune.ErrDenied) {
			t.Errorf("PROTECTED=%s: %s on %s: %v", tc.protected, tc.name, tc.target, got)
		}
		if entry.Protected {
			t.Errorf("PROTECTED=%s keeps %s from being put back", tc.protected, tc.name)
		}
	}
}

// TestProtectedNeighbours: what would move a protected tunable is refused too.
func TestProtectedNeighbours(t *testing.T) {
	t.Parallel()
	c, err := Load(Options{Protected: []string{"vm.min_free_kbytes", "vm.dirty_ratio", "block/vda/queue/nr_requests"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"mm/transparent_hugepage/enabled": true, "vm.dirty_bytes": true, "vm.dirty_background_bytes": false,
		"block/vda/queue/scheduler": true, "block/vdb/queue/scheduler": false} {
		entry, target, err := c.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if target == "" {
			target = "host"
		}
		if got := tune.ForbiddenBeside(entry, target, c.Lookup); (got != nil) != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOperatorsLimits(t *testing.T) {
	t.Parallel()
	inf := math.Inf(1)
	for _, tc := range []struct {
		name     string
		min, max float64
		value    string
		says     string // of the refusal; "" when accepted
		load     string // of the load
	}{
		{"vm.swappiness", 10, 80, "10", "", ""},
		{"vm.swappiness", 10, 80, "9", "10 to 80, which LIMITS allows", ""},
		{"vm.swappiness", 10, 80, "81", "10 to 80", ""},
		{"vm.swappiness", 10, inf, "200", "", ""},
		{"vm.swappiness", -inf, 50, "0", "", ""},
		{"vm/swappiness", 10, 80, "81", "10 to 80", ""},
		{"net.ipv4.tcp_rmem", -inf, 1 << 20, "4096 131072 1048577", "1048576", ""},
		{"vm.swappiness", 10, 300, "", "", "widens 0..200"},
		{"vm.swappiness", -5, 80, "", "", "widens"},
		{"vm.swappiness", 250, inf, "", "", "no value is left"},
		{"vm.swapiness", 10, 80, "", "", "did you mean vm.swappiness"},
		{"block/vda/queue/nr_requests", 10, 80, "", "", "on every target"},
		{"mm/transparent_hugepage/enabled", 1, 2, "", "", "no range"},
	} {
		c, err := Load(Options{Limits: []Limit{{tc.name, tune.Range{Min: tc.min, Max: tc.max}}}})
		if tc.load != "" {
			if !errors.Is(err, tune.ErrUsage) || !strings.Contains(err.Error()+tune.Hint(err), tc.load) || strings.Contains(err.Error(), "\n") {
				t.Errorf("LIMITS of %s: %v, want %q", tc.name, err, tc.load)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		entry, _, err := c.Lookup(tc.name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = entry.Parse(tc.value)
		if (err == nil) != (tc.says == "") || err != nil && (!errors.Is(err, tune.ErrOutOfRange) || !strings.Contains(tune.Hint(err), tc.says)) {
			t.Errorf("%s=%s: %v (%s), want %q", tc.name, tc.value, err, tune.Hint(err), tc.says)
		}
	}
}

// TestLimitsHoldForSentinels: a word that stands for more than every number does not pass an upper limit.
func TestLimitsHoldForSentinels(t *testing.T) {
	t.Parallel()
	entry := &tune.Tunable{Name: "x", Kind: tune.KindInteger, Hard: []tune.Range{{Min: 0, Max: 1000}},
		Specials: []tune.Special{{Value: "max", Rank: 1}, {Value: "-1", Rank: 1}, {Value: "0", Rank: -1}, {Value: "auto"}}}
	for _, v := range []string{"max", "-1", "0", "auto"} {
		if _, err := entry.Parse(v); err != nil {
			t.Errorf("without a limit %s: %v", v, err)
		}
	}
	if err := entry.Narrow(tune.Range{Min: 10, Max: 100}); err != nil {
		t.Fatal(err)
	}
	for v, ok := range map[string]bool{"max": false, "-1": false, "0": false, "auto": true, "50": true} {
		if _, err := entry.Parse(v); (err == nil) != ok {
			t.Errorf("with a limit %s: %v", v, err)
		}
	}
}

func TestProtectedNamesThatMeanNothing(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{"vm.swapiness": "did you mean vm.swappiness", "nothing.*": "no catalogued name matches", "block/*": "no catalogued name matches"} {
		_, err := Load(Options{Protected: []string{name}})
		if !errors.Is(err, tune.ErrUsage) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
