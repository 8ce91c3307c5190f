package kb

import (
	"embed"
	"fmt"
	"sort"
	"sync"

	"gopkg.in/yaml.v3"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

//go:embed tunables/*.yaml
var tunableFiles embed.FS

//go:embed schema/tunable.schema.json
var tunableSchema []byte

// Options say what to load beside the embedded files.
type Options struct {
	// ExtraDir is the operator's folder (--catalog-dir), "" for none. Its *.yaml and those of its
	// tunables/ folder hold tunables, invariants and edges; those of rules/ hold rules.
	ExtraDir string
	// Protected names are never written: names, instances or patterns. Limits narrow hard ranges.
	Protected []string
	Limits    []Limit
}

// Load reads the embedded catalogue and the operator's folder. When anything is wrong the error holds
// [Problems], every one with file, line and field, and nothing is loaded.
func Load(o Options) (*Catalogue, error) {
	sources, err := embeddedSources(tunableFiles, "tunables/*.yaml")
	if err != nil {
		return nil, err
	}
	var problems Problems
	if o.ExtraDir != "" {
		for _, sub := range []string{".", "tunables"} {
			extra, bad := extraSources(o.ExtraDir, sub)
			sources = append(sources, extra...)
			problems = append(problems, bad...)
		}
	}
	if err := problems.failed("load catalogue"); err != nil {
		return nil, err
	}
	c, err := load(sources)
	if err != nil {
		return nil, err
	}
	return c, c.restrict(o)
}

func load(sources []source) (*Catalogue, error) {
	env, err := expr.New()
	if err != nil {
		return nil, err
	}
	sh, err := newShape(tunableSchema)
	if err != nil {
		return nil, err
	}
	return loadWith(env, sh, sources)
}

func loadWith(env *expr.Env, sh *shape, sources []source) (*Catalogue, error) {
	l := &loader{env: env, known: map[string]*tune.Tunable{}, where: map[string]tune.Pos{}}
	for i, p := range parseAll(sh, sources) {
		l.read(p, sources[i].embedded)
	}
	l.build()
	if err := l.problems.failed("load catalogue"); err != nil {
		return nil, err
	}
	return newCatalogue(env, l), nil
}

// loader gathers every file before it judges references, so that files may name each other's entries.
type loader struct {
	env        *expr.Env
	entries    []*entry
	narrowings []*entry
	invariants []invariant
	edges      []tune.Edge
	ends       []edgeEnd
	known      map[string]*tune.Tunable // nil for an entry that has problems of its own
	where      map[string]tune.Pos
	problems   Problems
}

// parsed is a file before its entries are judged: a document, or what kept it from being one.
type parsed struct {
	doc      *document
	problems Problems
}

// parseAll reads the files side by side: parsing and the schema are most of a command's start.
func parseAll(sh *shape, sources []source) []parsed {
	out := make([]parsed, len(sources))
	var wg sync.WaitGroup
	for i, s := range sources {
		wg.Go(func() {
			d, problems := parseDocument(s)
			if len(problems) == 0 {
				problems = sh.check(d)
			}
			out[i] = parsed{doc: d, problems: problems}
		})
	}
	wg.Wait()
	return out
}

func (l *loader) read(p parsed, embedded bool) {
	l.problems = append(l.problems, p.problems...)
	d := p.doc
	if d == nil {
		return
	}
	broken := map[string]bool{}
	for _, q := range p.problems {
		broken[q.Entry] = true
	}
	domain := scalar(d.root, "domain")
	if _, list := child(d.root, "tunables"); list != nil && domain == "" && hasEntries(list) {
		l.problems = append(l.problems, Problem{File: d.name, Line: d.root.Line, Field: "domain", What: "missing"})
	}
	for _, n := range items(d.root, "tunables") {
		name := scalar(n, "name")
		if broken[name] || n.Kind != yaml.MappingNode {
			l.known[name] = nil
			continue
		}
		l.take(decodeEntry(d, n, domain), embedded)
	}
	l.readInvariants(d, broken)
	l.readEdges(d, broken)
}

// hasEntries reports whether a list holds a tunable of its own, which needs a domain.
func hasEntries(list *yaml.Node) bool {
	for _, n := range list.Content {
		if _, narrow := child(n, "narrow"); narrow == nil {
			return true
		}
	}
	return false
}

func (l *loader) take(e *entry, embedded bool) {
	if e.narrow != nil {
		if embedded {
			e.add("narrow", "an embedded entry is narrowed where it stands", nil)
			l.problems = append(l.problems, e.problems...)
		}
		l.narrowings = append(l.narrowings, e)
		return
	}
	checkEntry(e, l.env)
	l.claim(e, e.tunable.Name, "name")
	for _, a := range e.tunable.Aliases {
		l.claim(e, a, "aliases")
	}
	l.entries = append(l.entries, e)
}

// claim gives a name to an entry; a name or alias belongs to one entry only.
func (l *loader) claim(e *entry, name, field string) {
	if at, taken := l.where[name]; taken {
		e.addf(field, nil, "%q is already taken at %s", name, at)
		return
	}
	l.where[name] = e.tunable.Pos
	if field == "name" {
		l.known[name] = e.tunable
	}
}

// build resolves references and applies the narrowings.
func (l *loader) build() {
	lookup := func(name string) (*tune.Tunable, bool) {
		t, ok := l.known[name]
		return t, ok
	}
	byName := map[string]*entry{}
	for _, e := range l.entries {
		checkReferences(e, lookup)
		byName[e.tunable.Name] = e
	}
	for _, n := range l.narrowings {
		l.applyNarrowing(n, byName[n.tunable.Name])
		l.problems = append(l.problems, n.problems...)
	}
	for _, e := range l.entries {
		l.problems = append(l.problems, e.problems...)
	}
	l.checkInvariants(lookup)
	l.checkEdges(lookup)
	sort.Slice(l.entries, func(i, j int) bool { return l.entries[i].tunable.Name < l.entries[j].tunable.Name })
}

func (l *loader) fail(d *document, n *yaml.Node, field string, err error, format string, args ...any) {
	_, line := locate(n, []string{field})
	l.problems = append(l.problems, Problem{
		File: d.name, Line: line, Field: field, Entry: scalar(n, "name"), What: fmt.Sprintf(format, args...), Err: err,
	})
}
