package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// TestShowWorkloads: the busiest first, with the readings and their units; nothing where nothing is known.
func TestShowWorkloads(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	showWorkloads(&b, tune.Snapshot{})
	if b.Len() != 0 {
		t.Errorf("of nothing it shows %q", b.String())
	}
	var snap tune.Snapshot
	for i := range 20 {
		snap.Workloads = append(snap.Workloads, tune.Workload{Name: fmt.Sprintf("prog%d\x1b", i), Entity: "pid:7", Kind: tune.WorkloadWeb, Score: 0.78,
			Evidence: []tune.Fact{{Signal: "requests", Value: 120, Unit: "/s"}, {Signal: "answer_bytes", Value: 2048, Unit: "bytes"}}})
	}
	showWorkloads(&b, snap)
	for _, want := range []string{"prog0", "pid:7", "web", "78 %", "requests 120/s", "2 KiB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
	if n := strings.Count(b.String(), "prog"); n != shownWorkloads || strings.Contains(b.String(), "\x1b") {
		t.Errorf("%d rows, or a raw escape:\n%s", n, b.String())
	}
}
