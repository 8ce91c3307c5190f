package cli

import (
	"context"
	"slices"

	"semantos/internal/tune"
	"semantos/safety/guard"
)

// settle tells what became of rollouts whose command was killed: history still has them running, and the
// journal knows better. live names the rollout that runs now, where the caller knows it.
type settle struct {
	managed []tune.Managed
	boot    string
	live    func(r tune.Rollout, newest bool) bool
	saved   map[string]bool // rollouts that the next serve goes on with
}

// settled reads the journal. While another command's guard works, the newest running rollout may be its own.
func (a *app) settled(ctx context.Context, store store) settle {
	d := a.onDisk()
	managed, _ := guard.Inspect(d.dataDir, d.runDir, d.bootID) // what is not readable is not known to be held
	alive := guard.Alive(d.runDir)
	return settle{managed: managed, boot: d.bootID, saved: savedTrials(ctx, store), live: func(r tune.Rollout, newest bool) bool {
		return alive && newest && (d.bootID == "" || r.BootID == d.bootID)
	}}
}

// all settles a list, newest first.
func (s settle) all(rollouts []tune.Rollout) []tune.Rollout {
	newest := true
	for i, r := range rollouts {
		rollouts[i] = s.one(r, newest)
		newest = newest && !unfinished(r)
	}
	return rollouts
}

// one gives a rollout as it ended. What a killed command left in doubt stays as it is: it is not over
// before the next command with rights has put it back.
func (s settle) one(r tune.Rollout, newest bool) tune.Rollout {
	if !unfinished(r) || s.live(r, newest) {
		return r
	}
	at := slices.IndexFunc(s.managed, func(m tune.Managed) bool {
		return m.Rollout == r.ID && m.State != "gone" && m.State != "yielded"
	})
	switch {
	case at < 0 && s.saved[r.ID] && (s.boot == "" || r.BootID == s.boot):
		r.Detail = "serve ended while it ran and every value was put back: it goes on when serve starts again; semantos abort " + r.ID + " ends it"
	case at < 0:
		r.State, r.Reason = tune.RolledBack, tune.ReasonInterrupted
		r.Detail = "the command that ran it was killed; nothing of it is held"
	case s.managed[at].State == "committed" || s.managed[at].State == "persisted":
		r.State, r.Reason = tune.Committed, tune.ReasonInterrupted
		r.Detail = "it was kept, and the command that ran it was killed before it could say so"
	}
	return r
}
