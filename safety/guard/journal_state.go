package guard

import (
	"slices"

	"semantos/internal/tune"
)

// journalState is what the journal's records add up to: a pure fold, so that a test can say what any
// sequence of records means without a disk.
type journalState struct {
	rollouts map[string]*heldRollout
	order    []string // by first intent
}

// heldRollout is one rollout's entries and where it stands.
type heldRollout struct {
	ID         string
	Actor      string
	Boot       string
	Reason     string // why it was closed
	Committed  bool
	Closed     bool
	Persisting bool
	Persisted  bool
	Files      []keptFile
	Refiled    []keptFile   // what Files become when the release under way is done
	Entries    []*heldEntry // by first intent
}

// heldEntry is one tunable on one target with its original.
type heldEntry struct {
	Rollout  string
	Tunable  string
	Target   string
	How      how
	Identity tune.Identity
	Boot     string
	Old      tune.Value
	Pair     *beside
	Also     []beside
	Wrote    []tune.Value          // distinct values written or read back
	After    map[string]tune.Value // what a write left in the also_changes, by tunable
	Last     tune.Value            // read back after the newest write
	Pending  map[tune.Value]bool   // intents without their read-back
	Away     bool                  // not at its original, as far as the journal knows
	End      recordKind            // restored, yielded or gone; "" while held
	Rebased  int                   // how often it was given the original of an older rollout
	// Releasing and Released: let go of, while the rest of the rollout stands.
	Releasing, Released bool
}

func newJournalState() *journalState { return &journalState{rollouts: map[string]*heldRollout{}} }

// fold takes one record in. Records about what is not known are ignored: a corrupt line may have taken
// their intent.
func (s *journalState) fold(r record) {
	ro := s.rollouts[r.Rollout]
	if ro == nil {
		if r.Kind != kindIntent {
			return
		}
		ro = &heldRollout{ID: r.Rollout, Actor: r.Actor, Boot: r.Boot}
		s.rollouts[r.Rollout] = ro
		s.order = append(s.order, r.Rollout)
	}
	switch r.Kind {
	case kindIntent:
		ro.intent(r)
	case kindCommitted:
		ro.Committed = true
	case kindPersisting:
		ro.Persisting, ro.Files = true, r.Files
	case kindPersisted:
		ro.Persisting, ro.Persisted = false, true
	case kindUnpersisted:
		ro.Persisting, ro.Persisted, ro.Files = false, false, nil
	case kindReleased, kindRetained:
		ro.released(r)
	case kindClosed:
		ro.Closed, ro.Reason = true, r.Reason
	case kindReopened:
		s.reopen(ro)
	default:
		if en := ro.entry(r.Tunable, r.Target); en != nil {
			en.fold(r)
			if r.Kind == kindReleasing {
				ro.Refiled = r.Files
			}
		}
	}
}

// reopen forgets what a closed rollout held: it is the youngest now, and its next intents say from where
// it goes on.
func (s *journalState) reopen(ro *heldRollout) {
	*ro = heldRollout{ID: ro.ID, Actor: ro.Actor, Boot: ro.Boot}
	s.order = append(slices.DeleteFunc(s.order, func(id string) bool { return id == ro.ID }), ro.ID)
}

// intent opens an entry, or adds a distinct value to it; the original stays the first one.
func (ro *heldRollout) intent(r record) {
	en := ro.entry(r.Tunable, r.Target)
	if en == nil {
		en = &heldEntry{Rollout: r.Rollout, Tunable: r.Tunable, Target: r.Target, How: *r.How, Identity: r.Identity,
			Boot: r.Boot, Old: r.Old, Pair: r.Pair, Also: r.Also, After: map[string]tune.Value{}, Pending: map[tune.Value]bool{}}
		ro.Entries = append(ro.Entries, en)
	}
	en.Pending[r.New] = true
	en.wrote(r.New)
	en.Last, en.Away, en.End = r.New, true, ""
}

// released ends a release: its files are the rollout's now, unless it was given up.
func (ro *heldRollout) released(r record) {
	if r.Files != nil {
		ro.Files = r.Files
	}
	ro.Refiled = nil
	for _, en := range ro.Entries {
		if en.Releasing {
			en.Releasing, en.Released = false, r.Kind == kindReleased
		}
	}
}

func (en *heldEntry) fold(r record) {
	switch r.Kind {
	case kindReleasing:
		en.Releasing = true
	case kindDone:
		delete(en.Pending, r.New)
		en.wrote(r.ReadBack)
		en.Last, en.Away = r.ReadBack, true
		for _, a := range r.Also {
			en.After[a.Tunable] = a.Value
		}
	case kindAgain:
		en.Last, en.Away = r.ReadBack, true
	case kindReverted:
		en.Away = false
		clear(en.Pending)
	case kindRebased:
		en.wrote(en.Old) // what the older rollout left is now ours too
		en.Old, en.Away = r.Old, true
		en.Rebased++
		en.Also = slices.Clone(en.Also) // a record that waits for the disk may share it
		for _, a := range r.Also {
			if b := en.alsoOf(a); b != nil {
				b.Value = a.Value
			}
		}
		if r.Pair != nil {
			en.Pair = r.Pair
		}
	case kindRestored, kindYielded, kindGone:
		en.End, en.Away = r.Kind, false
		clear(en.Pending)
	}
}

func (en *heldEntry) wrote(v tune.Value) {
	if v != "" && !slices.Contains(en.Wrote, v) {
		en.Wrote = append(en.Wrote, v)
	}
}

// inDoubt reports whether a write may have happened of which the result is not known.
func (en *heldEntry) inDoubt() bool { return len(en.Pending) > 0 }

// ours reports whether a live value is one we can have left. Vector writes are not atomic, so each
// element may be any journaled one of its position.
func (en *heldEntry) ours(live tune.Value) bool {
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

func (ro *heldRollout) entry(tunable, target string) *heldEntry {
	for _, en := range ro.Entries {
		if en.Tunable == tunable && en.Target == target {
			return en
		}
	}
	return nil
}

// outlives reports whether the rollout's record holds after another boot.
func (ro *heldRollout) outlives() bool { return ro.Persisting || ro.Persisted }

// open gives the rollouts not closed, oldest first.
func (s *journalState) open() []*heldRollout {
	var out []*heldRollout
	for _, id := range s.order {
		if ro := s.rollouts[id]; !ro.Closed {
			out = append(out, ro)
		}
	}
	return out
}

// above finds the entry of a younger open rollout that stands on the same tunable, or on its counterpart,
// which zeroes it. A later target of the same name is another one.
func (s *journalState) above(en *heldEntry) *heldEntry {
	seen := false
	for _, ro := range s.open() {
		if ro.ID == en.Rollout {
			seen = true
			continue
		}
		if !seen {
			continue
		}
		up := ro.entry(en.Tunable, en.Target)
		if up == nil && en.Pair != nil {
			up = ro.entry(en.Pair.Tunable, en.Pair.Target)
		}
		if up != nil && up.End == "" && (up.Boot != en.Boot || up.Identity.Equal(en.Identity)) {
			return up
		}
	}
	return nil
}

// managed lists what is held; idle says that no guard lives, so what is uncommitted waits for recovery.
func (s *journalState) managed(boot string, idle bool) []tune.Managed {
	out := []tune.Managed{}
	for _, ro := range s.open() {
		if ro.Boot != boot && !ro.outlives() {
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
			case en.End == kindRestored && ro.outlives():
				m.State = "persisted" // its file could not be removed: the next boot would set it again
			case en.End == kindRestored:
				continue
			case en.End == kindYielded:
				m.State = "yielded"
			case en.End == kindGone:
				m.State = "gone"
			case ro.Persisted:
				m.State = "persisted"
			case ro.Committed:
				m.State = "committed"
			case idle || en.inDoubt():
				m.State = "in_doubt"
			}
			out = append(out, m)
		}
	}
	return out
}
