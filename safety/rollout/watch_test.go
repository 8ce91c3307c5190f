package rollout

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
)

// blind is a host without pressure files.
type blind struct{}

func (blind) Look(context.Context) []Vital { return nil }

// pressed is a host whose memory stands still for a share of the time, by what stands on it and since when.
type pressed struct {
	w                  *fakeWriter
	treated, untreated float64       // percent
	from               time.Duration // the treated share begins this long after the first look
	limit, usual       float64

	mu    sync.Mutex
	start time.Time
	last  time.Time
	total float64
}

func (p *pressed) Look(context.Context) []Vital {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.start.IsZero() {
		p.start, p.last = now, now
	}
	share := p.untreated
	if p.w.value() == "10" && now.Sub(p.start) > p.from {
		share = p.treated
	}
	p.total += share / 100 * float64(now.Sub(p.last).Microseconds())
	p.last = now
	return []Vital{{Name: "memory pressure", Kind: Stall, Value: p.total, Limit: p.limit, Usual: p.usual}}
}

// TestVitalsAreWatchedInEveryState: the machine begins to stand still in each of the states, and the values
// are back within one sampling interval, however long the slot, the hold or the disk would still take.
func TestVitalsAreWatchedInEveryState(t *testing.T) {
	t.Parallel()
	held := func(r *trialRun) { r.req.Hold, r.req.Commands = true, make(chan Command) }
	slow := func(r *trialRun) { r.meter.p95["10"], r.meter.jitter = 9.6, rand.New(rand.NewPCG(1, 2)) }
	for _, tc := range []struct {
		name  string
		set   func(r *trialRun)
		stage int    // which has begun
		held  bool   // and is waiting for a person
		verbs string // the writer's newest verbs then, oldest first
		after time.Duration
	}{
		{"partial", func(*trialRun) {}, 1, false, "apply", 300 * time.Millisecond},
		{"partial, slots of minutes", func(r *trialRun) { r.req.StageTime = time.Hour }, 1, false, "apply", 20 * time.Second},
		{"whole", func(*trialRun) {}, 3, false, "", time.Second},
		{"confirming", slow, 3, false, "revert apply", 100 * time.Millisecond},
		{"held", held, 2, true, "apply", 100 * time.Millisecond},
		{"held for long", held, 2, true, "", 10 * time.Minute},
		{"committing on a hung disk", func(r *trialRun) { r.writer.hangs = "commit" }, 3, false, "commit", 5 * time.Second},
		{"another dose on a hung disk", func(r *trialRun) { r.writer.hangs, r.meter.stale = "apply", true; r.outlive() },
			2, false, "apply", 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTrialRun(6)
				h := &stallFrom{w: r.writer}
				r.cfg.Vitals = h
				tc.set(r)
				stage, held := 0, false
				var verbs []string
				begin := func() {
					if stage == tc.stage && held == tc.held && strings.HasSuffix(strings.Join(verbs, " "), tc.verbs) {
						h.begin(tc.after)
					}
				}
				var restored time.Time
				r.writer.on = func(verb string) {
					if verb == "rollback" {
						restored = time.Now()
						return
					}
					verbs = append(verbs, verb)
					begin()
				}
				r.heard = func(e Event) {
					if n := len(e.Rollout.Stages); n != stage {
						stage, verbs = n, nil
					}
					held = e.Rollout.State == tune.Held
					begin()
				}
				out, err := r.run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r.want(t, out, tune.RolledBack, tune.ReasonLimit, "60")
				if h.since().IsZero() {
					t.Fatal("it never stood still")
				}
				if took := restored.Sub(h.since()); took > lookEvery {
					t.Errorf("restored %s after the break, more than one sampling interval", took)
				}
			})
		})
	}
}

// stallFrom stands still from a moment on while anything but the original stands, so that its first full
// stretch breaks the limit.
type stallFrom struct {
	w     *fakeWriter
	mu    sync.Mutex
	at    time.Time
	first time.Time // when treated time began to stand still
	last  time.Time
	total float64
}

func (h *stallFrom) begin(after time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at.IsZero() {
		h.at = time.Now().Add(after)
	}
}

func (h *stallFrom) since() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.first
}

func (h *stallFrom) Look(context.Context) []Vital {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if !h.at.IsZero() && h.w.value() != "60" && now.After(h.at) {
		from := h.at
		if h.last.After(from) {
			from = h.last
		}
		if h.first.IsZero() {
			h.first = from
		}
		h.total += float64(now.Sub(from).Microseconds())
	}
	h.last = now
	return []Vital{{Name: "memory pressure", Kind: Stall, Value: h.total, Limit: 10}}
}

// TestWatchJudges: looks once a second, given as shares of each stretch, and what the watch says of the last.
func TestWatchJudges(t *testing.T) {
	t.Parallel()
	type stretch struct {
		exposed bool
		share   float64
		n       int
	}
	for _, tc := range []struct {
		name  string
		usual float64
		story []stretch
		want  string
	}{
		{"calm", 0, []stretch{{false, 1, 3}, {true, 2, 5}}, ""},
		{"gross at once", 0, []stretch{{false, 1, 3}, {true, 60, 1}}, "60 % of the time"},
		{"gross in the first look, nothing untreated seen yet", 0, []stretch{{true, 60, 1}}, "60 % of the time"},
		{"a little beyond, once", 0, []stretch{{false, 1, 3}, {true, 12, 1}}, ""},
		{"a little beyond, twice", 0, []stretch{{false, 1, 3}, {true, 12, 2}}, "12 % of the time"},
		{"a little beyond, two of three", 0, []stretch{{false, 1, 3}, {true, 12, 1}, {true, 5, 1}, {true, 12, 1}}, "12 % of the time"},
		{"only untreated", 0, []stretch{{true, 1, 3}, {false, 60, 5}, {true, 1, 1}}, ""},
		{"broken before the rollout", 30, []stretch{{true, 60, 5}}, ""},
		{"broken untreated too, alike", 0, []stretch{{false, 60, 20}, {true, 60, 20}}, ""},
		{"broken untreated too, much worse treated", 0, []stretch{{false, 20, 20}, {true, 60, 6}}, "but less"},
		{"much worse, too few looks to be sure", 0, []stretch{{false, 20, 20}, {true, 60, 5}}, ""},
		{"much worse, untreated hardly seen", 0, []stretch{{false, 20, 5}, {true, 60, 9}}, ""},
		{"one burst untreated, then gross treated", 0, []stretch{{false, 1, 30}, {false, 15, 1}, {true, 60, 6}}, "but less"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w, now, total := newWatch(), time.Unix(1e9, 0), 0.0
			vitals := func() []Vital {
				return []Vital{{Name: "memory pressure", Kind: Stall, Value: total, Limit: 10, Usual: tc.usual}}
			}
			said := w.look(now, vitals())
			for _, s := range tc.story {
				if s.exposed != w.exposed {
					w.turn(now, s.exposed, 0, vitals())
				}
				for i := range s.n {
					if said != "" {
						t.Fatalf("broke early, at look %d of %+v: %s", i, s, said)
					}
					now, total = now.Add(time.Second), total+s.share*1e4
					said = w.look(now, vitals())
				}
			}
			if (said == "") != (tc.want == "") || !strings.Contains(said, tc.want) {
				t.Errorf("said %q, want %q", said, tc.want)
			}
		})
	}
}

func TestWatchOfLevelsAndEvents(t *testing.T) {
	t.Parallel()
	level := func(x float64) []Vital { return []Vital{{Name: "available memory", Kind: Floor, Value: x, Limit: 3}} }
	now := time.Unix(1e9, 0)
	next := func() time.Time { now = now.Add(time.Second); return now }
	w := newWatch()
	w.look(now, level(40))
	w.turn(now, true, 0, level(40))
	if said := w.look(next(), level(3.5)); said != "" {
		t.Errorf("above the floor: %s", said)
	}
	if said := w.look(next(), level(2.5)); !strings.Contains(said, "available memory 2.5 %, at least 3 %") {
		t.Errorf("below the floor: %q", said)
	}
	w = newWatch()
	w.look(now, level(2)) // it was short before
	w.turn(now, true, 0, level(2))
	for range 5 {
		if said := w.look(next(), level(1.9)); said != "" {
			t.Errorf("short of memory before: %s", said)
		}
	}
	kills := func(n float64) []Vital { return []Vital{{Name: "processes killed", Kind: Count, Value: n}} }
	w = newWatch()
	w.look(now, kills(7))
	if said := w.look(next(), kills(7)); said != "" {
		t.Error(said)
	}
	w.turn(now, true, 0, kills(7))
	if said := w.look(now.Add(time.Millisecond), kills(8)); !strings.Contains(said, "processes killed: 1 during the rollout") {
		t.Errorf("an event needs no stretch of time: %q", said)
	}
}

// TestUntreatedTimeAfterARestoreIsNotCounted: what treated time left behind must not excuse it.
func TestUntreatedTimeAfterARestoreIsNotCounted(t *testing.T) {
	t.Parallel()
	w, now, total := newWatch(), time.Unix(1e9, 0), 0.0
	look := func(d time.Duration, share float64) string {
		now, total = now.Add(d), total+share/100*float64(d.Microseconds())
		return w.look(now, []Vital{{Name: "x", Kind: Stall, Value: total, Limit: 10}})
	}
	turn := func(exposed bool) {
		w.turn(now, exposed, 500*time.Millisecond, []Vital{{Name: "x", Kind: Stall, Value: total, Limit: 10}})
	}
	look(0, 0)
	look(time.Second, 1)
	turn(true)
	look(time.Second, 9)
	turn(false)
	look(time.Second, 90) // it ebbs away
	look(time.Second, 1)
	turn(true)
	if said := look(time.Second, 50); said == "" {
		t.Error("the ebb of the first treated slot excused the second")
	}
}

// TestWatchOfStrangers: what happens untreated too is a stranger's own affair, until treated time has more of it.
func TestWatchOfStrangers(t *testing.T) {
	t.Parallel()
	type look struct {
		exposed bool
		events  float64
		breaks  bool
	}
	for _, tc := range []struct {
		name   string
		usual  float64
		story  []look
		spared bool
	}{
		{"never before, first while treated", 0, []look{{false, 0, false}, {true, 1, true}}, false},
		{"never before, first untreated", 0, []look{{false, 1, false}, {true, 1, false}, {false, 0, false}, {false, 1, false}, {true, 1, false}}, true},
		{"before", 2, []look{{true, 1, false}, {true, 1, false}}, true},
		{"before, but more while treated", 2, []look{{true, 2, false}, {false, 0, false}, {true, 1, true}}, false},
		{"right after a restore", 0, []look{{true, 0, false}, {false, 1, true}}, false},
		{"nothing", 5, []look{{true, 0, false}, {false, 0, false}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w, now, total := newWatch(), time.Unix(1e9, 0), 0.0
			vitals := func() []Vital {
				if total == 0 {
					return nil // a group is named once something happened in it
				}
				return []Vital{{Name: "killed in /g", Kind: Stranger, Value: total, Usual: tc.usual}}
			}
			w.look(now, vitals())
			for i, l := range tc.story {
				if l.exposed != w.exposed {
					w.turn(now, l.exposed, 500*time.Millisecond, vitals())
				}
				now, total = now.Add(time.Second), total+l.events
				if said := w.look(now, vitals()); (said != "") != l.breaks {
					t.Fatalf("look %d, %+v: said %q", i, l, said)
				}
			}
			if said := w.spared(); (said != "") != tc.spared {
				t.Errorf("spared %q", said)
			}
		})
	}
	// An event is seen however short the stretch, and once.
	w, now := newWatch(), time.Unix(1e9, 0)
	one := []Vital{{Name: "killed in /g", Kind: Stranger, Value: 1}}
	w.look(now, nil)
	w.turn(now, true, 0, nil)
	if said := w.look(now.Add(time.Millisecond), one); !strings.Contains(said, "killed in /g: 1 while treated, 0 known untreated") {
		t.Errorf("said %q", said)
	}
	if said := w.look(now.Add(2*time.Millisecond), one); said != "" {
		t.Errorf("said once more: %q", said)
	}
}
