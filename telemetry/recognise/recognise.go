package recognise

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"semantos/internal/tune"
)

const (
	// busy is the CPU share (of one CPU) from which a process is looked at; what answers requests,
	// receives datagrams, moves a mebibyte a second or runs in real time is looked at whatever it uses.
	busy = 0.05
	// enough is the score a kind needs to be named; it keeps its name as long as it stays above lost.
	enough = 0.6
	lost   = 0.3
	// ahead is how much better another kind must fit before the answer changes.
	ahead = 0.15
	// memory is the time over which scores are smoothed.
	memory = 15 * time.Second
)

// Recogniser keeps what was said, so that an answer does not flicker. It is for one caller at a time.
type Recogniser struct {
	held      map[key]*held
	portraits map[string][]trait
}

// key is a process or group; a process that runs another program is another one.
type key struct{ of, entity, comm string }

// held is what is remembered of one process or group.
type held struct {
	scores map[string]float64
	facts  map[string][]tune.Fact // of the newest look at which a kind fitted
	kind   string
	since  time.Time
	at     time.Time
}

// New knows nothing yet.
func New() *Recogniser { return &Recogniser{held: map[key]*held{}, portraits: portraits()} }

// Look judges a snapshot. A snapshot of a time that was judged before changes nothing. What comes first
// uses the most CPU time.
func (r *Recogniser) Look(s tune.Snapshot) []tune.Workload {
	v := newView(s)
	out := []tune.Workload{}
	seen := map[key]bool{}
	gs := groups{}
	for i := range s.Entities[tune.EntityProcess] {
		p := &s.Entities[tune.EntityProcess][i]
		k := key{tune.EntityProcess, p.ID, p.Labels["comm"]}
		readings, ok := v.readings(p)
		if !ok && r.held[k] == nil {
			continue // an idle one that was never looked at
		}
		seen[k] = true
		scores, facts := r.judge(readings)
		cpu, _ := number(p.Signals, cpuShare)
		w := tune.Workload{Entity: p.ID, Of: tune.EntityProcess, Name: p.Labels["comm"], CPUShare: cpu}
		if r.settle(k, scores, facts, s.Time, &w) {
			out = append(out, w)
		}
		gs.add(p.Labels["cgroup"], w)
	}
	for path, g := range gs {
		k := key{tune.EntityCgroup, path, ""}
		seen[k] = true
		w := g.sum
		if r.settle(k, g.scores(), g.facts, s.Time, &w) {
			out = append(out, w)
		}
	}
	maps.DeleteFunc(r.held, func(k key, _ *held) bool { return !seen[k] })
	slices.SortFunc(out, func(a, b tune.Workload) int {
		return cmp.Or(cmp.Compare(b.CPUShare, a.CPUShare), cmp.Compare(b.Of, a.Of), cmp.Compare(a.Entity, b.Entity))
	})
	return out
}

// judge scores every kind: the weighted mean of how its traits fit, and nothing when a needed one is
// missing or does not fit at all. The facts are the readings that speak for it.
func (r *Recogniser) judge(readings map[string]float64) (map[string]float64, map[string][]tune.Fact) {
	scores, facts := map[string]float64{}, map[string][]tune.Fact{}
	for kind, traits := range r.portraits {
		sum, weight, possible := 0.0, 0.0, true
		var speak []tune.Fact
		for _, t := range traits {
			weight += t.weight
			v, ok := number(readings, t.reading)
			f := 0.0
			if ok {
				f = t.fit(v)
			}
			possible = possible && !(t.needed && f == 0)
			sum += t.weight * f
			if f >= 0.5 && !slices.ContainsFunc(speak, func(x tune.Fact) bool { return x.Signal == t.reading }) {
				speak = append(speak, tune.Fact{Signal: t.reading, Value: v, Unit: unit(t.reading)})
			}
		}
		if possible && weight > 0 {
			scores[kind], facts[kind] = sum/weight, speak
		}
	}
	return scores, facts
}

// settle smooths the scores over time and decides with hysteresis; false when it is like no kind.
func (r *Recogniser) settle(k key, scores map[string]float64, facts map[string][]tune.Fact, at time.Time, w *tune.Workload) bool {
	h := r.held[k]
	if h == nil {
		h = &held{scores: maps.Clone(scores), facts: facts, at: at}
		r.held[k] = h
		h.decide(at)
	} else if at.After(h.at) {
		share := 1 - math.Exp(-at.Sub(h.at).Seconds()/memory.Seconds())
		for _, kind := range kinds() {
			h.scores[kind] += share * (scores[kind] - h.scores[kind])
		}
		maps.Copy(h.facts, facts)
		h.at = at
		h.decide(at)
	}
	if h.kind == "" {
		return false
	}
	w.Kind, w.Score, w.Since, w.Evidence = h.kind, h.scores[h.kind], h.since, append([]tune.Fact{}, h.facts[h.kind]...)
	return true
}

// decide names a kind that fits well enough and clearly better than the one named so far.
func (h *held) decide(at time.Time) {
	best := kinds()[0]
	for _, kind := range kinds() {
		if h.scores[kind] > h.scores[best] {
			best = kind
		}
	}
	now, top := h.scores[h.kind], h.scores[best]
	switch {
	case top >= enough && best != h.kind && (h.kind == "" || now < lost || top >= now+ahead):
		h.kind, h.since = best, at
	case h.kind != "" && now < lost:
		h.kind, h.since = "", time.Time{}
	}
}

// kinds in a fixed order, so that equal scores give the same answer every time.
func kinds() []string {
	return []string{tune.WorkloadWeb, tune.WorkloadOLTP, tune.WorkloadStreaming, tune.WorkloadSensor, tune.WorkloadHPC, tune.WorkloadAudio}
}
