package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"semantos/internal/tune"
)

// command runs a shell line per sample, as the user who called it, in a process group of its own, and
// reads the numbers it prints. METER_SECONDS in its environment is how long a sample should take.
type command struct{ line string }

func (c command) Name() string { return "cmd:" + c.line }

// Fresh: each sample is a new process.
func (c command) Fresh() bool { return true }

// Check asks for the shell only: running the command is a measurement, and that may be costly.
func (c command) Check(context.Context) error {
	if _, err := exec.LookPath("sh"); err != nil {
		return fmt.Errorf("find shell: %w", err)
	}
	return nil
}

const (
	outputKept = 64 << 10 // of each stream, from its end
	lineShown  = 120
	pipesEnd   = time.Second // children that keep the output open after their parent ended
)

// Sample implements [Meter].
func (c command) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", c.line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = pipesEnd
	cmd.Env = append(os.Environ(), "METER_SECONDS="+strconv.FormatFloat(d.Seconds(), 'f', -1, 64))
	var out, diag ending
	cmd.Stdout, cmd.Stderr = &out, &diag
	start := time.Now()
	err := cmd.Run()
	end := time.Now()
	if cmd.Process != nil {
		_ = killGroup(cmd.Process.Pid) // what it left in the background would load the next slot
	}
	if ctx.Err() != nil {
		return tune.MeterSample{}, fmt.Errorf("command stopped after %s: %w", end.Sub(start).Round(time.Millisecond), ctx.Err())
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return tune.MeterSample{}, fmt.Errorf("run command: %w%s", err, lastWords(diag.String()))
	}
	s, err := parseOutput(out.String())
	if err != nil {
		return tune.MeterSample{}, err
	}
	s.Start, s.End = start, end
	return s, nil
}

func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

func lastWords(text string) string {
	lines := nonEmpty(text)
	if len(lines) == 0 {
		return ""
	}
	return ": " + shown(lines[len(lines)-1])
}

func shown(line string) string {
	if len(line) > lineShown {
		line = line[:lineShown] + "..."
	}
	return strconv.Quote(line)
}

func nonEmpty(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// parseOutput takes the last line that is four numbers. When there is none, the error names the last
// line and what is wrong with it.
func parseOutput(text string) (tune.MeterSample, error) {
	lines := nonEmpty(text)
	if len(lines) == 0 {
		return tune.MeterSample{}, fmt.Errorf("command printed nothing, want a line median_ms,p95_ms,throughput,anomaly_bps: %w", tune.ErrNoData)
	}
	var first error
	for i := len(lines) - 1; i >= 0; i-- {
		s, err := parseLine(lines[i])
		if err == nil {
			return s, nil
		}
		if first == nil {
			first = fmt.Errorf("read line %s of the command: %w", shown(lines[i]), err)
		}
	}
	return tune.MeterSample{}, first
}

func parseLine(line string) (tune.MeterSample, error) {
	names := [...]string{"median_ms", "p95_ms", "throughput", "anomaly_bps"}
	fields := strings.Split(line, ",")
	if len(fields) != len(names) {
		return tune.MeterSample{}, fmt.Errorf("%d fields, want %s: %w", len(fields), strings.Join(names[:], ","), tune.ErrType)
	}
	var v [len(names)]float64
	for i, f := range fields {
		n, err := strconv.ParseFloat(strings.TrimSpace(f), 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
			return tune.MeterSample{}, fmt.Errorf("%s is %s, want a number of 0 or more: %w", names[i], shown(f), tune.ErrType)
		}
		v[i] = n
	}
	switch {
	case v[0] > v[1]:
		return tune.MeterSample{}, fmt.Errorf("median %v ms above p95 %v ms: %w", v[0], v[1], tune.ErrOutOfRange)
	case v[3] > 10000:
		return tune.MeterSample{}, fmt.Errorf("anomaly_bps %v above 10000, which is every request: %w", v[3], tune.ErrOutOfRange)
	}
	return tune.MeterSample{MedianMS: v[0], P95MS: v[1], Throughput: v[2], ErrorRate: v[3] / 10000}, nil
}

// ending keeps the last outputKept bytes written to it.
type ending struct{ buf bytes.Buffer }

func (e *ending) Write(p []byte) (int, error) {
	e.buf.Write(p)
	if over := e.buf.Len() - outputKept; over > outputKept {
		e.buf.Next(over)
	}
	return len(p), nil
}

func (e *ending) String() string { return e.buf.String() }
