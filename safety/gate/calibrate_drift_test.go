package gate

import (
	"math"
	"testing"
	"time"
)

// withoutDrift undoes cuts: what a gate without ADWIN would know.
type withoutDrift struct{ all []outcome }

// rule replays everything seen, expiry included, without a test for drift.
func (w *withoutDrift) rule(t *tracker, now time.Time) (float64, bool) {
	kept := tracker{limit: t.limit, alpha: t.alpha, items: w.all}
	if n := len(kept.items) - calibrationWindow; n > 0 {
		kept.items = kept.items[n:]
	}
	s := kept.threshold(now)
	return s.tau, s.bounded
}

func (w *withoutDrift) remember(t *tracker) {
	if n := len(t.items); n > 0 && (len(w.all) == 0 || !w.all[len(w.all)-1].At.Equal(t.items[n-1].At)) {
		w.all = append(w.all, t.items[n-1])
	}
}

// TestRecoveryAfterShift: what was surely safe turns unsafe at low scores. Once m unsafe outcomes have come
// after the cut, alpha' <= alpha + 1/(m+1) + eps; and the cut comes.
func TestRecoveryAfterShift(t *testing.T) {
	t.Parallel()
	before := world{unsafe: 0.2, bad: scores{6, 1.5}, ok: scores{1.5, 3}, better: 0.4}
	after := world{unsafe: 0.7, bad: scores{1.5, 4}, ok: scores{2, 3}, better: 0.4}
	const eps = 0.03 // what is left from before the change point, which a cut only estimates
	shifted := func(repeat int, drift bool) (admitted, lag mean, fewest int) {
		fewest = math.MaxInt
		for i := range repeat {
			s := newSim(uint64(i)+900, before, asBuilt)
			s.every, s.yes = 20*time.Minute, 0.3
			blind := &withoutDrift{}
			if !drift {
				s.rule, s.settled = blind.rule, blind.remember
			}
			for range 400 {
				s.step()
			}
			s.w = after
			cuts, cutAt, steps := len(s.t.cuts), 0, 0
			for ; steps < 90; steps++ {
				s.step()
				if cutAt == 0 && len(s.t.cuts) > cuts {
					cutAt = steps + 1
				}
			}
			if drift && cutAt == 0 {
				continue // counted by lag.n
			}
			lag.add(float64(cutAt))
			if tau, bounded := s.rule(s.t, s.now); bounded {
				admitted.add(after.bad.below(tau))
				if n := s.t.threshold(s.now).unsafe; drift {
					fewest = min(fewest, n)
				}
			}
		}
		return admitted, lag, fewest
	}
	repeat := runs(150)
	m, lag, n := shifted(repeat, true)
	limit := simAlpha + 1/float64(n+1) + eps
	t.Logf("cut in %.0f of %d runs, after %.0f candidates; admitted %.3f +- %.3f of the unsafe, limit %.3f (m >= %d)",
		lag.n, repeat, lag.value(), m.value(), m.stderr(), limit, n)
	if lag.n < 0.95*float64(repeat) {
		t.Errorf("the shift was seen in %v of %d runs", lag.n, repeat)
	}
	if m.n < 0.5*float64(repeat) || m.value() > limit+3*m.stderr() {
		t.Errorf("after the cut %.3f of the unsafe admitted in %v runs, limit %.3f", m.value(), m.n, limit)
	}
	if blind, _, _ := shifted(60, false); blind.value() < limit+3*blind.stderr() {
		t.Errorf("a gate that sees no drift goes unnoticed: %.3f, limit %.3f", blind.value(), limit)
	}
}

// TestThirtyDaysOfDrift: the scores of what is unsafe sink a little every hour. Over all decisions under
// a claimed bound, the share of the unsafe that was admitted stays near ALPHA.
func TestThirtyDaysOfDrift(t *testing.T) {
	t.Parallel()
	drifting := func(repeat int, rule func(*sim)) (m mean) {
		for i := range repeat {
			s := newSim(uint64(i)+4000, hostWorld(), asBuilt)
			s.every, s.yes = time.Hour, 0.3
			rule(s)
			came, through := 0.0, 0.0
			for hour := range 30 * 24 {
				s.w.bad.a = 4 - 2.5*float64(hour)/(30*24) // the median sinks from 0.74 to 0.44
				tau, bounded := s.rule(s.t, s.now.Add(s.every))
				if bounded {
					came++
					through += s.w.bad.below(tau)
				}
				s.step()
			}
			if came > 0 {
				m.add(through / came)
			}
		}
		return m
	}
	m := drifting(runs(30), func(*sim) {})
	limit := simAlpha + 1.0/10
	t.Logf("30 days of drift: admitted %.3f +- %.3f of the unsafe, limit %.3f", m.value(), m.stderr(), limit)
	if m.value() > limit {
		t.Errorf("over 30 days %.3f of the unsafe admitted, limit %.3f", m.value(), limit)
	}
	if larger := drifting(5, func(s *sim) { s.rule = theLarger }); larger.value() <= limit {
		t.Errorf("taking the larger threshold goes unnoticed: %.3f", larger.value())
	}
}

// TestWayBackFromTooTight: ten unsafe outcomes at next to no uncertainty shut the gate. It opens again
// when they expire, whoever tries the one offered candidate a day, and over half a year it is not shut for
// good. A person's outcomes keep a bound standing, which is tighter than TAU without one.
func TestWayBackFromTooTight(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		yes     float64
		within  float64 // days until u of 0.2 passes again
		admits  float64 // of safe candidates, over half a year
		neverUp bool    // broken on purpose: outcomes that never expire
	}{{0, 45, 0.2, false}, {0.3, 45, 0.1, false}, {1, 45, 0.08, false}, {0, 0, 0, true}} {
		var back, admits mean
		for i := range runs(10) {
			s := newSim(uint64(i)+70, hostWorld(), asBuilt)
			s.every, s.yes, s.perDay = 3*time.Hour, tc.yes, true
			for j := range 10 {
				s.t.add(outcome{At: s.now.Add(time.Duration(j) * time.Minute), U: 0.01 + 0.001*float64(j), Unsafe: true, Tau: simTau})
			}
			start, opened, safe := s.now, -1.0, 0.0
			if tc.neverUp {
				s.settled = func(t *tracker) {
					for i := range t.items {
						t.items[i].At = s.now
					}
				}
			}
			const steps = 180 * 8
			for range steps {
				s.step()
				safe += s.w.ok.below(s.tau) / steps
				if opened < 0 && s.tau > 0.2 {
					opened = s.now.Sub(start).Hours() / 24
				}
			}
			if opened < 0 {
				opened = math.Inf(1)
			}
			back.add(opened)
			admits.add(safe)
		}
		t.Logf("a person tries %.0f %% of offers, expiry %v: back after %.0f days, %.0f %% of the safe admitted over half a year",
			100*tc.yes, !tc.neverUp, back.value(), 100*admits.value())
		switch {
		case tc.neverUp && !math.IsInf(back.value(), 1):
			t.Error("the gate came back without expiry: the simulation shows nothing")
		case !tc.neverUp && (back.value() > tc.within || admits.value() < tc.admits):
			t.Errorf("%.0f %% of offers tried: back after %.1f days, %.2f of the safe admitted", 100*tc.yes, back.value(), admits.value())
		}
	}
}
