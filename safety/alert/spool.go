package alert

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The spool keeps alerts that were not delivered, in a folder of its own, one file each. It is bounded: the
// oldest go first. The folder may belong to the user serve runs as while root writes into it: nothing is
// opened out of it, nothing of somebody's making is overwritten, and only what was just made changes owner.

const (
	spoolDir  = "alerts"
	maxSpool  = 500
	maxOne    = 64 << 10
	spoolLock = spoolDir + "/lock"
)

// item is one alert on its way.
type item struct {
	name  string          // in the spool; "" while it could not be written
	Body  json.RawMessage `json:"alert"`
	ID    string          `json:"id"`
	First time.Time       `json:"first"`
	Next  time.Time       `json:"next"`
	Tries int             `json:"tries"`
	Last  string          `json:"last_error,omitempty"`
}

type spool struct {
	root *os.Root
	uid  int // owner of the folder, where root writes for somebody else; else -1
	gid  int
	lock *os.File
}

// openSpool makes the spool's folder, owned as the one above is.
func openSpool(dir string) (*spool, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &spool{root: root, uid: -1, gid: -1}
	if info, err := root.Stat("."); err == nil && os.Geteuid() == 0 {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			s.uid, s.gid = int(st.Uid), int(st.Gid)
		}
	}
	if err := root.Mkdir(spoolDir, 0o700); err == nil {
		made, err := root.OpenFile(spoolDir, os.O_RDONLY|unix.O_DIRECTORY, 0)
		if err == nil {
			err = errors.Join(s.own(made), made.Close())
		}
		if err != nil {
			return nil, errors.Join(err, root.Close())
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, errors.Join(err, root.Close())
	}
	return s, nil
}

// own gives away what was just made, by its descriptor: its name may be another's by now.
func (s *spool) own(made *os.File) error {
	if s.uid < 0 {
		return nil
	}
	return made.Chown(s.uid, s.gid)
}

// claim takes the right to deliver: of two processes only one sends. The kernel drops it with the process.
func (s *spool) claim() bool {
	if s.lock != nil {
		return true
	}
	f, err := s.root.OpenFile(spoolLock, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = s.own(f)
	} else if errors.Is(err, fs.ErrExist) {
		f, err = s.root.OpenFile(spoolLock, os.O_RDWR|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return false
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // another one delivers
		return false
	}
	s.lock = f
	return true
}

func (s *spool) close() {
	if s.lock != nil {
		_ = s.lock.Close() // which gives the claim back
	}
	_ = s.root.Close() // nothing is buffered
}

// put writes or rewrites an item, all or nothing.
func (s *spool) put(it *item) error {
	data, err := json.Marshal(it)
	if err != nil {
		return fmt.Errorf("encode alert: %w", err)
	}
	name := it.name
	if name == "" {
		name = fmt.Sprintf("%020d-%.16s.json", it.First.UnixNano(), it.ID)
	}
	tmp := spoolDir + "/." + name
	_ = s.root.Remove(tmp) // of a crash; else absent
	f, err := s.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.own(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.root.Rename(tmp, spoolDir+"/"+name)
	}
	if err != nil {
		_ = s.root.Remove(tmp) // it takes room where there is none
		return err
	}
	it.name = name
	return nil
}

func (s *spool) remove(it *item) error {
	if it.name == "" {
		return nil
	}
	err := s.root.Remove(spoolDir + "/" + it.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// names lists what waits, oldest first.
func (s *spool) names() ([]string, error) {
	dir, err := s.root.Open(spoolDir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // read only
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") && e.Type().IsRegular() {
			out = append(out, e.Name())
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out, nil
}

// get reads one; what is no alert of ours is an error, and is removed by the caller.
func (s *spool) get(name string) (*item, error) {
	f, err := s.root.OpenFile(spoolDir+"/"+name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe is not waited for
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	data, err := io.ReadAll(io.LimitReader(f, maxOne+1))
	if err != nil {
		return nil, err
	}
	it := &item{}
	if len(data) > maxOne || json.Unmarshal(data, it) != nil || it.ID == "" || len(it.Body) == 0 {
		return nil, errNoAlert
	}
	it.name = name
	return it, nil
}

var errNoAlert = errors.New("it is no alert")
