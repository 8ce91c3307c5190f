package host

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// Kill is a process the kernel killed because a control group had reached its own memory limit, not
// because the host ran out.
type Kill struct {
	Seq   uint64 // of its line in the kernel log: later ones are larger
	Group string // whose limit it was, below the root of the memory hierarchy
	Pid   int    // as the first pid namespace counts
	Comm  string
}

// mostKills is how many of the newest are told: a container that dies every second fills the log.
const mostKills = 256

// Kills reads from the kernel log which processes were killed at the limit of a control group, oldest
// first, as far as the log still goes back. No counter tells these from a host without memory: vmstat and
// the group's own oom_kill count both (mm/oom_kill.c), and the group may be gone by the time one looks.
// A kill of which the log does not say whose limit it was (a host without memory, a line held back by the
// kernel's rate limit, kernels before 5.0) is absent.
func (h *Host) Kills() ([]Kill, error) {
	if h.aid != nil {
		return h.aid.Kills()
	}
	path := h.Path("/dev/kmsg")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &tune.Error{Op: "read kernel log", Subject: path, Err: errors.Join(tune.ErrNoData, err)}
	}
	defer unix.Close(fd)
	var log killLog
	buf := make([]byte, 8192) // the kernel gives one record a read, and never a longer one
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EPIPE): // EPIPE: the oldest were overwritten meanwhile
			continue
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0:
			return log.kills, nil
		case err != nil:
			return nil, &tune.Error{Op: "read kernel log", Subject: path, Err: errors.Join(tune.ErrNoData, err)}
		}
		for line := range strings.Lines(string(buf[:n])) {
			log.read(line)
		}
	}
}

// killLog follows the kernel's lines about one event. Events do not mix: the kernel holds a lock.
type killLog struct {
	kills   []Kill
	group   string // whose limit the event is about; "" not known, or nobody's
	victim  int
	members bool // the others of the victim's group follow
}

// read takes one line, "priority,sequence,time,flags;text".
func (l *killLog) read(line string) {
	head, text, ok := strings.Cut(line, ";")
	fields := strings.Split(head, ",")
	if !ok || len(fields) < 3 {
		return
	}
	priority, err := strconv.ParseUint(fields[0], 10, 32)
	seq, err2 := strconv.ParseUint(fields[1], 10, 64)
	if err != nil || err2 != nil || priority > 7 { // beyond 7 a program wrote it, not the kernel
		return
	}
	text = strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(text, "oom-kill:constraint="):
		l.begin(text)
	case strings.HasPrefix(text, "Tasks in ") && strings.HasSuffix(text, "memory.oom.group set"):
		l.members = l.group != ""
	case strings.Contains(text, "emory: Killed process "):
		l.killed(seq, text)
	}
}

// begin reads whose limit an event is about, and whom it hits first.
func (l *killLog) begin(text string) {
	*l = killLog{kills: l.kills}
	_, rest, bound := strings.Cut(text, ",oom_memcg=")
	group, rest, known := strings.Cut(rest, ",task_memcg=")
	_, rest, _ = cutLast(rest, ",pid=")
	pid, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(pid)
	if strings.HasPrefix(text, "oom-kill:constraint=CONSTRAINT_MEMCG,") && bound && known && err == nil {
		l.group, l.victim = group, n
	}
}

func (l *killLog) killed(seq uint64, text string) {
	rest, bound := strings.CutPrefix(text, "Memory cgroup out of memory: Killed process ")
	number, rest, _ := strings.Cut(rest, " (")
	pid, err := strconv.Atoi(number)
	if !bound || err != nil || l.group == "" || pid != l.victim && !l.members {
		*l = killLog{kills: l.kills} // another event, of which the first line is missing
		return
	}
	comm, _, _ := cutLast(rest, ") total-vm:")
	l.kills = append(l.kills, Kill{Seq: seq, Group: l.group, Pid: pid, Comm: comm})
	if len(l.kills) > mostKills {
		l.kills = slices.Delete(l.kills, 0, 1)
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	at := strings.LastIndex(s, sep)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(sep):], true
}

// KilledIn reports whether a process of this number lay in the group, or was the one that was killed.
func (h *Host) KilledIn(k Kill, pid int) bool {
	if k.Pid == pid {
		return true
	}
	text, err := os.ReadFile(h.Path("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		memory := len(parts) == 3 && (parts[1] == "" || slices.Contains(strings.Split(parts[1], ","), "memory"))
		if memory && tune.Below(parts[2], k.Group) {
			return true
		}
	}
	return false
}
