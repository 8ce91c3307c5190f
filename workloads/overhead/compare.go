package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"semantos/workloads"
)

// The same two questions as bpftrace asks them: run-queue latency, and block latency by tracepoints (its
// own biolatency needs kprobes, which many kernels lack).
const theirs = `
tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @q[args->pid] = nsecs; }
tracepoint:sched:sched_switch {
  if (args->prev_state == 0) { @q[args->prev_pid] = nsecs; }
  $s = @q[args->next_pid];
  if ($s) { @us = hist((nsecs - $s) / 1000); }
  delete(@q[args->next_pid]);
}
tracepoint:block:block_rq_issue { @b[args->dev, args->sector] = nsecs; }
tracepoint:block:block_rq_complete {
  $s = @b[args->dev, args->sector];
  if ($s) { @bus = hist((nsecs - $s) / 1000); }
  delete(@b[args->dev, args->sector]);
}`

// cost is what the kernel's statistics say of one BPF program.
type cost struct {
	ID   int    `json:"id"`
	Type string `json:"type"`
	Name string `json:"name"`
	Pids []struct {
		Comm string `json:"comm"`
	} `json:"pids"`
	Time float64 `json:"run_time_ns"`
	Runs float64 `json:"run_cnt"`
}

func programs(ctx context.Context) (map[int]cost, error) {
	tool, err := workloads.Tool("bpftool")
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, tool, "prog", "show", "-j").Output()
	if err != nil {
		return nil, fmt.Errorf("bpftool: %w", err)
	}
	var list []cost
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("bpftool: %w", err)
	}
	m := map[int]cost{}
	for _, c := range list {
		m[c.ID] = c
	}
	return m, nil
}

const statsKnob = "/proc/sys/kernel/bpf_stats_enabled"

// compare attaches both to the same events under the same load, so that each event pays both, and prints
// nanoseconds per event of each program.
func compare(ctx context.Context, o options) (err error) {
	bpftrace, err := workloads.Tool("bpftrace")
	if err != nil {
		return err
	}
	was, err := os.ReadFile(statsKnob)
	if err != nil {
		return err
	}
	if err := os.WriteFile(statsKnob, []byte("1"), 0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.WriteFile(statsKnob, was, 0)) }()
	l := &web{}
	if err := l.start(ctx); err != nil {
		return err
	}
	defer l.stop()
	a, err := startAgent(ctx, o.semantos, "auto")
	if err != nil {
		return err
	}
	defer a.stop()
	// bpftrace needs tracefs; a mount namespace of its own keeps the mount out of the host.
	script := `mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec "$0" -e "$1"`
	other := exec.CommandContext(ctx, "unshare", "-m", "sh", "-c", script, bpftrace, theirs)
	other.Cancel = func() error { return other.Process.Signal(unix.SIGINT) }
	said := &workloads.Buffer{}
	other.Stdout, other.Stderr = said, said
	if err := other.Start(); err != nil {
		return err
	}
	defer func() {
		_ = other.Process.Signal(unix.SIGINT)
		_ = other.Wait()
	}()
	writer := exec.CommandContext(ctx, "sh", "-c", "while :; do dd if=/dev/zero of=\"$0\" bs=64k count=64 oflag=direct 2>/dev/null; done", a.dir+"/blocks")
	if err := writer.Start(); err != nil {
		return err
	}
	defer func() {
		_ = writer.Process.Kill()
		_ = writer.Wait()
	}()
	if _, err := l.measure(ctx, settle); err != nil {
		return err
	}
	before, err := programs(ctx)
	if err != nil {
		return err
	}
	if _, err := l.measure(ctx, max(o.slot, 5*time.Second)); err != nil {
		return err
	}
	after, err := programs(ctx)
	if err != nil {
		return err
	}
	return showCosts(before, after, said)
}

func showCosts(before, after map[int]cost, said fmt.Stringer) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nwhose\tprogram\tevents\tns each\ttotal ms")
	found := false
	for id, c := range after {
		runs, ns := c.Runs-before[id].Runs, c.Time-before[id].Time
		if runs <= 0 {
			continue
		}
		whose := "semantos"
		if len(c.Pids) > 0 {
			whose = c.Pids[0].Comm
		} else if c.Type == "tracepoint" {
			whose = "bpftrace"
		}
		if !strings.HasPrefix(whose, "semantos") {
			found = true
		}
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f\t%.1f\n", whose, c.Name, runs, ns/runs, ns/1e6)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("bpftrace counted nothing: %s", said)
	}
	return nil
}
