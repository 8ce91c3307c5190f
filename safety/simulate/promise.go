package simulate

import (
	"fmt"
	"time"
)

// Promise is a share of rollouts that semantos promises at a noise of up to 10 % from slot to slot.
type Promise struct {
	Name    string
	Setting Setting
	Load    Load // the noise comes from a [Kind]
	Is      func(Outcome) bool
	Most    float64 // share of runs, where Least is 0
	Least   float64
	Bursts  bool // it holds amid bursts too
}

// Kind is a kind of noise.
type Kind struct {
	Name string
	Load Load
}

// Kinds are those that promises hold in: with and without autocorrelation, load ramps and bursts.
func Kinds() []Kind {
	var out []Kind
	for _, ar := range []float64{0, 0.5} {
		for _, k := range []Kind{{"steady", Load{}}, {"ramp", Load{Ramp: 0.7}}, {"bursts", Load{Bursts: 0.025}},
			{"ramp and bursts", Load{Ramp: -0.7, Bursts: 0.025}}} {
			k.Load.CV, k.Load.AR = 0.1, ar
			k.Name = fmt.Sprintf("AR %.1f, %s", ar, k.Name)
			out = append(out, k)
		}
	}
	return out
}

// Promises are what docs/statistics.md says and the tests hold.
func Promises() []Promise {
	set, own := Defaults(), Defaults()
	own.Set = true
	return []Promise{
		{"an equal change is judged worse", set, Load{P95: 1, Throughput: 1}, Outcome.Worse, 0.05, 0, true},
		{"an equal change is kept as better", set, Load{P95: 1, Throughput: 1}, Outcome.Kept, 0.05, 0, true},
		{"a change worse by a tenth is kept", set, Load{P95: 1.1, Throughput: 1}, Outcome.Kept, 0.05, 0, true},
		{"a change worse by a tenth is kept, with `--set`", own, Load{P95: 1.1, Throughput: 1}, Outcome.Kept, 0.05, 0, true},
		{"throughput lower by a tenth is kept, with `--set`", own, Load{P95: 1, Throughput: 1 / 1.1}, Outcome.Kept, 0.05, 0, true},
		{"a change twice as bad is kept", set, Load{P95: 2, Throughput: 1}, Outcome.Kept, 0.001, 0, true},
		{"a change twice as bad is undone within two treated slots", set, Load{P95: 2, Throughput: 1},
			func(o Outcome) bool { return o.Worse() && o.Treated <= 2 }, 0, 0.99, false},
		{"a change better by a fifth is kept", set, Load{P95: 0.8, Throughput: 1}, Outcome.Kept, 0, 0.90, true},
		{"an equal change is kept, with `--set`", own, Load{P95: 1, Throughput: 1}, Outcome.Kept, 0, 0.80, false},
		{"a change twice as good is kept within a minute", set, Load{P95: 0.5, Throughput: 1},
			func(o Outcome) bool { return o.Kept() && o.Took <= time.Minute }, 0, 0.95, false},
		{"a rollout ends within five minutes", set, Load{P95: 0.95, Throughput: 1},
			func(o Outcome) bool { return o.Took <= 5*time.Minute }, 0, 1, true},
	}
}

// Covered plays rollouts of an effect and counts those kept for their p95, and of these the ones whose
// reported interval holds the effect.
func Covered(effect float64, noise Load, runs int) (kept, holds int, err error) {
	for seed := range runs {
		o, err := Play(Defaults(), Load{P95: effect, Throughput: 1}.Amid(noise), uint64(seed))
		if err != nil {
			return 0, 0, err
		}
		if !o.Kept() || o.Effect.Metric != "p95_ms" {
			continue
		}
		kept++
		if o.Effect.Low <= effect && effect <= o.Effect.High {
			holds++
		}
	}
	return kept, holds, nil
}
