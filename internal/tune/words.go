package tune

// Scope says where a value holds.
type Scope string

// The scopes of the design. A [Tunable] has exactly one.
const (
	ScopeHost    Scope = "host"
	ScopeNetns   Scope = "netns"
	ScopeCgroup  Scope = "cgroup"
	ScopeDevice  Scope = "device"
	ScopeProcess Scope = "process"
	ScopeSocket  Scope = "socket"
)

// TakesEffect says from when on a written value is felt.
type TakesEffect string

// When a value takes effect. NewMappings also covers files opened after the write, whose read-ahead
// state is copied from the device at open (mm/readahead.c, file_ra_state_init).
const (
	Immediately TakesEffect = "immediately"
	NewSockets  TakesEffect = "new-sockets"
	NewMappings TakesEffect = "new-mappings"
	NextListen  TakesEffect = "next-listen"
	Restart     TakesEffect = "restart"
	Reboot      TakesEffect = "reboot"
)

// Outlives reports whether objects made while the value held keep it after it was put back.
func (t TakesEffect) Outlives() bool { return t == NewSockets || t == NewMappings }

// Risk is how much a wrong value can hurt before it is put back.
type Risk string

// The three risks.
const (
	RiskLow    Risk = "low"
	RiskMedium Risk = "medium"
	RiskHigh   Risk = "high"
)

// Kind is the type of a tunable's value.
type Kind string

// The kinds of values. KindText is a free word checked by a pattern (a qdisc name, an affinity list).
const (
	KindInteger  Kind = "integer"
	KindBytes    Kind = "bytes"
	KindDuration Kind = "duration"
	KindEnum     Kind = "enum"
	KindVector   Kind = "vector"
	KindBitmask  Kind = "bitmask"
	KindText     Kind = "text"
)

// Method is how a tunable is reached. The set is compiled in: a catalogue file cannot add one.
type Method string

// The ways to a tunable. Choice is a file that brackets the active word ("always [madvise] never").
const (
	MethodSysctl     Method = "sysctl"
	MethodSysfs      Method = "sysfs"
	MethodChoice     Method = "choice"
	MethodCgroup     Method = "cgroup"
	MethodDebugfs    Method = "debugfs"
	MethodDMALatency Method = "dma_latency"
	MethodProcess    Method = "process" // a file of /proc/PID
	MethodBacklog    Method = "listen_backlog"
	MethodRcvbuf     Method = "socket_rcvbuf"
	MethodSndbuf     Method = "socket_sndbuf"
)

// Verdict is the judgement of one stage.
type Verdict string

// Missing data is Inconclusive, never Pass.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
)

// State is where a rollout stands.
type State string

// The states. The last four are the ones a finished apply can print.
const (
	Queued     State = "queued"
	Running    State = "running"
	Committed  State = "committed"
	RolledBack State = "rolled_back"
	Vetoed     State = "vetoed"
	Held       State = "held"
)

// Reasons of a rollout's end, beside free text of the gate.
const (
	ReasonBetter       = "better"
	ReasonNotWorse     = "not_worse"
	ReasonUnmeasured   = "unmeasured"
	ReasonNoEffect     = "no_effect"
	ReasonWorse        = "worse"
	ReasonLimit        = "limit"
	ReasonInconclusive = "inconclusive"
	ReasonOperator     = "operator"
	ReasonInterrupted  = "interrupted"
	ReasonYielded      = "yielded"
	ReasonFault        = "fault"
	ReasonExpired      = "expired" // out of exposure budget, or of its maintenance window
)
