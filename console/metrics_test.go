package console

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
)

func fetch(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v %s", url, res.StatusCode, err, body)
	}
	return string(body)
}

// TestProbeMetrics: histograms in seconds, and how the probes fare. The page as a whole is held to
// promtool's rules beside it.
func TestProbeMetrics(t *testing.T) {
	t.Parallel()
	tcp, _, _ := serve(t, newConsole(t, newRoom()))
	page := fetch(t, tcp+"/metrics")
	for _, want := range []string{
		`semantos_request_latency_seconds_bucket{entity="",kind="host",le="0.0005"} 25`,
		`semantos_request_latency_seconds_bucket{entity="",kind="host",le="0.001"} 50`,
		`semantos_request_latency_seconds_bucket{entity="",kind="host",le="+Inf"} 50`,
		`semantos_request_latency_seconds_sum{entity="",kind="host"} 0.025`,
		`semantos_request_latency_seconds_count{entity="netns:1/tcp/80/` + "\uFFFD" + `",kind="server"} 40`,
		`semantos_probe_up{probe="reqlat"} 0`, `semantos_probe_duty_ratio{probe="runqlat"} 0.25`,
		`semantos_probe_cpu_share_ratio{probe="runqlat"} 0.002`, `semantos_probe_lost_events_total{probe="runqlat"} 7`,
	} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(page, `duty_ratio{probe="reqlat"}`) {
		t.Error("a probe that is not loaded has a duty")
	}
}

// TestWorkloadMetrics: one series for each name and kind, and never more than a few.
func TestWorkloadMetrics(t *testing.T) {
	t.Parallel()
	r := newRoom()
	r.snap.Workloads = []tune.Workload{{Name: "postgres", Kind: tune.WorkloadOLTP, Score: 0.7}}
	for i := range 50 {
		r.snap.Workloads = append(r.snap.Workloads, tune.Workload{Name: "postgres", Kind: tune.WorkloadOLTP, Score: 0.8},
			tune.Workload{Name: fmt.Sprintf("w%d\xff", i), Kind: tune.WorkloadHPC, Score: 1})
	}
	tcp, _, _ := serve(t, newConsole(t, r))
	page := fetch(t, tcp+"/metrics")
	if want := `semantos_workload_score_ratio{kind="oltp",name="postgres"} 0.8` + "\n"; !strings.Contains(page, want) {
		t.Errorf("the page lacks %s", want)
	}
	if n := strings.Count(page, "\nsemantos_workload_score_ratio{"); n != maxWorkloads {
		t.Errorf("%d workloads are shown, not %d", n, maxWorkloads)
	}
}

// TestHistogramsAreBounded: however many servers there are, the host's and the most used are shown.
func TestHistogramsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRoom()
	cfg := wiring(r)
	cfg.Probes = func() ([]ProbeStat, []Histogram) {
		var out []Histogram
		for i := range 1000 {
			out = append(out, Histogram{Name: "x", Help: "X.", Kind: "server", Entity: strings.Repeat("a", i), Count: uint64(i),
				Below: func(float64) float64 { return 0 }})
		}
		return nil, append(out, Histogram{Name: "x", Help: "X.", Kind: hostKind, Count: 1, Below: func(float64) float64 { return 1 }})
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tcp, _, _ := serve(t, c)
	page := fetch(t, tcp+"/metrics")
	if n := strings.Count(page, "semantos_x_seconds_count{"); n != maxHistograms {
		t.Errorf("%d histograms", n)
	}
	if !strings.Contains(page, `semantos_x_seconds_count{entity="",kind="host"} 1`) ||
		!strings.Contains(page, strings.Repeat("a", 999)) || !strings.Contains(page, "semantos_telemetry_signals_dropped 801\n") {
		t.Error("not the host's and the most used, or what was left out is not counted")
	}
}

// TestSnapshotMetrics: the old names, in their units, and only what was seen.
func TestSnapshotMetrics(t *testing.T) {
	t.Parallel()
	tcp, _, _ := serve(t, newConsole(t, newRoom()))
	var got struct {
		HostID  string             `json:"host_id"`
		TS      float64            `json:"ts"`
		Metrics map[string]float64 `json:"metrics"`
	}
	if err := json.Unmarshal([]byte(fetch(t, tcp+"/snapshot")), &got); err != nil {
		t.Fatal(err)
	}
	if got.HostID != "example" || got.TS != float64(noon.Unix()) {
		t.Errorf("%+v", got)
	}
	want := map[string]float64{"p95_latency_ms": 12, "cpu_load_1": 0.5, "p95_block_io_ms": 1.5}
	if d := cmp.Diff(want, got.Metrics); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if o := Observe("", tune.Snapshot{BootID: "b"}, nil); o.HostID != "b" {
		t.Errorf("without a name the host is %q, want its boot id", o.HostID)
	}
}
