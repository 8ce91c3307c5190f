package rollout

import (
	"context"
	"time"
)

// LookEvery is the sampling interval of the watch over vitals.
const LookEvery = lookEvery

// Watch judges vitals beside the slots of an experiment that is no rollout, by a rollout's rules.
type Watch struct {
	watch  *watch
	vitals Vitals
	now    func() time.Time
}

// NewWatch looks for the first time, before anything is exposed. Without vitals nothing ever breaks.
func NewWatch(v Vitals, now func() time.Time) *Watch {
	w := &Watch{watch: newWatch(), vitals: v, now: now}
	w.watch.look(now(), w.read())
	return w
}

func (w *Watch) read() []Vital {
	if w.vitals == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	return w.vitals.Look(ctx)
}

// Look says what is broken now, "" for nothing.
func (w *Watch) Look() string { return w.watch.look(w.now(), w.read()) }

// Turn tells that what is exposed changes now, and says what was broken until then.
func (w *Watch) Turn(exposed bool, settle time.Duration) string {
	return w.watch.turn(w.now(), exposed, settle, w.read())
}
