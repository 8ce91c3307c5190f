package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// fixture writes a file and gives its path.
func fixture(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sweepText is a pairwise sweep of two tunables in which together they gain by the factor.
func sweepText(a, b string, factor float64) string {
	var runs []string
	for i := range 6 {
		noise := 1 + 0.01*float64(i%3)
		for on, value := range map[string]float64{``: 100, `"` + a + `"`: 90, `"` + b + `"`: 90, `"` + a + `","` + b + `"`: 81 / factor} {
			runs = append(runs, fmt.Sprintf(`{"on":[%s],"value":%.4f}`, on, value*noise))
		}
	}
	slices.Sort(runs)
	return `{"metric":"p95_ms","better":"lower","runs":[` + strings.Join(runs, ",") + `]}`
}

// exported gives what kb export prints.
func (m *machine) exported(t *testing.T) string {
	t.Helper()
	got := m.run(t, "kb", "export")
	if got.exit != 0 {
		t.Fatalf("kb export: exit %d %s", got.exit, got.stderr)
	}
	return got.stdout
}

// TestKnowledgeCommandsRefuse: each bad input is named, exits as it should, and nothing is stored.
func TestKnowledgeCommandsRefuse(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	before := m.exported(t)
	lines := strings.SplitAfter(before, "\n")
	run := func(text string) string { return `{"metric":"m","better":"lower","runs":[` + text + `]}` }
	for name, c := range map[string]struct {
		args []string
		exit int
		says string
	}{
		"no command":            {[]string{"kb"}, 2, "kb search"},
		"search for nothing":    {[]string{"kb", "search"}, 2, "at least 1"},
		"search for a space":    {[]string{"kb", "search", " "}, 2, "empty question"},
		"search for a file":     {[]string{"kb", "search", strings.Repeat("a ", 5000)}, 2, "8192"},
		"search by":             {[]string{"kb", "search", "swap", "--by", "guess"}, 2, "guess"},
		"search limit":          {[]string{"kb", "search", "swap", "--limit", "0"}, 2, "--limit"},
		"unknown node":          {[]string{"kb", "neighborhood", "net.core.somaxcon"}, 2, "net.core.somaxconn"},
		"unknown type":          {[]string{"kb", "neighborhood", "vm.swappiness", "--type", "likes"}, 2, "likes"},
		"depth 0":               {[]string{"kb", "neighborhood", "vm.swappiness", "--depth", "0"}, 2, "depth 0"},
		"depth 7":               {[]string{"kb", "neighborhood", "vm.swappiness", "--depth", "7"}, 2, "depth 7"},
		"limit -1":              {[]string{"kb", "neighborhood", "vm.swappiness", "--limit", "-1"}, 2, "--limit"},
		"path to nowhere":       {[]string{"kb", "path", "vm.swappiness", "nowhere"}, 2, "nowhere"},
		"path of a type":        {[]string{"kb", "path", "vm.swappiness", "vm.dirty_ratio", "--type", "x"}, 2, `x`},
		"path of one":           {[]string{"kb", "path", "vm.swappiness"}, 2, "2 arg"},
		"show of two words":     {[]string{"kb", "show", "vm.swappiness", "relieves"}, 2, "2 words"},
		"show of no edge":       {[]string{"kb", "show", "vm.swappiness", "depends_on", "vm.dirty_ratio"}, 2, "no live edge"},
		"show of no type":       {[]string{"kb", "show", "vm.swappiness", "likes", "vm.dirty_ratio"}, 2, "likes"},
		"show of nothing":       {[]string{"kb", "show", "nowhere"}, 2, "nowhere"},
		"sweep missing":         {[]string{"kb", "induce", "/nonexistent/sweep"}, 2, "/nonexistent/sweep"},
		"sweep empty":           {[]string{"kb", "induce", fixture(t, "")}, 2, "EOF"},
		"sweep of standard in":  {[]string{"kb", "induce", "-"}, 2, "EOF"},
		"sweep of garbage":      {[]string{"kb", "induce", fixture(t, "\x00\xff\x1b[2J")}, 2, "invalid character"},
		"sweep of NaN":          {[]string{"kb", "induce", fixture(t, run(`{"on":[],"value":NaN}`))}, 2, "invalid character"},
		"sweep of huge":         {[]string{"kb", "induce", fixture(t, run(`{"on":[],"value":1e999}`))}, 2, "1e999"},
		"sweep of 0":            {[]string{"kb", "induce", fixture(t, run(`{"on":[],"value":0}`))}, 2, "run 1"},
		"sweep below 0":         {[]string{"kb", "induce", fixture(t, run(`{"on":[],"value":-3}`))}, 2, "run 1"},
		"sweep of three":        {[]string{"kb", "induce", fixture(t, run(`{"on":["vm.swappiness","vm.dirty_ratio","vm.dirty_bytes"],"value":1}`))}, 2, "run 1"},
		"sweep of the same":     {[]string{"kb", "induce", fixture(t, run(`{"on":["vm.swappiness","vm.swappiness"],"value":1}`))}, 2, "run 1"},
		"sweep of unknown":      {[]string{"kb", "induce", fixture(t, run(`{"on":["vm.swapines"],"value":1}`))}, 2, "vm.swapines"},
		"sweep, unknown field":  {[]string{"kb", "induce", fixture(t, `{"metric":"m","better":"lower","runs":[],"weight":1}`)}, 2, "weight"},
		"sweep, no direction":   {[]string{"kb", "induce", fixture(t, `{"metric":"m","runs":[]}`)}, 2, "better"},
		"sweep, two values":     {[]string{"kb", "induce", fixture(t, run("")+run(""))}, 2, "more than one"},
		"sweep, no pair":        {[]string{"kb", "induce", fixture(t, run(`{"on":[],"value":1},{"on":[],"value":2}`))}, 2, "pair"},
		"import missing":        {[]string{"kb", "import", "/nonexistent/file"}, 2, "/nonexistent/file"},
		"import of a folder":    {[]string{"kb", "import", "/"}, 2, "directory"},
		"import of garbage":     {[]string{"kb", "import", fixture(t, "\x00\x01garbage\n")}, -1, "line 1"},
		"import of nothing":     {[]string{"kb", "import", fixture(t, "")}, -1, ""},
		"import cut in a line":  {[]string{"kb", "import", fixture(t, before[:len(before)/2])}, -1, "line"},
		"import cut at a line":  {[]string{"kb", "import", fixture(t, strings.Join(lines[:len(lines)/2], ""))}, -1, ""},
		"import of the future":  {[]string{"kb", "import", fixture(t, strings.Replace(before, `"version":1`, `"version":99`, 1))}, -1, "99"},
		"import of 10 MB":       {[]string{"kb", "import", fixture(t, lines[0]+strings.Repeat("x", 10<<20)+"\n")}, -1, "line 2"},
		"export to nowhere":     {[]string{"kb", "export", "/nonexistent/dir/file"}, 1, "/nonexistent/dir"},
		"export over a folder":  {[]string{"kb", "export", t.TempDir()}, 1, "directory"},
		"export to two files":   {[]string{"kb", "export", "a", "b"}, 2, "at most 1"},
		"stats of something":    {[]string{"kb", "stats", "edges"}, 2, "edges"},
		"a name that escapes":   {[]string{"kb", "neighborhood", "\x1b[2Jx"}, 2, "x"},
		"a name that is Cypher": {[]string{"kb", "neighborhood", "x'}) MATCH (n) DETACH DELETE n //"}, 2, "DETACH"},
	} {
		t.Run(name, func(t *testing.T) {
			got := m.run(t, append(c.args, "--json")...)
			var doc errorDocument
			got.decode(t, &doc)
			if got.exit == 0 || c.exit > 0 && got.exit != c.exit || !strings.Contains(got.stderr, c.says) || doc.Error.Exit != got.exit ||
				!strings.Contains(got.stderr, "Try: ") {
				t.Errorf("exit %d, want %d saying %q:\n%.2000s", got.exit, c.exit, c.says, got.stderr)
			}
			if strings.ContainsRune(got.stderr, '\x1b') {
				t.Errorf("an escape sequence was printed: %q", got.stderr)
			}
		})
	}
	if after := m.exported(t); after != before {
		t.Errorf("a refused command changed what is stored: %d bytes, were %d", len(after), len(before))
	}
}

// TestKnowledgeCommandsWithoutStore: DATA_DIR that is a file stops those that need it, and says so.
func TestKnowledgeCommandsWithoutStore(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	if err := os.WriteFile(m.data, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"stats"}, {"export"}, {"search", "swap"}, {"neighborhood", "vm.swappiness"}, {"induce", fixture(t,
		sweepText("vm.swappiness", "vm.vfs_cache_pressure", 2))}} {
		if got := m.run(t, append([]string{"kb"}, args...)...); got.exit != 1 || !strings.Contains(got.stderr, m.data) {
			t.Errorf("%v: exit %d %s", args, got.exit, got.stderr)
		}
	}
}

// TestExportTravels: what one machine learned another has after an import, to the byte, and again changes nothing.
func TestExportTravels(t *testing.T) {
	t.Parallel()
	m, other := newMachine(t, nil), newMachine(t, nil)
	if got := m.run(t, "kb", "induce", fixture(t, sweepText("vm.swappiness", "vm.dirty_ratio", 2)), "--source", "lab"); got.exit != 0 ||
		!strings.Contains(got.stdout, "synergy") {
		t.Fatalf("exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
	file := filepath.Join(t.TempDir(), "knowledge.jsonl")
	if got := m.run(t, "kb", "export", file); got.exit != 0 || !strings.Contains(got.stdout, "written") {
		t.Fatalf("%+v", got)
	}
	for range 2 {
		if got := other.run(t, "kb", "import", file); got.exit != 0 || !strings.Contains(got.stdout, "Taken in") {
			t.Fatalf("%+v", got)
		}
		want, err := os.ReadFile(file)
		if err != nil || other.exported(t) != string(want) {
			t.Errorf("the other machine exports something else (%v)", err)
		}
	}
	var doc edgeDocument
	other.run(t, "kb", "show", "vm.dirty_ratio", "synergizes_with", "vm.swappiness", "--json").decode(t, &doc)
	if len(doc.History) != 1 || !strings.Contains(doc.Edge.Source, "lab") || doc.Edge.Evidence < 5.9 {
		t.Errorf("%+v", doc)
	}
}

// TestKnowledgePagesFitATerminal of 80 columns, and search answers well within a second.
func TestKnowledgePagesFitATerminal(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	if got := m.run(t, "kb", "induce", fixture(t, sweepText("net.ipv4.tcp_fin_timeout", "net.core.somaxconn", 2))); got.exit != 0 {
		t.Fatalf("%+v", got)
	}
	for _, args := range [][]string{{"search", "connections reset when traffic spikes"}, {"neighborhood", "vm.swappiness"},
		{"neighborhood", "net.core.somaxconn"}, {"path", "accept_queue_overflow", "net.ipv4.tcp_max_syn_backlog"}, {"stats"},
		{"show", "swapping_in_and_out"}, {"show", "net.core.somaxconn", "synergizes_with", "net.ipv4.tcp_fin_timeout"},
		{"induce", fixture(t, sweepText("net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_max_syn_backlog", 1))}} {
		out := m.onTerminal(t, 80, append([]string{"kb"}, args...)...)
		if out == "" {
			t.Errorf("%v printed nothing", args)
		}
		for line := range strings.Lines(out) {
			if n := len([]rune(strings.TrimRight(line, "\r\n"))); n > 80 {
				t.Errorf("%v: a line of %d columns: %s", args, n, line)
			}
		}
	}
}

// onTerminal runs a command whose standard output is a terminal.
func (m *machine) onTerminal(t *testing.T, columns uint16, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs a terminal device: ", err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip("needs a terminal device: ", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip("needs a terminal device: ", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs a terminal device: ", err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	text := make(chan string)
	go func() {
		var all bytes.Buffer
		_, _ = all.ReadFrom(master) // ends with EIO when the last writer closes
		text <- all.String()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var errs bytes.Buffer
	exit := run(ctx, &app{args: append([]string{"--root", m.root, "--data-dir", m.data}, args...), stdin: strings.NewReader(""),
		stdout: slave, stderr: &errs, env: m.env, now: time.Now, exe: binary})
	slave.Close()
	if exit != 0 {
		t.Errorf("%v: exit %d %s", args, exit, &errs)
	}
	return <-text
}

// TestKnowledgeDocumentsHaveEveryList: a list without anything is empty, never null.
func TestKnowledgeDocumentsHaveEveryList(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	for _, args := range [][]string{{"search", "zzzzqqqq"}, {"path", "fact:swap", "vm.swappiness", "--type", "typical_of"}, {"neighborhood", "vm.swappiness", "--type", "typical_of"},
		{"show", "swapping_in_and_out", "relieves", "vm.swappiness"}} {
		got := m.run(t, append([]string{"kb"}, append(args, "--json")...)...)
		var doc map[string]json.RawMessage
		got.decode(t, &doc)
		for field, v := range doc {
			if string(v) == "null" {
				t.Errorf("%v: %s is null", args, field)
			}
		}
		if got.exit != 0 {
			t.Errorf("%v: exit %d %s", args, got.exit, got.stderr)
		}
	}
	var stats statsDocument
	m.run(t, "kb", "stats", "--json").decode(t, &stats)
	if stats.Nodes[string(tune.NodeTunable)] < 140 || stats.Sourced < 250 || stats.StoreKind != "sqlite" || stats.Traces != 0 {
		t.Errorf("%+v", stats)
	}
}
