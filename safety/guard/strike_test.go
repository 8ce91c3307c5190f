package guard

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// strike is a fault that falls at an access of the guard to a tunable, or so long after a verb began.
type strike struct {
	name  string
	at    int           // which access from now, 0 for none
	after time.Duration // without an access
	since time.Time
	do    func()
}

// stopped is a process that SIGSTOP holds, and when and how it goes on.
type stopped struct {
	until time.Time
	on    func()
	what  string
}

// met is called while the guard waits at an access.
func (s *story) met(c *couple, ask string) {
	s.say("    %s", ask)
	s.c = c // during a start it is not known yet
	if s.strike != nil && s.strike.at > 0 {
		if s.strike.at--; s.strike.at == 0 {
			s.hit()
		}
	}
}

func (s *story) hit() {
	f := s.strike
	s.strike = nil
	s.say("    FAULT: %s", f.name)
	f.do()
}

// tick lets faults fall that wait for a time, and stopped processes go on.
func (s *story) tick() {
	if f := s.strike; f != nil && f.at == 0 && time.Since(f.since) > f.after {
		s.hit()
	}
	if p := s.stopped; p != nil && time.Now().After(p.until) {
		s.stopped = nil
		s.say("    %s", p.what)
		p.on()
	}
}

// faults draws what goes wrong with the next verb: something that falls once, or something that stands until
// it is mended.
func (s *story) faults() {
	s.strike, s.stopped, s.lapsed, s.mend, s.offline = nil, nil, false, func() {}, false
	kinds := []struct {
		name   string
		weight int
		do     func()
	}{
		{"", 14, nil},
		{"kill -9 of the parent", 3, func() { s.c.killParent() }},
		{"kill -9 of the guard", 3, func() { s.c.killGuard() }},
		{"kill -9 of both", 3, func() { s.c.killGuard(); s.c.killParent() }},
		{"SIGSTOP of the parent", 2, s.stopParent},
		{"SIGSTOP of the guard", 2, s.stopGuard},
		{"somebody else writes", 3, s.outside},
		{"a target vanishes", 1, s.vanish},
		{"sysctl writes fail", 3, s.refuse},
		{"a file is read-only", 2, s.lock},
		{"the disk is full", 2, s.fill},
		{"the file system turns read-only", 3, s.turnReadOnly},
	}
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	n := s.rng.IntN(total)
	for _, k := range kinds {
		if n -= k.weight; n >= 0 {
			continue
		}
		if k.do != nil {
			s.strike = &strike{name: k.name, at: 1 + s.rng.IntN(8), since: time.Now(), do: k.do}
			if s.rng.IntN(4) == 0 {
				s.strike.at, s.strike.after = 0, time.Duration(s.rng.IntN(4000))*time.Microsecond
			}
		}
		return
	}
}

// stopParent stops the parent until its lease has run out and what it tried is back, or only for a moment.
func (s *story) stopParent() {
	_ = unix.Kill(s.c.cmd.Process.Pid, unix.SIGSTOP)
	goOn := func() { _ = unix.Kill(s.c.cmd.Process.Pid, unix.SIGCONT) }
	if s.rng.IntN(3) == 0 {
		s.stopped = &stopped{until: time.Now().Add(time.Duration(s.rng.IntN(200)) * time.Millisecond), on: goOn, what: "the parent goes on in time"}
		return
	}
	s.lapsed = true
	s.stopped = &stopped{until: time.Now().Add(DefaultLease + 200*time.Millisecond), what: "the parent goes on too late", on: func() { s.lapse(goOn) }}
}

// lapse waits until the guard has ended the trial of a parent that is stopped.
func (s *story) lapse(goOn func()) {
	for _, state := range s.listed() {
		if state == "trying" || state == "in_doubt" {
			s.stopped = &stopped{until: time.Now().Add(20 * time.Millisecond), on: func() { s.lapse(goOn) }, what: "still held"}
			return
		}
	}
	if s.rng.IntN(4) == 0 {
		s.say("    and is killed")
		s.c.killParent()
		return
	}
	goOn()
}

// stopGuard stops the guard for a moment or for longer than a lease. Then it goes on, alone or not, or dies.
func (s *story) stopGuard() {
	c := s.c
	c.signalGuard(unix.SIGSTOP)
	on, what := func() { c.signalGuard(unix.SIGCONT) }, "the guard goes on"
	switch s.rng.IntN(3) {
	case 0:
		on, what = func() { c.killGuard() }, "the guard is killed while stopped"
	case 1:
		on, what = func() { c.killParent(); time.Sleep(time.Millisecond); c.signalGuard(unix.SIGCONT) }, "the parent is killed, then the guard goes on"
	}
	s.stopped = &stopped{until: time.Now().Add(time.Duration(20+s.rng.IntN(1000)) * time.Millisecond), on: on, what: what}
}

// refuse has the kernel answer writes of sysctls with an errno, also those that put back.
func (s *story) refuse() {
	errno := []unix.Errno{unix.EIO, unix.EBUSY, unix.EPERM, unix.EINVAL, unix.ENOMEM}[s.rng.IntN(5)]
	s.say("    %v", errno)
	if s.refused == nil {
		return
	}
	stop, err := s.refused.answer(errno)
	if err != nil {
		s.t.Errorf("refuse writes: %v", err)
		return
	}
	s.mend = stop
}

// lock makes the file of one tunable read-only for parent and guard.
func (s *story) lock() {
	keys := slices.DeleteFunc(s.g.keys(), func(key string) bool { return strings.HasSuffix(key, "@"+s.g.other) })
	path := s.g.path(keys[s.rng.IntN(len(keys))])
	s.say("    %s", path)
	if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
		s.t.Errorf("bind %s: %v", path, err)
		return
	}
	s.mend = func() { s.g.detach(path) }
	s.g.must(unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}

func (s *story) fill() {
	s.sick = true
	s.g.fill()
	s.mend = s.g.empty
}

func (s *story) turnReadOnly() {
	s.sick = true
	if s.g.ext4 == "" {
		s.fill()
		return
	}
	s.g.turnReadOnly()
	s.offline, s.mend = true, s.g.remount
}

// outside sets a tunable to a value that nobody else uses.
func (s *story) outside() {
	keys := s.g.keys()
	key := keys[s.rng.IntN(len(keys))]
	s.ops++
	n := s.ops
	v := map[string]string{
		"net.ipv4.tcp_rmem": fmt.Sprintf("%d %d %d", 5000+n, 90000+n, 700000+n), "net.ipv4.tcp_fin_timeout": fmt.Sprint(1000 + n),
		"net.core.somaxconn": fmt.Sprint(5000 + n), "read_ahead_kb": fmt.Sprint(1000 + 4*n), "nr_requests": fmt.Sprint(98 + n%30),
		"cgroup/memory.swappiness": fmt.Sprint(101 + n%99),
	}[kindOf(key)]
	s.say("somebody else: %s=%s", key, v)
	if err := s.g.write(key, v); err != nil {
		s.t.Errorf("write %s: %v", key, err)
	}
	s.insist[key] = tune.Value(v)
}

// kindOf is the tunable's name without a device.
func kindOf(key string) string {
	name, _, _ := strings.Cut(key, "@")
	if strings.HasPrefix(name, "block/") {
		return filepath.Base(name)
	}
	return name
}

// drawValue gives one of the values that rollouts use: few, so that they meet.
func (s *story) drawValue(key string) tune.Value {
	pool := map[string][]tune.Value{
		"net.ipv4.tcp_rmem": {"4096 65536 2097152", "8192 65536 1048576", "8192 131072 2097152"}, "net.ipv4.tcp_fin_timeout": {"11", "22", "33"},
		"net.core.somaxconn": {"100", "200", "300"}, "read_ahead_kb": {"64", "256", "512"}, "nr_requests": {"32", "64", "96"},
		"cgroup/memory.swappiness": {"10", "20", "30"},
	}[kindOf(key)]
	return pool[s.rng.IntN(len(pool))]
}

// vanish takes a target away, and may give its name to another one that even stands at a value of ours.
func (s *story) vanish() {
	var target string
	again := s.rng.IntN(2) == 0
	switch s.rng.IntN(3) {
	case 0:
		target = s.g.other
		s.g.endOther()
		if again || target == "" {
			s.g.unshareOther()
		}
	case 1:
		target = s.g.loop
		if target != "" && again {
			s.g.swapLoop()
		} else {
			s.g.endLoop()
		}
	case 2:
		target = s.g.group
		s.g.endGroup()
		if again || target == "" {
			s.g.makeGroup()
		}
	}
	s.say("%q is gone, another %v", target, again)
	s.forgetTarget(target)
	for _, key := range s.g.keys() {
		if _, known := s.m.base[key]; !known && s.rng.IntN(2) == 0 {
			s.g.must(s.g.write(key, string(s.drawValue(key))))
		}
	}
	s.learn()
}

// damage kills both and breaks the journal somewhere. What was tried is put back, and what is held can be, from
// the copies; no new change is taken until the file is moved away, as the error says.
func (s *story) damage() {
	s.say("both die, and a byte of the journal is changed")
	s.flush()
	s.c.killGuard()
	s.c.killParent()
	s.die()
	s.m.open = nil
	path := journal.Path(s.g.data)
	data, err := os.ReadFile(path)
	s.g.must(err)
	if len(data) == 0 {
		s.recover()
		s.compare()
		return
	}
	at := s.rng.IntN(len(data))
	if data[at] ^= byte(1 + s.rng.IntN(255)); at == len(data)-1 {
		data[at] = '\n' // a missing end is a torn record, not damage
		data[len(data)/2] ^= 1
	}
	s.g.must(os.WriteFile(path, data, 0o600))
	s.start()
	s.compare()
	r := s.c.order(order{Verb: "apply", Rollout: "refused", Changes: s.bundle()})
	if r.Error == nil || !slices.Contains(r.Error.Kinds, "corrupt") {
		s.t.Errorf("apply on a damaged journal: %+v", r.Error)
	}
	for _, i := range s.rng.Perm(len(s.m.held)) {
		s.rollback(s.m.held[i].id, "from a damaged journal")
	}
	s.m.held = nil
	s.compare()
	s.c.bye()
	s.g.must(os.Rename(path, path+".bad"))
	s.say("the journal is moved away")
	s.start()
	s.second()
	s.compare()
}

// tear does to the files what a dying machine does: a last record that is not whole, a copy that is damaged.
func (s *story) tear() {
	path := journal.Path(s.g.data)
	switch s.rng.IntN(8) {
	case 0, 1:
		s.say("  its last record is torn")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		s.g.must(err)
		_, err = f.WriteString(`7f3a91c2 {"seq":9999,"kind":"int`)
		s.g.must(err)
		s.g.must(f.Close())
	case 2:
		data, err := os.ReadFile(path)
		s.g.must(err)
		if last := bytes.LastIndexByte(bytes.TrimSuffix(data, []byte("\n")), '\n') + 1; last < len(data) {
			s.say("  its last record is cut: %s", data[last:])
			s.g.must(os.Truncate(path, int64(last+s.rng.IntN(len(data)-last))))
		}
	case 3:
		copies, err := filepath.Glob(filepath.Join(s.g.run, "open", "*.log"))
		s.g.must(err)
		if len(copies) == 0 || s.sick {
			return // what only the copy knows is lost with it
		}
		path := copies[s.rng.IntN(len(copies))]
		data, err := os.ReadFile(path)
		s.g.must(err)
		if len(data) > 0 {
			s.say("  %s is damaged", filepath.Base(path))
			data[s.rng.IntN(len(data))] ^= byte(1 + s.rng.IntN(255))
			s.g.must(os.WriteFile(path, data, 0o600))
		}
	}
}
