package probe_test

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/ebpf/runqlat"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

func rename(to string) {
	name, err := unix.BytePtrFromString(to)
	check(err)
	check(unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0))
}

// renamer is a child: "n" renames its thread to pt-a and pt-b n times each, "pt-x" to that, "=x" names
// the process x, "netns" moves the thread to a network namespace of its own and answers its inode.
func renamer(in *bufio.Scanner) {
	runtime.LockOSThread()
	rename("other")
	fmt.Println("ready")
	for in.Scan() {
		answer := "done"
		switch line := in.Text(); {
		case strings.HasPrefix(line, "pt-"):
			rename(line)
		case strings.HasPrefix(line, "="):
			check(os.WriteFile("/proc/self/comm", []byte(line[1:]), 0))
		case line == "netns":
			answer = netns()
		default:
			n, err := strconv.Atoi(line)
			check(err)
			for range n {
				rename("pt-a")
				rename("pt-b")
			}
		}
		fmt.Println(answer)
	}
}

// threaded is a renamer whose thread is not the process's first.
func threaded(in *bufio.Scanner) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		renamer(in)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		threaded(in)
	}()
	<-done
}

func netns() string {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return "skip: " + err.Error()
	}
	var st unix.Stat_t
	check(unix.Stat("/proc/thread-self/ns/net", &st))
	return strconv.FormatUint(st.Ino, 10)
}

// holder is a child that holds loaded probes until it is killed.
func holder(in *bufio.Scanner) {
	var loaded []*probe.Probe
	for _, s := range []probe.Spec{runqlat.New(), probetest.Renames(true)} {
		p, err := probe.Load(s, probe.Options{})
		if err != nil {
			fmt.Println("skip:", err)
			return
		}
		loaded = append(loaded, p)
	}
	fmt.Println("ready")
	in.Scan()
	runtime.KeepAlive(loaded)
}
