package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
	"semantos/safety/journal"
)

// The guard alone appends to the log of decisions and writes: its own deeds as it does them, and what its
// parent decided, through one verb. Everything goes through the journal's queue, so no restore waits for it.

// auditor writes the log, on the queue's goroutine.
type auditor struct{ log *audit.Log }

// before holds up a change while the log cannot be written, and lets the journal know the log's head where
// a rollout is kept or ends: a log that was cut behind it is then found over a boot too.
func (a *auditor) before(recs []journal.Record) error {
	for i := range recs {
		switch recs[i].Kind {
		case journal.Intent, journal.Again, journal.Persisting, journal.Releasing:
			if err := a.log.Ready(); err != nil {
				return err
			}
		case journal.Committed, journal.Persisted, journal.Released, journal.Closed:
			if head, err := a.log.Sync(); err == nil && head.Seq > 0 {
				recs[i].Log = &head
			}
		}
	}
	return nil
}

// after logs what the journal's records say of a whole rollout; what became of each value the engine says.
func (a *auditor) after(recs []journal.Record, err error) {
	var out []audit.Entry
	for _, r := range recs {
		e := audit.Entry{Actor: r.Actor, Rollout: r.Rollout, Detail: r.Reason}
		if e.Actor == "" {
			e.Actor = actorGuard
		}
		for _, f := range r.Files {
			e.Files = append(e.Files, f.Path)
		}
		switch {
		case r.Kind == journal.Closed:
			e.Kind = audit.Closed
		case r.Kind == journal.Unpersisted:
			e.Kind = audit.Unpin
		case r.Kind == journal.Committed && err == nil:
			e.Kind = audit.Commit
		case (r.Kind == journal.Persisted || r.Kind == journal.Released && len(r.Files) > 0) && err == nil:
			e.Kind = audit.Persist
		case err != nil && (r.Kind == journal.Intent || r.Kind == journal.Committed || r.Kind == journal.Persisting || r.Kind == journal.Persisted):
			e.Kind, e.Tunable, e.Target, e.New = audit.Refusal, r.Tunable, r.Target, r.New
			e.Reason, e.Detail = "journal", fmt.Sprintf("%s was not recorded: %v", r.Kind, err)
		default:
			continue
		}
		out = append(out, e)
	}
	a.append(out)
}

func (a *auditor) append(entries []audit.Entry) {
	if len(entries) > 0 {
		_ = a.log.Append(entries...) // counted, told by a gap record, and new changes wait for it
	}
}

// actorGuard is who acts where nobody asked: a lease that lapsed, a parent that died, a recovery.
const actorGuard = "guard"

// saying is where the engine's deeds go.
type saying func(...audit.Entry)

// said logs deeds, after the records queued before them.
func (q *queue) said(entries ...audit.Entry) {
	if q.audit != nil && len(entries) > 0 && !q.enqueue(queued{entries: entries, result: make(chan error, 1)}) {
		q.lost.Add(uint64(len(entries)))
	}
}

var errQueueFull = errors.New("the disk did not answer, and too much waited for it")

// keep logs what waited, what was lost first.
func (q *queue) keep(entries []audit.Entry) {
	if q.audit == nil {
		return
	}
	if n := q.lost.Swap(0); n > 0 {
		q.audit.log.Lose(int(n), errQueueFull)
	}
	q.audit.append(entries)
}

// say logs a deed, counts it, and names on whose behalf it was done.
func (g *engine) say(entries ...audit.Entry) {
	if g.deeds == nil {
		g.deeds = map[audit.Kind]uint64{}
	}
	for i := range entries {
		entries[i].Actor = g.behalf(entries[i].Rollout)
		g.deeds[entries[i].Kind]++
	}
	if g.said != nil {
		g.said(entries...)
	}
}

// did counts what the journal's own records have logged.
func (g *engine) did(k audit.Kind, err error) error {
	if err == nil {
		if g.deeds == nil {
			g.deeds = map[audit.Kind]uint64{}
		}
		g.deeds[k]++
	}
	return err
}

func (g *engine) behalf(rollout string) string {
	if g.actor != "" {
		return g.actor
	}
	if ro := g.state.Rollouts[rollout]; ro != nil && ro.Actor != "" {
		return ro.Actor
	}
	return actorGuard
}

// sayRefused logs changes that were asked for and not made.
func (g *engine) sayRefused(rollout string, changes []tune.Change, err error) {
	reason := refusalWord(err)
	for _, c := range changes {
		g.say(audit.Entry{Kind: audit.Refusal, Rollout: rollout, Tunable: c.Tunable, Target: c.Target, Old: c.Current, New: c.Proposed,
			Reason: reason, Detail: err.Error()})
	}
}

func refusalWord(err error) string {
	names := sentinelNames()
	for _, word := range []string{"drifted", "stale", "gone", "conflict", "denied", "out_of_range", "type", "invariant", "unknown", "usage",
		"not_permitted", "read_only", "unsupported", "storage", "corrupt", "ended", "canceled"} {
		if errors.Is(err, names[word]) {
			return word
		}
	}
	return "failed"
}

// sayPutBack logs what became of one value. A failure that is tried again and again is said once.
func (g *engine) sayPutBack(r Restored, kind journal.Kind) {
	e := audit.Entry{Kind: audit.Restored, Rollout: r.Rollout, Tunable: r.Tunable, Target: r.Target, Old: r.Found, ReadBack: r.Value,
		Reason: string(r.Outcome), Detail: r.Detail}
	switch {
	case r.Outcome == Failed:
		e.Kind = audit.Failed
		key := r.Rollout + " " + r.Tunable + " " + r.Target
		if g.failed[key] == r.Detail {
			return
		}
		if g.failed == nil {
			g.failed = map[string]string{}
		}
		g.failed[key] = r.Detail
	case r.Outcome == Yielded:
		e.Kind = audit.Yielded
	case r.Outcome == Gone:
		e.Kind = audit.Gone
	case kind == journal.Reverted:
		e.Kind = audit.Reverted
	}
	g.say(e)
}

// Bounds of what a parent may have logged: a rollout notes a dozen decisions, and a flood would push the
// log out of its own retention.
const (
	noteBurst = 200
	noteEvery = 100 * time.Millisecond // one more
)

// notes is a bucket of decisions a parent may still note.
type notes struct {
	left    float64
	at      time.Time
	refused uint64
}

func (n *notes) take(now time.Time) bool {
	if n.at.IsZero() {
		n.left = noteBurst
	} else if passed := now.Sub(n.at); passed > 0 {
		n.left = min(noteBurst, n.left+float64(passed)/float64(noteEvery))
	}
	n.at = now
	if n.left < 1 {
		n.refused++
		return false
	}
	n.left--
	return true
}

// note logs a decision of the parent.
func (s *guardServer) note(e audit.Entry) error {
	if !s.noted.take(time.Now()) {
		return &tune.Error{Op: "log decision", Subject: string(e.Kind), Err: fmt.Errorf("%w: more than %d at once", tune.ErrBusy, noteBurst),
			Hint: "the log says how many were left out"}
	}
	if n := s.noted.refused; n > 0 {
		s.queue.said(audit.Entry{Kind: audit.Gap, Actor: actorGuard, Reason: "flood", Span: &audit.Span{Records: n},
			Detail: fmt.Sprintf("%d decisions came faster than they may be logged", n)})
		s.noted.refused = 0
	}
	s.queue.said(e)
	return nil
}

// Audited is where the log stands, and how many deeds of each kind the guard did since it began.
type Audited struct {
	audit.Standing
	Deeds map[audit.Kind]uint64 `json:"deeds"`
}

// standing waits a moment for what is queued.
func (s *guardServer) standing(ctx context.Context) *Audited {
	job := queued{result: make(chan error, 1)}
	if s.queue.enqueue(job) {
		select {
		case <-job.result:
		case <-ctx.Done():
		case <-time.After(standingWait):
		}
	}
	out := Audited{Standing: s.queue.audit.log.Standing(), Deeds: map[audit.Kind]uint64{}}
	out.Refused = s.noted.refused
	for k, n := range s.engine.deeds {
		out.Deeds[k] = n
	}
	return &out
}

const standingWait = 50 * time.Millisecond

// newAuditor prepares the log of a data folder; it is opened by the queue, where a dead disk hurts nobody.
func (c Config) newAuditor(dataDir string, found journal.Scanned) *auditor {
	return &auditor{log: audit.New(audit.Config{Dir: filepath.Dir(journal.Path(dataDir)), DataDir: dataDir,
		HeadFile: audit.HeadPath(c.RunDir, dataDir), Anchors: newestAnchor(found.Records), Boot: c.BootID, Now: c.Now,
		Keep: c.AuditKeep, MaxBytes: c.AuditBytes})}
}

func beganEntry() audit.Entry {
	return audit.Entry{Kind: audit.Began, Actor: actorGuard, Detail: fmt.Sprintf("guard %d of parent %d", os.Getpid(), os.Getppid())}
}

// anchors are the heads of the log that the journal knows.
func anchors(recs []journal.Record) (out []audit.Anchor) {
	for _, r := range recs {
		if r.Log != nil {
			out = append(out, audit.Anchor{Head: *r.Log, Where: fmt.Sprintf("the journal (%s %s)", r.Rollout, r.Kind)})
		}
	}
	return out
}

func newestAnchor(recs []journal.Record) []audit.Anchor {
	all := anchors(recs)
	return all[max(0, len(all)-1):]
}

// VerifyAudit verifies the log of a data folder against the run folder, the journal and a head that somebody
// noted. It only reads, and needs no guard.
func VerifyAudit(dataDir, runDir string, noted *audit.Head) (audit.Report, error) {
	dataDir = absolute(dataDir)
	path := journal.Path(dataDir)
	// The heads first: what is appended meanwhile only comes behind them.
	all, err := audit.RunAnchor(audit.HeadPath(runDir, dataDir))
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return audit.Report{}, &tune.Error{Op: "read head of the audit log", Subject: audit.HeadPath(runDir, dataDir),
			Err: fmt.Errorf("%w: %w", tune.ErrCorrupt, err), Hint: "a restart of the host makes it anew"}
	}
	unread := err != nil
	data, err := journal.HostDisk{}.ReadFile(path)
	if err == nil {
		all = append(all, anchors(journal.Scan(data).Records)...)
	}
	if noted != nil {
		all = append(all, audit.Anchor{Head: *noted, Where: audit.Noted})
	}
	report, err := audit.Verify(filepath.Dir(path), all)
	if unread {
		report.Notes = append(report.Notes, "the head in "+strings.TrimSuffix(runDir, "/")+" is not readable by this user: it was not compared")
	}
	return report, err
}

// AuditDir is where the log of a data folder lies.
func AuditDir(dataDir string) string { return filepath.Dir(journal.Path(absolute(dataDir))) }
