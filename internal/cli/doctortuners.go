package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// otherTuners are daemons that write the same tunables, by the name of their process.
func otherTuners() []string { return []string{"tuned", "bpftune"} }

// tunerFindings looks below a /proc for other tuners. A trial yields to what they write and never writes it
// again, so beside one of them much of what is tried is lost.
func tunerFindings(proc string) []finding {
	var seen []string
	entries, err := os.ReadDir(proc)
	if err != nil {
		return []finding{{Area: "other tuners", Status: "limited", Text: "not known whether another tuner runs: " + err.Error()}}
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(proc, e.Name(), "comm"))
		if err != nil {
			continue // it has ended, or is not ours to see
		}
		if name := strings.TrimSpace(string(comm)); slices.Contains(otherTuners(), name) {
			seen = append(seen, fmt.Sprintf("%s (pid %s)", name, e.Name()))
		}
	}
	if len(seen) == 0 {
		return []finding{{Area: "other tuners", Status: "ok", Text: "neither TuneD nor bpftune runs"}}
	}
	return []finding{{Area: "other tuners", Status: "limited",
		Text: strings.Join(seen, ", ") + " runs: what it writes is yielded to, never fought over",
		Hint: "stop it, or protect the tunables it sets with PROTECTED"}}
}
