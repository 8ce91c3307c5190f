package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"semantos/console"
	"semantos/internal/tune"
)

// TestAVetosSentenceDoesNotWidenTheTable: the table has its first words, and every row stays on the page.
func TestAVetosSentenceDoesNotWidenTheTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	rec := tune.Recommendation{Changes: []tune.Change{{Tunable: "vm.swappiness", Current: "60", Proposed: "10"}}}
	showRollouts(&out, []tune.Rollout{
		{ID: "a-1", State: tune.Vetoed, Reason: "net.core.somaxconn is left alone until 2026-11-28 11:03: " + strings.Repeat("it went back and forth ", 9), Ended: time.Now(), Recommendation: rec},
		{ID: "b-2", State: tune.Committed, Reason: "better", Ended: time.Now(), Recommendation: rec},
	})
	for line := range strings.Lines(out.String()) {
		if len([]rune(line)) > pageWidth+1 {
			t.Errorf("%d wide: %s", len(line), line)
		}
	}
	if !strings.Contains(out.String(), "net.core.somaxconn is left…") {
		t.Error(out.String())
	}
}

// TestWhatIsNotOverSaysWhatItWaitsFor: and who can end that.
func TestWhatIsNotOverSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r    tune.Rollout
		says string
	}{
		{tune.Rollout{ID: "a-1", State: tune.Held}, "a-1 waits for a person: semantos advance a-1 lets it go on, semantos abort a-1 ends it"},
		{tune.Rollout{ID: "a-1", State: tune.Queued, Detail: "waits for rollout b-2"}, "a-1: waits for rollout b-2"},
		{tune.Rollout{ID: "a-1", State: tune.Running, Detail: "it goes on when serve starts again"}, "a-1: it goes on when serve starts again"},
		{tune.Rollout{ID: "a-1", State: tune.Committed, Detail: "kept", Ended: time.Now()}, ""},
	} {
		var out bytes.Buffer
		showRollouts(&out, []tune.Rollout{c.r})
		_, below, _ := strings.Cut(out.String(), c.r.ID)
		_, below, _ = strings.Cut(below, "\n")
		if got := strings.Join(strings.Fields(below), " "); got != c.says {
			t.Errorf("%s: %q, want %q", c.r.State, got, c.says)
		}
	}
}

// TestRollbackOfWhatHoldsNothingSaysHowItEnded: nothing is claimed to be removed that never was.
func TestRollbackOfWhatHoldsNothingSaysHowItEnded(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &app{stdout: &out}
	doc := console.RollbackResult{Rollouts: []tune.Rollout{{ID: "a-1", State: tune.RolledBack, Reason: tune.ReasonOperator, Detail: "stopped by uid 0"}}}
	if err := a.showRestored(doc); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "a-1 is rolled_back (operator): stopped by uid 0") || strings.Contains(got, "removed") {
		t.Error(got)
	}
}

// TestExplainOfAnUndoneBundleDoesNotSayItStands: though it was ablated before.
func TestExplainOfAnUndoneBundleDoesNotSayItStands(t *testing.T) {
	t.Parallel()
	for state, stands := range map[tune.State]bool{tune.Committed: true, tune.RolledBack: false} {
		var out bytes.Buffer
		showRollout(&out, tune.Rollout{ID: "a-1", State: state, Ablation: &tune.Ablation{ID: "a-1", Reason: tune.ReasonAblated}})
		if strings.Contains(out.String(), "The rest stands") != stands {
			t.Errorf("%s:\n%s", state, out.String())
		}
	}
}

// TestHelpBeginsWithWhatTheCommandDoes: and no line of it is wider than the page.
func TestHelpBeginsWithWhatTheCommandDoes(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"verify"}, {"abort"}, {"kb", "search"}} {
		m := newMachine(t, nil)
		got := m.run(t, append(args, "--help")...)
		cmd, _, err := (&app{}).rootCommand().Find(args)
		if err != nil || got.exit != exitDone || !strings.HasPrefix(got.stdout, sentence(cmd.Short)+".\n\n") {
			t.Errorf("%v: %v, exit %d\n%s", args, err, got.exit, got.stdout)
		}
		for line := range strings.Lines(got.stdout) {
			if strings.HasPrefix(line, " ") && len([]rune(line)) > pageWidth+1 {
				t.Errorf("%v: %s", args, line)
			}
		}
	}
}
