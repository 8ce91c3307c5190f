package telemetry

import (
	"context"
	"fmt"
	"sort"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
)

func realSampler(tb testing.TB, window time.Duration) *Sampler {
	tb.Helper()
	h := host.New(host.Config{})
	s, err := New(Config{Host: h, Window: window})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTick measures the CPU time of a tick on this host; the budget is 5 ms.
func BenchmarkTick(b *testing.B) {
	s := realSampler(b, 10*time.Second)
	ctx := context.Background()
	if err := s.Tick(ctx); err != nil {
		b.Fatal(err)
	}
	before := cpuTime(b)
	for b.Loop() {
		if err := s.Tick(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/tick")
	if testing.Verbose() {
		st := s.Stats()
		sort.Slice(st, func(i, j int) bool { return st[i].Duration > st[j].Duration })
		for _, x := range st[:6] {
			fmt.Println(x.Collector, x.Duration, x.Success, x.Reason)
		}
	}
}

// BenchmarkSnapshot measures the arithmetic over a full window.
func BenchmarkSnapshot(b *testing.B) {
	s := realSampler(b, time.Hour)
	for range 60 {
		if err := s.Tick(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		s.Snapshot()
	}
}
