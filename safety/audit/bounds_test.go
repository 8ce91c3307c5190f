package audit

import (
	"errors"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// TestNumbersAreBounded: the words beside a decision's numbers are as short as any other word; a record of
// half a mebibyte ten times a second would push the log out of its own retention.
func TestNumbersAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("m", maxWord+1)
	for _, n := range []Numbers{{Metric: long}, {Better: long}, {Metric: "\xff"}} {
		e := Entry{Kind: Stage, Actor: "serve", Numbers: &n}
		if err := e.Check(); !errors.Is(err, tune.ErrOutOfRange) {
			t.Errorf("a decision with words of %d and %d bytes: %v", len(n.Metric), len(n.Better), err)
		}
		c := e.Clip()
		if len(c.Numbers.Metric) > maxWord || len(c.Numbers.Better) > maxWord {
			t.Errorf("clipped to %d and %d bytes", len(c.Numbers.Metric), len(c.Numbers.Better))
		}
		if err := c.Check(); err != nil {
			t.Errorf("what was clipped: %v", err)
		}
		if n.Metric == long && len(e.Numbers.Metric) == maxWord {
			t.Error("clipping changed the caller's numbers")
		}
	}
}
