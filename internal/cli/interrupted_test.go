package cli

import (
	"testing"
	"time"

	"semantos/internal/tune"
)

func TestKilledRolloutsAreSettled(t *testing.T) {
	t.Parallel()
	running := func(id string) tune.Rollout { return tune.Rollout{ID: id, State: tune.Running, BootID: "b"} }
	ended := running("ended")
	ended.Ended = time.Unix(1, 0)
	held := func(id, state string) tune.Managed { return tune.Managed{Rollout: id, State: state} }
	managed := []tune.Managed{held("kept", "committed"), held("saved", "persisted"), held("doubt", "in_doubt"), held("left", "yielded")}
	dead := settle{managed: managed, boot: "b", live: func(tune.Rollout, bool) bool { return false }}
	for _, c := range []struct {
		rollout tune.Rollout
		want    tune.State
	}{
		{running("gone"), tune.RolledBack}, {running("left"), tune.RolledBack}, {running("kept"), tune.Committed},
		{running("saved"), tune.Committed}, {running("doubt"), tune.Running}, {ended, tune.Running},
		{tune.Rollout{ID: "v", State: tune.Vetoed}, tune.Vetoed},
	} {
		got := dead.one(c.rollout, true)
		if got.State != c.want || got.State != c.rollout.State && got.Reason != tune.ReasonInterrupted {
			t.Errorf("%s: %s (%s), want %s", c.rollout.ID, got.State, got.Reason, c.want)
		}
	}
	// Another command's guard works: its rollout is the newest that runs.
	alive := settle{live: func(_ tune.Rollout, newest bool) bool { return newest }}
	got := alive.all([]tune.Rollout{{ID: "done", State: tune.Committed}, running("now"), running("killed")})
	if got[1].State != tune.Running || got[2].State != tune.RolledBack {
		t.Errorf("got %s, %s", got[1].State, got[2].State)
	}
}
