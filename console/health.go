package console

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"semantos/internal/tune"
)

// Health is the answer of /healthz: the process runs.
type Health struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

// Readiness is the answer of /readyz, with status 503 until the first diagnosis.
type Readiness struct {
	Ready  bool   `json:"ready"`
	Phase  string `json:"phase"`
	Reason string `json:"reason"`
}

func (c *Console) healthz(ctx echo.Context) error {
	return answer(ctx, Health{Status: "ok", Version: c.cfg.Version})
}

func (c *Console) readyz(ctx echo.Context) error {
	s := c.cfg.Watch.State()
	status := http.StatusOK
	if !s.Ready {
		status = http.StatusServiceUnavailable
	}
	return send(ctx, status, "application/json", Readiness{Ready: s.Ready, Phase: s.Phase, Reason: s.Reason})
}

// Observation is the answer of /snapshot. HostID is the host's name, or its boot id where it has none;
// TS is the snapshot's time in seconds since 1970.
type Observation struct {
	tune.Snapshot
	HostID   string         `json:"host_id"`
	TS       float64        `json:"ts"`
	Metrics  Metrics        `json:"metrics"`
	Symptoms []tune.Symptom `json:"symptoms"`
}

// Observe adds to a snapshot what its readers expect beside it.
func Observe(hostID string, snap tune.Snapshot, symptoms []tune.Symptom) Observation {
	if hostID == "" {
		hostID = snap.BootID
	}
	return Observation{Snapshot: tidy(snap), HostID: hostID, TS: unixSeconds(snap), Metrics: MetricsOf(snap), Symptoms: list(symptoms)}
}

func (c *Console) snapshot(ctx echo.Context) error {
	snap, symptoms := c.cfg.Watch.Snapshot()
	if snap.Time.IsZero() {
		return &tune.Error{Op: "show snapshot", Err: tune.ErrNoData, Hint: "nothing is sampled yet: try again in a few seconds"}
	}
	return answer(ctx, Observe(c.cfg.HostID, snap, symptoms))
}

// tidy makes absent lists and maps empty: a client need not tell null from none.
func tidy(s tune.Snapshot) tune.Snapshot {
	s.Missing, s.Workloads = list(s.Missing), list(s.Workloads)
	if s.Signals == nil {
		s.Signals = map[string]float64{}
	}
	if s.Entities == nil {
		s.Entities = map[string][]tune.Entity{}
	}
	if s.Facts.Num == nil {
		s.Facts.Num = map[string]float64{}
	}
	if s.Facts.Text == nil {
		s.Facts.Text = map[string]string{}
	}
	return s
}

func list[T any](x []T) []T {
	if x == nil {
		return []T{}
	}
	return x
}
