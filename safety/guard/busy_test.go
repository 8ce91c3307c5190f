package guard

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

const ksm = "/sys/kernel/mm/ksm/"

// merged has the kernel merge pages of ours, which makes max_page_sharing answer EBUSY, or come apart again.
func merged(t *testing.T, page []byte, on bool) {
	t.Helper()
	run := map[bool]string{true: "1", false: "2"}[on]
	if on {
		for i := range page {
			page[i] = 7 // written again they come apart
		}
	}
	if err := os.WriteFile(ksm+"run", []byte(run), 0o644); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); (readKSM(t, "pages_shared") != "0") != on; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("pages_shared is %s with run %s", readKSM(t, "pages_shared"), run)
		}
	}
}

func readKSM(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(ksm + name)
	if err != nil {
		t.Skipf("no KSM: %v", err)
	}
	return strings.TrimSpace(string(data))
}

// TestBusyTunable: mm/ksm/max_page_sharing answers EBUSY for as long as any page is merged. A bundle with it is
// back as a whole; an original that cannot be put back is named and stays held while the rest is back, and the
// first command after the pages have come apart restores it.
func TestBusyTunable(t *testing.T) {
	g := newGround(t, "busy", false)
	hosttest.Alone(t)
	for _, name := range []string{"run", "sleep_millisecs", "pages_to_scan", "max_page_sharing"} {
		before := readKSM(t, name)
		t.Cleanup(func() {
			if err := os.WriteFile(ksm+name, []byte(before), 0o644); err != nil && readKSM(t, name) != before {
				t.Errorf("put %s back: %v", name, err)
			}
		})
	}
	if readKSM(t, "pages_shared") != "0" {
		t.Skip("this host has merged pages of its own")
	}
	for name, v := range map[string]string{"sleep_millisecs": "1", "pages_to_scan": "1000"} {
		if err := os.WriteFile(ksm+name, []byte(v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := unix.Mmap(-1, 0, 64*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { merged(t, page, false); _ = unix.Munmap(page) })
	if err := unix.Madvise(page, unix.MADV_MERGEABLE); err != nil {
		t.Skipf("no KSM: %v", err)
	}
	before, sharing := g.readAll(), readKSM(t, "max_page_sharing")
	bundle := []tune.Change{{Tunable: "net.core.somaxconn", Target: g.own, Proposed: "77"}, {Tunable: "mm/ksm/max_page_sharing", Target: "host", Proposed: "128"}}
	as := func(when, want string) {
		t.Helper()
		if got := readKSM(t, "max_page_sharing"); got != want {
			t.Errorf("%s: max_page_sharing is %s, want %s", when, got, want)
		}
		if now := g.readAll(); fmt.Sprint(now) != fmt.Sprint(before) {
			t.Errorf("%s: %v, want %v", when, now, before)
		}
	}
	c, _ := mustStart(t, g)
	busy := func(r report) bool {
		return r.Error != nil && strings.Contains(r.Error.Text, "mm/ksm/max_page_sharing") && strings.Contains(r.Error.Text, "device or resource busy")
	}

	merged(t, page, true)
	if r := c.order(order{Verb: "apply", Rollout: "r1", Changes: bundle}); !busy(r) {
		t.Errorf("apply of what is busy: %+v", r.Error)
	}
	as("after a refused bundle", sharing)

	merged(t, page, false)
	if r := c.order(order{Verb: "apply", Rollout: "r2", Changes: bundle}); r.Error != nil {
		t.Fatalf("apply: %+v", r.Error)
	}
	merged(t, page, true)
	if r := c.order(order{Verb: "rollback", Rollout: "r2"}); !busy(r) {
		t.Errorf("rollback of what is busy: %+v", r.Error)
	}
	as("while it is busy", "128")
	c.killGuard()
	c.end()
	c, r := mustStart(t, g)
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "max_page_sharing") }) {
		t.Errorf("a recovery that cannot restore says %q", r.Notes)
	}
	as("after a recovery while it is busy", "128")
	c.killParent()
	c.end()

	merged(t, page, false)
	c, _ = mustStart(t, g)
	as("after a recovery when it is not", sharing)
	c.bye()
	c, r = mustStart(t, g)
	if len(r.Notes) != 0 {
		t.Errorf("a second recovery says %q", r.Notes)
	}
	c.bye()
}

// TestErrnoOfASysctl: the kernel answers the write of a sysctl with each errno that no sysctl of ours gives by
// itself, when it is tried and when it is put back.
func TestErrnoOfASysctl(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EIO, unix.EBUSY, unix.EPERM, unix.EINVAL, unix.ENOMEM, unix.EINTR} {
		t.Run(errno.Error(), func(t *testing.T) { answersErrno(t, errno) })
	}
}

func answersErrno(t *testing.T, errno unix.Errno) {
	g := newGround(t, fmt.Sprintf("errno%d", errno), false)
	p, err := newErrnoProgram(fmt.Sprintf("semantos-errno-%d", os.Getpid()))
	if err != nil {
		t.Skipf("needs control groups of version 2: %v", err)
	}
	t.Cleanup(p.close)
	before := fmt.Sprint(g.readAll())
	bundle := []tune.Change{{Tunable: "net.ipv4.tcp_rmem", Target: g.own, Proposed: "4096 65536 2097152"}, {Tunable: "net.core.somaxconn", Target: g.other, Proposed: "77"}}
	start := func() *couple {
		c, _, ok := startCouple(t, g, hostBoot(t), p, nil)
		if !ok {
			t.Fatal("no guard")
		}
		t.Cleanup(c.abandon)
		return c
	}
	answer := func() func() {
		stop, err := p.answer(errno)
		if err != nil {
			t.Skipf("needs cgroup/sysctl programs: %v", err)
		}
		return stop
	}
	failed := func(r report) bool { return r.Error != nil && strings.Contains(r.Error.Text, errno.Error()) }

	c := start()
	stop := answer()
	if r := c.order(order{Verb: "apply", Rollout: "r1", Changes: bundle}); !failed(r) {
		t.Errorf("apply: %+v", r.Error)
	}
	if now := fmt.Sprint(g.readAll()); now != before {
		t.Errorf("after a refused bundle: %s, want %s", now, before)
	}
	stop()
	if r := c.order(order{Verb: "apply", Rollout: "r2", Changes: bundle}); r.Error != nil {
		t.Errorf("apply when the kernel takes it: %+v", r.Error)
	}
	stop = answer()
	if r := c.order(order{Verb: "rollback", Rollout: "r2"}); !failed(r) {
		t.Errorf("rollback: %+v", r.Error)
	}
	if now := fmt.Sprint(g.readAll()); now == before {
		t.Error("the kernel took the original: the program does not refuse it")
	}
	c.killParent()
	c.end()
	stop()
	c = start()
	if now := fmt.Sprint(g.readAll()); now != before {
		t.Errorf("after the next command: %s, want %s", now, before)
	}
	c.bye()
}
