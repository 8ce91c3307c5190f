package reasoner

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"semantos/internal/tune"
)

// smallCatalogue is four tunables with constants where the real one has expressions.
type smallCatalogue struct{ tunables []*tune.Tunable }

func (c smallCatalogue) All() []*tune.Tunable { return c.tunables }

func (c smallCatalogue) Safe(t *tune.Tunable, _ tune.Facts) ([]tune.Range, error) {
	switch t.Name {
	case "queue":
		return []tune.Range{{Min: 64, Max: 8192}}, nil
	case "vector":
		return []tune.Range{{Min: 1, Max: 1 << 20}}, nil
	case "stray":
		return []tune.Range{{Min: 10, Max: 100}}, nil
	}
	return nil, nil
}

func (c smallCatalogue) Default(t *tune.Tunable, _ tune.Facts) (tune.Value, error) {
	d := map[string]tune.Value{"queue": "1024", "vector": "4 8 16", "low": "5", "high": "10", "stray": "50", "quota": "-1"}
	if v, ok := d[t.Name]; ok {
		return v, nil
	}
	return "", tune.ErrNoData
}

// Invariants: low must stay below high.
func (c smallCatalogue) Invariants(changed []tune.Change, current func(string, string) (tune.Value, error)) []error {
	value := func(name string) float64 {
		v, _ := current(name, "host")
		for _, ch := range changed {
			if ch.Tunable == name {
				v = ch.Proposed
			}
		}
		n, err := v.Numbers()
		if err != nil || len(n) == 0 {
			return 0
		}
		return n[0]
	}
	if value("low") > 0 && value("low") >= value("high") {
		return []error{tune.ErrInvariant}
	}
	return nil
}

func catalogue() smallCatalogue {
	host := func(name string, more func(*tune.Tunable)) *tune.Tunable {
		t := &tune.Tunable{Name: name, Scope: tune.ScopeHost, Kind: tune.KindInteger, Risk: tune.RiskLow, TakesEffect: tune.Immediately}
		if more != nil {
			more(t)
		}
		return t
	}
	return smallCatalogue{[]*tune.Tunable{
		host("queue", func(t *tune.Tunable) { t.Affects = []tune.Affect{{Signal: "drops", Sign: -1, Weight: 0.9}} }),
		host("vector", func(t *tune.Tunable) { t.Kind, t.Of, t.Arity, t.Ordered = tune.KindVector, tune.KindInteger, 3, true }),
		host("low", func(t *tune.Tunable) { t.DependsOn = []string{"high"} }),
		host("high", nil),
		host("quota", func(t *tune.Tunable) { t.Specials = []tune.Special{{Value: "-1", Meaning: "no limit", Rank: 1}} }),
		host("locked", func(t *tune.Tunable) { t.Protected = true }),
		host("stray", func(t *tune.Tunable) { t.Affects = []tune.Affect{{Signal: "drops", Sign: 1, Weight: 0.8}} }),
		{Name: "disk/{device}/ahead", Scope: tune.ScopeDevice, Kind: tune.KindInteger, Risk: tune.RiskMedium},
	}}
}

func drops(reliefs ...tune.Relief) tune.Rule {
	for i := range reliefs {
		if reliefs[i].Confidence == 0 {
			reliefs[i].Confidence, reliefs[i].Weight = 0.9, 1
		}
	}
	return tune.Rule{Name: "drops", Resource: "queue", When: `s["drops"] > 1`, Severity: `s["drops"] / 100`,
		Says: `{s.drops|/s} are dropped.`, Show: []string{"drops"}, Measure: tune.Measure{Signal: "drops", Better: "lower"},
		Relief: reliefs, Pos: tune.Pos{File: "x.yaml", Line: 3}}
}

func bundle(changes ...tune.ReliefChange) tune.Relief { return tune.Relief{Changes: changes} }

func change1(name, op, value string) tune.ReliefChange {
	return tune.ReliefChange{Tunable: name, Op: op, Value: value}
}

func values(m map[string]string) Current {
	return func(name, _ string) (tune.Value, error) {
		if v, ok := m[name]; ok {
			return tune.Value(v), nil
		}
		return "", fmt.Errorf("read %s: %w", name, tune.ErrUnsupported)
	}
}

func engine(t testing.TB, rules ...tune.Rule) *Reasoner {
	t.Helper()
	r, err := New(rules, catalogue())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func lossy() tune.Snapshot {
	return tune.Snapshot{Signals: map[string]float64{"drops": 50}}
}

func advise(t testing.TB, r *Reasoner, cur Current, ev Evidence) []tune.Recommendation {
	t.Helper()
	symptoms, unseen := r.Diagnose(lossy(), cur)
	if len(unseen) > 0 {
		t.Fatalf("unseen: %+v", unseen)
	}
	return r.Recommend(symptoms, lossy(), cur, ev)
}

func proposals(recs []tune.Recommendation) []string {
	var out []string
	for _, r := range recs {
		var parts []string
		for _, c := range r.Changes {
			parts = append(parts, fmt.Sprintf("%s: %s -> %s", c.Tunable, c.Current, c.Proposed))
		}
		out = append(out, strings.Join(parts, ", "))
	}
	return out
}

func TestProposals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		relief  tune.Relief
		current map[string]string
		want    []string
	}{
		"raise":                    {bundle(change1("queue", "raise", "4096")), map[string]string{"queue": "8"}, []string{"queue: 8 -> 4096"}},
		"raise when better":        {bundle(change1("queue", "raise", "4096")), map[string]string{"queue": "8192"}, nil},
		"raise when equal":         {bundle(change1("queue", "raise", "4096")), map[string]string{"queue": "4096"}, nil},
		"clamped to safe":          {bundle(change1("queue", "raise", "999999")), map[string]string{"queue": "8"}, []string{"queue: 8 -> 8192"}},
		"lower":                    {bundle(change1("queue", "lower", "100")), map[string]string{"queue": "5000"}, []string{"queue: 5000 -> 100"}},
		"lower when better":        {bundle(change1("queue", "lower", "100")), map[string]string{"queue": "64"}, nil},
		"vector keeps larger":      {bundle(change1("vector", "raise", "[10, 20, 30]")), map[string]string{"vector": "1 99 5"}, []string{"vector: 1 99 5 -> 10 99 99"}},
		"vector element kept":      {bundle(change1("vector", "set", `[cur("vector", 0), cur("vector", 1), 77]`)), map[string]string{"vector": "1 2 3"}, []string{"vector: 1 2 3 -> 1 2 77"}},
		"absent drops the bundle":  {bundle(change1("queue", "raise", "4096"), change1("high", "raise", "20")), map[string]string{"queue": "8"}, nil},
		"protected is left out":    {bundle(change1("queue", "raise", "4096"), change1("locked", "set", "1")), map[string]string{"queue": "8", "locked": "0"}, []string{"queue: 8 -> 4096"}},
		"companion added":          {bundle(change1("low", "raise", "50")), map[string]string{"low": "1", "high": "10"}, []string{"low: 1 -> 50, high: 10 -> 100"}},
		"invariant cannot be met":  {bundle(change1("high", "lower", "2")), map[string]string{"low": "5", "high": "10"}, nil},
		"value of the wrong shape": {bundle(change1("vector", "raise", "7")), map[string]string{"vector": "1 2 3"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := proposals(advise(t, engine(t, drops(c.relief)), values(c.current), Evidence{}))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNarrowInterval: a range of ports that is wide enough ranks low and one that is narrow high,
// though the numbers of both lie near the default's; the graph sees it grow although one end falls.
func TestNarrowInterval(t *testing.T) {
	t.Parallel()
	pair := &tune.Tunable{Name: "ports", Kind: tune.KindVector, Of: tune.KindInteger, Arity: 2, Ordered: true}
	s := engine(t).session(&tune.Snapshot{}, nil)
	s.defaults["ports"] = reading{value: "32768 60999"}
	move := func(from, to tune.Value) improvement {
		return improvement{tunable: pair, op: opSet, Change: tune.Change{Current: from, Proposed: to}}
	}
	narrow, wide := move("40000 40060", "16384 60999"), move("32768 60999", "16384 60999")
	if far := s.distance(narrow); far < 8 {
		t.Errorf("narrow range is %v doublings off", far)
	}
	if far := s.distance(wide); far != 0 {
		t.Errorf("default range is %v doublings off", far)
	}
	if narrow.direction() != 1 || wide.direction() != 1 {
		t.Error("a wider range counts as lowered")
	}
}

func TestOptionalChange(t *testing.T) {
	t.Parallel()
	optional := change1("high", "raise", "20")
	optional.Optional = true
	r := engine(t, drops(bundle(change1("queue", "raise", "4096"), optional)))
	got := proposals(advise(t, r, values(map[string]string{"queue": "8"}), Evidence{}))
	if diff := cmp.Diff([]string{"queue: 8 -> 4096"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestFarOffRanksFirst: of two reliefs of equal standing the one whose tunable is far from its default
// is named first, whichever stands first in the rule.
func TestFarOffRanksFirst(t *testing.T) {
	t.Parallel()
	r := engine(t, drops(bundle(change1("high", "raise", "20")), bundle(change1("queue", "raise", "4096"))))
	got := proposals(advise(t, r, values(map[string]string{"queue": "2", "high": "10"}), Evidence{}))
	if diff := cmp.Diff([]string{"queue: 2 -> 4096", "high: 10 -> 20"}, got); diff != "" {
		t.Error(diff)
	}
	got = proposals(advise(t, r, values(map[string]string{"queue": "1024", "high": "1"}), Evidence{}))
	if diff := cmp.Diff([]string{"high: 1 -> 20", "queue: 1024 -> 4096"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestLimitWhereNoneIsUsual: a limit someone set where the default is none counts as far off, though
// less than a value outside its safe range.
func TestLimitWhereNoneIsUsual(t *testing.T) {
	t.Parallel()
	r := engine(t, drops(bundle(change1("high", "raise", "20")), bundle(change1("quota", "raise", "2000")),
		bundle(change1("queue", "raise", "4096"))))
	recs := advise(t, r, values(map[string]string{"queue": "2", "high": "10", "quota": "50"}), Evidence{})
	if diff := cmp.Diff([]string{"queue: 2 -> 4096", "quota: 50 -> 2000", "high: 10 -> 20"}, proposals(recs)); diff != "" {
		t.Fatal(diff)
	}
	if recs[1].Score < 1.5*recs[2].Score {
		t.Errorf("the limit scores %.3f, what is at its default %.3f", recs[1].Score, recs[2].Score)
	}
}

// TestStrayTunable: a tunable no rule names, outside its safe range and tied to the signal, is found.
func TestStrayTunable(t *testing.T) {
	t.Parallel()
	r := engine(t, drops(bundle(change1("high", "raise", "20"))))
	got := proposals(advise(t, r, values(map[string]string{"high": "10", "stray": "5000"}), Evidence{}))
	if diff := cmp.Diff([]string{"stray: 5000 -> 50", "high: 10 -> 20"}, got); diff != "" {
		t.Error(diff)
	}
	got = proposals(advise(t, r, values(map[string]string{"high": "10", "stray": "90"}), Evidence{}))
	if diff := cmp.Diff([]string{"high: 10 -> 20"}, got); diff != "" {
		t.Errorf("inside the safe range: %s", diff)
	}
}

func TestCapability(t *testing.T) {
	t.Parallel()
	r := engine(t, drops(bundle(change1("queue", "raise", "4096"))))
	cur := values(map[string]string{"queue": "8"})
	with := func(c tune.Capability) []tune.Recommendation {
		return advise(t, r, cur, Evidence{Capability: func(*tune.Tunable, string) tune.Capability { return c }})
	}
	if got := with(tune.Capability{Reason: "no such file"}); len(got) != 0 {
		t.Errorf("absent tunable recommended: %v", proposals(got))
	}
	got := with(tune.Capability{Present: true, Readable: true, Reason: "read-only file system"})
	if len(got) != 1 || got[0].Admissible || !strings.Contains(got[0].Veto, "read-only file system") {
		t.Errorf("read-only tunable: %+v", got)
	}
	got = with(tune.Capability{Present: true, Readable: true, Writable: true})
	if len(got) != 1 || !got[0].Admissible || got[0].Veto != "" {
		t.Errorf("writable tunable: %+v", got)
	}
}

func TestVoters(t *testing.T) {
	t.Parallel()
	r := engine(t, drops(bundle(change1("queue", "raise", "4096"))))
	cur := values(map[string]string{"queue": "8"})
	past := func(state tune.State, reason string, proposed tune.Value) Evidence {
		return Evidence{Outcomes: func(string, []string) []tune.Rollout {
			return []tune.Rollout{{State: state, Reason: reason, Recommendation: tune.Recommendation{
				Changes: []tune.Change{{Tunable: "queue", Target: "host", Current: "16", Proposed: proposed}}}}}
		}}
	}
	for name, c := range map[string]struct {
		ev   Evidence
		want map[string]bool
	}{
		"no past":           {Evidence{}, map[string]bool{"rules": true, "graph": true}},
		"kept before":       {past(tune.Committed, tune.ReasonBetter, "64"), map[string]bool{"rules": true, "graph": true, "traces": true}},
		"put back before":   {past(tune.RolledBack, tune.ReasonNoEffect, "64"), map[string]bool{"rules": true, "graph": true, "traces": false}},
		"interrupted":       {past(tune.RolledBack, tune.ReasonInterrupted, "64"), map[string]bool{"rules": true, "graph": true}},
		"the other way":     {past(tune.Committed, tune.ReasonBetter, "2"), map[string]bool{"rules": true, "graph": true}},
		"vetoed is unknown": {past(tune.Vetoed, "", "64"), map[string]bool{"rules": true, "graph": true}},
	} {
		recs := advise(t, r, cur, c.ev)
		got := map[string]bool{}
		for _, v := range recs[0].Provenance.Voters {
			got[v.Name] = v.Agrees
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if u := tune.Uncertainty(recs[0].Provenance.Voters, 0.9); u != recs[0].Uncertainty {
			t.Errorf("%s: u = %v, want %v", name, recs[0].Uncertainty, u)
		}
	}
}

func TestMissingDataIsUnseen(t *testing.T) {
	t.Parallel()
	r := engine(t, drops(bundle(change1("queue", "raise", "4096"))))
	symptoms, unseen := r.Diagnose(tune.Snapshot{Signals: map[string]float64{}}, values(nil))
	want := []Unseen{{Rule: "drops", Entities: 1, Missing: "drops"}}
	if diff := cmp.Diff(want, unseen); diff != "" || len(symptoms) > 0 {
		t.Errorf("%s symptoms %v", diff, symptoms)
	}
}

func slowDisks(n int) tune.Snapshot {
	snap := tune.Snapshot{Signals: map[string]float64{}, Entities: map[string][]tune.Entity{}}
	for i := range n {
		id := fmt.Sprintf("d%d", i)
		snap.Entities[tune.EntityDevice] = append(snap.Entities[tune.EntityDevice], tune.Entity{Kind: tune.EntityDevice, ID: id,
			Labels: map[string]string{"device": id}, Signals: map[string]float64{"slow": float64(i%3) + 1}})
	}
	return snap
}

func diskRule() tune.Rule {
	return tune.Rule{Name: "slow", For: tune.EntityDevice, When: `e["slow"] > 0`, Severity: `e["slow"] / 10`, Says: `{label.device} is slow.`,
		Measure: tune.Measure{Signal: "slow", Kind: tune.EntityDevice, Better: "lower"},
		Relief:  []tune.Relief{{Changes: []tune.ReliefChange{change1("disk/{device}/ahead", "raise", "100")}, Confidence: 1, Weight: 1}}}
}

// TestEntitiesMerge: one remedy on several devices is one bundle, led by the worst.
func TestEntitiesMerge(t *testing.T) {
	t.Parallel()
	r := engine(t, diskRule())
	cur := values(map[string]string{"disk/{device}/ahead": "1"})
	symptoms, _ := r.Diagnose(slowDisks(3), cur)
	recs := r.Recommend(symptoms, slowDisks(3), cur, Evidence{})
	want := []string{"disk/d2/ahead: 1 -> 100, disk/d1/ahead: 1 -> 100, disk/d0/ahead: 1 -> 100"}
	if diff := cmp.Diff(want, proposals(recs)); diff != "" {
		t.Fatal(diff)
	}
	if recs[0].Provenance.Entity != "d2" || recs[0].Provenance.Measure.Entity != "d2" || recs[0].Risk != tune.RiskMedium {
		t.Errorf("provenance %+v risk %s", recs[0].Provenance, recs[0].Risk)
	}
}

// TestOrderOfEntitiesDoesNotMatter: a shuffled snapshot gives the same recommendations.
func TestOrderOfEntitiesDoesNotMatter(t *testing.T) {
	t.Parallel()
	r := engine(t, diskRule())
	cur := values(map[string]string{"disk/{device}/ahead": "1"})
	rapid.Check(t, func(t *rapid.T) {
		snap := slowDisks(rapid.IntRange(1, 12).Draw(t, "devices"))
		symptoms, _ := r.Diagnose(snap, cur)
		want := r.Recommend(symptoms, snap, cur, Evidence{})
		shuffled := snap
		shuffled.Entities = map[string][]tune.Entity{tune.EntityDevice: rapid.Permutation(snap.Entities[tune.EntityDevice]).Draw(t, "order")}
		mixed, _ := r.Diagnose(shuffled, cur)
		got := r.Recommend(rapid.Permutation(mixed).Draw(t, "symptoms"), shuffled, cur, Evidence{})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestLocalCounters: a listener is judged by its own namespace's counters.
func TestLocalCounters(t *testing.T) {
	t.Parallel()
	rule := drops()
	rule.For, rule.Measure.Kind = tune.EntityListener, tune.EntityNetns
	r := engine(t, rule)
	snap := lossy()
	ns := func(id string, drops float64) tune.Entity {
		return tune.Entity{Kind: tune.EntityNetns, ID: id, Labels: map[string]string{"netns": id}, Signals: map[string]float64{"drops": drops}}
	}
	listener := func(id, ns string) tune.Entity {
		return tune.Entity{Kind: tune.EntityListener, ID: id, Labels: map[string]string{"netns": ns}}
	}
	snap.Entities = map[string][]tune.Entity{
		tune.EntityNetns:    {ns("a", 50), ns("b", 0)},
		tune.EntityListener: {listener("la", "a"), listener("lb", "b")},
	}
	symptoms, _ := r.Diagnose(snap, nil)
	if len(symptoms) != 1 || symptoms[0].Entity != "la" || symptoms[0].Measure.Entity != "a" {
		t.Errorf("symptoms %+v", symptoms)
	}
}

func TestCompileErrorsNamePlaceAndField(t *testing.T) {
	t.Parallel()
	bad := drops(bundle(change1("nothing", "grow", "1 +")))
	bad.When, bad.Says = `s["drops"] >`, `{s.drops|furlongs} and {open`
	_, err := New([]tune.Rule{bad}, catalogue())
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"x.yaml:3: drops: when:", "says: placeholder {s.drops|furlongs}", "{open is not closed",
		"relieved_by[0].changes[0].tunable:", "relieved_by[0].changes[0].op:", "relieved_by[0].changes[0].value:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	if !errors.Is(err, tune.ErrType) || !errors.Is(err, tune.ErrUnknown) {
		t.Errorf("error wraps no sentinel: %v", err)
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"12.3 %": Format(0.1234, "share"), "4096": Format(4096, ""), "16 KiB": Format(16384, "bytes"), "1 MiB": Format(256, "pages"),
		"903/s": Format(903.4, "/s"), "1.23 million": Format(1234567, ""), "123000": Format(123456, ""), "0": Format(0, ""),
		"0.00123 ms": Format(0.001234, "ms"), "4 KiB": Format(4, "kb"), "2.5 µs": Format(2.5, "us"), "1.5 GiB/s": Format(1.5*(1<<30), "bytes/s"),
		"22.4 GiB": Format(24e9, "bytes"), "99.5": Format(99.51, ""),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
