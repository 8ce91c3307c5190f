package alert

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"semantos/safety/audit"
)

// TestTwoThingsHaveTwoIds: a hook drops an id that it has seen. Two values of one rollout that something else
// took are told one after the other, with the log's head where it was.
func TestTwoThingsHaveTwoIds(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	one := Alert{Kind: Yield, Rollout: "r-1", Reason: "yielded", Audit: "41:aa", Tunables: []audit.Change{{Tunable: "vm.swappiness"}}}
	other, detail, folded := one, one, one
	other.Tunables = []audit.Change{{Tunable: "vm.dirty_bytes"}}
	detail.Detail = "another"
	folded.Folded = 4
	first := one.fill("host", now).ID
	for _, a := range []Alert{other, detail, folded} {
		if a.fill("host", now).ID == first {
			t.Errorf("%+v has the id of %+v", a, one)
		}
	}
	if one.fill("host", now.Add(time.Hour)).ID != first {
		t.Error("the same thing told an hour later has another id")
	}
}

// stuck is a way to a hook that does not even end when it is told to, like a spool on a dead disk.
type stuck chan struct{}

func (s stuck) RoundTrip(*http.Request) (*http.Response, error) {
	<-s
	return nil, errors.New("ended")
}

// TestTheEndOfACommandDoesNotHangOnAnAlert: whatever the sender hangs in, Close comes back.
func TestTheEndOfACommandDoesNotHangOnAnAlert(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		way := make(stuck)
		s := start(Config{URL: "http://hook.example", Dir: in(t.TempDir()), Now: time.Now}, &http.Client{Transport: way})
		s.Post(alertOf(1))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		closed := make(chan struct{})
		go func() { s.Close(ctx); close(closed) }()
		select {
		case <-closed:
			if took := time.Since(start); took > time.Second+closeGrace {
				t.Errorf("it took %s", took)
			}
		case <-time.After(time.Minute):
			t.Error("it hangs")
		}
		close(way)
		<-closed
		<-s.done
	})
}

// TestAPipeInTheSpoolIsNotWaitedFor: the folder may be another user's, who may put there what never answers.
func TestAPipeInTheSpoolIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := openSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := unix.Mkfifo(filepath.Join(dir, spoolDir, "1.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.get("1.json")
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a pipe was taken for an alert")
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for somebody to write into a pipe")
	}
}
