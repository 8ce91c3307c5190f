package config

import (
	"fmt"
	"strings"
	"time"
)

// Window is when unattended rollouts may run, by the local wall clock. The zero Window is always open.
type Window struct{ spans []span }

// span is one stretch of days and minutes; one that ends at or before its start goes on over midnight,
// and belongs to the day it began on.
type span struct {
	days       [7]bool // by time.Weekday
	start, end int     // minutes of the day, end up to 24*60
}

// WindowAlways is the word for no window.
const WindowAlways = "always"

func maintenance() key {
	return key{
		name: "MAINTENANCE_WINDOW", def: WindowAlways, help: "when serve may try by itself, in local time",
		accepts: "always, or days and hours such as Mon-Fri 02:00-05:00, several between semicolons",
		set: func(c *Config, v string) error {
			w, err := ParseWindow(v)
			c.MaintenanceWindow = w
			return err
		},
		show: func(c *Config) string { return c.MaintenanceWindow.String() },
	}
}

// ParseWindow reads "always", or spans such as "Mon-Fri 02:00-05:00; Sat,Sun 22:00-06:00". Without days a
// span is of every day.
func ParseWindow(text string) (Window, error) {
	if strings.TrimSpace(text) == WindowAlways {
		return Window{}, nil
	}
	var w Window
	for _, f := range fields(text, ";") {
		s, ok := parseSpan(f)
		if !ok {
			return Window{}, errNotAccepted
		}
		w.spans = append(w.spans, s)
	}
	if len(w.spans) == 0 {
		return Window{}, errNotAccepted
	}
	return w, nil
}

func parseSpan(text string) (span, bool) {
	s := span{days: [7]bool{true, true, true, true, true, true, true}}
	words := strings.Fields(text)
	if len(words) == 2 {
		var ok bool
		if s.days, ok = parseDays(words[0]); !ok {
			return s, false
		}
		words = words[1:]
	}
	if len(words) != 1 {
		return s, false
	}
	from, to, ok := strings.Cut(words[0], "-")
	start, okStart := parseClock(from)
	end, okEnd := parseClock(to)
	if !ok || !okStart || !okEnd || start == 24*60 || start == end {
		return s, false
	}
	s.start, s.end = start, end
	return s, true
}

func dayNames() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

func parseDays(text string) (days [7]bool, ok bool) {
	day := func(name string) int {
		for i, d := range dayNames() {
			if strings.EqualFold(d, name) {
				return i
			}
		}
		return -1
	}
	for _, part := range strings.Split(text, ",") {
		from, to, several := strings.Cut(part, "-")
		first, last := day(from), day(from)
		if several {
			last = day(to)
		}
		if first < 0 || last < 0 {
			return days, false
		}
		for d := first; ; d = (d + 1) % 7 { // Fri-Mon goes over Sunday
			days[d] = true
			if d == last {
				break
			}
		}
	}
	return days, true
}

func parseClock(text string) (int, bool) {
	if text == "24:00" {
		return 24 * 60, true
	}
	at, err := time.Parse("15:04", text)
	if err != nil || len(text) != 5 {
		return 0, false
	}
	return at.Hour()*60 + at.Minute(), true
}

// Always reports that it is never closed.
func (w Window) Always() bool { return len(w.spans) == 0 }

// Open reports whether the wall clock of t lies inside. It asks the clock on the wall and nothing else,
// so that an hour that a change to summer time skips or repeats is what the wall says it is.
func (w Window) Open(t time.Time) bool {
	if w.Always() {
		return true
	}
	minute, day := t.Hour()*60+t.Minute(), int(t.Weekday())
	for _, s := range w.spans {
		yesterday := (day + 6) % 7
		switch over := s.end <= s.start; {
		case s.days[day] && minute >= s.start && (over || minute < s.end),
			over && s.days[yesterday] && minute < s.end:
			return true
		}
	}
	return false
}

// farAhead is how far Left looks: longer than any rollout's stages by default. A week holds every span.
const farAhead, aWeek = 24 * time.Hour, 8 * 24 * time.Hour

// Left gives how long it stays open from t, 0 when it is closed, a day at most. It walks the minutes of
// real time, since every change of the wall clock happens between two of them.
func (w Window) Left(t time.Time) time.Duration {
	if w.Always() {
		return farAhead
	}
	return w.walk(t, true, farAhead)
}

// Opens gives when it opens next; t itself when it is open.
func (w Window) Opens(t time.Time) time.Time { return t.Add(w.walk(t, false, aWeek)) }

func (w Window) walk(t time.Time, open bool, most time.Duration) time.Duration {
	if w.Open(t) != open {
		return 0
	}
	at := t.Truncate(time.Minute)
	for {
		if at = at.Add(time.Minute); at.Sub(t) >= most {
			return most
		}
		if w.Open(at) != open {
			return at.Sub(t)
		}
	}
}

func (w Window) String() string {
	if w.Always() {
		return WindowAlways
	}
	out := make([]string, len(w.spans))
	for i, s := range w.spans {
		out[i] = s.String()
	}
	return strings.Join(out, "; ")
}

func (s span) String() string {
	hours := fmt.Sprintf("%02d:%02d-%02d:%02d", s.start/60, s.start%60, s.end/60, s.end%60)
	var days []string
	for i := range 7 {
		d := (i + 1) % 7 // the week begins on Monday
		if name := dayNames()[d]; s.days[d] {
			days = append(days, strings.ToUpper(name[:1])+name[1:])
		}
	}
	if len(days) == 7 {
		return hours
	}
	return strings.Join(days, ",") + " " + hours
}
