package ebpf

import (
	"cmp"
	"context"
	"io"
	"slices"
	"time"

	"semantos/ebpf/probe"
)

// The keeper works in turns: what may count only part of the time counts at the beginning of a turn.
// In some turns it looks: the kernel's run-time statistics are on for a moment, since they cost too.
const (
	// Attaching and detaching take some milliseconds of CPU: more turns would cost more than they tell.
	defaultTurn = 3 * time.Second
	lookTime    = 150 * time.Millisecond
	lookLate    = 3 // turns after which it looks even when no paused probe has its turn
	// leastSlice still holds events that take some time; rarer than longestPeriod nothing counts.
	leastSlice    = 50 * time.Millisecond
	longestPeriod = 5 // turns
	// whole is the share of the time from which on a probe is not cut at all.
	whole = 0.85
	// headroom of the budget is planned: load grows between looks.
	headroom = 0.8
	// blindDuty is for hosts that let us load programs, but not measure them.
	blindDuty = 0.2
)

// estimate is what a probe costs while it counts.
type estimate struct {
	known  bool
	blind  bool
	events float64 // per second
	ns     float64 // per event
	load   float64 // CPUs
}

// learn takes a look of some length. Growth is believed at once, a fall by half.
func (e *estimate) learn(d probe.Cost, counted time.Duration) {
	load := d.Time.Seconds() / counted.Seconds()
	if e.known && load < e.load {
		load = (load + e.load) / 2
	}
	e.known, e.load, e.events = true, load, float64(d.Runs)/counted.Seconds()
	if d.Runs > 0 {
		e.ns = float64(d.Time.Nanoseconds()) / float64(d.Runs)
	}
}

// demand is what a probe would cost of all CPUs, and how much it matters beside the others.
type demand struct{ load, weight float64 }

// share gives each the part of the time it may have, so that all together stay within the budget: the
// cheap ones have all of it, the dearest for its weight the least.
func share(all []demand, budget float64) []float64 {
	duty := make([]float64, len(all))
	order := make([]int, len(all))
	weights := 0.0
	for i, d := range all {
		order[i] = i
		weights += d.weight
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(all[a].load/all[a].weight, all[b].load/all[b].weight)
	})
	for _, i := range order {
		d := all[i]
		fair := budget * d.weight / weights
		if duty[i] = 1; d.load > fair {
			duty[i] = fair / d.load
		}
		budget -= d.load * duty[i]
		weights -= d.weight
	}
	return duty
}

// slot turns a duty into how long a probe counts, and every how many turns.
func slot(duty float64, turn time.Duration) (slice time.Duration, period int) {
	slice = time.Duration(duty * float64(turn))
	if slice >= leastSlice {
		return slice, 1
	}
	period = longestPeriod
	if duty > 0 {
		period = min(longestPeriod, int(float64(leastSlice)/(duty*float64(turn))+0.999))
	}
	return leastSlice, period
}

// keep holds the set to its budget until ctx ends.
func (s *Set) keep(ctx context.Context) {
	lastLook := 0
	for turn := lookLate; ctx.Err() == nil; turn++ {
		start := time.Now()
		s.expire()
		cut, due := s.resume(turn)
		look := cut == 0 || len(due) > 0 || turn-lastLook >= lookLate
		if look {
			lastLook = turn
		}
		s.turn(ctx, start, due, look)
		// No two turns are of one length: work that comes every second is not always met.
		wait(ctx, start.Add(s.cfg.Turn+time.Duration(start.UnixNano()%200-100)*time.Millisecond))
	}
}

// due is one probe that may count for a slice of this turn.
type due struct {
	m     *member
	slice time.Duration
}

// resume attaches what has its slice in this turn; cut is how many have slices at all.
func (s *Set) resume(turn int) (cut int, out []due) {
	for i, m := range s.members {
		m.mu.Lock()
		if m.p != nil && m.duty < 1 {
			cut++
			slice, period := slot(m.duty, s.cfg.Turn)
			if (turn+i)%period == 0 {
				s.tell(m, "resume", m.p.Resume())
				out = append(out, due{m, slice})
			}
		}
		m.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b due) int { return int(a.slice - b.slice) })
	return cut, out
}

// turn pauses each probe at the end of its slice, and looks meanwhile.
func (s *Set) turn(ctx context.Context, start time.Time, queue []due, look bool) {
	var l *looking
	if look {
		l = s.begin()
	}
	for len(queue) > 0 || l != nil {
		if l != nil && (len(queue) == 0 || queue[0].slice >= lookTime) {
			wait(ctx, start.Add(lookTime))
			s.plan(l)
			l = nil
			continue
		}
		next := queue[0]
		queue = queue[1:]
		wait(ctx, start.Add(next.slice))
		next.m.mu.Lock()
		if l != nil {
			l.end(next.m)
		}
		if next.m.p != nil && next.m.duty < 1 {
			s.tell(next.m, "pause", next.m.p.Pause())
		}
		next.m.mu.Unlock()
	}
}

func (s *Set) tell(m *member, what string, err error) {
	if err != nil {
		s.cfg.Log.Warn("probe does not "+what, "probe", m.spec.Name, "reason", err)
	}
}

// looking is one look under way.
type looking struct {
	stats  io.Closer // nil when they could not be switched on
	before map[*member]mark
	seen   map[*member]mark // the difference, once it ended
}

// mark is what a probe's statistics said, of how long it had counted.
type mark struct {
	cost   probe.Cost
	active time.Duration
	loads  uint64
}

func (m *member) mark() (mark, bool) {
	if m.p == nil {
		return mark{}, false
	}
	c, err := m.p.Cost()
	return mark{c, m.p.Active(), m.loads}, err == nil
}

// begin switches statistics on and notes where every loaded probe stands.
func (s *Set) begin() *looking {
	l := &looking{before: map[*member]mark{}, seen: map[*member]mark{}}
	if c, err := s.cfg.Stats(); err == nil {
		l.stats = c
	} else {
		s.blind.Do(func() { s.cfg.Log.Warn("what probes cost cannot be measured", "reason", err) })
	}
	for _, m := range s.members {
		m.mu.Lock()
		if at, ok := m.mark(); ok {
			l.before[m] = at
		}
		m.mu.Unlock()
	}
	return l
}

// end takes the difference for one probe. The caller holds its lock.
func (l *looking) end(m *member) {
	before, ok := l.before[m]
	if _, done := l.seen[m]; !ok || done {
		return
	}
	now, ok := m.mark()
	if !ok || now.loads != before.loads {
		return
	}
	l.seen[m] = mark{cost: probe.Cost{Runs: now.cost.Runs - before.cost.Runs, Time: now.cost.Time - before.cost.Time},
		active: now.active - before.active}
}

// leastLook is how long a probe must have counted for a look to say anything.
const leastLook = 10 * time.Millisecond

// plan ends a look and gives every probe its share of the time.
func (s *Set) plan(l *looking) {
	var on []*member
	var demands []demand
	budget, runs := s.cfg.Budget*headroom, uint64(0)
	for _, m := range s.members {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.p == nil {
			continue
		}
		l.end(m)
		runs += l.seen[m].cost.Runs
		on = append(on, m)
	}
	if l.stats != nil {
		_ = l.stats.Close() // nothing hangs on it: the descriptor is gone either way
	}
	now := s.cfg.Now()
	blind := l.stats == nil && runs == 0 // somebody else may have them on
	for _, m := range on {
		if d := l.seen[m]; d.active >= leastLook && !blind {
			m.cost.learn(d.cost, d.active)
		}
		m.cost.blind = blind && !m.cost.known
		load := m.cost.load / s.cpus
		if now.Before(m.whole) { // what is measured by it has to be seen: the others make room
			budget, load = max(budget-load, budget/10), 0
		}
		demands = append(demands, demand{load, weight(m.spec.Name)})
	}
	for i, duty := range share(demands, budget) {
		m := on[i]
		switch {
		case now.Before(m.whole), duty >= whole && !m.cost.blind:
			duty = 1
		case m.cost.blind:
			duty = blindDuty
		}
		s.allot(m, duty)
	}
}

// allot gives a probe its share from now on.
func (s *Set) allot(m *member, duty float64) {
	was := m.duty
	if slice, _ := slot(duty, s.cfg.Turn); duty < 1 {
		duty = min(1, max(duty, float64(leastSlice)/float64(longestPeriod*s.cfg.Turn)))
		if was >= 1 && slice <= lookTime {
			s.tell(m, "pause", m.p.Pause())
		}
	}
	m.duty = duty
	switch {
	case duty >= 1 && was < 1:
		s.tell(m, "resume", m.p.Resume())
	case duty < 1 && was >= 1:
		s.cfg.Log.Debug("probe counts part of the time", "probe", m.spec.Name, "share", duty, "cpus", m.cost.load)
	}
}

// wait sleeps until a moment or the end of ctx.
func wait(ctx context.Context, until time.Time) {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
