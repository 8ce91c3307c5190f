package sqlite

import (
	"context"
	"testing"
	"time"
)

func TestTrials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	ctx := t.Context()
	at := time.Unix(1_800_000_000, 5)
	for i, body := range []string{"first", "second", "\x00not JSON"} {
		if err := s.SaveTrial(ctx, Trial{Rollout: "b", At: at.Add(time.Duration(i)), Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SaveTrial(ctx, Trial{Rollout: "a", At: at.Add(-time.Second), Body: []byte("older")}); err != nil {
		t.Fatal(err)
	}
	// Every connection flushes again after a save that did not.
	for range 8 {
		var level int
		conn, err := s.db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&level); err != nil || level != 2 {
			t.Errorf("synchronous is %d, %v", level, err)
		}
		conn.Close()
	}
	other := open(t, dir) // another process
	all, err := other.Trials(ctx)
	if err != nil || len(all) != 2 || all[0].Rollout != "a" || string(all[1].Body) != "\x00not JSON" || !all[1].At.Equal(at.Add(2)) {
		t.Fatalf("%+v, %v", all, err)
	}
	for range 2 {
		if err := other.DropTrial(ctx, "b"); err != nil {
			t.Fatal(err)
		}
	}
	if all, err = s.Trials(ctx); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.SaveTrial(gone, Trial{Rollout: "c"}); err == nil {
		t.Error("saved for a caller that has gone")
	}
}
