package kb

import (
	"fmt"

	"gopkg.in/yaml.v3"

	"semantos/internal/tune"
)

// applyNarrowing takes an operator's tighter ranges into an entry. A hard range must lie inside the one
// it replaces. A safe range is intersected with what stood, so that its expressions cannot widen it on
// any host; where both are constants a wider one is an error, because the operator expects it to count.
func (l *loader) applyNarrowing(n, e *entry) {
	if e == nil {
		if _, known := l.known[n.tunable.Name]; !known {
			n.addf("name", tune.ErrUnknown, "no tunable is called %q", n.tunable.Name)
		}
		return
	}
	n.narrowHard(e)
	n.narrowSafe(l, e)
}

func (n *entry) narrowHard(e *entry) {
	tighter := hardRanges(n.narrow)
	if len(tighter) == 0 {
		return
	}
	t := e.tunable
	if len(tighter) != 1 && len(tighter) != t.Arity || len(t.Hard) == 0 {
		n.addf("narrow", nil, "hard gives %d ranges; %s has %d elements", len(tighter), t.Name, t.Arity)
		return
	}
	out := make([]tune.Range, t.Arity)
	for i := range out {
		was, _ := t.HardAt(i)
		now := tighter[min(i, len(tighter)-1)]
		switch {
		case now.Min > now.Max:
			n.addf("narrow.hard", tune.ErrOutOfRange, "min %s is above max %s", tune.FormatNumber(now.Min), tune.FormatNumber(now.Max))
		case now.Min < was.Min || now.Max > was.Max:
			n.addf("narrow.hard", tune.ErrOutOfRange, "%s..%s widens %s..%s: a catalogue folder can only narrow",
				tune.FormatNumber(now.Min), tune.FormatNumber(now.Max), tune.FormatNumber(was.Min), tune.FormatNumber(was.Max))
		}
		out[i] = now
	}
	t.Hard = out
}

func (n *entry) narrowSafe(l *loader, e *entry) {
	given := items(n.narrow, "safe")
	if len(given) == 0 {
		return
	}
	t := e.tunable
	if len(given) != 1 && len(given) != t.Arity || len(t.Hard) == 0 {
		n.addf("narrow", nil, "safe gives %d ranges; %s has %d elements", len(given), t.Name, t.Arity)
		return
	}
	safe := make([]tune.SafeRange, t.Arity)
	bounds := make([]bound, t.Arity)
	for i := range safe {
		var was tune.SafeRange
		if len(t.Safe) > 0 {
			was = t.Safe[min(i, len(t.Safe)-1)]
		}
		node := given[min(i, len(given)-1)]
		safe[i] = tune.SafeRange{Min: n.tighter("max", was.Min, node, "min"), Max: n.tighter("min", was.Max, node, "max")}
		bounds[i] = bound{min: n.end(l.env, safe[i].Min), max: n.end(l.env, safe[i].Max)}
	}
	if len(n.problems) == 0 {
		t.Safe, e.safe = safe, bounds
	}
}

// tighter joins the two ends: the larger of two minima, the smaller of two maxima.
func (n *entry) tighter(pick, was string, node *yaml.Node, key string) string {
	now := scalar(node, key)
	switch {
	case now == "":
		return was
	case was == "":
		return now
	}
	if plainNumber.MatchString(was) && plainNumber.MatchString(now) {
		a, b := tune.Value(was), tune.Value(now)
		x, _ := a.Numbers()
		y, _ := b.Numbers()
		if pick == "max" && y[0] < x[0] || pick == "min" && y[0] > x[0] {
			n.addf("narrow.safe", tune.ErrOutOfRange, "%s %s widens %s: a catalogue folder can only narrow", key, now, was)
		}
		return now
	}
	return fmt.Sprintf("%s(%s, %s)", pick, was, now)
}
