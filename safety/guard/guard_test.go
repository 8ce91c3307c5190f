package guard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

func TestApplyRevertCommitRollback(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	got := b.apply(t, "r1", "q.plain=50", "n.vec@netns:1=4 5 6", "q.round=10000")
	if got[2].ReadBack != "8192" || got[0].Change.Current != "5" || got[1].Change.Scope != tune.ScopeNetns {
		t.Errorf("applied %+v", got)
	}
	if _, err := b.guard.revert("r1"); err != nil {
		t.Fatal(err)
	}
	b.untouched(t)
	b.apply(t, "r1", "q.plain=70", "n.vec@netns:1=4 5 6", "q.round=10000")
	if err := b.guard.commit(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	b.start() // the guard ended; a later command starts another
	b.expect(t, map[string]string{"q.plain@host": "70", "n.vec@netns:1": "4 5 6", "q.round@host": "8192"})
	m := b.guard.state.Managed(b.boot, true)
	if len(m) != 3 || m[0].State != "committed" || m[0].Original != "5" || m[0].Current != "70" {
		t.Errorf("managed %+v", m)
	}
	restored, err := b.guard.rollback(t.Context(), "r1", "uid 0")
	if err != nil || len(restored) != 3 || restored[0].Outcome != PutBack {
		t.Fatalf("rollback: %+v, %v", restored, err)
	}
	b.untouched(t)
	if again, err := b.guard.rollback(t.Context(), "r1", "uid 0"); err != nil || len(again) != 0 {
		t.Errorf("second rollback: %+v, %v", again, err)
	}
	if files, _ := b.disk.List("/run/open"); len(files) != 0 {
		t.Errorf("copies stay: %v", files)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	stale := change("q.plain=50")
	stale.Current = "6"
	scope := change("q.plain=50")
	scope.Scope = tune.ScopeNetns
	for _, c := range []struct {
		name    string
		changes []tune.Change
		want    error
		says    string
	}{
		{"unknown", changes("q.nothing=1"), tune.ErrUnknown, "q.nothing"},
		{"protected", changes("q.secret=1"), tune.ErrDenied, "q.secret"},
		{"type", changes("q.plain=much"), tune.ErrType, "q.plain"},
		{"arity", changes("n.vec@netns:1=1 2"), tune.ErrType, "n.vec"},
		{"hard range", changes("q.low=2000", "q.high=3000"), tune.ErrOutOfRange, "q.low"},
		{"invariant", changes("q.low=30"), tune.ErrInvariant, "q.low"},
		{"twice", changes("q.plain=1", "q.plain=2"), tune.ErrUsage, "q.plain"},
		{"pair", changes("p.bytes=4096", "p.ratio=10"), tune.ErrInvariant, "p.ratio"},
		{"no target", changes("n.vec=1 2 3"), tune.ErrUsage, "n.vec"},
		{"target is gone", changes("n.vec@netns:9=1 2 3"), tune.ErrGone, "n.vec"},
		{"stale", []tune.Change{stale}, tune.ErrStale, `expected "6", is "5"`},
		{"scope", []tune.Change{scope}, tune.ErrUsage, "q.plain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			all := append(changes("q.round=8192"), c.changes...)
			_, err := b.guard.apply(t.Context(), "r1", all, "")
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v naming %s", err, c.want, c.says)
			}
			b.untouched(t)
			if len(b.kernel.writes) != 0 {
				t.Errorf("wrote %v", b.kernel.writes)
			}
		})
	}
}

func TestOrderKeepsInvariants(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.low=100", "q.high=200") // low first would stand above high
	if err := b.guard.commit(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
		t.Fatal(err)
	}
	want := []string{"q.high=200", "q.low=100", "q.low=10", "q.high=20"}
	if d := cmp.Diff(want, b.kernel.writes); d != "" {
		t.Error(d)
	}
}

func TestFailureHalfWayRestoresAll(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{tune.ErrReadOnly, tune.ErrOutOfRange} {
		b := newBench(t)
		b.kernel.refuse["m.mode"] = fmt.Errorf("write m.mode: %w", cause)
		_, err := b.guard.apply(t.Context(), "r1", changes("q.plain=50", "m.mode=on", "q.round=8192"), "")
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "m.mode") {
			t.Errorf("got %v, want %v", err, cause)
		}
		b.untouched(t)
		if b.guard.uncommitted() {
			t.Error("rollout stays open")
		}
	}
}

func TestPairIsRestoredByItsActiveMember(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "p.bytes=8192")
	b.expect(t, map[string]string{"p.bytes@host": "8192", "p.ratio@host": "0"})
	if _, err := b.guard.revert("r1"); err != nil {
		t.Fatal(err)
	}
	b.untouched(t)
	b.apply(t, "r1", "p.bytes=8192")
	b.kernel.values["p.bytes@host"], b.kernel.values["p.ratio@host"] = "0", "7" // somebody prefers the ratio
	got, err := b.guard.rollback(t.Context(), "r1", "")
	if err != nil || got[0].Outcome != Yielded {
		t.Errorf("got %+v, %v", got, err)
	}
	b.expect(t, map[string]string{"p.ratio@host": "7"})
}

func TestNeighboursAreRestored(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "m.mode=on")
	b.expect(t, map[string]string{"m.side@host": "90"})
	if _, err := b.guard.revert("r1"); err != nil {
		t.Fatal(err)
	}
	b.untouched(t)
	b.apply(t, "r1", "m.mode=on")
	b.kernel.values["m.side@host"] = "1234" // set by a person meanwhile
	if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
		t.Fatal(err)
	}
	b.expect(t, map[string]string{"m.mode@host": "off", "m.side@host": "1234"})
}

func TestForeignWriteIsYielded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50", "n.vec@netns:1=4 5 6", "n.vec@netns:2=7 8 9")
	b.kernel.values["q.plain@host"] = "51"
	b.kernel.values["n.vec@netns:2"] = "7 2 9" // a vector caught half-way is still ours
	if err := b.guard.commit(t.Context(), "r1"); !errors.Is(err, tune.ErrDrifted) {
		t.Errorf("commit: %v", err)
	}
	got, err := b.guard.revert("r1")
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]Outcome{}
	for _, r := range got {
		outcomes[r.Tunable+"@"+r.Target] = r.Outcome
	}
	want := map[string]Outcome{"q.plain@host": Yielded, "n.vec@netns:1": PutBack, "n.vec@netns:2": PutBack}
	if d := cmp.Diff(want, outcomes); d != "" {
		t.Error(d)
	}
	b.expect(t, map[string]string{"q.plain@host": "51", "n.vec@netns:1": "1 2 3", "n.vec@netns:2": "1 2 3"})
	if _, err := b.guard.apply(t.Context(), "r1", changes("q.plain=50"), ""); !errors.Is(err, tune.ErrDrifted) {
		t.Errorf("apply over a yielded value: %v", err)
	}
	b.start()
	b.expect(t, map[string]string{"q.plain@host": "51"})
}

func TestGoneTargetIsLetGo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "n.vec@netns:1=4 5 6", "q.plain=50")
	b.kernel.ids["netns:1"] = "another of the same number"
	got, err := b.guard.rollback(t.Context(), "r1", "")
	if err != nil || !slices.ContainsFunc(got, func(r Restored) bool { return r.Outcome == Gone }) {
		t.Errorf("got %+v, %v", got, err)
	}
	b.expect(t, map[string]string{"n.vec@netns:1": "4 5 6", "q.plain@host": "5"})
}

func TestStackedRolloutsHandOn(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"r1", "r2"}, {"r2", "r1"}} {
		b := newBench(t)
		b.apply(t, "r1", "q.plain=50")
		if _, err := b.guard.apply(t.Context(), "r2", changes("q.plain=60"), ""); !errors.Is(err, tune.ErrConflict) {
			t.Errorf("apply beside a trial: %v", err)
		}
		if err := b.guard.commit(t.Context(), "r1"); err != nil {
			t.Fatal(err)
		}
		b.apply(t, "r2", "q.plain=60")
		if err := b.guard.commit(t.Context(), "r2"); err != nil {
			t.Fatal(err)
		}
		for _, id := range order {
			if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
				t.Fatal(err)
			}
			if id == "r1" && order[0] == "r1" {
				b.expect(t, map[string]string{"q.plain@host": "60"})
			}
			b.start()
		}
		b.untouched(t)
	}
}

func TestFailedRestoreStaysOpen(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50", "q.round=8192")
	b.kernel.refuse["restore q.plain"] = fmt.Errorf("write: %w", tune.ErrNotPermitted)
	_, err := b.guard.rollback(t.Context(), "r1", "")
	if err == nil || !strings.Contains(err.Error(), "q.plain") || tune.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
	b.expect(t, map[string]string{"q.plain@host": "50", "q.round@host": "4096"})
	delete(b.kernel.refuse, "restore q.plain")
	b.start()
	b.untouched(t)
}

func TestFullDiskStopsChangesNotRestores(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"full", "dead"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.apply(t, "r1", "q.plain=50")
			if fault == "full" {
				b.disk.Full = "/data"
			} else {
				b.disk.Dead = "/data"
			}
			_, err := b.guard.apply(t.Context(), "r2", changes("q.round=8192"), "")
			if !errors.Is(err, tune.ErrStorage) || tune.Hint(err) == "" {
				t.Errorf("apply: %v", err)
			}
			b.expect(t, map[string]string{"q.round@host": "4096", "q.plain@host": "50"})
			if err := b.guard.commit(t.Context(), "r1"); !errors.Is(err, tune.ErrStorage) {
				t.Errorf("commit: %v", err)
			}
			if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
				t.Errorf("rollback: %v", err)
			}
			b.untouched(t)
			b.start()
			b.untouched(t)
			b.disk.Full, b.disk.Dead = "", ""
			b.kernel.values["q.plain@host"] = "50" // a person's choice, after ours ended
			b.start()
			b.expect(t, map[string]string{"q.plain@host": "50"})
			b.apply(t, "r3", "q.round=8192")
		})
	}
}

func TestAnotherBootClosesWhatIsNotPersisted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, r := range []string{"r1=q.plain=50", "r2=q.round=8192"} {
		id, spec, _ := strings.Cut(r, "=")
		b.apply(t, id, spec)
		if err := b.guard.commit(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	files, err := b.guard.persist(t.Context(), "r2")
	if err != nil || len(files) != 1 {
		t.Fatalf("persist: %v, %v", files, err)
	}
	b.apply(t, "r3", "q.low=7")
	b.boot = "boot-2"
	b.kernel.values = newFakeKernel().values
	b.kernel.values["q.round@host"] = "8192" // applied again from the file
	b.kernel.values["q.low@host"] = "7"      // by chance: not ours any more
	b.start()
	b.expect(t, map[string]string{"q.round@host": "8192", "q.low@host": "7"})
	m := b.guard.state.Managed(b.boot, true)
	if len(m) != 1 || m[0].State != "persisted" || m[0].Rollout != "r2" {
		t.Errorf("managed %+v", m)
	}
	if _, err := b.guard.rollback(t.Context(), "r2", ""); err != nil {
		t.Fatal(err)
	}
	b.expect(t, map[string]string{"q.round@host": "4096"})
	if _, err := b.disk.ReadFile(files[0]); err == nil {
		t.Error("file stays")
	}
}

func TestAnotherDataFolderRestores(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r0", "q.round=8192")
	if err := b.guard.commit(t.Context(), "r0"); err != nil {
		t.Fatal(err)
	}
	b.apply(t, "r1", "q.plain=50")
	b.data = "/elsewhere"
	b.start()
	b.expect(t, map[string]string{"q.plain@host": "5", "q.round@host": "8192"})
	b.kernel.values["q.plain@host"] = "50"
	b.data = "/data"
	b.start() // its journal was told: the value is not ours any more
	b.expect(t, map[string]string{"q.plain@host": "50"})
}

func TestHeldDescriptorEndsWithItsGuard(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "dev/lat=10")
	b.kernel.values["dev/lat@host"] = "3" // another process asks for less: ours is still to be dropped
	if _, err := b.guard.revert("r1"); err != nil {
		t.Fatal(err)
	}
	b.expect(t, map[string]string{"dev/lat@host": "none"})
	b.apply(t, "r1", "dev/lat=10")
	if err := b.guard.commit(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.guard.persist(t.Context(), "r1"); !errors.Is(err, tune.ErrUnsupported) {
		t.Errorf("persist: %v", err)
	}
	b.start()
	if m := b.guard.state.Managed(b.boot, true); len(m) != 0 {
		t.Errorf("managed %+v", m)
	}
}

func TestPersist(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50", "q.round=8192", "n.vec@netns:1=4 5 6")
	if _, err := b.guard.persist(t.Context(), "r1"); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("persist of a trial: %v", err)
	}
	if err := b.guard.commit(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	files, err := b.guard.persist(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/etc/sysctl.d/zz-semantos-01700000000-r1.conf", "/etc/tmpfiles.d/zz-semantos-01700000000-r1.conf"}
	if d := cmp.Diff(want, files); d != "" {
		t.Error(d)
	}
	if files[0] <= "/etc/sysctl.d/99-sysctl.conf" {
		t.Error("sorts before 99-sysctl.conf")
	}
	sysctl, _ := b.disk.ReadFile(files[0])
	if !strings.Contains(string(sysctl), "\nq.round = 8192\nn.vec = 4 5 6\n") {
		t.Errorf("sysctl.d holds %q", sysctl)
	}
	tmpfiles, _ := b.disk.ReadFile(files[1])
	if !strings.Contains(string(tmpfiles), "\nw /sys/q/plain - - - - 50\n") {
		t.Errorf("tmpfiles.d holds %q", tmpfiles)
	}
	b.disk.Files[files[1]] = []byte("mine now\n")
	if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
		t.Fatal(err)
	}
	b.untouched(t)
	if _, ok := b.disk.Files[files[0]]; ok {
		t.Error("sysctl.d file stays")
	}
	if string(b.disk.Files[files[1]]) != "mine now\n" {
		t.Error("a file that somebody made theirs was removed")
	}
}

func TestPersistRefusesWhatABootForgets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.round=8192", "n.vec@netns:2=4 5 6")
	if err := b.guard.commit(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	before := len(b.disk.Files)
	if _, err := b.guard.persist(t.Context(), "r1"); !errors.Is(err, tune.ErrUnsupported) || !strings.Contains(err.Error(), "n.vec") {
		t.Errorf("got %v", err)
	}
	if len(b.disk.Files) != before {
		t.Error("wrote a part of it")
	}
	for _, en := range []journal.Entry{
		{How: journal.How{Scope: tune.ScopeSocket, Method: tune.MethodBacklog}}, {How: journal.How{Scope: tune.ScopeCgroup, Method: tune.MethodCgroup}},
		{How: journal.How{Scope: tune.ScopeProcess, Method: tune.MethodSysctl}}, {How: journal.How{Scope: tune.ScopeHost, Method: tune.MethodDMALatency}},
	} {
		if b.guard.cannotPersist(&en) == "" {
			t.Errorf("%s/%s would be persisted", en.How.Scope, en.How.Method)
		}
	}
}

// TestPersistDiesAtEveryEffect: a file of a persist that did not end is not left behind, one that did
// is, and rollback leaves none.
func TestPersistDiesAtEveryEffect(t *testing.T) {
	t.Parallel()
	for effects := 0; ; effects++ {
		b := newBench(t)
		b.apply(t, "r1", "q.plain=50", "q.round=8192")
		if err := b.guard.commit(t.Context(), "r1"); err != nil {
			t.Fatal(err)
		}
		answered := false
		died := b.mayDie(effects, func() {
			if _, err := b.guard.persist(t.Context(), "r1"); err != nil {
				t.Fatal(err)
			}
			answered = true
		})
		b.start()
		count := func() (n int) {
			for path := range b.disk.Files {
				if strings.HasPrefix(path, "/etc/") {
					n++
				}
			}
			return n
		}
		b.expect(t, map[string]string{"q.plain@host": "50", "q.round@host": "8192"})
		m := b.guard.state.Managed(b.boot, true)
		persisted := len(m) == 2 && m[0].State == "persisted"
		if n := count(); persisted != (n == 2) || !persisted && n != 0 || answered && !persisted {
			t.Fatalf("died at effect %d: %d files, %+v", effects, n, m)
		}
		if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
			t.Fatal(err)
		}
		b.untouched(t)
		if n := count(); n != 0 {
			t.Fatalf("died at effect %d: %d files stay after rollback", effects, n)
		}
		if !died {
			return
		}
	}
}

// TestNeighbourThatVanishes: an I/O scheduler's own files are absent while another is chosen, and come
// back with the kernel's defaults; what stood there before is what must stand there again.
func TestNeighbourThatVanishes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.kernel.vanish = true
	b.apply(t, "r1", "m.mode=on")
	if _, err := b.guard.rollback(t.Context(), "r1", "test"); err != nil {
		t.Fatal(err)
	}
	b.expect(t, map[string]string{"m.mode@host": "off", "m.side@host": "67"})
}
