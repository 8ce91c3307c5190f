package cli

import (
	"context"
	"fmt"
	"strings"

	"semantos/console"
	"semantos/internal/loop"
	"semantos/internal/tune"
	"semantos/kb/sqlite"
	"semantos/safety/rollout"
)

// resumeSaved goes on with every trial that ran when an earlier serve ended: it was told to end, killed, or
// lost its guard. The guard has put every value back since. What cannot go on is ended in history, with
// the reason.
func (s *server) resumeSaved(ctx context.Context, l *live) {
	if l.trials == nil {
		return // without rights nothing is tried: it waits for a serve that may
	}
	saved, err := l.adviser.store.Trials(ctx)
	if err != nil {
		s.say("trials that an earlier serve left cannot be read: " + err.Error())
		return
	}
	for _, one := range saved {
		state, meter, done, err := s.goesOn(ctx, l, one)
		if err != nil {
			s.endSaved(ctx, l, one.Rollout, err)
			continue
		}
		s.resuming.Go(func() {
			defer done()
			s.resume(ctx, l, state, meter)
		})
	}
}

// goesOn gives what a saved trial needs to go on, or why it does not.
func (s *server) goesOn(ctx context.Context, l *live, one sqlite.Trial) (state rollout.Saved, meter rollout.Meter, done func(), err error) {
	refuse := func(format string, args ...any) (rollout.Saved, rollout.Meter, func(), error) {
		return state, nil, nil, fmt.Errorf(format, args...)
	}
	if state, err = rollout.DecodeSaved(one.Body); err != nil {
		return state, nil, nil, err
	}
	r := state.Rollout
	known, err := l.adviser.store.Rollout(ctx, one.Rollout)
	if err != nil && !isMissing(err) {
		return state, nil, nil, err
	}
	switch f := l.frozen(ctx, s.app); {
	case err == nil && known.ID == one.Rollout && !unfinished(known):
		return refuse("it has ended: %s", known.State)
	case r.ID != one.Rollout:
		return refuse("it was saved as %s", one.Rollout)
	case r.BootID != l.trials.bootID:
		return refuse("the host was booted since")
	case f != nil:
		return refuse("%w", f)
	case r.Actor == byServe && s.app.cfg.AutoApply == loop.Off:
		return refuse("serve started it by itself, and AUTO_APPLY is off now")
	}
	if err := l.rooms.fresh(r.Recommendation); err != nil {
		return state, nil, nil, err
	}
	switch name := r.Meter; {
	case name == "" || strings.HasPrefix(name, "signal:"):
		return state, nil, func() {}, nil
	case isServed(name):
		meter, done, err = s.app.serveMeter(ctx, console.ApplyRequest{Meter: name})
		return state, meter, done, err
	default:
		return refuse("its meter %s ran in a command line that has gone", name)
	}
}

// resume takes the place of the trial again and runs it to its end, or to the end of this serve too.
func (s *server) resume(ctx context.Context, l *live, state rollout.Saved, meter rollout.Meter) {
	r := state.Rollout
	if err := l.loop.Enter(ctx, r, func(string) {}); err != nil {
		if ctx.Err() == nil {
			s.endSaved(ctx, l, r.ID, err)
		}
		return
	}
	s.say(fmt.Sprintf("rollout %s, which an earlier serve began, goes on", r.ID))
	t, end := s.begin(r, nil)
	defer end()
	req := trialRequest{meter: meter, actor: r.Actor, commands: t.commands, keeper: keeper{l.adviser.store}, ending: s.ending}
	req.rec = r.Recommendation
	out, err := l.trials.resume(ctx, state, req, s.teller(t, s.hub.Publish))
	l.loop.End(out, err)
	s.say(fmt.Sprintf("rollout %s, which an earlier serve began, is %s: %s", out.ID, out.State, out.Reason))
}

// endSaved writes into history how a trial ended that does not go on. One whose end is known, or which was
// kept before its serve was killed, stays as it ended.
func (s *server) endSaved(ctx context.Context, l *live, id string, why error) {
	r, err := l.adviser.store.Rollout(ctx, id)
	if err == nil && r.ID == id && unfinished(r) {
		managed, _ := l.managed(ctx, s.app) // what is not readable is not known to be held
		r = settle{managed: managed, boot: l.trials.bootID, live: func(tune.Rollout, bool) bool { return false }}.one(r, false)
		if r.State == tune.RolledBack {
			r.Detail = "serve ended while it ran, every value was put back, and it does not go on: " + why.Error()
		}
		r.Ended = s.app.now()
		l.trials.alerts.ended(r, nil)
		err = l.adviser.store.SaveRollout(ctx, r)
	}
	if err == nil || isMissing(err) {
		err = l.adviser.store.DropTrial(ctx, id)
	}
	if err != nil {
		s.say("rollout " + id + ", which an earlier serve left, cannot be ended in history: " + err.Error())
		return
	}
	s.say("rollout " + id + ", which an earlier serve left, does not go on: " + why.Error())
}

// say tells whoever listens to serve, and its log.
func (s *server) say(text string) {
	s.app.log.Info(text)
	s.hub.Publish(console.Event{Time: s.app.now(), Kind: "resume", Message: text})
}
