package telemetry

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

// TestSignalsTable: every entry is complete and named once.
func TestSignalsTable(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, s := range Signals() {
		key := s.Entity + ":" + s.Name
		if seen[key] {
			t.Errorf("%s is listed twice", key)
		}
		seen[key] = true
		if s.Unit == "" || s.Help == "" || s.Source == "" || !lowerCase(s.Name) || strings.ContainsAny(s.Name, " |+") {
			t.Errorf("incomplete: %+v", s)
		}
	}
	if len(seen) < 700 {
		t.Errorf("only %d signals", len(seen))
	}
}

// lowerCase: only an error keeps the spelling of the kernel (EAGAIN).
func lowerCase(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if strings.ToLower(part) != part && !(strings.HasPrefix(part, "E") && strings.ToUpper(part) == part) {
			return false
		}
	}
	return true
}

// TestRealHostEmitsOnlyListed: what this machine delivers is in the table, and what any Linux delivers
// is delivered.
func TestRealHostEmitsOnlyListed(t *testing.T) {
	s := realSampler(t, time.Minute)
	for range 3 {
		if err := s.Tick(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	snap := s.Snapshot()
	listed := make(map[string]bool)
	for _, x := range Signals() {
		for _, one := range Series(x) {
			listed[one.Entity+":"+one.Name] = true
		}
	}
	check := func(kind string, values map[string]float64) {
		for name, v := range values {
			if !listed[kind+":"+name] {
				t.Errorf("%q of kind %q is delivered and not listed", name, kind)
			}
			if v != v {
				t.Errorf("%s is not a number", name)
			}
		}
	}
	check("", snap.Signals)
	for kind, list := range snap.Entities {
		for i, e := range list {
			check(kind, e.Signals)
			if e.Kind != kind || i > 0 && list[i-1].ID >= e.ID {
				t.Errorf("%s %s: wrong kind or order", kind, e.ID)
			}
		}
	}
	for _, m := range snap.Missing {
		t.Logf("missing here: %s: %s", m.Collector, m.Reason)
	}
	for _, core := range []string{"cpu.idle_share", "cpu.context_switches", "vm.pgfault", "vm.nr_dirty", "vm.nr_dirty.max", "mem.mem_available_bytes",
		"mem.available_share", "tcp.listen_overflows", "tcp.listen_overflows.total", "udp.rcvbuf_errors", "softnet.processed", "table.files_share"} {
		if _, ok := snap.Signals[core]; !ok {
			t.Errorf("the host does not deliver %s", core)
		}
	}
	if len(snap.Entities[tune.EntityProcess]) == 0 || len(snap.Entities[tune.EntityNetns]) == 0 || len(snap.Entities[tune.EntityCPU]) == 0 {
		t.Error("no process, namespace or CPU")
	}
	if snap.BootID == "" || snap.Facts.Num["cpus"] < 1 || snap.Ticks != 3 || snap.Window <= 0 {
		t.Errorf("boot %q, cpus %v, ticks %d, window %v", snap.BootID, snap.Facts.Num["cpus"], snap.Ticks, snap.Window)
	}
}

// TestEveryCollectorHasAFile: a file per collector, each with its golden.
func TestEveryCollectorHasAFile(t *testing.T) {
	t.Parallel()
	for _, c := range all(nil) {
		for _, path := range []string{c.Name() + ".go", filepath.Join("testdata", "golden", c.Name()+".txt")} {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("collector %s: %v", c.Name(), err)
			}
		}
	}
}
