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
	}
	files, err := g.plannedFiles(ro)
	if err != nil {
		return nil, err
	}
	if err := g.promise(ctx, true, journal.Record{Kind: journal.Persisting, Rollout: rollout, Files: files, Actor: g.behalf(rollout)}); err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := g.disk.Replace(g.below(f.Path), []byte(f.Content), 0o644); err != nil {
			return nil, errors.Join(&tune.Error{Op: "persist", Subject: f.Path, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err),
				Hint: "the change holds until reboot; make the folder writable and persist again"}, g.unpersist(ro))
		}
	}
	if err := g.promise(ctx, true, journal.Record{Kind: journal.Persisted, Rollout: rollout, Files: files, Actor: g.behalf(rollout)}); err != nil {
		return nil, errors.Join(err, g.unpersist(ro))
	}
	return g.paths(files), g.did(audit.Persist, nil)
}

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
		f := journal.File{Path: fmt.Sprintf("%s/zz-semantos-%011d-%s.conf", kind.dir, g.now().Unix(), ro.ID),
			Content: head + strings.Join(kind.lines, "")}
		before, err := g.disk.ReadFile(g.below(f.Path))
		switch {
		case err == nil:
			f.Existed, f.Before = true, string(before)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("persist %s: %w: %w", f.Path, tune.ErrStorage, err)
		}
		files = append(files, f)
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

// unpersist puts the configuration files back as they were, where they are still as we wrote them.
func (g *engine) unpersist(ro *journal.Rollout) error {
	if !ro.Outlives() {
		return nil
	}
	var errs []error
	for _, f := range ro.Files {
		now, err := g.disk.ReadFile(g.below(f.Path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		case string(now) != f.Content && string(now) != f.Before && !refiled(ro, f.Path, string(now)):
			continue // somebody made it theirs
		case f.Existed:
			err = g.disk.Replace(g.below(f.Path), []byte(f.Before), 0o644)
		default:
			err = g.disk.Remove(g.below(f.Path))
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return &tune.Error{Op: "remove persisted files of", Subject: ro.ID, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err),
			Hint: "remove by hand: " + strings.Join(g.paths(ro.Files), " ")}
	}
	g.tell(true, journal.Record{Kind: journal.Unpersisted, Rollout: ro.ID, Actor: g.behalf(ro.ID)}) // the files are back; the record may follow later
	return nil
}

// refiled reports whether a release had already written the file anew.
func refiled(ro *journal.Rollout, path, content string) bool {
	return slices.ContainsFunc(ro.Refiled, func(f journal.File) bool { return f.Path == path && f.Content == content })
}

func (g *engine) below(path string) string { return filepath.Join("/", g.root, path) }

func (g *engine) paths(files []journal.File) []string {
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = g.below(f.Path)
	}
	return out
}
