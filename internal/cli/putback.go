package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/safety/guard"
)

// putBack has the guard put back, and only then history told: the disk that history lies on may hang.
type putBack struct {
	guard *guard.Client
	// history hands the store over for one use. It may wait for ever: only askHistory calls it.
	history func(ctx context.Context, use func(store) error) error
	late    *sync.WaitGroup // has what still waits for history
	dataDir string
	actor   string
	now     func() time.Time
	alerts  *alerter
	// elsewhere has the data folder of what only a command with that folder rolls back.
	elsewhere func() map[string]string
}

// undone is a rollout of which everything is put back that could be.
type undone struct {
	id       string
	restored []guard.Restored
}

// rollback takes one rollout, or each one that holds something, newest first. All are put back before history
// hears of any; an error beside the document may be history's alone.
func (p *putBack) rollback(ctx context.Context, id string) (console.RollbackResult, error) {
	doc := nothingBack()
	managed, err := p.guard.Managed(ctx)
	if err != nil {
		return doc, err
	}
	ids, err := p.which(ctx, managed, id)
	if err != nil {
		return doc, err
	}
	var errs []error
	var all []undone
	for _, rollout := range ids {
		restored, err := p.guard.Rollback(ctx, rollout, p.actor)
		if errors.Is(err, tune.ErrUnknown) || errors.Is(err, guard.ErrEnded) {
			continue // it holds nothing any more
		}
		for _, r := range restored {
			doc.Restored = append(doc.Restored, outcomeOf(r, managed))
		}
		if err != nil { // a value or a file is not back: the rollout stays open, and the others are tried
			errs = append(errs, err)
			continue
		}
		all = append(all, undone{rollout, restored})
	}
	rollouts, err := p.record(ctx, all)
	doc.Rollouts = append(doc.Rollouts, rollouts...)
	p.alerts.putBack(doc, p.actor)
	return doc, errors.Join(append(errs, err)...)
}

// which finds the rollouts meant: by a rollout's id, by a recommendation's, or all. The guard knows what holds
// something; history is asked only for an id of which nothing is held here.
func (p *putBack) which(ctx context.Context, managed []tune.Managed, id string) ([]string, error) {
	var held []string // newest first
	for _, m := range slices.Backward(managed) {
		if m.Rollout != "" && !slices.Contains(held, m.Rollout) {
			held = append(held, m.Rollout)
		}
	}
	if id == "" {
		return held, nil
	}
	if slices.Contains(held, id) {
		return []string{id}, nil
	}
	for _, rollout := range held {
		if strings.HasPrefix(rollout, id+"-") { // as rollout.NewID makes it of a recommendation's
			return []string{rollout}, nil
		}
	}
	known, err := askHistory(ctx, p, "look up "+id+" in", func(ctx context.Context, s store) (tune.Rollout, error) { return s.Rollout(ctx, id) })
	if err == nil {
		return []string{known.ID}, nil
	}
	if dir, there := p.elsewhere()[id]; there {
		return nil, usage("roll back", id, "semantos rollback "+id+" --data-dir "+quote(dir), "it was made with another DATA_DIR")
	}
	if isMissing(err) {
		return nil, usage("roll back", id, "semantos status lists what holds something", "no rollout has this id")
	}
	return nil, err
}

// record marks rollouts of history as put back. One that history lost, or cannot be asked about, is only in the
// journal: it is given with what is known here.
func (p *putBack) record(ctx context.Context, all []undone) ([]tune.Rollout, error) {
	bare := make([]tune.Rollout, len(all))
	for i, e := range all {
		bare[i] = tune.Rollout{ID: e.id, State: tune.RolledBack, Reason: tune.ReasonOperator, Stages: []tune.Stage{}, Actor: p.actor}
	}
	// What is put back is recorded whatever ends the command, its caller's patience included.
	kept, err := askHistory(context.WithoutCancel(ctx), p, "record in history of", func(ctx context.Context, s store) ([]tune.Rollout, error) {
		out := slices.Clone(bare)
		var errs []error
		for i, e := range all {
			r, err := p.save(ctx, s, e)
			if err == nil {
				out[i] = r
			} else if !isMissing(err) {
				errs = append(errs, err)
			}
		}
		return out, errors.Join(errs...)
	})
	if kept == nil {
		kept = bare
	}
	return kept, err
}

func (p *putBack) save(ctx context.Context, s store, e undone) (tune.Rollout, error) {
	r, err := s.Rollout(ctx, e.id)
	if err != nil || r.State == tune.RolledBack {
		return r, err
	}
	r.Detail, r.Undone = "put back by "+p.actor, p.now()
	if len(r.Persisted) > 0 {
		r.Detail += "; removed what was written for the next boot: " + strings.Join(r.Persisted, " ")
	}
	r.State, r.Reason, r.Persisted = tune.RolledBack, tune.ReasonOperator, nil
	for _, one := range e.restored {
		if one.Outcome == guard.Yielded {
			r.Detail += fmt.Sprintf("; %s on %s was left alone: %s", one.Tunable, one.Target, one.Detail)
		}
	}
	return r, s.SaveRollout(ctx, r)
}

// historyTime is what a command that puts back waits for history. A busy disk answers within it.
const historyTime = 5 * time.Second

// askHistory uses history where it answers in time. Else the use goes on beside the command, and comes to its
// end once the disk answers.
func askHistory[T any](ctx context.Context, p *putBack, op string, use func(context.Context, store) (T, error)) (T, error) {
	p.late.Add(1)
	const hint = "what could be put back is put back, and history is told once it answers; check the disk of DATA_DIR (dmesg), and who else holds the store (fuser)"
	return inTime(op, p.dataDir, hint, func() (got T, err error) {
		defer p.late.Done()
		err = p.history(ctx, func(s store) (err error) {
			got, err = use(ctx, s)
			return err
		})
		return got, err
	})
}

// inTime does work on the disk of a folder, and gives an error where that lets it wait: the work goes on then.
func inTime[T any](op, dir, hint string, work func() (T, error)) (T, error) {
	type answer struct {
		got T
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		got, err := work()
		answered <- answer{got, err}
	}()
	select {
	case a := <-answered:
		return a.got, a.err
	case <-time.After(historyTime):
	}
	var none T
	return none, &tune.Error{Op: op, Subject: dir, Err: fmt.Errorf("%w: it did not answer within %s", tune.ErrStorage, historyTime), Hint: hint}
}
