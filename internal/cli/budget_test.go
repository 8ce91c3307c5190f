package cli

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"semantos/internal/config"
	"semantos/internal/tune"
)

// bygone is a history.
type bygone []tune.Rollout

func (p bygone) Rollouts(_ context.Context, limit int) ([]tune.Rollout, error) {
	if limit > 0 && limit < len(p) {
		return p[:limit], nil
	}
	return p, nil
}

var midday = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func ran(id string, ago, took, exposed time.Duration) tune.Rollout {
	return tune.Rollout{ID: id, Started: midday.Add(-ago), Ended: midday.Add(took - ago), ExposedSeconds: exposed.Seconds()}
}

// TestBudgetCountsTheLastDay: what history knows, whoever ran it, also killed ones, and only the part of
// the last 24 hours.
func TestBudgetCountsTheLastDay(t *testing.T) {
	t.Parallel()
	killed := ran("k-1", time.Hour, 0, 2*time.Minute)
	killed.Ended = time.Time{}
	vetoed := ran("v-1", time.Hour, time.Second, 0)
	var long bygone
	for range 150 {
		long = append(long, vetoed)
	}
	for name, tc := range map[string]struct {
		history bygone
		used    time.Duration
	}{
		"nothing":             {nil, 0},
		"two":                 {bygone{ran("a-1", time.Hour, time.Minute, 20*time.Second), ran("b-1", 20*time.Hour, time.Minute, 10*time.Second)}, 30 * time.Second},
		"killed":              {bygone{killed}, 2*time.Minute + unsaved},
		"yesterday's":         {bygone{ran("a-1", 25*time.Hour, time.Minute, 20*time.Second)}, 0},
		"half of it":          {bygone{ran("a-1", 25*time.Hour, 2*time.Hour, 40*time.Minute)}, 20 * time.Minute},
		"behind many vetoes":  {append(long, ran("a-1", 2*time.Hour, time.Minute, 20*time.Second)), 20 * time.Second},
		"the newest account":  {bygone{ran("a-1", time.Hour, time.Minute, 20*time.Second)}, 20 * time.Second},
		"one twice in a page": {bygone{ran("a-1", time.Hour, time.Minute, 20*time.Second), ran("a-1", time.Hour, time.Minute, 20*time.Second)}, 20 * time.Second},
	} {
		b := newBudget(config.Config{ExposureBudget: time.Hour})
		if err := b.load(t.Context(), tc.history, midday); err != nil {
			t.Fatal(err)
		}
		if got := b.used(midday); (got - tc.used).Abs() > time.Millisecond {
			t.Errorf("%s: %s used, want %s", name, got, tc.used)
		}
		left, known := b.left(midday)
		if want := time.Hour - tc.used; !known || (left-want).Abs() > time.Millisecond {
			t.Errorf("%s: %s left, want %s", name, left, want)
		}
	}
}

func TestBudgetAndWindowAgainstStarting(t *testing.T) {
	t.Parallel()
	window := func(text string) config.Window {
		w, err := config.ParseWindow(text)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for _, tc := range []struct {
		name   string
		cfg    config.Config
		used   time.Duration
		veto   string // of a person's apply
		closed string // of serve's own
	}{
		{"free", config.Config{ExposureBudget: time.Hour}, 10 * time.Minute, "", ""},
		{"no budget", config.Config{}, 20 * time.Hour, "", ""},
		{"used up", config.Config{ExposureBudget: time.Hour}, time.Hour, "budget of 1h0m0s in 24 hours is used up", "used up"},
		{"too little left", config.Config{ExposureBudget: time.Hour}, time.Hour - 10*time.Second, "", "10s are left"},
		{"closed", config.Config{MaintenanceWindow: window("02:00-05:00")}, 0, "02:00-05:00 is closed, it opens Thu 02:00", "opens Thu 02:00"},
		{"open", config.Config{MaintenanceWindow: window("Wed 11:00-13:00")}, 0, "", ""},
		{"closes soon", config.Config{MaintenanceWindow: window("11:00-12:01")}, 0, "", "closes in 1m0s"},
	} {
		b := newBudget(tc.cfg)
		b.add(ran("a-1", 23*time.Hour, 22*time.Hour, tc.used), midday)
		veto, closed := strings.Join(b.vetoes(midday), "; "), b.closed(midday, 80*time.Second)
		if (veto == "") != (tc.veto == "") || !strings.Contains(veto, tc.veto) {
			t.Errorf("%s: vetoes %q, want %q", tc.name, veto, tc.veto)
		}
		if (closed == "") != (tc.closed == "") || !strings.Contains(closed, tc.closed) {
			t.Errorf("%s: closed %q, want %q", tc.name, closed, tc.closed)
		}
	}
}

func TestAllowanceEnds(t *testing.T) {
	t.Parallel()
	w, err := config.ParseWindow("11:00-12:30")
	if err != nil {
		t.Fatal(err)
	}
	b := newBudget(config.Config{ExposureBudget: time.Hour, MaintenanceWindow: w})
	b.add(ran("a-1", 10*time.Hour, time.Hour, 59*time.Minute), midday)
	may := b.allowance(midday)
	for at, want := range map[time.Duration]string{0: "", 29 * time.Minute: "", 31 * time.Minute: "11:00-12:30 has ended"} {
		if got := may(midday.Add(at), 30*time.Second); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("after %s: %q, want %q", at, got, want)
		}
	}
	if got := may(midday, 61*time.Second); !strings.Contains(got, "1m0s were left") {
		t.Errorf("beyond its budget: %q", got)
	}
}

// TestBehindNeverHoldsItsCaller: what is done is slow, in order and complete.
func TestBehindNeverHoldsItsCaller(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	var mu sync.Mutex
	var got []int
	b := newBehind(func(n int) {
		<-gate
		mu.Lock()
		defer mu.Unlock()
		got = append(got, n)
	})
	for n := range 1000 {
		b.put(n) // would never return if it waited
	}
	close(gate)
	b.finish()
	for n := range 1000 {
		if got[n] != n {
			t.Fatalf("%d is %d", n, got[n])
		}
	}
}

// TestWindowAndBudgetFromTheShell: outside its window an apply is a veto, exit 3, which --yes passes; status
// and config say where the limits stand, also without a history.
func TestWindowAndBudgetFromTheShell(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	day := time.Now().Add(48 * time.Hour).Format("Mon")
	shut := []string{"--maintenance-window", day + " 02:00-05:00"}
	set := []string{"apply", "--set", "vm.swappiness=40", "--stage-time", "2s"}
	got := m.run(t, append(set, shut...)...)
	if got.exit != exitVetoed || !strings.Contains(got.stdout, "is closed, it opens "+day+" 02:00") {
		t.Errorf("outside: exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
	got = m.run(t, append(append(set, shut...), "--dry-run")...)
	if got.exit != 0 || !strings.Contains(got.stdout, "Would be vetoed: the maintenance window") {
		t.Errorf("dry run: exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
	var r tune.Rollout
	got = m.run(t, append(append(set, shut...), "--yes", "--json")...)
	got.decode(t, &r)
	if got.exit != 0 || r.State != tune.Committed || r.ExposedSeconds < 1 || !r.Gate.Passed {
		t.Fatalf("--yes: exit %d, %+v\n%s", got.exit, r, got.stderr)
	}
	var doc statusDocument
	m.run(t, append([]string{"status", "--json", "--exposure-budget", "30m"}, shut...)...).decode(t, &doc)
	if b := doc.Limits.Budget; b.LimitSeconds != 1800 || b.UsedSeconds < r.ExposedSeconds-0.01 || b.UsedSeconds+b.LeftSeconds != 1800 {
		t.Errorf("budget %+v after %v s", b, r.ExposedSeconds)
	}
	if w := doc.Limits.Window; w.Open || w.Until.IsZero() {
		t.Errorf("window %+v", w)
	}
	// What is used up stands against the next one.
	got = m.run(t, "apply", "--set", "vm.swappiness=41", "--stage-time", "2s", "--exposure-budget", "1s")
	if got.exit != exitVetoed || !strings.Contains(got.stdout, "exposure budget of 1s in 24 hours is used up") {
		t.Errorf("used up: exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
	for _, bad := range [][]string{{"--maintenance-window", "night"}, {"--exposure-budget", "25h"}, {"--exposure-budget", "0"}, {"--max-error-rate", "2"}} {
		got := m.run(t, append([]string{"status"}, bad...)...)
		if got.exit != exitUsage || strings.Count(strings.TrimSpace(got.stderr), "\n") > 1 || !strings.Contains(got.stderr, bad[1]) {
			t.Errorf("%v: exit %d\n%s", bad, got.exit, got.stderr)
		}
	}
	if got := m.run(t, "doctor"); !strings.Contains(got.stdout, "Limits while treated") || !strings.Contains(got.stdout, "PSI_MAX_MEMORY is not watched") {
		t.Errorf("doctor:\n%s", got.stdout)
	}
}
