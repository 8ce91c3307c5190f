package rollout

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a plan says of its slots is true of one stage time: the order is drawn for five of them, should they be
// needed.
func TestOutlineSaysTheSlotsOfOneStage(t *testing.T) {
	t.Parallel()
	p := testPlan(t, 15*time.Second)
	out := p.Outline()
	if !strings.Contains(out[0].Why, "3 of 13 slots of 1.2s") || !strings.Contains(out[1].Why, "6 of 13 slots") {
		t.Errorf("%q\n%q", out[0].Why, out[1].Why)
	}
	for _, st := range out {
		if st.Seconds != 15 || st.MostSeconds != 75 {
			t.Errorf("%+v", st)
		}
	}
}

// A hold that lasts is told once.
func TestAHoldIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrialRun(6)
		c := make(chan Command, 1)
		r.req.Hold, r.req.Commands = true, c
		time.AfterFunc(5*time.Minute, func() { c <- Command{Kind: KindAbort, Actor: "uid 7"} })
		if _, err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		told := 0
		for _, e := range r.events {
			if strings.Contains(e.Text, "waiting for a person") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}
