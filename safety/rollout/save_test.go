package rollout

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"semantos/internal/tune"
)

// reload takes a trial through its saved form, as a restart does.
func reload(t interface{ Fatal(...any) }, trial Trial, now time.Time) Trial {
	s := Saved{Rollout: tune.Rollout{ID: "r-1", Recommendation: advice(0.2)}, Trial: trial, At: now.Add(time.Nanosecond), StageTime: time.Second}
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeSaved(data)
	if err != nil {
		t.Fatal(err, string(data))
	}
	return back.Trial
}

// fill sets every field below v, also those that are not exported, to something that is not zero.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(int64(*n), 0).UTC()))
			return
		}
		for i := range v.NumField() {
			f := v.Field(i)
			fill(reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem(), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.String:
		v.SetString("s" + string(rune('a'+*n%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n))
	}
}

// A field that somebody adds to a trial and forgets to save would be lost by every restart.
func TestSavedTrialIsWhole(t *testing.T) {
	t.Parallel()
	var trial Trial
	n := 0
	fill(reflect.ValueOf(&trial).Elem(), &n)
	trial.phase = phaseSlots
	for i := range trial.readings {
		trial.readings[i].stage, trial.readings[i].unit = 0, 1
	}
	none := []int{0} // places that exist
	trial.Plan.Units[0].Changes, trial.Plan.Stages[0].Draws[0], trial.Plan.ConfirmDraws[0] = none, none, none
	trial.standing, trial.lost, trial.current.units = none, none, none
	if n < 60 {
		t.Fatalf("filled %d fields only", n)
	}
	if back := reload(t, trial, time.Unix(9, 0)); !reflect.DeepEqual(back, trial) {
		t.Errorf("saved and read back it is another trial:\n%+v\n%+v", trial, back)
	}
}

func TestSavedNumbersThatJSONHasNot(t *testing.T) {
	t.Parallel()
	s := newStory(t, testPlan(t, 5*time.Second), policy())
	value := math.Inf(-1)
	s.see(Observation{Kind: KindSlot, Sample: &tune.MeterSample{P95MS: math.NaN(), Throughput: math.Inf(1), Value: &value}})
	if len(s.trial.readings) == 0 {
		t.Skip("what a broken meter prints is not kept")
	}
	v := reload(t, s.trial, s.now).readings[0].sample
	if !math.IsNaN(v.P95MS) || !math.IsInf(v.Throughput, 1) || !math.IsInf(*v.Value, -1) {
		t.Errorf("read back %+v", v)
	}
}

// Saved and read back after every step, a rollout ends as it would have without.
func TestSavedAfterEveryStepTheEndIsTheSame(t *testing.T) {
	t.Parallel()
	set := policy()
	set.Set = true
	gates := policy()
	gates.Gates = true
	for _, tc := range []struct {
		name   string
		policy Policy
		factor float64
	}{
		{"better", policy(), 0.7}, {"equal", policy(), 1}, {"worse", policy(), 1.3}, {"twice as bad", policy(), 2},
		{"operator's", set, 1}, {"every stage waits", gates, 0.7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			end := func(saved bool) Trial {
				s, n := newStory(t, testPlan(t, 12*time.Second), tc.policy), 0
				for !s.trial.Over() {
					if n++; n > 2000 {
						t.Fatal("does not end")
					}
					if saved {
						s.trial = reload(t, s.trial, s.now)
					}
					if s.trial.State == tune.Held {
						s.see(Observation{Kind: KindAdvance})
					}
					v := sample(10+float64(n%3), 100, 0)
					if s.exposed {
						v.P95MS *= tc.factor
					}
					s.see(Observation{Kind: KindSlot, Sample: &v})
				}
				return s.trial
			}
			plain, saved := end(false), end(true)
			if plain.State != saved.State || plain.Reason != saved.Reason || !reflect.DeepEqual(plain.Stages, saved.Stages) ||
				!reflect.DeepEqual(plain.Effect, saved.Effect) {
				t.Errorf("ended %s %s %+v, without saving %s %s %+v", saved.State, saved.Reason, saved.Effect, plain.State, plain.Reason, plain.Effect)
			}
		})
	}
}

func TestGarbageIsNeverGoneOnFrom(t *testing.T) {
	t.Parallel()
	s := newStory(t, testPlan(t, 5*time.Second), policy())
	s.slot(sample(10, 100, 0))
	good, err := Saved{Rollout: tune.Rollout{ID: "r-1", Recommendation: advice(0.2)}, Trial: s.trial, At: s.now, StageTime: time.Second}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeSaved(good); err != nil {
		t.Fatal(err)
	}
	change := func(path []string, to any) []byte {
		var doc map[string]any
		if err := json.Unmarshal(good, &doc); err != nil {
			t.Fatal(err)
		}
		at := doc
		for _, p := range path[:len(path)-1] {
			at = at[p].(map[string]any)
		}
		at[path[len(path)-1]] = to
		out, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "no JSON": []byte("gone"), "cut": good[:len(good)/2], "more": append(append([]byte{}, good...), "{}"...),
		"another version": change([]string{"version"}, 99), "unknown field": change([]string{"trial", "mood"}, 1),
		"no stages begun": change([]string{"trial", "stages"}, []any{}), "a phase that is not": change([]string{"trial", "phase"}, 77),
		"no plan": change([]string{"trial", "plan"}, map[string]any{}), "a word for a number": change([]string{"trial", "dosed"}, "much"),
		"no rollout": change([]string{"rollout", "id"}, ""), "below zero": change([]string{"trial", "next"}, -4),
	} {
		if _, err := DecodeSaved(data); !errors.Is(err, tune.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
