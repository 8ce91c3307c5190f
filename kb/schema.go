package kb

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"gopkg.in/yaml.v3"
)

// shape checks documents against a JSON schema and says what is wrong by file, line and field.
type shape struct {
	schema *jsonschema.Schema
	print  *message.Printer
}

func newShape(schemaJSON []byte) (*shape, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaJSON))
	if err != nil {
		return nil, fmt.Errorf("parse schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	const url = "mem:///catalogue.json"
	if err := c.AddResource(url, doc); err != nil {
		return nil, fmt.Errorf("add schema: %w", err)
	}
	s, err := c.Compile(url)
	if err != nil {
		return nil, fmt.Errorf("compile schema: %w", err)
	}
	return &shape{schema: s, print: message.NewPrinter(language.English)}, nil
}

// check gives the problems of a document. One wrong field can fail several branches of the schema;
// each place is named once.
func (s *shape) check(d *document) Problems {
	err := s.schema.Validate(toJSON(d.root))
	if err == nil {
		return nil
	}
	ve, ok := err.(*jsonschema.ValidationError)
	if !ok {
		return Problems{{File: d.name, Line: 1, Field: "yaml", What: err.Error()}}
	}
	seen := map[string]bool{}
	var out Problems
	s.leaves(ve, func(p Problem) {
		if key := fmt.Sprintf("%d %s", p.Line, p.Field); !seen[key] {
			seen[key] = true
			out = append(out, p)
		}
	}, d)
	return out.sorted()
}

func (s *shape) leaves(e *jsonschema.ValidationError, add func(Problem), d *document) {
	if k, ok := e.ErrorKind.(*kind.AnyOf); ok && k != nil || isOneOf(e) {
		add(s.problem(d, e.InstanceLocation, "", s.widest(e)))
		return
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		sort.Strings(k.Properties)
		for _, name := range k.Properties {
			p := s.problem(d, append(append([]string{}, e.InstanceLocation...), name), "", "unknown field")
			add(p)
		}
	case *kind.Required:
		for _, name := range k.Missing {
			add(s.problem(d, e.InstanceLocation, name, "missing"))
		}
	default:
		if len(e.Causes) == 0 {
			add(s.problem(d, e.InstanceLocation, "", e.ErrorKind.LocalizedString(s.print)))
		}
	}
	for _, c := range e.Causes {
		s.leaves(c, add, d)
	}
}

func isOneOf(e *jsonschema.ValidationError) bool {
	_, ok := e.ErrorKind.(*kind.OneOf)
	return ok
}

// widest joins what each branch of an alternative wants.
func (s *shape) widest(e *jsonschema.ValidationError) string {
	var says []string
	var walk func(*jsonschema.ValidationError)
	walk = func(c *jsonschema.ValidationError) {
		if len(c.Causes) == 0 {
			says = append(says, c.ErrorKind.LocalizedString(s.print))
		}
		for _, x := range c.Causes {
			walk(x)
		}
	}
	walk(e)
	return strings.Join(says, "; or ")
}

func (s *shape) problem(d *document, path []string, missing, what string) Problem {
	_, line := locate(d.root, path)
	field := missing
	if field == "" {
		field = fieldName(path)
	}
	if field == "" {
		field = "yaml"
	}
	return Problem{File: d.name, Line: line, Field: field, Entry: entryName(d.root, path), What: what}
}

// fieldName is the path inside the entry: "hard.min", "affects[1].sign".
func fieldName(path []string) string {
	if len(path) > 2 {
		path = path[2:]
	}
	var b strings.Builder
	for _, p := range path {
		if _, err := strconv.Atoi(p); err == nil {
			b.WriteString("[" + p + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(p)
	}
	return b.String()
}

func entryName(root *yaml.Node, path []string) string {
	if len(path) < 2 {
		return ""
	}
	n, _ := locate(root, path[:2])
	return scalar(n, "name")
}
