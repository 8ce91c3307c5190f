package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

// inside runs the binary in a namespace, on the real kernel, as a user would.
func inside(t *testing.T, ns *hosttest.Namespace, data string, args ...string) result {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"--data-dir", data}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + data}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	ns.Do(func() { _ = cmd.Run() }) // the status is read below
	return result{exit: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errs.String()}
}

// freshHost is a fresh network namespace with a /run of its own, so that the lock of the one writer is
// not another test's or a real serve's.
func freshHost(t *testing.T) *hosttest.Namespace {
	t.Helper()
	ns := hosttest.FreshNetns(t)
	hosttest.Alone(t)
	var err error
	ns.Do(func() {
		err = errors.Join(
			unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS),
			unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
			unix.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	})
	if err != nil {
		t.Fatalf("make a /run of its own: %v", err)
	}
	return ns
}

// sysctl reads a file of the namespace.
func sysctl(t *testing.T, ns *hosttest.Namespace, name string) string {
	t.Helper()
	var data []byte
	var err error
	ns.Do(func() { data, err = os.ReadFile(filepath.Join("/proc/sys", name)) })
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestApplyInAFreshNamespace is the whole way on a real kernel: stages, commit, verify, rollback.
func TestApplyInAFreshNamespace(t *testing.T) {
	ns := freshHost(t)
	data := filepath.Join(t.TempDir(), "data")
	before := sysctl(t, ns, "net/ipv4/tcp_rmem")
	meter := steady(t)
	got := inside(t, ns, data, "apply", "--set", "net.ipv4.tcp_rmem=4096,131072,8388608", "--set", "net.ipv4.tcp_wmem=4096,16384,8388608",
		"--meter", meter, "--stage-time", "4s", "--json")
	var r tune.Rollout
	got.decode(t, &r)
	if got.exit != 0 || r.State != tune.Committed || r.Effect == nil {
		t.Fatalf("exit %d, %s %s\n%s", got.exit, r.State, r.Detail, got.stderr)
	}
	if target := r.Recommendation.Changes[0].Target; target != ns.Target {
		t.Errorf("target %s, want %s", target, ns.Target)
	}
	if now := tune.Canonical(sysctl(t, ns, "net/ipv4/tcp_rmem")); now != "4096 131072 8388608" {
		t.Errorf("tcp_rmem is %q", now)
	}
	if got := inside(t, ns, data, "verify"); got.exit != 0 {
		t.Errorf("verify: exit %d\n%s", got.exit, got.stdout)
	}
	undo := inside(t, ns, data, "undo", "--print")
	if !strings.Contains(undo.stdout, fmt.Sprintf("sysctl -w 'net.ipv4.tcp_rmem=%s'\n", tune.Canonical(before))) {
		t.Errorf("undo --print:\n%s", undo.stdout)
	}
	if got := inside(t, ns, data, "rollback", r.ID); got.exit != 0 {
		t.Errorf("rollback: exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
	if after := sysctl(t, ns, "net/ipv4/tcp_rmem"); after != before {
		t.Errorf("tcp_rmem is %q, was %q", after, before)
	}
	if got := inside(t, ns, data, "verify"); got.exit != 0 || !strings.Contains(got.stdout, "Nothing to verify") {
		t.Errorf("verify after rollback: exit %d\n%s", got.exit, got.stdout)
	}
}

// overflow connects to a listener that accepts nothing, so that its accept queue overflows.
func overflow(t *testing.T, ns *hosttest.Namespace) (stop func()) {
	t.Helper()
	var l net.Listener
	var err error
	ns.Do(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
			ns.Do(func() {
				d := net.Dialer{Timeout: 5 * time.Millisecond}
				if c, err := d.Dial("tcp", l.Addr().String()); err == nil {
					c.Close()
				}
			})
		}
	})
	return func() {
		close(done)
		wg.Wait()
		l.Close()
	}
}

// TestRecommendNamesTheCause: a queue of 8 overflows, and the first advice is to make it longer; the
// same state gives the same ids.
func TestRecommendNamesTheCause(t *testing.T) {
	ns := freshHost(t)
	var err error
	ns.Do(func() { err = os.WriteFile("/proc/sys/net/core/somaxconn", []byte("8"), 0) })
	if err != nil {
		t.Fatal(err)
	}
	stop := overflow(t, ns)
	defer stop()
	data := filepath.Join(t.TempDir(), "data")
	ids := map[string]bool{}
	for range 2 {
		cmd := exec.Command(binary, "--data-dir", data, "recommend", "--window", "3s", "--json")
		cmd.Env = []string{"HOME=" + data}
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		ns.Do(func() { err = cmd.Start() })
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the status is read below
		var doc advice
		if err := json.Unmarshal(out.Bytes(), &doc); err != nil || cmd.ProcessState.ExitCode() != 0 {
			t.Fatalf("exit %d: %v\n%s", cmd.ProcessState.ExitCode(), err, errs.String())
		}
		if len(doc.Recommendations) == 0 {
			t.Fatalf("no recommendation; symptoms %+v", doc.Symptoms)
		}
		first := doc.Recommendations[0]
		ids[first.ID] = true
		named := false
		for _, c := range first.Changes {
			named = named || c.Tunable == "net.core.somaxconn" && c.Target == ns.Target && c.Current == "8"
		}
		if !named || !first.Admissible || first.Rationale == "" || first.Provenance.Measure.Signal == "" {
			t.Errorf("first recommendation %+v", first)
		}
	}
	if len(ids) != 1 {
		t.Errorf("the same state gave the ids %v", ids)
	}
}

// TestAnIdleHostGetsNoRecommendation looks at this machine as it is, and says so when it is not idle.
func TestAnIdleHostGetsNoRecommendation(t *testing.T) {
	ns := freshHost(t)
	got := inside(t, ns, filepath.Join(t.TempDir(), "data"), "recommend", "--window", "5s", "--json")
	var doc advice
	got.decode(t, &doc)
	if idle, ok := doc.Snapshot.Signals["cpu.idle_share"]; !ok || idle < 0.7 {
		t.Skipf("needs an idle host: its CPUs were idle %.0f %% of the time", idle*100)
	}
	if got.exit != 0 || len(doc.Recommendations) > 0 {
		for _, sym := range doc.Symptoms {
			t.Errorf("exit %d: recommends on an idle host: %s (%v)", got.exit, sym.Summary, sym.Evidence)
		}
	}
	if doc.Snapshot.Ticks < 5 || len(doc.Snapshot.Signals) < 100 {
		t.Errorf("only %d readings of %d signals", doc.Snapshot.Ticks, len(doc.Snapshot.Signals))
	}
}

// TestWithoutRightsItStillRecommends and says what it could not see.
func TestWithoutRightsItStillRecommends(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: becomes another user")
	}
	data := t.TempDir()
	if err := os.Chown(data, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	reachable(t, filepath.Dir(binary), data)
	for _, c := range []struct {
		args []string
		exit int
	}{
		{[]string{"recommend", "--window", "2s", "--json"}, 0},
		{[]string{"doctor", "--json"}, 0},
		{[]string{"status", "--json"}, 0},
		{[]string{"apply", "--set", "vm.swappiness=50", "--yes", "--json"}, 4},
		{[]string{"rollback", "--all", "--json"}, 4},
	} {
		got := asNobody(t, data, c.args...)
		var doc map[string]any
		got.decode(t, &doc)
		if got.exit != c.exit {
			t.Errorf("%v: exit %d, want %d\n%s", c.args, got.exit, c.exit, got.stderr)
		}
	}
}
