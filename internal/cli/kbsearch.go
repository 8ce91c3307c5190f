package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"semantos/kb/graph"
	"semantos/kb/retrieve"
)

// searchDocument is what kb search --json prints.
type searchDocument struct {
	Hits []retrieve.Hit `json:"hits"`
}

// searchIndex makes the index over what the catalogue and the rules name, joined by the graph's edges.
func (a *app) searchIndex(ctx context.Context, r *rooms, g *graph.Graph) (*retrieve.Index, error) {
	docs, err := retrieve.Documents(r.cat.All(), r.rules)
	if err != nil {
		return nil, err
	}
	e, err := a.embedder()
	if err != nil {
		return nil, err
	}
	near := retrieve.Neighbours(slices.Collect(g.AllEdges()))
	x, err := retrieve.New(ctx, docs, e, near)
	if err == nil || ctx.Err() != nil {
		return x, err
	}
	a.say("note: meaning is not compared: %v", err)
	return retrieve.New(ctx, docs, nil, near)
}

func (a *app) kbSearchCommand() *cobra.Command {
	var limit int
	var by string
	cmd := &cobra.Command{
		Use:   "search TEXT...",
		Short: "find tunables and symptoms for a question in plain words",
		Long: "Ranks by words, by meaning and by what the edges of the graph lead to, fused into one list. --json prints\n" +
			"{\"hits\":[{\"kind\", \"name\", \"score\", \"why\"}]}, best first; scores compare within one answer only.",
		Example: "  semantos kb search connections reset when traffic spikes\n  semantos kb search --by keyword accept queue overflow",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usage("read --limit", fmt.Sprint(limit), "give a number from 1", "it is too small")
			}
			ranker, err := readRanker(by)
			if err != nil {
				return err
			}
			r, g, err := a.openGraph(cmd.Context())
			if err != nil {
				return err
			}
			x, err := a.searchIndex(cmd.Context(), r, g)
			if err != nil {
				return err
			}
			hits, err := x.SearchBy(cmd.Context(), ranker, strings.Join(args, " "), limit)
			if err != nil {
				return err
			}
			return a.print(searchDocument{Hits: hits}, func() { a.showHits(hits) })
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 10, "how many hits to print")
	cmd.Flags().StringVar(&by, "by", string(retrieve.Fused), "what orders them: keyword, vector, graph or fused")
	return cmd
}

// readRanker reads --by and the field of the same name; "" is fused.
func readRanker(by string) (retrieve.Ranker, error) {
	switch r := retrieve.Ranker(by); r {
	case "":
		return retrieve.Fused, nil
	case retrieve.Keyword, retrieve.Vector, retrieve.Graph, retrieve.Fused:
		return r, nil
	}
	return "", usage("search by", by, "give keyword, vector, graph or fused", "nothing is ranked by this")
}

func (a *app) showHits(hits []retrieve.Hit) {
	if len(hits) == 0 {
		fmt.Fprintln(a.stdout, "Nothing found: no tunable or symptom is near these words.")
		return
	}
	rows := make([][]string, len(hits))
	for i, h := range hits {
		rows[i] = []string{h.Kind, h.ID, fmt.Sprintf("%.2f", h.Score), oneLine(h.Why)}
	}
	table(a.stdout, []string{"KIND", "NAME", "SCORE", "WHY"}, rows)
}
