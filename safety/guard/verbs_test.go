package guard

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"semantos/internal/tune"
)

// bundle draws changes: a few tunables, now and then one that the kernel refuses half-way or altogether.
func (s *story) bundle() []tune.Change {
	keys := s.g.keys()
	var out []tune.Change
	for _, i := range s.rng.Perm(len(keys))[:1+s.rng.IntN(4)] {
		name, target, _ := strings.Cut(keys[i], "@")
		out = append(out, tune.Change{Tunable: name, Target: target, Proposed: s.drawValue(keys[i])})
	}
	switch s.rng.IntN(12) {
	case 0:
		out = append(slices.DeleteFunc(out, func(c tune.Change) bool { return c.Tunable == "net.ipv4.tcp_rmem" && c.Target == s.g.own }),
			tune.Change{Tunable: "net.ipv4.tcp_rmem", Target: s.g.own, Proposed: "8192 262144 4294967296"})
	case 1:
		out = append(out, tune.Change{Tunable: "net.ipv4.tcp_congestion_control", Target: s.g.own, Proposed: "cubic"})
	}
	return out
}

// draw gives the next order, and what it does to the model when it is carried out.
func (s *story) draw() (order, func(report)) {
	m := s.m
	op := []string{"apply", "apply", "apply", "revert", "part", "commit", "commit", "commit", "rollback", "rollback", "release"}[s.rng.IntN(11)]
	if m.open == nil && (op == "revert" || op == "part" || op == "commit") {
		op = "apply"
	}
	if op == "release" && len(m.held) == 0 || op == "rollback" && m.open == nil && len(m.held) == 0 {
		op = "apply"
	}
	switch op {
	case "apply":
		if m.open == nil {
			m.next++
			m.open = &modelRollout{id: fmt.Sprintf("r%d", m.next), after: map[string]tune.Value{}}
			clear(s.tried)
		}
		return order{Verb: "apply", Rollout: m.open.id, Changes: s.bundle()}, func(r report) {
			for _, a := range r.Applied {
				key := a.Change.Tunable + "@" + a.Change.Target
				m.open.after[key], s.tried[key] = a.ReadBack, a.ReadBack
			}
		}
	case "revert":
		return order{Verb: op, Rollout: m.open.id}, func(report) { clear(s.tried) }
	case "part":
		return order{Verb: "revert", Rollout: m.open.id, Targets: []string{s.g.own}}, func(report) { forget(s.tried, s.g.own) }
	case "commit":
		return order{Verb: op, Rollout: m.open.id}, func(report) { s.committed() }
	case "rollback":
		r := m.open
		if r == nil || len(m.held) > 0 && s.rng.IntN(3) == 0 {
			r = m.held[s.rng.IntN(len(m.held))]
		}
		return order{Verb: op, Rollout: r.id}, func(report) { s.dropped(r.id) }
	}
	return s.drawRelease()
}

func (s *story) drawRelease() (order, func(report)) {
	r := s.m.held[s.rng.IntN(len(s.m.held))]
	o := order{Verb: "release", Rollout: r.id}
	for _, key := range slices.Sorted(maps.Keys(r.after)) {
		if name, target, _ := strings.Cut(key, "@"); len(o.Changes) == 0 || s.rng.IntN(3) == 0 {
			o.Changes = append(o.Changes, tune.Change{Tunable: name, Target: target})
		}
	}
	if len(o.Changes) == 0 { // nothing of it is ours any more
		return order{Verb: "rollback", Rollout: r.id}, func(report) { s.dropped(r.id) }
	}
	return o, func(report) { s.released(o) }
}

func (s *story) committed() {
	s.m.held, s.m.open = append(s.m.held, s.m.open), nil
	clear(s.tried)
}

func (s *story) dropped(id string) {
	if s.m.open != nil && s.m.open.id == id {
		clear(s.tried)
	}
	s.m.drop(id)
	s.gone, s.unsaid = append(s.gone, id), append(s.unsaid, id)
}

func (s *story) released(o order) {
	for _, r := range s.m.held {
		if r.id == o.Rollout {
			for _, c := range o.Changes {
				delete(r.after, c.Tunable+"@"+c.Target)
			}
		}
	}
}

// verb asks for one thing, in which and after which something may go wrong.
func (s *story) verb() {
	o, done := s.draw()
	s.faults()
	s.say("%s %s %s", o.Verb, o.Rollout, spellOrder(o))
	s.c.ticks = s.tick
	s.c.tell(o)
	r, alive := s.c.next()
	ok := alive && r.Error == nil && !s.lapsed
	if r.Error != nil {
		s.say("  error: %s", r.Error.Text)
	}
	if ok {
		done(r)
	}
	alive = s.calm(alive) && alive
	s.after(o, ok, alive)
}

// calm lets what has not fallen yet fall between two verbs, and waits for who is stopped.
func (s *story) calm(alive bool) bool {
	if s.strike != nil && alive {
		s.say("  between two verbs")
		s.hit()
	}
	s.strike = nil
	for s.stopped != nil {
		select {
		case ask := <-s.c.asks:
			s.c.serve(ask)
		case <-time.After(5 * time.Millisecond):
			s.tick()
		}
	}
	return !s.c.killed
}

// after brings everything back to health and the model to what is true.
func (s *story) after(o order, ok, alive bool) {
	if !alive {
		s.die()
		s.say("  dead")
		if s.rng.IntN(2) == 0 {
			s.tryRecovery()
		}
	} else if s.offline {
		if ok && s.rng.IntN(2) == 0 {
			s.say("  all end")
			s.c.bye()
		} else {
			s.say("  all are killed")
			s.c.killGuard()
			s.c.killParent()
		}
		s.die()
		alive = false
	}
	s.mend()
	s.mend = func() {}
	if !alive {
		if s.rng.IntN(5) == 0 {
			s.outside()
		}
		s.tear()
		s.recover()
	}
	if ok && alive && !s.lapsed {
		s.compare()
		return
	}
	s.settle(o, ok)
}

// tryRecovery is a command that comes while the fault still stands: it does what it can.
func (s *story) tryRecovery() {
	s.say("  a recovery while the fault stands")
	if c, r, ok := startCouple(s.t, s.g, s.boot, s.refused, s.met); ok {
		s.say("  notes %q", r.Notes)
		c.killParent()
		c.end()
	} else {
		s.say("  error %+v", r.Error)
	}
	s.c = nil
}

// settle follows what a death or an error left: a trial is ended; a commit or a release stands or does not; a
// rollback that was cut in the middle is asked for again.
func (s *story) settle(o order, ok bool) {
	m := s.m
	clear(s.tried)
	if m.open != nil {
		id := m.open.id
		if o.Verb == "commit" && !ok && s.isCommitted(id) {
			s.committed()
		} else {
			s.rollback(id, "the trial is over")
			m.open = nil
		}
	}
	switch {
	case ok:
	case o.Verb == "release":
		held := s.listed()
		for _, c := range o.Changes {
			if held[o.Rollout+" "+c.Tunable+"@"+c.Target] == "" {
				s.released(order{Rollout: o.Rollout, Changes: []tune.Change{c}})
			}
		}
	case o.Verb == "rollback":
		s.rollback(o.Rollout, "asked again")
		m.drop(o.Rollout)
	}
	s.compare()
}

// isCommitted reports what the journal says of a commit that got no answer.
func (s *story) isCommitted(id string) bool {
	for entry, state := range s.listed() {
		if strings.HasPrefix(entry, id+" ") && state == "committed" {
			return true
		}
	}
	return false
}

func spellOrder(o order) string {
	var out []string
	for _, c := range o.Changes {
		out = append(out, c.Tunable+"@"+c.Target+"="+string(c.Proposed))
	}
	return strings.Join(append(out, o.Targets...), ", ")
}
