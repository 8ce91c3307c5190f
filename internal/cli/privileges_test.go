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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/console"
	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/privilege"
	"semantos/internal/tune"
)

// rooted is a serve that root started on the real kernel, in a namespace and with a /run of its own.
type rooted struct {
	ns   *hosttest.Namespace
	data string
	pid  int
	cmd  *exec.Cmd
	out  *bytes.Buffer
	doc  serveDocument
}

// startRooted starts it and waits until it works.
func startRooted(t *testing.T, ns *hosttest.Namespace, data string, env []string, args ...string) *rooted {
	t.Helper()
	s := &rooted{ns: ns, data: data, out: &bytes.Buffer{}}
	args = append([]string{"--data-dir", data, "serve", "--json", "--listen", "127.0.0.1:0", "--sample-interval-sec", "0.5"}, args...)
	s.cmd = exec.Command(binary, args...)
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + data}, env...)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = s.out
	ns.Do(func() { err = s.cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // ended already when the test passed
		_ = s.cmd.Wait()
	})
	s.pid = s.cmd.Process.Pid
	if err := json.NewDecoder(out).Decode(&s.doc); err != nil {
		_ = s.cmd.Wait() // its words are printed
		t.Fatalf("serve does not start: %v\n%s", err, s.out)
	}
	return s
}

// end stops it and gives its exit status.
func (s *rooted) end(t *testing.T, sig syscall.Signal) int {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("serve does not end\n%s", s.out)
	}
	return s.cmd.ProcessState.ExitCode()
}

// sharedData is a folder that another user may walk to.
func sharedData(t *testing.T) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	reachable(t, filepath.Dir(data))
	return data
}

// listenElsewhere has a root's process listen in a namespace of its own until the test ends.
func listenElsewhere(t *testing.T) (netns string, port uint16) {
	t.Helper()
	ns := hosttest.FreshNetns(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{listenRole + "=1"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	return ns.Target, port
}

// listenRole makes the test binary a server that listens with a backlog of 16 and accepts nothing; with a
// path in it, on that unix socket.
const listenRole = "SEMANTOS_TEST_LISTEN"

func listenOnly() int {
	if path := os.Getenv(listenRole); path != "1" {
		if _, err := net.Listen("unix", path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("listening")
		time.Sleep(time.Minute)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 16))
	}
	sa, nameErr := unix.Getsockname(fd)
	if err = errors.Join(err, nameErr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(sa.(*unix.SockaddrInet4).Port)
	time.Sleep(10 * time.Minute)
	return 0
}

// TestServeGivesUpRootsRights: root's serve goes on as an ordinary user with two capabilities, every thread
// of it; the guard keeps root's.
func TestServeGivesUpRootsRights(t *testing.T) {
	ns := freshHost(t)
	s := startRooted(t, ns, sharedData(t), []string{"OPENAI_MODEL=m"})
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", s.pid))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("threads %v, %v", tasks, err)
	}
	const allowed = uint64(1)<<privilege.BPF | 1<<privilege.Perfmon
	for _, task := range tasks {
		st, err := privilege.Of(strings.TrimPrefix(task, "/proc/"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil || st.UID == 0 || (st.Effective|st.Permitted|st.Bounding)&^allowed != 0 || !st.NoNewPrivs || !st.Filtered {
			t.Errorf("%s: %+v, %v", task, st, err)
		}
	}
	guard, err := privilege.Of(strconv.Itoa(guardOf(t, s.pid)))
	if err != nil || guard.UID != 0 || guard.Effective == 0 {
		t.Errorf("guard: %+v, %v", guard, err)
	}
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.pid)); err != nil || string(name) != "semantos\n" {
		t.Errorf("it is called %q, %v", name, err)
	}
	if !strings.Contains(s.doc.Rights, "CAP_BPF") || !s.doc.Writes {
		t.Errorf("it says %q, writes %v", s.doc.Rights, s.doc.Writes)
	}
	for path, want := range map[string]struct {
		uid  int
		mode os.FileMode
	}{
		"": {0, 0o710}, "journal": {0, 0o700}, "semantos.sock": {0, 0o600}, "store": {privilege.FixedID, 0o700},
		"store/semantos.db": {privilege.FixedID, 0o600},
	} {
		info, err := os.Stat(filepath.Join(s.data, path))
		if err != nil || ownerOf(info) != want.uid && !(want.uid != 0 && ownerOf(info) != 0) || info.Mode().Perm() != want.mode {
			t.Errorf("%q: %v, %v", path, info, err)
		}
	}
	if n := strings.Count(s.out.String(), "note:"); n != 1 { // neither once more for the user it becomes nor for the guard
		t.Errorf("the configuration's notice is given %d times:\n%s", n, s.out)
	}
	if got := inside(t, ns, s.data, "doctor", "--json"); !strings.Contains(got.stdout, fmt.Sprintf("pid %d has uid", s.pid)) {
		t.Errorf("doctor does not tell its rights:\n%s", got.stdout[:min(len(got.stdout), 4000)])
	}
	if exit := s.end(t, syscall.SIGTERM); exit != 0 {
		t.Errorf("SIGTERM: exit %d\n%s", exit, s.out)
	}
	if _, err := os.Lstat(filepath.Join(s.data, "semantos.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestServeSeesAndChangesThroughTheGuard: a server of root's in another namespace is seen with its name,
// and its running socket is changed and put back, although serve may neither enter nor look.
func TestServeSeesAndChangesThroughTheGuard(t *testing.T) {
	ns := freshHost(t)
	netns, port := listenElsewhere(t)
	s := startRooted(t, ns, sharedData(t), nil)
	got := inside(t, ns, s.data, "recommend", "--window", "3s", "--json")
	var doc advice
	got.decode(t, &doc)
	at := slices.IndexFunc(doc.Snapshot.Entities[tune.EntityListener], func(e tune.Entity) bool {
		return e.Labels["netns"] == netns && e.Labels["port"] == strconv.Itoa(int(port))
	})
	if at < 0 {
		t.Fatalf("the listener in %s is not seen; missing %v", netns, doc.Snapshot.Missing)
	}
	listener := doc.Snapshot.Entities[tune.EntityListener][at]
	if listener.Labels["comm"] == "" || listener.Signals["listener.backlog"] != 16 {
		t.Errorf("listener %+v", listener)
	}
	sameSignals(t, inside(t, ns, s.data, "telemetry", "--window", "3s", "--json"), doc.Snapshot)
	socket := listener.Labels["socket"]
	h := host.New(host.Config{})
	backlog := func() (n uint32) {
		all, err := h.Listeners(netns)
		if err != nil || len(all) != 1 {
			t.Fatalf("listeners %v, %v", all, err)
		}
		return all[0].Backlog
	}
	got = inside(t, ns, s.data, "apply", "--set", "socket/listen_backlog@"+socket+"=64", "--yes", "--stage-time", "1s", "--json")
	var r tune.Rollout
	got.decode(t, &r)
	if got.exit != 0 || r.State != tune.Committed || backlog() != 64 {
		t.Fatalf("apply: exit %d, %s %s, backlog %d\n%s", got.exit, r.State, r.Detail, backlog(), got.stderr)
	}
	if got := inside(t, ns, s.data, "rollback", "--all"); got.exit != 0 || backlog() != 16 {
		t.Errorf("rollback: exit %d, backlog %d\n%s", got.exit, backlog(), got.stderr)
	}
}

// sameSignals holds what serve sees against what root sees with its own eyes: the same namespaces, every
// signal of processes and sockets, and of as many of them (processes come and go).
func sameSignals(t *testing.T, root result, seen tune.Snapshot) {
	t.Helper()
	var doc signalsDocument
	root.decode(t, &doc)
	count := func(snap tune.Snapshot) map[string]int {
		out := map[string]int{}
		for _, kind := range []string{tune.EntityNetns, tune.EntityListener, tune.EntityProcess} {
			for _, e := range snap.Entities[kind] {
				for name := range e.Signals {
					out[kind+" "+name]++
				}
			}
		}
		return out
	}
	here := count(seen)
	sparse := 0
	for name, n := range count(doc.Snapshot) {
		if strings.Contains(name, "process.fds") && n < 5 {
			t.Errorf("root itself sees only %d of %s: the comparison says nothing", n, name)
		}
		if here[name] == 0 && n > 3 || here[name] < n/2 {
			t.Errorf("%s: root sees it of %d, serve of %d", name, n, here[name])
		}
		if n > here[name] {
			sparse++
		}
	}
	t.Logf("%d signals compared, of %d serve saw fewer bearers", len(here), sparse)
}

// TestWhenADroppedServeDies: killed in the middle of a trial, its guard puts back; without its guard it ends
// with 1.
func TestWhenADroppedServeDies(t *testing.T) {
	ns := freshHost(t)
	data := sharedData(t)
	before := sysctl(t, ns, "net/ipv4/tcp_fin_timeout")
	becomes := func(want string) bool {
		for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if strings.TrimSpace(sysctl(t, ns, "net/ipv4/tcp_fin_timeout")) == strings.TrimSpace(want) {
				return true
			}
		}
		return false
	}
	s := startRooted(t, ns, data, nil)
	apply := exec.Command(binary, "--data-dir", data, "apply", "--set", "net.ipv4.tcp_fin_timeout=41", "--yes", "--stage-time", "60s")
	var err error
	ns.Do(func() { err = apply.Start() })
	if err != nil {
		t.Fatal(err)
	}
	if !becomes("41") {
		t.Fatal("nothing was applied")
	}
	s.end(t, syscall.SIGKILL)
	_ = apply.Wait() // serve is gone: it fails
	if !becomes(before) {
		t.Errorf("tcp_fin_timeout is %s", sysctl(t, ns, "net/ipv4/tcp_fin_timeout"))
	}
	s = startRooted(t, ns, data, nil)
	if err := unix.Kill(guardOf(t, s.pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("serve goes on without a guard")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("without its guard: exit %d", code)
	}
}

// TestRootsCommandsAndServeShareADataDir: what root kept before moves along, and what root's commands write
// later, beside serve and without it, serve can use.
func TestRootsCommandsAndServeShareADataDir(t *testing.T) {
	ns := freshHost(t)
	data := sharedData(t)
	apply := func(value string) {
		t.Helper()
		got := inside(t, ns, data, "apply", "--set", "net.ipv4.tcp_fin_timeout="+value, "--yes", "--stage-time", "1s", "--json")
		if got.exit != 0 {
			t.Fatalf("apply: exit %d\n%s", got.exit, got.stderr)
		}
		if got := inside(t, ns, data, "rollback", "--all"); got.exit != 0 {
			t.Fatalf("rollback: exit %d\n%s", got.exit, got.stderr)
		}
	}
	trials := func() int {
		t.Helper()
		var status console.Status
		got := inside(t, ns, data, "status", "--json")
		if got.decode(t, &status); got.exit != 0 {
			t.Fatalf("status: exit %d\n%s", got.exit, got.stderr)
		}
		return len(status.Rollouts)
	}
	apply("41") // root alone, in DATA_DIR itself
	s := startRooted(t, ns, data, nil)
	if n := trials(); n != 1 {
		t.Errorf("serve knows %d rollouts of root's, want 1", n)
	}
	apply("42") // through serve
	if exit := s.end(t, syscall.SIGTERM); exit != 0 {
		t.Errorf("exit %d\n%s", exit, s.out)
	}
	if err := os.Remove(filepath.Join(data, "store", "semantos.db.lock")); err != nil {
		t.Fatal(err)
	}
	apply("43") // root alone again, which makes files anew
	startRooted(t, ns, data, nil)
	if n := trials(); n != 3 {
		t.Errorf("serve knows %d rollouts, want 3", n)
	}
}

// TestServeSaysWhyItKeepsRights and goes on, where the change of user is not wanted or not possible.
func TestServeSaysWhyItKeepsRights(t *testing.T) {
	ns := freshHost(t)
	private := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, data string
		env        []string
		says       string
	}{
		{"RUN_AS=root", sharedData(t), []string{"RUN_AS=root"}, "RUN_AS=root"},
		{"a folder nobody else may walk through", filepath.Join(private, "data"), nil, "cannot reach"},
	} {
		s := startRooted(t, ns, c.data, c.env)
		st, err := privilege.Of(strconv.Itoa(s.pid))
		if err != nil || st.UID != 0 || !strings.Contains(s.doc.Rights, c.says) {
			t.Errorf("%s: uid %d, %v, %q", c.name, st.UID, err, s.doc.Rights)
		}
		if exit := s.end(t, syscall.SIGTERM); exit != 0 {
			t.Errorf("%s: exit %d\n%s", c.name, exit, s.out)
		}
	}
	s := startRooted(t, ns, sharedData(t), []string{"RUN_AS=4711:4712", "USE_EBPF=off"})
	if st, err := privilege.Of(strconv.Itoa(s.pid)); err != nil || st.UID != 4711 || st.Effective != 0 {
		t.Errorf("RUN_AS=4711:4712 without probes: %+v, %v", st, err)
	}
	cmd := exec.Command(binary, "--data-dir", t.TempDir(), "serve", "--run-as", "no-such-user")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != exitUsage || !bytes.Contains(out, []byte("RUN_AS=")) {
		t.Errorf("an unknown user: %v\n%s", err, out)
	}
}

// TestADroppedServeTellsTheServiceManager from the same process that was started.
func TestADroppedServeTellsTheServiceManager(t *testing.T) {
	ns := freshHost(t)
	dir := t.TempDir()
	reachable(t, dir)
	name := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(name, 0o777); err != nil {
		t.Fatal(err)
	}
	startRooted(t, ns, sharedData(t), []string{"NOTIFY_SOCKET=" + name})
	if err := l.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, _, err := l.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

// TestASocketOfAStrangerIsNotUsed: who listens in DATA_DIR must be root, we, or its owner.
func TestASocketOfAStrangerIsNotUsed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: listens as another user")
	}
	a := &app{stderr: &bytes.Buffer{}, uid: 0}
	a.cfg.DataDir = t.TempDir()
	l, err := console.ListenUnix(a.cfg.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a.serving(t.Context()) == nil {
		t.Fatal("root's own is not used")
	}
	l.Close()
	reachable(t, a.cfg.DataDir)
	if err := os.Chmod(a.cfg.DataDir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{listenRole + "=" + a.cfg.Socket()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: privilege.FixedID, Gid: privilege.FixedID}}
	reachable(t, filepath.Dir(os.Args[0]))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var word string
	if _, err := fmt.Fscan(out, &word); err != nil {
		t.Fatal(err)
	}
	if a.serving(t.Context()) != nil || !strings.Contains(a.stderr.(*bytes.Buffer).String(), "uid 61100 listens") {
		t.Errorf("a stranger's socket is used; said %q", a.stderr)
	}
}

// TestAForeignHandoverIsRefused: the variable is ours alone.
func TestAForeignHandoverIsRefused(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	for _, text := range []string{"x", "0", "2", "99999"} {
		m.env = []string{handoverEnv + "=" + text}
		if got := m.run(t, "serve"); got.exit != exitUsage || !strings.Contains(got.stderr, "unset it") {
			t.Errorf("%q: exit %d\n%s", text, got.exit, got.stderr)
		}
	}
}
