package kb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// entryText is one complete entry; edits replace a line by its field or, with an empty value, drop it.
func entryText(edits map[string]string) string {
	lines := []string{
		"- name: vm.made_up", "  scope: host", "  via: sysctl", "  type: integer", "  unit: pages",
		"  default: 10", "  hard: {min: 0, max: 100}", "  safe: {min: 1, max: facts.cpus * 2}",
		"  takes_effect: immediately", "  settle: 2s", "  risk: low",
		"  summary: An entry made up for a test.", "  source: Documentation/made/up.rst",
		`  test: {good: ["10"], bad: ["101"]}`,
	}
	var out []string
	done := map[string]bool{}
	for _, l := range lines {
		field, _, _ := strings.Cut(strings.TrimLeft(l, "- "), ":")
		if v, ok := edits[field]; ok {
			done[field] = true
			if v == "" {
				continue
			}
			prefix, _, _ := strings.Cut(l, ":")
			l = prefix + ": " + v
		}
		out = append(out, l)
	}
	for f, v := range edits {
		if !done[f] && v != "" {
			out = append(out, "  "+f+": "+v)
		}
	}
	return "domain: test\ntunables:\n" + strings.Join(out, "\n") + "\n"
}

func extraDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestExtraDirAddsEntries(t *testing.T) {
	t.Parallel()
	dir := extraDir(t, map[string]string{
		"mine.yaml":          entryText(nil),
		"tunables/more.yaml": entryText(map[string]string{"name": "vm.another", "depends_on": "[vm.made_up, vm.swappiness]"}),
		"notes.txt":          "not a catalogue file",
		"rules/mine.yaml":    "rules: of no concern to the catalogue",
	})
	c, err := Load(Options{ExtraDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"vm.made_up", "vm.another", "vm.swappiness"} {
		tn, _, err := c.Lookup(n)
		if err != nil {
			t.Fatal(err)
		}
		if tn.Pos.Line == 0 || tn.Domain == "" {
			t.Errorf("%s: position %v, domain %q", n, tn.Pos, tn.Domain)
		}
	}
}

// Every kind of mistake is named with file, line and field, and wraps the right sentinel.
func TestMalformedFilesAreNamed(t *testing.T) {
	t.Parallel()
	ed := func(kv ...string) string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return entryText(m)
	}
	inv := func(over, holds string) string {
		return fmt.Sprintf("invariants:\n- name: made-up\n  over: [%s]\n  holds: %s\n  says: a sentence that is long enough\n  source: made up\n", over, holds)
	}
	tests := []struct {
		name, text, field string
		line              int
		says              string
		err               error
	}{
		{"not yaml", "tunables: [", "yaml", 1, "", tune.ErrUsage},
		{"tab", "domain: x\n\ttunables: []", "yaml", 2, "", tune.ErrUsage},
		{"empty", "", "yaml", 1, "mapping", tune.ErrUsage},
		{"list at the top", "- a\n", "yaml", 1, "mapping", tune.ErrUsage},
		{"nothing in it", "domain: x\n", "yaml", 1, "", tune.ErrUsage},
		{"unknown top field", "domain: x\nsymptoms: []\ntunables: []\n", "symptoms", 2, "unknown field", tune.ErrUsage},
		{"no domain", strings.TrimPrefix(entryText(nil), "domain: test\n"), "domain", 1, "missing", tune.ErrUsage},
		{"alias", "domain: &a x\ntunables: *a\n", "*a", 2, "aliases", tune.ErrUsage},
		{"key twice", entryText(nil) + "  risk: high\n", "risk", 17, "twice", tune.ErrUsage},
		{"unknown field", ed("colour", "red"), "colour", 17, "unknown field", tune.ErrUsage},
		{"missing field", ed("risk", ""), "risk", 3, "missing", tune.ErrUsage},
		{"bad enum", ed("scope", "planet"), "scope", 4, "host", tune.ErrUsage},
		{"bad type", ed("risk", "[low]"), "risk", 13, "", tune.ErrUsage},
		{"bad settle", ed("settle", "soon"), "settle", 12, "", tune.ErrUsage},
		{"hard reversed", ed("hard", "{min: 9, max: 1}"), "hard", 9, "above max", tune.ErrOutOfRange},
		{"hard misspelt", ed("hard", "{min: 9, maximum: 10}"), "hard.maximum", 9, "unknown field", tune.ErrUsage},
		{"hard missing", ed("hard", ""), "hard", 3, "missing", tune.ErrUsage},
		{"safe missing", ed("safe", ""), "safe", 3, "missing", tune.ErrUsage},
		{"too many ranges", ed("hard", "[{min: 0, max: 1}, {min: 0, max: 1}]"), "hard", 9, "2 values for 1", tune.ErrUsage},
		{"default outside", ed("default", "101"), "default", 8, "out of range", tune.ErrOutOfRange},
		{"default expression outside", ed("default", "facts.cpus * 1000"), "default", 8, "out of range", tune.ErrOutOfRange},
		{"default does not compile", ed("default", "facts.cpus *"), "default", 8, "does not compile", tune.ErrUsage},
		{"default of an unknown fact", ed("default", "facts.moons"), "default", 8, "moons", tune.ErrUsage},
		{"safe does not compile", ed("safe", "{min: 1, max: nonsense}"), "safe", 10, "does not compile", tune.ErrUsage},
		{"safe of the wrong type", ed("safe", `{min: 1, max: "\"text\""}`), "safe", 10, "not a number", tune.ErrUsage},
		{"name taken", ed("name", "vm.swappiness"), "name", 3, "already taken", tune.ErrUsage},
		{"alias taken", ed("aliases", "[vm.swappiness]"), "aliases", 17, "already taken", tune.ErrUsage},
		{"unknown counterpart", ed("counterpart", "vm.nothing"), "counterpart", 17, "vm.nothing", tune.ErrUnknown},
		{"counterpart does not point back", ed("counterpart", "vm.swappiness"), "counterpart", 17, "does not name", tune.ErrUsage},
		{"unknown also_changes", ed("also_changes", "[vm.nothing]"), "also_changes", 17, "vm.nothing", tune.ErrUnknown},
		{"unknown depends_on", ed("depends_on", "[vm.nothing]"), "depends_on", 17, "vm.nothing", tune.ErrUnknown},
		{"conflicts with itself", ed("conflicts_with", "[vm.made_up]"), "conflicts_with", 17, "itself", tune.ErrUsage},
		{"denied", ed("path", "kernel/core_pattern"), "path", 17, "denied", tune.ErrDenied},
		{"denied by name", ed("name", "kernel.modprobe"), "path", 3, "denied", tune.ErrDenied},
		{"denied prefix", ed("path", "fs/protected_links"), "path", 17, "denied", tune.ErrDenied},
		{"denied below", ed("path", "kernel/yama/ptrace_scope"), "path", 17, "denied", tune.ErrDenied},
		{"dots", ed("path", "vm/../kernel/core_pattern"), "path", 17, "clean path", tune.ErrDenied},
		{"absolute", ed("path", "/etc/passwd"), "path", 17, "clean path", tune.ErrDenied},
		{"outside the root", ed("path", "crypto/fips_enabled"), "path", 17, "outside", tune.ErrDenied},
		{"sysfs outside", ed("via", "sysfs", "path", "power/state"), "path", 17, "outside", tune.ErrDenied},
		{"template that could be anything", ed("name", "kernel/{device}", "via", "sysfs", "scope", "device", "path", "kernel/mm/x"), "path", 17, "{words}", tune.ErrUsage},
		{"cgroup.procs", ed("scope", "cgroup", "via", "cgroup", "path", "cgroup.procs"), "path", 17, "not a file of", tune.ErrDenied},
		{"scope against method", ed("scope", "cgroup"), "scope", 4, "reached by", tune.ErrUsage},
		{"vector without elements", ed("type", "vector"), "of", 3, "missing", tune.ErrUsage},
		{"enum without values", ed("type", "enum", "hard", "", "safe", "", "default", ""), "values", 3, "enum", tune.ErrUsage},
		{"pattern broken", ed("type", "text", "hard", "", "safe", "", "default", "", "pattern", `"[a"`), "pattern", 14, "does not compile", tune.ErrUsage},
		{"good is refused", ed("test", `{good: ["500"], bad: ["101"]}`), "test.good", 16, "refused", tune.ErrOutOfRange},
		{"bad is accepted", ed("test", `{good: ["10"], bad: ["50"]}`), "test.bad", 16, "accepted", tune.ErrUsage},
		{"invariant over nothing", inv("vm.nothing", `cur("vm.nothing") > 1`), "over", 3, "vm.nothing", tune.ErrUnknown},
		{"invariant reads more", inv("vm.swappiness", `cur("vm.page-cluster") > 1`), "over", 3, "vm.page-cluster", tune.ErrUsage},
		{"invariant does not compile", inv("vm.swappiness", `cur(`), "holds", 4, "does not compile", tune.ErrUsage},
		{"edge to nothing", "edges:\n- {from: vm.swappiness, type: depends_on, to: vm.nothing, sign: 1, weight: 1, why: because of this, source: made up}\n", "to", 2, "vm.nothing", tune.ErrUnknown},
		{"edge too heavy", "edges:\n- {from: vm.swappiness, type: depends_on, to: vm.page-cluster, sign: 1, weight: 7, why: because of this, source: made up}\n", "weight", 2, "", tune.ErrUsage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := extraDir(t, map[string]string{"bad.yaml": tt.text})
			c, err := Load(Options{ExtraDir: dir})
			if err == nil || c != nil {
				t.Fatalf("loaded:\n%s", tt.text)
			}
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("%v holds no problems", err)
			}
			for _, p := range ps {
				if p.Field == tt.field && p.Line == tt.line && strings.Contains(p.What, tt.says) &&
					strings.HasSuffix(p.File, "bad.yaml") && errors.Is(p, tt.err) {
					return
				}
			}
			t.Errorf("want line %d, field %q, %q, %v; got:\n%v\nof:\n%s", tt.line, tt.field, tt.says, tt.err, err, tt.text)
		})
	}
}

func TestAllProblemsTogether(t *testing.T) {
	t.Parallel()
	dir := extraDir(t, map[string]string{
		"a.yaml": entryText(map[string]string{"risk": "", "colour": "red"}),
		"b.yaml": entryText(map[string]string{"name": "vm.b", "depends_on": "[vm.nothing]", "default": "1000"}),
		"c.yaml": "tunables: [",
	})
	_, err := Load(Options{ExtraDir: dir})
	for _, want := range []string{
		"a.yaml:3: risk: missing", "a.yaml:16: colour: unknown field", "b.yaml:8: default:", "b.yaml:17: depends_on:", "c.yaml:1: yaml:",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

func TestExtraDirMustBeTrusted(t *testing.T) {
	t.Parallel()
	good := map[string]string{"a.yaml": entryText(nil)}
	tests := []struct {
		name  string
		spoil func(dir string) error
		says  string
		err   error
		root  bool
	}{
		{"folder writable by group", func(d string) error { return os.Chmod(d, 0o775) }, "chmod go-w", tune.ErrNotPermitted, false},
		{"file writable by others", func(d string) error { return os.Chmod(filepath.Join(d, "a.yaml"), 0o666) }, "chmod go-w", tune.ErrNotPermitted, false},
		{"file of another user", func(d string) error { return os.Chown(filepath.Join(d, "a.yaml"), 65534, 65534) }, "chown root", tune.ErrNotPermitted, true},
		{"folder of another user", func(d string) error { return os.Chown(d, 65534, 65534) }, "chown root", tune.ErrNotPermitted, true},
		{"link", func(d string) error { return os.Symlink("/etc/hostname", filepath.Join(d, "l.yaml")) }, "no links", tune.ErrUsage, false},
		{"no folder", os.RemoveAll, "give a folder that exists", tune.ErrUsage, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.root && os.Geteuid() != 0 {
				t.Skip("needs root: chown to another user")
			}
			dir := extraDir(t, good)
			if err := tt.spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Load(Options{ExtraDir: dir})
			if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %q and %v", err, tt.says, tt.err)
			}
		})
	}
}

func TestNarrowing(t *testing.T) {
	t.Parallel()
	narrow := func(name, what string) string {
		return "tunables:\n- name: " + name + "\n  narrow: {" + what + "}\n"
	}
	tests := []struct {
		name, text string
		says       string // of the error, "" when it must load
		tunable    string
		hard, safe tune.Range
	}{
		{"tighter", narrow("vm.swappiness", "hard: {min: 1, max: 100}, safe: {min: 5, max: 30}"), "", "vm.swappiness", tune.Range{Min: 1, Max: 100}, tune.Range{Min: 5, Max: 30}},
		{"safe cannot widen by expression", narrow("vm.swappiness", "safe: {max: facts.cpus * 1000}"), "", "vm.swappiness", tune.Range{Min: 0, Max: 200}, tune.Range{Min: 1, Max: 100}},
		{"wider hard", narrow("vm.swappiness", "hard: {min: 0, max: 300}"), "widens", "", tune.Range{}, tune.Range{}},
		{"wider safe", narrow("net.core.somaxconn", "safe: {min: 1, max: 4096}"), "widens", "", tune.Range{}, tune.Range{}},
		{"reversed", narrow("vm.swappiness", "hard: {min: 50, max: 10}"), "above max", "", tune.Range{}, tune.Range{}},
		{"unknown name", narrow("vm.nothing", "hard: {min: 50, max: 60}"), "no tunable is called", "", tune.Range{}, tune.Range{}},
		{"wrong arity", narrow("net.ipv4.tcp_rmem", "hard: [{min: 1, max: 2}, {min: 1, max: 2}]"), "3 elements", "", tune.Range{}, tune.Range{}},
		{"of words", narrow("mm/transparent_hugepage/enabled", "hard: {min: 1, max: 2}"), "1 elements", "", tune.Range{}, tune.Range{}},
		{"nothing", narrow("vm.swappiness", ""), "narrow:", "", tune.Range{}, tune.Range{}},
		{"a root", "tunables:\n- name: vm.swappiness\n  narrow: {hard: {min: 1, max: 2}}\n  path: kernel/core_pattern\n", "path: unknown field", "", tune.Range{}, tune.Range{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Load(Options{ExtraDir: extraDir(t, map[string]string{"n.yaml": tt.text})})
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("error %v, want %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tn, _, _ := c.Lookup(tt.tunable)
			safe, err := c.Safe(tn, vmHost())
			if err != nil || tn.Hard[0] != tt.hard || safe[0] != tt.safe {
				t.Errorf("hard %v safe %v %v, want %v and %v", tn.Hard, safe, err, tt.hard, tt.safe)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := Load(Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzLoad checks that no text of a catalogue file panics, and that what loads is usable.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(entryText(nil)))
	f.Add([]byte(entryText(map[string]string{"type": "vector", "of": "bytes", "arity": "3", "ordered": "true"})))
	f.Add([]byte("tunables:\n- name: a\n  narrow: {hard: {min: 1, max: 2}}\n"))
	f.Add([]byte("invariants:\n- {name: a, over: [b], holds: cur(\"b\") > 1, says: long enough a text, source: abc}\n"))
	f.Add([]byte("edges:\n- {from: a, to: b}\n"))
	f.Add([]byte("domain: [&a [*a]]\n? {}\n: x\n"))
	env, err := expr.New()
	if err != nil {
		f.Fatal(err)
	}
	sh, err := newShape(tunableSchema)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := loadWith(env, sh, []source{{name: "fuzz.yaml", data: data}})
		if err != nil {
			return
		}
		for _, tn := range c.All() {
			if _, err := c.Safe(tn, vmHost()); err != nil && !errors.Is(err, tune.ErrNoData) {
				t.Errorf("safe range of a loaded entry: %v", err)
			}
			if _, _, err := c.Lookup(tn.Name); err != nil {
				t.Errorf("a loaded entry is not found: %v", err)
			}
		}
	})
}
