package guard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
)

// logDisk is the real file system under the log, full on demand.
type logDisk struct {
	audit.OS
	full bool
}

type logFile struct {
	audit.File
	d *logDisk
}

func (d *logDisk) Append(path string) (audit.File, error) {
	f, err := d.OS.Append(path)
	return logFile{f, d}, err
}

func (f logFile) Write(p []byte) (int, error) {
	if f.d.full {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

// logged is a bench whose deeds are logged.
func logged(t *testing.T) (b *bench, d *logDisk, q *queue, records func() []audit.Record) {
	t.Helper()
	b, _, q = queuedBench(t)
	d = &logDisk{}
	dir := t.TempDir()
	q.audit = &auditor{log: audit.New(audit.Config{Disk: d, Dir: dir, DataDir: b.data,
		Boot: b.boot, Now: time.Now})}
	b.guard.said = q.said
	return b, d, q, func() (out []audit.Record) {
		t.Helper()
		report, err := audit.Verify(dir, nil)
		if err != nil || !report.Verified {
			t.Fatalf("%+v, %v", report, err)
		}
		if err := audit.Read(dir, func(r audit.Record) bool { out = append(out, r); return true }); err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func (q *queue) settle(t *testing.T) {
	t.Helper()
	job := queued{result: make(chan error, 1)}
	if !q.enqueue(job) {
		t.Fatal("queue is full")
	}
	<-job.result
}

func spell(recs []audit.Record) []string {
	out := make([]string, len(recs))
	for i, r := range recs {
		out[i] = strings.Join(strings.Fields(fmt.Sprintf("%s by %s %s %s %s %s", r.Kind, r.Actor, r.Tunable, r.Old, r.New, r.ReadBack)), " ")
	}
	return out
}

// TestEveryDeedIsLogged, with who, what, from where and to where.
func TestEveryDeedIsLogged(t *testing.T) {
	t.Parallel()
	b, _, q, records := logged(t)
	g := b.guard
	b.apply(t, "a-1", "q.round=9000")
	if _, err := g.revert("a-1"); err != nil {
		t.Fatal(err)
	}
	b.apply(t, "a-1", "q.round=9000")
	if err := g.commit(t.Context(), "a-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.persist(t.Context(), "a-1"); err != nil {
		t.Fatal(err)
	}
	g.actor = "uid 7"
	if _, err := g.rollback(t.Context(), "a-1", "uid 7"); err != nil {
		t.Fatal(err)
	}
	g.actor = ""
	b.apply(t, "b-1", "q.plain=50", "p.bytes=4096")
	b.kernel.values["q.plain@host"] = "77" // somebody else
	b.kernel.refuse["restore p.ratio"] = syscall.EPERM
	for range 3 {
		_, _ = g.undoUncommitted("its lease lapsed") // p.bytes cannot be put back
	}
	b.kernel.refuse["restore p.ratio"] = nil
	if _, err := g.undoUncommitted("its lease lapsed"); err != nil {
		t.Fatal(err)
	}
	q.settle(t)
	got := spell(records())
	want := []string{
		"wrote by uid 0 q.round 4096 9000 8192", "reverted by uid 0 q.round 8192 4096", "wrote by uid 0 q.round 4096 9000 8192",
		"committed by uid 0", "persisted by uid 0", "restored by uid 7 q.round 8192 4096", "unpersisted by uid 7", "closed by uid 7",
		"wrote by uid 0 q.plain 5 50 50", "wrote by uid 0 p.bytes 0 4096 4096",
		"failed by guard p.bytes 4096 4096", "yielded by guard q.plain 77 77", "restored by guard p.bytes 4096 0", "closed by guard",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestFullLogStopsChangesNotRestores: and what was not logged meanwhile is told afterwards.
func TestFullLogStopsChangesNotRestores(t *testing.T) {
	t.Parallel()
	b, d, q, records := logged(t)
	g := b.guard
	b.apply(t, "a-1", "q.plain=50")
	q.settle(t)
	d.full = true
	b.guard.say(audit.Entry{Kind: audit.Wrote, Rollout: "a-1"}) // the first that is lost
	q.settle(t)
	if _, err := g.apply(t.Context(), "b-1", changes("q.round=8192"), "uid 0"); !errors.Is(err, tune.ErrStorage) || !strings.Contains(err.Error(), "audit") {
		t.Errorf("got %v", err)
	}
	if _, err := g.apply(t.Context(), "a-1", changes("q.plain=51"), "uid 0"); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("got %v", err)
	}
	if _, err := g.rollback(t.Context(), "a-1", "uid 0"); err != nil {
		t.Errorf("a restore is refused: %v", err)
	}
	b.untouched(t)
	q.settle(t)
	d.full = false
	b.apply(t, "c-1", "q.plain=50")
	q.settle(t)
	recs := records()
	gap := slices.IndexFunc(recs, func(r audit.Record) bool { return r.Kind == audit.Gap })
	if gap < 0 || recs[gap].Span.Records < 4 || recs[len(recs)-1].Kind != audit.Wrote {
		t.Errorf("%v", spell(recs))
	}
}

// TestFullQueueIsTold: what found no place is counted, and told once the disk answers.
func TestFullQueueIsTold(t *testing.T) {
	t.Parallel()
	b, _, q, records := logged(t)
	q.mu.Lock() // the disk does not answer
	for range queueLength + 100 {
		b.guard.say(audit.Entry{Kind: audit.Wrote, Rollout: "a-1"})
	}
	q.mu.Unlock()
	for len(q.jobs) > 0 {
		time.Sleep(time.Millisecond)
	}
	b.guard.say(audit.Entry{Kind: audit.Wrote, Rollout: "a-1"})
	q.settle(t)
	recs := records()
	lost := uint64(0)
	for _, r := range recs {
		if r.Kind == audit.Gap {
			lost += r.Span.Records
		}
	}
	if kept := uint64(len(recs)) - 1; lost < 99 || lost+kept != queueLength+101 {
		t.Errorf("%d kept, %d lost of %d", kept, lost, queueLength+101)
	}
}

// TestParentMayNotTellDeeds, nor too much.
func TestParentMayNotTellDeeds(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]wireRequest{
		"nothing":          {Verb: verbNote},
		"a deed":           {Verb: verbNote, Note: &audit.Entry{Kind: audit.Wrote, Actor: "uid 0"}},
		"a checkpoint":     {Verb: verbNote, Note: &audit.Entry{Kind: audit.Checkpoint, Actor: "uid 0"}},
		"too long":         {Verb: verbNote, Note: &audit.Entry{Kind: audit.Gate, Actor: "uid 0", Detail: strings.Repeat("x", 5000)}},
		"with another":     {Verb: verbManaged, Note: &audit.Entry{Kind: audit.Gate, Actor: "uid 0"}},
		"for a rollout":    {Verb: verbNote, Rollout: "r", Note: &audit.Entry{Kind: audit.Gate, Actor: "uid 0"}},
		"standing of one":  {Verb: verbAudit, Rollout: "r"},
		"note of a hello":  {Verb: verbHello, Version: 1, Note: &audit.Entry{Kind: audit.Gate, Actor: "uid 0"}},
		"note of an apply": {Verb: verbApply, Rollout: "r", Changes: changes("q.plain=1"), Note: &audit.Entry{Kind: audit.Gate, Actor: "uid 0"}},
	} {
		if err := q.check(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	var n notes
	now := time.Unix(0, 0)
	taken := 0
	for range 1000 {
		if n.take(now) {
			taken++
		}
	}
	if taken != noteBurst || n.refused != 1000-noteBurst {
		t.Errorf("%d taken, %d refused", taken, n.refused)
	}
	if !n.take(now.Add(noteEvery)) || n.take(now.Add(noteEvery)) {
		t.Error("the bucket does not fill at its rate")
	}
	if n.take(now.Add(-time.Hour)) {
		t.Error("a clock that goes back fills the bucket")
	}
}

// TestLogOfARealGuard: decisions and deeds of one rollout, in a namespace of its own.
func TestLogOfARealGuard(t *testing.T) {
	s := newStage(t)
	c, err := Start(t.Context(), StartConfig{Env: s.env("guard"), Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	u := 0.2
	note := func(k audit.Kind, reason string) {
		t.Helper()
		if err := c.Note(ctx, audit.Entry{Kind: k, Actor: "uid 7", Rollout: "r-1", Reason: reason, Numbers: &audit.Numbers{U: &u}}); err != nil {
			t.Fatal(err)
		}
	}
	bundle := []tune.Change{{Tunable: "net.core.somaxconn", Target: ownNetns(), Proposed: "77"}}
	note(audit.Gate, "admitted")
	if _, err := c.Apply(ctx, "r-1", bundle, "uid 7"); err != nil {
		t.Fatal(err)
	}
	note(audit.Stage, "pass")
	if err := c.Commit(ctx, "r-1"); err != nil {
		t.Fatal(err)
	}
	bundle[0].Proposed = "x"
	if _, err := c.Apply(ctx, "r-2", bundle, "uid 7"); err == nil {
		t.Error("a word is no number")
	}
	flood := 0
	for range 2 * noteBurst {
		if err := c.Note(ctx, audit.Entry{Kind: audit.Held, Actor: "uid 7"}); errors.Is(err, tune.ErrBusy) {
			flood++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if flood < noteBurst/2 {
		t.Errorf("%d of %d were refused", flood, 2*noteBurst)
	}
	time.Sleep(3 * noteEvery)
	note(audit.Ended, "committed")
	st, err := c.Audit(ctx)
	if err != nil || st.Records < 8 || st.Head.Seq != st.Records || st.Deeds[audit.Wrote] != 1 || st.Deeds[audit.Commit] != 1 || st.Deeds[audit.Refusal] != 1 || st.Broken != "" {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := c.Rollback(ctx, "r-1", "uid 8"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := VerifyAudit(s.data, s.run, &st.Head)
	if err != nil || !report.Verified || report.Lost < uint64(flood) {
		t.Fatalf("%+v, %v", report, err)
	}
	var kinds []string
	if err := audit.Read(AuditDir(s.data), func(r audit.Record) bool {
		if r.Kind != audit.Held && r.Kind != audit.Gap {
			kinds = append(kinds, string(r.Kind)+" "+r.Actor)
		}
		if r.Kind == audit.Gate && (r.Numbers == nil || *r.Numbers.U != u) {
			t.Errorf("%+v", r)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"began guard", "gate uid 7", "wrote uid 7", "stage uid 7", "committed uid 7", "refusal uid 7", "ended uid 7",
		"restored uid 8", "closed uid 8"}
	if !slices.Equal(kinds, want) {
		t.Errorf("%q", kinds)
	}
	s.cutLog(t)
}

// cutLog takes the end of the log away in every way: each is found, by the run folder or, as after a boot
// that emptied it, by the journal up to the newest rollout that was kept or ended.
func (s *stage) cutLog(t *testing.T) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(AuditDir(s.data), "audit-*.jsonl"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	lines = lines[:len(lines)-1]
	for n := range lines {
		if err := os.WriteFile(names[0], []byte(strings.Join(lines[:n], "")), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := VerifyAudit(s.data, s.run, nil)
		if err != nil || r.Verified {
			t.Errorf("cut to %d lines and not found: %v", n, err)
		}
		booted, err := VerifyAudit(s.data, t.TempDir(), nil)
		if err != nil || booted.Verified != (n >= len(lines)-1) { // the close itself is the boundary
			t.Errorf("cut to %d of %d lines, after a boot: %+v, %v", n, len(lines), booted.Problems, err)
		}
	}
}

// TestKilledGuardsLeaveAWholeLog: at any moment; the next one goes on in it.
func TestKilledGuardsLeaveAWholeLog(t *testing.T) {
	kills := 12
	if os.Getenv("SOAK") != "" {
		kills = 300
	}
	s := newStage(t)
	rng := rand.New(rand.NewPCG(7, 31))
	for i := range kills {
		s.startParent(uint64(i)+1, 0)
		time.Sleep(time.Duration(rng.IntN(80_000)) * time.Microsecond)
		kill(t, s.guard)
		_ = s.cmd.Wait() // 1: it lost its guard
		s.waitUnlocked(2 * time.Second)
		if r, err := VerifyAudit(s.data, s.run, nil); err != nil || !r.Verified {
			t.Fatalf("kill %d: %+v, %v", i, r, err)
		}
	}
	s.recover()
	r, err := VerifyAudit(s.data, s.run, nil)
	if err != nil || !r.Verified || r.Lost != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	t.Logf("%d records, %v", r.Records, r.Notes)
	began := 0
	if err := audit.Read(AuditDir(s.data), func(r audit.Record) bool {
		if r.Kind == audit.Began {
			began++
		}
		return true
	}); err != nil || began > kills+1 || began < kills/2 { // one killed at once may not have come so far
		t.Errorf("%d guards began, of %d: %v", began, kills+1, err)
	}
	if managed, err := Inspect(s.data, s.run, hostBoot(t)); err == nil {
		s.rollbackAll(managed)
	}
}

var _ interface {
	Note(ctx context.Context, e audit.Entry) error
} = (*Client)(nil)
