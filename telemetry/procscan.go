package telemetry

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"semantos/internal/tune"
)

const (
	userHZ   = 100 // USER_HZ is 100 on every architecture Go runs Linux on, but alpha
	coldPart = 48  // idle processes looked at per tick, in turns
)

// task is one process or kernel thread, as last read.
type task struct {
	pid     int
	start   uint64 // clock ticks after boot: tells a pid from its next bearer
	comm    string
	kernel  bool
	cpu     float64 // seconds
	system  float64 // seconds, the part in the kernel
	gained  float64 // seconds since the read before
	recent  float64 // decaying sum of gains: who is busy
	minor   float64
	major   float64
	threads float64
	rss     float64 // pages
	blkio   float64 // seconds
	born    bool    // appeared since the scan before: its whole CPU time is of this window
	hot     bool    // read every tick
	seen    uint64
}

// procScan reads /proc/*/stat once per tick for all who ask. Reading one costs ten microseconds, so
// the idle majority is read in turns and only the busy, the large and the new every tick.
type procScan struct {
	env   *env
	tasks map[int]*task
	at    time.Time
	round uint64
	cold  int // where the turns stand
	pids  []int
	names []byte
	bad   error // of the first process whose file made no sense
	err   error
}

func newProcScan(e *env) *procScan { return &procScan{env: e, tasks: make(map[int]*task)} }

// run scans unless this tick already has.
func (p *procScan) run() error {
	if p.round > 0 && p.at.Equal(p.env.at) {
		return p.err
	}
	p.at = p.env.at
	p.round++
	p.err = p.scan()
	return p.err
}

func (p *procScan) scan() error {
	if err := p.list(); err != nil {
		return err
	}
	if len(p.pids) == 0 {
		return fmt.Errorf("no process in /proc: %w", tune.ErrNoData)
	}
	known := 0
	for _, pid := range p.pids {
		if t := p.tasks[pid]; t != nil {
			t.seen = p.round
			known++
		}
	}
	turns, idle := 0, 0
	p.bad = nil
	for _, pid := range p.pids {
		t := p.tasks[pid]
		switch {
		case t == nil || t.hot:
		default:
			idle++
			if turns >= coldPart || (idle-1) < p.cold {
				t.gained, t.born = 0, false
				continue
			}
			turns++
		}
		if err := p.read(pid, t, known > 0); err != nil && p.bad == nil {
			p.bad = fmt.Errorf("process %d: %w", pid, err)
		}
	}
	if p.cold += turns; p.cold >= idle {
		p.cold = 0
	}
	for pid, t := range p.tasks {
		if t.seen != p.round {
			delete(p.tasks, pid)
		}
	}
	if len(p.tasks) == 0 {
		return p.bad
	}
	return nil
}

// list fills pids, in order.
func (p *procScan) list() error {
	d, err := os.Open(p.env.host.Path("proc"))
	if err != nil {
		return fileError("/proc", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return fileError("/proc", err)
	}
	p.pids = p.pids[:0]
	for _, n := range names {
		if n[0] < '1' || n[0] > '9' {
			continue
		}
		if pid, err := strconv.Atoi(n); err == nil {
			p.pids = append(p.pids, pid)
		}
	}
	slices.Sort(p.pids)
	return nil
}

func (p *procScan) read(pid int, t *task, started bool) error {
	p.names = append(p.names[:0], "proc/"...)
	p.names = strconv.AppendInt(p.names, int64(pid), 10)
	b, err := p.env.files.once(string(append(p.names, "/stat"...)))
	if err != nil {
		delete(p.tasks, pid) // gone between the list and here, or not ours to see
		return nil
	}
	var s procStat
	if err := parseProcStat(b, &s); err != nil {
		delete(p.tasks, pid)
		return err
	}
	cpu := (s.utime + s.stime) / userHZ
	if t == nil || t.start != s.start {
		t = &task{pid: pid, start: s.start, kernel: s.flags&pfKthread != 0, born: started, hot: started}
		if started {
			t.gained = cpu
		}
		p.tasks[pid] = t
	} else {
		t.gained, t.born = max(0, cpu-t.cpu), false
	}
	if t.comm != string(s.comm) {
		t.comm = string(s.comm)
	}
	t.recent = 0.8*t.recent + t.gained
	t.hot = t.recent > 0.001
	t.cpu, t.minor, t.major, t.threads, t.rss, t.blkio = cpu, s.minflt, s.majflt, s.threads, s.rss, s.blkio/userHZ
	t.system = s.stime / userHZ
	t.seen = p.round
	return nil
}

const pfKthread = 0x00200000 // PF_KTHREAD, include/linux/sched.h

// procStat is the part of /proc/<pid>/stat used here.
type procStat struct {
	comm                         []byte
	flags, start                 uint64
	minflt, majflt, utime, stime float64
	threads, rss, blkio          float64
	policy                       schedPolicy
}

// schedPolicy is a scheduling class (include/uapi/linux/sched.h).
type schedPolicy int

func (p schedPolicy) realtime() bool {
	const fifo, rr, deadline = 1, 2, 6
	return p == fifo || p == rr || p == deadline
}

// parseProcStat is our own because procfs formats and allocates for each of hundreds of processes.
func parseProcStat(b []byte, s *procStat) error {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return corrupt("stat", b)
	}
	s.comm = b[open+1 : end]
	rest := b[end+1:]
	var w []byte
	if w, rest = word(rest); len(w) != 1 { // state
		return corrupt("stat", b)
	}
	for field := 4; field <= 42; field++ {
		if w, rest = word(rest); len(w) == 0 {
			return corrupt("stat", b)
		}
		v, ok := number(w)
		if !ok {
			return corrupt("stat", b)
		}
		switch field {
		case 9:
			s.flags = uint64(max(0, v))
		case 10:
			s.minflt = v
		case 12:
			s.majflt = v
		case 14:
			s.utime = v
		case 15:
			s.stime = v
		case 20:
			s.threads = v
		case 22:
			s.start = uint64(max(0, v))
		case 24:
			s.rss = v
		case 41:
			s.policy = schedPolicy(v)
		case 42:
			s.blkio = v
		}
	}
	return nil
}
