package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// release lets go of some tunables of a committed rollout: their originals are put back, what was persisted
// is written without them, and the rest stands. Once the promise is on disk it is carried through, by this
// guard or by the next one; before that nothing has happened.
func (g *engine) release(ctx context.Context, rollout string, named []tune.Change, actor string) ([]Restored, error) {
	ro, err := g.held(rollout)
	if err != nil {
		return nil, err
	}
	switch {
	case ro.Closed:
		return nil, g.endedError(ro)
	case !ro.Committed:
		return nil, &tune.Error{Op: "release from", Subject: rollout, Err: tune.ErrUsage, Hint: "only a committed rollout goes on with less"}
	case ro.Boot != g.boot && !ro.Outlives():
		return nil, &tune.Error{Op: "release from", Subject: rollout, Err: fmt.Errorf("%w: the host was booted since", tune.ErrStale),
			Hint: "'semantos rollback' ends it as a whole"}
	case ro.Refiled != nil: // an earlier one has its files still to write: they are not known any more once these are
		if _, err := g.letGo(ctx, ro); err != nil {
			return nil, err
		}
		return g.release(ctx, rollout, named, actor)
	}
	entries, err := namedOf(ro, named)
	if err != nil {
		return nil, err
	}
	for _, en := range entries {
		if up := g.state.Above(en); up != nil && !g.state.Rollouts[up.Rollout].Committed {
			return nil, &tune.Error{Op: "release", Subject: en.Tunable, Err: fmt.Errorf("%w: rollout %s tries it", tune.ErrConflict, up.Rollout),
				Hint: "wait for it to end"}
		}
	}
	var files []journal.File
	if ro.Persisted {
		if files, err = g.filesWithout(ro, entries); err != nil {
			return nil, err
		}
	}
	recs := make([]journal.Record, len(entries))
	for i, en := range entries {
		recs[i] = journal.Record{Kind: journal.Releasing, Rollout: rollout, Tunable: en.Tunable, Target: en.Target, Files: files, Actor: actor}
	}
	if err := g.promise(ctx, true, recs...); err != nil {
		// A slow disk may still take the promise: it is withdrawn behind it, in order.
		g.tell(false, journal.Record{Kind: journal.Retained, Rollout: rollout})
		return nil, err
	}
	return g.letGo(ctx, ro)
}

// namedOf finds the entries named, of which at least one other must stay.
func namedOf(ro *journal.Rollout, named []tune.Change) ([]*journal.Entry, error) {
	var out []*journal.Entry
	for _, c := range named {
		en := ro.Entry(c.Tunable, c.Target)
		switch {
		case c.Proposed != "" || c.Current != "":
			return nil, &tune.Error{Op: "release", Subject: c.Tunable, Err: fmt.Errorf("%w: a value goes with it", tune.ErrUsage), Hint: "name tunable and target alone"}
		case en == nil || en.End != "" || slices.Contains(out, en):
			return nil, &tune.Error{Op: "release", Subject: c.Tunable + " on " + c.Target, Err: fmt.Errorf("%w: rollout %s does not hold it", tune.ErrUnknown, ro.ID),
				Hint: "'semantos status' lists what it holds"}
		}
		out = append(out, en)
	}
	left := slices.ContainsFunc(ro.Entries, func(en *journal.Entry) bool { return en.End == "" && !slices.Contains(out, en) })
	if !left {
		return nil, &tune.Error{Op: "release from", Subject: ro.ID, Err: fmt.Errorf("%w: nothing would be left of it", tune.ErrUsage),
			Hint: "'semantos rollback " + ro.ID + "' ends it as a whole"}
	}
	return out, nil
}

// letGo carries a promised release through. Values come first: they never wait for the disk. What fails
// stays promised, and is tried again at the next start; files that are late are told of when they are written.
func (g *engine) letGo(ctx context.Context, ro *journal.Rollout) ([]Restored, error) {
	var todo []*journal.Entry
	for _, en := range ro.Entries {
		if en.Releasing && en.End == "" {
			todo = append(todo, en)
		}
	}
	out, recs := g.putBackSome(todo, journal.Restored)
	g.tell(false, recs...)
	err := failures(out)
	files, refiled, actor := ro.Files, ro.Refiled, g.behalf(ro.ID)
	done := func(fileErr error) {
		if err == nil && fileErr == nil && releasing(ro) { // not told by what was late before it
			g.tell(true, journal.Record{Kind: journal.Released, Rollout: ro.ID, Files: refiled, Actor: actor})
		}
	}
	var fileErr error
	if len(refiled) > 0 {
		fileErr = g.onDisk(ctx, g.files.boot, func() error { return refile(g.disk, g.root, files, refiled) }, done)
	}
	if fileErr != nil {
		hint := "the next boot would set what was put back now: make the folder writable; the next command tries again"
		if errors.Is(fileErr, errLate) {
			hint = "until their disk answers the next boot would set what was put back now: check it"
		}
		fileErr = &tune.Error{Op: "persist", Subject: ro.ID, Err: fileErr, Hint: hint}
	} else {
		done(nil)
	}
	return out, errors.Join(err, fileErr)
}

// refile writes what is persisted anew, where it is still as we wrote it.
func refile(d journal.Disk, root string, files, refiled []journal.File) error {
	var errs []error
	for _, f := range refiled {
		now, err := d.ReadFile(below(root, f.Path))
		switch {
		case string(now) == f.Content:
			continue
		case err != nil || !standsIn(files, f.Path, string(now)):
			continue // somebody made it theirs, or took it away
		}
		if err := d.Replace(below(root, f.Path), []byte(f.Content), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: %w", f.Path, tune.ErrStorage, err))
		}
	}
	return errors.Join(errs...)
}

func releasing(ro *journal.Rollout) bool {
	return slices.ContainsFunc(ro.Entries, func(en *journal.Entry) bool { return en.Releasing })
}

// filesWithout plans what is persisted with some entries left out. A file that is left without a line
// keeps its heading, so that a rollback still knows it.
func (g *engine) filesWithout(ro *journal.Rollout, gone []*journal.Entry) ([]journal.File, error) {
	rest := *ro
	rest.Entries = slices.DeleteFunc(slices.Clone(ro.Entries), func(en *journal.Entry) bool { return slices.Contains(gone, en) })
	planned, err := g.plannedFiles(&rest)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(ro.Files)
	for i, f := range out {
		out[i].Content = fileHead(ro.ID)
		for _, p := range planned {
			if folderOf(p.Path) == folderOf(f.Path) {
				out[i].Content = p.Content
			}
		}
	}
	return out, nil
}

// releasePending finishes what a dead guard had promised.
func (g *engine) releasePending(ctx context.Context) ([]Restored, error) {
	var out []Restored
	var errs []error
	for _, ro := range g.state.Open() {
		if !releasing(ro) {
			continue
		}
		got, err := g.letGo(ctx, ro)
		out, errs = append(out, got...), append(errs, err)
	}
	return out, errors.Join(errs...)
}
