package kb

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"semantos/internal/tune"
)

const goodRule = `rules:
  - name: drops
    resource: queue
    when: s["drops"] > 1
    severity: 0.5
    says: Things are dropped.
    show: [drops]
    measure: {signal: drops, better: lower, floor: 1}
    relieved_by:
      - changes: [{tunable: net.core.somaxconn, op: raise, value: 4096, optional: true}]
        why: More room for what arrives.
        expect: Nothing is dropped any more.
        confidence: 0.9
        weight: 1
    source: a document
    tests:
      - {name: a, s: {drops: 5}, current: {net.core.somaxconn: 8}, expect: present, proposes: {net.core.somaxconn: 4096}}
      - {name: b, s: {drops: 0}, expect: absent}
      - {name: c, expect: no_data}
`

func decodeText(t *testing.T, text string) ([]tune.Rule, Problems) {
	t.Helper()
	rules, problems, err := decodeRules([]source{{name: "x.yaml", data: []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return rules, problems
}

func TestDecodeRule(t *testing.T) {
	t.Parallel()
	rules, problems := decodeText(t, goodRule)
	if len(problems) > 0 || len(rules) != 1 {
		t.Fatalf("%v, %d rules", problems, len(rules))
	}
	r := rules[0]
	if r.Name != "drops" || r.Severity != "0.5" || r.Measure.Floor != 1 || r.Pos.String() != "x.yaml:2" {
		t.Errorf("rule %+v", r)
	}
	c := r.Relief[0].Changes[0]
	if c.Tunable != "net.core.somaxconn" || c.Value != "4096" || !c.Optional || c.Op != "raise" {
		t.Errorf("change %+v", c)
	}
	if v := r.TestCases[0]; v.Signals["drops"] != 5 || v.Current["net.core.somaxconn"] != "8" || v.Proposes["net.core.somaxconn"] != "4096" {
		t.Errorf("case %+v", v)
	}
}

// TestMalformedRulesAreNamed: each mistake is reported with file, line and field.
func TestMalformedRulesAreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown field":       {"    resource: queue", "    resource: queue\n    severty: 1", "x.yaml:4: severty: unknown field"},
		"missing field":       {"    source: a document\n", "", "source: missing"},
		"unknown entity":      {"    resource: queue", "    resource: queue\n    for: moon", "x.yaml:4: for:"},
		"unknown op":          {"op: raise", "op: grow", "x.yaml:10: relieved_by[0].changes[0].op:"},
		"confidence above 1":  {"confidence: 0.9", "confidence: 9", "x.yaml:13: relieved_by[0].confidence:"},
		"number as text":      {"s: {drops: 5}", "s: {drops: five}", "x.yaml:17: tests[0].s.drops:"},
		"no case of a kind":   {"expect: no_data", "expect: absent", "x.yaml:16: tests: no case expects no_data"},
		"doubled key":         {"    resource: queue", "    resource: queue\n    resource: queue", "x.yaml:4: resource: given twice"},
		"not YAML":            {"    resource: queue", "    resource: [queue", "x.yaml:"},
		"name with a capital": {"name: drops", "name: Drops", "x.yaml:2: name:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(goodRule, c.old, c.new, 1)
			if text == goodRule {
				t.Fatal("nothing replaced")
			}
			_, problems := decodeText(t, text)
			if !strings.Contains(problems.Error(), c.want) {
				t.Errorf("got %q, want %q", problems.Error(), c.want)
			}
		})
	}
}

func TestDoubledRuleIsRefused(t *testing.T) {
	t.Parallel()
	twice := goodRule + strings.TrimPrefix(goodRule, "rules:\n")
	_, problems := decodeText(t, twice)
	if !strings.Contains(problems.Error(), "already the name of a rule at x.yaml:2") {
		t.Errorf("got %v", problems)
	}
}

func TestLoadRulesOfOperator(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "rules", "own.yaml")
	if err := os.WriteFile(file, []byte(goodRule), 0o644); err != nil {
		t.Fatal(err)
	}
	plain, err := LoadRules(Options{})
	if err != nil {
		t.Fatal(err)
	}
	with, err := LoadRules(Options{ExtraDir: dir})
	if err != nil || len(with) != len(plain)+1 {
		t.Fatalf("%d rules and %d with the operator's: %v", len(plain), len(with), err)
	}
	if err := os.WriteFile(file, []byte("rules: 7"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRules(Options{ExtraDir: dir}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("broken file: %v", err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRules(Options{ExtraDir: dir}); !errors.Is(err, tune.ErrNotPermitted) {
		t.Errorf("writable by others: %v", err)
	}
}

// TestRulesReference: the generated page names every symptom and every tunable a rule changes.
func TestRulesReference(t *testing.T) {
	t.Parallel()
	rules, err := LoadRules(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := WriteRulesMarkdown(&b, rules); err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if !strings.Contains(b.String(), "\n## "+r.Name+"\n") {
			t.Errorf("%s is not on the page", r.Name)
		}
		for _, rel := range r.Relief {
			for _, c := range rel.Changes {
				if !strings.Contains(b.String(), "| `"+c.Tunable+"` |") {
					t.Errorf("%s: %s is not on the page", r.Name, c.Tunable)
				}
			}
		}
	}
}

// FuzzRules: no text makes the loader panic or hand out a rule beside a problem-free answer.
func FuzzRules(f *testing.F) {
	f.Add([]byte(goodRule))
	f.Add([]byte("rules: [{name: a}]"))
	f.Add([]byte("rules:\n- &a {name: x}\n- *a\n"))
	f.Add([]byte("{}"))
	f.Add([]byte(strings.Replace(goodRule, "0.9", "1e309", 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, problems, err := decodeRules([]source{{name: "x.yaml", data: data}})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if p.File != "x.yaml" || p.Line < 1 {
				t.Errorf("problem without a place: %+v", p)
			}
		}
		for _, r := range rules {
			if r.Name == "" || len(r.Relief) == 0 || len(r.TestCases) < 3 || r.Pos.Line < 1 {
				t.Errorf("half a rule: %+v", r)
			}
		}
	})
}
