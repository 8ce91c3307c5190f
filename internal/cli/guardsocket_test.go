package cli

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"semantos/safety/lookout"
)

// TestALookIsForTheParentAlone: whoever started semantos may have left a socket open under the same number. Its
// other end is a stranger's, who would be shown what only root may see.
func TestALookIsForTheParentAlone(t *testing.T) {
	t.Parallel()
	ours, theirs, err := lookout.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	if !madeBy(theirs, unix.SOCK_SEQPACKET, os.Getpid()) {
		t.Error("the parent's own is refused")
	}
	if madeBy(theirs, unix.SOCK_SEQPACKET, os.Getppid()) {
		t.Error("a stranger's is taken")
	}
	if madeBy(theirs, unix.SOCK_STREAM, os.Getpid()) {
		t.Error("a socket of another kind is taken")
	}
	alone, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(alone), "tcp")
	defer f.Close()
	if madeBy(f, unix.SOCK_STREAM, os.Getpid()) {
		t.Error("a socket that is no pair is taken")
	}
}
