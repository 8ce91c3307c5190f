package hosttest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is a fresh network namespace with its loopback up, held by one thread of the test until
// the test ends.
type Namespace struct {
	Target string // "netns:<inode>"
	Inode  uint64
	calls  chan func()
}

// FreshNetns makes a namespace, or skips the test without the rights.
func FreshNetns(t testing.TB) *Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	n := &Namespace{calls: make(chan func())}
	ready := make(chan error)
	go n.hold(ready)
	err := <-ready
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs CAP_SYS_ADMIN: %v", err)
	}
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { close(n.calls) })
	return n
}

// hold keeps the thread in the namespace and never gives it back. The main thread cannot end, so
// another goroutine takes over when this one sits on it.
func (n *Namespace) hold(ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.hold(ready)
		}()
		<-done
		runtime.UnlockOSThread()
		return
	}
	err := n.enter()
	ready <- err
	if err != nil {
		return
	}
	for call := range n.calls {
		call()
	}
}

func (n *Namespace) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	text := strings.TrimSuffix(strings.TrimPrefix(link, "net:["), "]")
	if n.Inode, err = strconv.ParseUint(text, 10, 64); err != nil {
		return err
	}
	n.Target = "netns:" + text
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// Do calls fn on the thread inside the namespace. fn must not call the test's FailNow.
func (n *Namespace) Do(fn func()) {
	done := make(chan struct{})
	n.calls <- func() {
		defer close(done)
		fn()
	}
	<-done
}
