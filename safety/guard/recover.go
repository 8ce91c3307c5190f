package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// Recovered is what a starting guard found and did about a dead one.
type Recovered struct {
	Restored []Restored
	Notes    []string
}

// recoverAll brings the machine to where every rollout is committed or as before: it closes what an
// earlier boot left, and restores what a dead guard left under this data folder or another.
func (g *engine) recoverAll(copies []journal.Copy, dataDir, runDir string) (Recovered, error) {
	var out Recovered
	var closings []journal.Record
	var errs []error
	for _, c := range copies {
		if id := c.Rollout(); c.DataDir == dataDir && g.state.Rollouts[id] != nil && g.state.Rollouts[id].Closed {
			closings = append(closings, c.Ends()...)
			closings = append(closings, journal.Record{Kind: journal.Closed, Rollout: id, Reason: g.state.Rollouts[id].Reason})
		}
	}
	for _, ro := range g.state.Open() {
		switch {
		case ro.Boot != g.boot && ro.Persisted:
			out.Notes = append(out.Notes, fmt.Sprintf("rollout %s is persisted: the boot applied it again", ro.ID))
		case ro.Boot != g.boot && !ro.Outlives():
			closings = append(closings, journal.Record{Kind: journal.Closed, Rollout: ro.ID, Reason: "the host was booted since"})
		}
	}
	if len(closings) > 0 {
		g.tell(false, closings...) // said again at the next start otherwise
	}
	for _, ro := range g.state.Open() {
		errs = append(errs, g.dropDescriptors(ro))
	}
	restored, err := g.undoUncommitted("its guard died")
	out.Restored = restored
	errs = append(errs, err)
	for _, c := range copies {
		if c.DataDir == dataDir {
			continue
		}
		got, err := g.recoverOther(c, runDir)
		out.Restored = append(out.Restored, got...)
		errs = append(errs, err)
	}
	// Values come first: files lie on a disk that may hang, and are waited for a moment only.
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	errs = append(errs, g.unpersistHalf(ctx))
	released, err := g.releasePending(ctx)
	out.Restored, errs = append(out.Restored, released...), append(errs, err)
	for _, r := range out.Restored {
		out.Notes = append(out.Notes, recoveryNote(r))
	}
	return out, errors.Join(errs...)
}

// unpersistHalf takes back the files of a persist that was not finished. Only what is committed is ever
// persisted.
func (g *engine) unpersistHalf(ctx context.Context) error {
	var errs []error
	for _, ro := range g.state.Open() {
		if !ro.Persisting {
			continue
		}
		over := func() {
			if ro.Boot != g.boot && !ro.Outlives() {
				g.tell(false, journal.Record{Kind: journal.Closed, Rollout: ro.ID, Reason: "the host was booted since"})
			}
		}
		errs = append(errs, g.unpersist(ctx, ro, over))
		over()
	}
	return errors.Join(errs...)
}

// dropDescriptors ends what only a descriptor of the dead guard held.
func (g *engine) dropDescriptors(ro *journal.Rollout) error {
	var recs []journal.Record
	left := 0
	for _, en := range ro.Entries {
		if en.How.Method == tune.MethodDMALatency && en.End == "" {
			recs = append(recs, journal.Record{Kind: journal.Gone, Rollout: ro.ID, Tunable: en.Tunable, Target: en.Target,
				Reason: "it was held by a descriptor of a guard that has ended"})
		} else if en.End == "" {
			left++
		}
	}
	if len(recs) == 0 {
		return nil
	}
	if left == 0 {
		recs = append(recs, journal.Record{Kind: journal.Closed, Rollout: ro.ID, Reason: recs[0].Reason})
	}
	g.tell(false, recs...) // found again at the next start otherwise
	return nil
}

// recoverOther restores what a guard with another data folder left uncommitted. Its own journal, where
// readable, says what was committed; the end is recorded there, or kept in the copy.
func (g *engine) recoverOther(c journal.Copy, runDir string) ([]Restored, error) {
	if len(c.Records) == 0 || c.Records[0].Boot != g.boot {
		return nil, g.disk.Remove(c.Path) // nothing readable, or an earlier boot's: nothing stands
	}
	b, s := journal.OpenBook(g.disk, c.DataDir, runDir)
	defer b.Close()
	other := *g
	other.log = b
	other.state = journal.NewState()
	own := journal.Load(s, []journal.Copy{c}, c.DataDir)
	for _, r := range c.Records {
		if ro := own.Rollouts[r.Rollout]; ro != nil {
			other.state.Adopt(ro)
		}
	}
	if !other.uncommitted() {
		return nil, nil
	}
	out, err := other.undoUncommitted("its guard died; restored by a command with another data folder")
	return out, err
}

func recoveryNote(r Restored) string {
	switch r.Outcome {
	case PutBack:
		return fmt.Sprintf("%s on %s was left at %q by a guard that died: put back to %q", r.Tunable, r.Target, r.Found, r.Value)
	case Failed:
		return fmt.Sprintf("%s on %s could not be put back: %s", r.Tunable, r.Target, r.Detail)
	case Yielded:
		return fmt.Sprintf("%s on %s is left alone: %s", r.Tunable, r.Target, r.Detail)
	}
	return fmt.Sprintf("%s on %s: %s", r.Tunable, r.Target, r.Outcome)
}

// readState is the read-only view of what is held, for commands without a guard.
func readState(dataDir, runDir string) (*journal.State, error) {
	d := journal.HostDisk{}
	path := journal.Path(dataDir)
	data, err := journal.ReadTrusted(d, path)
	var lost error // the copies in the run folder still tell what is held
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, &tune.Error{Op: "read journal", Subject: path, Err: fmt.Errorf("%w: %w", tune.ErrNotPermitted, err),
			Hint: "run as the user that changed the tunables (root)"}
	case errors.Is(err, tune.ErrCorrupt):
		lost = err
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		lost = &tune.Error{Op: "read journal", Subject: path, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err), Hint: "check the folder"}
	}
	s := journal.Scan(data)
	copies, err := journal.ReadCopies(d, runDir)
	if errors.Is(err, tune.ErrNotPermitted) {
		copies, err = nil, nil // a user's own data folder: what root holds is not theirs to see
	}
	state := journal.Load(s, copies, dataDir)
	for _, c := range copies {
		if c.DataDir == dataDir || len(c.Records) == 0 {
			continue
		}
		other := journal.Load(journal.Scan(readOrEmpty(d, journal.Path(c.DataDir))), []journal.Copy{c}, c.DataDir)
		for _, r := range c.Records {
			if ro := other.Rollouts[r.Rollout]; ro != nil {
				state.Adopt(ro)
			}
		}
	}
	if s.BadAt >= 0 {
		err = errors.Join(err, journal.CorruptError(path, s, runDir))
	}
	return state, errors.Join(err, lost)
}

func readOrEmpty(d journal.Disk, path string) []byte {
	data, err := journal.ReadTrusted(d, path)
	if err != nil {
		return nil // the copy must do
	}
	return data
}

// Inspect lists what is held, from the journal of a data folder and the run folder, without a guard and
// without changing anything. Beside an error wrapping tune.ErrCorrupt or tune.ErrStorage the list still has
// what is readable.
func Inspect(dataDir, runDir, bootID string) ([]tune.Managed, error) {
	state, err := readState(absolute(dataDir), runDir)
	if state == nil {
		return nil, err
	}
	return state.Managed(bootID, !guardAlive(runDir)), err
}

// Elsewhere names the rollouts that Inspect finds under another data folder, and that folder: they are
// held on this host, but only a command with their folder rolls them back.
func Elsewhere(dataDir, runDir, bootID string) map[string]string {
	d := journal.HostDisk{}
	copies, err := journal.ReadCopies(d, runDir)
	if err != nil {
		return nil // Inspect says so
	}
	out := map[string]string{}
	for _, c := range copies {
		if c.DataDir == "" || c.DataDir == absolute(dataDir) {
			continue
		}
		other := journal.Load(journal.Scan(readOrEmpty(d, journal.Path(c.DataDir))), []journal.Copy{c}, c.DataDir)
		for _, ro := range other.Open() {
			if ro.ID == c.Rollout() && (ro.Boot == bootID || ro.Outlives()) {
				out[ro.ID] = c.DataDir
			}
		}
	}
	return out
}

// InspectUndo lists the writes that would put a rollout back ("" means everything that is held),
// in their order: Tunable and Target to write, Proposed the original, Current what was left there.
// Of a pair it names the member that was active.
func InspectUndo(dataDir, runDir, bootID, rollout string) ([]tune.Change, error) {
	state, err := readState(absolute(dataDir), runDir)
	if state == nil {
		return nil, err
	}
	out := []tune.Change{}
	open := state.Open()
	slices.Reverse(open)
	for _, ro := range open {
		if (rollout != "" && ro.ID != rollout) || (ro.Boot != bootID && !ro.Outlives()) {
			continue
		}
		for i := len(ro.Entries) - 1; i >= 0; i-- {
			if en := ro.Entries[i]; en.End == "" {
				out = append(out, undoing(en)...)
			}
		}
	}
	return out, err
}

// InspectFiles names the files that persist wrote for a rollout that is still held, below the root.
func InspectFiles(dataDir, runDir, rollout string) ([]string, error) {
	state, err := readState(absolute(dataDir), runDir)
	if state == nil {
		return nil, err
	}
	var out []string
	if ro := state.Rollouts[rollout]; ro != nil && !ro.Closed && ro.Outlives() {
		for _, f := range ro.Files {
			out = append(out, f.Path)
		}
	}
	return out, err
}

// Alive reports whether a guard works on this host now.
func Alive(runDir string) bool { return guardAlive(runDir) }

func undoing(en *journal.Entry) []tune.Change {
	main := tune.Change{Tunable: en.Tunable, Scope: en.How.Scope, Target: en.Target, Current: en.Last, Proposed: en.Old}
	if en.Pair != nil && zero(en.Old) && !zero(en.Pair.Value) {
		main = tune.Change{Tunable: en.Pair.Tunable, Scope: en.Pair.How.Scope, Target: en.Pair.Target, Current: "0", Proposed: en.Pair.Value}
	}
	out := []tune.Change{main}
	for _, a := range en.Also {
		if after, known := en.After[a.Tunable]; known && after != a.Value {
			out = append(out, tune.Change{Tunable: a.Tunable, Scope: a.How.Scope, Target: a.Target, Current: after, Proposed: a.Value})
		}
	}
	return out
}

// absolute makes one data folder have one name, whatever the working directory was.
func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return filepath.Clean(dir)
}
