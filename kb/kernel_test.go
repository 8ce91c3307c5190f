package kb

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// The kernel must take both ends of the hard range of every tunable of a network namespace, tried in a
// fresh one. Where it takes less because of a neighbour's value the pair is an invariant.
func TestKernelTakesHardRanges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	c := loaded(t)
	bounded := map[string]bool{} // by another tunable's value
	for _, inv := range c.invariants {
		for _, n := range inv.over {
			bounded[n] = true
		}
	}
	done := make(chan int)
	go func() {
		tried := 0
		defer func() { done <- tried }()
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("make a network namespace: %v", err)
			return
		}
		for _, tn := range c.All() {
			if tn.Scope != tune.ScopeNetns || tn.Protected || len(tn.Hard) == 0 || bounded[tn.Name] {
				continue
			}
			tried += tryEnds(t, tn)
		}
	}()
	if tried := <-done; tried < 100 && !t.Failed() {
		t.Errorf("only %d ends tried", tried)
	} else {
		t.Logf("%d ends of hard ranges written", tried)
	}
}

// tryEnds writes the lowest and the highest value of an entry and gives the number of writes.
func tryEnds(t *testing.T, tn *tune.Tunable) int {
	t.Helper()
	file := "/proc/sys/" + tn.Path
	before, err := os.ReadFile(file)
	if st, statErr := os.Stat(file); err != nil || statErr != nil || st.Mode()&0o200 == 0 {
		return 0
	}
	ends := func(pick func(tune.Range) float64) string {
		out := make([]string, tn.Arity)
		for i := range out {
			r, _ := tn.HardAt(i)
			out[i] = tune.FormatNumber(pick(r))
		}
		return strings.Join(out, " ")
	}
	n := 0
	for _, v := range []string{ends(func(r tune.Range) float64 { return r.Min }), ends(func(r tune.Range) float64 { return r.Max })} {
		n++
		if err := os.WriteFile(file, []byte(v), 0); err != nil {
			t.Errorf("%s: the kernel refuses %s of its hard range: %v", tn.Name, v, err)
			continue
		}
		after, _ := os.ReadFile(file)
		if got := tune.Canonical(string(after)); got != tune.Value(v) {
			t.Logf("%s: wrote %s, reads %s", tn.Name, v, got)
		}
	}
	if err := os.WriteFile(file, before, 0); err != nil {
		t.Errorf("%s: put back %s: %v", tn.Name, before, err)
	}
	return n
}
