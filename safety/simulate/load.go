package simulate

import (
	"math"
	"math/rand/v2"
	"time"

	"semantos/internal/tune"
)

// Load is how a workload reads from slot to slot.
type Load struct {
	CV     float64 // of the p95 of one slot; throughput varies a third of it
	AR     float64 // autocorrelation of neighbouring slots
	Ramp   float64 // logarithm by which the load changes over five minutes, there and back
	Bursts float64 // chance per slot that a burst begins; it lasts one to three slots, two- to fivefold
	// Tail lengthens the upper tail of the p95, as a full server's is: z standard deviations become
	// z exp(Tail z z / 2), Tukey's h on one side.
	Tail float64
	// Replay is what a real load read in one slot after another, in place of CV, AR and Tail.
	Replay []Reading

	// What treatment does: it multiplies.
	P95, Throughput float64
}

// Reading is one slot of a real load.
type Reading struct {
	P95        float64 `json:"p95_ms"`
	Throughput float64 `json:"throughput"`
}

// Amid gives the load with the noise of another.
func (l Load) Amid(noise Load) Load {
	noise.P95, noise.Throughput = l.P95, l.Throughput
	return noise
}

const (
	usualP95        = 20.0 // ms
	usualThroughput = 500.0
	usualErrors     = 0.001
	rampTime        = 5 * time.Minute
)

// reader gives one slot after another.
type reader struct {
	Load
	rng            *rand.Rand
	latency, speed float64 // AR(1) noise
	burst          float64 // logarithm, while left is above 0
	left           int
	at             int // in the replay
}

func newReader(l Load, rng *rand.Rand) *reader {
	r := &reader{Load: l, rng: rng, latency: rng.NormFloat64(), speed: rng.NormFloat64()}
	if len(l.Replay) > 0 {
		r.at = rng.IntN(len(l.Replay))
	}
	return r
}

// slot reads one slot that began at a time.
func (r *reader) slot(treated bool, at time.Duration) *tune.MeterSample {
	keep, fresh := r.AR, math.Sqrt(1-r.AR*r.AR)
	r.latency = keep*r.latency + fresh*r.rng.NormFloat64()
	r.speed = keep*r.speed + fresh*r.rng.NormFloat64()
	if r.left--; r.left < 0 && r.rng.Float64() < r.Bursts {
		r.left, r.burst = r.rng.IntN(3), math.Log(2+3*r.rng.Float64())
	}
	sd := math.Sqrt(math.Log1p(r.CV * r.CV)) // of the logarithm
	load := r.Ramp * math.Sin(math.Pi*float64(at)/float64(rampTime))
	p95 := math.Log(usualP95) + sd*tailed(r.latency, r.Tail) + load
	rate := math.Log(usualThroughput) + sd/3*r.speed + load/3
	if len(r.Replay) > 0 {
		was := r.Replay[r.at]
		p95, rate = math.Log(was.P95), math.Log(was.Throughput)
		r.at = (r.at + 1) % len(r.Replay) // from the start again, as if the load had jumped
	}
	errors := usualErrors
	if r.left >= 0 {
		p95, rate, errors = p95+r.burst, rate-r.burst/4, 10*usualErrors
	}
	if treated {
		p95, rate = p95+math.Log(r.P95), rate+math.Log(r.Throughput)
	}
	requests := math.Round(math.Exp(rate))
	lost := 0.0
	for u := r.rng.Float64(); lost < requests; lost++ { // Poisson
		if u -= math.Exp(lost*math.Log(errors*requests) - errors*requests - lgamma(lost+1)); u <= 0 {
			break
		}
	}
	return &tune.MeterSample{MedianMS: math.Exp(p95) / 2, P95MS: math.Exp(p95), Throughput: math.Exp(rate), ErrorRate: lost / requests}
}

func tailed(z, h float64) float64 {
	if z <= 0 {
		return z
	}
	return z * math.Exp(h*z*z/2)
}

func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}
