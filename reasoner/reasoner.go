package reasoner

import (
	"errors"
	"fmt"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// Catalogue is what the reasoner needs to know about tunables.
type Catalogue interface {
	All() []*tune.Tunable
	Safe(t *tune.Tunable, f tune.Facts) ([]tune.Range, error)
	Default(t *tune.Tunable, f tune.Facts) (tune.Value, error)
	Invariants(changed []tune.Change, current func(name, target string) (tune.Value, error)) []error
}

// Current reads a tunable's live value: name as the catalogue spells it (templates unfilled), target in
// full. An error says that there is none here; it is asked once per value and call.
type Current func(name, target string) (tune.Value, error)

// SignalTable finds a signal by entity kind ("" for the host) and name, without .max, .last or .total.
type SignalTable func(kind, name string) (tune.Signal, bool)

// Evidence is what else is known when recommending. Nil members abstain.
type Evidence struct {
	// Outcomes gives past rollouts for a symptom in which one of the tunables was changed.
	Outcomes func(symptom string, tunables []string) []tune.Rollout
	// Capability says what can be done with a tunable on a target.
	Capability func(t *tune.Tunable, target string) tune.Capability
	// Learned gives what outcomes made of "tunable relieves symptom" (the catalogue's name of the
	// tunable): its weight now over the seed's, 1 where nothing was learned; false for an unknown edge.
	Learned func(symptom, tunable string) (factor float64, ok bool)
}

// Unseen is a rule that could not be judged: neither present nor absent.
type Unseen struct {
	Rule     string `json:"rule"`
	Kind     string `json:"kind,omitempty"`
	Entity   string `json:"entity,omitempty"` // the first of them
	Entities int    `json:"entities"`
	Missing  string `json:"missing"` // the signal or tunable that is absent
}

// Reasoner holds the compiled rules. It is safe for concurrent use.
type Reasoner struct {
	rules     []*rule
	byName    map[string]*rule
	cat       Catalogue
	tunable   map[string]*tune.Tunable
	signals   SignalTable
	affecting map[string][]*tune.Tunable // by signal
	local     []string                   // host signals that rules for things in a network namespace read
}

// Option configures a Reasoner.
type Option func(*Reasoner)

// WithSignals makes New refuse a rule that names a signal nobody delivers, and gives evidence its units.
func WithSignals(t SignalTable) Option { return func(r *Reasoner) { r.signals = t } }

// New compiles the rules. The error names every rule and field that is wrong.
func New(rules []tune.Rule, cat Catalogue, opts ...Option) (*Reasoner, error) {
	env, err := expr.New()
	if err != nil {
		return nil, err
	}
	r := &Reasoner{cat: cat, byName: map[string]*rule{}, tunable: map[string]*tune.Tunable{}}
	for _, o := range opts {
		o(r)
	}
	r.affecting = affecting(cat.All())
	for _, t := range cat.All() {
		r.tunable[t.Name] = t
	}
	var problems []error
	cache := map[source]*expr.Program{}
	for i := range rules {
		c := &compiler{env: env, cache: cache, r: r, src: &rules[i]}
		compiled := c.rule()
		if problems = append(problems, c.problems...); len(c.problems) > 0 {
			continue
		}
		if r.byName[compiled.Name] != nil {
			problems = append(problems, fmt.Errorf("%s: name: %s is already a rule: %w", compiled.Pos, compiled.Name, tune.ErrUsage))
		}
		r.byName[compiled.Name] = compiled
		r.rules = append(r.rules, compiled)
	}
	if len(problems) > 0 {
		return nil, &tune.Error{Op: "compile rules", Err: errors.Join(problems...), Hint: "correct the named rules; nothing was loaded"}
	}
	r.local = localSignals(r.rules)
	return r, nil
}

// localSignals are the s keys of rules whose entities lie in a network namespace: for those, s means
// the namespace's own counter, not the sum over all.
func localSignals(rules []*rule) []string {
	seen := map[string]bool{}
	var out []string
	for _, c := range rules {
		if c.For != tune.EntityListener && c.For != tune.EntityUDPSocket {
			continue
		}
		for _, key := range c.hostKeys {
			if !seen[key] {
				seen[key] = true
				out = append(out, key)
			}
		}
	}
	return out
}
