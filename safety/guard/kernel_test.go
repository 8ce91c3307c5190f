package guard

import (
	"os"
	"strings"
	"testing"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/safety/journal"
	"semantos/safety/journal/journaltest"
)

// pairCatalogue has a real pair of this host, which means nothing unless overcommit_memory is 2.
type pairCatalogue struct{}

func (pairCatalogue) Lookup(name string) (*tune.Tunable, string, error) {
	t := &tune.Tunable{Name: name, Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: strings.ReplaceAll(name, ".", "/"), Kind: tune.KindInteger}
	t.Counterpart = map[string]string{"vm.overcommit_kbytes": "vm.overcommit_ratio", "vm.overcommit_ratio": "vm.overcommit_kbytes"}[name]
	return t, "", nil
}

func (pairCatalogue) Invariants([]tune.Change, func(string, string) (tune.Value, error)) []error {
	return nil
}

// TestRealPairComesBack dies between any two effects while the kernel holds one member of a pair.
func TestRealPairComesBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: writes vm.overcommit_kbytes")
	}
	read := func() [2]string { return [2]string{readNet("vm.overcommit_kbytes"), readNet("vm.overcommit_ratio")} }
	before := read()
	if before[0] != "0" || readNet("vm.overcommit_memory") == "2" {
		t.Skipf("this host uses vm.overcommit_kbytes: %v", before)
	}
	t.Cleanup(func() {
		if read() != before {
			if err := os.WriteFile("/proc/sys/vm/overcommit_ratio", []byte(before[1]), 0o644); err != nil {
				t.Error(err)
			}
		}
	})
	h := host.New(host.Config{})
	start := func(d *journaltest.Disk) *engine {
		copies, err := journal.ReadCopies(d, "/run")
		if err != nil {
			t.Fatal(err)
		}
		bk, s := journal.OpenBook(d, "/data", "/run")
		g := newBench(t).guard
		g.act, g.cat, g.log, g.disk, g.state = h, pairCatalogue{}, bk, d, journal.Load(s, copies, "/data")
		if _, err := g.recoverAll(copies, "/data", "/run"); err != nil {
			t.Fatal(err)
		}
		return g
	}
	for effects := 0; ; effects++ {
		d := journaltest.New()
		g := start(d)
		b := &bench{kernel: newFakeKernel(), disk: d}
		died := b.mayDie(effects, func() {
			for range 2 {
				if _, err := g.apply(t.Context(), "r1", changes("vm.overcommit_kbytes=12345678"), ""); err != nil {
					t.Fatal(err)
				}
				if now := read(); now != [2]string{"12345678", "0"} {
					t.Fatalf("applied: %v", now)
				}
				if _, err := g.revert("r1"); err != nil {
					t.Fatal(err)
				}
				if now := read(); now != before {
					t.Fatalf("reverted: %v, want %v", now, before)
				}
			}
		})
		start(d)
		if now := read(); now != before {
			t.Fatalf("died at effect %d: %v, want %v", effects, now, before)
		}
		if !died {
			return
		}
	}
}
