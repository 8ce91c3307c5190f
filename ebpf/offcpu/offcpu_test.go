package offcpu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/tune"
)

func TestMain(m *testing.M) {
	probetest.Main(m, map[string]func(*bufio.Scanner){"waiter": waiter})
}

// did is what a waiter did: how long it meant to wait in all, and how long that took by its own clock.
type did struct {
	Meant, Took time.Duration
	RunDelay    time.Duration // of it, waiting for a CPU, as the kernel accounts it
	Skip        string
}

// TestReasons lets a thread of a known name wait for known times, reason by reason.
func TestReasons(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{Comm: waiterName}})
	c := probetest.Start(t, "waiter")
	if s := c.Hear(); s != "ready" {
		t.Fatal(s)
	}
	const id = "comm:" + waiterName
	for _, r := range []string{"nanosleep", "futex", "poll", "read", "write", "accept", "wait", "sleep", "stopped", "io", "runnable"} {
		t.Run(r, func(t *testing.T) {
			before := probetest.Read(t, p)
			var d did
			if err := json.Unmarshal([]byte(c.Ask("%s", r)), &d); err != nil {
				t.Fatal(err)
			}
			if d.Skip != "" {
				t.Skip(d.Skip)
			}
			after := probetest.Read(t, p)
			h := after.Hist(id, waitName(r), before)
			queued := time.Duration(after.Hist(id, waitName("runnable"), before).Sum)
			got := time.Duration(h.Sum)
			t.Logf("%d waits, %v; meant %v, took %v, of it for a CPU %v (probe %v)", h.Count(), got, d.Meant, d.Took, d.RunDelay, queued)
			checkWait(t, r, d, got, queued)
			for _, other := range reasons() {
				if o := after.Hist(id, waitName(other.name), before); other.name != r && other.name != "runnable" && time.Duration(o.Sum) > d.Took/5 {
					t.Errorf("%v counted as %s", time.Duration(o.Sum), other.name)
				}
			}
		})
	}
	if p.Lost() != 0 {
		t.Errorf("lost %d", p.Lost())
	}
}

// checkWait holds what was counted against what was meant (a wait is never shorter) and took (in which a
// wait for the CPU and some system calls are included).
func checkWait(t *testing.T, r string, d did, got, queued time.Duration) {
	t.Helper()
	switch {
	case r == "runnable":
		if ratio := got.Seconds() / d.RunDelay.Seconds(); math.Abs(ratio-1) > 0.1 {
			t.Errorf("%.2f of the kernel's run_delay", ratio)
		}
		if d.RunDelay < 50*time.Millisecond {
			t.Error("it did not wait for a CPU; the test proves nothing")
		}
		return
	case r == "io":
		if ratio := (got + queued).Seconds() / d.Took.Seconds(); ratio < 0.5 || ratio > 1.05 {
			t.Errorf("%.2f of the time the reads took", ratio)
		}
		return
	}
	least := 0.95
	if r == "wait" || r == "stopped" { // the other process's time runs before this one begins to wait
		least = 0.7
	}
	if (got+queued).Seconds() < d.Meant.Seconds()*least || got > d.Took*102/100 {
		t.Errorf("%v is not between what was meant and what it took", got)
	}
	if got < d.Took*6/10 {
		t.Errorf("%v of the %v it took", got, d.Took)
	}
}

// TestProcess holds that a process is told apart from another that does the same.
func TestProcess(t *testing.T) {
	one, other := probetest.Start(t, "waiter"), probetest.Start(t, "waiter")
	one.Hear()
	other.Hear()
	p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{TGID: uint32(one.Pid)}})
	other.Ask("accept")
	id := fmt.Sprintf("pid:%d", one.Pid)
	if n := probetest.Read(t, p).Hist(id, waitName("accept")).Count(); n != 0 {
		t.Errorf("%d waits in accept are another process's", n)
	}
	var d did
	if err := json.Unmarshal([]byte(one.Ask("accept")), &d); err != nil {
		t.Fatal(err)
	}
	r := probetest.Read(t, p)
	if got := time.Duration(r.Hist(id, waitName("accept")).Sum); got < d.Meant*9/10 || got > d.Took*102/100 {
		t.Errorf("in accept %v, meant %v, took %v", got, d.Meant, d.Took)
	}
	if s := r.Subjects[id]; s.Kind != tune.EntityProcess || s.Labels["process"] != id {
		t.Errorf("belongs to %+v", s)
	}
	if s, ok := r.Value(id, shareName("accept")); !ok || s <= 0 {
		t.Error("no time in accept")
	}
}

func TestNeedsProcess(t *testing.T) {
	for _, s := range []probe.Scope{{}, {Cgroup: 1}, {Netns: 1}} {
		p, err := probe.Load(New(), probe.Options{Scope: s})
		if err == nil {
			p.Close()
			t.Errorf("%+v: loaded without a process", s)
		} else if !errors.Is(err, tune.ErrUsage) && !errors.Is(err, tune.ErrNotPermitted) {
			t.Error(err)
		}
	}
}
