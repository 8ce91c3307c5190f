package console

import (
	"context"
	"time"

	"semantos/internal/tune"
)

// Watch is what the loop saw and where it stands.
type Watch interface {
	Snapshot() (tune.Snapshot, []tune.Symptom)
	State() tune.LoopState
}

// Adviser samples and recommends.
type Adviser interface {
	Recommend(ctx context.Context, req RecommendRequest) (Advice, error)
}

// Rollouts starts, steers and takes back. Apply returns when the trial has ended; when ctx ends first
// (the client left, the server stops) what is not committed is put back.
type Rollouts interface {
	Apply(ctx context.Context, req ApplyRequest, progress func(Event)) (tune.Rollout, error)
	Rollback(ctx context.Context, req RollbackRequest) (RollbackResult, error)
	Advance(ctx context.Context, req AdvanceRequest) (tune.Rollout, error)
	Hold(ctx context.Context, req HoldRequest) (tune.LoopState, error)
	Abort(ctx context.Context, req AbortRequest) (tune.Rollout, error)
	Freeze(ctx context.Context, req FreezeRequest) (FreezeResult, error)
	Calibrate(ctx context.Context) (tune.Calibration, error)
}

// Samples takes what a meter that runs in the calling command line measured.
type Samples interface {
	Sample(ctx context.Context, req SampleRequest) error
}

// Records is what happened and what stands.
type Records interface {
	Status(ctx context.Context) (Status, error)
	History(ctx context.Context, q HistoryQuery) ([]tune.Rollout, error)
}

// RecommendRequest asks for advice over a window; 0 takes what serve has sampled already.
type RecommendRequest struct {
	WindowS float64 `json:"window_s"`
}

// Advice is what recommend prints.
type Advice struct {
	Recommendations []tune.Recommendation `json:"recommendations"`
	Symptoms        []tune.Symptom        `json:"symptoms"`
	Snapshot        tune.Snapshot         `json:"snapshot"`
	Notes           []string              `json:"notes,omitempty"` // what could not be seen, for people
}

// ApplyRequest tries a stored recommendation (ID) or an operator's own change (Set); exactly one of
// them. A meter that is a command runs in the client, which names it in ClientMeter and posts samples;
// Meter is one that serve runs itself: ebpf: alone, which starts no program and sends no request.
type ApplyRequest struct {
	ID         string    `json:"id,omitempty"`
	Set        []string  `json:"set,omitempty"` // NAME[@TARGET]=VALUE
	StageTimeS float64   `json:"stage_time_s,omitempty"`
	Steps      []float64 `json:"steps,omitempty"`
	Margin     *float64  `json:"margin,omitempty"`
	SLOMaxP95  *float64  `json:"slo_max_p95,omitempty"`
	// MaxErrorRate is the share of requests that may fail while treated.
	MaxErrorRate *float64 `json:"max_error_rate,omitempty"`
	ClientMeter  string   `json:"client_meter,omitempty"`
	Meter        string   `json:"meter,omitempty"`
	FreshMeter   bool     `json:"fresh_meter,omitempty"` // each sample makes new sockets and mappings
	Yes          bool     `json:"yes,omitempty"`
	Hold         bool     `json:"hold,omitempty"`
	Persist      bool     `json:"persist,omitempty"`
	DryRun       bool     `json:"dry_run,omitempty"`
	Actor        string   `json:"-"` // from the peer's credentials, never from the request
}

// RollbackRequest takes back one rollout (its id, its recommendation's id, or "" for the newest) or all.
type RollbackRequest struct {
	ID    string `json:"id,omitempty"`
	All   bool   `json:"all,omitempty"`
	Actor string `json:"-"`
}

// RollbackResult names the rollouts taken back and, per tunable, what stands now.
type RollbackResult struct {
	Rollouts []tune.Rollout `json:"rollouts"`
	Restored []tune.Managed `json:"restored"`
}

// AdvanceRequest lets a held rollout go on.
type AdvanceRequest struct {
	ID    string `json:"id"`
	Actor string `json:"-"`
}

// HoldRequest stops one rollout from advancing, or with an empty id keeps the loop from starting any.
type HoldRequest struct {
	ID    string `json:"id,omitempty"`
	Hold  bool   `json:"hold"`
	Why   string `json:"why,omitempty"`
	Actor string `json:"-"`
}

// AbortRequest ends one rollout, by its id or its recommendation's: what runs is put back, what waits never begins.
type AbortRequest struct {
	ID    string `json:"id"`
	Why   string `json:"why,omitempty"`
	Actor string `json:"-"`
}

// FreezeRequest forbids every change on the host, or with freeze false allows them again.
type FreezeRequest struct {
	Freeze bool   `json:"freeze"`
	Why    string `json:"why,omitempty"`
	Actor  string `json:"-"`
}

// FreezeResult is the freeze that stands, and what was put back for it.
type FreezeResult struct {
	Frozen   *tune.Freeze   `json:"frozen,omitempty"`
	Rollouts []tune.Rollout `json:"rollouts"`
	Restored []tune.Managed `json:"restored"`
}

// SampleRequest answers a progress event of kind "sample" with its sequence number; Error instead of a
// sample says that the client's meter failed.
type SampleRequest struct {
	Rollout string            `json:"rollout"`
	Seq     int               `json:"seq"`
	Sample  *tune.MeterSample `json:"sample,omitempty"`
	Error   string            `json:"error,omitempty"`
}

// Status is what status prints.
type Status struct {
	Rollouts []tune.Rollout `json:"rollouts"`
	Managed  []tune.Managed `json:"managed"`
	Loop     tune.LoopState `json:"loop"`
	// Calibration is where the gate stands, and how right vetoes and rollbacks were.
	Calibration tune.Calibration `json:"calibration"`
	// Limits are what no trial may break or use up.
	Limits tune.LimitStanding `json:"limits"`
	// Frozen is a person's word that nothing may change.
	Frozen *tune.Freeze `json:"frozen,omitempty"`
}

// HistoryQuery picks one rollout by id, or the newest ones.
type HistoryQuery struct {
	ID    string
	Limit int
}

// Event is one step of something that takes time.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	Message string    `json:"message"`
	Rollout string    `json:"rollout,omitempty"`
	Data    any       `json:"data,omitempty"`
}

// CollectorStat is how one collector of telemetry did in the newest tick.
type CollectorStat struct {
	Name     string
	Duration time.Duration
	Success  bool
}

// ProbeStat is how one eBPF probe fares. Without Measured its share of the CPUs is not known.
type ProbeStat struct {
	Name     string
	Up       bool
	Duty     float64 // share of the time it counts
	Measured bool
	CPUShare float64 // of all CPUs
	Lost     uint64
}

// Histogram is a cumulative distribution in seconds since the probe was loaded. Below gives how many
// values were below a bound in seconds.
type Histogram struct {
	Name   string // without prefix and unit: "request_latency"
	Help   string
	Kind   string // of the entity, "host" for the host
	Entity string
	Count  uint64
	Sum    float64
	Below  func(seconds float64) float64
}
