package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

// servedHost is a namespace of the real kernel with a serve of the real binary in it.
type servedHost struct {
	ns    *hosttest.Namespace
	data  string
	ebpf  string // USE_EBPF; "": off
	serve *exec.Cmd
}

func (h *servedHost) start(t *testing.T) {
	t.Helper()
	h.serve = exec.Command(binary, "--data-dir", h.data, "serve", "--listen", "127.0.0.1:19777", "--use-ebpf", cmp.Or(h.ebpf, "off"))
	h.serve.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.data}
	var errs bytes.Buffer
	h.serve.Stderr = &errs
	var err error
	h.ns.Do(func() { err = h.serve.Start() })
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.serve
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// kill ends serve with kill -9 and waits until its guard has put everything back.
func (h *servedHost) kill(t *testing.T, name, original string) {
	t.Helper()
	h.killUntil(t, func() string {
		if now := sysctl(t, h.ns, name); now != original {
			return fmt.Sprintf("%s is %q, was %q", name, now, original)
		}
		return ""
	})
}

// killUntil ends serve with kill -9 and waits until nothing is left of what it tried.
func (h *servedHost) killUntil(t *testing.T, left func() string) {
	t.Helper()
	if err := h.serve.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = h.serve.Wait() // killed, and that is all
	for deadline := time.Now().Add(10 * time.Second); left() != ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after the kill %s", left())
		}
	}
}

// until asks serve until its newest rollout is as wanted.
func (h *servedHost) until(t *testing.T, what string, is func(tune.Rollout) bool) tune.Rollout {
	t.Helper()
	var last tune.Rollout
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		got := inside(t, h.ns, h.data, "status", "--json")
		var doc statusDocument
		if got.exit != 0 {
			continue
		}
		if got.decode(t, &doc); len(doc.Rollouts) > 0 {
			if last = doc.Rollouts[0]; is(last) {
				return last
			}
		}
	}
	t.Fatalf("no rollout that %s; the newest: %s %s %q", what, last.State, last.Reason, last.Detail)
	return last
}

// TestServeGoesOnOnARealKernel: kill -9 in the middle of a stage, and once more while held; the rollout goes
// on in the next serve, ends there, and a rollback gives the kernel its own value back.
func TestServeGoesOnOnARealKernel(t *testing.T) {
	h := &servedHost{ns: freshHost(t), data: t.TempDir()}
	const name = "net/ipv4/tcp_rmem"
	before := sysctl(t, h.ns, name)
	h.start(t)
	for _, held := range []bool{false, true} {
		h.answers(t)
		args := []string{"apply", "--set", "net.ipv4.tcp_rmem=4096,131072,8388608", "--yes", "--stage-time", "4s"}
		waits := stage(2)
		if held {
			args = append(args, "--hold")
			waits = func(r tune.Rollout) bool { return r.State == tune.Held }
		}
		client := exec.Command(binary, append([]string{"--data-dir", h.data}, args...)...)
		var err error
		h.ns.Do(func() { err = client.Start() }) // the namespace has one thread: nothing may wait in it
		if err != nil {
			t.Fatal(err)
		}
		was := h.until(t, "is where it is killed", func(r tune.Rollout) bool { return r.Ended.IsZero() && waits(r) })
		h.kill(t, name, before)
		_ = client.Wait() // its serve was killed
		h.start(t)
		if held {
			h.until(t, "is held again", func(r tune.Rollout) bool { return r.State == tune.Held && r.Resumed == 1 })
			if got := inside(t, h.ns, h.data, "advance"); got.exit != 0 {
				t.Errorf("advance: exit %d %s", got.exit, got.stderr)
			}
		}
		r := h.until(t, "has ended", ended)
		if r.ID != was.ID || r.State != tune.Committed || r.Resumed != 1 || tune.Canonical(sysctl(t, h.ns, name)) != "4096 131072 8388608" {
			t.Errorf("it went on as %s, %s %s %q, resumed %d; tcp_rmem %q", r.ID, r.State, r.Reason, r.Detail, r.Resumed, sysctl(t, h.ns, name))
		}
		if got := inside(t, h.ns, h.data, "rollback", r.ID); got.exit != 0 || sysctl(t, h.ns, name) != before {
			t.Errorf("rollback: exit %d, tcp_rmem %q, was %q\n%s", got.exit, sysctl(t, h.ns, name), before, got.stderr)
		}
	}
}

// TestServeGoesOnOverTargets: kill -9 while some of four namespaces have the change; every one of them gets its
// own value back, and the next serve goes on with the same targets, one of them at a time, with its own meter.
func TestServeGoesOnOverTargets(t *testing.T) {
	h := &servedHost{ns: freshHost(t), data: t.TempDir(), ebpf: "auto"}
	meter := "ebpf:comm=" + comm(t)
	args := []string{"--data-dir", h.data, "apply", "--yes", "--stage-time", "4s", "--steps", "25,50,100", "--margin", "0.9", "--slo-max-p95", "10000", "--meter", meter}
	var all []*exposureWitness
	for range 4 {
		one := newHouse(t)
		all = append(all, one.exposureWitness)
		one.ns.Do(func() { slowServer(t, time.Millisecond) })
		args = append(args, "--set", "net.ipv4.tcp_retries2@"+one.ns.Target+"=14")
	}
	h.start(t)
	h.answers(t)
	stop := watchAll(t, "14", all)
	client := exec.Command(binary, args...)
	var said bytes.Buffer
	client.Stderr = &said
	var err error
	h.ns.Do(func() { err = client.Start() })
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan struct{})
	go func() { _ = client.Wait(); close(left) }() // its serve is killed
	was := h.until(t, "is in its second stage", func(r tune.Rollout) bool {
		select {
		case <-left:
			t.Skip("probes cannot be loaded here: " + said.String())
		default:
		}
		return r.Ended.IsZero() && stage(2)(r)
	})
	h.killUntil(t, func() string {
		for _, w := range all {
			if now := w.read(); now != w.original {
				return fmt.Sprintf("%s is at %s, was %s", w.name, now, w.original)
			}
		}
		return ""
	})
	killed := time.Now()
	h.start(t)
	r := h.until(t, "has ended", ended)
	stop()
	if disturbed(r) {
		t.Skip("disturbed: " + r.Detail)
	}
	if r.ID != was.ID || r.Resumed != 1 || r.Meter != meter || r.State != tune.Committed && r.Reason != tune.ReasonInconclusive {
		t.Errorf("it went on as %s, %s %s %q by %s, resumed %d", r.ID, r.State, r.Reason, r.Detail, r.Meter, r.Resumed)
	}
	for i, st := range r.Stages {
		if st.Mode != "targets" || i > 0 && st.Compared+st.Treated == 0 {
			t.Errorf("stage %d by %s, %d treated against %d: %s", i, st.Mode, st.Treated, st.Compared, st.Reason)
		}
	}
	for _, w := range all {
		if w.treated(killed, r.Ended) == 0 {
			t.Errorf("%s was never treated again", w.name)
		}
	}
	if got := inside(t, h.ns, h.data, "rollback", "--all"); r.State == tune.Committed && got.exit != 0 {
		t.Errorf("rollback: exit %d %s", got.exit, got.stderr)
	}
	asBefore(t, all)
}

// answers waits for serve to listen.
func (h *servedHost) answers(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if got := inside(t, h.ns, h.data, "advance"); got.exit == exitUsage { // nothing waits: it listens
			return
		}
	}
	t.Fatal("serve does not answer")
}
