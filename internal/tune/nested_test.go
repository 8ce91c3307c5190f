package tune

import "testing"

// A control group lies below another: what holds for the upper holds for the lower, so that neither can stand
// untreated beside the other. They take turns together.
func TestNestedGroupsAreNoUnits(t *testing.T) {
	t.Parallel()
	of := func(targets ...string) []Change {
		var out []Change
		for _, x := range targets {
			out = append(out, Change{Tunable: "cgroup/cpu.weight", Scope: ScopeCgroup, Target: x, Proposed: "200"})
		}
		return out
	}
	for _, c := range []struct {
		targets []string
		units   int
	}{
		{[]string{"/a", "/b"}, 2}, {[]string{"/a", "/a/b"}, 0}, {[]string{"/a/b/c", "/x", "/a"}, 0},
		{[]string{"/a", "/ab"}, 2}, {[]string{"/a/b", "/a/c"}, 2}, {[]string{"/", "/a"}, 0},
	} {
		if got := len(Units(of(c.targets...))); got != c.units {
			t.Errorf("%v: %d units, want %d", c.targets, got, c.units)
		}
	}
}
