package knowledge

import (
	"errors"
	"math"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// TestAPersonsEdge is kept with its history, decays to its seed, survives a restart, and can be said again.
func TestAPersonsEdge(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), &clock{at: day}
	k, store := open(t, dir, c)
	if _, err := k.UpsertNode(t.Context(), tune.Node{ID: "vendor.knob", Kind: tune.NodeTunable, Summary: "A switch."}, "uid 7"); err != nil {
		t.Fatal(err)
	}
	said := tune.Edge{From: "accept_queue_overflow", Type: tune.Relieves, To: "vendor.knob", Sign: 1, Weight: 0.6, Source: "measured in the lab"}
	e, err := k.UpsertEdge(t.Context(), said, "uid 7")
	if err != nil || e.Seed != 0.6 || e.Weight != 0.6 || e.Documented || e.Evidence != 0 {
		t.Fatalf("%+v, %v", e, err)
	}
	o := outcome("r", day, tune.RolledBack)
	o.Changes[0].Tunable = "vendor.knob"
	if _, err := k.Learn(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	said.Weight, said.Source = 0.9, "Documentation/vendor.rst"
	if e, err = k.UpsertEdge(t.Context(), said, "uid 8"); err != nil || e.Seed != 0.9 || !e.Documented || e.Evidence != 1 ||
		math.Abs(e.Weight-0.9*8/9) > 1e-9 {
		t.Errorf("said again: %+v, %v", e, err)
	}
	history, err := k.History(t.Context(), said.From, said.Type, said.To)
	if err != nil || len(history) != 3 || !strings.HasPrefix(history[0].Why, "uid 7 ") || !strings.HasPrefix(history[2].Why, "uid 8 ") {
		t.Errorf("history %+v, %v", history, err)
	}
	learned, err := k.Learned(t.Context())
	if err != nil || len(learned) != 1 || learned[0].To != "vendor.knob" {
		t.Errorf("learned %+v, %v", learned, err)
	}
	store.Close()
	again, _ := open(t, dir, c)
	if w := weight(t, again, said.From, said.To); math.Abs(w-0.8) > 1e-9 {
		t.Errorf("after a restart the weight is %.3f", w)
	}
}

// TestWhatAPersonMayNotSay changes nothing in the store.
func TestWhatAPersonMayNotSay(t *testing.T) {
	t.Parallel()
	k, store := open(t, t.TempDir(), &clock{at: day})
	if _, err := k.UpsertNode(t.Context(), tune.Node{ID: "vendor.knob", Kind: tune.NodeTunable}, "uid 7"); err != nil {
		t.Fatal(err)
	}
	before, err := store.GraphVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ok := tune.Edge{From: "vendor.knob", Type: tune.ConflictsWith, To: "vm.swappiness", Sign: -1, Weight: 0.5, Source: "s"}
	change := func(f func(*tune.Edge)) tune.Edge { e := ok; f(&e); return e }
	for name, c := range map[string]struct {
		edge tune.Edge
		want error
	}{
		"no source":         {change(func(e *tune.Edge) { e.Source = " " }), tune.ErrUsage},
		"self-loop":         {change(func(e *tune.Edge) { e.To = e.From }), tune.ErrInvariant},
		"above 1":           {change(func(e *tune.Edge) { e.Weight = 1.01 }), tune.ErrOutOfRange},
		"below 0":           {change(func(e *tune.Edge) { e.Weight = -0.1 }), tune.ErrOutOfRange},
		"NaN":               {change(func(e *tune.Edge) { e.Weight = math.NaN() }), tune.ErrOutOfRange},
		"sign 2":            {change(func(e *tune.Edge) { e.Sign = 2 }), tune.ErrOutOfRange},
		"unknown type":      {change(func(e *tune.Edge) { e.Type = "likes" }), tune.ErrUnknown},
		"unknown node":      {change(func(e *tune.Edge) { e.To = "nowhere" }), tune.ErrUnknown},
		"control character": {change(func(e *tune.Edge) { e.From = "vendor\n.knob" }), tune.ErrUsage},
		"kinds":             {change(func(e *tune.Edge) { e.Type = tune.Relieves }), tune.ErrType},
		"the catalogue's":   {tune.Edge{From: "swapping_in_and_out", Type: tune.Relieves, To: "vm.swappiness", Sign: 1, Source: "s"}, tune.ErrInvariant},
	} {
		if _, err := k.UpsertEdge(t.Context(), c.edge, "uid 7"); !errors.Is(err, c.want) || tune.Hint(err) == "" {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for name, n := range map[string]tune.Node{
		"the catalogue's": {ID: "vm.swappiness", Kind: tune.NodeTunable, Summary: "mine"},
		"another kind":    {ID: "vendor.knob", Kind: tune.NodeSymptom},
		"nameless":        {Kind: tune.NodeTunable},
		"escape sequence": {ID: "\x1b[2J", Kind: tune.NodeTunable},
	} {
		if _, err := k.UpsertNode(t.Context(), n, "uid 7"); err == nil || tune.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, err := store.GraphVersion(t.Context()); err != nil || after != before {
		t.Errorf("the graph went from version %d to %d, %v", before, after, err)
	}
}

// TestACircleOfDependsOnIsRefused whoever closes it.
func TestACircleOfDependsOnIsRefused(t *testing.T) {
	t.Parallel()
	k, _ := open(t, t.TempDir(), &clock{at: day})
	for _, id := range []string{"vendor.a", "vendor.b", "vendor.c"} {
		if _, err := k.UpsertNode(t.Context(), tune.Node{ID: id, Kind: tune.NodeTunable}, "uid 7"); err != nil {
			t.Fatal(err)
		}
	}
	add := func(from, to string) error {
		_, err := k.UpsertEdge(t.Context(), tune.Edge{From: from, Type: tune.DependsOn, To: to, Sign: 1, Weight: 1, Source: "s"}, "uid 7")
		return err
	}
	if err := errors.Join(add("vendor.a", "vendor.b"), add("vendor.b", "vendor.c")); err != nil {
		t.Fatal(err)
	}
	if err := add("vendor.c", "vendor.a"); !errors.Is(err, tune.ErrInvariant) || !strings.Contains(err.Error(), "circle") {
		t.Errorf("%v", err)
	}
}
