package telemetry

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// frameAt makes a frame at a second with one host reading.
func frameAt(second float64, n nature, v ...float64) *frame {
	f := newFrame(time.Unix(0, int64(second*1e9)), frameSize{})
	f.host() // the host is there even without readings
	for _, x := range v {
		f.host().add("x", x, n)
	}
	return f
}

func TestWindow(t *testing.T) {
	t.Parallel()
	const c, g, d = natureCounter, natureGauge, natureDuty
	cases := []struct {
		name   string
		frames []*frame
		want   map[string]float64
	}{
		{"counter grows", []*frame{frameAt(0, c, 10), frameAt(2, c, 30), frameAt(4, c, 30)},
			map[string]float64{"x": 5, "x.total": 20}},
		{"one tick has no rate", []*frame{frameAt(0, c, 10)}, map[string]float64{}},
		{"one tick has a gauge", []*frame{frameAt(0, g, 10)}, map[string]float64{"x": 10, "x.max": 10, "x.last": 10}},
		{"standing still is zero, not absent", []*frame{frameAt(0, c, 7), frameAt(1, c, 7)}, map[string]float64{"x": 0, "x.total": 0}},
		{"reset drops that interval", []*frame{frameAt(0, c, 100), frameAt(1, c, 5), frameAt(2, c, 9)},
			map[string]float64{"x": 4, "x.total": 4}},
		{"wrap drops that interval", []*frame{frameAt(0, c, math.MaxUint32), frameAt(1, c, 1)}, map[string]float64{}},
		{"a missed tick is bridged", []*frame{frameAt(0, c, 0), frameAt(1, c), frameAt(2, c, 20)},
			map[string]float64{"x": 10, "x.total": 20}},
		{"absent at last keeps what was read", []*frame{frameAt(0, c, 0), frameAt(1, c, 6), frameAt(2, c)},
			map[string]float64{"x": 6, "x.total": 6}},
		{"gauge", []*frame{frameAt(0, g, 1), frameAt(1, g, 9), frameAt(2, g, 2)},
			map[string]float64{"x": 4, "x.max": 9, "x.last": 2}},
		{"negative gauge", []*frame{frameAt(0, g, -5), frameAt(1, g, -1)}, map[string]float64{"x": -3, "x.max": -1, "x.last": -1}},
		{"duty is a share without a total", []*frame{frameAt(0, d, 1), frameAt(4, d, 2)}, map[string]float64{"x": 0.25}},
		{"hidden stays hidden", []*frame{frameAt(0, natureHidden, 1), frameAt(4, natureHidden, 2)}, map[string]float64{}},
		{"two ticks at one moment have no rate", []*frame{frameAt(0, c, 1), frameAt(0, c, 2)}, map[string]float64{}},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			got := newView(k.frames, suffixes{}).host.values
			if d := cmp.Diff(k.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// TestWindowGenerations: the same id borne by another thing is another series.
func TestWindowGenerations(t *testing.T) {
	t.Parallel()
	var frames []*frame
	for i, x := range []struct {
		gen uint64
		v   float64
	}{{1, 100}, {1, 110}, {2, 500}, {2, 503}} {
		f := newFrame(time.Unix(int64(i), 0), frameSize{})
		f.entity("process", "pid:5", x.gen, nil).counter("x", x.v)
		frames = append(frames, f)
	}
	got := newView(frames, suffixes{}).entities["process"][0].values["x.total"]
	if got != 13 {
		t.Errorf("increase %v, want 13: the step from one bearer to the next is nobody's", got)
	}
}

// TestWindowGone: what the newest tick no longer shows is not in the snapshot.
func TestWindowGone(t *testing.T) {
	t.Parallel()
	a, b := newFrame(time.Unix(0, 0), frameSize{}), newFrame(time.Unix(1, 0), frameSize{})
	a.entity("listener", "old", 0, nil).gauge("q", 1)
	b.entity("listener", "new", 0, nil).gauge("q", 1)
	v := newView([]*frame{a, b}, suffixes{})
	if n := len(v.entities["listener"]); n != 1 || v.entities["listener"][0].id != "new" {
		t.Errorf("listeners %d, want only the new one", n)
	}
}

// TestWindowNeverNegative: whatever a counter does, no rate and no total falls below zero, and the
// total never exceeds the sum of its rises.
func TestWindowNeverNegative(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0, 1e15), 1, 20).Draw(t, "values")
		var frames []*frame
		rises, at := 0.0, 0.0
		for i, v := range values {
			at += rapid.Float64Range(0, 5).Draw(t, "gap")
			frames = append(frames, frameAt(at, natureCounter, v))
			if i > 0 && v > values[i-1] {
				rises += v - values[i-1]
			}
		}
		got := newView(frames, suffixes{}).host.values
		if got["x"] < 0 || got["x.total"] < 0 || got["x.total"] > rises*(1+1e-9) {
			t.Fatalf("rate %v total %v, rises %v", got["x"], got["x.total"], rises)
		}
	})
}

func TestRatio(t *testing.T) {
	t.Parallel()
	s := &signals{values: map[string]float64{}, inc: map[string]float64{"a": 3, "b": 9, "zero": 0}}
	s.ratio("ok", []string{"a"}, []string{"a", "b"})
	s.ratio("nothing happened", []string{"a"}, []string{"zero"})
	s.ratio("part absent", []string{"none"}, []string{"b"})
	s.ratio("whole absent", []string{"a"}, []string{"none"})
	if d := cmp.Diff(map[string]float64{"ok": 0.25}, s.values); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestSumNamespaces(t *testing.T) {
	t.Parallel()
	var frames []*frame
	for i := range 2 {
		f := newFrame(time.Unix(int64(10*i), 0), frameSize{})
		f.host().gauge("cpu.load1", 1)
		for j, ns := range []string{"netns:1", "netns:2"} {
			e := f.entity("netns", ns, 0, nil)
			e.counter("tcp.listen_overflows", float64(i*(j+1)*100))
			e.gauge("ports.used", 50)
			e.hidden("secret", float64(i))
		}
		frames = append(frames, f)
	}
	names := suffixes{}
	v := newView(frames, names)
	v.sumNamespaces(names)
	want := map[string]float64{"cpu.load1": 1, "cpu.load1.max": 1, "cpu.load1.last": 1,
		"tcp.listen_overflows": 30, "tcp.listen_overflows.total": 300}
	if d := cmp.Diff(want, v.host.values); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
