package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"semantos/internal/tune"
	"semantos/safety/audit"
	"semantos/safety/journal"
)

// persist writes what a committed rollout holds where the next boot reads it: sysctl.d for sysctls,
// tmpfiles.d for files below /sys. systemd reads these folders in the order of names, so "zz-" comes
// after the customary 99-sysctl.conf, and the time makes a younger rollout of ours win over an older.
// (procps' own "sysctl --system" reads /etc/sysctl.conf after all of them; systemd does not read it.)
func (g *engine) persist(ctx context.Context, rollout string) ([]string, error) {
	ro, err := g.held(rollout)
	if err != nil {
		return nil, err
	}
	switch {
	case ro.Closed:
		return nil, g.endedError(ro)
	case !ro.Committed:
		return nil, &tune.Error{Op: "persist", Subject: rollout, Err: tune.ErrUsage, Hint: "only what is committed can be persisted"}
	case ro.Persisted:
		return g.paths(ro.Files), nil
	case ro.Persisting: // an earlier one was not finished: its files are no longer known once these are
		if err := g.unpersist(ctx, ro, nil); err != nil {
			return nil, err
		}
		return g.persist(ctx, rollout)
	}
	files, err := g.plannedFiles(ro)
	if err == nil {
		err = g.readBefore(ctx, ro, files)
	}
	if err != nil {
		return nil, err
	}
	if err := g.promise(ctx, true, journal.Record{Kind: journal.Persisting, Rollout: rollout, Files: files, Actor: g.behalf(rollout)}); err != nil {
		return nil, err
	}
	err = g.onDisk(ctx, g.files.boot, func() error { return writeFiles(g.disk, g.root, files) }, nil)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("persist %s: %w", rollout, context.Cause(ctx)) // it was in time, but something is to be put back now
	}
	if err == nil {
		err = g.promise(ctx, true, journal.Record{Kind: journal.Persisted, Rollout: rollout, Files: files, Actor: g.behalf(rollout)})
	}
	if err != nil { // taken back behind the write, also where that is late
		return nil, errors.Join(persistError(rollout, err), g.unpersist(ctx, ro, nil))
	}
	return g.paths(files), g.did(audit.Persist, nil)
}

func persistError(subject string, err error) error {
	return &tune.Error{Op: "persist", Subject: subject, Err: err,
		Hint: "the change holds until reboot; make the folder writable, or wait for its disk, and persist again"}
}

// writeFiles puts configuration files where the next boot reads them.
func writeFiles(d journal.Disk, root string, files []journal.File) error {
	for _, f := range files {
		if err := d.Replace(below(root, f.Path), []byte(f.Content), 0o644); err != nil {
			return fmt.Errorf("%s: %w: %w", f.Path, tune.ErrStorage, err)
		}
	}
	return nil
}

// readBefore notes what stands where the files will.
func (g *engine) readBefore(ctx context.Context, ro *journal.Rollout, files []journal.File) error {
	err := g.onDisk(ctx, g.files.boot, func() error {
		for i := range files {
			before, err := g.disk.ReadFile(below(g.root, files[i].Path))
			switch {
			case err == nil:
				files[i].Existed, files[i].Before = true, string(before)
			case !errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("%s: %w: %w", files[i].Path, tune.ErrStorage, err)
			}
		}
		return nil
	}, nil)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return persistError(ro.ID, err)
	}
	return nil
}

// plannedFiles spells out what would be persisted of a rollout now. It reads nothing.
func (g *engine) plannedFiles(ro *journal.Rollout) ([]journal.File, error) {
	var sysctl, tmpfiles []string
	for _, en := range ro.Entries {
		if en.End != "" {
			continue
		}
		if reason := g.cannotPersist(en); reason != "" {
			return nil, &tune.Error{Op: "persist", Subject: en.Tunable + " on " + en.Target,
				Err: fmt.Errorf("%w: %s", tune.ErrUnsupported, reason), Hint: "it holds until rollback or reboot; nothing was written"}
		}
		path := en.How.Tunable().PathOf(en.Target)
		switch en.How.Method {
		case tune.MethodSysctl:
			sysctl = append(sysctl, fmt.Sprintf("%s = %s\n", sysctlKey(path), en.Last))
		case tune.MethodDebugfs:
			tmpfiles = append(tmpfiles, fmt.Sprintf("w /sys/kernel/debug/%s - - - - %s\n", escapeTmpfiles(path), en.Last))
		default:
			tmpfiles = append(tmpfiles, fmt.Sprintf("w /sys/%s - - - - %s\n", escapeTmpfiles(path), en.Last))
		}
	}
	head := fileHead(ro.ID)
	var files []journal.File
	for _, kind := range []struct {
		dir   string
		lines []string
	}{{"/etc/sysctl.d", sysctl}, {"/etc/tmpfiles.d", tmpfiles}} {
		if len(kind.lines) == 0 {
			continue
		}
		files = append(files, journal.File{Path: fmt.Sprintf("%s/zz-semantos-%011d-%s.conf", kind.dir, g.now().Unix(), ro.ID),
			Content: head + strings.Join(kind.lines, "")})
	}
	return files, nil
}

func fileHead(rollout string) string {
	return fmt.Sprintf("# Written by semantos, rollout %s; 'semantos rollback %s' removes it.\n", rollout, rollout)
}

func folderOf(file string) string { return path.Dir(file) }

// cannotPersist gives the reason why an entry has no place where the next boot would find it.
func (g *engine) cannotPersist(en *journal.Entry) string {
	switch en.How.Scope {
	case tune.ScopeNetns:
		if g.initNetns == "" || en.Target != g.initNetns {
			return "a network namespace other than the machine's own is made anew after a boot"
		}
	case tune.ScopeCgroup:
		return "a cgroup is made anew after a boot: set it in its unit (systemctl set-property)"
	case tune.ScopeProcess, tune.ScopeSocket:
		return fmt.Sprintf("a %s does not outlive a boot: set it in the program's own configuration", en.How.Scope)
	}
	switch en.How.Method {
	case tune.MethodSysctl, tune.MethodSysfs, tune.MethodChoice, tune.MethodDebugfs:
		return ""
	case tune.MethodDMALatency:
		return "it is held by an open descriptor: keep 'semantos serve' running"
	}
	return fmt.Sprintf("no configuration file sets a %s", en.How.Method)
}

// sysctlKey spells a path as sysctl.d wants it: with dots, or with slashes when a segment has dots.
func sysctlKey(path string) string {
	if strings.Contains(path, ".") {
		return path
	}
	return strings.ReplaceAll(path, "/", ".")
}

// escapeTmpfiles protects what tmpfiles.d would expand.
func escapeTmpfiles(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// unpersist puts the configuration files back as they were. Where nobody waits for the disk that long, they and
// their record follow, and then late, which may be nil and may only tell records.
func (g *engine) unpersist(ctx context.Context, ro *journal.Rollout, late func()) error {
	if !ro.Outlives() {
		return nil
	}
	files, refiled, actor := ro.Files, ro.Refiled, g.behalf(ro.ID)
	done := func() {
		if ro.Outlives() { // not told by what was late before it
			g.tell(true, journal.Record{Kind: journal.Unpersisted, Rollout: ro.ID, Actor: actor}) // the files are back; the record may follow later
		}
	}
	err := g.onDisk(ctx, g.files.boot, func() error { return takeBack(g.disk, g.root, files, refiled) }, func(err error) {
		if err != nil {
			return // listed as persisted, or taken back by the next guard
		}
		done()
		if late != nil {
			late()
		}
	})
	switch {
	case errors.Is(err, errLate):
		return &tune.Error{Op: "remove persisted files of", Subject: ro.ID, Err: err,
			Hint: "they are removed when their disk answers; 'semantos rollback " + ro.ID + "' waits for it: " + strings.Join(g.paths(files), " ")}
	case err != nil:
		return &tune.Error{Op: "remove persisted files of", Subject: ro.ID, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err),
			Hint: "remove by hand: " + strings.Join(g.paths(files), " ")}
	}
	done()
	return nil
}

// takeBack puts configuration files back as they were, where they are still as we wrote them.
func takeBack(d journal.Disk, root string, files, refiled []journal.File) error {
	var errs []error
	for _, f := range files {
		path := below(root, f.Path)
		now, err := d.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		case string(now) != f.Content && string(now) != f.Before && !standsIn(refiled, f.Path, string(now)):
			continue // somebody made it theirs
		case f.Existed:
			err = d.Replace(path, []byte(f.Before), 0o644)
		default:
			err = d.Remove(path)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// standsIn reports whether one of these files is to read so: of a release's, that it had been written already.
func standsIn(files []journal.File, path, content string) bool {
	return slices.ContainsFunc(files, func(f journal.File) bool { return f.Path == path && f.Content == content })
}

func below(root, path string) string { return filepath.Join("/", root, path) }

func (g *engine) paths(files []journal.File) []string {
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = below(g.root, f.Path)
	}
	return out
}
