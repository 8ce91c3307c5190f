package guard

import (
	"syscall"
	"testing"

	"semantos/safety/journal"
)

// TestBusyForAMoment: what is busy for a moment is put back all the same, what is busy for longer is told and
// tried again by the next command.
func TestBusyForAMoment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		busy int
		want Outcome
	}{{busyTries - 1, PutBack}, {busyTries, Failed}} {
		b := newBench(t)
		b.apply(t, "r1", "q.plain=50")
		left := c.busy
		b.kernel.fault = func(restore bool) error {
			if left--; restore && left >= 0 {
				return syscall.EBUSY
			}
			return nil
		}
		got, recs := b.guard.putBackAll(b.guard.state.Rollouts["r1"], journal.Reverted)
		if len(got) != 1 || got[0].Outcome != c.want {
			t.Errorf("busy %d times: %+v, %+v", c.busy, got, recs)
		}
	}
}
