package cli

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"semantos/internal/tune"
	"semantos/safety/guard"
)

// elsewhere has the rollouts that are held on this host under another DATA_DIR, and that folder. Of a disk that does
// not answer it knows none.
func (a *app) elsewhere() map[string]string {
	found, _ := inTime("read journals beside", a.cfg.DataDir, "", func() (map[string]string, error) {
		d := a.onDisk()
		return guard.Elsewhere(d.dataDir, d.runDir, d.bootID), nil
	})
	return found
}

// ours leaves out what only a command with another DATA_DIR rolls back.
func (a *app) ours(managed []tune.Managed) []tune.Managed {
	other := a.elsewhere()
	return slices.DeleteFunc(slices.Clone(managed), func(m tune.Managed) bool { return other[m.Rollout] != "" })
}

// asFound says that nothing is held, as far as that is known, and names what another DATA_DIR holds.
func (a *app) asFound() string {
	if a.sayElsewhere() {
		return "nothing that is known here is away from its original."
	}
	return "every tunable is as it was found."
}

// sayElsewhere names on stderr what another DATA_DIR holds and how it is put back, and says when that
// cannot be known. It reports whether it said anything.
func (a *app) sayElsewhere() bool {
	if _, err := os.ReadDir(filepath.Join(a.runDir(), "open")); errors.Is(err, fs.ErrPermission) {
		a.say("what root's semantos holds is not readable here; run as root to see it")
		return true
	}
	other := a.elsewhere()
	for _, id := range slices.Sorted(maps.Keys(other)) {
		a.say("rollout %s is held by another DATA_DIR: semantos rollback %s --data-dir %s", id, id, quote(other[id]))
	}
	return len(other) > 0
}
