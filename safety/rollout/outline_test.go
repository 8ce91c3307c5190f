package rollout

import (
	"strings"
	"testing"
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
