package config

import (
	"math"
	"strconv"
	"strings"
)

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
