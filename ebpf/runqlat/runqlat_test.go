package runqlat

import (
	"testing"
	"time"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
)

func TestCounts(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	time.Sleep(time.Second)
	got := probetest.Read(t, p)
	h := got.Hist("", signal)
	t.Logf("%d waits, p50 %.1f us, p95 %.1f us", h.Count(), h.Quantile(.5)/1e3, h.Quantile(.95)/1e3)
	if h.Count() == 0 {
		t.Error("no task waited for a CPU within a second")
	}
}
