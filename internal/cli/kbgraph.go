package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
	"semantos/kb/graph"
)

// nodeName gives the graph's name of what a person calls a tunable.
func (r *rooms) nodeName(name string) string {
	if t, _, err := r.cat.Lookup(name); err == nil {
		return t.Name
	}
	return name
}

// unknownNode prefers the catalogue's answer, which names what is spelled alike.
func (r *rooms) unknownNode(name string, err error) error {
	if _, _, better := r.cat.Lookup(name); better != nil {
		return better
	}
	return err
}

type neighborhoodDocument struct {
	Node    tune.Node       `json:"node"`
	Edges   []tune.Edge     `json:"edges"`   // those that end at the node
	Reached []graph.Reached `json:"reached"` // strongest first
}

type pathDocument struct {
	Edges    []tune.Edge `json:"edges"`
	Strength float64     `json:"strength"`
}

var edgeTypes = []tune.EdgeType{tune.DependsOn, tune.ConflictsWith, tune.SynergizesWith, tune.Relieves, tune.Affects,
	tune.PartOf, tune.TypicalOf}

// readEdgeTypes reads --type.
func readEdgeTypes(words []string) ([]tune.EdgeType, error) {
	var out []tune.EdgeType
	for _, w := range words {
		known := false
		for _, t := range edgeTypes {
			known = known || string(t) == w
		}
		if !known {
			return nil, usage("read --type", w, "give one of "+joinTypes(), "no edge is of this type")
		}
		out = append(out, tune.EdgeType(w))
	}
	return out, nil
}

func joinTypes() string {
	words := make([]string, len(edgeTypes))
	for i, t := range edgeTypes {
		words[i] = string(t)
	}
	return strings.Join(words, ", ")
}

func (a *app) kbNeighborhoodCommand() *cobra.Command {
	var depth, limit int
	var types []string
	cmd := &cobra.Command{
		Use:   "neighborhood NAME",
		Short: "list what lies near a tunable, symptom or signal, strongest first",
		Long: "Strength is the product of the weights of the strongest chain. --json prints {\"node\", \"edges\": those that end at the\n" +
			"node, \"reached\": [{\"node\", \"depth\", \"strength\", \"edge\": the last of the chain}]}.",
		Example: "  semantos kb neighborhood net.core.somaxconn --depth 2\n  semantos kb neighborhood vm.dirty_bytes --type conflicts_with",
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			allowed, err := readEdgeTypes(types)
			if err != nil {
				return err
			}
			if limit < 0 {
				return usage("read --limit", fmt.Sprint(limit), "give a number from 0 (all)", "it is too small")
			}
			r, g, err := a.openGraph(cmd.Context())
			if err != nil {
				return err
			}
			doc, err := r.around(g, args[0], graph.Around{Depth: depth, Types: allowed, Limit: limit})
			if err != nil {
				return err
			}
			return a.print(doc, func() { a.showReached(doc.Reached) })
		},
	}
	cmd.Flags().IntVar(&depth, "depth", 1, "how many edges away, 1 to 6")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many of the strongest to print; 0 prints all")
	cmd.Flags().StringSliceVar(&types, "type", nil, "only edges of this type (repeatable): "+joinTypes())
	return cmd
}

func (a *app) kbPathCommand() *cobra.Command {
	var types []string
	cmd := &cobra.Command{
		Use:   "path FROM TO",
		Short: "print the strongest chain of edges between two names",
		Long: "--json prints {\"edges\", \"strength\": the product of their weights, 0 where nothing joins the two}. An edge has from,\n" +
			"type, to, sign, weight (as of now), seed, evidence, learned, documented, why, source and updated.",
		Example: "  semantos kb path accept_queue_overflow net.ipv4.tcp_max_syn_backlog",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			allowed, err := readEdgeTypes(types)
			if err != nil {
				return err
			}
			r, g, err := a.openGraph(cmd.Context())
			if err != nil {
				return err
			}
			chain, err := r.chain(g, args[0], args[1], allowed)
			if err != nil {
				return err
			}
			return a.print(pathDocument{Edges: chain.Edges, Strength: chain.Strength}, func() {
				if chain.Strength == 0 {
					fmt.Fprintf(a.stdout, "No chain of edges joins %s and %s.\n", args[0], args[1])
					return
				}
				a.showEdges(chain.Edges)
				fmt.Fprintf(a.stdout, "Strength %.3g, the product of the weights.\n", chain.Strength)
			})
		},
	}
	cmd.Flags().StringSliceVar(&types, "type", nil, "only edges of this type (repeatable): "+joinTypes())
	return cmd
}

// around gives what lies near a node, by any of its names.
func (r *rooms) around(g *graph.Graph, called string, a graph.Around) (neighborhoodDocument, error) {
	name := r.nodeName(called)
	near, err := g.Neighborhood(name, a)
	node, known := g.Node(name)
	switch {
	case !known:
		return neighborhoodDocument{}, r.unknownNode(called, err)
	case err != nil:
		return neighborhoodDocument{}, err
	}
	doc := neighborhoodDocument{Node: node, Edges: []tune.Edge{}, Reached: near}
	for _, n := range near {
		if n.Edge.From == name || n.Edge.To == name {
			doc.Edges = append(doc.Edges, n.Edge)
		}
	}
	return doc, nil
}

// chain gives the strongest chain between two nodes, by any of their names.
func (r *rooms) chain(g *graph.Graph, from, to string, types []tune.EdgeType) (graph.Chain, error) {
	ends := []string{from, to}
	for i, called := range ends {
		ends[i] = r.nodeName(called)
		if _, ok := g.Node(ends[i]); !ok {
			_, err := g.Path(ends[i], ends[i])
			return graph.Chain{}, r.unknownNode(called, err)
		}
	}
	return g.Path(ends[0], ends[1], types...)
}

func (a *app) showReached(near []graph.Reached) {
	if len(near) == 0 {
		fmt.Fprintln(a.stdout, "No edge of these types ends here.")
		return
	}
	rows := make([][]string, len(near))
	for i, n := range near {
		e, away := n.Edge, "1 edge away"
		if n.Depth > 1 {
			away = fmt.Sprintf("%d edges away", n.Depth)
		}
		rows[i] = []string{n.Node.ID, fmt.Sprintf("%.3f", n.Strength),
			fmt.Sprintf("%s, %s: %s %s %s (%s)", n.Node.Kind, away, e.From, e.Type, e.To, signed(e))}
	}
	table(a.stdout, []string{"NAME", "STRENGTH", "LAST EDGE"}, rows)
}

func (a *app) showEdges(all []tune.Edge) {
	rows := make([][]string, len(all))
	for i, e := range all {
		rows[i] = []string{signed(e), evidenceOf(e), e.From + " " + string(e.Type) + " " + e.To}
	}
	table(a.stdout, []string{"WEIGHT", "EVIDENCE", "EDGE"}, rows)
}

func signed(e tune.Edge) string {
	if e.Sign < 0 {
		return fmt.Sprintf("-%.2f", e.Weight)
	}
	return fmt.Sprintf("+%.2f", e.Weight)
}

// evidenceOf says how much of an edge was learned.
func evidenceOf(e tune.Edge) string {
	switch {
	case e.Evidence > 0:
		return fmt.Sprintf("%.1f as of %s", e.Evidence, e.Updated.Format(time.DateOnly))
	case e.Documented:
		return "documented"
	}
	return "seed"
}

func (a *app) showRule(rule tune.Rule) {
	line := func(label, text string) {
		if text != "" {
			paragraph(a.stdout, 0, pad(label, 14), text)
		}
	}
	fmt.Fprintln(a.stdout, rule.Name)
	line("says", rule.Says)
	line("resource", rule.Resource)
	line("when", rule.When)
	line("severity", rule.Severity)
	line("shows", strings.Join(rule.Show, ", "))
	line("measure", rule.Measure.Signal+", "+rule.Measure.Better+" is better")
	for _, relief := range rule.Relief {
		for _, c := range relief.Changes {
			line("relief", fmt.Sprintf("%s %s to %s", c.Op, c.Tunable, c.Value))
		}
		line("", relief.Why)
	}
	line("source", rule.Source)
	line("file", rule.Pos.String())
}
