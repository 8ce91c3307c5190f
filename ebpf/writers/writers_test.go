package writers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// fresh moves the test's thread into a network namespace of its own, and gives that one's number.
func fresh(t *testing.T) uint64 {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a network namespace of its own")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs root: unshare: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// root finds the root of the control groups of version 2.
func root(t testing.TB) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " - cgroup2 ") {
			return strings.Fields(line)[4]
		}
	}
	t.Skip("no control groups of version 2 are mounted")
	return ""
}

func open(t *testing.T) *Watch {
	t.Helper()
	start := time.Now()
	w, err := Open(root(t))
	if errors.Is(err, tune.ErrUnsupported) || errors.Is(err, tune.ErrNotPermitted) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("open took %v", time.Since(start))
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

const finTimeout = "net/ipv4/tcp_fin_timeout"

func write(t *testing.T, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+finTimeout, []byte(value+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestTellsWhoWrites: ourselves and a shell, in order, by namespace, each with its own value.
func TestTellsWhoWrites(t *testing.T) {
	netns := fresh(t)
	w := open(t)
	before := time.Now()
	write(t, "17")
	cmd := exec.Command("sh", "-c", "echo 41 > /proc/sys/"+finTimeout)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	seen := w.Writes(finTimeout, netns)
	if len(seen.Writes) != 2 || seen.Since.IsZero() || seen.Since.After(before) {
		t.Fatalf("seen %+v", seen)
	}
	own, other := seen.Writes[0], seen.Writes[1]
	if !own.Own || own.PID != os.Getpid() || own.Value != "17" {
		t.Errorf("own write: %+v", own)
	}
	if other.Own || other.PID != cmd.Process.Pid || other.Comm != "sh" || other.UID != 0 || other.Value != "41" || other.Cut ||
		other.Parent != os.Getpid() || other.ParentComm != strings.TrimSpace(readFile(t, "/proc/self/comm")) {
		t.Errorf("the shell's write: %+v", other)
	}
	if other.Time.Before(before.Add(-time.Millisecond)) || other.Time.After(time.Now()) || other.Time.Before(own.Time) {
		t.Errorf("times %v, %v after %v", own.Time, other.Time, before)
	}
	if other := w.Writes(finTimeout, netns+1); len(other.Writes) != 0 {
		t.Errorf("in another namespace: %+v", other.Writes)
	}
	if other := w.Writes("net/ipv4/tcp_rmem", netns); len(other.Writes) != 0 {
		t.Errorf("of another sysctl: %+v", other.Writes)
	}
}

// TestTheProgramOfOneWhoLives is told.
func TestTheProgramOfOneWhoLives(t *testing.T) {
	netns := fresh(t)
	w := open(t)
	cmd := exec.Command("sh", "-c", "echo 41 > /proc/sys/"+finTimeout+"; echo written; read wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	seen := w.Writes(finTimeout, netns)
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(seen.Writes) != 1 || seen.Writes[0].Exe != exe {
		t.Errorf("seen %+v, want the program %s", seen.Writes, exe)
	}
	_ = in.Close()
	_ = cmd.Wait() // its status is its own affair
	if got := exeOf(uint32(os.Getpid()), 1); got != "" {
		t.Errorf("another process of that number: %q", got)
	}
}

// TestRefusedAndLongWritesAreTold: what the kernel then refuses, and what is longer than is kept.
func TestRefusedAndLongWritesAreTold(t *testing.T) {
	netns := fresh(t)
	w := open(t)
	if err := os.WriteFile("/proc/sys/"+finTimeout, []byte("much"), 0o644); err == nil {
		t.Error("the kernel took a word for a number")
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", []byte(strings.Repeat("1000,", 80)+"1000"), 0o644); err != nil {
		t.Fatal(err)
	}
	if seen := w.Writes(finTimeout, netns); len(seen.Writes) != 1 || seen.Writes[0].Value != "much" || seen.Writes[0].Cut {
		t.Errorf("refused: %+v", seen.Writes)
	}
	if seen := w.Writes("net/ipv4/ip_local_reserved_ports", netns); len(seen.Writes) != 1 || !seen.Writes[0].Cut {
		t.Errorf("long: %+v", seen.Writes)
	}
}

// TestAFullRingIsTold: writes that found no room are counted, and said behind those that did.
func TestAFullRingIsTold(t *testing.T) {
	netns := fresh(t)
	w := open(t)
	// The reader waits for the lock of the log while we write more than the ring holds.
	w.mu.Lock()
	f, err := os.OpenFile("/proc/sys/"+finTimeout, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 2000 {
		if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", 20+i%40), 0); err != nil {
			t.Fatal(err)
		}
	}
	w.mu.Unlock()
	var lost uint64
	for start := time.Now(); lost == 0 && time.Since(start) < 5*time.Second; time.Sleep(time.Millisecond) {
		seen := w.Writes(finTimeout, netns)
		for i, e := range seen.Writes {
			if lost += e.Lost; e.Lost > 0 && i < 100 {
				t.Errorf("said before what was kept: %d of %d", i, len(seen.Writes))
			}
		}
	}
	if lost == 0 || lost >= 2000 {
		t.Errorf("lost %d of 2000", lost)
	}
}

// TestAStuckReaderIsNotWaitedFor: the first question waits a moment, the others behind it not at all.
func TestAStuckReaderIsNotWaitedFor(t *testing.T) {
	netns := fresh(t)
	w := open(t)
	w.mu.Lock()
	write(t, "17") // the reader now waits for the lock
	for w.reader.AvailableBytes() > 0 {
		time.Sleep(time.Millisecond)
	}
	asked := make(chan tune.Seen, 1)
	w.empty = make(chan struct{}) // as the first question leaves it
	w.mu.Unlock()
	first := w.empty
	go func() { asked <- w.Writes(finTimeout, netns) }()
	if seen := <-asked; !seen.Since.IsZero() || seen.Why == "" {
		t.Errorf("answered for a question not answered yet: %+v", seen)
	}
	if err := w.reader.Flush(); err != nil {
		t.Fatal(err)
	}
	<-first
	if seen := w.Writes(finTimeout, netns); len(seen.Writes) != 1 {
		t.Errorf("after it answered: %+v", seen)
	}
}

// TestWhatCannotBeReadIsLost, and a log that is full says since when it is whole.
func TestWhatCannotBeReadIsLost(t *testing.T) {
	t.Parallel()
	w := &Watch{}
	r := raw{NameLen: -int32(unix.E2BIG)}
	w.keep(r)
	if seen := w.log.of(finTimeout, 1); len(seen.Writes) != 1 || seen.Writes[0].Lost != 1 {
		t.Errorf("a name that was cut: %+v", seen.Writes)
	}
	var l log
	at := time.Unix(1000, 0)
	for i := range kept + 10 {
		l.add(entry{name: "vm/swappiness", Written: tune.Written{Time: at.Add(time.Duration(i) * time.Second), PID: i}})
	}
	seen := l.of("vm/swappiness", 0)
	if len(seen.Writes) != kept || seen.Writes[0].PID != 10 || !seen.Since.Equal(at.Add(9*time.Second)) {
		t.Errorf("%d writes from %d since %v", len(seen.Writes), seen.Writes[0].PID, seen.Since)
	}
}

// TestNothingIsLeftBehind: a closed watch has no program at the control group, and a new one may come.
func TestNothingIsLeftBehind(t *testing.T) {
	netns := fresh(t)
	for range 3 {
		w, err := Open(root(t))
		if err != nil {
			t.Skip(err)
		}
		write(t, "19")
		if seen := w.Writes(finTimeout, netns); len(seen.Writes) != 1 {
			t.Errorf("seen %+v", seen)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("attached to a folder that is no control group")
	}
}

// BenchmarkRead is what a read of a sysctl costs everybody with the watch and without.
func BenchmarkRead(b *testing.B) {
	read := func(b *testing.B) {
		f, err := os.Open("/proc/sys/vm/swappiness")
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		buf := make([]byte, 16)
		for b.Loop() {
			if _, err := f.ReadAt(buf, 0); err != nil && len(buf) == 0 {
				b.Fatal(err)
			}
		}
	}
	b.Run("alone", read)
	w, err := Open(root(b))
	if err != nil {
		b.Skip(err)
	}
	defer w.Close()
	b.Run("watched", read)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
