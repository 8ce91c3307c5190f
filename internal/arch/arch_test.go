package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "semantos/"

// rooms never import each other; a room imports its own children.
var rooms = []string{"telemetry", "ebpf", "kb", "reasoner", "safety", "console", "web", "workloads"}

// shared says which internal packages a room may import beside internal/tune.
var shared = map[string][]string{
	"telemetry": {"internal/host", "ebpf"},
	"safety":    {"internal/host"},
	"console":   {"web"},
	"kb":        {"internal/expr"},
	"reasoner":  {"internal/expr"},
}

// fences keep a third-party or dangerous package to the places that own it.
var fences = map[string][]string{
	"github.com/labstack/echo":       {"console"},
	"github.com/neo4j/":              {"kb/neo4j"},
	"github.com/coder/hnsw":          {"kb/vector"},
	"github.com/tmc/langchaingo":     {"reasoner/llm", "kb/embed"},
	"github.com/cilium/ebpf":         {"ebpf"},
	"github.com/prometheus/procfs":   {"telemetry"},
	"github.com/spf13/cobra":         {"internal/cli", "internal/gen"},
	"github.com/google/cel-go":       {"internal/expr"},
	"modernc.org/sqlite":             {"kb/sqlite"},
	"net/http":                       {"console", "internal/cli", "safety/alert", "workloads", "kb/embed", "ebpf/reqlat"},
	"os/exec":                        {"workloads", "safety/guard", "kb/neo4j/neo4jtest"}, // the last starts a server for tests
	"github.com/vishvananda/netlink": {"internal/host", "telemetry"},
}

type file struct {
	path, dir string // below the module's root
	test      bool
	ast       *ast.File
	src       []byte
}

func load(t *testing.T) []file {
	t.Helper()
	root := "../.."
	var files []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") {
			return err
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), p, src, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		// A package whose name ends in test serves tests only, and may do what they may.
		test := strings.HasSuffix(rel, "_test.go") || strings.HasSuffix(parsed.Name.Name, "test")
		files = append(files, file{rel, filepath.Dir(rel), test, parsed, src})
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("read the tree: %d files, %v", len(files), err)
	}
	return files
}

func room(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	for _, r := range rooms {
		if r == first {
			return r
		}
	}
	return ""
}

func under(dir string, places []string) bool {
	for _, p := range places {
		if dir == p || strings.HasPrefix(dir, p+"/") {
			return true
		}
	}
	return false
}

func TestImports(t *testing.T) {
	for _, f := range load(t) {
		for _, imp := range f.ast.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			if local, ok := strings.CutPrefix(path, module); ok {
				checkLocal(t, f, local)
			}
			for pkg, places := range fences {
				if strings.HasPrefix(path, pkg) && !under(f.dir, places) && !f.test {
					t.Errorf("%s imports %s, which stays in %v", f.path, path, places)
				}
			}
			if f.dir == "internal/tune" && strings.Contains(path, ".") && !f.test {
				t.Errorf("%s imports %s; tune has the standard library only", f.path, path)
			}
		}
	}
}

func checkLocal(t *testing.T, f file, imported string) {
	if imported == "internal/tune" || f.test && (imported == "internal/host" || imported == "internal/host/hosttest") {
		return
	}
	from, to := room(f.dir), room(imported)
	// A test of the guard has the kernel tell who else writes, as internal/cli arranges it; the room itself
	// knows the interface alone.
	if f.test && f.dir == "safety/guard" && imported == "ebpf/writers" {
		return
	}
	// An outside test of a room may hold it against the data it works on, as the reasoner's does with
	// the shipped rules; the room itself never sees that import.
	if strings.HasSuffix(f.ast.Name.Name, "_test") && (imported == "kb" || imported == "telemetry") {
		return
	}
	switch {
	case f.dir == ".":
		if imported != "internal/cli" {
			t.Errorf("%s imports %s; main calls internal/cli, nothing else", f.path, imported)
		}
	case from != "" && from == to: // a room's own children
	case from != "":
		if !under(imported, shared[from]) {
			t.Errorf("%s imports %s; rooms meet in internal/cli only", f.path, imported)
		}
	case to != "" && !under(f.dir, []string{"internal/cli", "internal/gen"}):
		t.Errorf("%s imports %s; only internal/cli imports rooms", f.path, imported)
	case f.dir == "internal/tune":
		t.Errorf("%s imports %s; tune imports nothing of the house", f.path, imported)
	}
}

func TestFiles(t *testing.T) {
	documented := map[string]bool{}
	dirs := map[string]bool{}
	for _, f := range load(t) {
		lines := bytes.Count(f.src, []byte("\n"))
		generated := ast.IsGenerated(f.ast)
		if wall := map[bool]int{false: 500, true: 800}[f.test]; lines > wall && !generated {
			t.Errorf("%s has %d lines; the wall is %d", f.path, lines, wall)
		}
		if !f.test {
			dirs[f.dir] = true
			documented[f.dir] = documented[f.dir] || f.ast.Doc != nil
		}
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !generated {
				t.Errorf("%s has an init function", f.path)
			}
		}
	}
	for dir := range dirs {
		if dir != "." && !documented[dir] {
			t.Errorf("package %s has no package comment", dir)
		}
		if base := filepath.Base(dir); base == "utils" || base == "util" || base == "common" || base == "helpers" {
			t.Errorf("package %s: name it for what it owns", dir)
		}
	}
}

// TestNoExit: nothing below main ends the process by itself.
func TestNoExit(t *testing.T) {
	for _, f := range load(t) {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "panic" {
				t.Errorf("%s calls panic", f.path)
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
				pkg, _ := sel.X.(*ast.Ident)
				if pkg != nil && (pkg.Name == "os" && sel.Sel.Name == "Exit" || pkg.Name == "log" && strings.HasPrefix(sel.Sel.Name, "Fatal")) {
					t.Errorf("%s calls %s.%s", f.path, pkg.Name, sel.Sel.Name)
				}
			}
			return true
		})
	}
}
