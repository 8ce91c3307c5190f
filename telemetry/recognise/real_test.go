package recognise_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/ebpf"
	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/telemetry"
)

// TestRealPrograms runs real programs one after another and says what each was taken for. It fails when
// one is taken for another kind, or a kind's own program for none.
func TestRealPrograms(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("probes and other users' processes need root")
	}
	set, err := ebpf.Open(t.Context(), ebpf.Config{Mode: ebpf.Auto, Turn: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	for _, s := range set.Status() {
		if s.Name == "reqlat" && s.State == ebpf.StateFailed {
			t.Skipf("requests cannot be counted here: %s", s.Reason)
		}
	}
	h := host.New(host.Config{})
	defer h.Close()
	for _, p := range programs() {
		t.Run(p.name, func(t *testing.T) {
			if testing.Short() && !p.short {
				t.Skip("one program of each kind is enough in a hurry")
			}
			sampler, err := telemetry.New(telemetry.Config{Host: h, Window: time.Minute, Probes: set})
			if err != nil {
				t.Fatal(err)
			}
			defer sampler.Close()
			p.run(t)
			watch(t, sampler, p.want)
		})
	}
}

// program is a load, and what its processes are to be taken for, by name; "" is no kind. A name that is
// not listed may be taken for nothing at all, when it was started here.
type program struct {
	name  string
	short bool
	run   func(t *testing.T)
	want  map[string][]string
}

// watch looks for some seconds, as serve does, and holds what it saw against what it should see.
func watch(t *testing.T, s *telemetry.Sampler, want map[string][]string) {
	t.Helper()
	looks := 6
	if os.Getenv("SOAK") != "" {
		looks = 60
	}
	var snap tune.Snapshot
	for range looks {
		if err := s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		snap = s.Snapshot()
		time.Sleep(time.Second)
	}
	taken := map[string][]tune.Workload{}
	for _, p := range snap.Entities[tune.EntityProcess] {
		pid, _ := strconv.Atoi(p.Labels["pid"])
		name := p.Labels["comm"]
		if !descends(pid) {
			continue
		}
		w := tune.Workload{}
		if i := slices.IndexFunc(snap.Workloads, func(w tune.Workload) bool {
			return w.Of == tune.EntityProcess && w.Entity == p.ID
		}); i >= 0 {
			w = snap.Workloads[i]
		}
		taken[name] = append(taken[name], w)
		t.Logf("%s cpu %.2f is %q %.2f %v: %v", name, p.Signals["process.cpu_share"], w.Kind, w.Score, w.Evidence, readingsOf(p))
	}
	for name, list := range taken {
		allowed, listed := want[name]
		if !listed {
			allowed = []string{""}
		}
		best := slices.MaxFunc(list, func(a, b tune.Workload) int { return cmp.Compare(a.Score, b.Score) })
		t.Logf("RESULT %s: %q %.2f", name, best.Kind, best.Score)
		if !slices.Contains(allowed, best.Kind) {
			t.Errorf("%s was taken for %q, not %q", name, best.Kind, allowed)
		}
		for _, w := range list { // one of several workers may be idle
			if w.Kind != "" && !slices.Contains(allowed, w.Kind) {
				t.Errorf("%s was taken for %q (%v), not %q", name, w.Kind, w.Evidence, allowed)
			}
		}
	}
	for name, allowed := range want {
		if _, seen := taken[name]; !seen && !slices.Contains(allowed, "") {
			t.Errorf("%s was not seen", name)
		}
	}
}

func readingsOf(p tune.Entity) string {
	var out []string
	for name, v := range p.Signals {
		if short, ok := strings.CutPrefix(name, "process."); ok && !strings.Contains(short, ".") && v != 0 {
			out = append(out, fmt.Sprintf("%s=%.3g", short, v))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// descends says that a process was started by this one, perhaps through others.
func descends(pid int) bool {
	for range 8 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(f) < 2 {
			return false
		}
		parent, err := strconv.Atoi(f[1])
		if err != nil || parent <= 1 {
			return false
		}
		if parent == os.Getpid() {
			return true
		}
		pid = parent
	}
	return false
}

func programs() []program {
	web, oltp, none := []string{tune.WorkloadWeb}, []string{tune.WorkloadOLTP}, []string{""}
	streaming := []string{tune.WorkloadStreaming}
	return []program{
		{"web keep-alive", true, nginx("65"), map[string][]string{"nginx": web}},
		{"web connection each", false, nginx("0"), map[string][]string{"nginx": web}},
		{"oltp redis", true, redis, map[string][]string{"redis-server": oltp}},
		{"oltp postgres", false, postgres, map[string][]string{"postgres": oltp}},
		{"streaming", true, iperf, map[string][]string{"iperf3": streaming}},
		{"sensor", true, sensor, map[string][]string{"lab": {tune.WorkloadSensor}}},
		{"hpc", true, child("compute"), map[string][]string{"compute": {tune.WorkloadHPC}}},
		{"audio", true, audio, map[string][]string{"audio": {tune.WorkloadAudio}}},
		{"files dd", false, files, map[string][]string{"dd": none}},
		{"compile", false, compile, map[string][]string{"compile": {"", tune.WorkloadHPC}, "link": {"", tune.WorkloadHPC}}},
	}
}

func tool(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
			p := filepath.Join(dir, name)
			if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
				return p
			}
		}
	}
	t.Skipf("%s is not installed", names[0])
	return ""
}

// start runs a program until the test ends.
func start(t *testing.T, env []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // ended by us
	})
	return cmd
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func reachable(t *testing.T, port int) {
	t.Helper()
	for range 100 {
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("nothing listens on port %d", port)
}

const nginxConf = `daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 4096; }
http { access_log off; keepalive_timeout %[3]s; keepalive_requests 100000000;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen 127.0.0.1:%[2]d; location / { return 200 "ok\n"; } } }
`

func nginx(keepAlive string) func(*testing.T) {
	return func(t *testing.T) {
		server, wrk := tool(t, "nginx"), tool(t, "wrk")
		dir, port := t.TempDir(), freePort(t)
		conf := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, port, keepAlive), 0o600); err != nil {
			t.Fatal(err)
		}
		start(t, nil, server, "-e", filepath.Join(dir, "error.log"), "-c", conf)
		reachable(t, port)
		start(t, nil, wrk, "-t1", "-c100", "-d600s", fmt.Sprintf("http://127.0.0.1:%d/", port))
	}
}

func redis(t *testing.T) {
	server, bench := tool(t, "redis-server"), tool(t, "redis-benchmark")
	port := strconv.Itoa(freePort(t))
	start(t, nil, server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	n, _ := strconv.Atoi(port)
	reachable(t, n)
	start(t, nil, bench, "-p", port, "-t", "set", "-n", "1000000000", "-r", "100000", "-d", "100", "-q")
}

func postgres(t *testing.T) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	bench := tool(t, "pgbench")
	if len(found) == 0 {
		t.Skip("postgresql is not installed")
	}
	su := tool(t, "setpriv")
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "recognise-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	if err := errors.Join(os.Chown(dir, nobody, nobody), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	as := []string{"--reuid=65534", "--regid=65534", "--clear-groups"}
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), su, append(append(slices.Clone(as), name), args...)...)
		cmd.Dir = "/"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	data := filepath.Join(dir, "data")
	port := strconv.Itoa(freePort(t))
	run(filepath.Join(bin, "initdb"), "-D", data, "-A", "trust", "-U", "pg", "--no-sync")
	start(t, nil, su, append(as, filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-h", "127.0.0.1", "-k", dir)...)
	n, _ := strconv.Atoi(port)
	reachable(t, n)
	for range 40 { // it answers connections before it takes commands
		if exec.Command(bench, "-h", "127.0.0.1", "-p", port, "-U", "pg", "-i", "-q", "postgres").Run() == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	start(t, nil, bench, "-h", "127.0.0.1", "-p", port, "-U", "pg", "-c", "8", "-T", "600", "postgres")
}

func iperf(t *testing.T) {
	bin, port := tool(t, "iperf3"), freePort(t)
	start(t, nil, bin, "-s", "-p", strconv.Itoa(port))
	reachable(t, port)
	start(t, nil, bin, "-c", "127.0.0.1", "-p", strconv.Itoa(port), "-t", "600", "-P", "2", "-b", "400M")
}

func sensor(t *testing.T) {
	dir := t.TempDir()
	lab := filepath.Join(dir, "lab")
	if out, err := exec.CommandContext(t.Context(), tool(t, "go"), "build", "-o", lab, "semantos/workloads/lab").CombinedOutput(); err != nil {
		t.Fatalf("build the receiver: %v: %s", err, out)
	}
	port := 9125 // a service's: senders have one of the kernel's choice
	start(t, nil, lab, "receive", strconv.Itoa(port))
	t.Setenv("RECOGNISE_PORT", strconv.Itoa(port))
	child("send")(t)
}

func child(kind string) func(*testing.T) {
	return func(t *testing.T) {
		cmd := start(t, []string{"RECOGNISE_CHILD=" + kind}, os.Args[0], "-test.run=^TestChild$", "-test.timeout=20m")
		for range 100 { // it is listed by the name it has when it is seen first
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)) // unreadable is not ready
			if strings.TrimSpace(string(b)) == kind {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("the child did not become %s", kind)
	}
}

func audio(t *testing.T) {
	runtime.LockOSThread()
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Skipf("scheduling cannot be asked: %v", err)
	}
	fifo := *attr
	fifo.Policy, fifo.Priority = 1, 10
	err = unix.SchedSetAttr(0, &fifo, 0)
	_ = unix.SchedSetAttr(0, attr, 0) // as it was
	runtime.UnlockOSThread()
	if err != nil {
		t.Skipf("real-time scheduling is refused here: %v", err)
	}
	child("audio")(t)
}

func files(t *testing.T) {
	start(t, nil, "/bin/sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=64k")
	file := filepath.Join(t.TempDir(), "f")
	start(t, nil, "/bin/sh", "-c", "while :; do dd if=/dev/zero of="+file+" bs=64k count=2000 2>/dev/null; tar cf - "+file+" 2>/dev/null | cat >/dev/null; done")
}

func compile(t *testing.T) {
	cache := t.TempDir()
	start(t, []string{"GOCACHE=" + cache, "GOFLAGS=-p=2"}, tool(t, "go"), "build", "-o", filepath.Join(cache, "out"), "semantos/workloads/lab")
}
