package telemetry

import (
	"os"
	"slices"
)

// classedThreads is up to how many threads a process is asked for their scheduling classes: audio
// servers have few, and only one of them in real time.
const classedThreads = 16

// classes counts the threads of a real-time class, and how often they went to sleep.
func (c *processesCollector) classes(e *entry, t *task, p *process) {
	if t.threads > classedThreads {
		return
	}
	dir := "proc/" + p.labels["pid"] + "/task/"
	if age := c.at.Sub(p.classesAt); p.classesAt.IsZero() || age >= detailAge || age < 0 {
		p.classesAt, p.realtime = c.at, nil
		for _, tid := range c.threads(dir) {
			b, err := c.files.once(dir + tid + "/stat")
			if err != nil {
				continue // the thread has ended
			}
			var s procStat
			if parseProcStat(b, &s) == nil && s.policy.realtime() {
				p.realtime = append(p.realtime, tid)
			}
		}
		slices.Sort(p.realtime)
	}
	e.gauge("process.realtime_threads", float64(len(p.realtime)))
	slept := 0.0
	for _, tid := range p.realtime {
		if b, err := c.files.once(dir + tid + "/status"); err == nil {
			slept += parseProcStatus(b).voluntary
		}
	}
	if len(p.realtime) > 0 {
		e.counter("process.realtime_switches", slept)
	}
}

// threads lists a process's threads; none where the list cannot be read.
func (c *processesCollector) threads(dir string) []string {
	d, err := os.Open(c.host.Path(dir))
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(classedThreads) // what was read before an error stands
	return names
}
