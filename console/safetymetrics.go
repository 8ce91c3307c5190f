package console

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// SafetyCounts are what was decided and done since the start, each by a closed set of words.
type SafetyCounts struct {
	Rollouts      map[[2]string]uint64 // by state and reason
	Vetoes        map[string]uint64    // by reason
	Writes        map[string]uint64    // by verb
	Restores      map[string]uint64    // by outcome
	Yields        uint64
	Alerts        map[string]uint64 // by outcome; nil without a webhook
	AlertRetries  uint64
	AlertsWaiting uint64
	AuditRecords  uint64
	AuditErrors   uint64
	AuditLost     uint64
	GuardDeaths   uint64
}

// safetyPage is the part of the page that counts what safety did.
type safetyPage struct {
	counts func() SafetyCounts

	rollouts, vetoes, writes, restores, yields, alerts, retries, waiting, records, errors, lost, deaths *prometheus.Desc
}

func newSafetyPage(counts func() SafetyCounts) *safetyPage {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("semantos_safety_"+name, help, labels, nil)
	}
	return &safetyPage{counts: counts,
		rollouts: d("rollouts_total", "Rollouts that ended, by state and reason.", "state", "reason"),
		vetoes:   d("vetoes_total", "Rollouts the gate did not admit, by reason.", "reason"),
		writes:   d("writes_total", "What the guard was asked to write, by what it did.", "verb"),
		restores: d("restores_total", "Values the guard put back or could not, by outcome.", "outcome"),
		yields:   d("yields_total", "Values left to another writer."),
		alerts:   d("alerts_total", "Alerts, by what became of them.", "outcome"),
		retries:  d("alert_retries_total", "Attempts to deliver an alert that failed and were put off."),
		waiting:  d("alerts_waiting", "Alerts not delivered yet."),
		records:  d("audit_records_total", "Records appended to the log of decisions and writes."),
		errors:   d("audit_errors_total", "Failures to write that log."),
		lost:     d("audit_lost_records_total", "Records that could not be kept when they happened."),
		deaths:   d("guard_deaths_total", "Guard processes that ended unasked."),
	}
}

// Describe names all of them.
func (p *safetyPage) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.rollouts, p.vetoes, p.writes, p.restores, p.yields, p.alerts, p.retries, p.waiting, p.records,
		p.errors, p.lost, p.deaths} {
		ch <- d
	}
}

// Collect asks once.
func (p *safetyPage) Collect(ch chan<- prometheus.Metric) {
	c := p.counts()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	by := func(d *prometheus.Desc, m map[string]uint64) {
		for _, word := range slices.Sorted(maps.Keys(m)) {
			count(d, m[word], clean(word))
		}
	}
	keys := slices.SortedFunc(maps.Keys(c.Rollouts), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	for _, k := range keys {
		count(p.rollouts, c.Rollouts[k], clean(k[0]), clean(k[1]))
	}
	by(p.vetoes, c.Vetoes)
	by(p.writes, c.Writes)
	by(p.restores, c.Restores)
	by(p.alerts, c.Alerts)
	count(p.yields, c.Yields)
	count(p.retries, c.AlertRetries)
	ch <- prometheus.MustNewConstMetric(p.waiting, prometheus.GaugeValue, float64(c.AlertsWaiting))
	count(p.records, c.AuditRecords)
	count(p.errors, c.AuditErrors)
	count(p.lost, c.AuditLost)
	count(p.deaths, c.GuardDeaths)
}
