package fsync

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
)

const rounds = 150

// TestAgainstOwnClock holds fsync times against those of a program that times its own calls.
func TestAgainstOwnClock(t *testing.T) {
	f, disk := file(t)
	p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{TGID: uint32(os.Getpid())}})
	if !told(p, "ext4_sync_file_exit") {
		t.Skip("this kernel's ext4 has no such events")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var why string
	for range 5 { // the thread can lose its CPU on the way out of the kernel, which only its own clock sees
		before := probetest.Read(t, p)
		own := syncs(t, f)
		after := probetest.Read(t, p)
		for _, id := range []string{"", disk} {
			if why = differs(t, after.Hist(id, latency, before), own); why != "" {
				break
			}
			a, _ := after.Value(id, calls)
			b, _ := before.Value(id, calls)
			if a-b != rounds {
				t.Fatalf("%q: %v calls counted, %d made", id, a-b, rounds)
			}
		}
		if why == "" {
			return
		}
		t.Log(why)
	}
	t.Error(why)
}

func differs(t *testing.T, h probe.Hist, own []float64) string {
	slices.Sort(own)
	sum := 0.0
	for _, v := range own {
		sum += v
	}
	t.Logf("probe %d, p50 %.1f us, p95 %.1f us, sum %.1f ms; own clock p50 %.1f us, p95 %.1f us, sum %.1f ms", h.Count(),
		h.Quantile(.5)/1e3, h.Quantile(.95)/1e3, float64(h.Sum)/1e6, own[rounds/2]/1e3, own[rounds*95/100]/1e3, sum/1e6)
	if h.Count() != rounds {
		return fmt.Sprintf("%d times counted, %d calls made", h.Count(), rounds)
	}
	for q, want := range map[float64]float64{.5: own[rounds/2], .95: own[rounds*95/100]} {
		if got := h.Quantile(q); math.Abs(got-want) > max(.1*want, 100e3) {
			return fmt.Sprintf("quantile %.2f is %.1f us, own clock says %.1f us", q, got/1e3, want/1e3)
		}
	}
	if r := float64(h.Sum) / sum; r > 1 || r < .9 {
		return fmt.Sprintf("all calls together took %.3f of what the own clock says", r)
	}
	return ""
}

// TestCommits holds the number of journal commits against the journal's own.
func TestCommits(t *testing.T) {
	f, disk := fresh(t, "ext4", "has_journal")
	p := probetest.Load(t, New(), probe.Options{})
	if !told(p, "jbd2_end_commit") {
		t.Skip("this kernel has no such events")
	}
	var why string
	for range 5 { // others commit between the two readings
		before, n := probetest.Read(t, p), transactions(t, disk)
		syncs(t, f)
		n = transactions(t, disk) - n
		h := probetest.Read(t, p).Hist(disk, commit, before)
		t.Logf("%d commits, p50 %.1f us; the journal says %d", h.Count(), h.Quantile(.5)/1e3, n)
		if n < rounds/2 {
			t.Fatalf("%d fsyncs of a growing file made %d transactions", rounds, n)
		}
		if d := int(h.Count()) - n; d >= -1 && d <= 1 { // one may be under way
			return
		}
		why = fmt.Sprintf("%d commits, the journal says %d", h.Count(), n)
		t.Log(why)
	}
	t.Error(why)
}

// TestCallsAlone: XFS and Btrfs tell calls and no times.
func TestCallsAlone(t *testing.T) {
	for fs, event := range map[string]string{"xfs": "xfs_file_fsync", "btrfs": "btrfs_sync_file"} {
		t.Run(fs, func(t *testing.T) {
			f, disk := fresh(t, fs, "")
			p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{TGID: uint32(os.Getpid())}})
			if !told(p, event) {
				t.Skip("this kernel has no such event")
			}
			syncs(t, f)
			got := probetest.Read(t, p)
			if n, _ := got.Value("", calls); n != rounds {
				t.Errorf("%v calls counted, %d made", n, rounds)
			}
			if n, _ := got.Value(disk, calls); n != rounds && fs != "btrfs" { // which may lie on many
				t.Errorf("%v calls counted on %s, %d made", n, disk, rounds)
			}
			if h := got.Hist(disk, latency); h.Count() > 0 {
				t.Errorf("%d times where the file system tells none", h.Count())
			}
		})
	}
}

// fresh makes a file on a new file system on a loop device, and names that device.
func fresh(t *testing.T, fs, feature string) (*os.File, string) {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "semantos-fsync-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	image, at := dir+"/image", dir+"/at"
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 400<<20); err != nil {
		t.Fatal(err)
	}
	mkfs := []string{"-q", image}
	if feature != "" {
		mkfs = []string{"-q", "-O", feature, image}
	}
	for _, c := range []*exec.Cmd{exec.Command("mkfs."+fs, mkfs...), exec.Command("mkdir", at), exec.Command("mount", "-o", "loop", image, at)} {
		if out, err := c.CombinedOutput(); err != nil {
			t.Skipf("%s: %v %s", c.Path, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	f, err := os.Create(at + "/file")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	out, err := exec.Command("losetup", "--associated", image, "--noheadings", "--output", "NAME").Output()
	if err != nil || len(out) == 0 {
		t.Skipf("losetup: %v", err)
	}
	return f, filepath.Base(strings.TrimSpace(string(out)))
}

// syncs appends and syncs; it gives each call's nanoseconds.
func syncs(t *testing.T, f *os.File) []float64 {
	t.Helper()
	var own []float64
	for range rounds {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := unix.Fsync(int(f.Fd())); err != nil {
			t.Fatal(err)
		}
		own = append(own, float64(time.Since(start)))
	}
	return own
}

// file makes one on ext4 and names the disk below.
func file(t *testing.T) (*os.File, string) {
	t.Helper()
	f, err := os.CreateTemp("/var/tmp", "semantos-fsync-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		f.Close()
		os.Remove(f.Name())
	})
	var fs unix.Statfs_t
	if err := unix.Statfs(f.Name(), &fs); err != nil || fs.Type != unix.EXT4_SUPER_MAGIC {
		t.Skipf("/var/tmp is not on ext4: %x, %v", fs.Type, err)
	}
	return f, diskBelow(t, f)
}

func diskBelow(t *testing.T, f *os.File) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	at, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat(at + "/partition"); err == nil {
		at = filepath.Dir(at)
	}
	return strings.ReplaceAll(filepath.Base(at), "!", "/")
}

// transactions adds up what the journals on a disk have committed.
func transactions(t *testing.T, disk string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/fs/jbd2/" + disk + "*/info")
	if err != nil || len(files) == 0 {
		t.Skipf("no journal of %s in /proc/fs/jbd2", disk)
	}
	sum := 0
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscanf(string(b), "%d transactions", &n); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sum += n
	}
	return sum
}
