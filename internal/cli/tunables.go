package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
)

// tunableRow is one catalogue entry as tunables --json lists it.
type tunableRow struct {
	Name        string           `json:"name"`
	Domain      string           `json:"domain"`
	Scope       tune.Scope       `json:"scope"`
	Type        tune.Kind        `json:"type"`
	Unit        string           `json:"unit"`
	TakesEffect tune.TakesEffect `json:"takes_effect"`
	Risk        tune.Risk        `json:"risk"`
	Protected   bool             `json:"protected,omitempty"`
	Summary     string           `json:"summary"`
	Instances   []instanceRow    `json:"instances"`
}

// instanceRow is one tunable on one target of this host.
type instanceRow struct {
	Name   string     `json:"name"`
	Target string     `json:"target"`
	Live   tune.Value `json:"live,omitempty"`
	Reason string     `json:"reason,omitempty"` // why there is no live value
}

type tunablesDocument struct {
	Tunables []tunableRow `json:"tunables"`
}

// tunableFilter chooses entries of the list.
type tunableFilter struct{ text, domain, scope string }

func (f tunableFilter) takes(t *tune.Tunable) bool {
	if f.domain != "" && t.Domain != f.domain || f.scope != "" && string(t.Scope) != f.scope {
		return false
	}
	text := strings.ToLower(f.text)
	return strings.Contains(strings.ToLower(t.Name+" "+strings.Join(t.Aliases, " ")+" "+t.Summary), text)
}

// check refuses a domain or scope that no entry has: an empty list would look like an answer.
func (f tunableFilter) check(all []*tune.Tunable) error {
	domains, scopes := map[string]bool{}, map[string]bool{}
	for _, t := range all {
		domains[t.Domain], scopes[string(t.Scope)] = true, true
	}
	if f.domain != "" && !domains[f.domain] {
		return usage("read --domain", f.domain, "choose one of "+strings.Join(slices.Sorted(maps.Keys(domains)), ", "), "there is no such domain")
	}
	if f.scope != "" && !scopes[f.scope] {
		return usage("read --scope", f.scope, "choose one of "+strings.Join(slices.Sorted(maps.Keys(scopes)), ", "), "there is no such scope")
	}
	return nil
}

func (a *app) tunablesCommand() *cobra.Command {
	var filter tunableFilter
	cmd := &cobra.Command{
		Use:   "tunables [NAME[@TARGET]]",
		Short: "list the tunables and their live values, or explain one",
		Example: "  semantos tunables --filter rmem\n  semantos tunables net.ipv4.tcp_rmem\n" +
			"  semantos tunables block/vda/queue/read_ahead_kb",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.openRooms()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.explainTunable(r, args[0])
			}
			return a.listTunables(r, filter)
		},
	}
	cmd.Flags().StringVar(&filter.text, "filter", "", "only those with this text in name or summary")
	cmd.Flags().StringVar(&filter.domain, "domain", "", "only those of this domain (vm, tcp, ...)")
	cmd.Flags().StringVar(&filter.scope, "scope", "", "only those of this scope (host, netns, device, ...)")
	return cmd
}

func (a *app) listTunables(r *rooms, filter tunableFilter) error {
	if err := filter.check(r.cat.All()); err != nil {
		return err
	}
	doc := tunablesDocument{Tunables: []tunableRow{}}
	for _, t := range r.cat.All() {
		if filter.takes(t) {
			doc.Tunables = append(doc.Tunables, tunableRow{
				Name: t.Name, Domain: t.Domain, Scope: t.Scope, Type: t.Kind, Unit: t.Unit, TakesEffect: t.TakesEffect,
				Risk: t.Risk, Protected: t.Protected, Summary: t.Summary, Instances: r.instances(t),
			})
		}
	}
	return a.print(doc, func() {
		rows := make([][]string, len(doc.Tunables))
		for i, t := range doc.Tunables {
			rows[i] = []string{t.Name, string(t.Scope), string(t.Risk), liveText(t.Instances)}
		}
		table(a.stdout, []string{"NAME", "SCOPE", "RISK", "LIVE"}, rows)
		fmt.Fprintf(a.stdout, "%d tunables. semantos tunables NAME explains one.\n", len(rows))
	})
}

// instances reads a tunable on every target of its own this host has: devices for a templated one,
// else the host or our own namespace. Sockets, cgroups and processes are too many to list: none.
func (r *rooms) instances(t *tune.Tunable) []instanceRow {
	rows := []instanceRow{}
	targets := []string{""}
	if t.Templated() {
		var err error
		if targets, err = r.host.Targets(t); err != nil || len(targets) == 0 {
			return rows
		}
	} else if t.Scope != tune.ScopeHost && t.Scope != tune.ScopeNetns {
		return rows
	}
	for _, target := range targets {
		row := instanceRow{Name: t.Instance(target), Target: target}
		resolved, err := r.host.Resolve(t, target)
		if err == nil {
			row.Target = resolved
			row.Live, err = r.host.Read(t, resolved)
		}
		if err != nil {
			row.Reason = err.Error()
		}
		rows = append(rows, row)
	}
	return rows
}

// liveText folds the instances of a list row: one value when all agree.
func liveText(all []instanceRow) string {
	if len(all) == 0 {
		return "-"
	}
	first := all[0]
	text := string(first.Live)
	if first.Live == "" && first.Reason != "" {
		text = "- (" + shortReason(first.Reason) + ")"
	}
	if len(all) == 1 {
		return text
	}
	for _, i := range all[1:] {
		if i.Live != first.Live {
			return fmt.Sprintf("%s: %s, and %d more targets", first.Target, text, len(all)-1)
		}
	}
	return fmt.Sprintf("%s on %d targets", text, len(all))
}

// shortReason keeps the end of an error chain, which says what the kernel said.
func shortReason(reason string) string {
	parts := strings.Split(reason, ": ")
	return parts[len(parts)-1]
}
