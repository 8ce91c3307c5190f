package ebpf

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"semantos/ebpf/probe"
)

// TestAll: sorted, described, and every signal of one probe only.
func TestAll(t *testing.T) {
	t.Parallel()
	all := All()
	if !slices.IsSortedFunc(all, func(a, b probe.Spec) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}) {
		t.Error("the list is not sorted by name")
	}
	owner := map[string]string{}
	for _, p := range all {
		if p.Name == "" || p.Answers == "" || p.Collection == nil || p.Read == nil || len(p.Signals) == 0 {
			t.Errorf("incomplete: %q", p.Name)
		}
		for _, s := range p.Signals {
			key := s.Entity + ":" + s.Name
			if was := owner[key]; was != "" {
				t.Errorf("%s is a signal of %s and %s", key, was, p.Name)
			}
			owner[key] = p.Name
			if s.Histogram && !strings.HasSuffix(s.Name, "_"+s.Unit) {
				t.Errorf("%s: the histogram %s is in %s, which its name does not say", p.Name, s.Name, s.Unit)
			}
			if s.Unit == "" || s.Help == "" || s.Source == "" || s.Histogram && s.Counter {
				t.Errorf("%s: incomplete signal %+v", p.Name, s)
			}
		}
	}
}

// TestShare: the whole stays within the budget, nobody is starved, and the cheaper never gets less.
func TestShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one := rapid.Custom(func(t *rapid.T) demand {
			return demand{rapid.Float64Range(0, 0.5).Draw(t, "load"), rapid.Float64Range(1, 5).Draw(t, "weight")}
		})
		all := rapid.SliceOfN(one, 0, 12).Draw(t, "demands")
		budget := rapid.Float64Range(0.001, 0.1).Draw(t, "budget")
		duty := share(all, budget)
		sum, whole := 0.0, 0.0
		for i, d := range duty {
			if d <= 0 || d > 1 {
				t.Fatalf("duty %v", d)
			}
			sum += d * all[i].load
			whole += all[i].load
			for j := range duty {
				if all[i].load/all[i].weight < all[j].load/all[j].weight && d < duty[j]-1e-9 {
					t.Fatalf("%+v has duty %v, %+v has %v", all[i], d, all[j], duty[j])
				}
			}
		}
		if sum > budget*(1+1e-9) {
			t.Fatalf("%v of a budget of %v", sum, budget)
		}
		if whole <= budget && sum < whole*(1-1e-9) {
			t.Fatalf("everything fits, yet %v of %v is used", sum, whole)
		}
	})
	got := share([]demand{{0.2, 1}, {0.002, 1}, {0.001, 1}}, 0.01)
	if got[1] != 1 || got[2] != 1 || math.Abs(got[0]-0.035) > 1e-9 {
		t.Errorf("the dearest is cut, the others are not: %v", got)
	}
	if got = share([]demand{{0.02, 1}, {0.008, 4}}, 0.01); math.Abs(got[0]-0.1) > 1e-9 || got[1] != 1 {
		t.Errorf("what matters more has more: %v", got)
	}
}

func TestSlot(t *testing.T) {
	t.Parallel()
	for duty, want := range map[float64]float64{0.5: 0.5, 0.1: 0.1, 0.04: 0.04, 0.02: 0.0125, 0.005: 0.005, 0.001: 0.005, 0: 0.005} {
		slice, period := slot(duty, 2*time.Second)
		if got := slice.Seconds() / float64(period) / 2; math.Abs(got-want) > 1e-9 {
			t.Errorf("duty %v: %v every %d turns, a share of %v, want %v", duty, slice, period, got, want)
		}
	}
}

func TestEstimateGrowsAtOnce(t *testing.T) {
	t.Parallel()
	var e estimate
	look := func(us int) {
		e.learn(probe.Cost{Runs: 1000, Time: time.Duration(us) * time.Microsecond}, 100*time.Millisecond)
	}
	look(100)
	look(10_000)
	if math.Abs(e.load-0.1) > 1e-9 || e.events != 10_000 || e.ns != 10_000 {
		t.Errorf("%+v", e)
	}
	if look(0); math.Abs(e.load-0.05) > 1e-9 {
		t.Errorf("after a fall: load %v, want half", e.load)
	}
}

// tally implements Sink.
type tally struct {
	values map[string]float64
	hists  map[string]probe.Hist
	begun  []string
}

func newTally() *tally { return &tally{values: map[string]float64{}, hists: map[string]probe.Hist{}} }

func (s *tally) Begin(o Origin)                                   { s.begun = append(s.begun, o.Probe) }
func (s *tally) Hist(of probe.Subject, name string, h probe.Hist) { s.hists[of.ID+name] = h }
func (s *tally) Counter(of probe.Subject, name string, v float64) { s.values[of.ID+name] = v }
func (s *tally) Seconds(of probe.Subject, name string, v float64) { s.values[of.ID+name] = v }
func (s *tally) Gauge(of probe.Subject, name string, v float64)   { s.values[of.ID+name] = v }
func (c *counts) tally() *tally                                   { s := newTally(); c.hand(s); return s }
func counted(bucket uint16, n, sum uint64) probe.Hist {
	return probe.Hist{Sum: sum, Bins: []probe.Bin{{Bucket: bucket, Count: n}}}
}
func (b *batch) count(name string, v float64, h probe.Hist, g float64) *batch {
	b.Counter(probe.Subject{}, name, v)
	b.Hist(probe.Subject{ID: "x"}, "h", h)
	b.Gauge(probe.Subject{}, "g", g)
	return b
}

// TestCountsOfPartOfTheTime: a quarter of the time counts for four, and time without counting is made up
// for by the next that has some.
func TestCountsOfPartOfTheTime(t *testing.T) {
	t.Parallel()
	const s = time.Second
	var c counts
	c.take(1*s, 1*s, *new(batch).count("n", 10, counted(5, 10, 50), 7))
	if got := c.tally(); got.values["n"] != 10 || got.hists["xh"].Count() != 10 {
		t.Errorf("all of the time: %+v", got)
	}
	c.take(5*s, 2*s, *new(batch).count("n", 20, counted(5, 20, 100), 7)) // 1 of 4 s
	got := c.tally()
	if got.values["n"] != 50 || got.hists["xh"].Count() != 50 || got.hists["xh"].Sum != 250 || got.values["g"] != 7 {
		t.Errorf("a quarter of the time: %+v", got)
	}
	c.take(9*s, 2*s, *new(batch).count("n", 20, counted(5, 20, 100), 7)) // nothing in 4 s
	if c.age != 4*s {
		t.Errorf("counts end %v ago, want 4 s", c.age)
	}
	c.take(10*s, 3*s, *new(batch).count("n", 21, counted(5, 21, 105), 8))
	got = c.tally()
	if c.age != 0 || got.values["n"] != 55 || got.hists["xh"].Count() != 55 || got.values["g"] != 8 {
		t.Errorf("one event in 1 of 5 s counts for five: %+v", got)
	}
	c.take(11*s, 4*s, *new(batch).count("n", 3, counted(5, 3, 15), 8)) // made anew
	if got = c.tally(); got.values["n"] != 58 || got.hists["xh"].Count() != 58 {
		t.Errorf("what was made anew is all new: %+v", got)
	}
	var none batch
	c.take(12*s, 5*s, none)
	if len(c.series) != 0 {
		t.Error("what is no longer read is still kept")
	}
}

// TestCountsNeverFall: whatever the shares, a series only grows and its true total is met on average.
func TestCountsNeverFall(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var c counts
		var raw, last, lastHist, lastSum uint64
		wall, active := time.Duration(0), time.Duration(0)
		for range rapid.IntRange(1, 20).Draw(t, "readings") {
			on := time.Duration(rapid.IntRange(0, 1000).Draw(t, "on")) * time.Millisecond
			wall += on + time.Duration(rapid.IntRange(0, 1000).Draw(t, "off"))*time.Millisecond
			active += on
			if on > 0 {
				raw += uint64(rapid.IntRange(0, 100).Draw(t, "events"))
			}
			c.take(wall, active, *new(batch).count("n", float64(raw), counted(5, raw, raw*5), 0))
			got := c.tally()
			n, h := uint64(got.values["n"]), got.hists["xh"]
			if n < last || h.Count() < lastHist || h.Sum < lastSum || n < raw {
				t.Fatalf("fell from %d, %d to %d, %d with %d seen", last, lastHist, n, h.Count(), raw)
			}
			if d := math.Abs(float64(h.Count()) - got.values["n"]); d > 1 {
				t.Fatalf("histogram has %d, counter %v", h.Count(), got.values["n"])
			}
			last, lastHist, lastSum = n, h.Count(), h.Sum
		}
	})
}
