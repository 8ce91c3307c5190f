package meter

import (
	"fmt"
	"strings"

	"semantos/internal/tune"
)

// Devices says which devices a device: meter measures.
type Devices struct {
	Family    string // "block" or "net", as the names of their tunables begin
	Pattern   string // of names; ? and * as in --set
	NoLatency bool   // judge by throughput and errors alone
	NewFiles  bool   // whoever works on them opens its files anew within a slot, says the operator
}

const deviceForms = "device:block/NAME or device:net/NAME, where * and ? fit several, and behind it ,latency=off or ,files=new"

// ParseDevices reads rest, what stands behind the colon of spec: FAMILY/PATTERN and options between commas.
func ParseDevices(spec, rest string) (Devices, error) {
	bad := func(err error) (Devices, error) { return Devices{}, refuse(spec, err, "give "+deviceForms) }
	parts := strings.Split(rest, ",")
	var d Devices
	var found bool
	d.Family, d.Pattern, found = strings.Cut(strings.TrimSpace(parts[0]), "/")
	switch {
	case !found || d.Pattern == "" || strings.Contains(d.Pattern, "/"):
		return bad(tune.ErrUsage)
	case d.Family != "block" && d.Family != "net":
		return bad(fmt.Errorf("%q: %w", d.Family, tune.ErrUnknown))
	}
	for _, option := range parts[1:] {
		switch strings.TrimSpace(option) {
		case "latency=off":
			d.NoLatency = true
		case "files=new":
			d.NewFiles = true
		default:
			return bad(fmt.Errorf("%q: %w", option, tune.ErrUnknown))
		}
	}
	return d, nil
}
