package console

import (
	"net/http"
	"slices"
)

// What one request may ask for: the bounds of the configuration and of the command line. The guard makes at
// most 512 writes for one rollout.
const (
	longestStageS = 24 * 60 * 60
	mostSteps     = 100
	mostSettings  = 512
	longestMeter  = 4096
)

// LongestWhy is how many bytes a reason may have: it is printed to whoever meets it.
const LongestWhy = 1000

// check refuses numbers that would switch a limit off or judge by nothing.
func (r ApplyRequest) check() error {
	within := func(v *float64, ok func(float64) bool) bool { return v == nil || ok(*v) }
	notAbove := func(a, b float64) int { // an equal step is out of order too
		if a <= b {
			return -1
		}
		return 1
	}
	switch {
	case (r.ID == "") == (len(r.Set) == 0):
		return refuse(http.StatusBadRequest, "give either id or set", "exactly one of id and set is needed")
	case len(r.Set) > mostSettings:
		return refuse(http.StatusBadRequest, "give at most 512, or a pattern", "%d settings", len(r.Set))
	case r.StageTimeS != 0 && (r.StageTimeS < 1 || r.StageTimeS > longestStageS):
		return refuse(http.StatusBadRequest, "give seconds from 1 to 86400", "stage_time_s %v", r.StageTimeS)
	case len(r.Steps) > mostSteps || !slices.IsSortedFunc(r.Steps, notAbove) || slices.ContainsFunc(r.Steps, func(x float64) bool { return x <= 0 || x > 100 }):
		return refuse(http.StatusBadRequest, "give at most 100 growing percentages above 0, up to 100", "steps are out of order or out of range")
	case !within(r.Margin, func(x float64) bool { return x >= 0 && x < 1 }):
		return refuse(http.StatusBadRequest, "give a share from 0 to below 1", "margin %v", *r.Margin)
	case !within(r.SLOMaxP95, func(x float64) bool { return x > 0 }):
		return refuse(http.StatusBadRequest, "give milliseconds above 0", "slo_max_p95 %v", *r.SLOMaxP95)
	case !within(r.MaxErrorRate, func(x float64) bool { return x > 0 && x <= 1 }):
		return refuse(http.StatusBadRequest, "give a share above 0, up to 1", "max_error_rate %v", *r.MaxErrorRate)
	case len(r.ClientMeter) > longestMeter:
		return refuse(http.StatusBadRequest, "give a shorter name", "client_meter has %d bytes", len(r.ClientMeter))
	}
	return nil
}

// checkWhy bounds a reason.
func checkWhy(why string) error {
	if len(why) > LongestWhy {
		return refuse(http.StatusBadRequest, "give at most 1000 bytes", "why has %d bytes", len(why))
	}
	return nil
}
