package simulate

import (
	_ "embed"
	"fmt"
	"strings"
)

// recorded are seconds of nginx under wrk with 256 clients, one connection per request, which fill both
// CPUs of a shared machine, as 24 clients beside them saw it. Nothing was changed meanwhile.
//
//go:embed recorded.csv
var recorded string

// Recorded is a real load that leaves nothing idle, slot by slot.
func Recorded() (Load, error) {
	_, text, _ := strings.Cut(recorded, "\n") // its head
	var l Load
	for line := range strings.Lines(text) {
		var r Reading
		if _, err := fmt.Sscanf(line, "%f,%f\n", &r.P95, &r.Throughput); err != nil {
			return Load{}, fmt.Errorf("read the recorded load: %w", err)
		}
		l.Replay = append(l.Replay, r)
	}
	return l, nil
}

// Noisy are kinds of noise beyond what promises hold in.
func Noisy() ([]Kind, error) {
	full, err := Recorded()
	return []Kind{
		{"20 %", Load{CV: 0.2}},
		{"30 %", Load{CV: 0.3}},
		{"50 %", Load{CV: 0.5}},
		{"50 %, AR 0.5", Load{CV: 0.5, AR: 0.5}},
		{"30 %, long tail", Load{CV: 0.3, Tail: 0.3}},
		{"10 %, bursts", Load{CV: 0.1, Bursts: 0.025}},
		{"recorded: nginx, both CPUs full", full},
	}, err
}
