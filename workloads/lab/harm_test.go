package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"semantos/workloads"
)

// TestHarm feeds every harmful candidate to semantos under load: it must not get past the gate without
// --yes, must end as worse or by a limit, and leave every byte as it was. make test gives each one short
// rollout and the first one more of 5 %; make soak ten each, in stages of which 5 % hold a slot.
func TestHarm(t *testing.T) {
	b := build(t)
	soak := os.Getenv("SOAK") != ""
	for i, c := range candidates() {
		runs := []time.Duration{5 * time.Second}
		if i == 0 || soak {
			runs = append(runs, c.stage)
		}
		for range 9 {
			if soak {
				runs = append(runs, c.stage)
			}
		}
		for n, stage := range runs {
			t.Run(fmt.Sprintf("%s %s %d", c.name, stage, n), func(t *testing.T) {
				r := feed(t, b, &harmTrial{candidate: c, stage: stage, serve: soak && n == 1})
				for _, p := range r.Problems {
					t.Error(p)
				}
				if stage == c.stage && r.Share > 5 {
					t.Errorf("undone at %v %% only", r.Share)
				}
			})
		}
	}
}

// TestHarmless feeds what changes nothing to speak of: it must not end as worse. One retry is granted to
// the shared machines this runs on.
func TestHarmless(t *testing.T) {
	b := build(t)
	soak := os.Getenv("SOAK") != ""
	for i, c := range candidates() {
		if i > 0 && !soak {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			for range 2 {
				r := feed(t, b, &harmTrial{candidate: c, stage: 5 * time.Second, equal: true})
				if len(r.Problems) == 0 {
					return
				}
				t.Logf("problems: %v", r.Problems)
			}
			t.Error("twice in a row")
		})
	}
}

func feed(t *testing.T, b built, h *harmTrial) harmReport {
	t.Helper()
	h.semantos, h.disk, h.self, h.log = b.semantos, "/var/tmp", b.lab, testLog{t}
	ctx, cancel := context.WithTimeout(context.Background(), 14*time.Minute)
	defer cancel()
	r, err := h.run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.row())
	return r
}

func TestWindows(t *testing.T) {
	t.Parallel()
	at := func(s float64) time.Time { return time.Unix(100, 0).Add(time.Duration(s * float64(time.Second))) }
	seen := []sighting{{at(0), "60"}, {at(2), "100"}, {at(3), "200"}, {at(4), "60"}, {at(7), "200"}}
	got := windows(seen, at(9))
	want := []window{{at(2), at(4)}, {at(7), at(9)}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := windows(seen[:1], at(9)); got != nil {
		t.Errorf("nothing stood, got %v", got)
	}
}

func TestAccount(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(100+s), 0) }
	var samples []workloads.Sample
	for s := range 10 {
		x := workloads.Sample{Start: at(s), End: at(s + 1), Throughput: 100, Requests: 10, WaitMS: 20}
		if s == 4 || s == 5 { // the change stood in 4, and 5 still feels it
			x.Throughput, x.Requests, x.WaitMS = 40, 5, 110
		}
		samples = append(samples, x)
	}
	stood := []window{{at(4), at(5)}}
	x, err := account(candidate{unit: "MiB", scale: 2}, samples, stood, at(2), at(8), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
	if !near(x.NotDone, 240) || !near(x.LostS, 1.2) || !near(x.Share, 0.2) || !near(x.WaitMS, 200) || !near(x.TreatedS, 1) {
		t.Errorf("got %+v", x)
	}
	x, err = account(candidate{unit: "requests"}, samples, stood, at(2), at(8), time.Second)
	if err != nil || !near(x.NotDone, 10) {
		t.Errorf("got %+v, %v", x, err)
	}
	if _, err := account(candidate{scale: 1}, samples[:4], []window{{at(0), at(3)}}, at(0), at(3), 0); err == nil {
		t.Error("a level of one sample was believed")
	}
}
