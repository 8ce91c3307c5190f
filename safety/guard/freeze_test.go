package guard

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

// What runs is put back at once, nothing new is written, and what was kept stays and can be taken back.
func TestFreeze(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := t.Context()
	b.apply(t, "kept", "q.round=8192")
	if err := b.guard.commit(ctx, "kept"); err != nil {
		t.Fatal(err)
	}
	b.apply(t, "running", "q.plain=50")
	// The folders of the bench are its own disk's; the run folder of this machine is there.
	restored, err := b.guard.freeze(t.Context(), tune.Freeze{By: "uid 0", Why: "release day"})
	if err != nil || len(restored) != 1 || restored[0].Outcome != PutBack {
		t.Fatalf("%+v, %v", restored, err)
	}
	b.expect(t, map[string]string{"q.plain@host": "5", "q.round@host": "8192"})
	for name, err := range map[string]error{
		"apply": second(b.guard.apply(ctx, "next", changes("q.plain=50"), "")), "apply again": second(b.guard.apply(ctx, "running", changes("q.plain=50"), "")),
		"revert": second(b.guard.revert("running")), "reopen": b.guard.reopen(ctx, "running"), "commit": b.guard.commit(ctx, "running"),
	} {
		if !errors.Is(err, tune.ErrFrozen) || !strings.Contains(err.Error(), "release day") || !strings.Contains(tune.Hint(err), "freeze --off") {
			t.Errorf("%s: %v (hint %q)", name, err, tune.Hint(err))
		}
	}
	b.expect(t, map[string]string{"q.plain@host": "5"})
	if _, err := b.guard.rollback(t.Context(), "kept", "uid 0"); err != nil {
		t.Errorf("what was kept cannot be taken back: %v", err)
	}
	b.untouched(t)
	b.start() // another guard
	if f := b.guard.frozen(context.Background(), freezeAsk); f == nil || f.By != "uid 0" || f.DataDir != "/data" || f.At.IsZero() {
		t.Errorf("the next guard sees %+v", f)
	}
	if err := b.disk.Remove("/run/frozen"); err != nil { // a boot
		t.Fatal(err)
	}
	b.guard.adoptFreeze()
	if f := frozen(b.disk, "/elsewhere", "/run"); f == nil || f.Why != "release day" {
		t.Errorf("another data folder sees %+v after a boot", f)
	}
	if err := thaw(b.disk, "/elsewhere", "/run"); err != nil {
		t.Fatal(err)
	}
	b.apply(t, "next", "q.plain=50")
}

func second[T any](_ T, err error) error { return err }

// A file that is there freezes, whatever it says.
func TestFreezeFiles(t *testing.T) {
	t.Parallel()
	data, run := t.TempDir(), filepath.Join(t.TempDir(), "run")
	if f := Frozen(data, run); f != nil {
		t.Fatalf("frozen from the start: %+v", f)
	}
	if err := Freeze(data, run, tune.Freeze{By: "uid 7", At: time.Unix(5, 0)}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(run); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("run folder %v, %v", info, err)
	}
	for _, path := range []string{filepath.Join(data, "frozen"), filepath.Join(run, "frozen")} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if f := Frozen(data, run); (f == nil) != (path == filepath.Join(run, "frozen")) {
			t.Errorf("without %s: %+v", path, f)
		}
	}
	for _, text := range []string{"", "{", "yes\n"} {
		if err := os.WriteFile(filepath.Join(data, "frozen"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if f := Frozen(data, run); f == nil || !strings.Contains(f.Error(), "frozen by somebody") {
			t.Errorf("%q does not freeze: %+v", text, f)
		}
	}
	if err := Thaw(data, run); err != nil || Frozen(data, run) != nil {
		t.Errorf("not thawed: %v", err)
	}
	if err := Freeze(filepath.Join(data, "file", "below"), run, tune.Freeze{By: "x"}); err != nil {
		t.Errorf("a data folder is made when absent: %v", err)
	}
	if err := os.WriteFile(filepath.Join(data, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Freeze(filepath.Join(data, "plain"), run, tune.Freeze{By: "x"}); !errors.Is(err, tune.ErrStorage) || Frozen(data, run) == nil {
		t.Errorf("an unusable data folder: %v", err)
	}
}

// TestASecondFreezeKeepsTheFirst: whoever froze the host first has not taken it back.
func TestASecondFreezeKeepsTheFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	say := func(by, why string) {
		t.Helper()
		if _, err := b.guard.freeze(t.Context(), tune.Freeze{By: by, Why: why}); err != nil {
			t.Fatal(err)
		}
	}
	say("uid 0", "release of the shop")
	first := *frozen(b.disk, "/data", "/run")
	for _, c := range []struct{ by, why, want string }{
		{"uid 7", "", "release of the shop"},
		{"uid 0", "release of the shop", "release of the shop"},
		{"uid 7", "backup", "release of the shop; uid 7: backup"},
		{"uid 7", strings.Repeat("x", longestWhy), "release of the shop; uid 7: backup"},
	} {
		say(c.by, c.why)
		for _, dirs := range [][2]string{{"/data", "/elsewhere"}, {"/elsewhere", "/run"}} { // each file by itself
			if f := frozen(b.disk, dirs[0], dirs[1]); f == nil || f.By != first.By || !f.At.Equal(first.At) || f.Why != c.want {
				t.Errorf("after %.20q by %s: %+v in %v, want %q", c.why, c.by, f, dirs, c.want)
			}
		}
	}
}
