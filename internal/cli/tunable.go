package cli

import (
	"fmt"
	"strings"

	"semantos/internal/tune"
)

// tunableDocument is what tunables NAME --json prints: everything known about one tunable here.
type tunableDocument struct {
	Tunable    *tune.Tunable   `json:"tunable"`
	Name       string          `json:"name"`
	Target     string          `json:"target"`
	Targets    []string        `json:"targets,omitempty"`
	Live       tune.Value      `json:"live,omitempty"`
	Default    tune.Value      `json:"default,omitempty"`
	Safe       []tune.Range    `json:"safe,omitempty"`
	Capability tune.Capability `json:"capability"`
	RelievedBy []string        `json:"relieves"` // symptoms this tunable relieves
}

func (a *app) explainTunable(r *rooms, name string) error {
	name, target, _ := strings.Cut(name, "@")
	t, inName, err := r.cat.Lookup(name)
	if err != nil {
		return err
	}
	doc := tunableDocument{Tunable: t, RelievedBy: r.relieves(t)}
	if targets, err := r.host.Targets(t); err == nil {
		doc.Targets = targets
	}
	if inName != "" {
		target = inName
	}
	if target == "" && t.Templated() && len(doc.Targets) > 0 {
		target = doc.Targets[0]
	}
	r.fillLive(&doc, target)
	return a.print(doc, func() { a.showTunable(doc) })
}

// fillLive adds what can be seen here; what cannot is the capability's reason, not an error.
func (r *rooms) fillLive(doc *tunableDocument, target string) {
	t := doc.Tunable
	doc.Name, doc.Target = t.Instance(target), target
	resolved, err := r.host.Resolve(t, target)
	if err != nil {
		doc.Capability = tune.Capability{Reason: err.Error()}
	} else {
		doc.Name, doc.Target = t.Instance(resolved), resolved
		doc.Capability = r.host.Probe(t, resolved)
		if v, err := r.host.Read(t, resolved); err == nil {
			doc.Live = v
		}
	}
	if v, err := r.cat.Default(t, r.facts); err == nil {
		doc.Default = v
	}
	if safe, err := r.cat.Safe(t, r.facts); err == nil {
		doc.Safe = safe
	}
}

// relieves names the symptoms whose rules propose this tunable.
func (r *rooms) relieves(t *tune.Tunable) []string {
	out := []string{}
	for _, rule := range r.rules {
		if proposes(rule, t) {
			out = append(out, rule.Name)
		}
	}
	return out
}

func proposes(rule tune.Rule, t *tune.Tunable) bool {
	for _, relief := range rule.Relief {
		for _, c := range relief.Changes {
			if c.Tunable == t.Name {
				return true
			}
		}
	}
	return false
}

func (a *app) showTunable(doc tunableDocument) {
	t := doc.Tunable
	line := func(label, text string) {
		if text != "" {
			paragraph(a.stdout, 0, pad(label, 14), text)
		}
	}
	fmt.Fprintln(a.stdout, doc.Name)
	paragraph(a.stdout, 2, "", t.Summary)
	line("live", string(doc.Live))
	line("target", oneLine(doc.Target))
	line("default", string(doc.Default))
	line("type", typeText(t))
	line("safe range", rangesText(t, doc.Safe))
	line("hard range", rangesText(t, t.Hard))
	line("capability", capabilityText(doc.Capability, t.Protected))
	line("scope", fmt.Sprintf("%s, takes effect %s, risk %s", t.Scope, t.TakesEffect, t.Risk))
	line("danger", t.Danger)
	line("affects", affectsText(t.Affects))
	line("relieves", strings.Join(doc.RelievedBy, ", "))
	line("counterpart", t.Counterpart)
	line("also changes", strings.Join(t.AlsoChanges, ", "))
	line("depends on", strings.Join(t.DependsOn, ", "))
	line("conflicts", strings.Join(t.Conflicts, ", "))
	line("works with", strings.Join(t.Synergizes, ", "))
	line("aliases", strings.Join(t.Aliases, ", "))
	if len(doc.Targets) > 1 {
		line("targets", oneLine(strings.Join(doc.Targets[:min(12, len(doc.Targets))], ", "))+more(len(doc.Targets)-12))
	}
	line("source", t.Source)
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

func typeText(t *tune.Tunable) string {
	text := string(t.Kind)
	if t.Kind == tune.KindVector {
		text = fmt.Sprintf("vector of %d %s", t.Arity, t.Of)
	}
	if len(t.Elements) > 0 {
		text += " (" + strings.Join(t.Elements, ", ") + ")"
	}
	if t.Unit != "" && t.Unit != string(t.Kind) {
		text += ", " + t.Unit
	}
	if len(t.Values) > 0 {
		text += ": " + strings.Join(t.Values, ", ")
	}
	for i, s := range t.Specials {
		if i == 0 {
			text += "; "
		} else {
			text += ", "
		}
		text += fmt.Sprintf("%s means %s", s.Value, s.Meaning)
	}
	return text
}

func rangesText(t *tune.Tunable, ranges []tune.Range) string {
	words := make([]string, len(ranges))
	for i, r := range ranges {
		words[i] = tune.FormatNumber(r.Min) + " to " + tune.FormatNumber(r.Max)
		if i < len(t.Elements) && len(ranges) > 1 {
			words[i] = t.Elements[i] + " " + words[i]
		}
	}
	return strings.Join(words, "; ")
}

func capabilityText(c tune.Capability, protected bool) string {
	var can []string
	for _, p := range []struct {
		on   bool
		word string
	}{{c.Present, "present"}, {c.Readable, "readable"}, {c.Writable && !protected, "writable"}} {
		if p.on {
			can = append(can, p.word)
		}
	}
	text := strings.Join(can, ", ")
	if text == "" {
		text = "absent"
	}
	if protected {
		return text + "; never written by semantos"
	}
	if c.Reason != "" {
		text += ": " + oneLine(c.Reason)
	}
	return text
}

func affectsText(all []tune.Affect) string {
	words := make([]string, len(all))
	for i, e := range all {
		direction := "raises"
		if e.Sign < 0 {
			direction = "lowers"
		}
		words[i] = direction + " " + e.Signal
	}
	return strings.Join(words, ", ")
}
