package lookout

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

type catalogue struct{}

func (catalogue) Lookup(name string) (*tune.Tunable, string, error) {
	switch name {
	case "net.ipv4.tcp_fin_timeout":
		return &tune.Tunable{Name: name, Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Path: "net/ipv4/tcp_fin_timeout", Kind: tune.KindInteger}, "", nil
	case "evil.link": // a catalogue entry whose path would lead out of its root
		return &tune.Tunable{Name: name, Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "../self/environ", Kind: tune.KindText}, "", nil
	}
	return nil, "", &tune.Error{Op: "look up", Subject: name, Err: tune.ErrUnknown}
}

// ask starts the answering side beside the test and gives the asking one.
func ask(t *testing.T, now func() time.Time) *Client {
	t.Helper()
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ours)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- Serve(context.Background(), Config{Socket: theirs, Machine: host.New(host.Config{}), Catalogue: catalogue{}, Now: now})
	}()
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), <-done); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestANamespaceIsSeenButNotChanged: values and sockets of another namespace are seen; through the
// descriptor that comes back a socket can be listed, and not destroyed by one without CAP_NET_ADMIN.
func TestANamespaceIsSeenButNotChanged(t *testing.T) {
	ns := hosttest.FreshNetns(t)
	var l net.Listener
	var err error
	ns.Do(func() {
		err = os.WriteFile("/proc/sys/net/ipv4/tcp_fin_timeout", []byte("37"), 0)
		if err == nil {
			l, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := ask(t, time.Now)
	if v, err := c.Read("net.ipv4.tcp_fin_timeout", ns.Target); err != nil || v != "37" {
		t.Errorf("read %q, %v", v, err)
	}
	if can := c.Probe("net.ipv4.tcp_fin_timeout", ns.Target); !can.Writable {
		t.Errorf("probe %+v", can)
	}
	fd, err := c.DiagSocket(ns.Target)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	cookie, port := firstListener(t, fd)
	if want := l.Addr().(*net.TCPAddr).Port; port != want {
		t.Errorf("the descriptor shows port %d, want %d", port, want)
	}
	for _, rights := range []bool{false, true} {
		fresh, err := c.DiagSocket(ns.Target) // the first one still has the end of its list
		if err != nil {
			t.Fatal(err)
		}
		err = destroy(fresh, port, cookie, rights)
		unix.Close(fresh)
		switch conn, dialErr := dialIn(ns, l.Addr().String()); {
		case !rights && (!errors.Is(err, unix.EPERM) || dialErr != nil):
			t.Errorf("without rights the socket was destroyed through the descriptor: %v, %v", err, dialErr)
		case rights && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)):
			t.Log("this kernel destroys no sockets at all")
		case rights && (err != nil || dialErr == nil):
			t.Errorf("with rights it was not destroyed, so this shows nothing: %v, %v", err, dialErr)
		case conn != nil:
			conn.Close()
		}
	}
}

func dialIn(ns *hosttest.Namespace, addr string) (c net.Conn, err error) {
	ns.Do(func() { c, err = net.DialTimeout("tcp4", addr, time.Second) })
	return c, err
}

// firstListener lists what listens, without rights.
func firstListener(t *testing.T, fd int) (cookie []byte, port int) {
	t.Helper()
	answer, err := exchange(fd, diagMessage(20, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, nil), false)
	if err != nil || len(answer) < 16+72 {
		t.Fatalf("list sockets: %d bytes, %v", len(answer), err)
	}
	m := answer[16:]
	return slices.Clone(m[44:52]), int(binary.BigEndian.Uint16(m[4:]))
}

// destroy asks for SOCK_DESTROY of the listener.
func destroy(fd, port int, cookie []byte, rights bool) error {
	id := make([]byte, 48)
	binary.BigEndian.PutUint16(id, uint16(port))
	copy(id[4:], []byte{127, 0, 0, 1})
	copy(id[40:], cookie)
	answer, err := exchange(fd, diagMessage(21, unix.NLM_F_REQUEST|unix.NLM_F_ACK, id), rights)
	if err != nil {
		return err
	}
	if code := -int32(binary.NativeEndian.Uint32(answer[16:])); code != 0 {
		return unix.Errno(code)
	}
	return nil
}

func diagMessage(kind, flags uint16, id []byte) []byte {
	b := make([]byte, 16+56)
	ne := binary.NativeEndian
	ne.PutUint32(b, uint32(len(b)))
	ne.PutUint16(b[4:], kind)
	ne.PutUint16(b[6:], flags)
	b[16], b[17] = unix.AF_INET, unix.IPPROTO_TCP
	ne.PutUint32(b[20:], 1<<10) // listening
	copy(b[24:], id)
	return b
}

// exchange sends and receives, without rights as the serving process does: no capability on the thread.
func exchange(fd int, msg []byte, rights bool) (answer []byte, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends without its capabilities
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if !rights {
			if err = unix.Capset(&head, &none[0]); err != nil {
				return
			}
		}
		if err = unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return
		}
		buf := make([]byte, 8192)
		var n int
		n, _, err = unix.Recvfrom(fd, buf, 0)
		answer = buf[:max(n, 0)]
	}()
	<-done
	return answer, err
}

// TestAProcessIsTheOneNamed: pid and start time together; a number that another process bears now is gone.
func TestAProcessIsTheOneNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: looks into another process")
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	c := ask(t, time.Now)
	h := host.New(host.Config{})
	id, err := h.Identity(tune.ScopeProcess, fmt.Sprintf("pid:%d", pid))
	if err != nil {
		t.Fatal(err)
	}
	start, err := strconv.ParseUint(id["start"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	all := host.UseWanted{IO: true, Smaps: true, Maps: true}
	use, err := c.ProcessUse(pid, start, all)
	if err != nil || !strings.Contains(use.IO, "rchar:") || use.FDs < 3 || use.Maps < 5 || !strings.Contains(use.Smaps, "Anonymous:") {
		t.Errorf("%+v, %v", use, err)
	}
	if strings.Contains(use.Smaps, "-") {
		t.Errorf("addresses leak: %q", use.Smaps)
	}
	if use, err := c.ProcessUse(pid, start+1, all); !errors.Is(err, tune.ErrGone) || use.IO != "" {
		t.Errorf("another start time: %+v, %v", use, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := c.ProcessUse(pid, start, all); !errors.Is(err, tune.ErrGone) {
		t.Errorf("after its end: %v", err)
	}
}

// TestOnlyNamedThingsAreLookedAt: nothing outside the catalogue, no shorthand that would mean the guard's
// own, no path.
func TestOnlyNamedThingsAreLookedAt(t *testing.T) {
	c := ask(t, time.Now)
	for _, k := range []struct {
		name, target string
		want         error
	}{
		{"/etc/shadow", "host", tune.ErrUnknown},
		{"kernel.core_pattern", "host", tune.ErrUnknown},
		{"evil.link", "host", tune.ErrDenied},
		{"net.ipv4.tcp_fin_timeout", "self", tune.ErrUsage},
		{"net.ipv4.tcp_fin_timeout", "pid:1", tune.ErrUsage},
		{"net.ipv4.tcp_fin_timeout", "/proc/1/ns/net", tune.ErrUsage},
		{"net.ipv4.tcp_fin_timeout", "netns:1", tune.ErrGone},
	} {
		if v, err := c.Read(k.name, k.target); !errors.Is(err, k.want) || v != "" {
			t.Errorf("read %s on %s: %q, %v, want %v", k.name, k.target, v, err, k.want)
		}
	}
	for _, target := range []string{"self", "pid:1", "/proc/1/ns/net", "netns:1"} {
		if fd, err := c.DiagSocket(target); err == nil {
			unix.Close(fd)
			t.Errorf("a socket of %q", target)
		}
	}
	for _, q := range []request{
		{Verb: "write", Name: "net.ipv4.tcp_fin_timeout", Target: "netns:1"}, {Verb: verbOwners},
		{Verb: verbOwners, Inodes: make([]uint64, maxInodes+1)}, {Verb: verbRead, Name: strings.Repeat("x", maxName+1), Target: "host"},
		{Verb: verbProcess, Pid: -1, Want: &host.UseWanted{}}, {Verb: verbNamespaces, Pid: 5},
	} {
		if _, _, err := c.ask(q); !errors.Is(err, tune.ErrUsage) {
			t.Errorf("%+v: %v", q.Verb, err)
		}
	}
	if v, err := c.Namespaces(); err != nil || len(v) == 0 {
		t.Errorf("after all that: %v, %v", v, err)
	}
}

// TestRequestsHaveAPace: what is too much is refused, and said.
func TestRequestsHaveAPace(t *testing.T) {
	now := time.Unix(1000, 0)
	c := ask(t, func() time.Time { return now })
	refused := 0
	for range burst + 100 {
		if _, err := c.Read("no such name", "host"); errors.Is(err, tune.ErrBusy) {
			refused++
		}
	}
	if refused != 100 {
		t.Errorf("%d of %d at once were refused, want 100", refused, burst+100)
	}
}

// TestOwnersAndStatistics are answered.
func TestOwnersAndStatistics(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: looks into other processes")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := ask(t, time.Now)
	all, err := host.New(host.Config{}).Listeners("")
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(all, func(x host.Listener) bool { return int(x.Port) == l.Addr().(*net.TCPAddr).Port })
	owners, err := c.Owners(append(make([]uint64, maxInodes), all[at].Inode)) // more than one request holds
	if o := owners[all[at].Inode]; err != nil || !slices.Contains(o.Pids, os.Getpid()) {
		t.Errorf("owners %v, %v", owners, err)
	}
	kills, err := c.Kills()
	if want, wantErr := host.New(host.Config{}).Kills(); (err == nil) != (wantErr == nil) || !slices.Equal(kills, want) {
		t.Errorf("kills %v, %v, want %v, %v", kills, err, want, wantErr)
	}
	s, err := c.Statistics()
	if err != nil {
		t.Skipf("this host has no BPF statistics: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
