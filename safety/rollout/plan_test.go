package rollout

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"

	"pgregory.net/rapid"
)

// shelf is a catalogue of a few entries.
type shelf map[string]*tune.Tunable

func (s shelf) Lookup(name string) (*tune.Tunable, string, error) {
	if t, ok := s[name]; ok {
		return t, "", nil
	}
	return nil, "", fmt.Errorf("%s: %w", name, tune.ErrUnknown)
}

func book1(entries ...*tune.Tunable) shelf {
	s := shelf{}
	for _, t := range entries {
		s[t.Name] = t
	}
	return s
}

func rmem() *tune.Tunable {
	return &tune.Tunable{Name: "net.ipv4.tcp_rmem", Kind: tune.KindVector, Of: tune.KindBytes, Arity: 3, Ordered: true, Log: true}
}

func TestPlanModes(t *testing.T) {
	t.Parallel()
	enum := &tune.Tunable{Name: "net.ipv4.tcp_congestion_control", Kind: tune.KindEnum}
	vec := tune.Change{Tunable: "net.ipv4.tcp_rmem", Current: "4096 8192 16384", Proposed: "4096 131072 6291456", TakesEffect: tune.NewSockets}
	word := tune.Change{Tunable: enum.Name, Current: "reno", Proposed: "cubic", TakesEffect: tune.NewSockets}
	now := vec
	now.TakesEffect = tune.Immediately
	for _, tc := range []struct {
		name    string
		changes []tune.Change
		fresh   bool
		mode    string
		note    string
	}{
		{"immediate", []tune.Change{now}, false, modeSwitchback, ""},
		{"new sockets seen by a fresh meter", []tune.Change{vec}, true, modeSwitchback, ""},
		{"new sockets by a kernel signal", []tune.Change{vec}, false, modeDose, "part of the way"},
		{"a word cannot be dosed", []tune.Change{word}, false, modeSwitchback, "blurs"},
		{"nor can a bundle with one", []tune.Change{vec, word}, false, modeSwitchback, "blurs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := NewPlan(PlanRequest{Changes: tc.changes, Steps: []float64{5, 25, 50, 100},
				StageTime: 60 * time.Second, Fresh: tc.fresh}, book1(rmem(), enum), rand.New(rand.NewPCG(1, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Stages) != 4 || p.Stages[0].Mode != tc.mode {
				t.Fatalf("%d stages, mode %s", len(p.Stages), p.Stages[0].Mode)
			}
			if !strings.Contains(p.Stages[0].Note, tc.note) {
				t.Errorf("note %q", p.Stages[0].Note)
			}
		})
	}
}

func TestPlanShares(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		stage  time.Duration
		steps  []float64
		shares []float64
	}{
		{5 * time.Second, []float64{5, 25, 50, 100}, []float64{25, 50, 100}},
		{12 * time.Second, []float64{5, 25, 50, 100}, []float64{25, 50, 100}},
		{60 * time.Second, []float64{5, 25, 50, 100}, []float64{5, 25, 50, 100}},
		{time.Second, []float64{5, 25, 50, 100}, []float64{50, 100}},
		{12 * time.Second, []float64{100}, []float64{50, 100}},
		{12 * time.Second, nil, []float64{50, 100}},
	} {
		p := testPlan(t, tc.stage, append([]float64{}, tc.steps...)...)
		var got []float64
		for i, st := range p.Stages {
			got = append(got, st.Share)
			if !st.Slots[0] {
				t.Errorf("%s: stage %d does not begin treated", tc.stage, i)
			}
			share := float64(count(st.Slots, true)) / float64(len(st.Slots)) * 100
			if i < len(p.Stages)-1 && (share > max(st.Share, 50) || count(st.Slots, false) == 0) {
				t.Errorf("%s: %v %% exposes %v %% of its slots", tc.stage, st.Share, share)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(tc.shares) {
			t.Errorf("%s %v: shares %v, want %v", tc.stage, tc.steps, got, tc.shares)
		}
	}
	if _, err := NewPlan(PlanRequest{Changes: someone(), StageTime: time.Second}, shelf{}, nil); err == nil {
		t.Error("a plan for an unknown tunable")
	}
}

func TestPlanCapsSettle(t *testing.T) {
	t.Parallel()
	slow := &tune.Tunable{Name: "vm.swappiness", Kind: tune.KindInteger, SettleMS: 30000}
	p, err := NewPlan(PlanRequest{Changes: someone(), Steps: []float64{50, 100}, StageTime: 10 * time.Second, Fresh: true},
		book1(slow), rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if p.Settle != 2*time.Second || !strings.Contains(p.Stages[0].Note, "settles in 30s") {
		t.Errorf("settle %s, note %q", p.Settle, p.Stages[0].Note)
	}
}

func TestDose(t *testing.T) {
	t.Parallel()
	num := func(log bool) *tune.Tunable { return &tune.Tunable{Name: "n", Kind: tune.KindInteger, Log: log} }
	for _, tc := range []struct {
		name     string
		t        *tune.Tunable
		from, to tune.Value
		share    float64
		want     tune.Value
	}{
		{"linear", num(false), "20", "60", 0.25, "30"},
		{"decades on the log scale", num(false), "16", "4096", 0.5, "256"},
		{"from zero by one unit", num(true), "0", "100", 0.05, "1"},
		{"to zero not before the end", num(true), "100", "0", 0.5, "10"},
		{"never still", num(false), "7", "8", 0.05, "8"},
		{"vector element by element", rmem(), "4096 8192 16384", "4096 131072 16384", 0.5, "4096 32768 32768"},
		{"negative is linear", num(true), "-100", "100", 0.5, "0"},
		{"the whole way is exact", rmem(), "4096 8192 16384", "4096 131072 6291456", 1, "4096 131072 6291456"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := dose(tc.t, tune.Change{Current: tc.from, Proposed: tc.to}, tc.share)
			if got.Proposed != tc.want {
				t.Errorf("%s -> %s at %v: %s, want %s", tc.from, tc.to, tc.share, got.Proposed, tc.want)
			}
		})
	}
	special := &tune.Tunable{Kind: tune.KindInteger, Specials: []tune.Special{{Value: "0", Meaning: "off"}}}
	if dosable(special, tune.Change{Current: "0", Proposed: "10"}) {
		t.Error("a sentinel was dosed")
	}
}

func TestDoseMovesOneWay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.Int64Range(0, 1<<40)
		from, to := n.Draw(rt, "from"), n.Draw(rt, "to")
		if from == to {
			return
		}
		entry := &tune.Tunable{Kind: tune.KindInteger, Log: rapid.Bool().Draw(rt, "log")}
		c := tune.Change{Current: tune.Value(fmt.Sprint(from)), Proposed: tune.Value(fmt.Sprint(to))}
		last := float64(from)
		for i, share := range []float64{0.05, 0.25, 0.5, 1} {
			v, err := dose(entry, c, share).Proposed.Numbers()
			if err != nil {
				rt.Fatal(err)
			}
			if i == 0 && v[0] == last {
				rt.Fatalf("stands still at %v", last)
			}
			if (to > from) != (v[0] >= last) && v[0] != last {
				rt.Fatalf("went back from %v to %v on the way %d -> %d", last, v[0], from, to)
			}
			last = v[0]
		}
		if last != float64(to) {
			rt.Fatalf("ended at %v, want %d", last, to)
		}
	})
}
