package meter

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/internal/tune"
)

func TestCommandOutput(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, out string
		want      tune.MeterSample
		err       error
		says      string
	}{
		{name: "one line", out: "1.5,9,1200,25\n", want: tune.MeterSample{MedianMS: 1.5, P95MS: 9, Throughput: 1200, ErrorRate: 0.0025}},
		{name: "the last that fits", out: "1,2,3,4\n5,6,7,8\ndone\n", want: tune.MeterSample{MedianMS: 5, P95MS: 6, Throughput: 7, ErrorRate: 0.0008}},
		{name: "spaces, no line end", out: "  1 , 2 ,3, 0", want: tune.MeterSample{MedianMS: 1, P95MS: 2, Throughput: 3}},
		{name: "nothing", out: "\n\n", err: tune.ErrNoData, says: "printed nothing"},
		{name: "five fields", out: "1,2,3,4,5\n", err: tune.ErrType, says: `"1,2,3,4,5" of the command: 5 fields`},
		{name: "garbage", out: "hello\x1b[31m\n", err: tune.ErrType, says: `"hello\x1b[31m"`},
		{name: "a word", out: "1,2,fast,0\n", err: tune.ErrType, says: `throughput is "fast"`},
		{name: "NaN", out: "1,NaN,3,0\n", err: tune.ErrType, says: "p95_ms"},
		{name: "negative", out: "1,2,-3,0\n", err: tune.ErrType, says: "throughput"},
		{name: "median above p95", out: "9,2,3,0\n", err: tune.ErrOutOfRange, says: "above p95"},
		{name: "more errors than requests", out: "1,2,3,10001\n", err: tune.ErrOutOfRange, says: "anomaly_bps"},
		{name: "a long line is cut", out: strings.Repeat("x", 5000), err: tune.ErrType, says: `...`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseOutput(tc.out)
			if !errors.Is(err, tc.err) || (err != nil) != (tc.err != nil) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tc.says) || len(err.Error()) > 400 {
					t.Errorf("error %q does not say %q", err, tc.says)
				}
				return
			}
			if got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}

func FuzzCommandOutput(f *testing.F) {
	f.Add("1,2,3,4\n")
	f.Add("a\n1,2,3\n,,,\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseOutput(text)
		if err == nil && !(s.MedianMS >= 0 && s.P95MS >= s.MedianMS && s.Throughput >= 0 && s.ErrorRate >= 0 && s.ErrorRate <= 1) {
			t.Errorf("%q gave %+v", text, s)
		}
	})
}

func TestCommandRuns(t *testing.T) {
	t.Parallel()
	s, err := command{`echo noise >&2; echo 1,2,$METER_SECONDS,100`}.Sample(t.Context(), 1500*time.Millisecond)
	if err != nil || s.Throughput != 1.5 || s.ErrorRate != 0.01 || !s.End.After(s.Start) {
		t.Errorf("%+v, %v", s, err)
	}
	_, err = command{`echo 1,2,3,4; echo no such host >&2; exit 3`}.Sample(t.Context(), time.Second)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("a failed command: %v", err)
	}
	// Much output keeps only its end.
	s, err = command{`yes hello | head -c 3000000; echo; echo 1,2,3,4`}.Sample(t.Context(), time.Second)
	if err != nil || s.P95MS != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A hanging command ends with its context, and so do its children, also those in the background.
func TestCommandEndsWithItsChildren(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start := time.Now()
	_, err := command{"sleep 300 & echo $! > " + file + "; sleep 300"}.Sample(ctx, time.Second)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("took %s to end", took)
	}
	wantGone(t, file)

	file = filepath.Join(t.TempDir(), "left")
	s, err := command{"sleep 300 & echo $! > " + file + "; echo 1,2,3,4"}.Sample(t.Context(), time.Second)
	if err != nil || s.P95MS != 2 {
		t.Errorf("a command that left a child: %+v, %v", s, err)
	}
	wantGone(t, file)
}

func wantGone(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) {
			return
		}
	}
	t.Errorf("child %d still runs", pid)
}

// zombie: dead, though a container's pid 1 may never collect it.
func zombie(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(data), ") Z ")
}
