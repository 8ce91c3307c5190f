package cli

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"

	"semantos/internal/config"
	"semantos/internal/tune"
	"semantos/safety/rollout"
)

// vitals are what no rollout may break, whatever its meter says: the kernel must not start to kill
// processes for memory while a change is tried, memory must stay, and nothing may stand still for longer
// than the operator allows.
type vitals struct {
	path  func(...string) string // below the root
	cfg   config.Config
	kills *killed // nil: every kill counts
}

// newVitals watch over one trial of these changes, as this meter measures it; nil is none.
func (t *trials) newVitals(changes []tune.Change, meter rollout.Meter) *vitals {
	return &vitals{path: t.rooms.host.Path, cfg: t.cfg, kills: newKilled(t.rooms.host, changes, meter)}
}

// The names of the vitals, as a person reads them.
const (
	vitalKills    = "processes killed for lack of memory"
	vitalKilledIn = "processes killed at the memory limit of "
	vitalMemory   = "memory pressure (full)"
	vitalIO       = "io pressure (full)"
	vitalCPU      = "cpu pressure (some)"
	vitalLeft     = "available memory"
)

// Look reads what can be read; an old kernel, or a container, may lack the rest.
func (v *vitals) Look(ctx context.Context) []rollout.Vital {
	var out []rollout.Vital
	if kills, ok := v.field("/proc/vmstat", "oom_kill"); ok {
		out = append(out, v.kills.look(ctx, kills)...)
	}
	for _, p := range v.stalls() {
		if at, ok := v.stall(p); ok {
			out = append(out, at)
		}
	}
	if left, ok := v.left(); ok && v.cfg.MinMemAvailable > 0 {
		out = append(out, rollout.Vital{Name: vitalLeft, Kind: rollout.Floor, Value: left, Limit: v.cfg.MinMemAvailable})
	}
	return out
}

// stallLimit is one limit of time, and the file and line that tell of it. The whole host is never
// wholly without a CPU, so that the kernel counts "full" for memory and disks only
// (Documentation/accounting/psi.rst).
type stallLimit struct {
	key, name, file, line string
	limit                 float64
}

func (v *vitals) stalls() []stallLimit {
	var out []stallLimit
	for _, s := range []stallLimit{
		{"PSI_MAX_MEMORY", vitalMemory, "/proc/pressure/memory", "full", v.cfg.PSIMaxMemory},
		{"PSI_MAX_IO", vitalIO, "/proc/pressure/io", "full", v.cfg.PSIMaxIO},
		{"PSI_MAX_CPU", vitalCPU, "/proc/pressure/cpu", "some", v.cfg.PSIMaxCPU},
	} {
		if s.limit > 0 {
			out = append(out, s)
		}
	}
	return out
}

func (v *vitals) stall(s stallLimit) (rollout.Vital, bool) {
	out := rollout.Vital{Name: s.name, Kind: rollout.Stall, Limit: s.limit}
	data, err := os.ReadFile(v.path(s.file))
	if err != nil {
		return out, false
	}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != s.line {
			continue
		}
		total := false
		for _, w := range words[1:] {
			name, text, _ := strings.Cut(w, "=")
			x, err := strconv.ParseFloat(text, 64)
			switch {
			case err != nil:
				return out, false
			case name == "total":
				out.Value, total = x, true
			case strings.HasPrefix(name, "avg"):
				out.Usual = max(out.Usual, x)
			}
		}
		return out, total
	}
	return out, false
}

// left is the available memory in percent of all.
func (v *vitals) left() (float64, bool) {
	have, ok := v.field("/proc/meminfo", "MemAvailable:")
	all, okAll := v.field("/proc/meminfo", "MemTotal:")
	return 100 * have / max(all, 1), ok && okAll && all > 0
}

// field finds the number behind a word at the start of a line.
func (v *vitals) field(file, name string) (float64, bool) {
	data, err := os.ReadFile(v.path(file))
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(data) {
		words := strings.Fields(string(line))
		if len(words) > 1 && words[0] == name {
			x, err := strconv.ParseFloat(words[1], 64)
			return x, err == nil
		}
	}
	return 0, false
}
