package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"semantos/internal/tune"
)

// vitals are what no rollout may break, whatever its meter says: the kernel must not start to kill
// processes for memory while a change is tried.
type vitals struct {
	vmstat string
	kills  float64 // when the rollout began, -1 when unknown
}

func (t *trials) newVitals() *vitals {
	v := &vitals{vmstat: t.rooms.host.Path("/proc/vmstat"), kills: -1}
	if n, err := v.oomKills(); err == nil {
		v.kills = n
	}
	return v
}

// Check names what broke. No data is said as such, and is not a break.
func (v *vitals) Check(context.Context) error {
	n, err := v.oomKills()
	if err != nil {
		return err
	}
	if v.kills >= 0 && n > v.kills {
		return fmt.Errorf("the kernel killed %s processes for lack of memory during the rollout", number(n-v.kills))
	}
	return nil
}

func (v *vitals) oomKills() (float64, error) {
	data, err := os.ReadFile(v.vmstat)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", v.vmstat, tune.ErrNoData)
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	return 0, fmt.Errorf("oom_kill in %s: %w", v.vmstat, tune.ErrNoData)
}
