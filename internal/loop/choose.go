package loop

import (
	"fmt"
	"time"

	"semantos/internal/tune"
)

// Modes of AUTO_APPLY.
const (
	Off        = "off"
	Calibrated = "calibrated"
	On         = "on"
)

// persistence is how many diagnoses in a row must show a symptom before something is tried for it: one
// burst is not a condition.
const persistence = 2

// memory is all that a decision depends on beside the recommendations. It is changed by observe and
// remember only.
type memory struct {
	mode      string
	bounded   bool              // the gate's threshold is a calibrated bound
	missing   int               // outcomes still needed for one
	unknown   string            // why the threshold rests on nothing: history was never read; "" else
	frozen    *tune.Freeze      // a person's word that nothing may change
	held      string            // why an operator holds the loop; "" when free
	closed    string            // why no trial may start by itself now: its window, its budget; "" when free
	running   string            // the recommendation on trial
	waiting   string            // a rollout that waits for a person
	pauseTill time.Time         // no trial at all before
	pauseWhy  string            //
	faults    int               // failed trials in a row, for the length of the pause
	streak    map[string]int    // diagnoses in a row, by symptom
	resting   map[string]rest   // by recommendation or tunable
	yielded   map[string]string // tunables another writer owns, and how that was seen
	kept      map[string]change // what was committed, by tunable
	swings    map[string]swing  // tunables that go back and forth
}

// rest is one cool-down; times counts how often, so that the next one is longer.
type rest struct {
	until time.Time
	times int
	why   string
	hurt  bool // it did harm: a person is warned too
}

// change is a committed change: the value before the first trial, and the one kept.
type change struct{ from, to tune.Value }

func newMemory(mode string) *memory {
	return &memory{
		mode: mode, streak: map[string]int{}, resting: map[string]rest{},
		yielded: map[string]string{}, kept: map[string]change{},
	}
}

// calibrated takes over where the gate stands.
func (m *memory) calibrated(c tune.Calibration) {
	m.bounded, m.missing, m.unknown = c.Known && c.Calibrated, c.Needed, ""
	if !c.Known {
		m.unknown = c.Fault
	}
}

// choice is what to try now; without a recommendation, why says why nothing is tried.
type choice struct {
	rec *tune.Recommendation
	why string
}

// observe counts for how many diagnoses in a row each symptom stands.
func (m *memory) observe(symptoms []tune.Symptom) {
	now := make(map[string]int, len(symptoms))
	for _, s := range symptoms {
		k := symptomKey(s.Name, s.Entity)
		now[k] = m.streak[k] + 1
	}
	m.streak = now
}

// choose takes the best recommendation that may be tried at this moment. It changes nothing.
func choose(m *memory, recs []tune.Recommendation, now time.Time) choice {
	if why := blocked(m, now); why != "" {
		return choice{why: why}
	}
	if len(recs) == 0 {
		return choice{why: "nothing to recommend"}
	}
	first := ""
	for i := range recs {
		why := refused(m, &recs[i], now)
		if why == "" {
			return choice{rec: &recs[i], why: recs[i].Rationale}
		}
		if first == "" {
			first = recs[i].ID + ": " + why
		}
	}
	return choice{why: first}
}

// blocked says why nothing at all can be tried.
func blocked(m *memory, now time.Time) string {
	switch {
	case m.frozen != nil:
		return m.frozen.Error()
	case m.running != "":
		return "a trial is running: " + m.running
	case m.waiting != "":
		return "rollout " + m.waiting + " waits for a person"
	case m.held != "":
		return "held: " + m.held
	case m.mode != Off && m.unknown != "":
		return "the gate's threshold is not known: " + m.unknown
	case m.mode == Calibrated && !m.bounded:
		return fmt.Sprintf("AUTO_APPLY=calibrated: uncalibrated, %d more needed", m.missing)
	case m.mode != On && m.mode != Calibrated:
		return "AUTO_APPLY=off: recommend only"
	case m.closed != "":
		return m.closed
	case now.Before(m.pauseTill):
		return fmt.Sprintf("pausing until %s: %s", m.pauseTill.Format(time.TimeOnly), m.pauseWhy)
	}
	return ""
}

// refused says why this one is not tried now.
func refused(m *memory, r *tune.Recommendation, now time.Time) string {
	if !r.Admissible {
		return "not admissible: " + r.Veto
	}
	if n := m.streak[symptomKey(r.Provenance.Symptom, r.Provenance.Entity)]; n < persistence {
		return fmt.Sprintf("%s stands for %d of %d diagnoses in a row", r.Provenance.Symptom, n, persistence)
	}
	if rest, ok := m.resting[r.ID]; ok && now.Before(rest.until) {
		return fmt.Sprintf("rests until %s: %s", rest.until.Format(time.TimeOnly), rest.why)
	}
	for _, c := range r.Changes {
		if why := refusedChange(m, c, now); why != "" {
			return c.Tunable + " " + why
		}
	}
	return ""
}

func refusedChange(m *memory, c tune.Change, now time.Time) string {
	k := changeKey(c.Tunable, c.Target)
	if why, ok := m.yielded[k]; ok {
		return "is left alone: " + why
	}
	if rest, ok := m.resting[k]; ok && now.Before(rest.until) {
		return fmt.Sprintf("rests until %s: %s", rest.until.Format(time.TimeOnly), rest.why)
	}
	if s, ok := m.swings[k]; ok && now.Before(s.until) {
		return fmt.Sprintf("is left alone until %s: %s", clock(s.until, now), s.why)
	}
	if c.TakesEffect == tune.Restart || c.TakesEffect == tune.Reboot {
		return "takes effect at " + string(c.TakesEffect) + ": a trial would measure nothing"
	}
	if kept, ok := m.kept[k]; ok && c.Proposed == kept.from {
		return "would go back to " + string(kept.from) + ", which measured worse than what was kept"
	}
	return ""
}

// drifted yields every committed tunable that no longer has the value that was kept: somebody else
// wrote it, and writing it again would be a fight.
func (m *memory) drifted(recs []tune.Recommendation) []tune.Change {
	var out []tune.Change
	for _, r := range recs {
		for _, c := range r.Changes {
			k := changeKey(c.Tunable, c.Target)
			kept, ok := m.kept[k]
			if !ok || c.Current == kept.to {
				continue
			}
			delete(m.kept, k)
			m.yielded[k] = fmt.Sprintf("%q was kept and something else wrote %q", kept.to, c.Current)
			out = append(out, c)
		}
	}
	return out
}

func symptomKey(name, entity string) string { return name + "\x00" + entity }

func changeKey(tunable, target string) string { return tunable + "@" + target }
