package vector

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/viterin/vek/vek32"
)

// TestPeer is the Go side of scripts/vectorbench: the script writes vectors to VECTORBENCH_DIR,
// starts this test, and sends one JSON line a run; the answer is one JSON line. So both sides are
// timed in turns on the same vectors, questions and processor.
func TestPeer(t *testing.T) {
	dir := os.Getenv("VECTORBENCH_DIR")
	if dir == "" {
		t.Skip("VECTORBENCH_DIR is not set: scripts/vectorbench starts this")
	}
	runtime.GOMAXPROCS(1)
	p := newPeer(t, dir)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var ask peerAsk
		if err := json.Unmarshal(in.Bytes(), &ask); err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(p.answer(t, ask))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("PEER %s\n", out)
	}
}

type peerAsk struct {
	Do    string // "build" or "search"
	Kind  string // exact, graph, coder, float, vek
	Width int    // of a walk
	From  int    // first query
	Count int    // queries
}

type peerReply struct {
	Seconds float64 // of the build, or of one query
	MiB     float64 // heap held after the build, rows included
	Plan    int
	Scored  float64 // rows a walk scored, for each query
	Answers [][]int // row numbers
}

type peer struct {
	rows    *rows
	queries [][]float32
	walkers map[string]walker
	s       *scratch
	scored  int
}

func readVectors(t *testing.T, path string, dim int) [][]float32 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]float32
	for at := 0; at+4*dim <= len(b); at += 4 * dim {
		v := make([]float32, dim)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[at+4*i:]))
		}
		out = append(out, v)
	}
	return out
}

func newPeer(t *testing.T, dir string) *peer {
	const dim = 256
	p := &peer{rows: newRows(detect(), dim), walkers: map[string]walker{}, s: &scratch{unit: make([]float32, dim)}}
	unit := make([]float32, dim)
	for i, v := range readVectors(t, filepath.Join(dir, "rows.f32"), dim) {
		if err := normalise(unit, v); err != nil {
			t.Fatal(err)
		}
		p.rows.put(name(i), unit)
	}
	p.queries = readVectors(t, filepath.Join(dir, "queries.f32"), dim)
	return p
}

func (p *peer) answer(t *testing.T, ask peerAsk) peerReply {
	if ask.Do == "build" {
		return p.build(t, ask.Kind)
	}
	out := peerReply{Answers: make([][]int, ask.Count)}
	start := time.Now()
	for i := range ask.Count {
		out.Answers[i] = p.search(t, ask, p.queries[ask.From+i])
		out.Scored += float64(p.scored) / float64(ask.Count)
	}
	out.Seconds = time.Since(start).Seconds() / float64(ask.Count)
	return out
}

func (p *peer) build(t *testing.T, kind string) peerReply {
	var w walker = newGraph()
	if kind == KindCoder {
		w = newCoder()
	}
	before := heap()
	start := time.Now()
	w, plan, err := w.extended(context.Background(), p.rows.view, 0)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start).Seconds()
	p.walkers[kind] = w
	return peerReply{Seconds: took, MiB: heap() - before, Plan: plan.width}
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

func (p *peer) search(t *testing.T, ask peerAsk, q []float32) []int {
	const k = 10
	s, v := p.s, &p.rows.view
	if err := normalise(s.unit, q); err != nil {
		t.Fatal(err)
	}
	s.prepare(v.width, k)
	switch ask.Kind {
	case KindExact:
		v.scan(s, 0, v.n, nil)
	case "float", "vek":
		dot := v.kern.dot
		if ask.Kind == "vek" {
			dot = vek32.Dot
		}
		s.pick.reset(k, 0)
		for slot := range uint32(v.n) {
			if d := dot(s.unit, v.float(slot)); d >= s.pick.floor {
				s.pick.offer(d, 0, slot)
			}
		}
	default:
		var err error
		if p.scored, err = p.walkers[ask.Kind].walk(s, ask.Width); err != nil {
			t.Fatal(err)
		}
		s.offerPool(v, p.walkers[ask.Kind], nil)
	}
	var out []int
	for _, h := range s.pick.nearest(v, s.unit) {
		out = append(out, int(h.slot))
	}
	return out
}

// TestWriteVectors writes the vectors the script works on: VECTORBENCH_DATA is "clustered" or
// "uniform", a number of rows and a number of queries.
func TestWriteVectors(t *testing.T) {
	dir, data := os.Getenv("VECTORBENCH_DIR"), os.Getenv("VECTORBENCH_DATA")
	if dir == "" || data == "" {
		t.Skip("VECTORBENCH_DIR and VECTORBENCH_DATA are not set: scripts/vectorbench starts this")
	}
	var sort string
	var n, queries int
	if _, err := fmt.Sscan(data, &sort, &n, &queries); err != nil {
		t.Fatal(err)
	}
	draw := clustered
	if strings.HasPrefix(sort, "uniform") {
		draw = uniform
	}
	rows, qs := draw(1, n, queries, 256)
	for file, vs := range map[string][][]float32{"rows.f32": rows, "queries.f32": qs} {
		var b []byte
		for _, v := range vs {
			for _, x := range v {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
		}
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
