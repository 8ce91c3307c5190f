package blocklat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/tune"
)

// beyond is what fio's clock may see beyond a request's life in the block layer: the file system, the
// plug and the wait for a free request before, the interrupt and the way back to fio's thread after. On a
// busy machine it is more: then the kernel's own mean, which fio's is held against, says how much.
const beyond = 100e3

type load struct {
	rw, bs, engine string
	depth, iops    int
}

// TestAgainstFio holds latencies against fio's, on a loop device that nobody else uses.
func TestAgainstFio(t *testing.T) {
	fio := tool(t, "fio")
	losetup := tool(t, "losetup")
	file := filepath.Join(diskDir(t), "loop")
	lay(t, file, 64<<20)
	b, err := exec.Command(losetup, "--find", "--show", file).Output()
	if err != nil {
		t.Skipf("no loop device: %v", err)
	}
	dev := strings.TrimSpace(string(b))
	t.Cleanup(func() {
		if err := exec.Command(losetup, "--detach", dev).Run(); err != nil {
			t.Error(err)
		}
	})
	disk := filepath.Base(dev)
	p := probetest.Load(t, New(), probe.Options{})
	for _, l := range []load{{"read", "4k", "libaio", 1, 500}, {"read", "256k", "libaio", 8, 200},
		{"write", "4k", "libaio", 1, 500}, {"write", "256k", "libaio", 8, 200}} {
		t.Run(fmt.Sprintf("%s-%s-depth%d", l.rw, l.bs, l.depth), func(t *testing.T) {
			var why string
			for range 5 { // others take the CPU away, which only one of the two may see
				before, statsBefore, lost := probetest.Read(t, p), diskstats(t, disk), p.Lost()
				f := l.run(t, fio, dev)
				after, statsAfter := probetest.Read(t, p), diskstats(t, disk)
				h := after.Hist(disk, "block."+l.rw+"_latency_us", before)
				if why = counts(t, l.rw, h, p.Lost()-lost, statsBefore, statsAfter); why == "" {
					why = quantiles(t, h, f, statsAfter.mean(statsBefore, l.rw))
				}
				if why == "" {
					why = parts(l.rw, h, after, before, disk)
				}
				if why == "" {
					return
				}
				t.Log(why)
			}
			t.Error(why)
		})
	}
}

// TestAgainstDiskstats holds counts and means on the device below /var/tmp against what the kernel
// counts itself; others may use it meanwhile, both see them.
func TestAgainstDiskstats(t *testing.T) {
	fio := tool(t, "fio")
	dir := diskDir(t)
	disk := diskOf(t, dir)
	file := filepath.Join(dir, "fio")
	lay(t, file, 64<<20)
	p := probetest.Load(t, New(), probe.Options{})
	for _, l := range []load{{"read", "4k", "libaio", 8, 2000}, {"write", "64k", "psync", 1, 400}} {
		t.Run(l.rw, func(t *testing.T) {
			var why string
			for range 5 { // the two are not read at the same instant
				before, statsBefore, lost := probetest.Read(t, p), diskstats(t, disk), p.Lost()
				f := l.run(t, fio, file)
				after, statsAfter := probetest.Read(t, p), diskstats(t, disk)
				h := after.Hist(disk, "block."+l.rw+"_latency_us", before)
				if why = counts(t, l.rw, h, p.Lost()-lost, statsBefore, statsAfter); why == "" {
					if float64(h.Count()) < 1.05*f.ios { // nobody else was there: fio is a witness too
						why = quantiles(t, h, f, statsAfter.mean(statsBefore, l.rw))
					}
				}
				if why == "" {
					why = parts(l.rw, h, after, before, disk)
				}
				if why == "" {
					return
				}
				t.Log(why)
			}
			t.Error(why)
		})
	}
}

// TestScope: a request belongs to no task.
func TestScope(t *testing.T) {
	p, err := probe.Load(New(), probe.Options{Scope: probe.Scope{Comm: "fio"}})
	if err == nil {
		p.Close()
	}
	if !errors.Is(err, tune.ErrUnsupported) && !errors.Is(err, tune.ErrNotPermitted) {
		t.Errorf("narrowed to a process: %v", err)
	}
}

// counts holds number and mean against diskstats, which times requests from their allocation; it says
// what differs, "" when nothing does. A request whose completion the kernel told nobody counts as lost
// when its address comes again.
func counts(t *testing.T, rw string, h probe.Hist, lost uint64, before, after stats) string {
	ios := after.ios[rw] - before.ios[rw]
	mean := after.mean(before, rw)
	t.Logf("probe %d, mean %.1f us, %d lost; diskstats %.0f, mean %.1f us", h.Count(), h.Mean()/1e3, lost, ios, mean/1e3)
	allowed := .002*ios + 2
	if rw == "write" {
		// Empty flushes of file systems count as writes there; several share one flush of the device.
		allowed += 3 * (after.ios["flush"] - before.ios["flush"])
	}
	n := float64(h.Count())
	switch {
	case n > ios+1 || ios-n-float64(lost) > allowed || ios-n > allowed+.05*ios:
		return fmt.Sprintf("%.0f requests and %d lost, diskstats has %.0f", n, lost, ios)
	case h.Mean() > mean*1.1+20e3 || h.Mean() < mean*.85-20e3: // the end of a request's life comes after its last tracepoint
		return fmt.Sprintf("mean %.1f us, diskstats says %.1f us", h.Mean()/1e3, mean/1e3)
	}
	return ""
}

// quantiles holds p50 and p95 against fio's; mean is the kernel's own, in nanoseconds.
func quantiles(t *testing.T, h probe.Hist, f fioResult, mean float64) string {
	t.Logf("probe %d, p50 %.1f us, p95 %.1f us; fio %.0f, p50 %.1f us, p95 %.1f us",
		h.Count(), h.Quantile(.5)/1e3, h.Quantile(.95)/1e3, f.ios, f.p50/1e3, f.p95/1e3)
	if n := float64(h.Count()); math.Abs(n-f.ios) > .05*f.ios {
		return fmt.Sprintf("%.0f requests, fio did %.0f", n, f.ios)
	}
	for q, want := range map[float64]float64{.5: f.p50, .95: f.p95} {
		got := h.Quantile(q)
		around := max(.1*want, beyond, 2*(f.mean-mean))
		if q > .5 {
			around = max(around, want*2/3) // what interrupts fio itself makes its tail
		}
		if got > want*1.05+5e3 || got < want-around {
			return fmt.Sprintf("quantile %.2f is %.1f us, fio says %.1f us", q, got/1e3, want/1e3)
		}
	}
	return ""
}

// parts holds queue and device time against the whole, which they add up to.
func parts(rw string, whole probe.Hist, after, before *probetest.Readings, disk string) string {
	queue := after.Hist(disk, "block."+rw+"_queue_us", before)
	device := after.Hist(disk, "block."+rw+"_device_us", before)
	if device.Count() != whole.Count() {
		return fmt.Sprintf("%d device times, %d latencies", device.Count(), whole.Count())
	}
	if sum := queue.Sum + device.Sum; sum != whole.Sum {
		return fmt.Sprintf("queue and device took %d ns, both together %d ns", sum, whole.Sum)
	}
	return ""
}

type fioResult struct{ ios, mean, p50, p95 float64 }

// run gives fio's view of one load: latencies from submission to the end, which for one synchronous
// request at a time is the completion latency. It runs ahead of everybody where that is allowed: else
// fio's clock also sees other programs.
func (l load) run(t *testing.T, fio, file string) fioResult {
	t.Helper()
	args := []string{"--name=blocklat", "--filename=" + file, "--size=64m", "--direct=1", "--ioengine=" + l.engine,
		"--rw=rand" + l.rw, "--bs=" + l.bs, "--iodepth=" + strconv.Itoa(l.depth), "--rate_iops=" + strconv.Itoa(l.iops),
		"--rate_process=poisson", "--time_based", "--runtime=1", "--randseed=1", "--lat_percentiles=1", "--output-format=json"}
	if chrt, err := exec.LookPath("chrt"); err == nil && exec.Command(chrt, "--fifo", "10", "true").Run() == nil {
		fio, args = chrt, append([]string{"--fifo", "10", fio}, args...)
	}
	cmd := exec.Command(fio, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("fio: %v %s", err, stderr.String())
	}
	type side struct {
		IOs float64 `json:"total_ios"`
		Lat struct {
			Mean       float64            `json:"mean"`
			Percentile map[string]float64 `json:"percentile"`
		} `json:"lat_ns"`
	}
	var out struct {
		Jobs []map[string]json.RawMessage `json:"jobs"`
	}
	var s side
	if err := json.Unmarshal(b, &out); err != nil || len(out.Jobs) != 1 {
		t.Fatalf("fio's report: %v\n%s", err, b)
	}
	if err := json.Unmarshal(out.Jobs[0][l.rw], &s); err != nil {
		t.Fatal(err)
	}
	return fioResult{s.IOs, s.Lat.Mean, s.Lat.Percentile["50.000000"], s.Lat.Percentile["95.000000"]}
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// diskDir makes a directory on a disk, away from a /tmp in memory.
func diskDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "semantos-blocklat-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// lay writes the file out, so that reading it reaches the device.
func lay(t *testing.T, name string, size int) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(bytes.Repeat([]byte("semantos"), size/8)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// diskOf names the device whose requests serve a directory.
func diskOf(t *testing.T, dir string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	link := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	at, err := filepath.EvalSymlinks(link)
	if err != nil {
		t.Skipf("%s lies on no block device", dir)
	}
	if _, err := os.Stat(at + "/partition"); err == nil {
		at = filepath.Dir(at)
	}
	if slaves, _ := os.ReadDir(at + "/slaves"); len(slaves) > 0 {
		t.Skipf("%s lies on %s, which is made of other devices", dir, filepath.Base(at))
	}
	return strings.ReplaceAll(filepath.Base(at), "!", "/")
}

type stats struct{ ios, ms map[string]float64 }

// mean gives nanoseconds a request.
func (s stats) mean(before stats, rw string) float64 {
	return 1e6 * (s.ms[rw] - before.ms[rw]) / (s.ios[rw] - before.ios[rw])
}

func diskstats(t *testing.T, disk string) stats {
	t.Helper()
	b, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 20 || f[2] != disk {
			continue
		}
		n := func(i int) float64 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		return stats{map[string]float64{"read": n(3), "write": n(7), "flush": n(18)}, map[string]float64{"read": n(6), "write": n(10)}}
	}
	t.Skipf("/proc/diskstats has no flush counts for %s", disk)
	return stats{}
}
