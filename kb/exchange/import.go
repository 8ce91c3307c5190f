package exchange

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// Sink is a store that can take an import.
type Sink interface {
	Apply(ctx context.Context, b validate.Batch) error
}

// Import adds everything in a file of [Export] to a store: what has the same id or key is replaced, the
// same line of a history is there once. The whole file is read and checked first and stored at once, so
// that an error, which names the line, means that nothing was stored. It is held in memory: about three
// times its size.
func Import(ctx context.Context, to Sink, from io.Reader) (Counts, error) {
	r := reader{in: bufio.NewReaderSize(from, 64<<10)}
	b, err := r.all(ctx)
	if err != nil {
		return Counts{}, err
	}
	if err := to.Apply(ctx, b); err != nil {
		return Counts{}, r.blame(err, b)
	}
	return countsOf(b), nil
}

type reader struct {
	in     *bufio.Reader
	number int // of the line read last, from 1

	edges, events []int // the lines of those of the batch
}

// blame names the line of what a store refused for what else is there: an edge without its node, a
// circle, an event without its edge.
func (r *reader) blame(err error, b validate.Batch) error {
	var known *tune.Error
	if !errors.As(err, &known) {
		return fmt.Errorf("import: %w", err)
	}
	at := func(from string, typ tune.EdgeType, to string) bool {
		return known.Subject == fmt.Sprintf("%q", validate.EdgeName(from, typ, to))
	}
	// Of the same edge twice, the last one holds.
	for i, e := range slices.Backward(b.Edges) {
		if at(e.From, e.Type, e.To) {
			return &tune.Error{Op: "import", Subject: fmt.Sprintf("line %d", r.edges[i]), Err: err, Hint: known.Hint}
		}
	}
	for i, e := range b.Events {
		if at(e.From, e.Type, e.To) {
			return &tune.Error{Op: "import", Subject: fmt.Sprintf("line %d", r.events[i]), Err: err, Hint: known.Hint}
		}
	}
	return fmt.Errorf("import: %w", err)
}

func (r *reader) bad(hint, format string, args ...any) error {
	return &tune.Error{Op: "import", Subject: fmt.Sprintf("line %d", r.number), Hint: hint,
		Err: fmt.Errorf("%w: %w", tune.ErrUsage, fmt.Errorf(format, args...))}
}

const (
	hintFile  = "give a file that semantos kb export wrote"
	hintWhole = "the file was cut: copy or export it again"
)

func (r *reader) all(ctx context.Context) (validate.Batch, error) {
	var b validate.Batch
	if err := r.header(); err != nil {
		return b, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return b, err
		}
		text, err := r.next()
		if errors.Is(err, io.EOF) {
			return b, r.bad(hintWhole, "the last line of an export is missing")
		}
		if err != nil {
			return b, err
		}
		var l line
		if err := strict(text, &l); err != nil {
			return b, r.bad(hintFile, "%w", err)
		}
		if l.Kind == kindEnd {
			return b, r.end(l, b)
		}
		if err := r.take(l, &b); err != nil {
			return b, err
		}
	}
}

func (r *reader) header() error {
	text, err := r.next()
	if errors.Is(err, io.EOF) {
		return r.bad(hintFile, "it is empty")
	}
	if err != nil {
		return err
	}
	var h header
	if err := strict(text, &h); err != nil || h.Format != Format {
		return r.bad(hintFile, "it is not the header of an export")
	}
	if h.Version != Version {
		return r.bad("use the semantos that wrote it, or a newer one", "the format has version %d, and this build reads %d", h.Version, Version)
	}
	return nil
}

// end demands that the number of things is right and that nothing follows.
func (r *reader) end(l line, b validate.Batch) error {
	if l.Lines == nil || *l.Lines != b.Len() || !only(l) {
		return r.bad(hintWhole, "the end does not speak of the %d lines before it", b.Len())
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		return r.bad(hintFile, "something follows the end")
	}
	return nil
}

// take checks one thing by itself and adds it.
func (r *reader) take(l line, b *validate.Batch) error {
	if !only(l) {
		return r.bad(hintFile, "it is not one thing of a known kind, but says %q", l.Kind)
	}
	var one validate.Batch
	switch l.Kind {
	case kindNode:
		one.Nodes, b.Nodes = []tune.Node{*l.Node}, append(b.Nodes, *l.Node)
	case kindEdge:
		one.Edges, b.Edges = []tune.Edge{*l.Edge}, append(b.Edges, *l.Edge)
		r.edges = append(r.edges, r.number)
	case kindEvent:
		one.Events, b.Events = []validate.Event{*l.Event}, append(b.Events, *l.Event)
		r.events = append(r.events, r.number)
	case kindTrace:
		one.Traces, b.Traces = []tune.Trace{*l.Trace}, append(b.Traces, *l.Trace)
	case kindRollout:
		one.Rollouts, b.Rollouts = []tune.Rollout{*l.Rollout}, append(b.Rollouts, *l.Rollout)
	case kindRecommendation:
		a := validate.Advice{At: *l.At, Recommendation: *l.Recommendation}
		one.Recommendations, b.Recommendations = []validate.Advice{a}, append(b.Recommendations, a)
	}
	if err := one.Check(); err != nil {
		return &tune.Error{Op: "import", Subject: fmt.Sprintf("line %d", r.number), Err: err, Hint: tune.Hint(err)}
	}
	return nil
}

// only reports whether exactly the members of the line's kind are there.
func only(l line) bool {
	want := map[kind][8]bool{
		kindNode: {0: true}, kindEdge: {1: true}, kindEvent: {2: true}, kindTrace: {3: true}, kindRollout: {4: true},
		kindRecommendation: {5: true, 6: true}, kindEnd: {7: true},
	}
	has := [8]bool{l.Node != nil, l.Edge != nil, l.Event != nil, l.Trace != nil, l.Rollout != nil, l.At != nil,
		l.Recommendation != nil, l.Lines != nil}
	wanted, known := want[l.Kind]
	return known && has == wanted
}

// next gives a line without its end. A last line without one was cut.
func (r *reader) next() ([]byte, error) {
	r.number++
	var text []byte
	for {
		part, err := r.in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case len(text) > MaxLine:
			return nil, r.bad(hintFile, "it is longer than %d bytes", MaxLine)
		case err == nil:
			return text[:len(text)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(text) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, r.bad(hintWhole, "it has no end")
		default:
			return nil, fmt.Errorf("read import: %w", err)
		}
	}
}

// strict decodes one JSON value that fills the line and has known members only.
func strict(text []byte, into any) error {
	if !utf8.Valid(text) {
		return errors.New("it is not UTF-8 text")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("it is not understood: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}
