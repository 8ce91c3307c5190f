package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/workloads"
	"semantos/workloads/web"
)

// kept is the bundle that cured an nginx with a short accept queue, and with it a tunable that does nothing
// for it.
type keptBundle struct {
	*trial
	p       *place
	id      string
	samples string
}

const (
	somaxconnFile = "/proc/sys/net/core/somaxconn"
	idleFile      = "/proc/sys/net/ipv4/tcp_keepalive_time"
)

func keep(t *testing.T, b built) *keptBundle {
	t.Helper()
	ctx := t.Context()
	h := &harmTrial{disk: "/var/tmp", self: b.lab}
	p, err := h.newPlace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.addNetns(ctx); err != nil {
		t.Fatal(err)
	}
	k := &keptBundle{p: p, samples: filepath.Join(p.dir, "samples"),
		trial: &trial{scenario: scenario{netns: true}, env: p.env, semantos: b.semantos, dataDir: filepath.Join(p.dir, "data"), log: testLog{t}}}
	if err := k.write(ctx, setting{somaxconnFile, "8"}); err != nil {
		t.Fatal(err)
	}
	load := &web.Load{Dir: p.dir, Netns: p.netns, Port: webPort, Clients: 128, Prober: p.self, Args: []string{"probe"}}
	t.Cleanup(func() {
		if err := load.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := load.Start(ctx); err != nil {
		t.Fatal(err)
	}
	set, err := backlog(ctx, p, 4096)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := p.netnsTarget()
	if err != nil {
		t.Fatal(err)
	}
	out, err := k.call(ctx, "apply", "--set", set[0], "--set", set[1], "--set", "net.ipv4.tcp_keepalive_time@"+ns+"=7000",
		"--yes", "--stage-time", "1s", "--json")
	var doc struct{ ID, State, Detail string }
	if err != nil || json.Unmarshal(out, &doc) != nil || doc.State != "committed" {
		t.Fatalf("%v: %s", err, out)
	}
	k.id = doc.ID
	driveCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	driven := make(chan error, 1)
	go func() { driven <- workloads.Drive(driveCtx, load, harmEach, k.samples) }()
	t.Cleanup(func() {
		stop()
		if err := <-driven; err != nil {
			t.Error(err)
		}
	})
	return k
}

func (k *keptBundle) args() []string {
	return []string{"ablate", k.id, "--stage-time", "20s", "--margin", "0.9", "--slo-max-p95", "1000", "--meter", "cmd:" + k.p.self + " meter " + k.samples, "--json"}
}

// values are what stands of the bundle: the sysctls and the live backlog.
func (k *keptBundle) values(t *testing.T) string {
	t.Helper()
	queue, err := workloads.Command(t.Context(), k.p.netns, "ss", "-Hltn", "sport", "=", ":"+strconv.Itoa(webPort)).Output()
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(queue))
	return fmt.Sprintf("%s %s %s", k.text(t, somaxconnFile), k.text(t, idleFile), fields[2])
}

func (k *keptBundle) text(t *testing.T, file string) string {
	t.Helper()
	s, err := k.read(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(s)
}

// TestAblate is the whole way with a real nginx: killed while something is left out, alone and with its
// guard, the bundle stands as it was kept; at last what does nothing is undone and what cured it stays.
func TestAblate(t *testing.T) {
	b := build(t)
	k := keep(t, b)
	const whole = "4096 7000 4096"
	if got := k.values(t); got != whole {
		t.Fatalf("kept %s", got)
	}
	for _, both := range []bool{false, true} {
		k.killWhileLeftOut(t, both)
		if !both {
			if got := k.soon(t, whole); got != whole {
				t.Fatalf("after kill -9 it stands at %s", got)
			}
		}
	}
	out, err := k.call(t.Context(), k.args()...) // restores what both left, first
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		State, Reason string
		Changes       []struct {
			Tunable, Verdict, Why string
			Undone                bool
		}
	}
	if err := json.Unmarshal(out, &doc); err != nil || len(doc.Changes) != 3 {
		t.Fatalf("%v: %s", err, out)
	}
	for i, want := range []string{"undecided false", "earns false", "nothing true"} {
		if got := fmt.Sprintf("%s %v", doc.Changes[i].Verdict, doc.Changes[i].Undone); got != want {
			t.Errorf("%s: %s (%s), want %s\n%s", doc.Changes[i].Tunable, got, doc.Changes[i].Why, want, out)
		}
	}
	if got := k.values(t); got != "4096 7200 4096" {
		t.Errorf("it stands at %s", got)
	}
	if _, err := k.call(t.Context(), "rollback", k.id); err != nil {
		t.Error(err)
	}
	if got := k.values(t); got != "8 7200 8" {
		t.Errorf("rolled back it stands at %s", got)
	}
}

// killWhileLeftOut starts an ablation and kills it, or its guard too, while the idle tunable is left out.
func (k *keptBundle) killWhileLeftOut(t *testing.T, both bool) {
	t.Helper()
	cmd := exec.Command(k.semantos, k.args()...)
	cmd.Env = append(os.Environ(), "DATA_DIR="+k.dataDir)
	var out workloads.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got := k.until(t, "7200", time.Minute); got != "7200" {
		t.Errorf("nothing was left out within a minute: %s", out.String())
	}
	pid := cmd.Process.Pid
	if both {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			t.Error(err)
		}
		for child := range strings.FieldsSeq(string(children)) {
			if n, err := strconv.Atoi(child); err == nil && isGuard(n) {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed by us
}

func isGuard(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(text), "\x00guard\x00")
}

// until waits for the idle tunable to have a value.
func (k *keptBundle) until(t *testing.T, want string, most time.Duration) string {
	t.Helper()
	end := time.Now().Add(most)
	for {
		got := k.text(t, idleFile)
		if got == want || time.Now().After(end) {
			return got
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// soon waits for the bundle to stand: a guard whose parent died has a second.
func (k *keptBundle) soon(t *testing.T, want string) string {
	t.Helper()
	end := time.Now().Add(3 * time.Second)
	for {
		got := k.values(t)
		if got == want || time.Now().After(end) {
			return got
		}
		time.Sleep(50 * time.Millisecond)
	}
}
