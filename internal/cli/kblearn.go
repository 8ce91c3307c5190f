package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
	"semantos/kb/learn"
)

// inputLimit bounds what a command reads of a file or pipe.
const inputLimit = 64 << 20

// readInput reads a file, or standard input for "-", up to the limit.
func (a *app) readInput(path string) ([]byte, error) {
	in := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usage("read", path, "name a file that is there, or - for standard input", "%v", errors.Unwrap(err))
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, inputLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > inputLimit {
		return nil, usage("read", path, "split it", "it is larger than %d MiB", inputLimit>>20)
	}
	return b, nil
}

type findingsDocument struct {
	Findings []learn.Finding `json:"findings"`
}

func (a *app) kbInduceCommand() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "induce FILE",
		Short: "keep the interactions that a pairwise co-tuning sweep proves",
		Long: "Reads a sweep as JSON: {\"metric\", \"better\": \"lower\"|\"higher\", \"runs\": [{\"on\": [tunables], \"value\"}]} with runs of\n" +
			"nothing changed, of each tunable alone and of pairs, at least twice each. An interaction is the joint effect less\n" +
			"the sum of the single effects on the log scale; it is kept when its bounds, which hold for all pairs of the sweep\n" +
			"at once, exclude zero. --json prints {\"findings\": [{\"a\", \"b\", \"interaction\", \"low\", \"high\", \"runs\", \"kept\"}]}.",
		Example: "  semantos kb induce sweep.json",
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.readInput(args[0])
			if err != nil {
				return err
			}
			var sweep learn.Sweep
			if err := strictJSON(b, &sweep); err != nil {
				return usage("read sweep", args[0], "see semantos kb induce --help for its form", "%v", err)
			}
			r, err := a.openRooms()
			if err != nil {
				return err
			}
			if err := r.nameRuns(sweep); err != nil {
				return err
			}
			store, err := a.openStore(cmd.Context())
			if err != nil {
				return err
			}
			k, err := a.openKnowledge(cmd.Context(), r, store, false)
			if err != nil {
				return err
			}
			if source == "" {
				source = "sweep " + args[0]
			}
			found, err := k.Induce(cmd.Context(), sweep, learn.Options{}, source)
			if err != nil {
				return err
			}
			return a.print(findingsDocument{Findings: found}, func() { a.showFindings(found) })
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "what the edges name as their source; by default the file")
	return cmd
}

// nameRuns gives the tunables of a sweep the catalogue's names.
func (r *rooms) nameRuns(sweep learn.Sweep) error {
	for i, run := range sweep.Runs {
		for j, name := range run.On {
			t, err := r.lookup(name)
			if err != nil {
				return err
			}
			sweep.Runs[i].On[j] = t.Name
		}
	}
	return nil
}

func (a *app) showFindings(found []learn.Finding) {
	rows := make([][]string, len(found))
	for i, f := range found {
		kept := "no"
		switch {
		case f.Kept && f.Interaction > 0:
			kept = "synergy"
		case f.Kept:
			kept = "conflict"
		}
		rows[i] = []string{fmt.Sprintf("%+.3f", f.Interaction), fmt.Sprintf("%+.3f to %+.3f", f.Low, f.High), fmt.Sprint(f.Runs), kept,
			f.A + " with " + f.B}
	}
	table(a.stdout, []string{"EFFECT", "BOUNDS", "RUNS", "KEPT", "PAIR"}, rows)
}

// strictJSON decodes one value with no unknown fields and nothing behind it.
func strictJSON(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one JSON value")
	}
	return nil
}

// edgeDocument is one edge with what it was learned from, oldest first.
type edgeDocument struct {
	Edge    tune.Edge        `json:"edge"`
	History []tune.EdgeEvent `json:"history"`
}

// showEdge prints one edge as of now and its history.
func (a *app) showEdge(cmd *cobra.Command, from, typ, to string) error {
	kinds, err := readEdgeTypes([]string{typ})
	if err != nil {
		return err
	}
	r, g, err := a.openGraph(cmd.Context())
	if err != nil {
		return err
	}
	from, to = r.nodeName(from), r.nodeName(to)
	e, ok := g.Edge(from, kinds[0], to)
	if !ok {
		return &tune.Error{Op: "show edge", Subject: from + " " + typ + " " + to, Err: wrapf(tune.ErrUnknown, "no live edge of this name"),
			Hint: "semantos kb neighborhood " + from + " lists its edges"}
	}
	doc := edgeDocument{Edge: e, History: []tune.EdgeEvent{}}
	store, err := a.openHistory(cmd.Context())
	if err != nil {
		return err
	}
	if store != nil {
		if doc.History, err = store.EdgeHistory(cmd.Context(), from, kinds[0], to); err != nil && !errors.Is(err, tune.ErrUnknown) {
			return err
		}
	}
	if doc.History == nil {
		doc.History = []tune.EdgeEvent{}
	}
	return a.print(doc, func() {
		a.showEdges([]tune.Edge{e})
		for _, text := range []string{e.Why, e.Source} {
			if text != "" {
				paragraph(a.stdout, 0, "", text)
			}
		}
		if len(doc.History) == 0 {
			fmt.Fprintln(a.stdout, "Nothing was learned of it yet.")
			return
		}
		rows := make([][]string, len(doc.History))
		for i, h := range doc.History {
			rows[i] = []string{h.At.Local().Format("2006-01-02 15:04"), fmt.Sprintf("%.2f", h.Observed), fmt.Sprintf("%.2f", h.Count),
				fmt.Sprintf("%.3f", h.Weight), fmt.Sprintf("%.1f", h.Evidence), h.Why}
		}
		table(a.stdout, []string{"TIME", "OBSERVED", "COUNTED", "WEIGHT", "EVIDENCE", "WHY"}, rows)
	})
}

// statsDocument counts what semantos knows.
type statsDocument struct {
	Nodes     map[string]int `json:"nodes"` // by kind
	Edges     map[string]int `json:"edges"` // by type
	Sourced   int            `json:"edges_with_source"`
	Learned   int            `json:"edges_learned"` // with evidence left
	Retired   int            `json:"edges_retired"`
	Traces    int            `json:"traces"`
	Rollouts  int            `json:"rollouts"`
	StoreKind string         `json:"store"`
}

func (a *app) kbStatsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "count what is known: nodes, edges, outcomes",
		Long: "--json prints {\"nodes\": by kind, \"edges\": by type, \"edges_with_source\", \"edges_learned\", \"edges_retired\", \"traces\",\n" +
			"\"rollouts\", \"store\"}.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, g, err := a.openGraph(cmd.Context())
			if err != nil {
				return err
			}
			doc := statsDocument{Nodes: map[string]int{}, Edges: map[string]int{}, StoreKind: a.storeKind()}
			for n := range g.AllNodes() {
				doc.Nodes[string(n.Kind)]++
			}
			for e := range g.AllEdges() {
				doc.Edges[string(e.Type)]++
				if e.Source != "" {
					doc.Sourced++
				}
				if e.Evidence > 0 {
					doc.Learned++
				}
			}
			store, err := a.openHistory(cmd.Context())
			if err != nil {
				return err
			}
			if store != nil {
				if err := countStored(cmd.Context(), store, &doc); err != nil {
					return err
				}
			}
			return a.print(doc, func() { a.showStats(doc) })
		},
	}
}

// storeKind names where knowledge is kept.
func (a *app) storeKind() string {
	if a.cfg.Neo4jURI != "" {
		return "neo4j"
	}
	return "sqlite"
}

// counted is what countStored asks of a store.
type counted interface {
	Edges(ctx context.Context) ([]tune.Edge, error)
	EachTrace(ctx context.Context, yield func(tune.Trace) error) error
	Rollouts(ctx context.Context, limit int) ([]tune.Rollout, error)
}

func countStored(ctx context.Context, store counted, doc *statsDocument) error {
	edges, err := store.Edges(ctx)
	if err != nil {
		return err
	}
	for _, e := range edges {
		if e.Retired {
			doc.Retired++
		}
	}
	if err := store.EachTrace(ctx, func(tune.Trace) error { doc.Traces++; return nil }); err != nil {
		return err
	}
	rollouts, err := store.Rollouts(ctx, math.MaxInt32)
	doc.Rollouts = len(rollouts)
	return err
}

func (a *app) showStats(doc statsDocument) {
	list := func(title string, counts map[string]int) {
		names := make([]string, 0, len(counts))
		for n := range counts {
			names = append(names, n)
		}
		sort.Strings(names)
		rows := make([][]string, len(names))
		for i, n := range names {
			rows[i] = []string{n, fmt.Sprint(counts[n])}
		}
		table(a.stdout, []string{title, "COUNT"}, rows)
		fmt.Fprintln(a.stdout)
	}
	list("NODES", doc.Nodes)
	list("EDGES", doc.Edges)
	fmt.Fprintf(a.stdout, "%d edges name a source, %d have evidence from outcomes, %d are retired.\n", doc.Sourced, doc.Learned, doc.Retired)
	fmt.Fprintf(a.stdout, "%d outcomes and %d rollouts are kept (%s).\n", doc.Traces, doc.Rollouts, doc.StoreKind)
}
