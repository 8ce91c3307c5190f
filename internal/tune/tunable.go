package tune

import (
	"fmt"
	"strings"
	"time"
)

// Tunable is one catalogue entry (kb/tunables/*.yaml). Name may be a template: each {word} stands for
// one path segment and the words' values joined by "/" are the target ("block/{device}/queue/nr_requests",
// target "vda"; "net/{device}/queues/{queue}/rps_cpus", target "eth0/rx-0").
// For scope netns, cgroup, process and socket the name is plain and the target stands beside it.
type Tunable struct {
	Name        string      `json:"name"`
	Aliases     []string    `json:"aliases,omitempty"`
	Domain      string      `json:"domain"`
	Scope       Scope       `json:"scope"`
	Method      Method      `json:"method"`
	Path        string      `json:"path"` // below a compiled-in root, same {words} as Name; cgroup: the file's name
	Kind        Kind        `json:"type"`
	Of          Kind        `json:"of,omitempty"`       // element kind of a vector
	Arity       int         `json:"arity"`              // elements; 1 for scalars
	Elements    []string    `json:"elements,omitempty"` // names of a vector's elements
	Ordered     bool        `json:"ordered,omitempty"`  // a vector's elements must not decrease
	Unit        string      `json:"unit"`
	Values      []string    `json:"values,omitempty"`   // an enum's words
	Specials    []Special   `json:"specials,omitempty"` // sentinels with a meaning of their own
	Pattern     string      `json:"pattern,omitempty"`  // KindText: anchored regular expression
	MinKernel   string      `json:"min_kernel,omitempty"`
	MaxKernel   string      `json:"max_kernel,omitempty"` // last kernel that has it
	Default     []string    `json:"default,omitempty"`    // CEL per element over facts; kernel's own default
	Hard        []Range     `json:"hard,omitempty"`       // one, or one per element
	Safe        []SafeRange `json:"safe,omitempty"`       // one, or one per element
	Counterpart string      `json:"counterpart,omitempty"`
	AlsoChanges []string    `json:"also_changes,omitempty"`
	TakesEffect TakesEffect `json:"takes_effect"`
	SettleMS    int64       `json:"settle_ms"`
	Risk        Risk        `json:"risk"`
	Protected   bool        `json:"protected,omitempty"` // catalogued and explained, never written
	Shielded    []string    `json:"shielded,omitempty"`  // instances the operator forbids to write: PROTECTED
	Limited     bool        `json:"limited,omitempty"`   // Hard is the operator's: LIMITS
	Log         bool        `json:"log,omitempty"`       // doses and distances on the log scale
	Affects     []Affect    `json:"affects,omitempty"`
	DependsOn   []string    `json:"depends_on,omitempty"`
	Conflicts   []string    `json:"conflicts_with,omitempty"`
	Synergizes  []string    `json:"synergizes_with,omitempty"`
	Summary     string      `json:"summary"`
	Danger      string      `json:"danger,omitempty"` // what a wrong value does
	Source      string      `json:"source"`
	Pos         Pos         `json:"-"`
}

// Affect is an edge from a tunable to a signal: raising the tunable moves the signal by Sign (+1, -1).
type Affect struct {
	Signal string  `json:"signal"`
	Sign   int     `json:"sign"`
	Weight float64 `json:"weight"` // [0,1]
}

// Special is a sentinel: Value is the text as the kernel shows it. An enum of meanings for numbers
// ("0" = off, "-1" = unlimited). Rank orders it against numbers: -1 below all, +1 above all, 0 neither.
type Special struct {
	Value   string `json:"value"`
	Meaning string `json:"meaning"`
	Rank    int    `json:"rank"`
}

// Range is a closed interval of one element.
type Range struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

// SafeRange is a closed interval whose ends are CEL expressions over host facts.
type SafeRange struct {
	Min string `json:"min,omitempty"`
	Max string `json:"max,omitempty"`
}

// Pos is where an entry of a catalogue file stands.
type Pos struct {
	File string
	Line int
}

func (p Pos) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Settle is the time a written value needs until signals show it.
func (t *Tunable) Settle() time.Duration { return time.Duration(t.SettleMS) * time.Millisecond }

// Class is the part of the kernel that a tunable belongs to: effects of one class can be told from those
// of another only when they are tried one after the other. What is in no family is a class of its own.
func (t *Tunable) Class() string {
	name := t.Name
	if t.Domain == "cgroup" {
		name = strings.TrimPrefix(name, "cgroup/")
		for prefix, class := range map[string]string{"memory": ClassMemory, "cpu": ClassCPU, "io": ClassStorage, "blkio": ClassStorage} {
			if strings.HasPrefix(name, prefix) { // cpuset too
				return class
			}
		}
		return t.Domain
	}
	switch t.Domain {
	case "vm", "mm":
		return ClassMemory
	case "net-core", "net-ipv4", "net-ipv6", "conntrack", "socket":
		return ClassNet
	case "block", "fs":
		return ClassStorage
	case "sched":
		return ClassCPU
	}
	return t.Domain
}

// The classes of more than one domain.
const (
	ClassMemory  = "memory"
	ClassNet     = "net"
	ClassStorage = "storage"
	ClassCPU     = "cpu"
)

// Templated reports whether the target is part of the instance's name.
func (t *Tunable) Templated() bool { return strings.Contains(t.Name, "{") }

// Instance gives the usual spelling of this tunable on a target: the template filled in, else Name.
func (t *Tunable) Instance(target string) string { return fill(t.Name, target) }

// PathOf gives the path below the method's root on a target.
func (t *Tunable) PathOf(target string) string { return fill(t.Path, target) }

// Match reports whether name is an instance of this tunable, and its target ("" when not templated).
func (t *Tunable) Match(name string) (target string, ok bool) {
	if !t.Templated() {
		return "", name == t.Name
	}
	want, got := strings.Split(t.Name, "/"), strings.Split(name, "/")
	if len(want) != len(got) {
		return "", false
	}
	var parts []string
	for i, w := range want {
		switch {
		case strings.HasPrefix(w, "{"):
			if got[i] == "" || got[i] == "." || got[i] == ".." {
				return "", false
			}
			parts = append(parts, got[i])
		case w != got[i]:
			return "", false
		}
	}
	return strings.Join(parts, "/"), true
}

func fill(template, target string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	parts := strings.Split(target, "/")
	segs := strings.Split(template, "/")
	n := 0
	for i, s := range segs {
		if strings.HasPrefix(s, "{") && n < len(parts) {
			segs[i] = parts[n]
			n++
		}
	}
	return strings.Join(segs, "/")
}
