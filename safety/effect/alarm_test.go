package effect

import (
	"math"
	"math/rand/v2"
	"testing"
)

const plain = 0.405 // log 1.5

// row reads a row of slots: T and U at the usual level, t and u twice as high, h is treated
// and four times as high.
func row(text string, noise func() float64) []Slot {
	var out []Slot
	for _, c := range text {
		s := Slot{Treated: c == 'T' || c == 't', X: noise()}
		if c == 't' || c == 'u' {
			s.X += math.Ln2
		}
		if c == 'h' {
			s.X, s.Treated = s.X+2*math.Ln2, true
		}
		out = append(out, s)
	}
	return out
}

func TestAlarm(t *testing.T) {
	t.Parallel()
	still := func() float64 { return 0 }
	for text, want := range map[string]bool{
		"tUUUtU":                    true,  // both treated slots
		"tUUUUUUt":                  true,  // the slot after the second is still to come
		"tUUU":                      false, // one
		"tUUUTU":                    false, // one of two
		"TUUUTU":                    false,
		"tuUUtuU":                   false, // bursts that reach into the slots after them
		"TUUUutuU":                  false,
		"UUUUUUUUUUUUtuUUUUUUUUtuU": false,
		"UUUUUUUUUUUUtUUUUUUUUUtUU": true,
		"TUUUUttU":                  false, // one run, which one burst explains
		"TUUTUTTttUtU":              true,  // late, after a good beginning
		"UUUTTTTtUtU":               true,  // the last slot of a run is what counts
		"tt":                        false, // nothing to hold them against
		"TUUTUUTUUTUUtUUtU":         false, // after four good runs a doubling is shown by three
		"TUUTUUTUUTUUtUUtUUtU":      true,
		"TUUTUUTUUTUUhUUhU":         true,  // and what is four times as high by two
		"UUtUUUTTTTTtUuuu":          false, // a load that grew in a long run
	} {
		if got := Alarm(row(text, still), plain, 2); got != want {
			t.Errorf("%s: alarm %v", text, got)
		}
	}
	often := row("UUUuUUUuUUUuUUU", still)
	if !byChance(often, 0.6, 2, false) || byChance(often, 0.6, 5, false) || byChance(often, 1.2, 2, false) {
		t.Error("two are chance where untreated slots rise as far by themselves, five are not")
	}
	if Alarm(row("tUUUtU", still), plain, 3) || !Alarm(row("tUUUtUtU", still), plain, 3) {
		t.Error("three runs were asked for")
	}
	if !Suspicious(row("UUTTt", still), plain) || Suspicious(row("UUTTT", still), plain) || Suspicious(row("UUtU", still), plain) {
		t.Error("suspicion looks at the newest treated slot")
	}
}

// Amid noise that makes one slot in three twice as high as another, two such are no alarm; readings that
// are missing neither.
func TestAlarmKnowsTheNoise(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	false_, hits := 0, 0
	const runs = 1000
	for range runs {
		if Alarm(row("UUUUTUUUTU", func() float64 { return 0.5 * r.NormFloat64() }), plain, 2) {
			false_++
		}
		if Alarm(row("tUUUtU", func() float64 { return 0.1 * r.NormFloat64() }), plain, 2) {
			hits++
		}
	}
	if false_ > runs*2/100 {
		t.Errorf("%d false alarms in %d", false_, runs)
	}
	if hits < runs*985/1000 {
		t.Errorf("a doubling amid 10 %% noise is seen in %d of %d", hits, runs)
	}
	gone := row("tUUUtU", func() float64 { return 0 })
	for i := range gone {
		if !gone[i].Treated {
			gone[i].X = math.NaN()
		}
	}
	if Alarm(gone, plain, 2) || Suspicious(gone[:5], plain) {
		t.Error("alarm without an untreated reading")
	}
}

// The trap peers fall into (spinnaker#6278): 7 of 10 readings a hundred times worse, in any order.
func TestSevenOfTenHundredfoldWorse(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		bad := r.Perm(10)[:7]
		var slots []Slot
		var blocks []Block
		alarmed := false
		for i := range 10 {
			x := 0.0
			for _, b := range bad {
				if b == i {
					x = math.Log(100)
				}
			}
			first := r.IntN(2) == 0
			b := Block{Treated: []bool{first, !first}, X: []float64{0, 0}}
			for j, on := range b.Treated {
				if on {
					b.X[j] = x
				}
				slots = append(slots, Slot{on, b.X[j]})
				alarmed = alarmed || Alarm(slots, plain, 2)
			}
			blocks = append(blocks, b)
		}
		if !alarmed {
			t.Fatalf("no alarm with %v of ten a hundredfold worse", bad)
		}
		if s := New(nil, blocks); s.Estimate() < 0.3 {
			t.Fatalf("estimate %v hides it", s.Estimate())
		}
	}
}
