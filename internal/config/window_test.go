package config

import (
	"testing"
	"time"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Skipf("no zone data here: %v", err)
	}
	return z
}

func window(t *testing.T, text string) Window {
	t.Helper()
	w, err := ParseWindow(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return w
}

func TestWindowOpens(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		window, at string // Monday is 2026-03-02
		open       bool
		left       time.Duration
	}{
		{"always", "2026-03-02 13:00", true, farAhead},
		{"02:00-05:00", "2026-03-02 01:59", false, 0},
		{"02:00-05:00", "2026-03-02 02:00", true, 3 * time.Hour},
		{"02:00-05:00", "2026-03-02 04:59", true, time.Minute},
		{"02:00-05:00", "2026-03-02 05:00", false, 0},
		{"Mon-Fri 02:00-05:00", "2026-03-06 03:00", true, 2 * time.Hour},
		{"Mon-Fri 02:00-05:00", "2026-03-07 03:00", false, 0},
		{"fri-mon 02:00-05:00", "2026-03-01 03:00", true, 2 * time.Hour},
		{"fri-mon 02:00-05:00", "2026-03-04 03:00", false, 0},
		{"Fri 22:00-02:00", "2026-03-06 23:00", true, 3 * time.Hour},
		{"Fri 22:00-02:00", "2026-03-07 01:30", true, 30 * time.Minute},
		{"Fri 22:00-02:00", "2026-03-06 01:30", false, 0},
		{"Fri 22:00-02:00", "2026-03-07 22:30", false, 0},
		{"Fri 22:00-24:00; Sat 00:00-06:00", "2026-03-06 23:00", true, 7 * time.Hour},
		{"00:00-24:00", "2026-03-06 23:00", true, farAhead},
		{"Sat,Sun 00:00-24:00", "2026-03-08 23:00", true, time.Hour},
		{"Sun 22:00-06:00", "2026-03-02 05:00", true, time.Hour},
	} {
		at, err := time.ParseInLocation("2006-01-02 15:04", tc.at, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		w := window(t, tc.window)
		if w.Open(at) != tc.open || w.Left(at) != tc.left {
			t.Errorf("%s at %s: open %v, %s left; want %v, %s", tc.window, tc.at, w.Open(at), w.Left(at), tc.open, tc.left)
		}
		if again := window(t, w.String()); again.Open(at) != tc.open {
			t.Errorf("%s is shown as %s", tc.window, w)
		}
		if next := w.Opens(at); !w.Open(next) || next.Before(at) {
			t.Errorf("%s at %s opens next %s", tc.window, tc.at, next)
		}
	}
}

// TestWindowOverClockChanges: whatever the clocks do, at no moment that Left promises does the wall show a
// time outside, and when it ends the wall does.
func TestWindowOverClockChanges(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"} {
		loc := zone(t, name)
		for _, text := range []string{"02:00-05:00", "01:10-01:40", "02:15-02:45", "22:00-02:30", "Sun 01:30-03:00", "Sat 23:00-02:00"} {
			w := window(t, text)
			for _, day := range []time.Time{time.Date(2026, 3, 7, 12, 0, 0, 0, loc), time.Date(2026, 3, 28, 12, 0, 0, 0, loc),
				time.Date(2026, 10, 24, 12, 0, 0, 0, loc), time.Date(2026, 10, 31, 12, 0, 0, 0, loc), time.Date(2026, 4, 4, 12, 0, 0, 0, loc)} {
				for at := day; at.Sub(day) < 48*time.Hour; at = at.Add(7 * time.Minute) {
					left := w.Left(at)
					if (left > 0) != w.Open(at) {
						t.Fatalf("%s in %s at %s: open %v with %s left", text, name, at, w.Open(at), left)
					}
					for d := time.Duration(0); d < left; d += 5 * time.Minute {
						if !w.Open(at.Add(d)) {
							t.Fatalf("%s in %s at %s: promised %s, closed after %s", text, name, at, left, d)
						}
					}
					if left > 0 && left < farAhead && w.Open(at.Add(left)) {
						t.Fatalf("%s in %s at %s: still open after %s", text, name, at, left)
					}
				}
			}
		}
	}
}

// TestRepeatedHourIsInsideTwice: the night the clocks go back, the wall shows 02:30 twice, and the window
// is open both times; the night they go forward it does not show it, and the window is not open.
func TestRepeatedHourIsInsideTwice(t *testing.T) {
	t.Parallel()
	loc := zone(t, "Europe/Berlin")
	w := window(t, "02:00-03:00")
	minutes := func(day time.Time) (n int) {
		for at := day; at.Sub(day) < 6*time.Hour; at = at.Add(time.Minute) {
			if w.Open(at) {
				n++
			}
		}
		return n
	}
	for day, want := range map[string]int{"2026-10-25": 120, "2026-03-29": 0, "2026-06-01": 60} {
		midnight, err := time.ParseInLocation("2006-01-02", day, loc)
		if err != nil {
			t.Fatal(err)
		}
		if got := minutes(midnight); got != want {
			t.Errorf("%s: open for %d minutes, want %d", day, got, want)
		}
	}
}

func TestWindowsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", ";", "never", "2:00-5:00", "02:00", "02:00-02:00", "24:00-02:00", "02:00-25:00", "02:60-03:00",
		"Mon-Foo 02:00-05:00", "02:00-05:00 Mon", "Mon Tue 02:00-05:00", "Mon-Fri", "-1:00-05:00", "02:00-05:00; x", "+2:00-05:00"} {
		if w, err := ParseWindow(text); err == nil {
			t.Errorf("%q is taken for %s", text, w)
		}
	}
}
