package cli

import (
	"bytes"
	"strings"
	"testing"

	"semantos/internal/tune"
	"semantos/safety/rollout"
)

// An interval over twelve decades says that there is none yet.
func TestAnIntervalOfNothingIsSaidSo(t *testing.T) {
	t.Parallel()
	wide := &tune.Effect{Metric: "p95_ms", Better: "lower", Ratio: 0.218, Low: 1.88e-12, High: 5.32e11}
	var out bytes.Buffer
	showRollout(&out, tune.Rollout{State: tune.RolledBack, Effect: wide, Stages: []tune.Stage{{Share: 50, Mode: "switchback", Effect: wide}}})
	showRollouts(&out, []tune.Rollout{{Effect: wide}})
	if text := out.String(); strings.Contains(text, "e-12") || strings.Count(text, "too few slots") != 3 {
		t.Errorf("%s", text)
	}
	half := effectText(&tune.Effect{Ratio: 0.5, Low: 1e-11, High: 0.9})
	if strings.Contains(half, "e-11") {
		t.Errorf("%s", half)
	}
	if half != "0.5 (at most 0.9)" {
		t.Errorf("%s", half)
	}
	if got := effectText(&tune.Effect{Ratio: 0.7, Low: 0.6, High: 0.8}); got != "0.7 [0.6, 0.8]" {
		t.Errorf("%s", got)
	}
}

// The plan says how long its stages last.
func TestThePlanSaysHowLong(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	showPlan(&out, []rollout.StageOutline{{Share: 50, Mode: "switchback", Seconds: 15, MostSeconds: 75, Why: "a"}, {Share: 100, Mode: "switchback", Seconds: 15, MostSeconds: 75, Why: "b"}})
	if !strings.Contains(out.String(), "It takes 30s at the earliest and 2m30s at most") {
		t.Errorf("%s", out.String())
	}
}
