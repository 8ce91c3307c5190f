package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"semantos/internal/tune"
)

func TestFramesRoundTrip(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	want := wireRequest{ID: 3, Verb: verbApply, Rollout: "r1", Changes: []tune.Change{{Tunable: "q.plain", Target: "host", Proposed: "5"}}, Actor: "uid 0"}
	if err := writeFrame(&buf, want); err != nil {
		t.Fatal(err)
	}
	var got wireRequest
	if err := readFrame(&buf, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(wireRequest{})); d != "" {
		t.Error(d)
	}
	if err := readFrame(&buf, &got); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v", err)
	}
	if err := writeFrame(io.Discard, wireRequest{Actor: strings.Repeat("x", maxFrame)}); !errors.Is(err, errProtocol) {
		t.Errorf("too long a frame: %v", err)
	}
}

func TestRequestsAreChecked(t *testing.T) {
	t.Parallel()
	one := []tune.Change{{Tunable: "q.plain"}}
	for _, c := range []struct {
		name string
		q    wireRequest
		ok   bool
	}{
		{"hello", wireRequest{Verb: verbHello, Version: 1}, true},
		{"hello without version", wireRequest{Verb: verbHello}, false},
		{"apply", wireRequest{Verb: verbApply, Rollout: "r-1", Changes: one, Actor: "a"}, true},
		{"apply of nothing", wireRequest{Verb: verbApply, Rollout: "r-1"}, false},
		{"apply of too much", wireRequest{Verb: verbApply, Rollout: "r-1", Changes: make([]tune.Change, maxChanges+1)}, false},
		{"apply without rollout", wireRequest{Verb: verbApply, Changes: one}, false},
		{"commit", wireRequest{Verb: verbCommit, Rollout: "r-1"}, true},
		{"commit with changes", wireRequest{Verb: verbCommit, Rollout: "r-1", Changes: one}, false},
		{"rollback", wireRequest{Verb: verbRollback, Rollout: "r-1", Actor: "a"}, true},
		{"rollback of a path", wireRequest{Verb: verbRollback, Rollout: "../x"}, false},
		{"rollback of a hidden file", wireRequest{Verb: verbRollback, Rollout: ".x"}, false},
		{"managed with rollout", wireRequest{Verb: verbManaged, Rollout: "r-1"}, false},
		{"bye", wireRequest{Verb: verbBye}, true},
		{"unknown verb", wireRequest{Verb: "write"}, false},
		{"no verb", wireRequest{}, false},
	} {
		if err := c.q.check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestErrorsSurviveTheWire(t *testing.T) {
	t.Parallel()
	for _, sentinel := range sentinelNames() {
		in := fmt.Errorf("apply: %w", &tune.Error{Op: "write", Subject: "q.plain", Err: fmt.Errorf("%w: so", sentinel), Hint: "try less"})
		var buf bytes.Buffer
		frame, err := encodeFrame(maxReply, wireReply{Error: toWire(in)})
		if buf.Write(frame); err != nil {
			t.Fatal(err)
		}
		var r wireReply
		if err := readReply(&buf, &r); err != nil {
			t.Fatal(err)
		}
		out := r.Error.error()
		var op *tune.Error
		if !errors.Is(out, sentinel) || out.Error() != in.Error() || tune.Hint(out) != "try less" || !errors.As(out, &op) || op.Subject != "q.plain" {
			t.Errorf("%v came out as %v, hint %q", in, out, tune.Hint(out))
		}
		if other := tune.ErrVetoed; sentinel != other && errors.Is(out, other) {
			t.Errorf("%v became %v too", sentinel, other)
		}
	}
	if toWire(nil).error() != nil {
		t.Error("nil became an error")
	}
	joined := errors.Join(tune.ErrStorage, context.Canceled)
	if out := toWire(joined).error(); !errors.Is(out, tune.ErrStorage) || !errors.Is(out, context.Canceled) {
		t.Errorf("%v", out)
	}
}

func FuzzProtocol(f *testing.F) {
	for _, q := range []wireRequest{{ID: 1, Verb: verbHello, Version: 1}, {ID: 2, Verb: verbApply, Rollout: "r", Changes: []tune.Change{{Tunable: "q.plain", Proposed: "7"}}}, {Verb: verbRollback, Rollout: "r"}} {
		var buf bytes.Buffer
		if err := writeFrame(&buf, q); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBench(t)
		s := &guardServer{engine: b.guard, cfg: Config{Now: time.Now}, pace: Config{}.pace()}
		for r := bytes.NewReader(data); ; {
			var q wireRequest
			if readFrame(r, &q) != nil {
				break
			}
			if q.check() == nil && q.Verb != verbPersist {
				_ = s.perform(t.Context(), q, &wireReply{}) // whatever it says, nothing may be left behind
			}
		}
		committed := false
		for _, ro := range b.guard.state.Open() {
			committed = committed || ro.Committed
		}
		if _, err := b.guard.undoUncommitted("end"); err != nil {
			t.Fatal(err)
		}
		if !committed {
			b.untouched(t)
		}
	})
}
