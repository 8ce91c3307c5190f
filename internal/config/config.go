package config

import (
	"strings"
	"time"
)

// Modes of USE_EBPF and AUTO_APPLY.
const (
	Auto       = "auto"
	On         = "on"
	Off        = "off"
	Calibrated = "calibrated"
)

// DefaultFile is read when no --config names another; it may be absent.
const DefaultFile = "/etc/semantos/semantos.conf"

// Config is what every command runs with. Origin says per key where the value came from.
type Config struct {
	UseEBPF           string
	SampleWindow      time.Duration
	SampleInterval    time.Duration
	Neo4jURI          string
	Neo4jUser         string
	Neo4jPass         string
	DataDir           string
	OpenAIKey         string
	OpenAIBaseURL     string
	OpenAIModel       string
	OllamaHost        string
	OllamaModel       string
	OpenAIEmbedModel  string
	OllamaEmbedModel  string
	Tau               float64
	Alpha             float64
	RolloutSteps      []float64
	SLOMaxP95         float64 // milliseconds
	MaxErrorRate      float64 // share of requests
	PSIMaxMemory      float64 // percent of time; 0: no limit, as for the next three
	PSIMaxIO          float64
	PSIMaxCPU         float64
	MinMemAvailable   float64 // percent of memory
	Protected         []string
	Limits            []Narrowing
	ExposureBudget    time.Duration // in 24 hours; 0: no limit
	MaintenanceWindow Window
	AutoPoll          bool
	AutoApply         string
	PollInterval      time.Duration
	Margin            float64
	AlertWebhook      string
	Listen            string
	OutputsDir        string
	CatalogDir        string
	Root              string
	RunAs             string // whom serve becomes when root starts it; "" is the account semantos or a fixed uid

	AlertSecret string        // signs alerts; "" signs none
	AuditKeep   time.Duration // of the log of decisions and writes
	AuditBytes  int64

	Origin  map[string]string // by key: "default", "file PATH:LINE", "environment", "flag --name"
	Notices []string          // one line each, for people: accepted, but not as they may think
}

// Row is one line of `semantos config`.
type Row struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
	Flag   string `json:"flag"`
	Help   string `json:"help"`
}

// Rows lists every key with its value, secrets hidden, in the order of the table.
func (c Config) Rows() []Row {
	rows := make([]Row, 0, len(keys()))
	for _, k := range keys() {
		v := k.show(&c)
		if k.secret && v != "" {
			v = "(set, hidden)"
		}
		rows = append(rows, Row{Key: k.name, Value: v, Origin: c.Origin[k.name], Flag: k.flag(), Help: k.help})
	}
	return rows
}

// Flag gives a key's value when the command line set it.
func (c Config) Flag(name string) (string, bool) {
	for _, k := range keys() {
		if k.name == name {
			return k.show(&c), strings.HasPrefix(c.Origin[name], "flag ")
		}
	}
	return "", false
}

// Flag describes the command-line spelling of one key.
type Flag struct {
	Name    string
	Key     string
	Default string
	Help    string
	Secret  bool
}

// Flags lists the flags a command line should register; a secret has none, because arguments are
// visible to every user of the host.
func Flags() []Flag {
	var out []Flag
	for _, k := range keys() {
		if !k.secret {
			out = append(out, Flag{Name: k.flag(), Key: k.name, Default: k.def, Help: k.help + " (" + k.accepts + ")"})
		}
	}
	return out
}
