package throttle

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
)

const (
	writers = 4
	chunk   = 64 << 10
	runFor  = 1000 * time.Millisecond
)

// TestAgainstOwnClock lowers the dirty limit and holds the pauses against how long the writers slept by
// their own clocks, on a disk that is slow: then pauses are long, and nothing else is waited for.
func TestAgainstOwnClock(t *testing.T) {
	alone(t)
	dir := slowDisk(t)
	group := ownGroup(t)
	p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{TGID: uint32(os.Getpid())}})
	write(t, dir, runFor/50) // nobody is paused before the limit is near
	if h := probetest.Read(t, p).Hist("", pauses); h.Count() > 0 {
		t.Errorf("%d pauses without need", h.Count())
	}
	lower(t, "vm/dirty_background_bytes", 4<<20)
	lower(t, "vm/dirty_bytes", 16<<20)
	write(t, dir, runFor/2) // fills up to the limit
	var why string
	for range 3 { // other programs keep the disk's and the writers' threads off the CPU
		before := probetest.Read(t, p)
		slept := write(t, dir, runFor)
		after := probetest.Read(t, p)
		if why = differs(t, before, after, group, slept); why == "" {
			return
		}
		t.Log(why)
	}
	t.Error(why)
}

func differs(t *testing.T, before, after *probetest.Readings, group string, slept time.Duration) string {
	t.Helper()
	since := func(id, name string) float64 {
		a, ok := after.Value(id, name)
		b, _ := before.Value(id, name)
		if !ok {
			t.Errorf("%q has no %s", id, name)
		}
		return a - b
	}
	h := after.Hist("", pauses, before)
	paused, over := since("", throttled), since("", overLimit)
	gauge, ok := after.Value("", share)
	t.Logf("%d pauses, p50 %.1f ms, %.2f s in all, %.2f s over the limit, dirty %.2f of the limit; writers slept %.2f s",
		h.Count(), h.Quantile(.5)/1e6, paused, over, gauge, slept.Seconds())
	if h.Count() == 0 || over > paused || !ok || gauge < .5 {
		t.Errorf("%d pauses, %.2f s over the limit of %.2f s in all; dirty %.2f of the limit", h.Count(), over, paused, gauge)
	}
	if group != "" {
		if g := since(group, throttled); math.Abs(g-paused) > 1e-6 {
			t.Errorf("the writers' cgroup was paused %.3f s, the writers %.3f s", g, paused)
		}
	}
	if r := paused / slept.Seconds(); r < .85 || r > 1.15 {
		return fmt.Sprintf("pauses are %.2f of the time the writers slept", r)
	}
	return ""
}

// slowDisk mounts a new file system on a loop device that writes 20 MB/s.
func slowDisk(t *testing.T) string {
	t.Helper()
	const limit = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device"
	if _, err := os.Stat(limit); err != nil {
		t.Skip("a disk is slowed down by the blkio controller of cgroup version 1, which is not mounted")
	}
	base := diskDir(t)
	image, at := base+"/image", base+"/at"
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 1<<30); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*exec.Cmd{exec.Command("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", image), exec.Command("mkdir", at),
		exec.Command("mount", "-o", "loop", image, at)} {
		if out, err := c.CombinedOutput(); err != nil {
			t.Skipf("%s: %v %s", c.Path, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err != nil {
		t.Fatal(err)
	}
	dev := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	if err := os.WriteFile(limit, []byte(dev+" 20000000"), 0); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		for i := range writers {
			os.Remove(filepath.Join(at, strconv.Itoa(i))) // need not be written any more
		}
		if err := os.WriteFile(limit, []byte(dev+" 0"), 0); err != nil {
			t.Error(err)
		}
	})
	return at
}

// write fills files for a while and gives how long the writing threads slept: their wall time less what
// they ran and waited for a CPU.
func write(t *testing.T, dir string, during time.Duration) time.Duration {
	t.Helper()
	var slept atomic.Int64
	var wg sync.WaitGroup
	stop := time.Now().Add(during)
	for i := range writers {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked: its clocks are this writer's alone
			f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			b := make([]byte, chunk)
			busy, start := onCPU(t), time.Now()
			for at := int64(0); time.Now().Before(stop); at = (at + chunk) % (64 << 20) {
				if _, err := unix.Pwrite(int(f.Fd()), b, at); err != nil {
					t.Error(err)
					return
				}
			}
			slept.Add(int64(time.Since(start) - (onCPU(t) - busy)))
		})
	}
	wg.Wait()
	return time.Duration(slept.Load())
}

// onCPU is how long this thread has run and waited for a CPU.
func onCPU(t *testing.T) time.Duration {
	b, err := os.ReadFile("/proc/thread-self/schedstat")
	if err != nil {
		t.Error(err)
		return 0
	}
	var run, wait int64
	if _, err := fmt.Sscan(string(b), &run, &wait); err != nil {
		t.Error(err)
	}
	return time.Duration(run + wait)
}

func lower(t *testing.T, name string, v int) {
	t.Helper()
	path := "/proc/sys/" + name
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Zero means that the ratio holds; what it was before comes back with it.
	ratio := strings.Replace(path, "bytes", "ratio", 1)
	oldRatio, err := os.ReadFile(ratio)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(v)), 0); err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		back, b := path, old
		if strings.TrimSpace(string(old)) == "0" {
			back, b = ratio, oldRatio
		}
		if err := os.WriteFile(back, b, 0); err != nil {
			t.Error(err)
		}
	})
}

// alone keeps other packages' tests out that write this host's tunables.
func alone(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "semantos-host-test.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

func diskDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "semantos-throttle-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ownGroup moves the test into a cgroup of the unified hierarchy; "" where there is none to write.
func ownGroup(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		dir := root + "/semantos-throttle-test/inner"
		if _, err := os.Stat(root + "/cgroup.procs"); err != nil {
			continue
		}
		was, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		home := root
		for line := range strings.Lines(string(was)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				home = root + path
			}
		}
		pid := []byte(strconv.Itoa(os.Getpid()))
		if os.MkdirAll(dir, 0o755) != nil || os.WriteFile(dir+"/cgroup.procs", pid, 0) != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.WriteFile(home+"/cgroup.procs", pid, 0); err != nil {
				t.Error(err)
			}
			os.Remove(dir)
			os.Remove(filepath.Dir(dir))
		})
		return "/semantos-throttle-test/inner"
	}
	return ""
}
