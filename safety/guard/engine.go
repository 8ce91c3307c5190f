package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
	"semantos/safety/journal"
)

// Actuator reads and writes tunables of this host; internal/host is one.
type Actuator interface {
	Read(t *tune.Tunable, target string) (tune.Value, error)
	Write(t *tune.Tunable, target string, v tune.Value) (tune.Value, error)
	Restore(t *tune.Tunable, target string, original tune.Value) (tune.Value, error)
	Identity(scope tune.Scope, target string) (tune.Identity, error)
}

// Catalogue says what may be written; kb has it.
type Catalogue interface {
	Lookup(name string) (t *tune.Tunable, target string, err error)
	Invariants(changed []tune.Change, current func(name, target string) (tune.Value, error)) []error
}

// maxBundle bounds how many tunables one rollout changes together on one target: the search for an order
// of writes looks at subsets. Like targets are ordered each by itself, up to maxChanges writes in all.
const maxBundle, maxChanges = 12, 512

// engine is the guard without its process: it changes the machine, and the journal first. It is used
// by one goroutine at a time.
type engine struct {
	act   Actuator
	cat   Catalogue
	log   recorder
	disk  journal.Disk
	run   string // the run folder
	data  string // the data folder
	root  string
	boot  string
	now   func() time.Time
	state *journal.State
	// initNetns is the target of the machine's own network namespace: what is persisted holds there.
	initNetns string

	witness Witness // nil: nobody watches

	files lanes
	owed  []owed // in the order of their lanes

	asked  chan *tune.Freeze // of the data folder, not answered yet
	said   saying            // nil: no log is kept
	actor  string            // on whose behalf it acts now; "" is the rollout's own
	deeds  map[audit.Kind]uint64
	failed map[string]string // what was said of a value that cannot be put back
}

// tell records what has already happened, and never waits for the disk: the records follow in their order.
// One that is lost leaves its entry in doubt, and the next start finds the original in place already.
func (g *engine) tell(sync bool, recs ...journal.Record) {
	for i := range recs {
		recs[i].Time = g.now().UTC()
		g.state.Fold(recs[i])
	}
	g.log.Later(sync, recs...)
}

// promise records what is about to happen: nothing happens when it fails.
func (g *engine) promise(ctx context.Context, sync bool, recs ...journal.Record) error {
	for i := range recs {
		recs[i].Time = g.now().UTC()
	}
	err := g.log.Record(ctx, sync, recs...)
	for _, r := range recs {
		if err == nil || r.Kind == journal.Intent { // a slow disk may still take an intent: it is ended in order
			g.state.Fold(r)
		}
	}
	return err
}

// tunable prefers the catalogue's entry, and falls back to what the journal kept of it.
func (g *engine) tunable(name string, h journal.How) *tune.Tunable {
	if t, _, err := g.cat.Lookup(name); err == nil && t.Method == h.Method && t.Path == h.Path {
		return t
	}
	return h.Tunable()
}

func (g *engine) held(rollout string) (*journal.Rollout, error) {
	ro := g.state.Rollouts[rollout]
	if ro == nil {
		return nil, &tune.Error{Op: "find rollout", Subject: rollout, Err: tune.ErrUnknown,
			Hint: "'semantos status' lists what is held, 'semantos history' what was"}
	}
	return ro, nil
}

// revert puts a rollout's tunables back, those on the targets named or all, and keeps it open for its next
// slot.
func (g *engine) revert(rollout string, targets ...string) ([]Restored, error) {
	ro, err := g.held(rollout)
	if err != nil {
		return nil, err
	}
	switch {
	case ro.Closed:
		return nil, g.endedError(ro)
	case ro.Committed:
		return nil, &tune.Error{Op: "revert", Subject: rollout, Err: tune.ErrUsage, Hint: "it is committed: use rollback"}
	}
	out, recs := g.putBackAll(ro, journal.Reverted, targets...)
	g.tell(false, recs...)
	return out, failures(out)
}

// commit keeps what a rollout holds, if it still stands.
func (g *engine) commit(ctx context.Context, rollout string) error {
	ro, err := g.held(rollout)
	if err != nil {
		return err
	}
	if ro.Closed {
		return g.endedError(ro)
	}
	if ro.Committed {
		return nil
	}
	if err := g.mayChange(ctx, "commit", rollout); err != nil {
		return err
	}
	for _, en := range ro.Entries {
		if en.End == journal.Gone && isUnit(ro, en) {
			continue // one of several like targets has vanished: the others are kept
		}
		if en.End != "" || !en.Away {
			return &tune.Error{Op: "commit", Subject: en.Tunable, Err: fmt.Errorf("not in place: %w", tune.ErrDrifted),
				Hint: "apply the whole bundle before it is committed"}
		}
		live, err := g.act.Read(g.tunable(en.Tunable, en.How), en.Target)
		if err != nil {
			return fmt.Errorf("commit %s: %w", en.Tunable, err)
		}
		if live != en.Last && !aggregate(en) {
			return g.driftError("commit", en, live)
		}
	}
	err = g.promise(ctx, true, journal.Record{Kind: journal.Committed, Rollout: rollout, Actor: g.behalf(rollout)})
	return g.did(audit.Commit, err)
}

// rollback puts everything of a rollout back, committed or not, and closes it. Only what it persisted is waited
// for, while ctx lasts; values never are.
func (g *engine) rollback(ctx context.Context, rollout, actor string) ([]Restored, error) {
	ro, err := g.held(rollout)
	if err != nil {
		return nil, err
	}
	if ro.Closed {
		return []Restored{}, nil
	}
	out, recs, err := g.finish(ctx, ro, "rollback by "+actor)
	// The values are back whatever the journal says: the next change is refused when it cannot be written.
	g.tell(true, recs...)
	return out, err
}

// finish puts back and says what is to be recorded after it. What could not be put back keeps the
// rollout open, so that the next command tries again.
func (g *engine) finish(ctx context.Context, ro *journal.Rollout, reason string) ([]Restored, []journal.Record, error) {
	out, recs := g.putBackAll(ro, journal.Restored)
	closed := journal.Record{Kind: journal.Closed, Rollout: ro.ID, Reason: reason, Actor: g.behalf(ro.ID)}
	failed := failures(out)
	unErr := g.unpersist(ctx, ro, func() {
		if failed == nil && !ro.Closed {
			g.tell(true, closed)
		}
	})
	err := errors.Join(failed, unErr)
	if err == nil && !ro.Closed {
		recs = append(recs, closed)
	}
	return out, recs, err
}

// reopen lets a rollout that was ended and put back go on under its name. Its originals are taken anew,
// from what stands now.
func (g *engine) reopen(ctx context.Context, rollout string) error {
	if err := g.mayChange(ctx, "go on with rollout", rollout); err != nil {
		return err
	}
	ro, err := g.held(rollout)
	switch {
	case err != nil:
		return err
	case !ro.Closed || ro.Committed:
		return &tune.Error{Op: "go on with rollout", Subject: rollout, Err: tune.ErrUsage, Hint: "only what ended uncommitted can go on: 'semantos status' shows where it stands"}
	case ro.Boot != g.boot:
		return &tune.Error{Op: "go on with rollout", Subject: rollout, Err: fmt.Errorf("%w: the host was booted since", tune.ErrStale),
			Hint: "start a new one"}
	}
	for _, en := range ro.Entries {
		if en.End != journal.Restored {
			return &tune.Error{Op: "go on with rollout", Subject: en.Tunable + " on " + en.Target,
				Err: fmt.Errorf("%w: it was not put back but %s", tune.ErrDrifted, en.End), Hint: "find out what set it, then start a new one"}
		}
	}
	return g.promise(ctx, true, journal.Record{Kind: journal.Reopened, Rollout: rollout})
}

// undoUncommitted ends every rollout that nobody committed, youngest first.
func (g *engine) undoUncommitted(reason string) ([]Restored, error) {
	var out []Restored
	var recs []journal.Record
	var errs []error
	defer func(asked string) { g.actor = asked }(g.actor)
	g.actor = actorGuard // nobody asked for this
	open := g.state.Open()
	for i := len(open) - 1; i >= 0; i-- {
		if open[i].Committed {
			continue
		}
		got, ends, err := g.finish(context.Background(), open[i], reason) // nothing uncommitted has files
		for _, r := range ends {
			g.state.Fold(r) // an older rollout below looks at it
		}
		out, recs, errs = append(out, got...), append(recs, ends...), append(errs, err)
	}
	if len(recs) > 0 {
		g.tell(true, recs...) // acted first; the disk may follow
	}
	return out, errors.Join(errs...)
}

// uncommitted reports whether anything would have to be put back.
func (g *engine) uncommitted() bool {
	for _, ro := range g.state.Open() {
		if !ro.Committed {
			return true
		}
	}
	return false
}

func (g *engine) endedError(ro *journal.Rollout) error {
	if f := g.frozen(context.Background(), freezeGlance); f != nil {
		return frozenError("continue rollout", ro.ID, f)
	}
	return &tune.Error{Op: "continue rollout", Subject: ro.ID, Err: fmt.Errorf("%w: %s", ErrEnded, ro.Reason),
		Hint: "its tunables were put back: start a new one"}
}

func (g *engine) driftError(op string, en *journal.Entry, live tune.Value) error {
	var r Restored
	pairLive, _ := g.pairLive(en) // unread it tells nothing more
	g.ask(&r, en, live, pairLive, false)
	return &tune.Error{Op: op, Subject: en.Tunable + " on " + en.Target,
		Err:  fmt.Errorf("%w: is %q, was left at %q; %s", tune.ErrDrifted, live, en.Last, g.who(*r.asked)),
		Hint: "something else sets it: find out what, or leave it alone"}
}

func failures(out []Restored) error {
	var errs []error
	for _, r := range out {
		if r.Outcome == Failed {
			errs = append(errs, &tune.Error{Op: "restore", Subject: r.Tunable + " on " + r.Target, Err: errors.New(r.Detail),
				Hint: fmt.Sprintf("it stands at %q; 'semantos rollback %s' tries again", r.Found, r.Rollout)})
		}
	}
	return errors.Join(errs...)
}
