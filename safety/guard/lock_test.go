package guard

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

func TestOneWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if guardAlive(dir) {
		t.Error("alive before anybody locked")
	}
	first, err := lockHost(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !guardAlive(dir) {
		t.Error("not seen alive")
	}
	_, err = lockHost(dir, 30*time.Millisecond)
	if !errors.Is(err, tune.ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) || tune.Hint(err) == "" {
		t.Errorf("second: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, first.release)
	second, err := lockHost(dir, 5*time.Second) // a guard that is restoring ends soon
	if err != nil {
		t.Fatal(err)
	}
	second.release()
	if guardAlive(dir) {
		t.Error("alive after the release")
	}
}
