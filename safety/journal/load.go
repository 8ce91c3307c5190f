package journal

// Load folds the journal of a data folder with its copies in the run folder: a copy may know of a
// rollout whose journal was damaged or moved away, and of what the journal's disk did not take or lost.
func Load(s Scanned, copies []Copy, dataDir string) *State {
	state := NewState()
	newest := map[string]Record{} // of each rollout
	told := map[whole]bool{}
	for _, r := range s.Records {
		state.Fold(r)
		newest[r.Rollout] = r
		if state.Rollouts[r.Rollout] != nil { // else its intent is lost, and it told nothing
			told[wholeOf(r)] = true
		}
	}
	for _, c := range copies {
		if c.DataDir == dataDir {
			state.merge(c, c.upTo(newest[c.Rollout()]), told)
		}
	}
	return state
}

// whole tells records of a whole rollout apart.
type whole struct {
	rollout string
	kind    Kind
	at      int64
}

func wholeOf(r Record) whole { return whole{r.Rollout, r.Kind, r.Time.UnixNano()} }

// upTo says how many of a copy's records are no newer than one of the journal's. What was not synced is lost
// to the journal when its file system fails; the copy, which is in memory, goes on from there.
func (c Copy) upTo(r Record) int {
	for i := len(c.Records) - 1; i >= 0; i-- {
		if c.Records[i].tellsSame(r) {
			return i + 1
		}
	}
	return len(c.Records) // they cannot be set side by side: the journal's word holds for what it knows
}

// tellsSame compares a record with the copy of one; each file has numbers of its own.
func (r Record) tellsSame(other Record) bool {
	return r.Kind == other.Kind && r.Tunable == other.Tunable && r.Target == other.Target && r.New == other.New &&
		r.ReadBack == other.ReadBack && r.Time.Equal(other.Time)
}

// merge takes from a copy what the journal lost: all that is newer, and of what is not, entries it does not
// know, how a write of one it knows went, originals that were handed on, and that a rollout was committed or
// closed. The copy is written after the journal, so it knows of nothing that was not to be; and what the journal
// has told of a whole rollout is not told again over what came after it.
func (s *State) merge(c Copy, upTo int, told map[whole]bool) {
	known := map[[3]string]bool{}
	for _, ro := range s.Rollouts {
		for _, en := range ro.Entries {
			known[[3]string{ro.ID, en.Tunable, en.Target}] = true
		}
	}
	rebased := map[*Entry]int{}
	for i := c.reopened(upTo); i < len(c.Records); i++ {
		r := c.Records[i]
		ro := s.Rollouts[r.Rollout]
		if ro != nil && ro.Closed || i < upTo && r.Tunable == "" && told[wholeOf(r)] {
			continue
		}
		if r.Kind == Rebased && ro != nil {
			if en := ro.Entry(r.Tunable, r.Target); en != nil && en.End == "" {
				if rebased[en]++; rebased[en] > en.Rebased {
					s.Fold(r)
				}
			}
			continue
		}
		if i >= upTo || r.Tunable == "" || !known[[3]string{r.Rollout, r.Tunable, r.Target}] {
			s.Fold(r)
			continue
		}
		if en := ro.Entry(r.Tunable, r.Target); en != nil && r.Kind == Done && en.Pending[r.New] {
			en.noDoubt(r)
		}
	}
}

// reopened is where a copy begins that was left from before its rollout was reopened, as the journal knows.
func (c Copy) reopened(upTo int) int {
	for i := upTo - 1; i >= 0; i-- {
		if c.Records[i].Kind == Reopened {
			return i + 1
		}
	}
	return 0
}

// noDoubt takes in, later than it came, that a value was written and what it became.
func (en *Entry) noDoubt(r Record) {
	delete(en.Pending, r.New)
	en.wrote(r.ReadBack)
	if en.Last == r.New {
		en.Last = r.ReadBack
	}
	for _, a := range r.Also {
		if _, known := en.After[a.Tunable]; !known {
			en.After[a.Tunable] = a.Value
		}
	}
}

// Ends are how a copy's entries ended. They are said again with the end of their rollout, of which the journal
// would know nothing else: all of it would hang on that one record.
func (c Copy) Ends() []Record {
	var out []Record
	for _, r := range c.Records {
		if r.Kind == Restored || r.Kind == Yielded || r.Kind == Gone {
			out = append(out, r)
		}
	}
	return out
}

// Rollout names the rollout a copy is of.
func (c Copy) Rollout() string {
	if len(c.Records) == 0 {
		return ""
	}
	return c.Records[0].Rollout
}

// Adopt takes a rollout over from another fold.
func (s *State) Adopt(ro *Rollout) {
	if s.Rollouts[ro.ID] == nil {
		s.Rollouts[ro.ID] = ro
		s.order = append(s.order, ro.ID)
	}
}
