package config

import (
	"errors"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// key is one setting: how it is spelled, what it accepts, and how it reaches the Config.
type key struct {
	name    string
	def     string
	help    string
	accepts string
	secret  bool
	// ownEnv keys are read only as SEMANTOS_NAME: scripts use the bare word for something else.
	ownEnv bool
	set    func(*Config, string) error
	show   func(*Config) string
}

func (k key) flag() string { return strings.ToLower(strings.ReplaceAll(k.name, "_", "-")) }

var errNotAccepted = errors.New("not accepted")

// keys is the table of all settings, in the order they are documented.
func keys() []key {
	return slices.Concat(samplingKeys(), storeKeys(), modelKeys(), rolloutKeys(), limitKeys(), loopKeys(), recordKeys(), placeKeys())
}

func samplingKeys() []key {
	return []key{
		word("USE_EBPF", Auto, "eBPF probes: those that load, all of them or no start, none", func(c *Config) *string { return &c.UseEBPF }, Auto, On, Off),
		seconds("SAMPLE_WINDOW", "60", "sliding window of telemetry", 2, 3600,
			func(c *Config) *time.Duration { return &c.SampleWindow }),
		seconds("SAMPLE_INTERVAL_SEC", "5", "time between two readings", 0.2, 300,
			func(c *Config) *time.Duration { return &c.SampleInterval }),
	}
}

func storeKeys() []key {
	return []key{
		text("NEO4J_URI", "graph store", "an address", false, func(c *Config) *string { return &c.Neo4jURI }),
		text("NEO4J_USER", "graph store's user", "a name", false, func(c *Config) *string { return &c.Neo4jUser }),
		text("NEO4J_PASS", "graph store's password", "a password", true, func(c *Config) *string { return &c.Neo4jPass }),
		path("DATA_DIR", "history, knowledge and the control socket; by default /var/lib/semantos for root, "+
			"else the user's state directory", func(c *Config) *string { return &c.DataDir }),
	}
}

func modelKeys() []key {
	return []key{
		text("OPENAI_API_KEY", "key of an OpenAI-compatible service", "a key", true,
			func(c *Config) *string { return &c.OpenAIKey }),
		link("OPENAI_BASE_URL", "address of an OpenAI-compatible service", func(c *Config) *string { return &c.OpenAIBaseURL }),
		text("OPENAI_MODEL", "its model; no LLM votes in this version", "a model's name", false, func(c *Config) *string { return &c.OpenAIModel }),
		text("OLLAMA_HOST", "address of an Ollama server", "an address", false, func(c *Config) *string { return &c.OllamaHost }),
		text("OLLAMA_MODEL", "its model; no LLM votes in this version", "a model's name", false, func(c *Config) *string { return &c.OllamaModel }),
		text("OPENAI_EMBED_MODEL", "its model for the meaning of texts; unset, the table in the binary serves", "a model's name", false,
			func(c *Config) *string { return &c.OpenAIEmbedModel }),
		text("OLLAMA_EMBED_MODEL", "the Ollama model for the meaning of texts; unset, the table in the binary serves", "a model's name", false,
			func(c *Config) *string { return &c.OllamaEmbedModel }),
	}
}

func rolloutKeys() []key {
	return []key{
		number("TAU", "0.55", "largest uncertainty admitted", "a number above 0 and at most 1",
			func(x float64) bool { return x > 0 && x <= 1 }, func(c *Config) *float64 { return &c.Tau }),
		number("ALPHA", "0.10", "bound on admitting an unsafe change", "a number above 0 and below 1",
			func(x float64) bool { return x > 0 && x < 1 }, func(c *Config) *float64 { return &c.Alpha }),
		steps(),
		number("MARGIN", "0.10", "how much worse a stage may look and still advance", "a number from 0 to below 1",
			func(x float64) bool { return x >= 0 && x < 1 }, func(c *Config) *float64 { return &c.Margin }),
	}
}

func loopKeys() []key {
	return []key{
		{
			name: "AUTO_POLL", def: On, help: "running rollouts advance by themselves", accepts: "on or off",
			set: func(c *Config, v string) error {
				if v != On && v != Off {
					return errNotAccepted
				}
				c.AutoPoll = v == On
				return nil
			},
			show: func(c *Config) string {
				if c.AutoPoll {
					return On
				}
				return Off
			},
		},
		word("AUTO_APPLY", Off, "serve starts rollouts by itself", func(c *Config) *string { return &c.AutoApply },
			Off, Calibrated, On),
		seconds("POLL_INTERVAL_SEC", "10", "time between two diagnoses", 1, 3600,
			func(c *Config) *time.Duration { return &c.PollInterval }),
	}
}

func placeKeys() []key {
	return []key{
		{
			name: "LISTEN", def: "127.0.0.1:9988", help: "address of /healthz, /readyz, /snapshot and /metrics",
			accepts: "HOST:PORT",
			set: func(c *Config, v string) error {
				_, port, err := net.SplitHostPort(v)
				if err != nil {
					return errNotAccepted
				}
				if _, err := strconv.ParseUint(port, 10, 16); err != nil {
					return errNotAccepted
				}
				c.Listen = v
				return nil
			},
			show: func(c *Config) string { return c.Listen },
		},
		func() key {
			k := path("OUTPUTS_DIR", "reports of bench and lab", func(c *Config) *string { return &c.OutputsDir })
			k.def = "./outputs"
			return k
		}(),
		text("RUN_AS", "whom serve becomes when root starts it; unset: the account semantos, else uid 61100; root keeps every right",
			"a user's name, UID, UID:GID or root", false, func(c *Config) *string { return &c.RunAs }),
		path("CATALOG_DIR", "more tunables and rules, root-owned", func(c *Config) *string { return &c.CatalogDir }),
		func() key {
			k := path("ROOT", "read and write below this directory instead of the real host", func(c *Config) *string { return &c.Root })
			k.ownEnv = true
			return k
		}(),
	}
}

func word(name, def, help string, at func(*Config) *string, accepted ...string) key {
	return key{
		name: name, def: def, help: help, accepts: strings.Join(accepted, ", "),
		set: func(c *Config, v string) error {
			if !slices.Contains(accepted, v) {
				return errNotAccepted
			}
			*at(c) = v
			return nil
		},
		show: func(c *Config) string { return *at(c) },
	}
}

func text(name, help, accepts string, secret bool, at func(*Config) *string) key {
	return key{
		name: name, help: help, accepts: accepts, secret: secret,
		set: func(c *Config, v string) error {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return errNotAccepted
			}
			*at(c) = v
			return nil
		},
		show: func(c *Config) string { return *at(c) },
	}
}

func link(name, help string, at func(*Config) *string) key {
	k := text(name, help, "an http:// or https:// address", false, at)
	k.set = func(c *Config, v string) error {
		if v != "" {
			u, err := url.Parse(v)
			if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
				return errNotAccepted
			}
		}
		*at(c) = v
		return nil
	}
	return k
}

func path(name, help string, at func(*Config) *string) key {
	k := text(name, help, "a directory", false, at)
	k.set = func(c *Config, v string) error {
		if strings.ContainsRune(v, 0) || strings.ContainsRune(v, '\n') {
			return errNotAccepted
		}
		if v == "" {
			*at(c) = ""
			return nil
		}
		abs, err := filepath.Abs(v)
		if err != nil {
			return errNotAccepted
		}
		*at(c) = abs
		return nil
	}
	return k
}

func number(name, def, help, accepts string, ok func(float64) bool, at func(*Config) *float64) key {
	return key{
		name: name, def: def, help: help, accepts: accepts,
		set: func(c *Config, v string) error {
			x, err := strconv.ParseFloat(v, 64)
			if err != nil || math.IsNaN(x) || math.IsInf(x, 0) || !ok(x) {
				return errNotAccepted
			}
			*at(c) = x
			return nil
		},
		show: func(c *Config) string { return strconv.FormatFloat(*at(c), 'f', -1, 64) },
	}
}

// seconds reads a plain number of seconds ("60") or a Go duration ("60s", "1m").
func seconds(name, def, help string, low, high float64, at func(*Config) *time.Duration) key {
	f := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	return key{
		name: name, def: def, help: help, accepts: "seconds from " + f(low) + " to " + f(high) + ", also written 10s or 1m",
		set: func(c *Config, v string) error {
			x, err := strconv.ParseFloat(v, 64)
			if err != nil {
				d, err := time.ParseDuration(v)
				if err != nil {
					return errNotAccepted
				}
				x = d.Seconds()
			}
			if math.IsNaN(x) || x < low || x > high {
				return errNotAccepted
			}
			*at(c) = time.Duration(x * float64(time.Second))
			return nil
		},
		show: func(c *Config) string { return f(at(c).Seconds()) },
	}
}

func steps() key {
	return key{
		name: "ROLLOUT_STEPS", def: "5,25,50,100", help: "stages of a rollout in percent of exposure",
		accepts: "growing percentages above 0, between commas, the last one 100",
		set: func(c *Config, v string) error {
			var out []float64
			last := 0.0
			for _, f := range strings.Split(v, ",") {
				x, err := strconv.ParseFloat(strings.TrimSpace(f), 64)
				if err != nil || math.IsNaN(x) || x <= last || x > 100 {
					return errNotAccepted
				}
				out, last = append(out, x), x
			}
			if last != 100 {
				return errNotAccepted
			}
			c.RolloutSteps = out
			return nil
		},
		show: func(c *Config) string {
			out := make([]string, len(c.RolloutSteps))
			for i, x := range c.RolloutSteps {
				out[i] = strconv.FormatFloat(x, 'f', -1, 64)
			}
			return strings.Join(out, ",")
		},
	}
}
