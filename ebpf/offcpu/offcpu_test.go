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

const id = "comm:" + waiterName // what all waits belong to

// tries is how often one may be tried: on a machine seen, some switches reach no tracepoint, and the wait
// that one ends is not counted. A loaded machine also starts processes late.
const tries = 4

// TestReasons lets a thread of a known name wait for known times, reason by reason.
func TestReasons(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{Comm: waiterName}})
	c := probetest.Start(t, "waiter")
	if s := c.Hear(); s != "ready" {
		t.Fatal(s)
	}
	for _, r := range []string{"nanosleep", "futex", "poll", "read", "write", "accept", "wait", "sleep", "stopped", "io", "runnable"} {
		t.Run(r, func(t *testing.T) {
			var err error
			for range tries {
				if err = try(t, p, c, r); err == nil {
					return
				}
				t.Log(err)
			}
			t.Error(err)
		})
	}
	if p.Lost() != 0 {
		t.Errorf("lost %d", p.Lost())
	}
}

// try lets the waiter wait once more and judges what was counted of it.
func try(t *testing.T, p *probe.Probe, c *probetest.Child, r string) error {
	t.Helper()
	before := probetest.Read(t, p)
	var d did
	if err := json.Unmarshal([]byte(c.Ask("%s", r)), &d); err != nil {
		t.Fatal(err)
	}
	if d.Skip != "" {
		t.Skip(d.Skip)
	}
	after := probetest.Read(t, p)
	since := func(r string) time.Duration { return time.Duration(after.Hist(id, waitName(r), before).Sum) }
	got, queued := since(r), since("runnable")
	t.Logf("%v; meant %v, took %v, of it for a CPU %v (probe %v)", got, d.Meant, d.Took, d.RunDelay, queued)
	for _, other := range reasons() {
		if o := since(other.name); other.name != r && other.name != "runnable" && o > d.Took/5 {
			return fmt.Errorf("%v counted as %s", o, other.name)
		}
	}
	return checkWait(r, d, got, queued)
}

// checkWait holds what was counted against what was meant (a wait is never shorter) and took (in which a
// wait for the CPU and some system calls are included).
func checkWait(r string, d did, got, queued time.Duration) error {
	least, most := 0.95, 0.6
	switch r {
	case "runnable":
		if ratio := got.Seconds() / d.RunDelay.Seconds(); math.Abs(ratio-1) > 0.1 {
			return fmt.Errorf("%.2f of the kernel's run_delay", ratio)
		}
		if d.RunDelay < 50*time.Millisecond {
			return errors.New("it did not wait for a CPU; the test proves nothing")
		}
		return nil
	case "io":
		if ratio := (got + queued).Seconds() / d.Took.Seconds(); ratio < 0.5 || ratio > 1.05 {
			return fmt.Errorf("%.2f of the time the reads took", ratio)
		}
		return nil
	case "wait", "stopped": // the other process's time runs before this one begins to wait, and it takes to start
		least, most = 0.7, 0.2
	}
	if (got+queued).Seconds() < d.Meant.Seconds()*least || got > d.Took*102/100 {
		return fmt.Errorf("%v is not between what was meant and what it took", got)
	}
	if got.Seconds() < d.Took.Seconds()*most {
		return fmt.Errorf("%v of the %v it took", got, d.Took)
	}
	return nil
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
	if got := time.Duration(r.Hist(id, waitName("accept")).Sum); got < d.Meant*3/4 || got > d.Took*102/100 {
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
