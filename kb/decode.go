package kb

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"semantos/internal/tune"
)

// entry is one item of a file's tunables: a tunable with its compiled terms, or a narrowing.
type entry struct {
	tunable  *tune.Tunable
	node     *yaml.Node
	doc      *document
	good     []string
	bad      []string
	narrow   *yaml.Node
	defaults []term
	safe     []bound
	problems Problems
}

func (e *entry) add(field, what string, err error) {
	_, line := locate(e.node, strings.Split(field, "."))
	e.problems = append(e.problems, Problem{
		File: e.doc.name, Line: line, Field: field, Entry: scalar(e.node, "name"), What: what, Err: err,
	})
}

func (e *entry) addf(field string, err error, format string, args ...any) {
	e.add(field, fmt.Sprintf(format, args...), err)
}

// decodeEntry turns a node whose shape the schema has accepted into a tunable. It fills what the file
// may leave out: a sysctl's path, arity, and rank.
func decodeEntry(d *document, n *yaml.Node, domain string) *entry {
	e := &entry{node: n, doc: d, good: testTexts(n, "good"), bad: testTexts(n, "bad")}
	if _, narrow := child(n, "narrow"); narrow != nil {
		e.narrow = narrow
		e.tunable = &tune.Tunable{Name: scalar(n, "name")}
		return e
	}
	t := &tune.Tunable{
		Name: scalar(n, "name"), Aliases: texts(n, "aliases"), Domain: domain,
		Scope: tune.Scope(scalar(n, "scope")), Method: tune.Method(scalar(n, "via")), Path: scalar(n, "path"),
		Kind: tune.Kind(scalar(n, "type")), Of: tune.Kind(scalar(n, "of")), Elements: texts(n, "elements"),
		Arity: 1, Ordered: isTrue(n, "ordered"), Unit: scalar(n, "unit"), Values: texts(n, "values"),
		Specials: specials(n), Pattern: scalar(n, "pattern"),
		MinKernel: scalar(n, "min_kernel"), MaxKernel: scalar(n, "max_kernel"),
		Hard: hardRanges(n), Counterpart: scalar(n, "counterpart"), AlsoChanges: texts(n, "also_changes"),
		TakesEffect: tune.TakesEffect(scalar(n, "takes_effect")), Risk: tune.Risk(scalar(n, "risk")),
		Protected: isTrue(n, "protected"), Log: isTrue(n, "log"), Affects: affects(n),
		DependsOn: texts(n, "depends_on"), Conflicts: texts(n, "conflicts_with"), Synergizes: texts(n, "synergizes_with"),
		Summary: scalar(n, "summary"), Danger: scalar(n, "danger"), Source: scalar(n, "source"),
		Pos: tune.Pos{File: d.name, Line: n.Line},
	}
	if t.Method == tune.MethodSysctl && t.Path == "" {
		t.Path = strings.ReplaceAll(t.Name, ".", "/")
	}
	if a := scalar(n, "arity"); a != "" {
		t.Arity, _ = strconv.Atoi(a)
	}
	if settle, err := time.ParseDuration(scalar(n, "settle")); err == nil {
		t.SettleMS = settle.Milliseconds()
	}
	for _, d := range texts(n, "default") {
		t.Default = append(t.Default, quoteLiteral(t, d))
	}
	for _, s := range items(n, "safe") {
		t.Safe = append(t.Safe, tune.SafeRange{Min: scalar(s, "min"), Max: scalar(s, "max")})
	}
	e.tunable = t
	return e
}

// quoteLiteral makes a word of the tunable's own vocabulary a CEL string, so that a file says
// "default: madvise" and not "default: '\"madvise\"'".
func quoteLiteral(t *tune.Tunable, text string) string {
	for _, w := range t.Values {
		if w == text {
			return strconv.Quote(text)
		}
	}
	if plainNumber.MatchString(text) {
		return text
	}
	for _, s := range t.Specials {
		if s.Value == text {
			return strconv.Quote(text)
		}
	}
	return text
}

func testTexts(n *yaml.Node, key string) []string {
	_, v := child(n, "test")
	return texts(v, key)
}

func specials(n *yaml.Node) []tune.Special {
	var out []tune.Special
	for _, s := range items(n, "specials") {
		out = append(out, tune.Special{
			Value: scalar(s, "value"), Meaning: scalar(s, "meaning"), Rank: int(number(s, "rank")),
		})
	}
	return out
}

func hardRanges(n *yaml.Node) []tune.Range {
	var out []tune.Range
	for _, r := range items(n, "hard") {
		out = append(out, tune.Range{Min: number(r, "min"), Max: number(r, "max")})
	}
	return out
}

func affects(n *yaml.Node) []tune.Affect {
	var out []tune.Affect
	for _, a := range items(n, "affects") {
		out = append(out, tune.Affect{
			Signal: scalar(a, "signal"), Sign: int(number(a, "sign")), Weight: number(a, "weight"),
		})
	}
	return out
}
