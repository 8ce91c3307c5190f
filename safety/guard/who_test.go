package guard

import (
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

// scripted is a witness that saw what a test says it saw.
type scripted struct {
	seen  map[string]tune.Seen
	asked func()
}

func (s scripted) Start()                     {}
func (s scripted) Hold(*tune.Tunable, string) {}
func (s scripted) Writes(t *tune.Tunable, _ string) tune.Seen {
	if s.asked != nil {
		s.asked()
	}
	return s.seen[t.Name]
}

func at(second int) time.Time { return time.Unix(1795000000+int64(second), 0) }

func byUs(second int, v tune.Value) tune.Written {
	return tune.Written{Time: at(second), PID: 1, Value: v, Own: true}
}

func bySh(second, pid int, v tune.Value) tune.Written {
	return tune.Written{Time: at(second), PID: pid, Start: uint64(pid), Comm: "sh", UID: 7, Value: v}
}

// TestWho holds what is said against what was seen: a name only where the last write is of what stands.
func TestWho(t *testing.T) {
	t.Parallel()
	cut := bySh(2, 9, "7")
	cut.Cut = true
	odd := bySh(2, 9, "77")
	odd.Comm, odd.Exe, odd.Parent, odd.ParentComm = "sh (pid 1", "/opt/my tool", 8, "x\x1b[1m"
	gone := tune.Written{Time: at(2), PID: 9, UID: -1, Value: "77"}
	outside := tune.Written{Time: at(2), UID: -1, Value: "77"}
	cases := map[string]struct {
		writes []tune.Written
		since  time.Time
		why    string
		want   string // "" is NotKnown with what is in no
		no     string
	}{
		"one writer":                {writes: []tune.Written{byUs(1, "50"), bySh(2, 9, "77")}, want: "written by sh (pid 9; uid 7) at 2026-11-18T11:06:42Z"},
		"in hexadecimal":            {writes: []tune.Written{byUs(1, "50"), bySh(2, 9, "0x4d")}, want: "written by sh (pid 9"},
		"the same one twice":        {writes: []tune.Written{byUs(1, "50"), bySh(2, 9, "76"), bySh(3, 9, "77")}, want: "written by sh (pid 9; uid 7) at 2026-11-18T11:06:43Z"},
		"others before ours":        {writes: []tune.Written{bySh(0, 8, "44"), byUs(1, "50"), bySh(2, 9, "77")}, want: "written by sh (pid 9"},
		"ours was before the watch": {writes: []tune.Written{bySh(2, 9, "77")}, want: "written by sh (pid 9"},
		"chosen names":              {writes: []tune.Written{byUs(1, "50"), odd}, want: `written by "sh (pid 1" (pid 9, of "x\x1b[1m", pid 8; uid 7; "/opt/my tool") at `},
		"ended already":             {writes: []tune.Written{byUs(1, "50"), gone}, want: "written by a process that has ended (pid 9) at "},
		"out of sight":              {writes: []tune.Written{byUs(1, "50"), outside}, want: "written by a process outside this PID namespace at "},
		"two writers":               {writes: []tune.Written{byUs(1, "50"), bySh(2, 8, "76"), bySh(3, 9, "77")}, no: `several wrote it: "76" by sh (pid 8`},
		"a number used again":       {writes: []tune.Written{byUs(1, "50"), {Time: at(2), PID: 9, Start: 4, Value: "1"}, bySh(3, 9, "77")}, no: "several wrote it"},
		"many writers": {writes: []tune.Written{byUs(1, "50"), bySh(2, 5, "1"), bySh(2, 6, "2"), bySh(2, 7, "3"), bySh(2, 8, "4"), bySh(3, 9, "77")},
			no: `several wrote it: "3" by`},
		"another value":           {writes: []tune.Written{byUs(1, "50"), bySh(2, 9, "76")}, no: `the last write seen is "76" by sh (pid 9; uid 7) at 2026-11-18T11:06:42Z, which is not what stands`},
		"only part was kept":      {writes: []tune.Written{byUs(1, "50"), cut}, no: "sh (pid 9; uid 7) at 2026-11-18T11:06:42Z wrote what could not be read whole"},
		"lost between":            {writes: []tune.Written{byUs(1, "50"), {Time: at(2), Lost: 3}, bySh(3, 9, "77")}, no: "some writes came too fast"},
		"lost behind":             {writes: []tune.Written{byUs(1, "50"), bySh(2, 9, "77"), {Time: at(3), Lost: 3}}, no: "some writes came too fast"},
		"lost before ours":        {writes: []tune.Written{{Time: at(0), Lost: 3}, byUs(1, "50"), bySh(2, 9, "77")}, want: "written by sh (pid 9"},
		"nobody":                  {writes: []tune.Written{byUs(1, "50")}, no: "no write of it was seen"},
		"nobody that can be seen": {writes: []tune.Written{byUs(1, "50")}, why: "only a part", no: "no write of it was seen (only a part)"},
		"before the watch":        {no: "nobody watched before 2026-11-18T11:06:40Z"},
		"no watch":                {since: time.Unix(0, 1), why: "it is off", no: "it is off"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			seen := tune.Seen{Writes: c.writes, Since: at(0), Why: c.why}
			if !c.since.IsZero() {
				seen.Since = time.Time{}
			}
			b.guard.witness = scripted{seen: map[string]tune.Seen{"q.plain": seen}}
			b.apply(t, "r1", "q.plain=50")
			b.kernel.values["q.plain@host"] = "77"
			if c.want == "" {
				c.want = NotKnown + c.no
			}
			if err := b.guard.commit(t.Context(), "r1"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("commit: %v, want %q", err, c.want)
			}
			got, err := b.guard.rollback(t.Context(), "r1", "")
			if err != nil || len(got) != 1 || !strings.Contains(got[0].Detail, "; "+c.want) {
				t.Errorf("%+v, %v, want %q", got, err, c.want)
			}
			if c.no == "" && strings.Contains(got[0].Detail, NotKnown) {
				t.Errorf("%q says both", got[0].Detail)
			}
		})
	}
}

// TestWhoOfAPair: who writes one member makes the other zero.
func TestWhoOfAPair(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.guard.witness = scripted{seen: map[string]tune.Seen{
		"p.bytes": {Since: at(0), Writes: []tune.Written{byUs(1, "8192")}},
		"p.ratio": {Since: at(0), Writes: []tune.Written{bySh(0, 8, "33"), bySh(2, 9, "44")}},
	}}
	b.apply(t, "r1", "p.bytes=8192")
	b.kernel.values["p.bytes@host"], b.kernel.values["p.ratio@host"] = "0", "44"
	got, err := b.guard.rollback(t.Context(), "r1", "")
	if err != nil || len(got) != 1 || !strings.Contains(got[0].Detail, `; "44" of its counterpart p.ratio was written by sh (pid 9`) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestWhoBetweenRollouts: what a younger rollout took over was written before that one's own writes.
func TestWhoBetweenRollouts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.guard.witness = scripted{seen: map[string]tune.Seen{
		"q.plain": {Since: at(0), Writes: []tune.Written{byUs(1, "50"), bySh(2, 9, "77"), byUs(3, "60"), byUs(4, "60")}},
	}}
	held(t, b, "r1", "q.plain=50")
	b.kernel.values["q.plain@host"] = "77"
	held(t, b, "r2", "q.plain=60")
	got, err := b.guard.rollback(t.Context(), "r1", "")
	if err != nil || len(got) != 1 || got[0].Outcome != Yielded || !strings.Contains(got[0].Detail, "; written by sh (pid 9") {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestWhoIsAskedAfterAllIsBack: no restore waits for the answer.
func TestWhoIsAskedAfterAllIsBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50", "n.vec@netns:1=4 5 6", "n.vec@netns:2=7 8 9")
	b.kernel.values["n.vec@netns:2"] = "9 9 9"
	asked := 0
	b.guard.witness = scripted{asked: func() {
		asked++
		b.expect(t, map[string]string{"q.plain@host": "5", "n.vec@netns:1": "1 2 3", "n.vec@netns:2": "9 9 9"})
	}}
	if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil || asked != 1 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

// failing is a witness with a fault.
type failing struct{ scripted }

func (failing) Start()                                 { panic("load") }
func (failing) Writes(*tune.Tunable, string) tune.Seen { panic("ask") }

// TestAWitnessThatFailsEndsNothing: neither while it begins nor when it is asked.
func TestAWitnessThatFailsEndsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.guard.beginWitness(failing{})
	b.apply(t, "r1", "q.plain=50", "n.vec@netns:1=4 5 6")
	b.kernel.values["q.plain@host"] = "77"
	got, err := b.guard.rollback(t.Context(), "r1", "")
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	b.expect(t, map[string]string{"q.plain@host": "77", "n.vec@netns:1": "1 2 3"})
	for _, r := range got {
		if r.Outcome == Yielded && !strings.Contains(r.Detail, NotKnown+"the watch failed (ask)") {
			t.Errorf("%+v", r)
		}
	}
}
