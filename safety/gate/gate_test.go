package gate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"semantos/internal/tune"
)

type fakeLive []tune.Managed

func (f fakeLive) Managed(context.Context) ([]tune.Managed, error) { return f, nil }

type fakeRanges map[string][]tune.Range

func (f fakeRanges) Safe(t *tune.Tunable, _ tune.Facts) ([]tune.Range, error) { return f[t.Name], nil }

type fakeCalibration tune.Calibration

func (f fakeCalibration) Standing(context.Context) tune.Calibration { return tune.Calibration(f) }

// shelf is a catalogue of a few entries.
type shelf map[string]*tune.Tunable

func (s shelf) Lookup(name string) (*tune.Tunable, string, error) {
	if t, ok := s[name]; ok {
		return t, "", nil
	}
	return nil, "", fmt.Errorf("%s: %w", name, tune.ErrUnknown)
}

func shelve(entries ...*tune.Tunable) shelf {
	s := shelf{}
	for _, t := range entries {
		s[t.Name] = t
	}
	return s
}

func someone() []tune.Change {
	return []tune.Change{{Tunable: "vm.swappiness", Scope: tune.ScopeHost, Target: "host",
		Current: "60", Proposed: "10", TakesEffect: tune.Immediately}}
}

func advice(u float64, changes ...tune.Change) tune.Recommendation {
	if changes == nil {
		changes = someone()
	}
	return tune.Recommendation{ID: tune.RecommendationID(changes), Changes: changes, Uncertainty: u}
}

func testGate(live ...tune.Managed) Config {
	return Config{Tau: 0.55, Outcomes: 100, Live: fakeLive(live), Ranges: fakeRanges{"vm.swappiness": {{Min: 5, Max: 100}}},
		Tunables: shelve(&tune.Tunable{Name: "vm.swappiness", Kind: tune.KindInteger, Conflicts: []string{"vm.overcommit_memory"},
			Specials: []tune.Special{{Value: "-1", Meaning: "off"}}},
			&tune.Tunable{Name: "kernel.secret", Kind: tune.KindInteger, Protected: true})}
}

func TestGate(t *testing.T) {
	t.Parallel()
	held := func(name, state string) tune.Managed {
		return tune.Managed{Tunable: name, Scope: tune.ScopeHost, Target: "host", Current: "1", State: state, Rollout: "r1"}
	}
	at := func(ns string) tune.Managed {
		m := held("vm.overcommit_memory", "committed")
		m.Scope, m.Target = tune.ScopeNetns, ns
		return m
	}
	inside := someone()[0]
	inside.Scope, inside.Target = tune.ScopeNetns, "netns:1"
	to := func(v tune.Value) tune.Change { c := someone()[0]; c.Proposed = v; return c }
	for _, tc := range []struct {
		name   string
		cfg    Config
		rec    tune.Recommendation
		veto   string // "" admitted
		refuse error
	}{
		{"sure", testGate(), advice(0.3), "", nil},
		{"at tau", testGate(), advice(0.55), "uncertainty 0.55 is not below 0.55", nil},
		{"not a number", testGate(), advice(math.NaN()), "uncertainty", nil},
		{"unsafe value", testGate(), advice(0.3, to("101")), "outside the safe range 5 to 100", nil},
		{"sentinel has no range", testGate(), advice(0.3, to("-1")), "", nil},
		{"conflicts with committed", testGate(held("vm.overcommit_memory", "committed")), advice(0.3), "conflicts with vm.overcommit_memory", nil},
		{"conflict that is gone", testGate(held("vm.overcommit_memory", "gone")), advice(0.3), "", nil},
		{"conflict in another namespace", testGate(at("netns:2")), advice(0.3, inside), "", nil},
		{"conflict in the same namespace", testGate(at("netns:1")), advice(0.3, inside), "conflicts with", nil},
		{"same tunable committed before", testGate(held("vm.swappiness", "committed")), advice(0.3), "", nil},
		{"same tunable being tried", testGate(held("vm.swappiness", "trying")), advice(0.3), "", tune.ErrConflict},
		{"protected", testGate(), advice(0.1, tune.Change{Tunable: "kernel.secret", Proposed: "1"}), "", tune.ErrDenied},
		{"unknown", testGate(), advice(0.1, tune.Change{Tunable: "no.such", Proposed: "1"}), "", tune.ErrUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, err := New(tc.cfg).Check(t.Context(), tc.rec)
			if !errors.Is(err, tc.refuse) || (err != nil) != (tc.refuse != nil) {
				t.Fatalf("error %v, want %v", err, tc.refuse)
			}
			if err != nil {
				return
			}
			if d.Admitted(false) != (tc.veto == "") || !strings.Contains(d.Reason(), tc.veto) {
				t.Errorf("vetoes %q, want %q", d.Vetoes, tc.veto)
			}
			if !d.Admitted(true) {
				t.Error("--yes does not pass a veto")
			}
			if !strings.Contains(d.Note, "uncalibrated, 100 more needed") {
				t.Errorf("note %q", d.Note)
			}
		})
	}
}

func TestCalibrationOnlyTightens(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cal  fakeCalibration
		tau  float64
		note string
	}{
		{fakeCalibration{Known: true, Tau: 0.4, Calibrated: true}, 0.4, ""},
		{fakeCalibration{Known: true, Tau: 0.9, Calibrated: true}, 0.55, ""},
		{fakeCalibration{Known: true, Tau: 0.55, Needed: 9}, 0.55, "uncalibrated, 9 more needed"},
		{fakeCalibration{Known: true, Tau: 0.2, Calibrated: true, Fault: "disk"}, 0.2, "the last threshold known stands: disk"},
		{fakeCalibration{Tau: 0.55, Note: "nobody knows", Fault: "disk"}, 0.55, "nobody knows"},
	} {
		cfg := testGate()
		cfg.Calibration = tc.cal
		d, err := New(cfg).Check(t.Context(), advice(0.1))
		if err != nil || d.Tau != tc.tau || !strings.HasPrefix(d.Note, tc.note) || (tc.note == "") != (d.Note == "") || d.Calibrated != tc.cal.Calibrated {
			t.Errorf("%+v: %+v, %v", tc.cal, d, err)
		}
	}
}

type fakePace struct {
	said []string
	err  error
}

func (f fakePace) Objections(context.Context, []tune.Change) ([]string, error) { return f.said, f.err }

// What rests, and what mixes classes, is a veto that a person passes; unknown history rests everything.
func TestPaceAndClasses(t *testing.T) {
	t.Parallel()
	domain := func(name, domain string) *tune.Tunable {
		return &tune.Tunable{Name: name, Domain: domain, Kind: tune.KindInteger}
	}
	for _, tc := range []struct {
		name  string
		pace  fakePace
		names []string
		veto  string
	}{
		{"nothing rests", fakePace{}, []string{"vm.a"}, ""},
		{"it rests", fakePace{said: []string{"vm.a rests until 12:00"}}, []string{"vm.a"}, "vm.a rests until 12:00"},
		{"nobody knows", fakePace{err: tune.ErrStorage}, []string{"vm.a"}, "history cannot be read"},
		{"one family", fakePace{}, []string{"vm.a", "mm/b", "cgroup/memory.high"}, ""},
		{"one family of the network", fakePace{}, []string{"net.a", "net.b", "socket/c"}, ""},
		{"two classes", fakePace{}, []string{"vm.a", "net.a"}, "changes of memory and net in one trial: their effects cannot be told apart"},
		{"a cgroup's processor and memory", fakePace{}, []string{"cgroup/memory.high", "cgroup/cpuset.cpus"}, "memory and cpu"},
		{"a class of its own", fakePace{}, []string{"kernel.a", "sched/b"}, "kernel and cpu"},
	} {
		cfg := testGate()
		cfg.Pace = tc.pace
		cfg.Tunables = shelve(domain("vm.a", "vm"), domain("mm/b", "mm"), domain("cgroup/memory.high", "cgroup"), domain("cgroup/cpuset.cpus", "cgroup"),
			domain("net.a", "net-core"), domain("net.b", "conntrack"), domain("socket/c", "socket"), domain("kernel.a", "kernel"), domain("sched/b", "sched"))
		var changes []tune.Change
		for _, n := range tc.names {
			changes = append(changes, tune.Change{Tunable: n, Target: "x", Proposed: "1"})
		}
		d, err := New(cfg).Check(t.Context(), advice(0.3, changes...))
		if err != nil || d.Admitted(false) != (tc.veto == "") || !strings.Contains(d.Reason(), tc.veto) || !d.Admitted(true) {
			t.Errorf("%s: %+v, %v", tc.name, d, err)
		}
		if (d.Mixed != "") != strings.Contains(tc.veto, " and ") {
			t.Errorf("%s: mixed %q", tc.name, d.Mixed)
		}
	}
}
