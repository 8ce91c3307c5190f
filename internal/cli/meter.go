package cli

import (
	"context"
	"fmt"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/safety/rollout"
	"semantos/workloads/meter"
)

// openMeter reads --meter and refuses one that could never work, before anything is tried with it.
// It gives nil for "": then the symptom's own signal is measured.
func (a *app) openMeter(ctx context.Context, spec string) (rollout.Meter, error) {
	if spec == "" {
		return nil, nil
	}
	m, err := meter.Parse(spec, meter.Config{
		Probe:  func(name string, of meter.Traffic) meter.Meter { return a.newEBPFMeter(name, of) },
		Device: func(name string, of meter.Devices) meter.Meter { return a.newDeviceMeter(name, of) },
	})
	if err != nil {
		return nil, err
	}
	if err := m.Check(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// serveMeter opens the meter that serve is to run itself, for the time of one request; nil when none is
// asked for. Only ebpf: and device: are: a command or an address from outside would act with serve's rights.
func (a *app) serveMeter(ctx context.Context, req console.ApplyRequest) (m rollout.Meter, done func(), err error) {
	done = func() {}
	switch {
	case req.Meter == "":
		return nil, done, nil
	case req.ClientMeter != "":
		return nil, done, usage("use meter", req.Meter, "give meter or client_meter, not both", "two meters are given")
	case !isServed(req.Meter):
		return nil, done, &tune.Error{Op: "use meter", Subject: oneLine(req.Meter), Err: fmt.Errorf("serve runs ebpf: and device: meters only: %w", tune.ErrNotPermitted),
			Hint: "semantos apply --meter measures with others in the command line"}
	}
	var closers []func() error
	later := func(f func() error) { closers = append(closers, f) }
	parsed, err := meter.Parse(req.Meter, meter.Config{NoCommands: true,
		Probe: func(name string, of meter.Traffic) meter.Meter {
			own := a.newEBPFMeter(name, of)
			own.later = later
			return own
		},
		Device: func(name string, of meter.Devices) meter.Meter {
			own := a.newDeviceMeter(name, of)
			own.later = later
			return own
		}})
	if err != nil {
		return nil, done, err
	}
	if err := parsed.Check(ctx); err != nil {
		return nil, done, err
	}
	return parsed, func() {
		for _, f := range closers {
			if err := f(); err != nil {
				a.say("meter %s: %v", req.Meter, err)
			}
		}
	}, nil
}
