package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"semantos/kb/kbtest"
	"semantos/kb/validate"
)

func testTime(i int) time.Time { return time.Unix(1_700_000_000+int64(i), 0).UTC() }

const (
	writerDir   = "STORE_TEST_WRITER_DIR"
	writerFirst = "STORE_TEST_WRITER_FIRST"
)

// TestKilledWriter kills a process that writes things of every kind as fast as it can and then demands
// that the store opens, holds every write that had returned, and no part of one that had not: neither
// of what it stores nor of what it queues for a remote store.
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
		acked := killAfter(t, dir, wait, base)
		s, err := OpenSpool(t.Context(), dir)
		if err != nil {
			t.Fatalf("round %d, killed after %v: %v", round, wait, err)
		}
		n := wholeWrites(t, s)
		// One more than acknowledged is right: the commit came before the kill, its word did not.
		if n < base+acked || n > base+acked+1 {
			t.Errorf("round %d: %d writes, had %d and %d were acknowledged", round, n, base, acked)
		}
		base = n
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if base == 0 {
		t.Error("no writer lived long enough to save: the test shows nothing")
	}
}

// wholeWrites counts the batches of kbtest.Batch and complains about a partial one.
func wholeWrites(t *testing.T, s *Spool) int {
	t.Helper()
	ctx := t.Context()
	nodes, err := s.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	edges, err := s.Edges(ctx)
	if err != nil {
		t.Fatal(err)
	}
	traces, err := s.Traces(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	rollouts, err := s.Rollouts(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	events, advice := 0, 0
	if err := s.EachEdgeEvent(ctx, func(validate.Event) error { events++; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.EachRecommendation(ctx, func(validate.Advice) error { advice++; return nil }); err != nil {
		t.Fatal(err)
	}
	queued, err := s.Next(ctx, 1e6, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	n := len(rollouts)
	for what, got := range map[string]int{"nodes": len(nodes) / 3, "edges": len(edges) / 2, "events": events / 3,
		"traces": len(traces), "recommendations": advice, "queued writes": len(queued)} {
		if got != n {
			t.Errorf("%d of %s beside %d rollouts", got, what, n)
		}
	}
	for i, q := range queued {
		if q.Batch.Traces[0].ID != kbtest.Trace(i).ID || i > 0 && q.Seq <= queued[i-1].Seq {
			t.Errorf("queued write %d is %d of %s", i, q.Seq, q.Batch.Traces[0].ID)
		}
	}
	return n
}

func killAfter(t *testing.T, dir string, wait time.Duration, first int) (acked int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
	cmd.Env = append(os.Environ(), writerDir+"="+dir, writerFirst+"="+strconv.Itoa(first))
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
	s, err := OpenSpool(context.Background(), dir)
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	first, err := strconv.Atoi(os.Getenv(writerFirst))
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	for i := first; ; i++ {
		if err := s.Apply(context.Background(), kbtest.Batch(i)); err != nil {
			fmt.Println("failed", err)
			return
		}
		fmt.Println("saved", i)
	}
}
