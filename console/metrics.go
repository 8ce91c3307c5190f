package console

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"semantos/internal/tune"
)

// maxSeries bounds the page whatever runs on the host; what does not fit is counted.
const maxSeries = 4000

// page builds every metric at the moment of the scrape from what the interfaces say.
type page struct {
	watch   Watch
	stats   func() []CollectorStat
	probes  func() ([]ProbeStat, []Histogram)
	version string

	info, ready, phase, ticks, tickErrors, diagnoses, decisions, lastTick, lastDiagnosis *prometheus.Desc
	resting, yielded, leftovers, severity, duration, success, window, signal, dropped    *prometheus.Desc
	probeUp, probeDuty, probeCPU, probeLost, workload                                    *prometheus.Desc
}

func newMetrics(cfg Config) (http.Handler, error) {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("semantos_"+name, help, labels, nil)
	}
	p := &page{
		watch: cfg.Watch, stats: cfg.Collectors, probes: cfg.Probes, version: cfg.Version,
		info:          d("build_info", "Version of this binary; the value is always 1.", "version", "go_version"),
		ready:         d("loop_ready", "1 when the loop has diagnosed a recent sample."),
		phase:         d("loop_phase", "1 for the phase the loop is in.", "phase"),
		ticks:         d("loop_ticks_total", "Samples taken."),
		tickErrors:    d("loop_tick_errors_total", "Samples that failed."),
		diagnoses:     d("loop_diagnoses_total", "Diagnoses made."),
		decisions:     d("decisions_total", "Trials of recommendations, by outcome.", "outcome"),
		lastTick:      d("loop_last_tick_timestamp_seconds", "When the newest sample was taken."),
		lastDiagnosis: d("loop_last_diagnosis_timestamp_seconds", "When the newest diagnosis was made."),
		resting:       d("loop_resting_items", "Recommendations and tunables left alone for a while."),
		yielded:       d("loop_yielded_tunables", "Tunables left to another writer."),
		leftovers:     d("loop_leftover_tunables", "Tunables an earlier run left changed, found at start."),
		severity:      d("symptom_severity_ratio", "Severity of each symptom that stands, from 0 to 1.", "symptom", "entity"),
		duration:      d("telemetry_collector_duration_seconds", "Time of one collector in the newest tick.", "collector"),
		success:       d("telemetry_collector_success", "1 when the collector had data in the newest tick.", "collector"),
		window:        d("telemetry_window_seconds", "Time the signals cover."),
		signal:        d("telemetry_signal", "Signals of the newest window, in the unit each name says.", "signal", "kind", "entity"),
		dropped:       d("telemetry_signals_dropped", "Signals and histograms not shown because the page is bounded."),
		workload:      d("workload_score_ratio", "How well what the busiest processes and cgroups do fits a kind of work, from 0 to 1.", "name", "kind"),
		probeUp:       d("probe_up", "1 when the eBPF probe is loaded and counts, all or part of the time.", "probe"),
		probeDuty:     d("probe_duty_ratio", "Share of the time the probe counts; what it counts is scaled to all of it.", "probe"),
		probeCPU:      d("probe_cpu_share_ratio", "Share of all CPUs the probe's programs take, by the kernel's statistics.", "probe"),
		probeLost:     d("probe_lost_events_total", "Events the probe could not keep since it was loaded.", "probe"),
	}
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{p, newSafetyPage(cfg.Safety), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	}), nil
}

// Describe names the metrics that are always there and those that come and go.
func (p *page) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.info, p.ready, p.phase, p.ticks, p.tickErrors, p.diagnoses, p.decisions, p.lastTick,
		p.lastDiagnosis, p.resting, p.yielded, p.leftovers, p.severity, p.duration, p.success, p.window, p.signal, p.dropped,
		p.probeUp, p.probeDuty, p.probeCPU, p.probeLost, p.workload} {
		ch <- d
	}
}

// Collect reads the interfaces once.
func (p *page) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		for i := range labels {
			labels[i] = clean(labels[i])
		}
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := p.watch.State()
	gauge(p.info, 1, p.version, runtime.Version())
	gauge(p.ready, truth(s.Ready))
	for _, phase := range []string{"starting", "warming", "watching", "rolling_out", "waiting", "held", "frozen", "stopped"} {
		gauge(p.phase, truth(s.Phase == phase), phase)
	}
	count(p.ticks, s.Ticks)
	count(p.tickErrors, s.TickErrors)
	count(p.diagnoses, s.Diagnoses)
	for _, o := range slices.Sorted(maps.Keys(s.Decisions)) {
		count(p.decisions, s.Decisions[o], o)
	}
	if !s.LastTick.IsZero() {
		gauge(p.lastTick, float64(s.LastTick.UnixMilli())/1000)
	}
	if !s.LastDiagnosis.IsZero() {
		gauge(p.lastDiagnosis, float64(s.LastDiagnosis.UnixMilli())/1000)
	}
	gauge(p.resting, float64(len(s.Resting)))
	gauge(p.yielded, float64(len(s.Yielded)))
	gauge(p.leftovers, float64(len(s.Leftovers)))
	for _, c := range p.stats() {
		gauge(p.duration, c.Duration.Seconds(), c.Name)
		gauge(p.success, truth(c.Success), c.Name)
	}
	dropped := p.collectProbes(ch, gauge)
	snap, symptoms := p.watch.Snapshot()
	p.collectSymptoms(gauge, symptoms)
	p.collectWorkloads(gauge, snap.Workloads)
	gauge(p.window, snap.Window)
	dropped += p.collectSignals(gauge, snap)
	gauge(p.dropped, float64(dropped))
}

type gaugeFunc = func(d *prometheus.Desc, v float64, labels ...string)

// collectSymptoms keeps the most severe of each name and entity: the registry refuses the same series twice.
func (p *page) collectSymptoms(gauge gaugeFunc, symptoms []tune.Symptom) {
	worst := map[[2]string]float64{}
	for _, s := range symptoms {
		k := [2]string{s.Name, clean(s.Entity)}
		worst[k] = max(worst[k], s.Severity)
	}
	for k, v := range worst {
		gauge(p.severity, v, k[0], k[1])
	}
}

// maxWorkloads is how many of the busiest are shown: names of processes are without bound.
const maxWorkloads = 8

// collectWorkloads keeps the best of each name and kind: several processes have one name.
func (p *page) collectWorkloads(gauge gaugeFunc, workloads []tune.Workload) {
	best := map[[2]string]float64{}
	for _, w := range workloads {
		k := [2]string{clean(w.Name), w.Kind}
		if _, shown := best[k]; shown || len(best) < maxWorkloads {
			best[k] = max(best[k], w.Score)
		}
	}
	for k, v := range best {
		gauge(p.workload, v, k[0], k[1])
	}
}

// collectSignals shows the host's signals first, then each entity's, in a fixed order up to the bound; it
// gives how many were left out.
func (p *page) collectSignals(gauge gaugeFunc, snap tune.Snapshot) (dropped int) {
	seen := map[[3]string]bool{}
	show := func(kind, entity string, signals map[string]float64) {
		entity = clean(entity)
		for _, name := range slices.Sorted(maps.Keys(signals)) {
			k := [3]string{name, kind, entity}
			if v := signals[name]; len(seen) >= maxSeries || seen[k] || math.IsNaN(v) {
				dropped++
				continue
			}
			seen[k] = true
			gauge(p.signal, signals[name], name, kind, entity)
		}
	}
	show("host", "", snap.Signals)
	for _, kind := range slices.Sorted(maps.Keys(snap.Entities)) {
		for _, e := range snap.Entities[kind] {
			show(kind, e.ID, e.Signals)
		}
	}
	return dropped
}

// clean keeps label values valid, which names of cgroups and processes need not be.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
