package cli

import (
	"fmt"
	"io"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"

	"semantos/internal/tune"
)

// kept is one committed tunable, ready to be written in somebody else's format.
type kept struct {
	Name   string     `json:"name"`
	Value  tune.Value `json:"value"`
	Sysctl string     `json:"sysctl,omitempty"`
	File   string     `json:"file,omitempty"`
	Note   string     `json:"note,omitempty"` // why another machine or boot cannot take it over
}

// keptFrom turns what is committed into exportable lines, sorted by name. What belongs to another
// namespace, a cgroup or a socket exists only as long as that thing does: it is named with the reason
// and left out of the lines.
func keptFrom(managed []tune.Managed, lookup func(name string) (*tune.Tunable, error), ownNetns string) []kept {
	var out []kept
	for _, m := range managed {
		if m.State != "committed" && m.State != "persisted" {
			continue
		}
		k := kept{Name: m.Tunable, Value: m.Current}
		t, err := lookup(m.Tunable)
		switch {
		case err != nil:
			k.Note = err.Error()
		case m.Scope == tune.ScopeNetns && m.Target != ownNetns:
			k.Note = "holds in the network namespace " + m.Target + " only"
		case m.Scope == tune.ScopeCgroup || m.Scope == tune.ScopeProcess || m.Scope == tune.ScopeSocket:
			k.Note = "holds for " + oneLine(m.Target) + " only"
		case t.Counterpart != "" && m.Current == "0":
			k.Note = "is zero because " + t.Counterpart + " rules"
		default:
			p := placeOf(t, m.Target, nil) // a cgroup never comes here
			k.Sysctl, k.File, k.Note = p.Sysctl, p.File, p.Why
		}
		if k.Note != "" {
			k.Sysctl, k.File = "", ""
		}
		out = append(out, k)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// exportFormats are the formats export knows, by name.
func exportFormats() map[string]func(io.Writer, []kept) error {
	return map[string]func(io.Writer, []kept) error{
		"sysctl": exportSysctl, "tuned": exportTuned, "ansible": exportAnsible,
	}
}

func exportSysctl(w io.Writer, all []kept) error {
	fmt.Fprintln(w, "# Kept by semantos. Install as /etc/sysctl.d/99-semantos.conf.")
	for _, k := range all {
		switch {
		case k.Note != "":
			fmt.Fprintf(w, "# %s = %s %s\n", k.Name, k.Value, k.Note)
		case k.Sysctl == "":
			fmt.Fprintf(w, "# %s = %s is no sysctl: echo %s > %s\n", k.Name, k.Value, quote(string(k.Value)), k.File)
		default:
			fmt.Fprintf(w, "%s = %s\n", k.Sysctl, k.Value)
		}
	}
	return nil
}

func exportTuned(w io.Writer, all []kept) error {
	fmt.Fprint(w, "# Kept by semantos. Install as /etc/tuned/semantos/tuned.conf.\n[main]\nsummary=Values semantos measured and kept\n")
	var sysctl, sysfs, notes []string
	for _, k := range all {
		switch {
		case k.Note != "":
			notes = append(notes, fmt.Sprintf("# %s = %s %s", k.Name, k.Value, k.Note))
		case k.Sysctl != "":
			sysctl = append(sysctl, fmt.Sprintf("%s=%s", k.Sysctl, k.Value))
		default:
			sysfs = append(sysfs, fmt.Sprintf("%s=%s", k.File, k.Value))
		}
	}
	section := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(w, "\n%s%s\n", title, strings.Join(lines, "\n"))
		}
	}
	section("[sysctl]\n", sysctl)
	section("[sysfs]\n", sysfs)
	section("", notes)
	return nil
}

func exportAnsible(w io.Writer, all []kept) error {
	type line struct {
		Name  string `yaml:"name,omitempty"`
		Path  string `yaml:"path,omitempty"`
		Value string `yaml:"value"`
	}
	vars := struct {
		Sysctl []line `yaml:"semantos_sysctl"`
		Sysfs  []line `yaml:"semantos_sysfs"`
	}{Sysctl: []line{}, Sysfs: []line{}}
	fmt.Fprint(w, "---\n# Kept by semantos: values for ansible.posix.sysctl, and for files of sysfs.\n")
	for _, k := range all {
		switch {
		case k.Note != "":
			fmt.Fprintf(w, "# %s = %s %s\n", k.Name, k.Value, k.Note)
		case k.Sysctl != "":
			vars.Sysctl = append(vars.Sysctl, line{Name: k.Sysctl, Value: string(k.Value)})
		default:
			vars.Sysfs = append(vars.Sysfs, line{Path: k.File, Value: string(k.Value)})
		}
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(vars); err != nil {
		return fmt.Errorf("write ansible variables: %w", err)
	}
	return enc.Close()
}
