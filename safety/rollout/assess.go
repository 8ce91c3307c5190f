package rollout

import (
	"fmt"
	"math"
	"slices"

	"semantos/internal/tune"
	"semantos/safety/effect"
)

const (
	// familyError is the chance, over all metrics and both sides together and however often it is looked
	// at, that an interval ever misses its effect. Every claim is read off the interval that is reported.
	familyError = 0.05
	// notWorseError is the chance that a change worse by the margin counts as not worse. Every metric must
	// show it, so each is held to it alone.
	notWorseError = 0.05
	// hopeless is the evidence (a logarithm) below which more slots will not show an improvement: an equal
	// change falls below it in most cases at the first look, one a fifth better at triple the usual noise
	// in one of twenty.
	hopeless = -2
	// worthwhile is the least improvement (a logarithm) that more slots are spent on.
	worthwhile = 0.03
	// gapsDepend is the evidence (a logarithm) from which missing data counts as the work of the change.
	gapsDepend = 1.4 // 4 to 1

	// crowding is what throughput may fall by (a logarithm, log 1.5) where treatment lets in clients that
	// were turned away: the few that got in had the server to themselves, and were faster for it.
	crowding = 0.405

	alarmLeast = 0.405 // log 1.5: what an alarm takes for plain harm, beyond the margin
	alarmOver  = 0.3
	alarmCount = 1.0986 // log 3: of single events near the floor
)

// finding is what the slots say of one metric, turned so that larger is worse.
type finding struct {
	metric             metric
	seq                effect.Sequence
	gaps               effect.Gaps
	slots              []effect.Slot
	treated, untreated int     // slots with data
	level              float64 // untreated slots, as a multiple of the floor
	alpha              float64 // of the interval
}

// assessment is what all metrics together say of treated against untreated.
type assessment struct {
	findings []finding
	absent   []finding // metrics that untreated slots gave and no complete block has
	margin   float64   // logarithm of 1+MARGIN
	cured    bool      // treatment saves requests that were lost: the latency of the few says nothing
	let      bool      // treatment lets in clients that the kernel turned away: the others now share with them
}

// assess sets every metric that has a complete block against the draw of the slots. Blocks from before
// the stage from only tell the noise: there another dose stood.
func assess(metrics []metric, margin float64, readings []reading, from int) assessment {
	a := assessment{margin: math.Log1p(margin), cured: saves(readings, failed, survivors)}
	a.let = a.cured || saves(readings, turnedAway, waiting)
	for _, m := range metrics {
		f := read(m, readings, from)
		f.alpha = familyError / float64(len(metrics))
		switch {
		case f.seq.Known():
			a.findings = append(a.findings, f)
		case f.untreated > 0:
			a.absent = append(a.absent, f)
		}
	}
	return a
}

// read puts the readings of one metric in the order of time and of their blocks.
func read(m metric, readings []reading, from int) finding {
	f := finding{metric: m, slots: make([]effect.Slot, 0, len(readings))}
	blocks := make([]effect.Block, 0, len(readings)/2+1)
	var before, untreated []float64
	values, lifted := make([]float64, len(readings)), make([]float64, len(readings))
	largest := 0.0
	for i := range readings {
		values[i] = math.NaN()
		if s := readings[i].sample; s != nil {
			if v, ok := m.read(*s); ok {
				values[i], largest = v, max(largest, v)
			}
		}
		// The floor is one for a whole block, whichever of its slots are treated.
		if end := i + 1; end == len(readings) || readings[end].block.id == 0 || readings[end].block.id != readings[i].block.id {
			for j := i; j >= 0 && lifted[j] == 0; j-- {
				lifted[j] = m.floor(largest)
			}
		}
	}
	own, last := levels{}, 0
	for i, r := range readings {
		x := math.NaN()
		spoke := own.speaks(r.unit)
		own.heard(r, !math.IsNaN(values[i]))
		if !math.IsNaN(values[i]) {
			x = own.above(r, math.Log(max(values[i], lifted[i])))
			if !r.treated {
				untreated = append(untreated, values[i]/lifted[i])
			}
		}
		if m.higher {
			x = -x
		}
		if r.treated && r.stage < from || !spoke {
			continue
		}
		f.count(r, x)
		f.slots = append(f.slots, effect.Slot{Treated: r.treated, X: x})
		switch {
		case r.stage < from:
			before = append(before, x)
		case r.block.id != 0 && r.unit > 0:
			blocks = addUnit(blocks, r, x, r.block.id == last)
			last = r.block.id
		case r.block.id != 0:
			blocks = addTo(blocks, r, x, i > 0 && readings[i-1].block.id == r.block.id)
		}
	}
	if len(untreated) > 0 {
		f.level = median(untreated)
	}
	blocks = slices.DeleteFunc(blocks, func(b effect.Block) bool { return len(b.X) < len(b.Treated) })
	f.seq, f.gaps = effect.New(before, blocks), effect.Missing(blocks)
	return f
}

func (f *finding) count(r reading, x float64) {
	switch {
	case math.IsNaN(x):
	case r.treated:
		f.treated++
	default:
		f.untreated++
	}
}

// addTo adds a slot to its block. A block not yet at its end has fewer readings than slots.
func addTo(blocks []effect.Block, r reading, x float64, sameBlock bool) []effect.Block {
	if !sameBlock {
		blocks = append(blocks, effect.Block{Treated: make([]bool, r.block.size), X: make([]float64, 0, r.block.size), Forced: r.block.forced})
	}
	b := &blocks[len(blocks)-1]
	if n := len(b.X); n < len(b.Treated) {
		b.Treated[n] = r.treated
		b.X = append(b.X, x)
	}
	return blocks
}

// need is the evidence, as a logarithm, that moves the interval past a value.
func (f finding) need() float64 { return math.Log(2 / f.alpha) }

// usable reports that data is not missing because of the change, and not mostly missing: a claim in its
// favour must not rest on what is left.
func (f finding) usable() bool {
	return f.gaps.LogE < gapsDepend && 2*f.gaps.Complete >= f.gaps.Drawn
}

func (f finding) worse(margin float64) bool { return f.seq.LogE(effect.Above, margin) >= f.need() }
func (f finding) better() bool              { return f.usable() && f.seq.LogE(effect.Below, 0) >= f.need() }

func (f finding) notWorse(margin float64) bool {
	return f.usable() && f.seq.LogE(effect.Below, margin) >= math.Log(1/notWorseError)
}

// suspect reports that treated looks worse by more than the margin and leans that way, though not surely.
func (f finding) suspect(margin float64) bool {
	if !f.seq.Exceeds(margin) {
		return false
	}
	if f.seq.Blocks() == 0 {
		return f.seq.Exceeds(2 * f.seq.Noise())
	}
	return f.seq.LogE(effect.Above, 0) >= math.Log(2)
}

// alarm reports plain harm in the newest runs of treated slots.
func (f finding) alarm(margin float64, runs int) bool {
	return effect.Alarm(f.slots, f.least(margin), runs)
}

func (f finding) suspicious(margin float64) bool {
	return effect.Suspicious(f.slots, f.least(margin))
}

func (f finding) least(margin float64) float64 {
	least := max(alarmLeast, margin+alarmOver)
	if f.metric.counts && f.level < 4 {
		least = max(least, alarmCount)
	}
	return least
}

// known reports whether anything could be compared.
func (a assessment) known() bool { return len(a.findings) > 0 }

func (a assessment) find(is func(finding) bool) (finding, bool) {
	if i := slices.IndexFunc(a.findings, is); i >= 0 {
		return a.findings[i], true
	}
	return finding{}, false
}

// counts reports whether a metric may speak against the change.
func (a assessment) counts(f finding) bool {
	return !a.cured || !f.metric.isLatency()
}

// marginOf is by how much (a logarithm) a metric may be worse.
func (a assessment) marginOf(f finding) float64 {
	if a.let && f.metric.name == metricThroughput {
		return max(a.margin, crowding)
	}
	return a.margin
}

// worse finds a metric that is surely worse by more than the margin.
func (a assessment) worse() (finding, bool) {
	return a.find(func(f finding) bool { return a.counts(f) && f.worse(a.marginOf(f)) })
}

func (a assessment) suspect() (finding, bool) {
	return a.find(func(f finding) bool { return a.counts(f) && f.suspect(a.marginOf(f)) })
}

func (a assessment) alarm(runs int) (finding, bool) {
	return a.find(func(f finding) bool { return a.counts(f) && f.alarm(a.marginOf(f), runs) })
}

// better finds the metric whose interval excludes 1 on the good side: p95 is preferred, then the largest
// improvement that is sure.
func (a assessment) better() (finding, bool) {
	var best finding
	found, most := false, 0.0
	for _, f := range a.findings {
		if !f.better() {
			continue
		}
		if f.metric.isLatency() {
			return f, true
		}
		if _, high := f.seq.Interval(f.alpha); !found || high < most {
			best, found, most = f, true, high
		}
	}
	return best, found
}

// notWorse reports that every metric is shown not to be worse by the margin.
func (a assessment) notWorse() bool {
	for _, f := range a.findings {
		if a.counts(f) && !f.notWorse(a.marginOf(f)) {
			return false
		}
	}
	_, gaps := a.gaps()
	return a.known() && !gaps
}

// promising reports that more slots may yet show an improvement.
func (a assessment) promising() bool {
	_, ok := a.find(func(f finding) bool {
		return f.seq.LogE(effect.Below, 0) > hopeless && f.seq.LogE(effect.Above, -worthwhile) < f.need()
	})
	return ok
}

// gaps names a metric whose missing data forbids a claim in favour of the change.
func (a assessment) gaps() (finding, bool) {
	if i := slices.IndexFunc(a.absent, a.counts); i >= 0 {
		return a.absent[i], true
	}
	return a.find(func(f finding) bool { return a.counts(f) && !f.usable() })
}

// missing says which metric has too little data for any claim in favour of the change, "" for none.
func (a assessment) missing() string {
	if f, ok := a.gaps(); ok {
		return fmt.Sprintf("%s is missing in too many slots, or mostly in treated ones", f.metric.name)
	}
	return ""
}

// primary is the finding to report: what proves better, else what is surely worse, else what looks
// worse, else the first.
func (a assessment) primary() (finding, bool) {
	for _, ask := range []func() (finding, bool){a.better, a.worse, a.suspect} {
		if f, ok := ask(); ok {
			return f, true
		}
	}
	if !a.known() {
		return finding{}, false
	}
	return a.findings[0], true
}

func (a assessment) effect() *tune.Effect {
	f, ok := a.primary()
	if !ok {
		return nil
	}
	return f.effect()
}

func (f finding) effect() *tune.Effect {
	by := f.seq.Estimate()
	low, high := f.seq.Interval(f.alpha)
	by = max(low, min(high, by))
	e := &tune.Effect{Metric: f.metric.name, Better: betterLower}
	if f.metric.higher {
		e.Better = betterHigher
		by, low, high = -by, -high, -low
	}
	e.Ratio, e.Low, e.High = math.Exp(by), math.Exp(low), math.Exp(high)
	return e
}

// String says a finding as a person would.
func (f finding) String() string {
	e := f.effect()
	said := fmt.Sprintf("%s x%.3g (%s)", e.Metric, e.Ratio, e.Span())
	return fmt.Sprintf("%s, %d treated against %d untreated slots", said, f.treated, f.untreated)
}

// survivors is the share of failed requests from which the p95 of the others says nothing: one request
// in twenty never ended, so the true p95 is one of those. Where treatment saves them, the p95 of the
// few that got through before is no reason against it.
const survivors = 0.05

// waiting is the share of attempts turned away from which those who got in say little of throughput: each of
// the others waits a second or more, so where a request takes milliseconds most clients wait outside.
const waiting = 0.01

// saves reports that untreated slots lose more than a share of clients and treated ones at most half as many.
func saves(readings []reading, lost func(tune.MeterSample) float64, least float64) bool {
	var treated, untreated []float64
	for _, r := range readings {
		if r.sample == nil {
			continue
		}
		switch share := lost(*r.sample); {
		case !finite(share):
		case r.treated:
			treated = append(treated, share)
		default:
			untreated = append(untreated, share)
		}
	}
	if len(treated) < 2 || len(untreated) < 2 {
		return false
	}
	before := median(untreated)
	return before > least && median(treated) <= before/2
}

// failed is the share of requests that the meter saw fail.
func failed(s tune.MeterSample) float64 { return s.ErrorRate }

// turnedAway is the share of attempts that the kernel counted as lost, which no meter sees.
func turnedAway(s tune.MeterSample) float64 {
	if s.Lost == nil {
		return math.NaN()
	}
	return *s.Lost
}

func lossy(samples []tune.MeterSample) bool {
	var lost []float64
	for _, s := range samples {
		if finite(s.ErrorRate) {
			lost = append(lost, s.ErrorRate)
		}
	}
	return len(lost) > 0 && median(lost) > survivors
}
