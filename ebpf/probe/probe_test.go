package probe_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/ebpf/runqlat"
	"semantos/internal/tune"
)

// renamed gives what the probe of renamings counted so far.
func renamed(t *testing.T, p *probe.Probe) (all, paired, voided float64) {
	t.Helper()
	r := probetest.Read(t, p)
	value := func(name string) float64 {
		v, ok := r.Value("", name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		return v
	}
	return value("renamed"), value("paired"), value("voided")
}

func TestMissing(t *testing.T) {
	p := probetest.Load(t, probetest.Renames(true), probe.Options{})
	if !slices.Equal(p.Missing, []string{"no_kernel_has_this"}) {
		t.Errorf("missing %v", p.Missing)
	}
	q, err := probe.Load(probetest.Renames(false), probe.Options{})
	if err == nil {
		q.Close()
		t.Fatal("loaded without a tracepoint it needs")
	}
	if !errors.Is(err, tune.ErrUnsupported) {
		t.Error(err)
	}
}

func TestNeed(t *testing.T) {
	types := probe.NewTypes()
	if err := types.Need("task_struct", "pid", "nothing"); err != nil {
		t.Error(err)
	}
	for _, missing := range [][2]string{{"task_struct", "no_such_member"}, {"no_such_struct", "pid"}} {
		if err := types.Need(missing[0], missing[1], "CONFIG_X"); !errors.Is(err, tune.ErrUnsupported) {
			t.Errorf("%v: %v", missing, err)
		}
	}
}

// TestPause holds that a paused probe counts nothing, keeps what it has, and that its time stands still.
func TestPause(t *testing.T) {
	c := probetest.Start(t, "renamer")
	c.Hear()
	p := probetest.Load(t, probetest.Renames(true), probe.Options{Scope: probe.Scope{TGID: uint32(c.Pid)}})
	epochs := []uint32{epoch(t, p)}
	want := 0.0
	for range 3 {
		c.Ask("10")
		want += 20 // to pt-a and back
		if err := p.Pause(); err != nil {
			t.Fatal(err)
		}
		active := p.Active()
		c.Ask("10")
		time.Sleep(10 * time.Millisecond)
		if now := p.Active(); now != active || active == 0 {
			t.Errorf("active %v, paused %v", active, now)
		}
		if got, _, _ := renamed(t, p); got != want {
			t.Errorf("counted %v, want %v", got, want)
		}
		for range 2 { // resuming twice is resuming once
			if err := p.Resume(); err != nil {
				t.Fatal(err)
			}
		}
		epochs = append(epochs, epoch(t, p))
		time.Sleep(10 * time.Millisecond)
		if p.Active() <= active {
			t.Error("its time stands still after resuming")
		}
	}
	if !slices.Equal(epochs, []uint32{epochs[0], epochs[0] + 1, epochs[0] + 2, epochs[0] + 3}) {
		t.Errorf("epochs %v", epochs)
	}
	if p.Lost() != 0 {
		t.Errorf("lost %d", p.Lost())
	}
}

func epoch(t *testing.T, p *probe.Probe) (e uint32) {
	t.Helper()
	if err := p.Get("epoch", &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestEpoch holds that a start from before a pause pairs with no end after it.
func TestEpoch(t *testing.T) {
	c := probetest.Start(t, "renamer")
	c.Hear()
	p := probetest.Load(t, probetest.Renames(true), probe.Options{Scope: probe.Scope{TGID: uint32(c.Pid)}})
	c.Ask("pt-start")
	c.Ask("pt-end")
	if _, paired, voided := renamed(t, p); paired != 1 || voided != 0 {
		t.Errorf("paired %v, voided %v", paired, voided)
	}
	c.Ask("pt-start")
	if err := errors.Join(p.Pause(), p.Resume()); err != nil {
		t.Fatal(err)
	}
	c.Ask("pt-end")
	if _, paired, voided := renamed(t, p); paired != 1 || voided != 1 {
		t.Errorf("after a pause: paired %v, voided %v", paired, voided)
	}
}

func TestCost(t *testing.T) {
	c := probetest.Start(t, "renamer")
	c.Hear()
	p := probetest.Load(t, probetest.Renames(true), probe.Options{Scope: probe.Scope{TGID: uint32(c.Pid)}})
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		t.Skipf("statistics of BPF programs: %v", err)
	}
	defer stats.Close()
	before, err := p.Cost()
	if err != nil {
		t.Fatal(err)
	}
	c.Ask("100")
	after, err := p.Cost()
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Runs - before.Runs; n < 200 || after.Time <= before.Time {
		t.Errorf("%d runs of 200 renamings took %v", n, after.Time-before.Time)
	}
}

func TestVariables(t *testing.T) {
	p := probetest.Load(t, probetest.Renames(true), probe.Options{})
	var n uint64
	if err := p.Get("no_such", &n); !errors.Is(err, tune.ErrUnknown) {
		t.Error(err)
	}
	if err := p.Set("no_such", n); !errors.Is(err, tune.ErrUnknown) {
		t.Error(err)
	}
	if err := p.Set("lost", uint64(7)); err != nil || p.Lost() != 7 {
		t.Errorf("lost %d, %v", p.Lost(), err)
	}
	if p.Map("no_such") != nil {
		t.Error("a map that is not there")
	}
}

// TestTypesShared holds that probes loaded together may share what was read of the kernel's types.
func TestTypesShared(t *testing.T) {
	types := probe.NewTypes()
	for _, s := range []probe.Spec{runqlat.New(), probetest.Renames(true)} {
		probetest.Load(t, s, probe.Options{Types: types})
	}
}
