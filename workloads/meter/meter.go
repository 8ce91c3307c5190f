package meter

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"semantos/internal/tune"
)

// Meter measures for about d. Fresh says that each sample makes its own sockets and opens its own
// files, so that a value that holds for new ones is seen at once. Check fails when the meter could
// never work as given, so that a mistyped one is refused before anything is tried with it.
type Meter interface {
	Name() string
	Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error)
	Fresh() bool
	Check(ctx context.Context) error
}

// Config is what meters may do here.
type Config struct {
	NoCommands bool          // refuse cmd:, as what serves others must
	Rate       float64       // http: requests per second; 0 is 50
	Timeout    time.Duration // http:, prom: per request, 0 is 2 s; cmd: is ended by its caller
	// Probe makes the meter of ebpf: under the name given; nil refuses ebpf:. The probes are another
	// room's.
	Probe func(name string, of Traffic) Meter
	// Device makes the meter of device: likewise; nil refuses it.
	Device func(name string, of Devices) Meter
}

const (
	defaultRate    = 50
	defaultTimeout = 2 * time.Second

	forms = "cmd:COMMAND, http:URL, prom:URL?query=EXPRESSION, ebpf:comm=NAME or device:block/NAME"
)

// Parse reads a meter as given on the command line or in the configuration.
func Parse(spec string, cfg Config) (Meter, error) {
	if cfg.Rate <= 0 {
		cfg.Rate = defaultRate
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	kind, rest, found := strings.Cut(spec, ":")
	if !found || strings.TrimSpace(rest) == "" {
		return nil, refuse(spec, tune.ErrUsage, "give "+forms)
	}
	switch kind {
	case "cmd":
		if cfg.NoCommands {
			return nil, refuse(spec, tune.ErrNotPermitted, "commands run only in the command line that names them; here give http:URL or prom:URL")
		}
		return command{line: rest}, nil
	case "http", "https":
		// http:URL, and a bare http://host/ as well.
		if strings.HasPrefix(rest, "//") {
			rest = spec
		}
		u, err := webURL(rest)
		if err != nil {
			return nil, refuse(spec, err, "give http:http://HOST:PORT/PATH")
		}
		return newHTTP(u.String(), cfg), nil
	case "prom":
		u, err := webURL(rest)
		if err != nil {
			return nil, refuse(spec, err, "give prom:http://HOST:PORT/api/v1/query?query=EXPRESSION")
		}
		return newProm(u, cfg)
	case "workload":
		return nil, refuse(spec, tune.ErrUnsupported, "no workload can be a meter in this version; give "+forms)
	case "ebpf":
		of, err := ParseTraffic(spec, rest)
		if err != nil {
			return nil, err
		}
		if cfg.Probe == nil {
			return nil, refuse(spec, tune.ErrUnsupported, "nothing measures with eBPF here; give another meter")
		}
		return cfg.Probe(spec, of), nil
	case "device":
		of, err := ParseDevices(spec, rest)
		if err != nil {
			return nil, err
		}
		if cfg.Device == nil {
			return nil, refuse(spec, tune.ErrUnsupported, "nothing measures devices here; give another meter")
		}
		return cfg.Device(spec, of), nil
	}
	return nil, refuse(spec, tune.ErrUnknown, "give "+forms)
}

func webURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: not a URL", tune.ErrType)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%w: not an http or https URL", tune.ErrType)
	}
	return u, nil
}

func refuse(spec string, err error, hint string) error {
	return &tune.Error{Op: "use meter", Subject: fmt.Sprintf("%.80q", spec), Err: err, Hint: hint}
}
