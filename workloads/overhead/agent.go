package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"semantos/workloads"
)

// agent is a running serve with a DATA_DIR of its own, and its guard.
type agent struct {
	proc *exec.Cmd
	url  string
	dir  string
	out  *workloads.Buffer
}

func startAgent(ctx context.Context, semantos, mode string) (*agent, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "overhead")
	if err != nil {
		return nil, err
	}
	a := &agent{url: fmt.Sprintf("http://127.0.0.1:%d", port), dir: dir, out: &workloads.Buffer{}}
	a.proc = exec.CommandContext(ctx, semantos, "serve", "--use-ebpf", mode, "--auto-apply", "off",
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--data-dir", dir)
	a.proc.Stdout, a.proc.Stderr = a.out, a.out
	a.proc.Cancel = func() error { return a.proc.Process.Signal(unix.SIGTERM) }
	a.proc.WaitDelay = 10 * time.Second
	if err := a.proc.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	for range 100 {
		if resp, err := http.Get(a.url + "/healthz"); err == nil {
			resp.Body.Close()
			return a, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	a.stop()
	return nil, fmt.Errorf("serve does not answer: %s", a.out)
}

func (a *agent) stop() {
	_ = a.proc.Process.Signal(unix.SIGTERM)
	_ = a.proc.Wait()
	os.RemoveAll(a.dir)
}

// pids are serve and its children (the guard).
func (a *agent) pids() []int {
	out := []int{a.proc.Process.Pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", a.proc.Process.Pid))
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				out = append(out, pid)
			}
		}
	}
	return out
}

// cpuTime is user and system time of all of semantos' processes, to the nanosecond.
func (a *agent) cpuTime() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range a.pids() {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, t := range threads {
			b, err := os.ReadFile(t)
			if err != nil {
				continue // the thread has ended: a moment's CPU time is missed
			}
			ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(ns)
		}
	}
	if sum == 0 {
		return 0, errors.New("serve has used no CPU time: is it running?")
	}
	return sum, nil
}

// memory is the resident memory of serve and of its guard, in bytes.
func (a *agent) memory() (serve, guard float64, err error) {
	for i, pid := range a.pids() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, 0, err
		}
		pages, err := strconv.ParseFloat(strings.Fields(string(b))[1], 64)
		if err != nil {
			return 0, 0, err
		}
		if i == 0 {
			serve = pages * float64(os.Getpagesize())
		} else {
			guard += pages * float64(os.Getpagesize())
		}
	}
	return serve, guard, nil
}

// probe is what /metrics says of one probe.
type probe struct{ up, duty, share, lost float64 }

func (a *agent) probes(ctx context.Context) (map[string]probe, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read /metrics: %w", err)
	}
	out := map[string]probe{}
	for name, set := range map[string]func(*probe, float64){
		"semantos_probe_up":                func(p *probe, v float64) { p.up = v },
		"semantos_probe_duty_ratio":        func(p *probe, v float64) { p.duty = v },
		"semantos_probe_cpu_share_ratio":   func(p *probe, v float64) { p.share = v },
		"semantos_probe_lost_events_total": func(p *probe, v float64) { p.lost = v },
	} {
		f := families[name]
		if f == nil {
			continue
		}
		for _, m := range f.Metric {
			key := m.Label[0].GetValue()
			p := out[key]
			set(&p, m.GetGauge().GetValue()+m.GetCounter().GetValue())
			out[key] = p
		}
	}
	if len(out) == 0 {
		return nil, errors.New("/metrics says nothing of probes")
	}
	return out, nil
}
