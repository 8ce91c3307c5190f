package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/telemetry"
	"semantos/telemetry/telemetrytest"
)

func TestNewWantsHost(t *testing.T) {
	t.Parallel()
	if _, err := telemetry.New(telemetry.Config{}); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("got %v", err)
	}
}

func TestBeforeTheFirstTick(t *testing.T) {
	t.Parallel()
	r := telemetrytest.NewRun(t, telemetrytest.NewTree(t, fixture), &fakeSockets{})
	snap := r.Sampler.Snapshot()
	if snap.Ticks != 0 || snap.Signals == nil || snap.Entities == nil || snap.Missing == nil {
		t.Errorf("an unused sampler gives %+v", snap)
	}
}

// TestWindowSlides: the frames span the window and no more than a tick beyond.
func TestWindowSlides(t *testing.T) {
	t.Parallel()
	r := telemetrytest.NewRun(t, telemetrytest.NewTree(t, fixture), &fakeSockets{})
	for i := range 30 {
		r.Tick(t, time.Second)
		snap := r.Sampler.Snapshot()
		if want := float64(min(i, 10)); snap.Window != want || snap.Ticks != min(i, 10)+1 {
			t.Fatalf("after %d ticks: window %v, ticks %d", i+1, snap.Window, snap.Ticks)
		}
	}
	r.Tick(t, time.Hour) // the machine slept: only the newest two frames can speak
	if snap := r.Sampler.Snapshot(); snap.Ticks != 2 {
		t.Errorf("after a long pause %d frames remain", snap.Ticks)
	}
	r.Sampler.Reset()
	if snap := r.Sampler.Snapshot(); snap.Ticks != 0 || len(snap.Signals) != 0 {
		t.Errorf("after a reset %d frames remain", snap.Ticks)
	}
	r.Tick(t, time.Second)
	snap := r.Sampler.Snapshot()
	if _, ok := snap.Signals["tcp.listen_overflows"]; ok {
		t.Error("a rate after one tick")
	}
	if _, ok := snap.Signals["mem.available_share"]; !ok {
		t.Error("no gauge after one tick")
	}
}

func TestCancelledTick(t *testing.T) {
	t.Parallel()
	r := telemetrytest.NewRun(t, telemetrytest.NewTree(t, fixture), &fakeSockets{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Sampler.Tick(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if r.Sampler.Snapshot().Ticks != 0 {
		t.Error("a cancelled tick left a frame")
	}
}

// TestAbsentFileComesAndGoes: absent is missing, not zero; once there it is read.
func TestAbsentFileComesAndGoes(t *testing.T) {
	t.Parallel()
	tree := telemetrytest.NewTree(t, fixture)
	tree.Remove(t, "proc/vmstat")
	r := telemetrytest.NewRun(t, tree, &fakeSockets{})
	r.Tick(t, time.Second)
	snap := r.Sampler.Snapshot()
	if telemetrytest.Has(snap, "vm.nr_dirty") || !telemetrytest.Has(snap, "mem.dirty_bytes") {
		t.Error("vmstat is absent, meminfo is not")
	}
	if len(snap.Missing) != 1 || snap.Missing[0].Collector != "vmstat" {
		t.Errorf("missing: %v", snap.Missing)
	}
	tree.Write(t, "proc/vmstat", []byte("nr_dirty 5\n"))
	r.Tick(t, time.Second)
	snap = r.Sampler.Snapshot()
	if snap.Signals["vm.nr_dirty"] != 5 || len(snap.Missing) != 0 {
		t.Errorf("vmstat is back, yet %v %v", snap.Signals["vm.nr_dirty"], snap.Missing)
	}
}

// TestHalfAFileIsNoFile: what was read before the damage is not delivered either.
func TestHalfAFileIsNoFile(t *testing.T) {
	t.Parallel()
	tree := telemetrytest.NewTree(t, fixture)
	tree.Write(t, "proc/vmstat", []byte("nr_dirty 5\nnr_writeback 7\nnr_wri"))
	r := telemetrytest.NewRun(t, tree, &fakeSockets{})
	r.Tick(t, time.Second)
	if snap := r.Sampler.Snapshot(); telemetrytest.Has(snap, "vm.nr_dirty") {
		t.Error("a cut file gave a signal")
	}
	for _, s := range r.Sampler.Stats() {
		if bad := s.Collector == "vmstat"; bad == s.Success || bad && s.Failures != 1 {
			t.Errorf("%+v", s)
		}
	}
}

// many is a source with more connections than any limit.
type many struct{ established, waiting int }

func (m *many) Dump(q telemetry.DiagQuery, visit func(*telemetry.DiagSocket)) (bool, error) {
	s := &telemetrytest.Sockets{}
	if q.Family == 2 && q.Proto == 6 {
		dest := netip.MustParseAddrPort("10.0.0.2:80")
		for i := range m.established + m.waiting {
			d := telemetry.DiagSocket{State: 1, Local: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(32768+i)),
				Remote: dest, Cookie: uint64(i), HasInfo: true, Info: telemetry.TCPInfo{RTT: 5}}
			if i >= m.established {
				d.State, d.HasInfo = 6, false
			}
			s.TCP = append(s.TCP, d)
		}
	}
	return s.Dump(q, visit)
}

// TestLimits: what is beyond a limit is said, and does not keep the rest from being seen.
func TestLimits(t *testing.T) {
	t.Parallel()
	source := &many{established: 5000, waiting: 3000}
	r := telemetrytest.NewRun(t, telemetrytest.NewTree(t, fixture), source)
	r.Tick(t, time.Second)
	snap := r.Sampler.Snapshot()
	ns := snap.Entities[tune.EntityNetns][0]
	if got := ns.Signals["tcpinfo.established"]; got != 4096 {
		t.Errorf("%v connections sampled, want 4096", got)
	}
	if got := ns.Signals["ports.used"]; got != 8000 {
		t.Errorf("%v ports used, want 8000: counting ports has its own limit", got)
	}
	said := false
	for _, m := range snap.Missing {
		said = said || m.Collector == "tcpinfo" && strings.Contains(m.Reason, "4096")
	}
	if !said {
		t.Errorf("nobody says that connections are sampled: %v", snap.Missing)
	}
	// a costly count is believed for some seconds, then made again
	source.waiting = 4000
	r.Tick(t, time.Second)
	if got := r.Sampler.Snapshot().Entities[tune.EntityNetns][0].Signals["ports.used.last"]; got != 8000 {
		t.Errorf("counted again after a second: %v", got)
	}
	r.Tick(t, 5*time.Second)
	if got := r.Sampler.Snapshot().Entities[tune.EntityNetns][0].Signals["ports.used.last"]; got != 9000 {
		t.Errorf("not counted again after six seconds: %v", got)
	}
}

// spaces is a machine with many namespaces, none of which can be entered.
type spaces struct {
	*telemetrytest.Tree
	n   int
	err error
}

func (s spaces) Namespaces() ([]host.Netns, error) {
	var out []host.Netns
	for i := range s.n {
		out = append(out, host.Netns{Target: fmt.Sprintf("netns:40265318%02d", 40+i), Pid: 900})
	}
	return out, s.err
}

func TestNamespaceLimit(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name string
		s    spaces
		want string
	}{
		{"too many", spaces{n: 40}, "16 are watched"},
		{"unknown", spaces{err: tune.ErrNotPermitted}, "not permitted"},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.s.Tree = telemetrytest.NewTree(t, fixture)
			s, err := telemetry.New(telemetry.Config{Host: k.s, Sockets: &fakeSockets{}})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Tick(context.Background()); err != nil {
				t.Fatal(err)
			}
			snap := s.Snapshot()
			if !strings.Contains(fmt.Sprint(snap.Missing), k.want) {
				t.Errorf("missing says %v, want %q", snap.Missing, k.want)
			}
			if !telemetrytest.Has(snap, "netns:sockstat.tcp_inuse") {
				t.Error("our own namespace is not seen")
			}
		})
	}
}

// TestRerootedHost: a real host.Host on a tree works as the fake one does.
func TestRerootedHost(t *testing.T) {
	t.Parallel()
	tree := telemetrytest.NewTree(t, fixture)
	h := host.New(host.Config{Root: tree.Path()})
	s, err := telemetry.New(telemetry.Config{Host: h, Sockets: &fakeSockets{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); h.Close() })
	if err := s.Tick(context.Background()); err != nil {
		t.Fatal(err)
	}
	snap := s.Snapshot()
	for _, want := range []string{"vm.nr_dirty", "netns:sockstat.tcp_inuse", "listener:listener.backlog", "process:process.rss_bytes"} {
		if !telemetrytest.Has(snap, want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestConcurrentUse is for the race detector: one ticks, others look.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s, err := telemetry.New(telemetry.Config{Host: telemetrytest.NewTree(t, fixture), Sockets: &fakeSockets{}, Window: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 20 {
				s.Snapshot()
				s.Stats()
				s.Reset()
			}
		})
	}
	for range 20 {
		if err := s.Tick(context.Background()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
