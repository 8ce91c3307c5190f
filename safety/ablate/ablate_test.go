package ablate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
	"semantos/safety/guard"
	"semantos/safety/rollout"
)

// machine is a fake host, its guard and its workload: p95 is what the tunables left out make of it.
type machine struct {
	p95      func(out map[string]bool) float64 // of a second's slot, ms
	noise    float64                           // coefficient of variation
	rng      *rand.Rand
	values   map[string]string // "new" or "old"
	trials   map[string]string // tunable a trial stands on, by rollout
	ended    map[string]bool   // trials that were rolled back
	released []string
	log      []string
	fail     map[string]error // what a verb answers
	hurt     bool             // the kernel stalls while something is left out
	mute     bool             // the meter gives nothing
	slots    int
	after    func(slots int) // a slot ended
}

func newMachine(p95 func(out map[string]bool) float64, names ...string) *machine {
	m := &machine{p95: p95, noise: 0.05, rng: rand.New(rand.NewPCG(7, 11)), values: map[string]string{}, trials: map[string]string{}, ended: map[string]bool{}, fail: map[string]error{}}
	for _, n := range names {
		m.values[n] = "new"
	}
	return m
}

func (m *machine) out() map[string]bool {
	out := map[string]bool{}
	for n, v := range m.values {
		out[n] = v == "old"
	}
	return out
}

func (m *machine) Apply(_ context.Context, ro string, cs []tune.Change, _ string) ([]guard.Applied, error) {
	m.log = append(m.log, "apply "+ro)
	if err := m.fail["apply"]; err != nil {
		return nil, err
	}
	if m.ended[ro] {
		return nil, guard.ErrEnded
	}
	for n := range m.trials {
		if m.values[m.trials[n]] == "old" && n != ro {
			return nil, fmt.Errorf("two are left out at once: %w", tune.ErrConflict)
		}
	}
	m.trials[ro], m.values[cs[0].Tunable] = cs[0].Tunable, string(cs[0].Proposed)
	return nil, nil
}

func (m *machine) Revert(_ context.Context, ro string, _ ...string) ([]guard.Restored, error) {
	m.values[m.trials[ro]] = "new"
	return []guard.Restored{{Tunable: m.trials[ro], Outcome: guard.PutBack}}, m.fail["revert"]
}

func (m *machine) Rollback(_ context.Context, ro, _ string) ([]guard.Restored, error) {
	name, ok := m.trials[ro]
	if !ok {
		return nil, tune.ErrUnknown
	}
	m.values[name] = "new"
	delete(m.trials, ro)
	m.ended[ro] = true
	return nil, nil
}

func (m *machine) Release(_ context.Context, ro string, named []tune.Change, _ string) ([]guard.Restored, error) {
	name := named[0].Tunable
	for _, t := range m.trials {
		if t == name {
			return nil, fmt.Errorf("a trial stands on it: %w", tune.ErrConflict)
		}
	}
	if err := m.fail["release"]; err != nil {
		return nil, err
	}
	m.values[name], m.released = "old", append(m.released, name)
	return []guard.Restored{{Tunable: name, Outcome: guard.PutBack}}, nil
}

func (m *machine) Name() string { return "fake" }
func (m *machine) Fresh() bool  { return false }
func (m *machine) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	select {
	case <-ctx.Done():
		return tune.MeterSample{}, ctx.Err()
	case <-time.After(d):
	}
	m.slots++
	if m.after != nil {
		m.after(m.slots)
	}
	if m.mute {
		return tune.MeterSample{}, tune.ErrNoData
	}
	p95 := m.p95(m.out()) * math.Exp(m.noise*m.rng.NormFloat64())
	return tune.MeterSample{P95MS: p95, MedianMS: p95 / 2, Throughput: 1000 * math.Exp(m.noise*m.rng.NormFloat64())}, nil
}

func (m *machine) Look(context.Context) []rollout.Vital {
	free := 100.0
	if m.hurt && slices.Contains(slices.Collect(mapsValues(m.values)), "old") {
		free = 1
	}
	return []rollout.Vital{{Name: "memory available", Kind: rollout.Floor, Value: free, Limit: 10}}
}

func mapsValues(m map[string]string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

func (m *machine) Lookup(name string) (*tune.Tunable, string, error) {
	return &tune.Tunable{Name: name}, "", nil
}

func (m *machine) request(names ...string) Request {
	req := Request{Rollout: "r1", Meter: m, StageTime: 10 * time.Second, Actor: "uid 0",
		Policy: rollout.Policy{Measured: true, Margin: 0.1, Limits: rollout.Limits{MaxP95MS: 500, MaxErrorRate: 0.5}}}
	for _, n := range names {
		req.Changes = append(req.Changes, tune.Change{Tunable: n, Target: "host", Current: "old", Proposed: "new", TakesEffect: tune.Immediately})
	}
	return req
}

func (m *machine) ablate(t *testing.T, req Request) tune.Ablation {
	t.Helper()
	out, err := m.try(t.Context(), t, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (m *machine) try(ctx context.Context, t *testing.T, req Request, dead chan struct{}) (tune.Ablation, error) {
	t.Helper()
	r := NewRunner(Config{Writer: m, Dead: dead, Tunables: m, Vitals: m, Now: time.Now, Rand: rand.New(rand.NewPCG(3, 4))})
	out, err := r.Run(ctx, req, func(s string) { t.Log(s) })
	for n, v := range m.values {
		if want := map[bool]string{true: "old", false: "new"}[slices.Contains(m.released, n)]; v != want {
			t.Errorf("%s is %s in the end", n, v)
		}
	}
	if len(m.trials) > 0 {
		t.Errorf("open trials %v", m.trials)
	}
	return out, err
}

func verdicts(out tune.Ablation) string {
	var s []string
	for _, c := range out.Changes {
		v := c.Tunable + " " + string(c.Verdict)
		if c.Undone {
			v += " undone"
		}
		s = append(s, v)
	}
	return strings.Join(s, ", ")
}

// earnsAll, idles and harms: without the first everything is three times as slow, without the last a
// fifth faster.
func threeOf(out map[string]bool) float64 {
	p95 := 10.0
	if out["earns"] {
		p95 *= 3
	}
	if out["harms"] {
		p95 *= 0.8
	}
	return p95
}

// A bundle of three of which one earns all, one nothing, one harms a little: the first stays.
func TestWhatEarnsNothingIsUndone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(threeOf, "earns", "idles", "harms")
		out := m.ablate(t, m.request("earns", "idles", "harms"))
		if got := verdicts(out); got != "earns earns, idles nothing undone, harms harms undone" {
			t.Fatalf("got %s", got)
		}
		if m.released[0] != "harms" || out.State != tune.Committed || out.Reason != tune.ReasonAblated {
			t.Errorf("released %v, %s %s", m.released, out.State, out.Reason)
		}
		for i, truth := range []float64{3, 1, 0.8} {
			e := out.Changes[i].Effect
			if e == nil || e.Low > truth || e.High < truth || e.Metric != "p95_ms" {
				t.Errorf("%s: effect %+v, truth %v", out.Changes[i].Tunable, e, truth)
			}
		}
		// What earns all is left out twice and no more: its clients pay for every slot.
		if n := strings.Count(strings.Join(m.log, ";"), "apply r1-without-1"); n > 3 {
			t.Errorf("what earns was left out %d times", n)
		}
	})
}

func TestKeepUndoesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(threeOf, "earns", "idles", "harms")
		req := m.request("earns", "idles", "harms")
		req.Keep = true
		for range 2 { // and it can be asked again
			if got := verdicts(m.ablate(t, req)); got != "earns earns, idles nothing, harms harms" {
				t.Errorf("got %s", got)
			}
			time.Sleep(time.Second)
		}
	})
}

// Either of two serves: each earns nothing beside the other, and only one may go.
func TestOneOfTwoSubstitutesStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(func(out map[string]bool) float64 {
			if out["one"] && out["other"] {
				return 40
			}
			return 10
		}, "one", "other", "third")
		out := m.ablate(t, m.request("one", "other", "third"))
		if len(m.released) != 2 || !slices.Contains(m.released, "third") {
			t.Errorf("%s; released %v", verdicts(out), m.released)
		}
	})
}

// The last change of a bundle is not undone: that is a rollback, and a person's.
func TestTheLastStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(func(map[string]bool) float64 { return 10 }, "one", "other")
		out := m.ablate(t, m.request("one", "other"))
		if len(m.released) != 1 || !strings.Contains(out.Detail, "semantos rollback r1") {
			t.Errorf("released %v, %q", m.released, out.Detail)
		}
	})
}

// What cannot be told stays.
func TestUndecidedStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(threeOf, "idles", "other")
		m.noise = 0.6
		req := m.request("idles", "other", "later")
		req.Changes[2].TakesEffect = tune.NextListen
		out := m.ablate(t, req)
		if got := verdicts(out); got != "idles undecided, other undecided, later undecided" || len(m.released) != 0 {
			t.Errorf("got %s, released %v", got, m.released)
		}
		if !strings.Contains(out.Changes[2].Why, "next listen") {
			t.Errorf("why: %q", out.Changes[2].Why)
		}
	})
}

func TestALimitOfTheMachineEndsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(threeOf, "idles", "other")
		m.hurt = true
		out := m.ablate(t, m.request("idles", "other"))
		if out.Reason != tune.ReasonLimit || !strings.Contains(out.Detail, "memory available") || m.slots > 3 {
			t.Errorf("%s: %s after %d slots", out.Reason, out.Detail, m.slots)
		}
	})
}

// A limit of the workload that breaks without a change is the answer: it is left out no more.
func TestALimitOfTheWorkloadIsAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(threeOf, "earns", "idles")
		req := m.request("earns", "idles")
		req.Policy.Limits.MaxP95MS = 20
		if got := verdicts(m.ablate(t, req)); got != "earns earns, idles nothing undone" {
			t.Errorf("got %s", got)
		}
	})
}

// Near the limit chance breaks it too: the change stays, and nothing is claimed.
func TestNearALimitNothingIsClaimed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(func(out map[string]bool) float64 {
			if out["one"] || out["other"] {
				return 10.3
			}
			return 10
		}, "one", "other")
		m.noise = 0.001
		req := m.request("one", "other")
		req.Policy.Limits.MaxP95MS = 10.15
		out := m.ablate(t, req)
		if got := verdicts(out); got != "one undecided, other undecided" || !strings.Contains(out.Changes[0].Why, "limit broke") {
			t.Errorf("got %s: %+v", got, out.Changes)
		}
	})
}

func TestWhatEndsItEarly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set    func(m *machine, cancel func(), dead chan struct{})
		reason string
		err    error
	}{
		"no data":          {func(m *machine, _ func(), _ chan struct{}) { m.mute = true }, tune.ReasonInconclusive, nil},
		"ctrl-c":           {func(m *machine, cancel func(), _ chan struct{}) { m.after = at(5, cancel) }, tune.ReasonInterrupted, nil},
		"guard dies":       {func(m *machine, _ func(), dead chan struct{}) { m.after = at(5, func() { close(dead) }) }, tune.ReasonFault, errGuardDead},
		"somebody sets it": {func(m *machine, _ func(), _ chan struct{}) { m.fail["apply"] = tune.ErrDrifted }, tune.ReasonYielded, nil},
		"refused":          {func(m *machine, _ func(), _ chan struct{}) { m.fail["apply"] = tune.ErrStorage }, tune.ReasonFault, tune.ErrStorage},
		"release fails":    {func(m *machine, _ func(), _ chan struct{}) { m.fail["release"] = tune.ErrStorage }, tune.ReasonFault, tune.ErrStorage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(threeOf, "earns", "idles")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				dead := make(chan struct{})
				c.set(m, cancel, dead)
				out, err := m.try(ctx, t, m.request("earns", "idles"), dead)
				if out.Reason != c.reason || !errors.Is(err, c.err) || (err != nil) != (c.err != nil) {
					t.Errorf("%s (%s), %v", out.Reason, out.Detail, err)
				}
				if len(m.released) > 0 {
					t.Errorf("released %v", m.released)
				}
			})
		})
	}
}

func at(slot int, do func()) func(int) {
	return func(n int) {
		if n == slot {
			do()
		}
	}
}
