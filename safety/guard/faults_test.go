package guard

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// schedules is how many random fault schedules run: all of them in make soak.
func schedules() int {
	if os.Getenv("SOAK") != "" {
		return 1000
	}
	return 50
}

// schedule is one random story on the fake machine: what was asked, which faults fell where, and what must
// be true of every tunable, told without looking at the journal.
type schedule struct {
	t     *testing.T
	rng   *rand.Rand
	b     *bench
	m     *model
	story []string
	boots int
	ops   int
	gone  []string // rolled back
	cut   string   // whose rollback was cut
}

// TestFaultSchedules: bundles, pairs, vectors, stacked rollouts, several namespaces and reverts of a part
// of them, with deaths, refused and half-way writes, a failing journal, torn records, an outside writer,
// vanished targets and successors of their name, a jumping clock and reboots at random steps. Every tunable
// ends committed, or exactly as before, or as the outside writer left it, and a second recovery does nothing.
func TestFaultSchedules(t *testing.T) {
	t.Parallel()
	for seed := range schedules() {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(seed), 31))
			b := newBench(t)
			b.clock = func() time.Time { return time.Unix(rng.Int64N(4_000_000_000), 0) } // it jumps between any two records
			b.start()
			s := &schedule{t: t, rng: rng, b: b, m: &model{base: maps.Clone(b.kernel.values)}}
			defer func() {
				if t.Failed() {
					t.Logf("seed %d:\n%s", seed, strings.Join(s.story, "\n"))
				}
			}()
			for range 8 + rng.IntN(40) {
				s.step()
				if t.Failed() {
					return
				}
			}
			s.end()
		})
	}
}

func (s *schedule) say(format string, args ...any) {
	s.story = append(s.story, fmt.Sprintf(format, args...))
}

// end is what the last command does: nothing stays tried, and everything can still be put back.
func (s *schedule) end() {
	s.say("end")
	s.m.open = nil
	s.restart()
	s.compare()
	for _, i := range s.rng.Perm(len(s.m.held)) {
		if _, err := s.b.guard.rollback(s.t.Context(), s.m.held[i].id, ""); err != nil {
			s.t.Fatalf("last rollback of %s: %v", s.m.held[i].id, err)
		}
	}
	s.m.held = nil
	s.compare()
	for _, ro := range s.b.guard.state.Open() { // put back while no disk could take that: said again
		if _, err := s.b.guard.rollback(s.t.Context(), ro.ID, ""); err != nil {
			s.t.Fatalf("said again: rollback of %s: %v", ro.ID, err)
		}
	}
	s.b.start()
	s.compare()
	if open := s.b.guard.state.Open(); len(open) != 0 {
		s.t.Errorf("still held at the end: %+v", open[0])
	}
}

func (s *schedule) compare() {
	s.t.Helper()
	if s.b.err != nil {
		s.t.Errorf("recovery: %v", s.b.err)
	}
	if s.m.open != nil {
		return // compared when it has ended
	}
	for key, v := range s.m.now() {
		if got := s.b.kernel.values[key]; got != v {
			s.t.Errorf("%s is %q, want %q", key, got, v)
		}
	}
}

// now is the value every tunable must have when no trial is open.
func (m *model) now() map[string]tune.Value {
	out := maps.Clone(m.base)
	for _, r := range m.held {
		maps.Copy(out, r.after)
	}
	return out
}

// foreign makes a key somebody else's: nobody of ours has it any more.
func (m *model) foreign(values map[string]tune.Value) {
	for key, v := range values {
		for _, r := range append(slices.Clone(m.held), m.open) {
			if r != nil {
				delete(r.after, key)
			}
		}
		m.base[key] = v
	}
}

// scheduleBundles keep the invariant and overlap.
func scheduleBundles() [][]string {
	return append(bundles(), []string{"p.ratio=15"}, []string{"p.ratio=33", "q.plain=80"}, []string{"p.bytes=12288"},
		[]string{"n.vec@netns:1=4 5 6", "n.vec@netns:2=4 5 6"}, []string{"n.vec@netns:1=8 8 8", "n.vec@netns:2=9 9 9"},
		[]string{"q.low=12", "q.high=18", "m.mode=on"})
}

// beside is what a write leaves: its own value and what the kernel moves with it.
func besides(key string, v tune.Value) map[string]tune.Value {
	out := map[string]tune.Value{key: v}
	switch key {
	case "p.bytes@host":
		out["p.ratio@host"] = "0"
	case "p.ratio@host":
		out["p.bytes@host"] = "0"
	case "m.mode@host":
		out["m.side@host"] = map[tune.Value]tune.Value{"on": "90"}[v]
	}
	return out
}

func (s *schedule) step() {
	switch n := s.rng.IntN(20); {
	case n < 3:
		s.outside()
	case n < 4:
		s.vanish()
	case n < 5:
		s.reboot()
	case n < 6:
		s.say("the guard dies between two verbs")
		s.m.open = nil
		s.restart()
		s.compare()
	default:
		s.verb()
	}
}

// outside sets a tunable to a value that nobody else uses.
func (s *schedule) outside() {
	s.ops++
	unique := 900 + s.ops
	key := []string{"q.plain@host", "q.round@host", "q.high@host", "n.vec@netns:1", "n.vec@netns:2", "p.bytes@host", "p.ratio@host"}[s.rng.IntN(7)]
	name, target, _ := strings.Cut(key, "@")
	v := tune.Value(fmt.Sprint(unique))
	switch name {
	case "q.round":
		v = tune.Value(fmt.Sprint(unique * 4096))
	case "n.vec":
		v = tune.Value(fmt.Sprintf("%d %d %d", unique, unique, unique))
	}
	if _, ok := s.b.kernel.values[key]; !ok {
		return
	}
	s.say("somebody else: %s=%s", key, v)
	if _, err := s.b.kernel.set(newFakeCatalogue()[name], target, v); err != nil {
		s.t.Fatal(err)
	}
	s.m.foreign(besides(key, v))
}

// vanish takes the second namespace away; sometimes another one gets its name.
func (s *schedule) vanish() {
	const key = "n.vec@netns:2"
	s.ops++
	delete(s.b.kernel.values, key)
	delete(s.b.kernel.ids, "netns:2")
	for _, r := range append(slices.Clone(s.m.held), s.m.open) {
		if r != nil {
			delete(r.after, key)
		}
	}
	delete(s.m.base, key)
	if s.rng.IntN(2) == 0 {
		s.say("netns:2 is gone")
		return
	}
	// It even stands at a value of ours.
	v := tune.Value([]string{"9 9 9", "1 2 3", "0 0 1", "6 6 6"}[s.rng.IntN(4)])
	s.say("another netns:2 with %s", v)
	s.b.kernel.ids["netns:2"] = fmt.Sprintf("two-%d", s.ops)
	s.b.kernel.values[key], s.m.base[key] = v, v
}

func (s *schedule) reboot() {
	s.boots++
	s.say("reboot")
	fresh := newFakeKernel()
	s.b.kernel.values, s.b.kernel.ids = fresh.values, fresh.ids
	s.b.boot = fmt.Sprintf("boot-%d", s.boots+1)
	s.m.base, s.m.held, s.m.open = maps.Clone(fresh.values), nil, nil
	s.restart()
	s.compare()
	if n := len(s.b.found.Restored); n != 0 {
		s.t.Errorf("after a boot %d tunables were put back: %+v", n, s.b.found.Restored)
	}
}

// faults puts one into the way of the next verb, and gives what takes it away again.
func (s *schedule) faults() (repair func()) {
	after := s.rng.IntN(4)
	errno := []error{fmt.Errorf("%w: %w", tune.ErrNotPermitted, syscall.EPERM), fmt.Errorf("%w: %w", tune.ErrOutOfRange, syscall.EINVAL), syscall.EBUSY, syscall.EIO}[s.rng.IntN(4)]
	k, d := s.b.kernel, s.b.disk
	switch s.rng.IntN(18) {
	case 0, 1:
		s.say("  write %d answers %v, a vector's half-way", after, errno)
		k.fault = func(restore bool) error {
			if after--; restore || after >= 0 {
				return nil
			}
			return errno
		}
	case 2:
		s.say("  restore %d answers %v", after, errno)
		k.fault = func(restore bool) error {
			if !restore {
				return nil
			}
			if after--; after >= 0 {
				return nil
			}
			return errno
		}
	case 3:
		d.Full = []string{"/data", "/run", "/"}[s.rng.IntN(3)]
		s.say("  %s is full", d.Full)
	case 4:
		d.Dead = []string{"/data", "/run", "/"}[s.rng.IntN(3)]
		s.say("  %s does not sync", d.Dead)
	}
	return func() { k.fault, d.Full, d.Dead = nil, "", "" }
}

// verb asks the guard for one thing, which may fail or kill it.
func (s *schedule) verb() {
	repair := s.faults()
	effects := 1 << 30
	if s.rng.IntN(4) == 0 {
		effects = s.rng.IntN(40)
	}
	op := []string{"apply", "apply", "apply", "revert", "part", "commit", "commit", "commit", "commit", "rollback"}[s.rng.IntN(10)]
	if s.m.open == nil && op != "rollback" {
		op = "apply"
	}
	s.cut = ""
	var err error
	died := s.b.mayDie(effects, func() { err = s.ask(op) })
	if died || err != nil {
		s.say("  died %v, err %v", died, err)
	}
	repair()
	switch {
	case died:
		s.restart()
	case err != nil && s.rng.IntN(2) == 0:
		s.restart()
	case err != nil:
	default:
		s.compare()
		return
	}
	s.settle()
}

// ask performs op; the model moves only after the guard has answered.
func (s *schedule) ask(op string) error {
	g, m := s.b.guard, s.m
	switch op {
	case "apply":
		if m.open == nil {
			m.next++
			m.open = &modelRollout{id: fmt.Sprintf("r%d", m.next), after: map[string]tune.Value{}}
		}
		specs := scheduleBundles()[s.rng.IntN(len(scheduleBundles()))]
		s.say("apply %s %v", m.open.id, specs)
		got, err := g.apply(s.t.Context(), m.open.id, changes(specs...), "")
		if err != nil {
			return err
		}
		for _, a := range got {
			maps.Copy(m.open.after, besides(a.Change.Tunable+"@"+a.Change.Target, a.ReadBack))
		}
	case "revert", "part":
		var targets []string
		if op == "part" {
			targets = []string{"netns:1"}
		}
		s.say("revert %s %v", m.open.id, targets)
		if _, err := g.revert(m.open.id, targets...); err != nil {
			return err
		}
		if op == "revert" {
			open := m.open
			m.open = nil
			s.compare()
			m.open = open
		}
	case "commit":
		s.say("commit %s", m.open.id)
		if err := g.commit(s.t.Context(), m.open.id); err != nil {
			return err
		}
		m.held, m.open = append(m.held, m.open), nil
	case "rollback":
		if m.open == nil && len(m.held) == 0 {
			return nil
		}
		r := m.open
		if r == nil {
			r = m.held[s.rng.IntN(len(m.held))]
		}
		s.say("rollback %s", r.id)
		s.cut = r.id
		if _, err := g.rollback(s.t.Context(), r.id, ""); err != nil && !errors.Is(err, tune.ErrUnknown) {
			return err
		}
		s.gone = append(s.gone, r.id)
		m.drop(r.id)
	}
	return nil
}

func (m *model) drop(id string) {
	m.held = slices.DeleteFunc(m.held, func(r *modelRollout) bool { return r.id == id })
	if m.open != nil && m.open.id == id {
		m.open = nil
	}
}

// settle follows what a death or an error left: a trial is ended; a commit stands or does not; a rollback
// that was cut in the middle is asked for again.
func (s *schedule) settle() {
	m := s.m
	if open := m.open; open != nil {
		ro := s.b.guard.state.Rollouts[open.id]
		if ro != nil && ro.Committed {
			m.held, m.open = append(m.held, open), nil
		} else if _, err := s.b.guard.rollback(s.t.Context(), open.id, ""); err != nil && !errors.Is(err, tune.ErrUnknown) {
			s.t.Fatalf("rollback of %s when all is well again: %v", open.id, err)
		}
		m.open = nil
	}
	for _, r := range slices.Clone(m.held) {
		ro := s.b.guard.state.Rollouts[r.id]
		if ro.Closed {
			m.drop(r.id)
			continue
		}
		if r.id != s.cut && !s.halfBack(r, ro) {
			continue
		}
		s.say("  rollback %s again", r.id)
		if _, err := s.b.guard.rollback(s.t.Context(), r.id, ""); err != nil {
			s.t.Fatalf("rollback again: %v", err)
		}
		m.drop(r.id)
	}
	s.compare()
}

// again asks once more for the rollbacks of which no disk could be told: status still lists them as held.
func (s *schedule) again() {
	for _, ro := range s.b.guard.state.Open() {
		if !slices.Contains(s.gone, ro.ID) {
			continue
		}
		s.say("  rollback %s said again", ro.ID)
		if _, err := s.b.guard.rollback(s.t.Context(), ro.ID, ""); err != nil {
			s.t.Fatalf("rollback said again: %v", err)
		}
	}
}

// halfBack reports whether a rollout that should stand does not, as far as it is still ours.
func (s *schedule) halfBack(r *modelRollout, ro *journal.Rollout) bool {
	for _, en := range ro.Entries {
		key := en.Tunable + "@" + en.Target
		if _, ours := r.after[key]; ours && (en.End != "" || s.b.guard.state.Above(en) == nil && s.b.kernel.values[key] != r.after[key]) {
			return true
		}
	}
	return false
}

// restart starts guards that may die or fail while they recover, and at last one that does not; the one
// after it finds nothing to do.
func (s *schedule) restart() {
	if s.rng.IntN(4) == 0 {
		path := journal.Path("/data")
		s.b.disk.Files[path] = append(s.b.disk.Files[path], `7f3a91c2 {"seq":9999,"kind":"int`...)
		s.say("  its last record is torn")
	}
	for range s.rng.IntN(3) {
		repair := s.faults()
		s.b.mayDie(s.rng.IntN(30), s.b.start)
		repair()
	}
	s.b.start()
	if s.b.err != nil {
		s.t.Fatalf("recovery when all is well again: %v", s.b.err)
	}
	s.again()
	stands, writes := maps.Clone(s.b.kernel.values), len(s.b.kernel.writes)
	s.b.start()
	if !maps.Equal(stands, s.b.kernel.values) || len(s.b.kernel.writes) != writes || len(s.b.found.Restored) != 0 {
		s.t.Errorf("a second recovery wrote %v, found %+v", s.b.kernel.writes[writes:], s.b.found.Restored)
	}
}
