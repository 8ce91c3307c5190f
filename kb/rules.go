package kb

import (
	"embed"
	"fmt"
	"io"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"semantos/internal/tune"
)

//go:embed rules/*.yaml
var ruleFiles embed.FS

//go:embed schema/rule.schema.json
var ruleSchema []byte

// LoadRules reads the embedded rules and those of rules/ below opts.ExtraDir, checks their shape, and
// gives them in the order of file and line. Their expressions are compiled by the reasoner, which
// knows what they may refer to.
func LoadRules(opts Options) ([]tune.Rule, error) {
	sources, err := embeddedSources(ruleFiles, "rules/*.yaml")
	if err != nil {
		return nil, err
	}
	var problems Problems
	if opts.ExtraDir != "" {
		extra, ps := extraSources(opts.ExtraDir, "rules")
		sources, problems = append(sources, extra...), append(problems, ps...)
	}
	rules, ps, err := decodeRules(sources)
	if err != nil {
		return nil, err
	}
	if err := append(problems, ps...).failed("load rules"); err != nil {
		return nil, err
	}
	return rules, nil
}

func decodeRules(sources []source) ([]tune.Rule, Problems, error) {
	sh, err := newShape(ruleSchema)
	if err != nil {
		return nil, nil, err
	}
	var rules []tune.Rule
	var problems Problems
	seen := map[string]tune.Pos{}
	for _, src := range sources {
		doc, ps := parseDocument(src)
		if doc == nil {
			problems = append(problems, ps...)
			continue
		}
		if ps := sh.check(doc); len(ps) > 0 {
			problems = append(problems, ps...)
			continue
		}
		for _, n := range items(doc.root, "rules") {
			r := decodeRule(n, doc.name)
			problems = append(problems, ruleProblems(n, r, seen)...)
			seen[r.Name] = r.Pos
			rules = append(rules, r)
		}
	}
	return rules, problems, nil
}

// ruleProblems are what the schema cannot say: a name used twice, a symptom without both kinds of test.
func ruleProblems(n *yaml.Node, r tune.Rule, seen map[string]tune.Pos) Problems {
	var out Problems
	add := func(key, what string) {
		at, _ := child(n, key)
		out = append(out, Problem{File: r.Pos.File, Line: at.Line, Field: key, Entry: r.Name, What: what})
	}
	if first, ok := seen[r.Name]; ok {
		add("name", fmt.Sprintf("already the name of a rule at %s", first))
	}
	have := map[string]bool{}
	for _, c := range r.TestCases {
		have[c.Expect] = true
	}
	for _, want := range []string{"present", "absent", "no_data"} {
		if !have[want] {
			add("tests", "no case expects "+want)
		}
	}
	return out
}

func decodeRule(n *yaml.Node, file string) tune.Rule {
	r := tune.Rule{
		Name: scalar(n, "name"), Resource: scalar(n, "resource"), For: scalar(n, "for"),
		When: scalar(n, "when"), Severity: scalar(n, "severity"), Says: folded(n, "says"),
		Show: texts(n, "show"), Source: scalar(n, "source"), Pos: tune.Pos{File: file, Line: n.Line},
	}
	r.Measure = decodeMeasure(n, r.For)
	for _, x := range items(n, "relieved_by") {
		r.Relief = append(r.Relief, decodeRelief(x))
	}
	for _, x := range items(n, "tests") {
		r.TestCases = append(r.TestCases, decodeCase(x))
	}
	return r
}

// decodeMeasure: a measure is a signal of the rule's own entity unless "of" names another kind.
func decodeMeasure(rule *yaml.Node, kind string) tune.Measure {
	_, n := child(rule, "measure")
	m := tune.Measure{Signal: scalar(n, "signal"), Kind: kind, Better: scalar(n, "better"), Floor: number(n, "floor"),
		LossMS: number(n, "loss_ms"), Per: scalar(n, "per")}
	switch of := scalar(n, "of"); of {
	case "":
	case "host":
		m.Kind = ""
	default:
		m.Kind = of
	}
	return m
}

func decodeRelief(n *yaml.Node) tune.Relief {
	r := tune.Relief{
		When: scalar(n, "when"), Why: folded(n, "why"), Expect: folded(n, "expect"),
		Confidence: number(n, "confidence"), Weight: number(n, "weight"),
	}
	for _, c := range items(n, "changes") {
		r.Changes = append(r.Changes, tune.ReliefChange{
			Tunable: scalar(c, "tunable"), Op: scalar(c, "op"), Value: scalar(c, "value"),
			When: scalar(c, "when"), Optional: isTrue(c, "optional"),
		})
	}
	return r
}

func decodeCase(n *yaml.Node) tune.Case {
	return tune.Case{
		Name: scalar(n, "name"), Signals: numbers(n, "s"), Entity: numbers(n, "e"), Labels: wordMap(n, "label"),
		Facts: numbers(n, "facts"), Current: wordMap(n, "current"), Expect: scalar(n, "expect"),
		Proposes: wordMap(n, "proposes"),
	}
}

// folded joins a sentence that the file breaks over lines.
func folded(n *yaml.Node, key string) string {
	return strings.Join(strings.Fields(scalar(n, key)), " ")
}

func numbers(n *yaml.Node, key string) map[string]float64 {
	words := wordMap(n, key)
	if words == nil {
		return nil
	}
	out := make(map[string]float64, len(words))
	for k, v := range words {
		out[k], _ = strconv.ParseFloat(v, 64) // the schema has checked that it is a number
	}
	return out
}

func wordMap(n *yaml.Node, key string) map[string]string {
	_, m := child(n, key)
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m.Content)/2)
	for i := 0; i+1 < len(m.Content); i += 2 {
		out[m.Content[i].Value] = m.Content[i+1].Value
	}
	return out
}

// WriteRulesMarkdown writes the reference of all symptoms and reliefs.
func WriteRulesMarkdown(w io.Writer, rules []tune.Rule) error {
	var b strings.Builder
	b.WriteString("# Symptoms and what relieves them\n\nGenerated from kb/rules: do not edit.\n")
	for _, r := range rules {
		of := r.For
		if of == "" {
			of = "host"
		}
		fmt.Fprintf(&b, "\n## %s\n\nResource: %s, looked at per %s. Source: %s.\n\nPresent when\n\n    %s\n\nSays: %s\n\n",
			r.Name, r.Resource, of, r.Source, r.When, r.Says)
		fmt.Fprintf(&b, "Measured by `%s` (%s is better).\n\n", r.Measure.Signal, r.Measure.Better)
		b.WriteString("| tunable | op | value | why | confidence | weight |\n| --- | --- | --- | --- | --- | --- |\n")
		for _, rel := range r.Relief {
			for i, c := range rel.Changes {
				why, conf, weight := "(same bundle)", "", ""
				if i == 0 {
					why, conf, weight = rel.Why, tune.FormatNumber(rel.Confidence), tune.FormatNumber(rel.Weight)
				}
				fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s | %s |\n",
					c.Tunable, c.Op, cell(c.Value), cell(why), conf, weight)
			}
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write rules reference: %w", err)
	}
	return nil
}
