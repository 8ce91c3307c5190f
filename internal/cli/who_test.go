package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

// watched waits until a guard's watch is attached, which the kernel shows at its descriptors.
func watched(t *testing.T, guard int) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", guard))
		if err != nil || len(files) == 0 {
			t.Fatalf("the guard is gone: %v", err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err == nil && strings.Contains(string(text), "link_type:\tcgroup") {
				return
			}
		}
	}
	t.Fatal("the watch was not attached")
}

// tells skips where the kernel does not tell who writes; doctor says why.
func tells(t *testing.T) {
	t.Helper()
	w := (&app{}).makeWitness(host.New(host.Config{}))
	w.Start()
	defer w.Close()
	if w.noCalls != "" || w.noFiles != "" {
		t.Skipf("the kernel does not tell who writes: %s%s", w.noCalls, w.noFiles)
	}
}

// yieldOf runs a trial of one value, has a shell write another below it, and gives what the trial says of it.
func yieldOf(t *testing.T, ns *hosttest.Namespace, data string, set, file, tried, foreign string, args ...string) (tune.Rollout, int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(binary, append([]string{"--data-dir", data, "apply", "--set", set, "--yes", "--stage-time", "3s", "--json"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + data}
	cmd.Stdout, cmd.Stderr = &out, &errs
	var err error
	ns.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	if len(args) == 0 {
		watched(t, waitGuard(t, cmd.Process.Pid))
	}
	read := func() (v string) {
		ns.Do(func() {
			text, _ := os.ReadFile(file) // "" is not what is waited for
			v = strings.TrimSpace(string(text))
		})
		return v
	}
	for start := time.Now(); read() != tried; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > 60*time.Second {
			_ = cmd.Process.Kill()
			t.Fatalf("it is not tried: %q\n%s", read(), errs.String())
		}
	}
	shell := exec.Command("sh", "-c", fmt.Sprintf("echo %s > %s; sleep 0.1", foreign, file))
	ns.Do(func() { err = shell.Run() })
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the rollout says more
	var r tune.Rollout
	result{stdout: out.String(), stderr: errs.String()}.decode(t, &r)
	if r.State != tune.RolledBack || read() != foreign {
		t.Errorf("%s %s %q; it reads %q", r.State, r.Reason, r.Detail, read())
	}
	return r, shell.Process.Pid
}

func waitGuard(t *testing.T, parent int) int {
	t.Helper()
	for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range children {
			text, _ := os.ReadFile(f) // a thread that has ended has none
			for _, pid := range strings.Fields(string(text)) {
				line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
				if strings.Contains(string(line), "\x00guard\x00") {
					n := 0
					if _, err := fmt.Sscan(pid, &n); err != nil {
						t.Fatal(err)
					}
					return n
				}
			}
		}
	}
	t.Fatal("it has no guard")
	return 0
}

// TestApplySaysWhoWrote: a sysctl of a namespace and a device's file, in the rollout and in the log; with
// USE_EBPF=off it says that instead of a name.
func TestApplySaysWhoWrote(t *testing.T) {
	ns := freshHost(t)
	tells(t)
	data := t.TempDir()
	const file = "/proc/sys/net/ipv4/tcp_fin_timeout"
	r, pid := yieldOf(t, ns, data, "net.ipv4.tcp_fin_timeout=31", file, "31", "41")
	self, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("; written by sh (pid %d, of %s, pid %d; uid 0", pid, strings.TrimSpace(string(self)), os.Getpid())
	if r.Reason != tune.ReasonYielded || !strings.Contains(r.Detail, want) {
		t.Errorf("%s %q does not say %q", r.Reason, r.Detail, want)
	}
	if got := inside(t, ns, data, "history", "--audit", "--rollout", r.ID, "--json"); !strings.Contains(got.stdout, strings.TrimPrefix(want, "; ")) {
		t.Errorf("the log does not name it:\n%s", got.stdout)
	}
	r, _ = yieldOf(t, ns, data, "net.ipv4.tcp_fin_timeout=32", file, "32", "42", "--use-ebpf", "off")
	if r.Reason != tune.ReasonYielded || !strings.Contains(r.Detail, "; not known who: ") || !strings.Contains(r.Detail, "USE_EBPF=off") {
		t.Errorf("without programs: %s %q", r.Reason, r.Detail)
	}

	device := loopDevice(t)
	r, pid = yieldOf(t, ns, data, "block/"+device+"/queue/read_ahead_kb=256", "/sys/block/"+device+"/queue/read_ahead_kb", "256", "512")
	if want := fmt.Sprintf("(pid %d", pid); r.Reason != tune.ReasonYielded || !strings.Contains(r.Detail, "; written by ") || !strings.Contains(r.Detail, want) {
		t.Errorf("%s %q does not say %q", r.Reason, r.Detail, want)
	}
}

// loopDevice makes a device that is nobody else's, and leaves its read-ahead as it was.
func loopDevice(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	device := attachLoop(t, image)
	file := "/sys/block/" + device + "/queue/read_ahead_kb"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, before, 0o644); err != nil {
			t.Error(err)
		}
	})
	return device
}

// TestDoctorSaysWhetherTheKernelTells, and why not.
func TestDoctorSaysWhetherTheKernelTells(t *testing.T) {
	tells(t)
	text := func(a *app) string {
		var out strings.Builder
		for _, f := range a.witnessFindings(host.New(host.Config{Root: a.cfg.Root})) {
			fmt.Fprintln(&out, f.Status, f.Text)
		}
		return out.String()
	}
	a := &app{}
	if got := text(a); strings.Count(got, "ok the kernel tells who writes") != 2 {
		t.Error(got)
	}
	a.cfg.UseEBPF = "off"
	if got := text(a); !strings.Contains(got, "limited who writes a sysctl is not told: USE_EBPF=off") {
		t.Error(got)
	}
	a.cfg.Root = t.TempDir()
	if got := text(a); !strings.HasPrefix(got, "limited not told below another ROOT") {
		t.Error(got)
	}
}
