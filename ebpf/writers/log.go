package writers

import (
	"strings"
	"time"

	"semantos/internal/tune"
)

// kept is how many writes are remembered, of whatever sysctl: starting a container makes some dozens.
const kept = 1024

// entry is one write with what it was of; a gap is of everything.
type entry struct {
	name  string
	netns uint32
	tune.Written
}

// log holds the newest writes. It is not safe for several goroutines.
type log struct {
	since   time.Time // all later ones are here
	entries []entry
}

func (l *log) add(e entry) {
	if len(l.entries) == kept {
		l.since = l.entries[0].Time
		l.entries = append(l.entries[:0], l.entries[1:]...)
	}
	l.entries = append(l.entries, e)
}

// of gives the writes of a sysctl, and what was lost between them. In the number 0 every namespace counts.
func (l *log) of(name string, netns uint64) tune.Seen {
	out := tune.Seen{Since: l.since}
	for _, e := range l.entries {
		if e.Lost > 0 || e.name == name && (netns == 0 || uint64(e.netns) == netns) {
			out.Writes = append(out.Writes, e.Written)
		}
	}
	return out
}

// text reads what the kernel wrote into a field of n bytes; a negative n says that it did not fit.
func text(field []byte, n int32) (s string, cut bool) {
	s, _, _ = strings.Cut(string(field), "\x00")
	return s, n < 0
}
