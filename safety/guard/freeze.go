package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
	"semantos/safety/journal"
)

// A freeze is two small files: one in the data folder, which outlives a boot, and one in the run folder,
// which every command of the host sees whatever its data folder. That a file is there is what freezes;
// what it says is for people. Without a guard they are written by whoever may.

const freezeName = "frozen"

// freezeWait bounds what the end of a freeze waits for a busy disk: the file in the run folder stands by
// then, and holds until the next boot.
const freezeWait = 3 * time.Second

// Freeze writes both files. Where one cannot be written the other still freezes, beside the error.
func Freeze(dataDir, runDir string, f tune.Freeze) error {
	f = over(readFreeze(journal.HostDisk{}, filepath.Join(runDir, freezeName)), f)
	return errors.Join(freezeRun(journal.HostDisk{}, runDir, f), freezeData(journal.HostDisk{}, absolute(dataDir), f))
}

func freezeRun(d journal.Disk, runDir string, f tune.Freeze) error {
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return journal.RunDirError(runDir, err)
	}
	path := filepath.Join(runDir, freezeName)
	if err := writeFreeze(d, path, f); err != nil {
		return journal.RunDirError(path, err)
	}
	return nil
}

func freezeData(d journal.Disk, dataDir string, f tune.Freeze) error {
	path := filepath.Join(dataDir, freezeName)
	return freezeDataError(path, inTime(func() error { return writeFreeze(d, path, over(readFreeze(d, path), f)) }))
}

// longestWhy bounds the reasons of one freeze together, in bytes.
const longestWhy = 4 << 10

// over is a freeze said while another stands: author, time and reason of the first stay, for whoever wanted it
// has not taken it back. A reason of its own is added.
func over(first *tune.Freeze, f tune.Freeze) tune.Freeze {
	if first == nil || first.At.IsZero() { // none, or one that cannot be read
		return f
	}
	out, why := *first, f.Why
	if why == "" || strings.Contains(out.Why, why) || len(out.Why)+len(why) > longestWhy {
		return out
	}
	if f.By == out.By && strings.HasPrefix(why, out.Why) { // it says the first one's already
		out.Why = why
		return out
	}
	if f.By != out.By {
		why = f.By + ": " + why
	}
	out.Why = strings.TrimPrefix(out.Why+"; "+why, "; ")
	return out
}

func freezeDataError(path string, err error) error {
	if err == nil {
		return nil
	}
	hint := "it is frozen until the next boot; make DATA_DIR writable and freeze again to outlive one"
	if errors.Is(err, errLate) {
		hint = "it is frozen until the next boot; check the disk and freeze again to outlive one"
	}
	return &tune.Error{Op: "freeze", Subject: path, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err), Hint: hint}
}

func writeFreeze(d journal.Disk, path string, f tune.Freeze) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return d.Replace(path, append(data, '\n'), 0o600)
}

// Thaw removes both files, and that of the data folder whose command said it. Where a data folder does not answer
// all stays frozen: what may still stand there is not taken back by half.
func Thaw(dataDir, runDir string) error {
	d, run := journal.HostDisk{}, filepath.Join(runDir, freezeName)
	err := inTime(func() error { return thawData(d, absolute(dataDir), readFreeze(d, run)) })
	if errors.Is(err, errLate) {
		return &tune.Error{Op: "thaw", Subject: filepath.Join(absolute(dataDir), freezeName), Err: fmt.Errorf("%w: %w", tune.ErrStorage, err),
			Hint: "it stays frozen; check the disk of DATA_DIR and say it again"}
	}
	return errors.Join(err, unfreeze(d, run))
}

// inTime waits freezeWait for work on a disk that may hang, which then goes on without us.
func inTime(work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-time.After(freezeWait):
		return errLate
	}
}

func thaw(d journal.Disk, dataDir, runDir string) error {
	path := filepath.Join(runDir, freezeName)
	return errors.Join(thawData(d, absolute(dataDir), readFreeze(d, path)), unfreeze(d, path))
}

// thawData removes the files of the data folders; host is the freeze of the run folder, if there is one.
func thawData(d journal.Disk, dataDir string, host *tune.Freeze) error {
	paths := []string{filepath.Join(dataDir, freezeName)}
	for _, f := range []*tune.Freeze{readFreeze(d, paths[0]), host} {
		if f != nil && f.DataDir != "" {
			paths = append(paths, filepath.Join(f.DataDir, freezeName))
		}
	}
	var errs []error
	for _, path := range paths {
		errs = append(errs, unfreeze(d, path))
	}
	return errors.Join(errs...)
}

func unfreeze(d journal.Disk, path string) error {
	if _, err := d.ReadFile(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := d.Remove(path)
	if err == nil {
		return nil
	}
	sentinel := tune.ErrStorage
	if errors.Is(err, fs.ErrPermission) {
		sentinel = tune.ErrNotPermitted
	}
	return &tune.Error{Op: "thaw", Subject: path, Err: fmt.Errorf("%w: %w", sentinel, err),
		Hint: "remove the file as root; until then everything stays frozen"}
}

// Frozen says whether a freeze stands for this data folder or for the host, and whose; nil for none. A
// file that cannot be read or understood freezes all the same, and so does a disk that does not answer.
func Frozen(dataDir, runDir string) *tune.Freeze {
	found := make(chan *tune.Freeze, 1)
	if err := inTime(func() error {
		found <- frozen(journal.HostDisk{}, absolute(dataDir), runDir)
		return nil
	}); err != nil {
		return &tune.Freeze{By: "somebody", Why: dataDir + " does not answer, which may say so"}
	}
	return <-found
}

func frozen(d journal.Disk, dataDir, runDir string) *tune.Freeze {
	for _, dir := range []string{runDir, dataDir} {
		if dir == "" {
			continue
		}
		if f := readFreeze(d, filepath.Join(dir, freezeName)); f != nil {
			return f
		}
	}
	return nil
}

// readFreeze gives nil where there is no file, and where it is another user's to see: then nothing here
// could be changed either.
func readFreeze(d journal.Disk, path string) *tune.Freeze {
	data, err := d.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	var f tune.Freeze
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil || f.By == "" {
		return &tune.Freeze{By: "somebody", Why: path + " is there and does not say why"}
	}
	return &f
}

func frozenError(op, rollout string, f *tune.Freeze) error {
	return &tune.Error{Op: op, Subject: rollout, Err: *f, Hint: "semantos freeze --off lets changes be made again"}
}

// mayChange refuses a change while the host is frozen, or something is to be put back before it.
func (g *engine) mayChange(ctx context.Context, op, rollout string) error {
	if f := g.frozen(ctx, freezeAsk); f != nil {
		return frozenError(op, rollout, f)
	}
	if ctx.Err() != nil { // the data folder may not have been heard
		return fmt.Errorf("%s %s: %w", op, rollout, context.Cause(ctx))
	}
	return nil
}

// frozen is what stands against every change.
// It is asked while values stand, so the data folder, whose disk may hang, is looked at from beside and waited
// for a moment only: a change would wait for that disk anyway.
func (g *engine) frozen(ctx context.Context, wait time.Duration) *tune.Freeze {
	if f := frozen(g.disk, "", g.run); f != nil {
		return f
	}
	late := time.After(wait)
	for {
		asked := g.asked
		if asked == nil {
			asked = make(chan *tune.Freeze, 1)
			go func(d journal.Disk, dir string) { asked <- frozen(d, dir, "") }(g.disk, g.data)
		}
		old := g.asked != nil
		g.asked = asked
		select {
		case f := <-asked:
			if g.asked = nil; !old {
				return f
			}
		case <-late:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// freezeAsk is far more than a disk in order takes to say that a file is not there. The look that is taken again
// and again while values stand, and the words of an error, are worth less: a restore may wait behind them.
const freezeAsk, freezeGlance = 100 * time.Millisecond, 10 * time.Millisecond

// freeze forbids changes, puts back what is under way, and only then waits for the disk.
func (g *engine) freeze(ctx context.Context, f tune.Freeze) ([]Restored, error) {
	f.At, f.DataDir = g.now().UTC(), g.data
	f = over(readFreeze(g.disk, filepath.Join(g.run, freezeName)), f)
	runErr := freezeRun(g.disk, g.run, f)
	restored, err := g.undoUncommitted(f.Error())
	ctx, cancel := context.WithTimeout(ctx, freezeWait)
	defer cancel()
	path := filepath.Join(g.data, freezeName)
	dataErr := g.onDisk(ctx, g.files.freeze, func() error { return writeFreeze(g.disk, path, over(readFreeze(g.disk, path), f)) }, nil)
	return restored, errors.Join(err, runErr, freezeDataError(path, dataErr))
}

// thaw lets changes be made again. The file of the run folder goes last, and stays where the disk is late: a
// freeze that came meanwhile must not lose it.
func (g *engine) thaw(ctx context.Context) error {
	path := filepath.Join(g.run, freezeName)
	host := readFreeze(g.disk, path)
	err := g.onDisk(ctx, g.files.freeze, func() error { return thawData(g.disk, g.data, host) }, nil)
	if errors.Is(err, errLate) {
		return &tune.Error{Op: "thaw", Subject: g.data, Err: err, Hint: "everything stays frozen; thaw again when the disk of DATA_DIR answers"}
	}
	return errors.Join(err, unfreeze(g.disk, path))
}

// obeyFreeze puts back what is under way when somebody froze the host from outside.
func (g *engine) obeyFreeze() {
	if !g.uncommitted() {
		return
	}
	if f := g.frozen(context.Background(), freezeGlance); f != nil {
		g.actor = f.By
		_, _ = g.undoUncommitted(f.Error()) // what failed stays open, and is tried again at the end
		g.sayFreeze(f.By, f.Why, true)
	}
}

// sayFreeze logs who froze or thawed the host, and why.
func (g *engine) sayFreeze(actor, why string, on bool) {
	kind := audit.Thawed
	if on {
		kind = audit.Frozen
	}
	g.say(audit.Entry{Kind: kind, Actor: actor, Detail: why}.Clip())
}

// adoptFreeze lets the whole host know of a freeze that outlived the boot.
func (g *engine) adoptFreeze() {
	here := g.frozen(context.Background(), freezeAsk)
	if here != nil && readFreeze(g.disk, filepath.Join(g.run, freezeName)) == nil {
		_ = freezeRun(g.disk, g.run, *here) // it stands here all the same
	}
}
