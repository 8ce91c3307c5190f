//go:build !race

package telemetry

import (
	"context"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTickBudget: a tick on an ordinary host costs less than 5 ms of CPU. The best of some batches
// counts, because what other programs do to the caches is not ours.
func TestTickBudget(t *testing.T) {
	const budget = 5 * time.Millisecond
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := realSampler(t, 10*time.Second)
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	best := time.Hour
	for range 5 {
		before := used()
		for range 10 {
			if err := s.Tick(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		best = min(best, (used()-before)/10)
	}
	t.Logf("a tick costs %v of CPU", best)
	if best > budget {
		t.Errorf("a tick costs %v of CPU, budget %v", best, budget)
	}
}
