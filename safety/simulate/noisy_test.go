package simulate

import (
	"fmt"
	"testing"
	"time"
)

// Beyond the promised noise power is lost, not honesty: a change that does nothing still ends as worse in
// about one of twenty trials, short ones and long ones, also amid long tails and on one recorded full server;
// a hundred runs each cannot tell five of a hundred from nine.
func TestFewFalseAlarmsAmidNoise(t *testing.T) {
	t.Parallel()
	kinds, err := Noisy()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		for _, stage := range []time.Duration{5 * time.Second, 15 * time.Second} {
			t.Run(fmt.Sprint(k.Name, " ", stage), func(t *testing.T) {
				t.Parallel()
				set, n := Defaults(), each(100)
				set.Stage, set.Set = stage, true
				got, err := Share(set, Load{P95: 1, Throughput: 1}.Amid(k.Load), n, Outcome.Worse)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%.4f of %d", got, n)
				if got > 0.05+2*allowance(0.05, n)/3 {
					t.Errorf("an equal change is judged worse in %.4f of %d", got, n)
				}
			})
		}
	}
}

// Sixfold harm is clear amid a noise of 30 % too.
func TestClearHarmIsUndoneAmidNoise(t *testing.T) {
	t.Parallel()
	n := each(200)
	got, err := Share(Defaults(), Load{P95: 6, Throughput: 1, CV: 0.3}, n, func(o Outcome) bool { return o.Worse() && o.Treated <= 2 })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.4f of %d", got, n)
	if got < 0.95-allowance(0.95, n) {
		t.Errorf("undone within two treated slots in %.4f of %d", got, n)
	}
}
