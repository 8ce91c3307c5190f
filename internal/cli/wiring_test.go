package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"semantos/internal/config"
	"semantos/internal/tune"
	"semantos/kb"
	"semantos/reasoner"
	"semantos/safety/gate"
	"semantos/safety/guard"
	"semantos/safety/rollout"
	"semantos/telemetry"
)

// Each room fits where it is used, whatever else changes in it.
var (
	_ reasoner.Catalogue = (*kb.Catalogue)(nil)
	_ guard.Catalogue    = (*kb.Catalogue)(nil)
	_ rollout.Tunables   = (*kb.Catalogue)(nil)
	_ gate.Ranges        = (*kb.Catalogue)(nil)
	_ rollout.Writer     = (*guard.Client)(nil)
	_ gate.Live          = onDisk{}
	_ rollout.Meter      = (*signalMeter)(nil)
	_ rollout.Meter      = (*postedMeter)(nil)
	_ rollout.Vitals     = (*vitals)(nil)
	_ watch              = (*telemetry.Sampler)(nil)
)

// TestRulesUseOnlySignalsThatAreDelivered: a rule that names another signal would never see it.
func TestRulesUseOnlySignalsThatAreDelivered(t *testing.T) {
	t.Parallel()
	cat, err := kb.Load(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := kb.LoadRules(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reasoner.New(rules, cat, reasoner.WithSignals(signalTable())); err != nil {
		t.Error(err)
	}
	known := map[string]bool{}
	for _, s := range telemetry.Signals() {
		for _, one := range telemetry.Series(s) {
			known[one.Name] = true
		}
		known[s.Name] = true // affects names what a tunable moves, in any series
	}
	for _, r := range rules {
		for _, name := range append(r.Show, r.Measure.Signal) {
			if !known[name] {
				t.Errorf("%s: rule %s shows %q, which no collector delivers", r.Pos, r.Name, name)
			}
		}
	}
	for _, tn := range cat.All() {
		for _, a := range tn.Affects {
			if !known[a.Signal] {
				t.Errorf("%s: %s affects %q, which no collector delivers", tn.Pos, tn.Name, a.Signal)
			}
		}
	}
}

func TestCatalogueAndRulesAreAsWideAsPromised(t *testing.T) {
	t.Parallel()
	cat, err := kb.Load(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := kb.LoadRules(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(cat.All()) < 140 || len(rules) < 40 {
		t.Errorf("%d tunables and %d rules", len(cat.All()), len(rules))
	}
}

// TestGeneratedPagesAreCurrent: make gen would leave no difference.
func TestGeneratedPagesAreCurrent(t *testing.T) {
	t.Parallel()
	pages, err := Reference()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join("../../docs", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not what make gen writes (%v)", name, err)
		}
	}
}

func TestCommandsOfLaterIssuesAreNotThere(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	for _, name := range []string{"tune", "bench"} {
		if got := m.run(t, name); got.exit != exitUsage {
			t.Errorf("%s: exit %d", name, got.exit)
		}
	}
}

// TestHelpAndGlobalFlags: every configuration key that is no secret has its flag on every command.
func TestHelpAndGlobalFlags(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	for _, name := range []string{"serve", "recommend", "apply", "rollback", "undo", "status", "history", "explain", "verify",
		"telemetry", "tunables", "kb", "export", "calibrate", "doctor", "config", "version"} {
		got := m.run(t, name, "--help")
		if got.exit != 0 || got.stderr != "" {
			t.Errorf("%s --help: exit %d %s", name, got.exit, got.stderr)
		}
		for _, f := range config.Flags() {
			if !strings.Contains(got.stdout, "--"+f.Name+" ") {
				t.Errorf("%s --help lacks --%s", name, f.Name)
			}
		}
	}
}

// TestReadingCommandsPrintOneDocument on a small host, and a page that fits.
func TestReadingCommandsPrintOneDocument(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	for _, args := range [][]string{
		{"status"}, {"history"}, {"verify"}, {"undo", "--print"}, {"export"}, {"export", "--format", "tuned"},
		{"export", "--format", "ansible"}, {"doctor"}, {"config"}, {"version"}, {"tunables", "--domain", "vm"},
		{"tunables", "vm.swappiness"}, {"tunables", "vm.page-cluster"}, {"kb", "search", "swap", "cache"},
		{"kb", "show", "vm.swappiness"}, {"kb", "neighborhood", "vm.swappiness"}, {"kb", "path", "vm.dirty_ratio", "vm.dirty_bytes"},
		{"telemetry"}, {"recommend", "--window", "2s"}, {"rollback", "--all"}, {"undo"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			var doc map[string]any
			got := m.run(t, append(args, "--json")...)
			got.decode(t, &doc)
			if got.exit != 0 || len(doc) == 0 || doc["error"] != nil {
				t.Errorf("exit %d, %s", got.exit, got.stdout)
			}
			if args[0] == "rollback" || args[0] == "undo" || args[0] == "recommend" {
				return // one writer at a time
			}
			people := m.run(t, args...)
			if people.exit != 0 {
				t.Errorf("exit %d, %s", people.exit, people.stderr)
			}
			for line := range strings.Lines(people.stdout) {
				if n := len([]rune(strings.TrimRight(line, "\n"))); n > 120 {
					t.Errorf("line of %d columns: %s", n, line)
				}
			}
		})
	}
}

func TestSearchFindsByMeaningfulWords(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	var doc searchDocument
	m.run(t, "kb", "search", "accept queue overflow", "--json").decode(t, &doc)
	var names []string
	for _, h := range doc.Hits {
		names = append(names, h.ID)
		if h.Score <= 0 || h.Why == "" {
			t.Errorf("hit %+v", h)
		}
	}
	if !strings.Contains(strings.Join(names, " "), "net.core.somaxconn") || doc.Hits[0].Kind != "symptom" {
		t.Errorf("hits %v", names)
	}
}

// TestEveryPathInTheDocsExists: a back-ticked path names something of this tree.
func TestEveryPathInTheDocsExists(t *testing.T) {
	t.Parallel()
	generated := map[string]bool{"tunables.md": true, "rules.md": true, "signals.md": true}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	adrs, err := filepath.Glob("../../docs/adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(append(pages, adrs...), "../../README.md", "../../CHANGELOG.md")
	ticked := regexp.MustCompile("`([A-Za-z0-9_.*/<>{}-]+)`")
	top, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if generated[filepath.Base(page)] {
			continue
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Errorf("read %s: %v", page, err)
			continue
		}
		for _, match := range ticked.FindAllStringSubmatch(string(text), -1) {
			path := match[1]
			first, _, nested := strings.Cut(path, "/")
			ours := false
			for _, e := range top {
				ours = ours || nested && e.Name() == first
			}
			if !ours || strings.ContainsAny(path, "<>{}") {
				continue
			}
			if found, err := filepath.Glob(filepath.Join("../..", path)); err != nil || len(found) == 0 {
				t.Errorf("%s names `%s`, which does not exist", page, path)
			}
		}
	}
}

func TestSignalMeterReadsItsOwnWindow(t *testing.T) {
	t.Parallel()
	fake := &fakeSampler{}
	m := &signalMeter{sampler: fake, measure: tune.Measure{Signal: "tcp.listen_overflows", Entity: "netns:1", Kind: "netns"}}
	s, err := m.Sample(context.Background(), 20*time.Millisecond)
	if err != nil || s.Value == nil || *s.Value != 7 || fake.resets != 1 || fake.ticks < 2 {
		t.Errorf("%+v, %v, %+v", s, err, fake)
	}
	m.measure.Entity = "netns:2"
	if _, err := m.Sample(context.Background(), time.Millisecond); err == nil || exitOf(err) != exitFailed {
		t.Errorf("an absent entity gave %v", err)
	}
}

type fakeSampler struct{ ticks, resets int }

func (f *fakeSampler) Tick(context.Context) error { f.ticks++; return nil }
func (f *fakeSampler) Reset()                     { f.resets++ }
func (f *fakeSampler) Snapshot() tune.Snapshot {
	return tune.Snapshot{Entities: map[string][]tune.Entity{
		"netns": {{Kind: "netns", ID: "netns:1", Signals: map[string]float64{"tcp.listen_overflows": 7}}},
	}}
}
