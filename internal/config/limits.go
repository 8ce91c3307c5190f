package config

import (
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Narrowing is an operator's tighter hard range of one tunable, for each of its elements. An end left
// open is infinite.
type Narrowing struct {
	Tunable  string
	Min, Max float64
}

// limitKeys are what a rollout may not break, touch or use up.
func limitKeys() []key {
	return []key{
		number("SLO_MAX_P95", "35", "largest p95 of a meter in ms", "milliseconds above 0",
			func(x float64) bool { return x > 0 }, func(c *Config) *float64 { return &c.SLOMaxP95 }),
		number("MAX_ERROR_RATE", "0.5", "largest share of requests that may fail while treated", "a number above 0 and at most 1",
			func(x float64) bool { return x > 0 && x <= 1 }, func(c *Config) *float64 { return &c.MaxErrorRate }),
		percent("PSI_MAX_MEMORY", "10", "most of the time that everything may wait for memory while treated (PSI full)",
			func(c *Config) *float64 { return &c.PSIMaxMemory }),
		percent("PSI_MAX_IO", "80", "most of the time that everything may wait for disks while treated (PSI full)",
			func(c *Config) *float64 { return &c.PSIMaxIO }),
		percent("PSI_MAX_CPU", Off, "most of the time that something may wait for a CPU while treated (PSI some)",
			func(c *Config) *float64 { return &c.PSIMaxCPU }),
		percent("MIN_MEM_AVAILABLE", "3", "least available memory while treated, of all memory",
			func(c *Config) *float64 { return &c.MinMemAvailable }),
		protected(), narrowings(), budget(), maintenance(),
	}
}

// percent reads a number above 0 and at most 100, or off, which is kept as 0.
func percent(name, def, help string, at func(*Config) *float64) key {
	return key{
		name: name, def: def, help: help, accepts: "percent above 0 and at most 100, or off",
		set: func(c *Config, v string) error {
			if v == Off {
				*at(c) = 0
				return nil
			}
			x, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
			if err != nil || math.IsNaN(x) || x <= 0 || x > 100 {
				return errNotAccepted
			}
			*at(c) = x
			return nil
		},
		show: func(c *Config) string {
			if *at(c) == 0 {
				return Off
			}
			return strconv.FormatFloat(*at(c), 'f', -1, 64)
		},
	}
}

func protected() key {
	return key{
		name: "PROTECTED", help: "tunables never written, whatever anybody says",
		accepts: "names between commas; * and ? match within one part of a name, as in block/sd*/queue/*",
		set: func(c *Config, v string) error {
			c.Protected = nil
			for _, f := range fields(v, ",") {
				if _, err := filepath.Match(f, ""); err != nil || strings.ContainsFunc(f, control) {
					return errNotAccepted
				}
				c.Protected = append(c.Protected, f)
			}
			return nil
		},
		show: func(c *Config) string { return strings.Join(c.Protected, ",") },
	}
}

func narrowings() key {
	return key{
		name: "LIMITS", help: "tighter hard ranges; they can only narrow the catalogue's",
		accepts: "NAME=LOWEST..HIGHEST between commas, one of the two ends may be left out",
		set: func(c *Config, v string) error {
			c.Limits = nil
			for _, f := range fields(v, ",") {
				n, ok := narrowing(f)
				if !ok || slices.ContainsFunc(c.Limits, func(m Narrowing) bool { return m.Tunable == n.Tunable }) {
					return errNotAccepted
				}
				c.Limits = append(c.Limits, n)
			}
			return nil
		},
		show: func(c *Config) string {
			out := make([]string, len(c.Limits))
			for i, n := range c.Limits {
				out[i] = n.String()
			}
			return strings.Join(out, ",")
		},
	}
}

func narrowing(text string) (Narrowing, bool) {
	name, ends, ok := strings.Cut(text, "=")
	low, high, between := strings.Cut(ends, "..")
	n := Narrowing{Tunable: strings.TrimSpace(name), Min: math.Inf(-1), Max: math.Inf(1)}
	low, high = strings.TrimSpace(low), strings.TrimSpace(high)
	if !ok || !between || n.Tunable == "" || low == "" && high == "" || strings.ContainsFunc(text, control) {
		return n, false
	}
	for _, e := range []struct {
		text string
		at   *float64
	}{{low, &n.Min}, {high, &n.Max}} {
		if e.text == "" {
			continue
		}
		x, err := strconv.ParseFloat(e.text, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return n, false
		}
		*e.at = x
	}
	return n, n.Min <= n.Max
}

func (n Narrowing) String() string {
	end := func(x float64) string {
		if math.IsInf(x, 0) {
			return ""
		}
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return n.Tunable + "=" + end(n.Min) + ".." + end(n.Max)
}

func budget() key {
	return key{
		name: "EXPOSURE_BUDGET", def: "1h", help: "how long, in 24 hours, trials may stand on this host before serve starts no more by itself",
		accepts: "a time such as 30m or 2h, at most 24h, or off for no limit",
		set: func(c *Config, v string) error {
			if v == Off {
				c.ExposureBudget = 0
				return nil
			}
			d, err := time.ParseDuration(v)
			if err != nil || d <= 0 || d > 24*time.Hour {
				return errNotAccepted
			}
			c.ExposureBudget = d
			return nil
		},
		show: func(c *Config) string {
			if c.ExposureBudget == 0 {
				return Off
			}
			return shortTime(c.ExposureBudget)
		},
	}
}

// shortTime leaves out the zeros that Duration.String keeps: 1h0m0s is 1h.
func shortTime(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func fields(v, separator string) []string {
	var out []string
	for _, f := range strings.Split(v, separator) {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}

func control(r rune) bool { return r < ' ' || r == 0x7f }
