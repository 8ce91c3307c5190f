package kb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"semantos/internal/tune"
)

// source is one catalogue file: what it says and where it came from.
type source struct {
	name     string // as printed in problems
	data     []byte
	embedded bool
}

// maxFile bounds an operator's file: a catalogue of every kernel switch fits ten times.
const maxFile = 4 << 20

func embeddedSources(fsys fs.FS, pattern string) ([]source, error) {
	names, err := fs.Glob(fsys, pattern)
	if err != nil {
		return nil, fmt.Errorf("list embedded files: %w", err)
	}
	var out []source
	for _, n := range names {
		data, err := fs.ReadFile(fsys, n)
		if err != nil {
			return nil, fmt.Errorf("read embedded file: %w", err)
		}
		out = append(out, source{name: path.Join("kb", n), data: data, embedded: true})
	}
	return out, nil
}

// extraSources reads the *.yaml of an operator's folder: of the folder itself when sub is ".", else of
// that sub-folder, which may be absent. Who may write there could add tunables that root then writes,
// so folder and files must belong to root and be closed to others.
func extraSources(dir, sub string) ([]source, Problems) {
	folder := filepath.Join(dir, sub)
	if sub != "." {
		if _, err := os.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	if p, bad := trusted(folder, true); bad {
		return nil, Problems{p}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, Problems{{File: folder, Field: "--catalog-dir", What: err.Error(), Err: tune.ErrUsage}}
	}
	var out []source
	var problems Problems
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		s, p, bad := readTrusted(filepath.Join(folder, e.Name()))
		if bad {
			problems = append(problems, p)
			continue
		}
		out = append(out, s)
	}
	return out, problems
}

func readTrusted(file string) (source, Problem, bool) {
	if p, bad := trusted(file, false); bad {
		return source{}, p, true
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return source{}, Problem{File: file, Field: "file", What: err.Error(), Err: tune.ErrUsage}, true
	}
	if len(data) > maxFile {
		return source{}, Problem{File: file, Field: "file", What: fmt.Sprintf("larger than %d bytes", maxFile)}, true
	}
	return source{name: file, data: data}, Problem{}, false
}

// trusted checks kind, owner and mode of a folder or file, without following a link.
func trusted(name string, dir bool) (Problem, bool) {
	refuse := func(err error, what string, args ...any) (Problem, bool) {
		return Problem{File: name, Field: "--catalog-dir", What: fmt.Sprintf(what, args...), Err: err}, true
	}
	st, err := os.Lstat(name)
	if err != nil {
		return refuse(tune.ErrUsage, "%v: give a folder that exists", err)
	}
	if dir != st.IsDir() || !dir && !st.Mode().IsRegular() {
		return refuse(tune.ErrUsage, "is a %s; folders and plain files only, no links", st.Mode().Type())
	}
	owner := -1
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		owner = int(sys.Uid)
	}
	if owner != 0 && owner != os.Geteuid() || os.Geteuid() == 0 && owner != 0 {
		return refuse(tune.ErrNotPermitted, "belongs to uid %d: chown root %s", owner, name)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return refuse(tune.ErrNotPermitted, "is writable by others (mode %04o): chmod go-w %s", st.Mode().Perm(), name)
	}
	return Problem{}, false
}
