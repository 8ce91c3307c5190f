package exchange

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// Source is a store that can be exported. Its lists are sorted, as kb/kbtest demands.
type Source interface {
	Nodes(ctx context.Context) ([]tune.Node, error)
	Edges(ctx context.Context) ([]tune.Edge, error)
	EachEdgeEvent(ctx context.Context, yield func(validate.Event) error) error
	EachTrace(ctx context.Context, yield func(tune.Trace) error) error
	Rollouts(ctx context.Context, limit int) ([]tune.Rollout, error)
	EachRecommendation(ctx context.Context, yield func(validate.Advice) error) error
}

// Export writes everything the store holds. Traces are streamed, the rest is held in memory. Writes to
// the store meanwhile are in the file or not, but the file is whole: events are read before edges and
// edges before nodes, so that what a line names is there.
func Export(ctx context.Context, from Source, to io.Writer) (Counts, error) {
	var events []validate.Event
	if err := from.EachEdgeEvent(ctx, func(e validate.Event) error { events = append(events, e); return nil }); err != nil {
		return Counts{}, err
	}
	edges, err := from.Edges(ctx)
	if err != nil {
		return Counts{}, err
	}
	nodes, err := from.Nodes(ctx)
	if err != nil {
		return Counts{}, err
	}
	w := &writer{to: bufio.NewWriterSize(to, 64<<10)}
	w.put(header{Format, Version})
	for i := range nodes {
		w.thing(&w.n.Nodes, line{Kind: kindNode, Node: &nodes[i]})
	}
	for i := range edges {
		w.thing(&w.n.Edges, line{Kind: kindEdge, Edge: &edges[i]})
	}
	for i := range events {
		w.thing(&w.n.EdgeEvents, line{Kind: kindEvent, Event: &events[i]})
	}
	if err := from.EachTrace(ctx, func(t tune.Trace) error {
		return w.thing(&w.n.Traces, line{Kind: kindTrace, Trace: &t})
	}); err != nil {
		return Counts{}, err
	}
	rollouts, err := from.Rollouts(ctx, 0)
	if err != nil {
		return Counts{}, err
	}
	for i := range rollouts {
		w.thing(&w.n.Rollouts, line{Kind: kindRollout, Rollout: &rollouts[i]})
	}
	if err := from.EachRecommendation(ctx, func(a validate.Advice) error {
		return w.thing(&w.n.Recommendations, line{Kind: kindRecommendation, At: &a.At, Recommendation: &a.Recommendation})
	}); err != nil {
		return Counts{}, err
	}
	return w.n, w.end()
}

// writer keeps the first error, and gives it at the end.
type writer struct {
	to    *bufio.Writer
	n     Counts
	lines int
	err   error
}

func (w *writer) thing(n *int, l line) error {
	*n++
	w.lines++
	w.put(l)
	return w.err
}

func (w *writer) put(v any) {
	if w.err != nil {
		return
	}
	data, err := json.Marshal(v)
	if err == nil {
		_, err = w.to.Write(append(data, '\n'))
	}
	if err != nil {
		w.err = fmt.Errorf("write export: %w", err)
	}
}

func (w *writer) end() error {
	w.put(line{Kind: kindEnd, Lines: &w.lines})
	if w.err != nil {
		return w.err
	}
	if err := w.to.Flush(); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	return nil
}
