package kb

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// document is one parsed file: its root mapping and the names to print.
type document struct {
	source
	root *yaml.Node
}

// yamlLine finds the line in a message of the YAML parser.
var yamlLine = regexp.MustCompile(`line (\d+)`)

// parseDocument reads one YAML document. Aliases, merge keys and doubled keys are refused: an entry
// says what it is in its own lines.
func parseDocument(s source) (*document, Problems) {
	var n yaml.Node
	if err := yaml.Unmarshal(s.data, &n); err != nil {
		line := 1
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
		}
		return nil, Problems{{File: s.name, Line: line, Field: "yaml", What: strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	if len(n.Content) == 0 || n.Content[0].Kind != yaml.MappingNode {
		return nil, Problems{{File: s.name, Line: 1, Field: "yaml", What: "is not a mapping with domain and tunables"}}
	}
	d := &document{source: s, root: n.Content[0]}
	if ps := d.plain(d.root); len(ps) > 0 {
		return nil, ps
	}
	return d, nil
}

func (d *document) plain(n *yaml.Node) Problems {
	var out Problems
	add := func(at *yaml.Node, field, what string) {
		out = append(out, Problem{File: d.name, Line: at.Line, Field: field, What: what})
	}
	switch n.Kind {
	case yaml.AliasNode:
		add(n, "*"+n.Value, "aliases are not allowed: write the value out")
	case yaml.MappingNode:
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if first, ok := seen[k.Value]; ok {
				add(k, k.Value, fmt.Sprintf("given twice, first in line %d", first))
			}
			seen[k.Value] = k.Line
			out = append(out, d.plain(n.Content[i+1])...)
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			out = append(out, d.plain(c)...)
		}
	}
	return out
}

// plainNumber is a number as JSON spells it; others (hexadecimal, octal) stay text.
var plainNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)

// toJSON gives the value the JSON schema judges.
func toJSON(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = toJSON(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			list = append(list, toJSON(c))
		}
		return list
	}
	switch tag := n.ShortTag(); {
	case tag == "!!null":
		return nil
	case tag == "!!bool":
		return n.Value == "true"
	case (tag == "!!int" || tag == "!!float") && plainNumber.MatchString(n.Value):
		return json.Number(n.Value)
	}
	return n.Value
}

// child gives the value of a mapping's key, and the key itself, which carries the line to name.
func child(n *yaml.Node, key string) (k, v *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// locate walks a JSON path from the root and gives the node there and the line of its key.
func locate(root *yaml.Node, path []string) (*yaml.Node, int) {
	n, line := root, root.Line
	for _, p := range path {
		if n.Kind == yaml.SequenceNode {
			i, err := strconv.Atoi(p)
			if err != nil || i < 0 || i >= len(n.Content) {
				return n, line
			}
			n = n.Content[i]
			line = n.Line
			continue
		}
		k, v := child(n, p)
		if v == nil {
			return n, line
		}
		n, line = v, k.Line
	}
	return n, line
}

func scalar(n *yaml.Node, key string) string {
	if _, v := child(n, key); v != nil {
		return v.Value
	}
	return ""
}

func isTrue(n *yaml.Node, key string) bool { return scalar(n, key) == "true" }

// items gives a key's values: the elements of a list, or the one value itself.
func items(n *yaml.Node, key string) []*yaml.Node {
	_, v := child(n, key)
	switch {
	case v == nil:
		return nil
	case v.Kind == yaml.SequenceNode:
		return v.Content
	default:
		return []*yaml.Node{v}
	}
}

func texts(n *yaml.Node, key string) []string {
	var out []string
	for _, v := range items(n, key) {
		out = append(out, v.Value)
	}
	return out
}

func number(n *yaml.Node, key string) float64 {
	f, _ := strconv.ParseFloat(scalar(n, key), 64)
	return f
}
