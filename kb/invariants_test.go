package kb

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"semantos/internal/tune"
)

func TestInvariants(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	set := func(kv ...string) []tune.Change {
		var out []tune.Change
		for i := 0; i+1 < len(kv); i += 2 {
			name, target, _ := strings.Cut(kv[i], "@")
			out = append(out, tune.Change{Tunable: name, Target: target, Proposed: tune.Value(kv[i+1])})
		}
		return out
	}
	tests := []struct {
		name    string
		current map[string]string // "name" or "name@target"
		change  []tune.Change
		broken  string // the invariant's name, "" when none
	}{
		{"background above limit", map[string]string{"vm.dirty_ratio": "20", "vm.dirty_background_ratio": "10"},
			set("vm.dirty_background_ratio", "30"), "dirty-background-ratio-below-limit"},
		{"both moved together", map[string]string{"vm.dirty_ratio": "20", "vm.dirty_background_ratio": "10"},
			set("vm.dirty_background_ratio", "30", "vm.dirty_ratio", "40"), ""},
		{"bytes above bytes", map[string]string{"vm.dirty_bytes": "1048576", "vm.dirty_background_bytes": "0"},
			set("vm.dirty_background_bytes", "2097152"), "dirty-background-bytes-below-limit"},
		{"limit as bytes zeroes the ratio", map[string]string{"vm.dirty_ratio": "20", "vm.dirty_background_ratio": "30", "vm.dirty_bytes": "0", "vm.dirty_background_bytes": "0"},
			set("vm.dirty_bytes", "536870912"), ""},
		{"badly set host, one step out", map[string]string{"vm.dirty_ratio": "2", "vm.dirty_background_ratio": "10"},
			set("vm.dirty_ratio", "5"), ""},
		{"badly set host, deeper in", map[string]string{"vm.dirty_ratio": "5", "vm.dirty_background_ratio": "10"},
			set("vm.dirty_ratio", "2"), "dirty-background-ratio-below-limit"},
		{"badly set host, no better", map[string]string{"vm.dirty_ratio": "5", "vm.dirty_background_ratio": "10"},
			set("vm.dirty_ratio", "5"), "dirty-background-ratio-below-limit"},
		{"something else on a badly set host", map[string]string{"vm.dirty_ratio": "5", "vm.dirty_background_ratio": "10"},
			set("vm.swappiness", "10"), ""},
		{"neighbours out of order", map[string]string{"net.ipv4.neigh.default.gc_thresh1": "128", "net.ipv4.neigh.default.gc_thresh2": "512", "net.ipv4.neigh.default.gc_thresh3": "1024"},
			set("net.ipv4.neigh.default.gc_thresh2", "4096"), "neighbour-thresholds-in-order"},
		{"neighbours moved together", map[string]string{"net.ipv4.neigh.default.gc_thresh1": "128", "net.ipv4.neigh.default.gc_thresh2": "512", "net.ipv4.neigh.default.gc_thresh3": "1024"},
			set("net.ipv4.neigh.default.gc_thresh2", "4096", "net.ipv4.neigh.default.gc_thresh3", "8192"), ""},
		{"default above maximum", map[string]string{"net.core.rmem_default": "212992", "net.core.rmem_max": "212992"},
			set("net.core.rmem_default", "1048576"), "rmem-default-within-max"},
		{"ports per namespace", map[string]string{"net.ipv4.ip_unprivileged_port_start@netns:1": "1024", "net.ipv4.ip_unprivileged_port_start@netns:2": "80"},
			set("net.ipv4.ip_local_port_range@netns:2", "512 60999"), ""},
		{"ports per namespace, broken", map[string]string{"net.ipv4.ip_unprivileged_port_start@netns:1": "1024", "net.ipv4.ip_unprivileged_port_start@netns:2": "80"},
			set("net.ipv4.ip_local_port_range@netns:1", "512 60999"), "local-ports-above-unprivileged-start"},
		{"no limit on real time", map[string]string{"kernel.sched_rt_period_us": "1000000"}, set("kernel.sched_rt_runtime_us", "-1"), ""},
		{"runtime above period", map[string]string{"kernel.sched_rt_period_us": "1000000"}, set("kernel.sched_rt_runtime_us", "1500000"), "realtime-runtime-within-period"},
		{"shared memory without limit", map[string]string{"kernel.shmmax": "18446744073692774399"}, set("kernel.shmall", "1000"), ""},
		{"shared memory too small in total", map[string]string{"kernel.shmall": "1000"}, set("kernel.shmmax", "1073741824"), "shared-memory-total-carries-one-segment"},
		{"group limit as a word", map[string]string{"cgroup/memory.max@/a": "max"}, set("cgroup/memory.high@/a", "1073741824"), ""},
		{"group throttled above its limit", map[string]string{"cgroup/memory.max@/a": "1048576"}, set("cgroup/memory.high@/a", "1073741824"), "cgroup-memory-throttle-below-limit"},
		{"device by instance", map[string]string{"block/{device}/bdi/max_ratio@vda": "10"}, set("block/vda/bdi/min_ratio", "50"), "device-dirty-share-in-order"},
		{"another device", map[string]string{"block/{device}/bdi/max_ratio@vda": "10", "block/{device}/bdi/max_ratio@vdb": "100"}, set("block/vdb/bdi/min_ratio", "50"), ""},
		{"the other member is absent", nil, set("net.core.rmem_default", "8388608"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			current := func(name, target string) (tune.Value, error) {
				for _, key := range []string{name + "@" + target, name} {
					if v, ok := tt.current[key]; ok {
						return tune.Value(v), nil
					}
				}
				return "", fmt.Errorf("%s on %s: %w", name, target, tune.ErrUnsupported)
			}
			errs := c.Invariants(tt.change, current)
			if tt.broken == "" {
				if len(errs) > 0 {
					t.Errorf("refused: %v", errs)
				}
				return
			}
			if len(errs) != 1 || !errors.Is(errs[0], tune.ErrInvariant) || !strings.Contains(errs[0].Error(), tt.broken) || tune.Hint(errs[0]) == "" {
				t.Errorf("%v, want one error of %s with a hint", errs, tt.broken)
			}
		})
	}
}

func TestInvariantsOfUnknownTunable(t *testing.T) {
	t.Parallel()
	none := func(string, string) (tune.Value, error) { return "", tune.ErrNoData }
	errs := loaded(t).Invariants([]tune.Change{{Tunable: "vm.nothing", Proposed: "1"}}, none)
	if len(errs) != 1 || !errors.Is(errs[0], tune.ErrUnknown) {
		t.Errorf("%v, want ErrUnknown", errs)
	}
}

// No invariant is broken on a host that runs the kernel's own defaults.
func TestInvariantsHoldOnDefaults(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	for _, facts := range append(sampleHosts(), vmHost()) {
		current := func(name, _ string) (tune.Value, error) {
			tn, _, err := c.Lookup(name)
			if err != nil {
				return "", err
			}
			return c.Default(tn, facts)
		}
		for _, tn := range c.All() {
			v, err := c.Default(tn, facts)
			if err != nil {
				continue
			}
			for _, err := range c.Invariants([]tune.Change{{Tunable: tn.Name, Target: "host", Proposed: v}}, current) {
				t.Errorf("default %s=%s: %v", tn.Name, v, err)
			}
		}
	}
}
