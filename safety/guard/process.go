package guard

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Weaknesses tries on the calling process what a guard does to protect itself, takes it back, and says
// what this host refuses.
func Weaknesses() []string {
	const file = "/proc/self/oom_score_adj"
	before, err := os.ReadFile(file)
	notes := harden()
	_ = unix.Munlockall() // it only undoes what has just been done
	if err == nil {
		_ = os.WriteFile(file, before, 0o644) // raising it again is always permitted
	}
	return notes
}

// harden makes the guard the last process to be killed for memory and keeps its pages in: it must run
// when the change it guards has brought the machine to its knees. What is refused is noted for doctor.
func harden() []string {
	var notes []string
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0o644); err != nil {
		notes = append(notes, fmt.Sprintf("guard can be killed when memory runs out: oom_score_adj -1000 is not permitted (%v)", err))
	}
	if err := lockMemory(); err != nil {
		var limit unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil {
			err = fmt.Errorf("%w, RLIMIT_MEMLOCK is %d bytes", err, limit.Cur)
		}
		notes = append(notes, fmt.Sprintf("guard's memory can be paged out: mlockall is not permitted (%v)", err))
	}
	return notes
}

func lockMemory() error { return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT) }
