package guard

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// crossed is one whole story with one fault at one access of the guard to a tunable.
type crossed struct {
	t      *testing.T
	g      *ground
	c      *couple
	before map[string]string
	after  map[string]string // when the bundle stands
	step   int               // at which the fault falls
	fell   bool
	fault  func()
	// allowed is what may stand when nobody lives: a commit that failed may be known or not.
	allowed []map[string]string
	killed  bool // both are killed after the order in which the fault fell
}

// TestFaultsAtEveryStep: before and after each write of a whole story (apply, revert, apply again, commit, roll
// back) the parent is stopped for longer than its lease, the journal's disk is full from then on, or its file
// system turns read-only. What stands is committed or as before, with the fault and after it.
func TestFaultsAtEveryStep(t *testing.T) {
	strides := map[string]int{"SIGSTOP of the parent": 5, "disk full": 3, "file system turns read-only": 3}
	if os.Getenv("SOAK") != "" {
		strides = map[string]int{"SIGSTOP of the parent": 1, "disk full": 1, "file system turns read-only": 1}
	}
	for i, fault := range slices.Sorted(maps.Keys(strides)) {
		for step := 1 + i; ; step += strides[fault] {
			over := false
			t.Run(fmt.Sprintf("%s at access %d", fault, step), func(t *testing.T) { over = crossedAt(t, fault, step) })
			if t.Failed() {
				return
			}
			if over {
				if step < 24 {
					t.Errorf("%s: only %d accesses: the story is not told", fault, step)
				}
				break
			}
		}
	}
}

func crossedAt(t *testing.T, fault string, step int) (over bool) {
	x := &crossed{t: t, step: step, g: newGround(t, fmt.Sprintf("cross%d", step), fault == "file system turns read-only")}
	x.before = x.g.readAll()
	x.after = maps.Clone(x.before)
	x.allowed = []map[string]string{x.before}
	x.fault = map[string]func(){"SIGSTOP of the parent": x.stop, "disk full": x.g.fill, "file system turns read-only": x.g.turnReadOnly}[fault]
	x.killed = step%2 == 0 && fault != "SIGSTOP of the parent"
	x.start()
	x.tell()
	if x.c != nil {
		x.c.killGuard()
		x.c.killParent()
		x.c.end()
	}
	x.start() // while the fault stands
	x.oneOf("after a recovery while the fault stands", x.allowed...)
	x.c.killParent()
	x.c.end()
	switch fault {
	case "disk full":
		x.g.empty()
	case "file system turns read-only":
		if x.fell {
			x.g.remount()
		}
	}
	x.start()
	x.second()
	managed, err := Inspect(x.g.data, x.g.run, hostBoot(t))
	if err != nil {
		t.Error(err)
	}
	for _, m := range managed {
		if m.State != "committed" {
			t.Errorf("still %s: %+v", m.State, m)
		}
		if r := x.c.order(order{Verb: "rollback", Rollout: m.Rollout}); r.Error != nil {
			t.Errorf("rollback of %s: %s", m.Rollout, r.Error.Text)
		}
	}
	x.oneOf("after rollback", x.before)
	x.second()
	x.c.bye()
	return !x.fell
}

func (x *crossed) start() {
	x.t.Helper()
	c, r, ok := startCouple(x.t, x.g, hostBoot(x.t), nil, func(c *couple, _ string) {
		if x.step--; x.step == 0 {
			x.fell = true
			x.fault()
		}
	})
	if !ok {
		x.t.Fatalf("start: %+v", r.Error)
	}
	x.t.Cleanup(c.abandon)
	x.c = c
}

// second recovers once more, when there is nothing to do.
func (x *crossed) second() {
	x.t.Helper()
	x.c.bye()
	c, r := mustStart(x.t, x.g)
	if len(r.Notes) != 0 || c.seen != 0 {
		x.t.Errorf("a second recovery makes %d accesses and says %q", c.seen, r.Notes)
	}
	x.c = c
}

// stop is SIGSTOP of the parent until its lease is over and the guard has looked at that.
func (x *crossed) stop() {
	c := x.c
	_ = unix.Kill(c.cmd.Process.Pid, unix.SIGSTOP)
	since := time.Now()
	c.ticks = func() {
		if time.Since(since) < DefaultLease+DefaultLease/4 {
			return
		}
		managed, err := Inspect(x.g.data, x.g.run, hostBoot(x.t))
		if err != nil {
			x.t.Error(err)
		}
		if len(managed) != 0 && managed[0].State != "committed" {
			return
		}
		c.ticks = func() {}
		x.oneOf("while the parent is stopped", x.before) // no access is after a commit and before its rollback
		_ = unix.Kill(c.cmd.Process.Pid, unix.SIGCONT)
	}
}

// tell gives the orders of the story, checks each one's end, and leaves out what a failed one makes senseless.
func (x *crossed) tell() {
	bundle := []tune.Change{{Tunable: "net.ipv4.tcp_rmem", Target: x.g.own, Proposed: "4096 65536 2097152"},
		{Tunable: "net.ipv4.tcp_fin_timeout", Target: x.g.own, Proposed: "17"}, {Tunable: "net.core.somaxconn", Target: x.g.other, Proposed: "77"}}
	for _, c := range bundle {
		x.after[c.Tunable+"@"+c.Target] = string(c.Proposed)
	}
	for _, verb := range []string{"apply", "revert", "apply", "commit", "rollback"} {
		fell := x.fell
		o := order{Verb: verb, Rollout: "story"}
		if verb == "apply" {
			o.Changes = bundle
		}
		r := x.c.order(o)
		switch {
		case verb == "apply" && r.Error == nil && x.fell == fell:
			x.oneOf("after apply", x.after)
		case verb == "apply" && r.Error != nil:
			x.oneOf("after an apply that failed: "+r.Error.Text, x.before)
		case verb == "commit" && r.Error == nil:
			x.oneOf("after commit", x.after)
			x.allowed = []map[string]string{x.after}
		case verb == "commit":
			x.allowed = []map[string]string{x.before, x.after}
		case verb == "revert" || verb == "rollback":
			x.oneOf("after "+verb, x.before)
			x.allowed = []map[string]string{x.before}
		}
		if x.killed && x.fell {
			x.c.killGuard()
			x.c.killParent()
			x.c.end()
			x.c = nil
			return
		}
	}
}

// oneOf compares all that stands with what may stand.
func (x *crossed) oneOf(when string, allowed ...map[string]string) {
	x.t.Helper()
	now := x.g.readAll()
	if !slices.ContainsFunc(allowed, func(a map[string]string) bool { return maps.Equal(a, now) }) {
		got, _ := json.Marshal(now)
		want, _ := json.Marshal(allowed)
		x.t.Errorf("%s: %s, want one of %s", when, got, want)
	}
}
