package cli

import (
	"fmt"
	"slices"
	"strings"

	"semantos/internal/tune"
	"semantos/kb"
	"semantos/telemetry"
)

// relieves is the edge a rule makes from its symptom to a tunable.
const relieves kb.EdgeType = "relieves"

// edges are the catalogue's own and one "relieves" per rule and tunable it proposes.
func (r *rooms) edges() []kb.Edge {
	all := r.cat.Edges()
	for _, rule := range r.rules {
		seen := map[string]bool{}
		for _, relief := range rule.Relief {
			for _, c := range relief.Changes {
				if seen[c.Tunable] {
					continue
				}
				seen[c.Tunable] = true
				all = append(all, kb.Edge{From: rule.Name, Type: relieves, To: c.Tunable, Sign: 1,
					Weight: relief.Weight, Why: relief.Why, Source: rule.Source})
			}
		}
	}
	return all
}

// isSignalOrSymptom reports whether a name that is no tunable is known otherwise.
func (r *rooms) isSignalOrSymptom(name string) bool {
	return slices.ContainsFunc(r.rules, func(rule tune.Rule) bool { return rule.Name == name }) ||
		slices.ContainsFunc(telemetry.Signals(), func(s tune.Signal) bool { return s.Name == name })
}

// touching keeps the edges that start or end at name.
func touching(all []kb.Edge, name string) []kb.Edge {
	out := []kb.Edge{}
	for _, e := range all {
		if e.From == name || e.To == name {
			out = append(out, e)
		}
	}
	return out
}

// shortestPath walks edges in either direction, breadth first; none is an empty chain.
func shortestPath(all []kb.Edge, from, to string) []kb.Edge {
	came := map[string]kb.Edge{}
	queue, seen := []string{from}, map[string]bool{from: true}
	for len(queue) > 0 && !seen[to] {
		at := queue[0]
		queue = queue[1:]
		for _, e := range touching(all, at) {
			next := other(e, at)
			if !seen[next] {
				seen[next] = true
				came[next] = e
				queue = append(queue, next)
			}
		}
	}
	chain := []kb.Edge{}
	for at := to; at != from && seen[to]; {
		e := came[at]
		chain = append(chain, e)
		at = other(e, at)
	}
	slices.Reverse(chain)
	return chain
}

func other(e kb.Edge, end string) string {
	if e.From == end {
		return e.To
	}
	return e.From
}

func (a *app) showEdges(all []kb.Edge) {
	rows := make([][]string, len(all))
	for i, e := range all {
		sign := "+"
		if e.Sign < 0 {
			sign = "-"
		}
		rows[i] = []string{e.From, string(e.Type), e.To, fmt.Sprintf("%s%.2f", sign, e.Weight)}
	}
	table(a.stdout, []string{"FROM", "EDGE", "TO", "WEIGHT"}, rows)
}

func (a *app) showRule(rule tune.Rule) {
	line := func(label, text string) {
		if text != "" {
			paragraph(a.stdout, 0, pad(label, 14), text)
		}
	}
	fmt.Fprintln(a.stdout, rule.Name)
	line("says", rule.Says)
	line("resource", rule.Resource)
	line("when", rule.When)
	line("severity", rule.Severity)
	line("shows", strings.Join(rule.Show, ", "))
	line("measure", rule.Measure.Signal+", "+rule.Measure.Better+" is better")
	for _, relief := range rule.Relief {
		for _, c := range relief.Changes {
			line("relief", fmt.Sprintf("%s %s to %s", c.Op, c.Tunable, c.Value))
		}
		line("", relief.Why)
	}
	line("source", rule.Source)
	line("file", rule.Pos.String())
}
