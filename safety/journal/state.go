package journal

import (
	"slices"

	"semantos/internal/tune"
)

// State is what the journal's records add up to: a pure fold, so that a test can say what any
// sequence of records means without a disk.
type State struct {
	Rollouts map[string]*Rollout
	order    []string // by first intent
}

// Rollout is one rollout's entries and where it stands.
type Rollout struct {
	ID         string
	Actor      string
	Boot       string
	Reason     string // why it was closed
	Committed  bool
	Closed     bool
	Persisting bool
	Persisted  bool
	Files      []File
	Refiled    []File   // what Files become when the release under way is done
	Entries    []*Entry // by first intent
}

// Entry is one tunable on one target with its original.
type Entry struct {
	Rollout  string
	Tunable  string
	Target   string
	How      How
	Identity tune.Identity
	Boot     string
	Old      tune.Value
	Pair     *Beside
	Also     []Beside
	Wrote    []tune.Value          // distinct values written or read back
	After    map[string]tune.Value // what a write left in the also_changes, by tunable
	Last     tune.Value            // read back after the newest write
	Pending  map[tune.Value]bool   // intents without their read-back
	Away     bool                  // not at its original, as far as the journal knows
	End      Kind                  // restored, yielded or gone; "" while held
	Rebased  int                   // how often it was given the original of an older rollout
	// Releasing and Released: let go of, while the rest of the rollout stands.
	Releasing, Released bool
}

// NewState holds nothing.
func NewState() *State { return &State{Rollouts: map[string]*Rollout{}} }

// Fold takes one record in. Records about what is not known are ignored: a corrupt line may have taken
// their intent.
func (s *State) Fold(r Record) {
	ro := s.Rollouts[r.Rollout]
	if ro == nil {
		if r.Kind != Intent {
			return
		}
		ro = &Rollout{ID: r.Rollout, Actor: r.Actor, Boot: r.Boot}
		s.Rollouts[r.Rollout] = ro
		s.order = append(s.order, r.Rollout)
	}
	switch r.Kind {
	case Intent:
		ro.intent(r)
	case Committed:
		ro.Committed = true
	case Persisting:
		ro.Persisting, ro.Files = true, r.Files
	case Persisted:
		ro.Persisting, ro.Persisted = false, true
	case Unpersisted:
		ro.Persisting, ro.Persisted, ro.Files = false, false, nil
	case Released, Retained:
		ro.released(r)
	case Closed:
		ro.Closed, ro.Reason = true, r.Reason
	case Reopened:
		s.reopen(ro)
	default:
		if en := ro.Entry(r.Tunable, r.Target); en != nil {
			en.fold(r)
			if r.Kind == Releasing {
				ro.Refiled = r.Files
			}
		}
	}
}

// reopen forgets what a closed rollout held: it is the youngest now, and its next intents say from where
// it goes on.
func (s *State) reopen(ro *Rollout) {
	*ro = Rollout{ID: ro.ID, Actor: ro.Actor, Boot: ro.Boot}
	s.order = append(slices.DeleteFunc(s.order, func(id string) bool { return id == ro.ID }), ro.ID)
}

// intent opens an entry, or adds a distinct value to it; the original stays the first one.
func (ro *Rollout) intent(r Record) {
	en := ro.Entry(r.Tunable, r.Target)
	if en == nil {
		en = &Entry{Rollout: r.Rollout, Tunable: r.Tunable, Target: r.Target, How: *r.How, Identity: r.Identity,
			Boot: r.Boot, Old: r.Old, Pair: r.Pair, Also: r.Also, After: map[string]tune.Value{}, Pending: map[tune.Value]bool{}}
		ro.Entries = append(ro.Entries, en)
	}
	en.Pending[r.New] = true
	en.wrote(r.New)
	en.Last, en.Away, en.End = r.New, true, ""
}

// released ends a release: its files are the rollout's now, unless it was given up.
func (ro *Rollout) released(r Record) {
	if r.Files != nil {
		ro.Files = r.Files
	}
	ro.Refiled = nil
	for _, en := range ro.Entries {
		if en.Releasing {
			en.Releasing, en.Released = false, r.Kind == Released
		}
	}
}

func (en *Entry) fold(r Record) {
	switch r.Kind {
	case Releasing:
		en.Releasing = true
	case Done:
		delete(en.Pending, r.New)
		en.wrote(r.ReadBack)
		en.Last, en.Away = r.ReadBack, true
		for _, a := range r.Also {
			en.After[a.Tunable] = a.Value
		}
	case Again:
		en.Last, en.Away = r.ReadBack, true
	case Reverted:
		en.Away = false
		clear(en.Pending)
	case Rebased:
		en.wrote(en.Old) // what the older rollout left is now ours too
		en.Old, en.Away = r.Old, true
		en.Rebased++
		en.Also = slices.Clone(en.Also) // a record that waits for the disk may share it
		for _, a := range r.Also {
			if b := en.AlsoOf(a); b != nil {
				b.Value = a.Value
			}
		}
		if r.Pair != nil {
			en.Pair = r.Pair
		}
	case Restored, Yielded, Gone:
		en.End, en.Away = r.Kind, false
		clear(en.Pending)
	}
}

func (en *Entry) wrote(v tune.Value) {
	if v != "" && !slices.Contains(en.Wrote, v) {
		en.Wrote = append(en.Wrote, v)
	}
}

// InDoubt reports whether a write may have happened of which the result is not known.
func (en *Entry) InDoubt() bool { return len(en.Pending) > 0 }

// Ours reports whether a live value is one we can have left. Vector writes are not atomic, so each
// element may be any journaled one of its position.
func (en *Entry) Ours(live tune.Value) bool {
	known := append([]tune.Value{en.Old}, en.Wrote...)
	if slices.Contains(known, live) {
		return true
	}
	got := live.Fields()
	if len(got) < 2 {
		return false
	}
	for i, g := range got {
		if !slices.ContainsFunc(known, func(k tune.Value) bool {
			f := k.Fields()
			return i < len(f) && f[i] == g
		}) {
			return false
		}
	}
	return true
}

// Entry finds what a rollout holds of a tunable on a target; nil when it holds nothing of it.
func (ro *Rollout) Entry(tunable, target string) *Entry {
	for _, en := range ro.Entries {
		if en.Tunable == tunable && en.Target == target {
			return en
		}
	}
	return nil
}

// Outlives reports whether the rollout's record holds after another boot.
func (ro *Rollout) Outlives() bool { return ro.Persisting || ro.Persisted }

// Open gives the rollouts not closed, oldest first.
func (s *State) Open() []*Rollout {
	var out []*Rollout
	for _, id := range s.order {
		if ro := s.Rollouts[id]; !ro.Closed {
			out = append(out, ro)
		}
	}
	return out
}

// Above finds the entry of a younger open rollout that stands on the same tunable, or on its counterpart,
// which zeroes it. A later target of the same name is another one.
func (s *State) Above(en *Entry) *Entry {
	seen := false
	for _, ro := range s.Open() {
		if ro.ID == en.Rollout {
			seen = true
			continue
		}
		if !seen {
			continue
		}
		up := ro.Entry(en.Tunable, en.Target)
		if up == nil && en.Pair != nil {
			up = ro.Entry(en.Pair.Tunable, en.Pair.Target)
		}
		if up != nil && up.End == "" && (up.Boot != en.Boot || up.Identity.Equal(en.Identity)) {
			return up
		}
	}
	return nil
}

// Managed lists what is held; idle says that no guard lives, so what is uncommitted waits for recovery.
func (s *State) Managed(boot string, idle bool) []tune.Managed {
	out := []tune.Managed{}
	for _, ro := range s.Open() {
		if ro.Boot != boot && !ro.Outlives() {
			continue
		}
		for _, en := range ro.Entries {
			m := tune.Managed{Tunable: en.Tunable, Scope: en.How.Scope, Target: en.Target, Original: en.Old,
				Current: en.Last, Rollout: ro.ID, State: "trying"}
			if !en.Away {
				m.Current = en.Old
			}
			switch {
			case en.Released:
				continue
			case en.End == Restored && ro.Outlives():
				m.State = "persisted" // its file could not be removed: the next boot would set it again
			case en.End == Restored:
				continue
			case en.End == Yielded:
				m.State = "yielded"
			case en.End == Gone:
				m.State = "gone"
			case ro.Persisted:
				m.State = "persisted"
			case ro.Committed:
				m.State = "committed"
			case idle || en.InDoubt():
				m.State = "in_doubt"
			}
			out = append(out, m)
		}
	}
	return out
}

// AlsoOf finds what an entry keeps of a neighbour.
func (en *Entry) AlsoOf(a Beside) *Beside {
	for i := range en.Also {
		if en.Also[i].Tunable == a.Tunable && en.Also[i].Target == a.Target {
			return &en.Also[i]
		}
	}
	return nil
}
