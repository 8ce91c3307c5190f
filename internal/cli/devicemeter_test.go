package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/workloads/meter"
)

// disks is a fake root whose block devices have done what each line says.
type disks struct {
	root string
	said []string
}

func newDisks(t *testing.T) *disks {
	t.Helper()
	d := &disks{root: t.TempDir()}
	for _, dir := range []string{"sys/block/sda/mq", "sys/block/sdb/mq", "sys/block/sdc/mq", "sys/block/dm-0", "proc"} {
		if err := os.MkdirAll(filepath.Join(d.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// have writes what each device has done: reads, sectors, milliseconds waited, on their way.
func (d *disks) have(t *testing.T, of map[string][4]int) {
	t.Helper()
	var text strings.Builder
	for name, n := range of {
		fmt.Fprintf(&text, " 8 0 %s %d 0 %d %d 0 0 0 0 %d 0 0\n", name, n[0], n[1], n[2], n[3])
	}
	path := filepath.Join(d.root, "proc/diskstats")
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func (d *disks) meter(pattern string, off bool) *deviceMeter {
	a := &app{now: time.Now, stderr: io.Discard}
	a.cfg.UseEBPF, a.cfg.Root = "auto", d.root
	m := a.newDeviceMeter("device:block/"+pattern, meter.Devices{Family: "block", Pattern: pattern, NoLatency: off})
	m.say = func(format string, args ...any) { d.said = append(d.said, fmt.Sprintf(format, args...)) }
	return m
}

func unitsNamed(names ...string) []tune.Unit {
	out := make([]tune.Unit, len(names))
	for i, n := range names {
		out[i].Target = n
	}
	return out
}

// TestDeviceMeterTellsDevicesApart: each gets its own sample, one without work none, and one that hangs a
// throughput of nothing.
func TestDeviceMeterTellsDevicesApart(t *testing.T) {
	t.Parallel()
	d := newDisks(t)
	before := map[string][4]int{"sda": {100, 1000, 50, 0}, "sdb": {5, 5, 5, 0}, "sdc": {7, 7, 7, 2}, "dm-0": {1, 1, 1, 0}}
	d.have(t, before)
	m := d.meter("sd?", false)
	units := unitsNamed("sda", "sdb", "sdc")
	if !m.Splits(units) || m.Splits(unitsNamed("sda", "dm-0")) || m.Splits(unitsNamed("sda", "sdz")) || m.Splits(unitsNamed("netns:1", "netns:2")) {
		t.Error("what it can tell apart")
	}
	after := maps.Clone(before)
	after["sda"] = [4]int{300, 1000 + 4096, 450, 0}
	go func() {
		time.Sleep(100 * time.Millisecond)
		d.have(t, after)
	}()
	got, err := m.SampleUnits(t.Context(), 600*time.Millisecond, units)
	if err != nil || got[0] == nil || got[1] != nil || got[2] == nil {
		t.Fatalf("%v %v", got, err)
	}
	took := got[0].End.Sub(got[0].Start).Seconds()
	if bytes := got[0].Throughput * took; bytes < 4096*512-1 || bytes > 4096*512+1 || got[0].P95MS != 2 || got[0].MedianMS != 2 || got[0].Requests != 200 {
		t.Errorf("sda %+v: want 200 requests of 2 ms and 2 MiB in %.2f s", got[0], took)
	}
	if got[2].Throughput != 0 || got[2].P95MS != 0 {
		t.Errorf("sdc has two requests on their way and completes none: %+v", got[2])
	}
	if m.Measure().Latency != tune.LatencyMean || m.Fresh() {
		t.Errorf("measure %+v", m.Measure())
	}
	if off := d.meter("sd?", true); off.Measure().Latency != tune.LatencyNone {
		t.Errorf("measure with latency=off: %+v", off.Measure())
	}
	// Nothing moves: no data, of one or of all.
	after["sdc"] = before["sdb"]
	d.have(t, after)
	if _, err := m.SampleUnits(t.Context(), 50*time.Millisecond, units); !errors.Is(err, tune.ErrNoData) {
		t.Errorf("nothing done: %v", err)
	}
	if _, err := m.Sample(t.Context(), 50*time.Millisecond); !errors.Is(err, tune.ErrNoData) {
		t.Errorf("nothing done: %v", err)
	}
}

// TestDeviceMeterRefuses what it could never measure, and says what it cannot do.
func TestDeviceMeterRefuses(t *testing.T) {
	t.Parallel()
	d := newDisks(t)
	d.have(t, map[string][4]int{"sda": {1, 1, 1, 0}, "dm-0": {1, 1, 1, 0}})
	err := d.meter("nvme*", false).Check(t.Context())
	if !errors.Is(err, tune.ErrUnknown) || !strings.Contains(tune.Hint(err), "dm-0") {
		t.Errorf("%v, hint %q", err, tune.Hint(err))
	}
	m := d.meter("*", false)
	m.mode = "off"
	if err := m.Check(t.Context()); err != nil || len(d.said) != 1 || !strings.Contains(d.said[0], "mean") {
		t.Errorf("%v, said %q", err, d.said)
	}
	a := &app{now: time.Now, stderr: io.Discard}
	a.cfg.UseEBPF = "off"
	made, done, err := a.serveMeter(t.Context(), console.ApplyRequest{Meter: "device:net/lo"})
	if err != nil {
		t.Fatal(err)
	}
	done()
	if !isServed(made.Name()) {
		t.Errorf("serve could not make %s again", made.Name())
	}
}

// TestDeviceMeterCountsLinks reads a real link: what is sent over loopback is counted, and has no latency.
func TestDeviceMeterCountsLinks(t *testing.T) {
	t.Parallel()
	slowServer(t, time.Millisecond)
	a := &app{now: time.Now, stderr: io.Discard}
	m := a.newDeviceMeter("device:net/lo", meter.Devices{Family: "net", Pattern: "lo"})
	s, err := m.Sample(context.WithoutCancel(t.Context()), time.Second)
	if err != nil || s.Throughput < 1000 || s.P95MS != 0 || s.ErrorRate > 0.5 || m.Measure().Latency != tune.LatencyNone {
		t.Errorf("%+v %v", s, err)
	}
}
