package tune

import "time"

// Written is one write of a tunable that the kernel told of, by whoever made it.
type Written struct {
	Time       time.Time
	PID        int
	Start      uint64 // of the process; with PID it names one for good
	Comm       string // "" when it had ended before that could be read
	Exe        string // "" where not told
	UID        int    // -1 where not told
	Parent     int    // 0 where not told
	ParentComm string
	Value      Value // as written, or as the file showed right after
	Cut        bool  // the value was longer than what is kept, or written behind the file's start
	Own        bool  // by this process
	// Lost counts writes of anything that could not be kept just before here; nothing else is set then.
	Lost uint64
}

// Seen is what was seen of a tunable's writes: all of them since a moment, oldest first.
type Seen struct {
	Writes []Written
	Since  time.Time // zero: nothing is seen
	Why    string    // why nothing is seen, or what may be missing
}
