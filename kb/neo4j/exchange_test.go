package neo4j

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
	"semantos/kb/exchange"
	"semantos/kb/kbtest"
	"semantos/kb/sqlite"
	"semantos/kb/validate"
)

// TestExchangeWithTheEmbeddedStore: what moves from the embedded store here, to another machine through
// Neo4j, and back has the same bytes at every stop.
func TestExchangeWithTheEmbeddedStore(t *testing.T) {
	srv := server(t)
	first, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	b := kbtest.Batch(2)
	for _, name := range kbtest.Names() {
		tr := kbtest.Trace(1) // all of the same time
		tr.ID, tr.Text = name, name
		b.Nodes, b.Traces = append(b.Nodes, tune.Node{ID: name, Kind: tune.NodeFact, Summary: name}), append(b.Traces, tr)
	}
	for _, one := range []validate.Batch{b, kbtest.Batch(1)} {
		if err := first.Apply(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	want := dump(t, first)
	a := openStore(t, configOf(srv.URI(), t.TempDir()))
	reaches(t, a, OK)
	if _, err := exchange.Import(t.Context(), a, bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	drained(t, a)
	other := openStore(t, configOf(srv.URI(), t.TempDir())) // knows only what Neo4j tells it
	reaches(t, other, OK)
	fromNeo4j := dump(t, other)
	if d := cmp.Diff(string(want), string(fromNeo4j)); d != "" {
		t.Errorf("through Neo4j (-want +got):\n%s", d)
	}
	last, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if _, err := exchange.Import(t.Context(), last, bytes.NewReader(fromNeo4j)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(dump(t, last))); d != "" {
		t.Errorf("and back (-want +got):\n%s", d)
	}
}

func dump(t *testing.T, s exchange.Source) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := exchange.Export(t.Context(), s, &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
