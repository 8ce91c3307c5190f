package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"semantos/ebpf"
)

// firstLook is how long doctor waits for the first measurement of what probes cost.
const firstLook = time.Second

// probeStatus is how the probes fare, with what they cost where that is known soon.
func (p *probes) status(ctx context.Context) []ebpf.ProbeStatus {
	for deadline := time.Now().Add(firstLook); ; {
		all := p.set.Status()
		known := true
		for _, s := range all {
			known = known && (s.Duty == 0 || s.Measured)
		}
		if known || ctx.Err() != nil || time.Now().After(deadline) {
			return all
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// counting is how many probes count now.
func (p *probes) counting() int {
	n := 0
	for _, s := range p.set.Status() {
		if s.State != ebpf.StateFailed && s.State != ebpf.StateOff {
			n++
		}
	}
	return n
}

// probeFinding sums the probes up in one line.
func probeFinding(all []ebpf.ProbeStatus) finding {
	on, failed, off, share := 0, 0, 0, 0.0
	why := ""
	for _, s := range all {
		switch s.State {
		case ebpf.StateFailed:
			if failed++; why == "" {
				why = s.Reason
			}
		case ebpf.StateOff:
			if off++; !s.Costly {
				why = s.Reason
			}
		default:
			on++
			share += s.CPUShare
		}
	}
	f := finding{Area: "probes", Status: "ok", Text: fmt.Sprintf("%d of %d eBPF probes count, at %s of all CPUs", on, len(all), percent(share))}
	switch {
	case failed > 0:
		f.Status, f.Text = "limited", fmt.Sprintf("%d of %d eBPF probes do not load: %s", failed, len(all), why)
		f.Hint = "semantos doctor --verbose shows the kernel's own message; without them the signals of /proc and /sys remain"
	case on == 0:
		f.Status, f.Text = "limited", "no eBPF probe counts: "+why
	}
	return f
}

// percent prints small shares with the digits they need.
func percent(share float64) string {
	if share < 0.01 {
		return fmt.Sprintf("%.2f %%", 100*share)
	}
	return fmt.Sprintf("%.1f %%", 100*share)
}

// showProbes lists each probe with what it costs or why it does not count; verbose adds the question it
// answers, what this kernel lacks, and the verifier's message.
func showProbes(w io.Writer, all []ebpf.ProbeStatus, verbose bool) {
	rows := [][]string{}
	for i, s := range all {
		cost, note := "", oneLine(s.Reason)
		if i > 0 && note != "" && s.Reason == all[i-1].Reason {
			note = "the same"
		}
		switch {
		case s.Measured && s.EventsPerSec == 0:
			cost = "nothing: no events"
		case s.Measured:
			cost = fmt.Sprintf("%s, %.0f ns x %s/s", percent(s.CPUShare), s.NSPerEvent, number(s.EventsPerSec))
		}
		duty := ""
		if s.Duty > 0 {
			duty = fmt.Sprintf("%.0f %%", 100*s.Duty)
		}
		if s.Lost > 0 {
			note = strings.TrimPrefix(note+fmt.Sprintf("; %d events lost", s.Lost), "; ")
		}
		if len(s.Missing) > 0 && verbose {
			note = strings.TrimPrefix(note+"; this kernel has no "+strings.Join(s.Missing, ", "), "; ")
		}
		if verbose && note == "" {
			note = oneLine(s.Answers)
		}
		rows = append(rows, []string{s.Name, s.State, duty, cost, note})
	}
	fmt.Fprintln(w)
	table(w, []string{"PROBE", "STATE", "OF THE TIME", "COSTS OF ALL CPUS", "NOTE"}, rows)
	for _, s := range all {
		if !verbose || s.Verifier == "" {
			continue
		}
		fmt.Fprintf(w, "\nThe kernel's verifier on %s:\n", s.Name)
		for line := range strings.Lines(s.Verifier) {
			fmt.Fprintln(w, "  "+oneLine(line))
		}
	}
}
