package recognise

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// scene is a snapshot with one process of interest, in a namespace with a server and datagrams.
type scene struct {
	process map[string]float64
	request float64 // answered per second; negative when nobody counts
	netns   map[string]float64
	comm    string
	cgroup  string
}

func (s scene) at(after time.Duration) tune.Snapshot {
	snap := tune.Snapshot{Time: noon.Add(after), Signals: map[string]float64{}, Entities: map[string][]tune.Entity{}}
	s.into(&snap, 7)
	return snap
}

func (s scene) into(snap *tune.Snapshot, pid int) {
	comm := s.comm
	if comm == "" {
		comm = "prog"
	}
	snap.Entities[tune.EntityProcess] = append(snap.Entities[tune.EntityProcess], tune.Entity{Kind: tune.EntityProcess,
		ID: fmt.Sprintf("pid:%d", pid), Signals: s.process,
		Labels: map[string]string{"comm": comm, "pid": fmt.Sprint(pid), "cgroup": s.cgroup, "udp_netns": "netns:1"}})
	if s.netns != nil {
		snap.Entities[tune.EntityNetns] = []tune.Entity{{Kind: tune.EntityNetns, ID: "netns:1", Signals: s.netns}}
	}
	if s.request >= 0 {
		snap.Signals["request.count"] = s.request
	}
	if s.request > 0 {
		snap.Entities[tune.EntityServer] = append(snap.Entities[tune.EntityServer], tune.Entity{Kind: tune.EntityServer, ID: "s" + comm,
			Labels: map[string]string{"comm": comm, "netns": "netns:1"}, Signals: map[string]float64{"request.count": s.request}})
	}
}

func base(more map[string]float64) map[string]float64 {
	out := map[string]float64{cpuShare: 0.5, "process.system_share": 0.3, "process.vol_switches": 5000, "process.minor_faults": 10,
		"process.read_calls": 5000, "process.write_calls": 5000, "process.write_bytes": 0, realtimeThreads: 0,
		"process.tcp_sent_bytes": 0, "process.tcp_recv_bytes": 0, "process.udp_bound": 0}
	maps.Copy(out, more)
	return out
}

func scenes() map[string]scene {
	quiet := map[string]float64{"tcp.passive_opens": 0, "udp.in_datagrams": 0}
	return map[string]scene{
		tune.WorkloadWeb: {base(map[string]float64{"process.tcp_sent_bytes": 3e5, "process.tcp_recv_bytes": 5e4, segment: 300}), 1000, quiet, "", ""},
		tune.WorkloadOLTP: {base(map[string]float64{"process.tcp_sent_bytes": 3e4, "process.tcp_recv_bytes": 5e4, segment: 50}), 1000, quiet,
			"", ""},
		tune.WorkloadStreaming: {base(map[string]float64{"process.tcp_sent_bytes": 5e7, "process.tcp_recv_bytes": 10, segment: 1448}), 0, quiet, "", ""},
		tune.WorkloadSensor:    {base(map[string]float64{"process.udp_bound": 1, cpuShare: 0.1}), 0, map[string]float64{"udp.in_datagrams": 4000}, "", ""},
		tune.WorkloadHPC: {base(map[string]float64{cpuShare: 1.9, "process.system_share": 0.01, "process.vol_switches": 2, "process.read_calls": 0,
			"process.write_calls": 0}), 0, quiet, "", ""},
		tune.WorkloadAudio: {base(map[string]float64{cpuShare: 0.02, realtimeThreads: 1, realtimeWakeups: 190}), 0, quiet, "", ""},
	}
}

func said(ws []tune.Workload) string {
	out := ""
	for _, w := range ws {
		if w.Of == tune.EntityProcess {
			out += w.Kind
		}
	}
	return out
}

func TestEachKind(t *testing.T) {
	for kind, s := range scenes() {
		ws := New().Look(s.at(0))
		if said(ws) != kind || len(ws[0].Evidence) < 2 || ws[0].Score < enough || ws[0].Score > 1 {
			t.Errorf("%s was taken for %+v", kind, ws)
		}
		for _, w := range ws {
			for _, f := range w.Evidence {
				if f.Unit == "" {
					t.Errorf("%s: %s has no unit", kind, f.Signal)
				}
			}
		}
	}
}

// TestConnectionPerRequest: of such connections no bytes are seen, and they are answer enough.
func TestConnectionPerRequest(t *testing.T) {
	s := scenes()[tune.WorkloadWeb]
	s.process = base(nil)
	s.netns = map[string]float64{"tcp.passive_opens": 990}
	if got := said(New().Look(s.at(0))); got != tune.WorkloadWeb {
		t.Errorf("taken for %q", got)
	}
	s.netns = map[string]float64{"tcp.passive_opens": 0}
	if got := said(New().Look(s.at(0))); got != "" {
		t.Errorf("with nothing known of its answers it was taken for %q", got)
	}
}

// TestMissing: each reading alone may be missing, or be no number; that never makes another kind of it.
func TestMissing(t *testing.T) {
	for kind, s := range scenes() {
		for name, old := range s.process {
			for _, bad := range []float64{math.NaN(), math.Inf(1), -1} {
				if bad == -1 {
					delete(s.process, name)
				} else {
					s.process[name] = bad
				}
				r := New()
				got := r.Look(s.at(0))
				if k := said(got); k != "" && k != kind {
					t.Errorf("%s with %s=%v was taken for %s", kind, name, bad, k)
				}
				for _, w := range got {
					if !(w.Score > 0 && w.Score <= 1) {
						t.Errorf("%s with %s=%v has score %v", kind, name, bad, w.Score)
					}
				}
				s.process[name] = old
			}
		}
		s.request = -1 // without probes
		if k := said(New().Look(s.at(0))); k != "" && k != kind {
			t.Errorf("%s without probes was taken for %s", kind, k)
		}
		if k := said(New().Look(s.at(0))); k == tune.WorkloadWeb || k == tune.WorkloadOLTP {
			t.Errorf("%s without probes was taken for %s", kind, k)
		}
	}
}

func TestUnknownStaysUnknown(t *testing.T) {
	r := New()
	for i := range 60 {
		s := scene{process: base(nil)}
		if ws := r.Look(s.at(time.Duration(i) * time.Second)); len(ws) != 0 {
			t.Fatalf("taken for %+v", ws)
		}
	}
}

// TestNoFlicker: work that alternates keeps the name it has, work that changes gets another once.
func TestNoFlicker(t *testing.T) {
	r, all := New(), scenes()
	web, oltp := all[tune.WorkloadWeb], all[tune.WorkloadOLTP]
	var names []string
	look := func(s scene, at int) {
		k := said(r.Look(s.at(time.Duration(at) * time.Second)))
		if len(names) == 0 || names[len(names)-1] != k {
			names = append(names, k)
		}
	}
	for i := range 60 {
		look([]scene{web, oltp}[i%2], i)
	}
	if d := cmp.Diff([]string{tune.WorkloadWeb}, names); d != "" {
		t.Errorf("alternating work (-want +got):\n%s", d)
	}
	for i := 60; i < 180; i++ {
		look(oltp, i)
	}
	idle := scene{process: base(map[string]float64{cpuShare: 0}), netns: oltp.netns}
	for i := 180; i < 300; i++ {
		look(idle, i)
	}
	if d := cmp.Diff([]string{tune.WorkloadWeb, tune.WorkloadOLTP, ""}, names); d != "" {
		t.Errorf("changed work (-want +got):\n%s", d)
	}
}

func TestSameTimeChangesNothing(t *testing.T) {
	r, all := New(), scenes()
	before := r.Look(all[tune.WorkloadWeb].at(0))
	for range 100 {
		r.Look(all[tune.WorkloadOLTP].at(0))
	}
	after := r.Look(all[tune.WorkloadWeb].at(0))
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("looking again changed it:\n%s", d)
	}
}

func TestForgets(t *testing.T) {
	r, web := New(), scenes()[tune.WorkloadWeb]
	r.Look(web.at(0))
	if len(r.held) == 0 {
		t.Fatal("nothing was remembered")
	}
	r.Look(tune.Snapshot{Time: noon.Add(time.Second)})
	if len(r.held) != 0 {
		t.Errorf("%d that are gone are remembered", len(r.held))
	}
	r.Look(web.at(2 * time.Second))
	next := scenes()[tune.WorkloadHPC]
	next.comm = "other" // the pid runs another program
	if got := said(r.Look(next.at(3 * time.Second))); got != tune.WorkloadHPC {
		t.Errorf("a new program under an old pid was taken for %q", got)
	}
}

// TestGroups: a group is like what uses most of its CPU time; what is like nothing counts against it.
func TestGroups(t *testing.T) {
	all := scenes()
	hpc, audio, unknown := all[tune.WorkloadHPC], all[tune.WorkloadAudio], scene{process: base(map[string]float64{cpuShare: 3})}
	group := func(parts ...scene) string {
		snap := tune.Snapshot{Time: noon, Signals: map[string]float64{"request.count": 0}, Entities: map[string][]tune.Entity{}}
		for i, p := range parts {
			p.cgroup, p.request, p.comm = "/a.slice", 0, fmt.Sprint("p", i)
			p.into(&snap, i+1)
		}
		for _, w := range New().Look(snap) {
			if w.Of == tune.EntityCgroup {
				if w.Entity != "/a.slice" || len(w.Evidence) == 0 {
					t.Errorf("group is %+v", w)
				}
				return w.Kind
			}
		}
		return ""
	}
	if got := group(hpc, audio); got != tune.WorkloadHPC {
		t.Errorf("much computing and a little audio is %q", got)
	}
	if got := group(hpc, unknown); got != "" {
		t.Errorf("computing beside much of nothing known is %q", got)
	}
}

// TestOrder: the same snapshots give the same answer, the busiest first.
func TestOrder(t *testing.T) {
	build := func() []tune.Workload {
		snap := tune.Snapshot{Time: noon, Signals: map[string]float64{"request.count": 0}, Entities: map[string][]tune.Entity{}}
		for i := range 12 {
			s := scenes()[tune.WorkloadHPC]
			s.comm, s.cgroup = fmt.Sprint("p", i), fmt.Sprint("/g", i%3)
			s.process[cpuShare] = 1 + float64(i%4)
			s.into(&snap, i+1)
		}
		return New().Look(snap)
	}
	first := build()
	if len(first) != 15 || !slices.IsSortedFunc(first, func(a, b tune.Workload) int { return -cmpFloat(a.CPUShare, b.CPUShare) }) {
		t.Errorf("%d workloads in the order %+v", len(first), first)
	}
	for range 20 {
		if d := cmp.Diff(first, build()); d != "" {
			t.Fatalf("another answer:\n%s", d)
		}
	}
}

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
