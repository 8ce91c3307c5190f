package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
	"semantos/kb/kbtest"
	"semantos/kb/sqlite"
	"semantos/kb/validate"
)

func store(t *testing.T) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func export(t *testing.T, s Source) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := Export(t.Context(), s, &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// filled holds things of every kind, in an order of arrival that is not theirs, and hostile names.
func filled(t *testing.T) *sqlite.Store {
	t.Helper()
	s := store(t)
	for _, n := range []int{3, 1, 2} {
		b := kbtest.Batch(n)
		twin := kbtest.Trace(n)
		twin.ID += "🐧"
		b.Traces = append(b.Traces, twin)
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	var odd validate.Batch
	for i, name := range kbtest.Names() {
		tr := kbtest.Trace(1) // all of the same time
		tr.ID, tr.Text = name, name
		odd.Nodes = append(odd.Nodes, tune.Node{ID: name, Kind: tune.NodeFact, Summary: name})
		odd.Traces = append(odd.Traces, tr)
		if i > 0 {
			odd.Edges = append(odd.Edges, kbtest.Edge(name, tune.Affects, kbtest.Names()[0], float64(i)/97))
		}
	}
	if err := s.Apply(t.Context(), odd); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRoundTripIsByteStable(t *testing.T) {
	t.Parallel()
	first := filled(t)
	want := export(t, first)
	second := store(t)
	n, err := Import(t.Context(), second, iotest.OneByteReader(bytes.NewReader(want)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Counts{Nodes: 9 + len(kbtest.Names()), Edges: 6 + len(kbtest.Names()) - 1, EdgeEvents: 9,
		Traces: 6 + len(kbtest.Names()), Rollouts: 3, Recommendations: 3}, n); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(string(want), string(export(t, second))); d != "" {
		t.Errorf("another store exports other bytes (-want +got):\n%s", d)
	}
	if _, err := Import(t.Context(), second, bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, export(t, second)) {
		t.Error("the same import again changed something")
	}
	if !bytes.Equal(want, export(t, first)) {
		t.Error("the same store exports other bytes the second time")
	}
}

func TestEmptyStore(t *testing.T) {
	t.Parallel()
	data := export(t, store(t))
	if string(data) != `{"format":"semantos-knowledge","version":1}`+"\n"+`{"kind":"end","lines":0}`+"\n" {
		t.Errorf("got %s", data)
	}
	if n, err := Import(t.Context(), store(t), bytes.NewReader(data)); err != nil || n != (Counts{}) {
		t.Errorf("%v, %v", n, err)
	}
}

const (
	head  = `{"format":"semantos-knowledge","version":1}` + "\n"
	nodeA = `{"kind":"node","node":{"id":"a","kind":"fact"}}` + "\n"
	nodeB = `{"kind":"node","node":{"id":"b","kind":"fact"}}` + "\n"
)

func edgeLine(from, typ, to, weight string) string {
	return fmt.Sprintf(`{"kind":"edge","edge":{"from":%q,"type":%q,"to":%q,"sign":1,"weight":%s,"seed":0,"evidence":0,"documented":false,"source":"x"}}`+"\n",
		from, typ, to, weight)
}

func end(n int) string { return fmt.Sprintf(`{"kind":"end","lines":%d}`+"\n", n) }

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file, line string
		is         error
	}{
		"empty":               {"", "line 1", tune.ErrUsage},
		"no header":           {nodeA + end(1), "line 1", tune.ErrUsage},
		"another format":      {`{"format":"csv","version":1}` + "\n" + end(0), "line 1", tune.ErrUsage},
		"newer version":       {`{"format":"semantos-knowledge","version":2}` + "\n" + end(0), "line 1", tune.ErrUsage},
		"header with more":    {`{"format":"semantos-knowledge","version":1,"x":1}` + "\n" + end(0), "line 1", tune.ErrUsage},
		"garbage":             {head + "\x00\x01\x02\n" + end(1), "line 2", tune.ErrUsage},
		"not UTF-8":           {head + `{"kind":"node","node":{"id":"` + "\xff" + `","kind":"fact"}}` + "\n" + end(1), "line 2", tune.ErrUsage},
		"blank line":          {head + nodeA + "\n" + end(1), "line 3", tune.ErrUsage},
		"null":                {head + "null\n" + end(1), "line 2", tune.ErrUsage},
		"unknown kind":        {head + `{"kind":"gizmo"}` + "\n" + end(1), "line 2", tune.ErrUsage},
		"unknown field":       {head + `{"kind":"node","node":{"id":"a","kind":"fact","color":1}}` + "\n" + end(1), "line 2", tune.ErrUsage},
		"unknown deep field":  {head + `{"kind":"trace","trace":{"id":"a","facts":{"nums":{}}}}` + "\n" + end(1), "line 2", tune.ErrUsage},
		"kind without thing":  {head + `{"kind":"node"}` + "\n" + end(1), "line 2", tune.ErrUsage},
		"two things":          {head + `{"kind":"node","node":{"id":"a","kind":"fact"},"lines":1}` + "\n" + end(1), "line 2", tune.ErrUsage},
		"two values":          {head + strings.TrimSpace(nodeA) + nodeB + end(1), "line 2", tune.ErrUsage},
		"advice without time": {head + `{"kind":"recommendation","recommendation":{"id":"a"}}` + "\n" + end(1), "line 2", tune.ErrUsage},
		"NaN":                 {head + nodeA + nodeB + edgeLine("a", "affects", "b", "NaN") + end(3), "line 4", tune.ErrUsage},
		"1e999":               {head + nodeA + nodeB + edgeLine("a", "affects", "b", "1e999") + end(3), "line 4", tune.ErrUsage},
		"weight 2":            {head + nodeA + nodeB + edgeLine("a", "affects", "b", "2") + end(3), "line 4", tune.ErrOutOfRange},
		"self-loop":           {head + nodeA + edgeLine("a", "affects", "a", "1") + end(2), "line 3", tune.ErrInvariant},
		"unknown end":         {head + nodeA + edgeLine("a", "affects", "c", "1") + end(2), "line 3", tune.ErrUnknown},
		"circle":              {head + nodeA + nodeB + edgeLine("a", "depends_on", "b", "1") + edgeLine("b", "depends_on", "a", "1") + end(4), "line 4", tune.ErrInvariant},
		"event of no edge": {head + nodeA + nodeB + `{"kind":"edge_event","edge_event":{"from":"a","type":"affects","to":"b","event":` +
			`{"at":"2026-01-01T00:00:00Z","observed":1,"count":1,"weight":1,"evidence":1,"why":""}}}` + "\n" + end(3), "line 4", tune.ErrUnknown},
		"long line":           {head + `{"kind":"node","node":{"id":"a","kind":"fact","summary":"` + strings.Repeat("x", 10<<20) + `"}}` + "\n" + end(1), "line 2", tune.ErrUsage},
		"long without end":    {head + strings.Repeat("x", 10<<20), "line 2", tune.ErrUsage},
		"deep":                {head + strings.Repeat("[", 1<<20) + "\n", "line 2", tune.ErrUsage},
		"cut at a line":       {head + nodeA, "line 3", tune.ErrUsage},
		"cut in a line":       {head + nodeA + nodeB[:20], "line 3", tune.ErrUsage},
		"cut before newline":  {head + nodeA + strings.TrimSpace(end(1)), "line 3", tune.ErrUsage},
		"a line missing":      {head + nodeA + end(2), "line 3", tune.ErrUsage},
		"more after the end":  {head + nodeA + end(1) + nodeB, "line 4", tune.ErrUsage},
		"bytes after the end": {head + nodeA + end(1) + "x", "line 4", tune.ErrUsage},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t)
			before := export(t, s)
			_, err := Import(t.Context(), s, strings.NewReader(tc.file))
			if !errors.Is(err, tc.is) || tune.Hint(err) == "" || !strings.Contains(err.Error(), tc.line) || len(err.Error()) > 1000 {
				t.Errorf("got %.300v (hint %q), want %s", err, tune.Hint(err), tc.line)
			}
			if !bytes.Equal(before, export(t, s)) {
				t.Error("something was stored")
			}
		})
	}
}

// TestDamagedFiles cuts a real export at every line and changes random bytes: it is refused with nothing
// stored, or what was stored is whole.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	good := export(t, filled(t))
	random := rand.New(rand.NewPCG(9, 10))
	s := store(t)
	empty := export(t, s)
	for i, c := range good {
		if c != '\n' || i == len(good)-1 {
			continue
		}
		for _, cut := range []int{i, i + 1, i + 1 + random.IntN(len(good)-i-1)} {
			if _, err := Import(t.Context(), s, bytes.NewReader(good[:cut])); !errors.Is(err, tune.ErrUsage) {
				t.Fatalf("cut at %d of %d: %v", cut, len(good), err)
			}
		}
	}
	if !bytes.Equal(empty, export(t, s)) {
		t.Error("something of a cut file was stored")
	}
	refused := 0
	for range 60 {
		bad := bytes.Clone(good)
		for range 1 + random.IntN(3) {
			bad[random.IntN(len(bad))] = byte(random.Uint32())
		}
		s := store(t)
		if _, err := Import(t.Context(), s, bytes.NewReader(bad)); err != nil {
			refused++
			if !bytes.Equal(empty, export(t, s)) {
				t.Fatalf("refused with %v, and something was stored", err)
			}
		}
	}
	if refused < 20 {
		t.Errorf("%d of 60 damaged files were refused", refused)
	}
}

func TestFailingReaderAndWriter(t *testing.T) {
	t.Parallel()
	broken := errors.New("the cable")
	s := filled(t)
	if _, err := Import(t.Context(), s, iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := Export(t.Context(), s, failing{broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// FuzzImport: no file makes it panic, and what it takes comes out again as it went in.
func FuzzImport(f *testing.F) {
	f.Add(head + nodeA + nodeB + edgeLine("a", "affects", "b", "0.5") + end(3))
	f.Add(head + end(0))
	f.Fuzz(func(t *testing.T, file string) {
		var kept sink
		if _, err := Import(t.Context(), &kept, strings.NewReader(file)); err == nil {
			if err := kept.b.Check(); err != nil {
				t.Errorf("let in: %v", err)
			}
		}
	})
}
