package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
)

// A saved trial with any one field damaged is refused or gone on from; it never takes serve down with it, for
// serve would meet it again at each start.
func TestNoDamagedTrialPanics(t *testing.T) {
	t.Parallel()
	trials := map[string]Trial{}
	one := newStory(t, testPlan(t, 5*time.Second), policy())
	for n := range 12 {
		if n%5 == 0 { // also at the first slot of a block
			trials[fmt.Sprintf("after %d slots", n)] = one.trial
		}
		one.slot(sample(10, 100, 0))
	}
	unit := NewTrial(unitPlan(t, 3, 5*time.Second, 1), unitPolicy())
	w := newWorld(3, 1, 1)
	unit, _ = Step(unit, Observation{Kind: KindBegin}, time.Unix(1000, 0))
	for i := range 5 {
		unit, _ = Step(unit, Observation{Kind: KindSlot, Units: w.samples()}, time.Unix(int64(1001+i), 0))
	}
	trials["units"] = unit
	for name, trial := range trials {
		good, err := Saved{Rollout: tune.Rollout{ID: "r-1", Recommendation: advice(0.2)}, Trial: trial, At: time.Unix(1010, 0), StageTime: time.Second}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; ; n++ {
			var doc any
			if err := json.Unmarshal(good, &doc); err != nil {
				t.Fatal(err)
			}
			left := n
			where := damage(&doc, &left, "")
			if where == "" {
				if n < 200 {
					t.Fatalf("%s: damaged %d places only", name, n)
				}
				break
			}
			data, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			goOnFrom(t, name+where, data)
		}
	}
}

// goOnFrom goes on from what decodes.
func goOnFrom(t *testing.T, where string, data []byte) {
	t.Helper()
	defer func() {
		if broke := recover(); broke != nil {
			t.Errorf("%s: %v", where, broke)
		}
	}()
	s, err := DecodeSaved(data)
	if err != nil {
		return
	}
	now := time.Unix(1020, 0)
	trial, _ := Step(s.Trial, Observation{Kind: KindResume, Down: 10 * time.Second}, now)
	for n := 0; n < 25 && !trial.Over(); n++ {
		now = now.Add(1200 * time.Millisecond)
		v := sample(10, 100, 0)
		o := Observation{Kind: KindSlot, Sample: &v, Units: []*tune.MeterSample{&v, &v, &v}}
		if trial.phase == phaseCommitting || trial.phase == phaseRestoring {
			o = Observation{Kind: KindDone}
		}
		if trial.phase == phaseHeld {
			trial, _ = Step(trial, Observation{Kind: KindAdvance}, now)
		}
		trial, _ = Step(trial, o, now)
	}
}

// damage spoils the n-th place of a document, each in several ways, and says where; "" when there is none.
// Of a long list only the first three elements are spoiled.
func damage(v *any, n *int, path string) string {
	var ways []any
	switch x := (*v).(type) {
	case float64:
		ways = []any{-1.0, 0.0, 7.0, float64(1 << 40)}
	case bool:
		ways = []any{!x}
	case []any:
		ways = []any{[]any{}, nil}
		if len(x) > 1 {
			ways = append(ways, x[:1], x[1:])
		}
	case map[string]any:
		ways = []any{nil}
	}
	if *n < len(ways) {
		*v = ways[*n]
		return fmt.Sprintf("%s = %v", path, *v)
	}
	*n -= len(ways)
	switch x := (*v).(type) {
	case []any:
		for i := range min(3, len(x)) {
			if where := damage(&x[i], n, fmt.Sprintf("%s[%d]", path, i)); where != "" {
				return where
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(x)) {
			inner := x[k]
			where := damage(&inner, n, path+"."+k)
			x[k] = inner
			if where != "" {
				return where
			}
		}
	}
	return ""
}

// After a write that a vanished target undid, and after a restart, the first sample waits for the settle time.
func TestAFreshExposureSettlesFirst(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	last := func(effects []Effect) Effect { return effects[len(effects)-1] }
	trial := NewTrial(unitPlan(t, 5, 12*time.Second, 1), unitPolicy())
	w := newWorld(5, 1, 1)
	trial, _ = Step(trial, Observation{Kind: KindBegin}, now)
	for !trial.exposed {
		trial, _ = Step(trial, Observation{Kind: KindSlot, Units: w.samples()}, now)
	}
	_, effects := Step(trial, Observation{Kind: KindGone, Gone: []string{"netns:5"}, Why: "gone"}, now)
	if e := last(effects); e.Do != DoMeasure || e.Settle != trial.Plan.Settle {
		t.Errorf("measures %v after the targets were written anew", e.Settle)
	}
	s := newStory(t, testPlan(t, 12*time.Second), policy())
	for s.exposed || s.trial.plan().Slots[s.trial.at%len(s.trial.plan().Slots)] { // into an untreated slot
		s.slot(sample(10, 100, 0))
	}
	s.slot(sample(10, 100, 0))
	_, effects = Step(s.trial, Observation{Kind: KindResume}, now)
	if e := last(effects); e.Do != DoMeasure || e.Settle != s.trial.Plan.Settle {
		t.Errorf("measures %v after everything was put back", e.Settle)
	}
}

// What was decided and not done is looked at again by a new slot: the last one is in the evidence already.
func TestNoSlotCountsTwiceAfterARestart(t *testing.T) {
	t.Parallel()
	p := unitPolicy()
	p.Set = true
	w := newWorld(5, 1, 3)
	trial, now := NewTrial(unitPlan(t, 5, 3*time.Second, 3), p), time.Unix(1000, 0)
	trial, _ = Step(trial, Observation{Kind: KindBegin}, now)
	for trial.phase == phaseSlots {
		w.on = map[string]bool{}
		for _, u := range trial.current.units {
			w.on[fmt.Sprintf("netns:%d", u+1)] = true
		}
		now = now.Add(1200 * time.Millisecond)
		trial, _ = Step(trial, Observation{Kind: KindSlot, Units: w.samples()}, now)
	}
	if trial.phase != phaseCommitting {
		t.Fatalf("phase %d, %s", trial.phase, trial.Detail)
	}
	back, _ := Step(reload(t, trial, now), Observation{Kind: KindResume, Down: time.Minute}, now.Add(time.Minute))
	back, _ = Step(back, Observation{Kind: KindSlot, Units: w.samples()}, now.Add(time.Minute))
	slots := map[[2]int]int{}
	for _, r := range back.readings {
		if key := [2]int{r.block.id, r.unit}; r.block.id != 0 {
			if slots[key]++; slots[key] > 1 {
				t.Fatalf("target %d has two readings in block %d", r.unit, r.block.id)
			}
		}
	}
}

// A clock that jumps after a restart moves no stage: the time of a stage is what passed.
func TestAClockJumpAfterARestartEndsNoStage(t *testing.T) {
	t.Parallel()
	s := newStory(t, testPlan(t, time.Minute), policy())
	s.now = time.Now()
	s.trial, _ = Step(NewTrial(s.trial.Plan, policy()), Observation{Kind: KindBegin}, s.now)
	back := reload(t, s.trial, s.now) // its times have no monotonic reading any more
	trial, _ := Step(back, Observation{Kind: KindResume, Down: time.Minute}, s.now.Add(time.Minute))
	for name, at := range map[string]time.Time{"begin": trial.began, "look": trial.lookAt, "hope": trial.hopeAt} {
		if at.String() == at.Round(0).String() {
			t.Errorf("%s is a wall clock time: setting the clock moves it", name)
		}
	}
	if d := trial.lookAt.Sub(s.now); d != 2*time.Minute {
		t.Errorf("looked at after %s", d)
	}
}

// What a killed process exposed beyond its last save is counted: at most one slot of it is not known.
func TestExposureBeforeAKillIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, k := newTrialRun(6), &memoryKeeper{}
		r.req.StageTime = 20 * time.Minute // slots of half a minute
		if _, err := r.ended(t, k, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		clean := k.saved(t).Exposed
		if clean < 19*time.Second || clean > 21*time.Second {
			t.Fatalf("a clean end saved %s of exposure", clean)
		}
		// A kill in the middle of the first treated slot leaves the state of its beginning.
		r, k = newTrialRun(6), &memoryKeeper{}
		r.req.StageTime = 20 * time.Minute
		killed := &firstOnly{memoryKeeper: k}
		if _, err := r.ended(t, killed, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]Saved{"killed": killed.first(t), "ended": k.saved(t)} {
			r := newTrialRun(6)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			out, err := r.resume(ctx, s)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if got := out.ExposedSeconds; got < 20 || name == "ended" && got > 23 {
				t.Errorf("%s: %v s of exposure are counted, 20 s stood before the restart", name, got)
			}
		}
	})
}

// A saved trial that never wrote is no fault when it ends before its first write.
func TestATrialThatNeverWroteEndsWithoutFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, k := newTrialRun(6), &memoryKeeper{}
		r.outlive()
		r.meter.stale = true // dosed: it begins with an untreated slot
		if _, err := r.ended(t, k, 500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		s := k.saved(t)
		r = newTrialRun(6)
		r.meter.stale = true
		r.writer.fail["reopen"] = tune.ErrUnknown
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		out, err := r.resume(ctx, s)
		if err != nil || out.Reason != tune.ReasonInterrupted {
			t.Errorf("%s %s, %v", out.Reason, out.Detail, err)
		}
	})
}

// firstOnly keeps the state in which something first stood, beside the newest.
type firstOnly struct {
	*memoryKeeper
	data []byte
}

func (k *firstOnly) SaveTrial(ctx context.Context, s Saved) error {
	if k.data == nil && s.Trial.exposed {
		k.data, _ = s.Encode()
	}
	return k.memoryKeeper.SaveTrial(ctx, s)
}

func (k *firstOnly) first(t *testing.T) Saved {
	t.Helper()
	s, err := DecodeSaved(k.data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
