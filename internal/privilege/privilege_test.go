package privilege

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// The test binary becomes somebody else itself: what the kernel then refuses is what it refuses serve.
const envRole = "SEMANTOS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "become", "become-open", "become-nothing":
		keep := []Capability{BPF, Perfmon}
		if os.Getenv(envRole) == "become-nothing" {
			keep = nil
		}
		env := []string{envRole + "=" + strings.Replace(os.Getenv(envRole), "become", "became", 1)}
		fmt.Println(Become(User{UID: FixedID, GID: FixedID}, keep, os.Args, env))
		os.Exit(1)
	case "became", "became-open", "became-nothing":
		os.Exit(became())
	}
	os.Exit(m.Run())
}

// became tells what can be done after the change, one line each.
func became() int {
	if os.Getenv(envRole) == "became-open" {
		fmt.Println("call clone-user", errnoOf(forbidden()["clone-user"]()))
		return 0
	}
	s, err := Check([]Capability{BPF, Perfmon}, writes())
	fmt.Println("check", err == nil, s.UID, strings.Join(s.Capabilities(), "+"))
	if err := Confine(); err != nil {
		fmt.Println("confine", err)
		return 1
	}
	for _, path := range writes() {
		fd, err := unix.Open(path, unix.O_WRONLY, 0)
		if err == nil {
			unix.Close(fd)
		}
		fmt.Println("write", path, errnoOf(err))
	}
	for name, try := range forbidden() {
		fmt.Println("call", name, errnoOf(try()))
	}
	done := make(chan struct{})
	go func() { // another thread is no way around
		defer close(done)
		runtime.LockOSThread()
		fmt.Println("call unshare-elsewhere", errnoOf(unix.Unshare(unix.CLONE_NEWUSER)))
	}()
	<-done
	fmt.Println("read", os.WriteFile("/dev/null", nil, 0) == nil, len(mustRead("/proc/sys/vm/swappiness")) > 0)
	return 0
}

func writes() []string {
	return []string{"/proc/sys/vm/swappiness", "/proc/sys/net/core/somaxconn", "/proc/sys/net/ipv4/tcp_rmem",
		"/sys/kernel/mm/transparent_hugepage/enabled", "/proc/1/oom_score_adj", "/proc/sys/kernel/core_pattern"}
}

func forbidden() map[string]func() error {
	return map[string]func() error{
		"setns": func() error {
			fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Setns(fd, unix.CLONE_NEWNET)
		},
		"unshare": func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"mount":   func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
		"ptrace":  func() error { return unix.PtraceAttach(os.Getppid()) },
		"execve":  func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
		"chroot":  func() error { return unix.Chroot("/") },
		"setuid": func() error {
			if _, _, errno := syscall.RawSyscall(unix.SYS_SETUID, 0, 0, 0); errno != 0 {
				return errno
			}
			return nil
		},
		// No signal, only the permission to send one: SIGCONT would be let through wherever init is of this
		// session (kernel/signal.c, check_kill_permission).
		"kill-init": func() error { return unix.Kill(1, 0) },
		"clone-user": func() error {
			pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
			if errno != 0 {
				return errno
			}
			if pid == 0 {
				syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
			return nil
		},
	}
}

func errnoOf(err error) string {
	var e syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return unix.ErrnoName(e)
	}
	return err.Error()
}

func mustRead(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// run plays one role and gives its lines.
func play(t *testing.T, role string) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives it up")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envRole+"="+role)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

// TestWhatIsGivenUpIsGone: after the change the kernel refuses every write to a tunable and every call that
// would lead around that, with the two capabilities as without any.
func TestWhatIsGivenUpIsGone(t *testing.T) {
	for role, caps := range map[string]string{"become": "CAP_PERFMON+CAP_BPF", "become-nothing": ""} {
		lines := play(t, role)
		if want := strings.TrimSpace(fmt.Sprintf("check true %d %s", FixedID, caps)); strings.TrimSpace(lines[0]) != want {
			t.Errorf("%s: %q, want %q", role, lines[0], want)
		}
		calls, refused := 0, 0
		for _, line := range lines[1:] {
			f := strings.Fields(line)
			switch f[0] {
			case "write", "call":
				calls++
				if f[2] == "EPERM" || f[2] == "EACCES" {
					refused++
				} else {
					t.Errorf("%s: %s", role, line)
				}
			case "read":
				if line != "read true true" {
					t.Errorf("%s: %s", role, line)
				}
			}
		}
		if want := len(writes()) + len(forbidden()) + 1; calls != want || refused != want {
			t.Errorf("%s: %d of %d refused, want %d", role, refused, calls, want)
		}
	}
}

// TestTheFilterIsWhatDeniesUserNamespaces: the test above proves something, for without the filter the same
// process makes one where the host lets users.
func TestTheFilterIsWhatDeniesUserNamespaces(t *testing.T) {
	switch line := play(t, "become-open")[0]; line {
	case "call clone-user ok":
	case "call clone-user EPERM", "call clone-user ENOSPC":
		t.Skipf("this host lets nobody make user namespaces: %s", line)
	default:
		t.Errorf("without the filter: %s", line)
	}
}

// TestCheckRefusesRoot: a process that gave nothing up does not pass.
func TestCheckRefusesRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: is what must be refused")
	}
	if _, err := Check(nil, writes()); err == nil || tune.Hint(err) == "" {
		t.Errorf("root passes: %v", err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]User{
		"": {UID: FixedID, GID: FixedID}, "4711": {UID: 4711, GID: 4711}, "4711:4712": {UID: 4711, GID: 4712},
		"nobody": {Name: "nobody", UID: 65534, GID: 65534},
	} {
		got, err := Find(text)
		if text == "" && got.Name == AccountName {
			continue // this host has the account
		}
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "0:5", "5:0", "root", "no such user", "-1", "1:x", "99999999999"} {
		if got, err := Find(text); !errors.Is(err, tune.ErrUsage) || tune.Hint(err) == "" {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestAsHasTheUsersRightsAndNoMore(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: takes another user's rights")
	}
	dir := t.TempDir()
	private := filepath.Join(dir, "private")
	if err := os.WriteFile(private, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	u := User{UID: FixedID, GID: FixedID}
	open := func(path string) error {
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	if err := As(u, func() error { return open(private) }); !errors.Is(err, unix.EACCES) {
		t.Errorf("root's file: %v", err)
	}
	if err := As(u, func() error { return open("/proc/version") }); err != nil {
		t.Errorf("everybody's file: %v", err)
	}
	if err := open(private); err != nil {
		t.Errorf("afterwards we cannot open our own: %v", err)
	}
	if _, err := parseStatus("Name:\tx\nUid:\t1\n"); err == nil {
		t.Error("half a status passes")
	}
}
