package guard

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// TestWhatWaitsIsBounded: a frame of a mebibyte can spell hundreds of thousands of changes. What is beyond a
// verb's bounds does not wait in the guard's locked memory: it is refused as it is read.
func TestWhatWaitsIsBounded(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	s := &guardServer{conn: theirs, frames: make(chan wireRequest, maxQueued), start: time.Now()}
	gone := make(chan error, 1)
	go s.receive(func(err error) { gone <- err })
	huge := []wireRequest{
		{ID: 1, Verb: verbApply, Rollout: "a-1", Actor: "x", Changes: make([]tune.Change, 20*maxChanges)},
		{ID: 2, Verb: verbRevert, Rollout: "a-1", Targets: make([]string, 20*maxChanges)},
		{ID: 3, Verb: verbRollback, Rollout: strings.Repeat("r", maxFrame/2), Actor: "x"},
		{ID: 4, Verb: verb(strings.Repeat("v", maxFrame/2))},
		{ID: 5, Verb: verbFreeze, Actor: strings.Repeat("a", maxFrame/2)},
	}
	for _, q := range huge {
		if err := writeFrame(ours, q); err != nil {
			t.Fatal(err)
		}
		waits := <-s.frames
		if waits.ID != q.ID {
			t.Fatalf("request %d waits, want %d", waits.ID, q.ID)
		}
		if n := len(waits.Changes) + len(waits.Targets) + len(waits.Rollout) + len(waits.Verb) + len(waits.Actor); n > 0 {
			t.Errorf("request %d waits with %d things", q.ID, n)
		}
		if err := waits.bad; err == nil || len(err.Error()) > maxNote {
			t.Errorf("request %d: %.100v", q.ID, err)
		}
	}
	s.mu.Lock()
	if len(s.restores) != 0 {
		t.Errorf("%d refused requests to put back hold up changes", len(s.restores))
	}
	s.mu.Unlock()
	_ = ours.Close()
	<-gone
}

// TestALongAnswerIsGiven: what many committed rollouts hold is more than a request may be long, and no
// reason for the guard to end.
func TestALongAnswerIsGiven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _, conn, end := served(t)
		const many = 12000
		h := journal.How{Name: "n.vec", Scope: tune.ScopeNetns}
		for i := range many {
			b.guard.state.Fold(journal.Record{Kind: journal.Intent, Rollout: fmt.Sprintf("r-%d", i/maxChanges), Tunable: "n.vec", How: &h,
				Target: fmt.Sprintf("netns:%d", i), Old: "1 2 3", New: "4 5 6", Boot: b.boot})
		}
		for i := range many/maxChanges + 1 {
			b.guard.state.Fold(journal.Record{Kind: journal.Committed, Rollout: fmt.Sprintf("r-%d", i)})
		}
		if err := writeFrame(conn, wireRequest{ID: 7, Verb: verbManaged}); err != nil {
			t.Fatal(err)
		}
		var r wireReply
		if err := readReply(conn, &r); err != nil {
			t.Fatalf("the guard is gone: %v", err)
		}
		if r.Error != nil || len(r.Managed) != many {
			t.Errorf("%d entries, want %d: %+v", len(r.Managed), many, r.Error)
		}
		end()
	})
}

// TestAnAnswerBeyondAllBoundsIsAnError: the one who asked is told, and the guard goes on.
func TestAnAnswerBeyondAllBoundsIsAnError(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer ours.Close()
	s := &guardServer{conn: theirs}
	done := make(chan error, 1)
	go func() { done <- s.reply(wireReply{ID: 3, Notes: []string{strings.Repeat("n", maxReply)}}) }()
	var r wireReply
	if err := readReply(ours, &r); err != nil || r.ID != 3 || r.Error == nil {
		t.Errorf("answer %d with %v: %v", r.ID, r.Error, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// panicky is a kernel whose driver takes the guard down with it.
type panicky struct {
	Actuator
	on string
}

func (p panicky) Write(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	if t.Name == p.on {
		panic("a fault of ours")
	}
	return p.Actuator.Write(t, target, v)
}

// TestAFaultOfOursPutsBack: a guard that fails over itself puts back what it tried, as at any other end.
func TestAFaultOfOursPutsBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.guard.act = panicky{b.kernel, "q.plain"}
	ours, theirs := net.Pipe()
	s := &guardServer{conn: theirs, engine: b.guard, frames: make(chan wireRequest, maxQueued), start: time.Now(), lapse: make(chan struct{}, 1),
		cfg: Config{Now: time.Now}, pace: Config{}.pace()}
	done := make(chan error, 1)
	go s.receive(func(error) {})
	go func() { done <- s.serve(context.Background()) }()
	for i, spec := range []string{"q.low=12", "q.plain=6"} {
		if err := writeFrame(ours, wireRequest{ID: uint64(i), Verb: verbApply, Rollout: fmt.Sprintf("a-%d", i), Changes: changes(spec), Actor: "x"}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			var r wireReply
			if err := readReply(ours, &r); err != nil || r.Error != nil {
				t.Fatal(err, r.Error)
			}
		}
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "a fault of ours") {
		t.Errorf("it ended with %v", err)
	}
	b.untouched(t)
	_ = ours.Close()
}
