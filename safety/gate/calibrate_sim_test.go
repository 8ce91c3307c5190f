package gate

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// The simulations hold the gate against what docs/calibration.md promises. Each is run a second time with
// the rule broken on purpose, and must then miss its limit: a simulation that cannot fail shows nothing.

// runs is how often a simulation is repeated: 2,000 times where each is quick, fewer in make test where not.
func runs(quick int) int {
	if os.Getenv("SOAK") == "1" {
		return max(2000, quick)
	}
	return quick
}

// scores is a Kumaraswamy distribution on [0,1]: 1 - (1-x^a)^b below x.
type scores struct{ a, b float64 }

func (s scores) draw(r *rand.Rand) float64 {
	return math.Pow(1-math.Pow(1-r.Float64(), 1/s.b), 1/s.a)
}
func (s scores) below(x float64) float64 {
	return 1 - math.Pow(1-math.Pow(max(0, min(1, x)), s.a), s.b)
}

const simTau, simAlpha = 0.55, 0.10

// world is where candidates come from: a share is unsafe, with scores of its own.
type world struct {
	unsafe  float64
	bad, ok scores
	better  float64 // of the safe ones
}

func (w world) candidate(r *rand.Rand) (u float64, unsafe bool) {
	if r.Float64() < w.unsafe {
		return w.bad.draw(r), true
	}
	return w.ok.draw(r), false
}

// hostWorld is a host whose uncertainty tells something about what is unsafe, but not much.
func hostWorld() world {
	return world{unsafe: 0.35, bad: scores{2.5, 2}, ok: scores{1.5, 3}, better: 0.4}
}

// gateRule turns a window into the threshold and whether a bound is claimed; the broken ones are the
// mistakes that the simulations must notice.
type gateRule func(t *tracker, now time.Time) (tau float64, bounded bool)

func asBuilt(t *tracker, now time.Time) (float64, bool) {
	s := t.threshold(now)
	return s.tau, s.bounded
}

func theLarger(t *tracker, now time.Time) (float64, bool) {
	s := t.threshold(now)
	return max(t.limit, s.bound), s.bounded
}

// sim is one host over time.
type sim struct {
	r       *rand.Rand
	w       world
	t       *tracker
	rule    gateRule
	now     time.Time
	every   time.Duration // between candidates
	yes     float64       // how often a person goes past a veto when offered one
	perDay  bool          // one vetoed candidate a day is offered, not each
	offered time.Time
	vetoed  func(o outcome) (outcome, bool) // broken on purpose: what a veto counts as; nil: unknown
	settled func(t *tracker)                // broken on purpose: after each step

	tau     float64
	bounded bool
	hurt    int // unsafe candidates admitted by the gate
}

func newSim(seed uint64, w world, rule gateRule) *sim {
	return &sim{r: rand.New(rand.NewPCG(seed, 77)), w: w, rule: rule, every: 2 * time.Hour,
		t: &tracker{limit: simTau, alpha: simAlpha}, now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
}

// step lets one candidate come, meet the gate and, if tried, be labelled.
func (s *sim) step() {
	s.now = s.now.Add(s.every)
	s.tau, s.bounded = s.rule(s.t, s.now)
	u, unsafe := s.w.candidate(s.r)
	o := outcome{At: s.now, U: u, Unsafe: unsafe, Better: !unsafe && s.r.Float64() < s.w.better, Tau: s.tau}
	switch {
	case u < s.tau:
		if unsafe {
			s.hurt++
		}
		s.t.add(o)
	case s.offer() && s.r.Float64() < s.yes:
		o.Passed = true
		s.t.add(o)
	case s.vetoed != nil:
		if o, count := s.vetoed(o); count {
			s.t.add(o)
		}
	}
	if s.settled != nil {
		s.settled(s.t)
	}
}

// offer puts each vetoed candidate before a person, or with perDay the first after a day.
func (s *sim) offer() bool {
	if !s.perDay {
		return true
	}
	if s.now.Sub(s.offered) < 24*time.Hour {
		return false
	}
	s.offered = s.now
	return true
}

// mean is an average with its standard error.
type mean struct{ n, sum, squares float64 }

func (m *mean) add(x float64) { m.n++; m.sum += x; m.squares += x * x }
func (m mean) value() float64 { return m.sum / m.n }
func (m mean) stderr() float64 {
	return math.Sqrt(max(0, m.squares/m.n-m.value()*m.value()) / m.n)
}

// admittedUnsafe is one new unsafe candidate a run, admitted or not: a binomial share over the runs.
func admittedUnsafe(seed uint64, n, repeat int, bad scores, rule gateRule) mean {
	var m mean
	for i := range repeat {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		t := &tracker{limit: simTau, alpha: simAlpha}
		now := time.Unix(0, 0)
		for range n {
			t.items = append(t.items, outcome{At: now, U: bad.draw(r), Unsafe: true, Tau: math.Inf(1)})
		}
		tau, _ := rule(t, now)
		m.add(number01(bad.draw(r) < tau))
	}
	return m
}

// TestBoundUnderExchangeability: P(admitted | unsafe) <= ALPHA + 1/(n+1), for scores that lie low, high,
// and on a few values only.
func TestBoundUnderExchangeability(t *testing.T) {
	t.Parallel()
	for _, bad := range []scores{{1, 1}, {2.5, 2}, {1, 4}} {
		for _, n := range []int{9, 10, 19, 40, 150} {
			limit := simAlpha + 1/float64(n+1)
			m := admittedUnsafe(uint64(n), n, 2000, bad, asBuilt)
			if error3 := 3 * math.Sqrt(limit*(1-limit)/m.n); m.value() > limit+error3 {
				t.Errorf("n=%d, scores %v: %.3f of the unsafe admitted, limit %.3f", n, bad, m.value(), limit)
			}
			broken := admittedUnsafe(uint64(n), n, 2000, bad, theLarger)
			if broken.value() < limit+3*broken.stderr() {
				t.Errorf("n=%d, scores %v: taking the larger threshold goes unnoticed (%.3f)", n, bad, broken.value())
			}
		}
	}
}

// censored runs the loop until the gate is calibrated for the given number of steps, and gives how likely
// the next unsafe candidate is admitted while a bound is claimed, with the 1/(n+1) of then.
func censored(seed uint64, repeat int, w world, prepare func(*sim)) (admitted, spare mean) {
	for i := range repeat {
		s := newSim(seed+uint64(i)*1000003, w, asBuilt)
		prepare(s)
		for range 250 {
			s.step()
		}
		if tau, bounded := s.rule(s.t, s.now); bounded {
			admitted.add(w.bad.below(tau))
			spare.add(1 / float64(s.t.threshold(s.now).unsafe+1))
		}
	}
	return admitted, spare
}

// TestBoundWithCensoring: the same in the running loop, where only what the gate admitted, or a person
// went past, has a label: nobody goes past, some do, everybody does.
func TestBoundWithCensoring(t *testing.T) {
	t.Parallel()
	for _, yes := range []float64{0, 0.3, 1} {
		m, spare := censored(5, runs(1000), hostWorld(), func(s *sim) { s.yes = yes })
		limit := simAlpha + spare.value()
		t.Logf("a person passes %.0f %% of vetoes: admitted %.3f +- %.3f of the unsafe, limit %.3f (%v runs)",
			100*yes, m.value(), m.stderr(), limit, m.n)
		if m.n < 100 {
			t.Fatalf("calibrated in %v runs only", m.n)
		}
		if m.value() > limit+3*m.stderr() {
			t.Errorf("a person passes %.0f %% of vetoes: %.3f of the unsafe admitted, limit %.3f", 100*yes, m.value(), limit)
		}
	}
	larger, _ := censored(5, 100, hostWorld(), func(s *sim) { s.rule = theLarger })
	if larger.value() < 0.2+3*larger.stderr() {
		t.Errorf("taking the larger threshold goes unnoticed: %.3f", larger.value())
	}
	// A veto taken for proof of harm fills the window with high scores, and the threshold follows them.
	rarely := world{unsafe: 0.1, bad: scores{2.5, 2}, ok: scores{2.5, 2}}
	proof, _ := censored(5, 100, rarely, func(s *sim) {
		s.vetoed = func(o outcome) (outcome, bool) { o.Unsafe, o.Tau = true, math.Inf(1); return o, true }
	})
	if proof.value() < 0.13+3*proof.stderr() {
		t.Errorf("taking vetoed for unsafe goes unnoticed: %.3f", proof.value())
	}
}

// TestVetoedAreNotSafe: over four months a window filled with vetoed candidates called safe loses the
// unsafe outcomes it rests on, and the gate opens again and again.
func TestVetoedAreNotSafe(t *testing.T) {
	t.Parallel()
	unsafeTried := func(vetoed func(outcome) (outcome, bool)) (hurt mean, bounded mean) {
		for i := range runs(3) {
			s := newSim(uint64(i), hostWorld(), asBuilt)
			s.every, s.vetoed = 20*time.Minute, vetoed
			claimed := 0
			for range 120 * 24 * 3 {
				s.step()
				if s.bounded {
					claimed++
				}
			}
			hurt.add(float64(s.hurt))
			bounded.add(float64(claimed) / (120 * 24 * 3))
		}
		return hurt, bounded
	}
	built, calibrated := unsafeTried(nil)
	broken, _ := unsafeTried(func(o outcome) (outcome, bool) { o.Unsafe = false; return o, true })
	t.Logf("unsafe trials in four months: %.0f as built (calibrated %.0f %% of the time), %.0f with vetoed as safe",
		built.value(), 100*calibrated.value(), broken.value())
	if built.value() > 0.5*broken.value() {
		t.Errorf("as built %.0f unsafe trials, with vetoed as safe %.0f: the mistake goes unnoticed", built.value(), broken.value())
	}
}
