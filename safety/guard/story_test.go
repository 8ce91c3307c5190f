package guard

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"semantos/internal/tune"
)

// story is one random schedule on the real kernel: what was asked of a real guard by a real parent, which
// faults fell where, and what must be true of every tunable, told without looking at the journal.
type story struct {
	t       *testing.T
	rng     *rand.Rand
	g       *ground
	m       *model
	c       *couple // nil: nobody lives
	refused *errnoProgram
	boot    string
	tale    []string
	ops     int
	tried   map[string]tune.Value // what the open trial has in place now
	insist  map[string]tune.Value // written by somebody else at a moment when the guard could not see it
	gone    []string              // rolled back
	unsaid  []string              // of those, the ones that the journal may not know of yet
	strike  *strike               // what is still to fall
	stopped *stopped              // who waits for SIGCONT
	lapsed  bool                  // the parent was stopped for longer than its lease
	mend    func()                // takes a standing fault away
	offline bool                  // mending needs that nobody lives
	sick    bool                  // a disk has failed in this story
	boots   int
}

// TestRealSchedules: real parents and guards on a real kernel. Bundles over two namespaces, a loop device and
// a control group are applied, reverted, committed, stacked, released and rolled back, with kills and stops of
// either process, refused writes, an outside writer, vanishing targets and successors of their name, a full
// disk, a file system that turns read-only, torn, cut and damaged journals and copies, and boots, between the
// steps and inside them. Every tunable ends committed, or exactly as before, or as the outside writer left it;
// what is held stays listed, a second recovery does nothing, and nobody's value is overwritten twice.
//
// SEED=n runs one schedule alone, with the same draws; a fault that falls by time may fall a little elsewhere.
func TestRealSchedules(t *testing.T) {
	seeds, first := schedules(), 0
	if one, err := strconv.Atoi(os.Getenv("SEED")); err == nil {
		seeds, first = 1, one
	}
	next := make(chan int)
	var running sync.WaitGroup
	for range min(seeds, 4) { // they mostly wait: for a lease, for a process to start
		running.Go(func() {
			for seed := range next {
				t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { tellStory(t, seed) })
			}
		})
	}
	for seed := first; seed < first+seeds; seed++ {
		next <- seed
	}
	close(next)
	running.Wait()
}

func tellStory(t *testing.T, seed int) {
	rng := rand.New(rand.NewPCG(uint64(seed), 37))
	s := &story{t: t, rng: rng, boot: hostBoot(t), tried: map[string]tune.Value{}, insist: map[string]tune.Value{}, mend: func() {}}
	s.g = newGround(t, fmt.Sprint(seed), rng.IntN(3) == 0)
	s.m = &model{base: map[string]tune.Value{}}
	s.learn()
	if r, err := newErrnoProgram(fmt.Sprintf("semantos-story-%d-%d", os.Getpid(), seed)); err == nil {
		s.refused = r
		t.Cleanup(r.close)
	} else {
		t.Logf("no write is refused with an errno of our choice: %v", err)
	}
	defer func() {
		if s.c != nil {
			s.c.abandon()
		}
		if t.Failed() || os.Getenv("SEED") != "" {
			t.Logf("SEED=%d:\n%s", seed, strings.Join(s.tale, "\n"))
		}
	}()
	s.start()
	for range 8 + rng.IntN(10) {
		s.step()
		if t.Failed() {
			return
		}
	}
	s.end()
}

func (s *story) say(format string, args ...any) {
	s.tale = append(s.tale, fmt.Sprintf(format, args...))
}

// learn takes the values of what is new as originals.
func (s *story) learn() {
	for key, v := range s.g.readAll() {
		if _, known := s.m.base[key]; !known {
			s.m.base[key] = tune.Value(v)
		}
	}
}

func (s *story) step() {
	switch n := s.rng.IntN(24); {
	case n < 3:
		s.flush()
		s.outside()
		s.compare()
	case n < 4:
		s.vanish()
		s.compare()
	case n < 5:
		s.reboot()
	case n < 6:
		s.damage()
	case n < 8:
		s.say("both die between two verbs")
		if s.rng.IntN(2) == 0 {
			s.flush()
		}
		s.c.killGuard()
		s.c.killParent()
		s.die()
		s.recover()
		s.m.open = nil
		s.compare()
	default:
		s.verb()
	}
}

// die waits until nobody lives.
func (s *story) die() {
	s.c.end()
	s.c = nil
	clear(s.tried)
}

// start starts parent and guard, which recovers; nothing may fall.
func (s *story) start() report {
	s.t.Helper()
	c, r, ok := startCouple(s.t, s.g, s.boot, s.refused, s.met)
	if !ok {
		s.t.Fatalf("start when all is well: %+v", r.Error)
	}
	s.c = c
	for _, n := range r.Notes {
		s.say("  note: %s", n)
	}
	return r
}

// compare holds what stands against the model, and what is listed against what is held.
func (s *story) compare() {
	s.t.Helper()
	if len(s.insist) > 0 {
		s.flush()
	}
	overwritten := map[string]tune.Value{}
	for key, v := range s.insist {
		if s.g.read(key) == string(v) {
			s.m.foreign(map[string]tune.Value{key: v})
			delete(s.tried, key)
		} else {
			overwritten[key] = v
		}
	}
	clear(s.insist)
	for key, v := range s.m.now() {
		if tried, ok := s.tried[key]; ok {
			v = tried
		}
		if got := s.g.read(key); got != string(v) {
			s.t.Errorf("%s is %q, want %q", key, got, v)
		}
	}
	s.compareListed()
	for key, v := range overwritten { // once, by a guard that could not see it: not a second time
		s.say("somebody else insists: %s=%s", key, v)
		s.g.must(s.g.write(key, string(v)))
		s.m.foreign(map[string]tune.Value{key: v})
		delete(s.tried, key)
	}
}

// compareListed: whatever is held is listed as committed, also while nobody lives.
func (s *story) compareListed() {
	s.t.Helper()
	held := s.listed()
	for _, r := range s.m.held {
		for key := range r.after {
			if held[r.id+" "+key] != "committed" {
				s.t.Errorf("%s of %s is listed as %q", key, r.id, held[r.id+" "+key])
			}
		}
	}
}

// listed is the state of each entry by "rollout name@target".
func (s *story) listed() map[string]string {
	managed, err := Inspect(s.g.data, s.g.run, s.boot)
	if err != nil {
		s.say("  inspect: %v", err)
	}
	out := map[string]string{}
	for _, m := range managed {
		out[m.Rollout+" "+m.Tunable+"@"+m.Target] = m.State
	}
	return out
}

// stillOpen are the rollouts that are listed as holding something, oldest first.
func (s *story) stillOpen() []string {
	managed, err := Inspect(s.g.data, s.g.run, s.boot)
	s.g.must(err)
	var out []string
	for _, m := range managed {
		if !slices.Contains(out, m.Rollout) {
			out = append(out, m.Rollout)
		}
	}
	return out
}

// recover is what the next commands do, some of which may die while they recover. After it everything is
// well, and one command more finds nothing to do.
func (s *story) recover() {
	s.t.Helper()
	for range s.rng.IntN(5) / 2 {
		s.say("  a recovery that may die")
		s.strike = &strike{name: "kill guard", at: 1 + s.rng.IntN(6), do: func() { s.c.killGuard() }}
		c, _, ok := startCouple(s.t, s.g, s.boot, s.refused, s.met)
		s.strike = nil
		if ok {
			c.killGuard()
			c.end()
		}
	}
	s.start()
	if s.rng.IntN(2) == 0 {
		s.second()
	}
	s.again()
}

// second recovers once more, when there is nothing to do.
func (s *story) second() {
	s.t.Helper()
	s.c.bye()
	if r := s.start(); len(r.Notes) != 0 || s.c.seen != 0 {
		s.t.Errorf("a second recovery makes %d accesses and says %q", s.c.seen, r.Notes)
	}
}

// again asks once more for the rollbacks of which no disk could be told: they are listed as held still.
func (s *story) again() {
	for _, id := range s.stillOpen() {
		if slices.Contains(s.gone, id) {
			if !s.sick && !slices.Contains(s.unsaid, id) {
				s.t.Errorf("rollout %s was rolled back, and is listed", id)
			}
			s.rollback(id, "said again")
		}
	}
}

// rollback is one that must succeed.
func (s *story) rollback(id, why string) {
	s.t.Helper()
	s.say("rollback %s, %s", id, why)
	r := s.c.order(order{Verb: "rollback", Rollout: id})
	if err := r.Error.error(); err != nil && !slices.Contains(r.Error.Kinds, "unknown") {
		s.t.Errorf("rollback of %s, %s: %v", id, why, err)
	}
	s.gone, s.unsaid = append(s.gone, id), append(s.unsaid, id)
}

// flush waits until the journal knows what was answered. A guard that is killed before leaves entries in doubt,
// and what somebody else writes into those meanwhile is put back: docs/safety.md says so.
func (s *story) flush() {
	s.t.Helper()
	if r := s.c.order(order{Verb: "flush"}); r.Error != nil {
		s.t.Errorf("flush: %s", r.Error.Text)
	}
	s.unsaid = nil
}

// end is what the last commands do: nothing stays tried, and everything can still be put back.
func (s *story) end() {
	s.say("end")
	s.c.killParent()
	s.die()
	s.start()
	s.m.open = nil
	s.again()
	s.compare()
	for _, i := range s.rng.Perm(len(s.m.held)) {
		s.rollback(s.m.held[i].id, "at the end")
	}
	s.m.held = nil
	s.compare()
	s.second()
	s.again()
	s.second()
	s.compare()
	if open := s.stillOpen(); len(open) != 0 {
		s.t.Errorf("still held at the end: %q", open)
	}
	s.c.bye()
	s.c = nil
}

// reboot is a boot as far as a test can make one: another boot id, fresh namespaces, device and group, an
// empty run folder. What comes up may even stand at a value of ours.
func (s *story) reboot() {
	s.say("reboot")
	s.c.killGuard()
	s.c.killParent()
	s.die()
	s.g.reboot()
	s.boots++
	s.boot = fmt.Sprintf("%08d-0000-0000-0000-000000000000", s.boots)
	for _, key := range s.g.keys() {
		if s.rng.IntN(3) == 0 {
			s.g.must(s.g.write(key, string(s.drawValue(key))))
		}
	}
	s.m.base, s.m.held, s.m.open = map[string]tune.Value{}, nil, nil
	s.learn()
	s.start()
	if s.c.seen != 0 {
		s.t.Errorf("after a boot the guard makes %d accesses", s.c.seen)
	}
	s.second()
	s.compare()
}

// forgetTarget takes what was on a target out of the model.
func (s *story) forgetTarget(target string) {
	forget(s.m.base, target)
	forget(s.tried, target)
	forget(s.insist, target)
	for _, r := range append(slices.Clone(s.m.held), s.m.open) {
		if r != nil {
			forget(r.after, target)
		}
	}
}
