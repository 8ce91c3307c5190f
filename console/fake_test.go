package console

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

// room answers as the wired rooms would, with every field filled at least once.
type room struct {
	snap    tune.Snapshot
	state   tune.LoopState
	err     error
	applied []ApplyRequest
	samples []SampleRequest
	apply   func(ctx context.Context, progress func(Event)) (tune.Rollout, error)
	panics  bool
	taught  []any // what was asked to be stored
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func exampleRecommendation() tune.Recommendation {
	return tune.Recommendation{ID: "0123456789ab", Changes: []tune.Change{{Tunable: "net.core.somaxconn", Scope: tune.ScopeNetns,
		Target: "netns:1", Current: "8", Proposed: "4096", TakesEffect: tune.NextListen, Why: "w", Risk: tune.RiskLow}},
		Uncertainty: 0.3, Provenance: tune.Provenance{Symptom: "s", Voters: []tune.Voter{{Name: "rules", Agrees: true}}}}
}

func exampleRollout() tune.Rollout {
	e := &tune.Effect{Metric: "p95_ms", Better: "lower", Ratio: 0.5, Low: 0.4, High: 0.6}
	return tune.Rollout{ID: "0123456789ab-x", Recommendation: exampleRecommendation(), State: tune.Committed,
		Stages: []tune.Stage{{Share: 5, Verdict: tune.Pass}, {Share: 100, Verdict: tune.Pass, Effect: e}}, Effect: e,
		Reason: tune.ReasonBetter, Actor: "uid 0", Started: noon, Ended: noon.Add(time.Minute)}
}

func exampleCalibration() tune.Calibration {
	half, tau := 0.5, 0.31
	return tune.Calibration{Time: noon, Known: true, Calibrated: true, Tau: tau, TauLimit: 0.55, TauConformal: &tau, Alpha: 0.1,
		Outcomes: 40, Unsafe: 12, Basis: 12, BasisKind: "open", Window: tune.Window{Limit: 400, MaxAge: 30, Oldest: noon, Newest: noon},
		Cuts:   []tune.DriftCut{{At: noon, Stream: "scores", Dropped: 9}},
		Vetoes: tune.Accuracy{Precision: &half, Checked: 2, Meaning: "m"}, Note: "n"}
}

func exampleSymptom() tune.Symptom {
	return tune.Symptom{Name: "accept_queue", Resource: "accept queue", Entity: "l1", Labels: map[string]string{"port": "80"},
		Severity: 0.8, Summary: "full", Evidence: []tune.Fact{{Signal: "listener.queue", Value: 9}}, Measure: tune.Measure{Signal: "x", Better: "lower"}}
}

func exampleState() tune.LoopState {
	return tune.LoopState{Phase: "watching", Ready: true, Reason: "r", AutoApply: "on", LastTick: noon, LastDiagnosis: noon, Ticks: 3,
		Decisions: map[string]int64{"committed": 1}, Resting: []tune.Resting{{What: "a", Until: noon, Why: "w"}},
		Leftovers: []tune.Managed{{Tunable: "vm.a", State: "committed"}}}
}

func (r *room) Snapshot() (tune.Snapshot, []tune.Symptom) {
	return r.snap, []tune.Symptom{exampleSymptom()}
}
func (r *room) State() tune.LoopState {
	if r.panics {
		panic("boom")
	}
	return r.state
}
func (r *room) Recommend(context.Context, RecommendRequest) (Advice, error) {
	return Advice{Recommendations: []tune.Recommendation{exampleRecommendation()}, Snapshot: r.snap}, r.err
}
func (r *room) Apply(ctx context.Context, req ApplyRequest, progress func(Event)) (tune.Rollout, error) {
	r.applied = append(r.applied, req)
	if r.apply != nil {
		return r.apply(ctx, progress)
	}
	return exampleRollout(), r.err
}
func (r *room) Rollback(context.Context, RollbackRequest) (RollbackResult, error) {
	return RollbackResult{Rollouts: []tune.Rollout{exampleRollout()}}, r.err
}
func (r *room) Advance(context.Context, AdvanceRequest) (tune.Rollout, error) {
	return exampleRollout(), r.err
}
func (r *room) Hold(context.Context, HoldRequest) (tune.LoopState, error) {
	return r.state, r.err
}
func (r *room) Abort(_ context.Context, req AbortRequest) (tune.Rollout, error) {
	out := exampleRollout()
	out.State, out.Detail = tune.RolledBack, "stopped by "+req.Actor+"; "+req.Why
	return out, r.err
}
func (r *room) Freeze(_ context.Context, req FreezeRequest) (FreezeResult, error) {
	if !req.Freeze || r.snap.Ticks == 0 {
		return FreezeResult{}, r.err
	}
	return FreezeResult{Frozen: &tune.Freeze{At: noon, By: req.Actor, Why: req.Why}, Rollouts: []tune.Rollout{exampleRollout()},
		Restored: []tune.Managed{{Tunable: "vm.a", State: "restored"}}}, r.err
}
func (r *room) Calibrate(context.Context) (tune.Calibration, error) {
	return exampleCalibration(), r.err
}
func (r *room) Sample(_ context.Context, req SampleRequest) error {
	r.samples = append(r.samples, req)
	return r.err
}
func (r *room) Status(context.Context) (Status, error) {
	return Status{Rollouts: []tune.Rollout{exampleRollout(), {State: tune.Vetoed}}, Loop: r.state,
		Calibration: exampleCalibration(), Limits: exampleLimits(), Frozen: &tune.Freeze{At: noon, By: "uid 0", Why: "w", DataDir: "/d"}}, r.err
}
func (r *room) History(context.Context, HistoryQuery) ([]tune.Rollout, error) {
	return []tune.Rollout{exampleRollout()}, r.err
}

func exampleEdge() tune.Edge {
	return tune.Edge{From: "vm.a", Type: tune.DependsOn, To: "vm.b", Sign: 1, Weight: 0.5, Seed: 0.4, Evidence: 2, Learned: 0.9, Documented: true,
		Retired: true, Why: "w", Source: "man 2 x", Updated: noon}
}

func exampleNode() tune.Node {
	return tune.Node{ID: "vm.a", Kind: tune.NodeTunable, Summary: "s", Source: "x"}
}

func (r *room) Search(context.Context, SearchRequest) ([]SearchHit, error) {
	if r.snap.Ticks == 0 {
		return nil, r.err
	}
	return []SearchHit{{Kind: "tunable", Name: "vm.a", Score: 0.5, Why: "words: a"}}, r.err
}
func (r *room) Neighborhood(context.Context, NeighborhoodRequest) (Neighborhood, error) {
	if r.snap.Ticks == 0 {
		return Neighborhood{Node: exampleNode()}, r.err
	}
	return Neighborhood{Node: exampleNode(), Edges: []tune.Edge{exampleEdge()},
		Reached: []Reached{{Node: exampleNode(), Depth: 1, Strength: 0.5, Edge: exampleEdge()}}}, r.err
}
func (r *room) Path(context.Context, PathRequest) (Path, error) {
	if r.snap.Ticks == 0 {
		return Path{}, r.err
	}
	return Path{Edges: []tune.Edge{exampleEdge()}, Strength: 0.5}, r.err
}
func (r *room) Decay(context.Context, DecayRequest) (Decay, error) {
	if r.snap.Ticks == 0 {
		return Decay{}, r.err
	}
	return Decay{Now: noon, At: noon, Edges: []DecayedEdge{{From: "vm.a", Type: tune.DependsOn, To: "vm.b", WeightNow: 0.5}}}, r.err
}
func (r *room) UpsertTunable(_ context.Context, req TunableRequest) (tune.Node, error) {
	r.taught = append(r.taught, req)
	return exampleNode(), r.err
}
func (r *room) UpsertEdge(_ context.Context, req EdgeRequest) (tune.Edge, error) {
	r.taught = append(r.taught, req)
	return exampleEdge(), r.err
}
func (r *room) Induce(_ context.Context, req InduceRequest) ([]Finding, error) {
	r.taught = append(r.taught, req)
	if r.snap.Ticks == 0 {
		return nil, r.err
	}
	return []Finding{{A: "vm.a", B: "vm.b", Interaction: 0.5, Low: 0.4, High: 0.6, Runs: 2, Kept: true}}, r.err
}
func (r *room) UpsertTrace(_ context.Context, req TraceRequest) (TraceResult, error) {
	r.taught = append(r.taught, req)
	return TraceResult{ID: "t", Learned: true}, r.err
}

func newRoom() *room {
	return &room{state: exampleState(), snap: tune.Snapshot{Time: noon, Window: 10, Ticks: 3, BootID: "b",
		Signals: map[string]float64{"vm.pgfault": 3, "tcp.listen_overflows": 0, "request.latency_ms.p95": 12, "cpu.load1.last": 0.5,
			"block.latency_us.p95": 1500},
		Entities: map[string][]tune.Entity{"listener": {{Kind: "listener", ID: "l1", Labels: map[string]string{"port": "80"},
			Signals: map[string]float64{"listener.queue": 9}}}},
		Missing: []tune.Missing{{Collector: "zswap", Reason: "absent"}}}}
}

// exampleProbes are one that counts part of the time, one that failed, and histograms of a host and a server.
func exampleProbes() ([]ProbeStat, []Histogram) {
	below := func(n float64) func(float64) float64 {
		return func(s float64) float64 { return n * min(1, s/0.001) }
	}
	return []ProbeStat{{Name: "runqlat", Up: true, Duty: 0.25, Measured: true, CPUShare: 0.002, Lost: 7}, {Name: "reqlat"}},
		[]Histogram{
			{Name: "request_latency", Help: "Time of a request.", Kind: "server", Entity: "netns:1/tcp/80/\xff", Count: 40, Sum: 0.02, Below: below(40)},
			{Name: "request_latency", Help: "Time of a request.", Kind: "host", Count: 50, Sum: 0.025, Below: below(50)},
		}
}

func exampleCounts() SafetyCounts {
	return SafetyCounts{Rollouts: map[[2]string]uint64{{"rolled_back", "worse"}: 2, {"committed", "better"}: 1}, Vetoes: map[string]uint64{"uncertainty": 3},
		Writes: map[string]uint64{"apply": 9}, Restores: map[string]uint64{"restored": 4, "yielded": 1}, Yields: 1,
		Alerts: map[string]uint64{"delivered": 5}, AlertRetries: 6, AlertsWaiting: 7, AuditRecords: 80, AuditErrors: 1, AuditLost: 2, GuardDeaths: 1}
}

func newConsole(t *testing.T, r *room) *Console {
	t.Helper()
	c, err := New(wiring(r))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wiring(r *room) Config {
	return Config{Watch: r, Adviser: r, Rollouts: r, Samples: r, Records: r, Knowing: r, Teaching: r, Hub: NewHub(), Version: "v0",
		Collectors: func() []CollectorStat {
			return []CollectorStat{{Name: "vmstat", Duration: time.Millisecond, Success: true}, {Name: "zswap"}}
		},
		Safety: exampleCounts,
		Probes: func() ([]ProbeStat, []Histogram) { return exampleProbes() }, HostID: "example",
		Listen: "127.0.0.1:0", UID: os.Geteuid(), Log: slog.New(slog.DiscardHandler)}
}

// serve runs both listeners and gives a client for each; the base URL of the socket's client is any.
func serve(t *testing.T, c *Console) (tcpURL string, unix *http.Client, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), strings.Repeat("long", 30), "semantos.sock")
	if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	ul, err := ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx, tl, ul) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve ended with %v", err)
		}
		if _, err := os.Lstat(socket); err == nil {
			t.Error("the socket outlives serve")
		}
	})
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return DialUnix(ctx, socket) }}
	t.Cleanup(transport.CloseIdleConnections)
	return "http://" + tl.Addr().String(), &http.Client{Transport: transport}, socket
}

func exampleLimits() tune.LimitStanding {
	return tune.LimitStanding{MaxP95MS: 35, MaxErrorRate: 0.5, Pressure: []tune.PressureLine{{Key: "PSI_MAX_IO", Percent: 80, Readable: true}},
		Protected: []string{"vm.swappiness"}, Narrowed: []string{}, Budget: tune.BudgetStanding{LimitSeconds: 3600, UsedSeconds: 60, LeftSeconds: 3540},
		Window: tune.WindowStanding{Window: "02:00-05:00", Until: time.Date(2026, 3, 4, 2, 0, 0, 0, time.UTC)}}
}
