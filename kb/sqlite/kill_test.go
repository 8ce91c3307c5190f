package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb/kbtest"
)

func testTime(i int) time.Time { return time.Unix(1_700_000_000+int64(i), 0).UTC() }

const writerDir = "STORE_TEST_WRITER_DIR"

// TestKilledWriter kills a process that writes as fast as it can and then demands that the store opens
// and holds every rollout whose save had returned.
func TestKilledWriter(t *testing.T) {
	if dir := os.Getenv(writerDir); dir != "" {
		writeForever(dir)
		return
	}
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	base := 0
	for round := range 8 {
		// The first rounds also hit the creation of the file.
		wait := time.Duration(random.IntN(60*(round+1))) * time.Millisecond
		acked := killAfter(t, dir, wait)
		s, err := Open(t.Context(), dir)
		if err != nil {
			t.Fatalf("round %d, killed after %v: %v", round, wait, err)
		}
		all, err := s.Rollouts(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		// One more than acknowledged is right: the commit came before the kill, its word did not.
		if n := len(all); n < base+acked || n > base+acked+1 {
			t.Errorf("round %d: %d rollouts, had %d and %d were acknowledged", round, n, base, acked)
		}
		base = len(all)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if base == 0 {
		t.Error("no writer lived long enough to save: the test shows nothing")
	}
}

func killAfter(t *testing.T, dir string, wait time.Duration) (acked int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(wait, func() { cmd.Process.Kill() })
	defer timer.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "saved ") {
			acked++
		} else if strings.HasPrefix(lines.Text(), "failed") {
			t.Error(lines.Text())
		}
	}
	cmd.Wait()
	return acked
}

func writeForever(dir string) {
	s, err := Open(context.Background(), dir)
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	for i := 0; ; i++ {
		r := kbtest.Rollout(kbtest.Recommendation("a", fmt.Sprint(os.Getpid(), i)), testTime(i), tune.Committed, "")
		if err := s.SaveRollout(context.Background(), r); err != nil {
			fmt.Println("failed", err)
			return
		}
		fmt.Println("saved", i)
	}
}
