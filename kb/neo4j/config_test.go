package neo4j

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb/neo4j/neo4jtest"
)

func TestUnusableConfiguration(t *testing.T) {
	const secret = "hunter2hunter2"
	for uri, says := range map[string]string{
		"":                          "no scheme",
		"localhost":                 "no scheme",
		"http://localhost:7474":     `"http"`,
		"redis://localhost":         `"redis"`,
		"bolt://":                   "no host",
		"bolt://u:" + secret + "@h": "password",
		"neo4j://" + secret + "@h":  "user name",
		"bolt://h/" + secret:        "path",
		"bolt://h?p=" + secret:      "query",
		"bolt://h:" + secret:        "not an address",
		"bolt://[::1":               "not an address",
	} {
		cfg := configOf(uri, t.TempDir())
		_, err := Open(t.Context(), cfg)
		if !errors.Is(err, tune.ErrUsage) || !strings.Contains(err.Error(), says) || tune.Hint(err) == "" {
			t.Errorf("%q: got %v", uri, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the error says the password: %v", uri, err)
		}
		if entries, _ := os.ReadDir(cfg.Spool); len(entries) > 0 {
			t.Errorf("%q: a spool was made", uri)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), configOf("bolt://127.0.0.1:1", file)); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("a spool that is a file: %v", err)
	}
}

// recorder keeps everything that is logged, at every level.
type recorder struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func TestWrongPassword(t *testing.T) {
	srv := server(t)
	var log recorder
	cfg := configOf(srv.URI(), t.TempDir())
	cfg.Pass = "wrong-and-secret"
	cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 8}))
	var s *Store
	bounded(t, "opening", 5*time.Second, func() { s = openStore(t, cfg) })
	st := reaches(t, s, Unauthorised)
	bounded(t, "writing", time.Second, func() { save(t, s, ends()) })
	if nodes, err := s.Nodes(t.Context()); err != nil || len(nodes) != 2 {
		t.Errorf("read back: %v, %v", nodes, err)
	}
	_, err := s.StrongestPath(t.Context(), "a", "b")
	if err == nil {
		t.Error("a question was answered")
	}
	time.Sleep(time.Second) // some more tries
	for _, text := range []string{st.Reason, s.State().Reason, err.Error(), tune.Hint(err), log.String()} {
		if strings.Contains(text, cfg.Pass) {
			t.Errorf("the password is in %q", text)
		}
	}
	if !strings.Contains(st.Reason, "NEO4J_PASS") || !strings.Contains(log.String(), "unauthorised") {
		t.Errorf("reason %q, log %q", st.Reason, log.String())
	}
	if n := strings.Count(log.String(), "\n"); n > 2 {
		t.Errorf("%d lines were logged for one state", n)
	}
	spool := cfg.Spool
	s.Close()
	cfg = configOf(srv.URI(), spool)
	right := openStore(t, cfg)
	reaches(t, right, OK)
	drained(t, right)
	if rows := srv.Query(t, "MATCH (n:SemantosNode) RETURN n.id", nil); len(rows) != 2 {
		t.Errorf("with the right password %d nodes arrived", len(rows))
	}
}

func TestScrub(t *testing.T) {
	s := &Store{cfg: Config{Pass: neo4jtest.Pass}}
	if got := s.scrub("it said\n " + neo4jtest.Pass + "!"); got != "it said [password]!" {
		t.Errorf("got %q", got)
	}
}

// TestStatementsAreConstants holds that data can reach Neo4j as parameters only: nothing but a constant
// becomes a statement, and the driver is called in one place.
func TestStatementsAreConstants(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	constants, runs := 0, 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "cypher" {
					t.Errorf("%s: something is converted to a statement", name)
				}
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && (sel.Sel.Name == "Run" || sel.Sel.Name == "ExecuteQuery") {
					runs++
				}
			case *ast.BinaryExpr:
				for _, side := range []ast.Expr{n.X, n.Y} {
					if lit, ok := side.(*ast.BasicLit); ok && n.Op == token.ADD && statement(lit.Value) {
						t.Errorf("%s: a statement is put together: %s", name, lit.Value)
					}
				}
			case *ast.BasicLit:
				if n.Kind == token.STRING && statement(n.Value) {
					constants++
					if name != "cypher.go" || strings.Contains(n.Value, "%") {
						t.Errorf("%s: a statement outside cypher.go, or with a place for a format: %s", name, n.Value)
					}
				}
			}
			return true
		})
	}
	if constants < 30 || runs != 1 {
		t.Errorf("%d statements and %d calls of the driver seen; want over 30 and 1", constants, runs)
	}
}

func statement(literal string) bool {
	for _, word := range []string{"MATCH (", "MERGE (", "UNWIND $", "CREATE INDEX", "CREATE CONSTRAINT", "RETURN ", "CALL "} {
		if strings.Contains(literal, word) {
			return true
		}
	}
	return false
}
