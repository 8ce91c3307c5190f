package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"semantos/internal/tune"
)

// Recovered is what a starting guard found and did about a dead one.
type Recovered struct {
	Restored []Restored
	Notes    []string
}

// recoverAll brings the machine to where every rollout is committed or as before: it closes what an
// earlier boot left, and restores what a dead guard left under this data folder or another.
func (g *engine) recoverAll(copies []runCopy, dataDir, runDir string) (Recovered, error) {
	var out Recovered
	var closings []record
	var errs []error
	for _, c := range copies {
		if id := c.rollout(); c.dataDir == dataDir && g.state.rollouts[id] != nil && g.state.rollouts[id].Closed {
			closings = append(closings, c.ends()...)
			closings = append(closings, record{Kind: kindClosed, Rollout: id, Reason: g.state.rollouts[id].Reason})
		}
	}
	for _, ro := range g.state.open() {
		switch {
		case ro.Boot != g.boot && ro.Persisted:
			out.Notes = append(out.Notes, fmt.Sprintf("rollout %s is persisted: the boot applied it again", ro.ID))
		case ro.Boot != g.boot && !ro.outlives():
			closings = append(closings, record{Kind: kindClosed, Rollout: ro.ID, Reason: "the host was booted since"})
		}
	}
	if len(closings) > 0 {
		g.tell(false, closings...) // said again at the next start otherwise
	}
	for _, ro := range g.state.open() {
		errs = append(errs, g.dropDescriptors(ro))
	}
	restored, err := g.undoUncommitted("its guard died")
	out.Restored = restored
	errs = append(errs, err, g.unpersistHalf())
	released, err := g.releasePending()
	out.Restored, errs = append(out.Restored, released...), append(errs, err)
	for _, c := range copies {
		if c.dataDir == dataDir {
			continue
		}
		got, err := g.recoverOther(c, runDir)
		out.Restored = append(out.Restored, got...)
		errs = append(errs, err)
	}
	for _, r := range out.Restored {
		out.Notes = append(out.Notes, recoveryNote(r))
	}
	return out, errors.Join(errs...)
}

// unpersistHalf takes back the files of a persist that was not finished. Values come first: the files lie on a
// disk that may hang. Only what is committed is ever persisted.
func (g *engine) unpersistHalf() error {
	var errs []error
	for _, ro := range g.state.open() {
		if !ro.Persisting {
			continue
		}
		errs = append(errs, g.unpersist(ro))
		if ro.Boot != g.boot && !ro.outlives() {
			g.tell(false, record{Kind: kindClosed, Rollout: ro.ID, Reason: "the host was booted since"})
		}
	}
	return errors.Join(errs...)
}

// dropDescriptors ends what only a descriptor of the dead guard held.
func (g *engine) dropDescriptors(ro *heldRollout) error {
	var recs []record
	left := 0
	for _, en := range ro.Entries {
		if en.How.Method == tune.MethodDMALatency && en.End == "" {
			recs = append(recs, record{Kind: kindGone, Rollout: ro.ID, Tunable: en.Tunable, Target: en.Target,
				Reason: "it was held by a descriptor of a guard that has ended"})
		} else if en.End == "" {
			left++
		}
	}
	if len(recs) == 0 {
		return nil
	}
	if left == 0 {
		recs = append(recs, record{Kind: kindClosed, Rollout: ro.ID, Reason: recs[0].Reason})
	}
	g.tell(false, recs...) // found again at the next start otherwise
	return nil
}

// recoverOther restores what a guard with another data folder left uncommitted. Its own journal, where
// readable, says what was committed; the end is recorded there, or kept in the copy.
func (g *engine) recoverOther(c runCopy, runDir string) ([]Restored, error) {
	if len(c.records) == 0 || c.records[0].Boot != g.boot {
		return nil, g.disk.Remove(c.path) // nothing readable, or an earlier boot's: nothing stands
	}
	b, s := newBook(g.disk, c.dataDir, runDir)
	defer b.close()
	other := *g
	other.log = b
	other.state = newJournalState()
	own := loadState(s, []runCopy{c}, c.dataDir)
	for _, r := range c.records {
		if ro := own.rollouts[r.Rollout]; ro != nil {
			other.state.adopt(ro)
		}
	}
	if !other.uncommitted() {
		return nil, nil
	}
	out, err := other.undoUncommitted("its guard died; restored by a command with another data folder")
	return out, err
}

// rollout names the rollout a copy is of.
func (c runCopy) rollout() string {
	if len(c.records) == 0 {
		return ""
	}
	return c.records[0].Rollout
}

// adopt takes a rollout over from another fold.
func (s *journalState) adopt(ro *heldRollout) {
	if s.rollouts[ro.ID] == nil {
		s.rollouts[ro.ID] = ro
		s.order = append(s.order, ro.ID)
	}
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
func readState(dataDir, runDir string) (*journalState, error) {
	d := osDisk{}
	path := journalPath(dataDir)
	data, err := readTrusted(d, path)
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
	s := scanJournal(data)
	copies, err := readCopies(d, runDir)
	if errors.Is(err, tune.ErrNotPermitted) {
		copies, err = nil, nil // a user's own data folder: what root holds is not theirs to see
	}
	state := loadState(s, copies, dataDir)
	for _, c := range copies {
		if c.dataDir == dataDir || len(c.records) == 0 {
			continue
		}
		other := loadState(scanJournal(readOrEmpty(d, journalPath(c.dataDir))), []runCopy{c}, c.dataDir)
		for _, r := range c.records {
			if ro := other.rollouts[r.Rollout]; ro != nil {
				state.adopt(ro)
			}
		}
	}
	if s.badAt >= 0 {
		err = errors.Join(err, corruptError(path, s, runDir))
	}
	return state, errors.Join(err, lost)
}

func readOrEmpty(d disk, path string) []byte {
	data, err := readTrusted(d, path)
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
	return state.managed(bootID, !guardAlive(runDir)), err
}

// Elsewhere names the rollouts that Inspect finds under another data folder, and that folder: they are
// held on this host, but only a command with their folder rolls them back.
func Elsewhere(dataDir, runDir, bootID string) map[string]string {
	d := osDisk{}
	copies, err := readCopies(d, runDir)
	if err != nil {
		return nil // Inspect says so
	}
	out := map[string]string{}
	for _, c := range copies {
		if c.dataDir == "" || c.dataDir == absolute(dataDir) {
			continue
		}
		other := loadState(scanJournal(readOrEmpty(d, journalPath(c.dataDir))), []runCopy{c}, c.dataDir)
		for _, ro := range other.open() {
			if ro.ID == c.rollout() && (ro.Boot == bootID || ro.outlives()) {
				out[ro.ID] = c.dataDir
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
	open := state.open()
	slices.Reverse(open)
	for _, ro := range open {
		if (rollout != "" && ro.ID != rollout) || (ro.Boot != bootID && !ro.outlives()) {
			continue
		}
		for i := len(ro.Entries) - 1; i >= 0; i-- {
			if en := ro.Entries[i]; en.End == "" {
				out = append(out, en.undo()...)
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
	if ro := state.rollouts[rollout]; ro != nil && !ro.Closed && ro.outlives() {
		for _, f := range ro.Files {
			out = append(out, f.Path)
		}
	}
	return out, err
}

// Alive reports whether a guard works on this host now.
func Alive(runDir string) bool { return guardAlive(runDir) }

func (en *heldEntry) undo() []tune.Change {
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
