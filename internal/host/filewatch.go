package host

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// maxMarks bounds the files watched at once, maxWrites what is remembered of each.
const maxMarks, maxWrites = 1024, 32

// FileWatch sees who writes the files of tunables that are no sysctls: below /sys, of control groups, of
// processes. It only listens: nobody waits for it. Its methods may be called from several goroutines.
type FileWatch struct {
	host  *Host
	group *os.File // of fanotify; its descriptor does not block

	mu     sync.Mutex
	marks  map[inode]*mark
	places map[string]inode // by name and target
	order  []string         // of places, oldest first
}

type inode struct{ dev, ino uint64 }

type mark struct {
	file   fileAccess
	since  time.Time
	writes []tune.Written
}

// WatchFiles begins to listen; nothing is watched until Hold. It fails where the kernel does not tell who
// writes (before Linux 5.15, or without CAP_SYS_ADMIN).
func (h *Host) WatchFiles() (*FileWatch, error) {
	if !h.real() {
		return nil, fmt.Errorf("watch files: %w: there is no kernel behind %s", tune.ErrUnsupported, h.root)
	}
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_REPORT_PIDFD, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK)
	switch {
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("watch files: %w: fanotify needs CAP_SYS_ADMIN: %w", tune.ErrNotPermitted, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return nil, fmt.Errorf("watch files: %w: fanotify does not tell processes before Linux 5.15: %w", tune.ErrUnsupported, err)
	case err != nil:
		return nil, fmt.Errorf("watch files: %w", err)
	}
	w := &FileWatch{host: h, group: os.NewFile(uintptr(fd), "fanotify"), marks: map[inode]*mark{}, places: map[string]inode{}}
	go w.listen()
	return w, nil
}

// Close ends it.
func (w *FileWatch) Close() error { return w.group.Close() }

// listen sleeps until the kernel tells of something. A fault of ours ends the watch, and nothing beside it.
func (w *FileWatch) listen() {
	defer func() { _ = recover() }()
	conn, err := w.group.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = conn.Read(func(fd uintptr) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for !w.drain(int(fd)) {
			w.mu.Unlock() // questions come between
			w.mu.Lock()
		}
		return false // there is no last event: it ends when the group is closed
	})
}

// IsFile reports whether a tunable is a file that this watch can tell of.
func IsFile(m tune.Method) bool {
	switch m {
	case tune.MethodSysfs, tune.MethodChoice, tune.MethodDebugfs, tune.MethodCgroup, tune.MethodProcess:
		return true
	}
	return false
}

// Hold watches the file of a tunable from now on.
func (w *FileWatch) Hold(t *tune.Tunable, target string) error {
	p, err := w.host.placeOf(t, target)
	if err != nil {
		return subject("watch", t, target, err)
	}
	fd, err := p.open(unix.O_RDONLY)
	if err != nil {
		return subject("watch", t, target, err)
	}
	defer unix.Close(fd)
	id, err := inodeOf(fd)
	if err != nil {
		return subject("watch", t, target, err)
	}
	conn, err := w.group.SyscallConn()
	if err != nil {
		return subject("watch", t, target, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.marks[id] == nil { // marked twice it would be told of once
		err = conn.Control(func(group uintptr) {
			if e := unix.FanotifyMark(int(group), unix.FAN_MARK_ADD, unix.FAN_MODIFY, fd, ""); e != nil {
				err = e
			}
		})
		if err != nil {
			return subject("watch", t, target, err)
		}
		w.marks[id] = &mark{file: fileAccess{t: t, target: target, place: p}, since: time.Now()}
	}
	w.remember(t.Instance(target)+" "+target, id)
	return nil
}

// remember lets go of the oldest file where there are too many; what stays marked is not listened to.
func (w *FileWatch) remember(key string, id inode) {
	if was, known := w.places[key]; known {
		if was != id {
			delete(w.marks, was)
		}
	} else {
		w.order = append(w.order, key)
	}
	w.places[key] = id
	if len(w.order) > maxMarks {
		delete(w.marks, w.places[w.order[0]])
		delete(w.places, w.order[0])
		w.order = w.order[1:]
	}
}

func inodeOf(fd int) (inode, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return inode{uint64(st.Dev), st.Ino}, err
}

// Writes gives what was seen of a tunable's file.
func (w *FileWatch) Writes(t *tune.Tunable, target string) tune.Seen {
	conn, err := w.group.SyscallConn()
	if err != nil {
		return tune.Seen{Why: "nobody watches any more"}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	whole := false
	if err := conn.Control(func(fd uintptr) { whole = w.drain(int(fd)) }); err != nil {
		return tune.Seen{Why: "nobody watches any more"}
	}
	if !whole {
		return tune.Seen{Why: "it is written faster than the watch can read"}
	}
	m := w.marks[w.places[t.Instance(target)+" "+target]]
	if m == nil {
		return tune.Seen{Why: "its file is not watched"}
	}
	return tune.Seen{Writes: append([]tune.Written{}, m.writes...), Since: m.since, Why: "through another mount of the file system nothing is seen"}
}
