package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"semantos/ebpf/blocklat"
	"semantos/ebpf/probe"
	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/workloads/meter"
)

// deviceMeter measures what devices do, each by itself, from counters that anybody may read: bytes a second,
// and the latency of a block device's requests. That is their p95 where a probe times them, else their mean,
// which is all that the kernel keeps. It adds no load.
type deviceMeter struct {
	name  string
	of    meter.Devices
	fits  func(device string) bool
	mode  string // USE_EBPF
	root  string // ROOT
	host  *host.Host
	say   func(format string, args ...any)
	later func(close func() error)
	ready bool
	p     *probe.Probe // nil: latency is the mean, or there is none
}

// newDeviceMeter makes the meter; Check looks for its devices and loads its probe.
func (a *app) newDeviceMeter(name string, of meter.Devices) *deviceMeter {
	return &deviceMeter{name: name, of: of, fits: matcher(of.Pattern), mode: a.cfg.UseEBPF, root: a.cfg.Root,
		host: host.New(host.Config{Root: a.cfg.Root}), say: a.say, later: a.onClose}
}

func (m *deviceMeter) Name() string { return m.name }

// Fresh is false unless the operator says so: who opened files on the devices, and when, is unknown.
func (m *deviceMeter) Fresh() bool { return m.of.NewFiles }

// Measure tells the runner what the latency is.
func (m *deviceMeter) Measure() tune.Measure {
	switch {
	case m.of.NoLatency || m.of.Family != host.BlockDevices:
		return tune.Measure{Latency: tune.LatencyNone}
	case m.p == nil:
		return tune.Measure{Latency: tune.LatencyMean}
	}
	return tune.Measure{}
}

// Check refuses a pattern that fits no device, and loads the probe where it can time all that fit.
func (m *deviceMeter) Check(context.Context) error {
	if m.ready {
		return nil
	}
	refuse := func(err error, hint string) error {
		return &tune.Error{Op: "use meter", Subject: fmt.Sprintf("%.80q", m.name), Err: err, Hint: hint}
	}
	all, err := m.host.DeviceUses(m.of.Family)
	if err != nil {
		return refuse(err, "give an http: or cmd: meter")
	}
	timed, found := true, false
	for name, use := range all {
		if m.fits(name) {
			found, timed = true, timed && use.Timed
		}
	}
	if !found {
		return refuse(fmt.Errorf("no %s device fits: %w", m.of.Family, tune.ErrUnknown), someOf(slices.Sorted(maps.Keys(all))))
	}
	m.ready = true
	switch {
	case m.of.NoLatency || m.of.Family != host.BlockDevices:
	case m.mode == "off":
		m.say("note: %s: latency is the mean of all requests: USE_EBPF=off", m.name)
	case m.root != "":
	case !timed:
		m.say("note: %s: latency is the mean of all requests: a device made of others has none that can be timed one by one", m.name)
	default:
		m.load()
	}
	return nil
}

// load has the probe count from now on. Without it there is still the mean.
func (m *deviceMeter) load() {
	p, err := probe.Load(blocklat.New(), probe.Options{})
	if err != nil {
		m.say("note: %s: latency is the mean of all requests: %v", m.name, err)
		return
	}
	m.p = p
	m.later(p.Close)
}

// deviceReading is what devices had done at one moment.
type deviceReading struct {
	uses  map[string]host.DeviceUse
	hists map[string]probe.Hist
}

func (m *deviceMeter) read() (deviceReading, error) {
	uses, err := m.host.DeviceUses(m.of.Family)
	r := deviceReading{uses: uses}
	if err == nil && m.p != nil {
		r.hists, err = blocklat.Each(m.p)
	}
	return r, err
}

// between reads, lets d pass, and reads again.
func (m *deviceMeter) between(ctx context.Context, d time.Duration) (before, after deviceReading, start, end time.Time, err error) {
	if err = m.Check(ctx); err != nil {
		return before, after, start, end, err
	}
	start = time.Now()
	if before, err = m.read(); err != nil {
		return before, after, start, end, err
	}
	if err = letPass(ctx, d); err != nil {
		return before, after, start, end, err
	}
	after, err = m.read()
	return before, after, start, time.Now(), err
}

// Sample measures all devices that fit as one.
func (m *deviceMeter) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	before, after, start, end, err := m.between(ctx, d)
	if err != nil {
		return tune.MeterSample{}, err
	}
	var use host.DeviceUse
	var hist probe.Hist
	for name := range after.uses {
		if u, ok := after.uses[name].Since(before.uses[name]); m.fits(name) && ok {
			use = use.And(u)
			hist = hist.Add(after.hists[name].Since(before.hists[name]))
		}
	}
	s := m.sample(use, hist, start, end)
	if s == nil {
		return tune.MeterSample{}, fmt.Errorf("meter %s saw nothing done in %.1f s: %w", m.name, d.Seconds(), tune.ErrNoData)
	}
	return *s, nil
}

// Splits reports whether each target is a device that the meter measures.
func (m *deviceMeter) Splits(units []tune.Unit) bool {
	all, err := m.host.DeviceUses(m.of.Family)
	return err == nil && !slices.ContainsFunc(units, func(u tune.Unit) bool {
		_, there := all[u.Target]
		return !there || !m.fits(u.Target)
	})
}

// SampleUnits measures each device for d. One that had nothing to do gave no data.
func (m *deviceMeter) SampleUnits(ctx context.Context, d time.Duration, units []tune.Unit) ([]*tune.MeterSample, error) {
	before, after, start, end, err := m.between(ctx, d)
	if err != nil {
		return nil, err
	}
	out := make([]*tune.MeterSample, len(units))
	some := false
	for i, u := range units {
		now, there := after.uses[u.Target]
		was, known := before.uses[u.Target]
		use, ok := now.Since(was)
		if !there || !known || !ok {
			continue
		}
		out[i] = m.sample(use, after.hists[u.Target].Since(before.hists[u.Target]), start, end)
		some = some || out[i] != nil
	}
	if !some {
		return nil, fmt.Errorf("meter %s saw nothing done on any target in %.1f s: %w", m.name, d.Seconds(), tune.ErrNoData)
	}
	return out, nil
}

// sample says what was done in between as a meter does; nil where nothing was. A device that has requests
// and completes none gets nothing done, which is data. Only network devices count what they lost.
func (m *deviceMeter) sample(use host.DeviceUse, hist probe.Hist, start, end time.Time) *tune.MeterSample {
	if use.Done+use.Failed+use.Flying == 0 {
		return nil
	}
	s := &tune.MeterSample{Start: start, End: end, Throughput: float64(use.Bytes) / end.Sub(start).Seconds(),
		ErrorRate: float64(use.Failed) / float64(max(1, use.Done+use.Failed)), Requests: int64(use.Done + use.Failed)}
	switch {
	case m.Measure().Latency == tune.LatencyNone || use.Done == 0:
	case m.p == nil:
		s.P95MS = float64(use.Waited.Milliseconds()) / float64(use.Done)
		s.MedianMS = s.P95MS
	case hist.Count() == 0:
		return nil // the probe saw none of them: their latency is unknown, not zero
	default:
		s.MedianMS, s.P95MS = hist.Quantile(0.5)/1e6, hist.Quantile(0.95)/1e6
	}
	return s
}

// isServed reports that serve can make a meter again from its name, without anybody's command or address.
func isServed(name string) bool {
	return strings.HasPrefix(name, "ebpf:") || strings.HasPrefix(name, "device:")
}
