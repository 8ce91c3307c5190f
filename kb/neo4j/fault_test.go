package neo4j

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
	"semantos/kb/kbtest"
	"semantos/kb/neo4j/neo4jtest"
	"semantos/kb/validate"
)

// event is number n of the history of one edge: arrival order shows the order of delivery, and each is
// in the database as a node of its own, so that one too many shows too.
func event(n int) validate.Batch {
	e := kbtest.EdgeEvent(n)
	return validate.Batch{Events: []validate.Event{{From: "a", Type: tune.DependsOn, To: "b", Event: e}}}
}

// ends is what the events need: two nodes and the edge.
func ends() validate.Batch {
	return validate.Batch{Nodes: []tune.Node{kbtest.Node("a"), kbtest.Node("b")}, Edges: []tune.Edge{kbtest.Edge("a", tune.DependsOn, "b", 0.5)}}
}

const endsLen = 3

func save(t *testing.T, s *Store, b validate.Batch) {
	t.Helper()
	if err := s.Apply(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// arrived demands that events 0 to n-1 are in the database once each, in their order, and that the queue
// was applied once: each application of a thing moves the clock, whether or not it changes anything.
func arrived(t *testing.T, srv *neo4jtest.Server, n, things int) {
	t.Helper()
	if clock := srv.Query(t, "MATCH (c:SemantosMeta {id: 'clock'}) RETURN c.n", nil)[0][0]; clock != int64(things) {
		t.Errorf("%v things were applied, %d were written", clock, things)
	}
	rows := srv.Query(t, "MATCH (e:SemantosEvent) RETURN e.at AS at, e.rev ORDER BY e.rev", nil)
	var got, want []int64
	for _, r := range rows {
		got = append(got, r[0].(int64))
	}
	for i := range n {
		want = append(want, kbtest.EdgeEvent(i).At.UnixNano())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d events arrived of %d, in order and once each: %v", len(got), n, cmp.Diff(want, got))
	}
}

// bounded runs do and complains when it takes longer than a caller may be kept.
func bounded(t *testing.T, what string, limit time.Duration, do func()) {
	t.Helper()
	begin := time.Now()
	do()
	if took := time.Since(begin); took > limit {
		t.Errorf("%s took %v, and %v is the most", what, took, limit)
	}
}

// TestKilledThenAbsentThenBack is the life of a server that is killed under load, is not there when the
// store is opened again, and comes back.
func TestKilledThenAbsentThenBack(t *testing.T) {
	srv, dir := server(t), t.TempDir()
	first := openStore(t, configOf(srv.URI(), dir))
	reaches(t, first, OK)
	save(t, first, ends())
	written := killUnderLoad(t, srv, first)
	bounded(t, "reading while it is down", 3*time.Second, func() {
		if history, err := first.EdgeHistory(t.Context(), "a", tune.DependsOn, "b"); err != nil || len(history) != written {
			t.Errorf("%d events of %d, %v", len(history), written, err)
		}
	})
	queued := first.State().Queued
	bounded(t, "closing while it is down", 4*time.Second, func() {
		if err := first.Close(); err != nil {
			t.Error(err)
		}
	})
	var s *Store
	bounded(t, "opening without a server", 5*time.Second, func() { s = openStore(t, configOf(srv.URI(), dir)) })
	if st := reaches(t, s, Unreachable); !strings.Contains(st.Reason, "refused") || st.Since.IsZero() || st.Queued != queued {
		t.Errorf("got %+v, want %d queued", st, queued)
	}
	if _, err := s.Neighborhood(t.Context(), "a", 1, nil); !errors.Is(err, tune.ErrNoData) || tune.Hint(err) == "" {
		t.Errorf("a question to an absent server: %v", err)
	}
	bounded(t, "writing without a server", 3*time.Second, func() {
		for range 20 {
			save(t, s, event(written))
			written++
		}
	})
	srv.Restart(t)
	reaches(t, s, OK)
	drained(t, s)
	arrived(t, srv, written, endsLen+written)
}

// killUnderLoad kills the server in the middle of writing and gives how many events were written then.
func killUnderLoad(t *testing.T, srv *neo4jtest.Server, s *Store) int {
	t.Helper()
	var n atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := s.Apply(context.Background(), event(int(n.Load()))); err != nil {
				t.Errorf("write %d: %v", n.Load(), err)
				return
			}
			n.Add(1)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); n.Load() < 30 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	srv.Kill()
	time.Sleep(500 * time.Millisecond)
	close(stop)
	wg.Wait()
	if s.State().Queued == 0 {
		t.Error("nothing was queued after the kill: the test shows little")
	}
	return int(n.Load())
}

const (
	writerURI   = "NEO4J_TEST_WRITER_URI"
	writerSpool = "NEO4J_TEST_WRITER_SPOOL"
)

// TestKilledProcess kills a process of ours in the middle of delivering, again and again; the last life
// delivers the rest. The database is behind a proxy that loses some acknowledgements.
func TestKilledProcess(t *testing.T) {
	if uri := os.Getenv(writerURI); uri != "" {
		writeForever(uri, os.Getenv(writerSpool))
		return
	}
	srv, dir := server(t), t.TempDir()
	save(t, openStore(t, configOf(srv.URI(), dir)), ends())
	acked := 0
	for round := range 4 {
		got := killAfter(t, srv.URI(), dir, time.Duration(300+150*round)*time.Millisecond)
		if got > 0 {
			acked = got
		}
	}
	s := openStore(t, configOf(srv.URI(), dir))
	reaches(t, s, OK)
	drained(t, s)
	history, err := s.EdgeHistory(t.Context(), "a", tune.DependsOn, "b")
	if err != nil || len(history) < acked || acked == 0 {
		t.Errorf("%d events, %d were acknowledged, %v", len(history), acked, err)
	}
	arrived(t, srv, len(history), endsLen+len(history))
}

func killAfter(t *testing.T, uri, dir string, wait time.Duration) (last int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
	cmd.Env = append(os.Environ(), writerURI+"="+uri, writerSpool+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var timer *time.Timer
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	deadline := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer deadline.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if n, err := fmt.Sscanf(lines.Text(), "saved %d", &last); n == 1 && err == nil && timer == nil {
			timer = time.AfterFunc(wait, func() { cmd.Process.Kill() })
		} else if strings.HasPrefix(lines.Text(), "failed") {
			t.Error(lines.Text())
		}
	}
	cmd.Wait()
	return last
}

func writeForever(uri, dir string) {
	ctx := context.Background()
	lim := quick()
	lim.write = 0 // do not wait for the delivery: the queue shall be long
	s, err := open(ctx, configOf(uri, dir), lim)
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	history, err := s.spool.EdgeHistory(ctx, "a", tune.DependsOn, "b")
	for i := len(history); err == nil; i++ {
		if err = s.Apply(ctx, event(i)); err == nil {
			fmt.Println("saved", i+1)
		}
	}
	fmt.Println("failed", err)
}

// TestLostAcknowledgements cuts connections at random places of the answers, so that transactions are
// applied whose end nobody heard of.
func TestLostAcknowledgements(t *testing.T) {
	srv := server(t)
	p := newProxy(t, srv.Addr)
	s := openStore(t, configOf(p.uri(), t.TempDir()))
	reaches(t, s, OK)
	save(t, s, ends())
	limit := 700
	p.set(func(p *proxy) {
		p.cut = func(total int) bool {
			if total < limit {
				return false
			}
			limit = 600 + (limit*7919+13)%900
			return true
		}
	})
	p.cutAll()
	const n = 120
	for i := range n {
		save(t, s, event(i))
	}
	time.Sleep(time.Second)
	p.set(func(p *proxy) { p.cut = nil })
	drained(t, s)
	arrived(t, srv, n, endsLen+n)
}

func TestTwoProcessesOfOneSpool(t *testing.T) {
	srv, dir := server(t), t.TempDir()
	a, b := openStore(t, configOf(srv.URI(), dir)), openStore(t, configOf(srv.URI(), dir))
	reaches(t, a, OK)
	reaches(t, b, OK)
	save(t, a, ends())
	for i := range 40 {
		save(t, []*Store{a, b}[i%2], event(i))
	}
	drained(t, a)
	arrived(t, srv, 40, endsLen+40)
}

func TestSlowServer(t *testing.T) {
	srv := server(t)
	p := newProxy(t, srv.Addr)
	s := openStore(t, configOf(p.uri(), t.TempDir()))
	reaches(t, s, OK)
	save(t, s, ends())
	p.set(func(p *proxy) { p.delay = 700 * time.Millisecond })
	for range 3 {
		bounded(t, "reading from a slow server", 3*time.Second, func() {
			if edges, err := s.Edges(t.Context()); err != nil || len(edges) != 1 {
				t.Errorf("got %v, %v", edges, err)
			}
		})
	}
	if st := reaches(t, s, Slow); st.Reason == "" {
		t.Errorf("got %+v", st)
	}
	bounded(t, "writing to a slow server", time.Second, func() { save(t, s, event(0)) })
	bounded(t, "closing", 6*time.Second, func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestSilentAndGarbledServers(t *testing.T) {
	srv := server(t)
	lim := quick()
	lim.open, lim.connect, lim.read = 2*time.Second, time.Second, time.Second
	for name, spoil := range map[string]struct {
		how  func(*proxy)
		want []Status
	}{
		"silent":  {func(p *proxy) { p.swallow = true }, []Status{Slow}},
		"garbled": {func(p *proxy) { p.garbage = true }, []Status{Unreachable, Broken, Slow}},
		"closing": {func(p *proxy) { p.refuse = true }, []Status{Unreachable}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t, srv.Addr)
			s := openWith(t, configOf(p.uri(), t.TempDir()), lim)
			reaches(t, s, OK)
			save(t, s, ends())
			p.set(spoil.how)
			p.cutAll()
			for range 3 {
				bounded(t, "reading", 4*time.Second, func() {
					if nodes, err := s.Nodes(t.Context()); err != nil || len(nodes) != 2 {
						t.Errorf("got %v, %v", nodes, err)
					}
				})
				bounded(t, "writing", 4*time.Second, func() { save(t, s, event(0)) })
			}
			s.await(t.Context(), 10*time.Second, func(st State, _ int64) bool { return slices.Contains(spoil.want, st.Status) })
			if st := s.State(); !slices.Contains(spoil.want, st.Status) || st.Reason == "" || st.Queued != 3 {
				t.Errorf("got %+v, want one of %v", st, spoil.want)
			}
			var fresh *Store
			bounded(t, "opening", 5*time.Second, func() { fresh = openWith(t, configOf(p.uri(), t.TempDir()), lim) })
			if st := fresh.State(); st.Status == OK {
				t.Errorf("a new store says %+v", st)
			}
			p.set(func(p *proxy) { p.swallow, p.garbage, p.refuse = false, false, false })
			p.cutAll()
			reaches(t, s, OK)
			drained(t, s)
			arrived(t, srv, 1, endsLen+3)
			srv.Wipe(t)
		})
	}
}
