package alert

import "time"

// Of alerts that are alike the first few are sent within a while, and the rest as one that counts them: what
// goes back and forth must not fill a pager.
const (
	foldAfter  = 3
	foldWindow = 10 * time.Minute
	maxFolds   = 256
)

type folded struct {
	since time.Time
	sent  int
	held  int
	last  Alert
}

type folds map[string]*folded

// fold reports whether an alert is held back.
func (f folds) fold(a Alert, now time.Time) bool {
	key := a.key()
	e := f[key]
	if e == nil {
		if len(f) >= maxFolds {
			return false // so many different things are worth hearing
		}
		e = &folded{since: now}
		f[key] = e
	}
	if e.sent < foldAfter {
		e.sent++
		return false
	}
	e.held++
	e.last = a
	return true
}

// ended closes the windows that are over, and gives the newest alert of each with the count of the others.
func (f folds) ended(now time.Time, all bool) (out []Alert) {
	for key, e := range f {
		if past := now.Sub(e.since); !all && past >= 0 && past < foldWindow {
			continue
		}
		if e.held > 0 {
			a := e.last
			a.Folded = e.held - 1
			out = append(out, a)
		}
		delete(f, key)
	}
	return out
}
