package workloads

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// Load is a real program and its clients.
type Load interface {
	// Start brings the server up; its sockets and files are made under the tunables of that moment.
	Start(ctx context.Context) error
	// Measure loads it for about d and tells what clients saw.
	Measure(ctx context.Context, d time.Duration) (Sample, error)
	// Stop ends every process and removes every file the load made.
	Stop() error
}

// Sample is one measurement from the clients' side. Latencies in milliseconds, Throughput in
// operations a second, Lost in [0,1]: the share of the clients' time (or of their datagrams) that was
// lost to waiting for a retransmit or never answered.
type Sample struct {
	Start      time.Time `json:"start"`
	End        time.Time `json:"end"`
	MedianMS   float64   `json:"median_ms"`
	P95MS      float64   `json:"p95_ms"`
	P99MS      float64   `json:"p99_ms"`
	Throughput float64   `json:"throughput"`
	Lost       float64   `json:"lost"`
	// Requests is how many waits the clients beside the load timed, WaitMS their sum; 0 where a load has
	// none, such as a stream of bytes.
	// Late of them waited as long as for a retransmit, or in vain.
	Requests int     `json:"requests,omitempty"`
	Late     int     `json:"late,omitempty"`
	WaitMS   float64 `json:"wait_ms,omitempty"`
}

// LostMS is what a wholly lost second weighs in a cost, in milliseconds.
const LostMS = 1000

// Cost counts what clients lost beside the p99 of what finished, in milliseconds: a short accept
// queue shows a fine p99 while its clients wait a second for a retransmit.
func (s Sample) Cost() float64 { return s.P99MS + LostMS*s.Lost }

// Drive measures in a loop until ctx ends and appends each sample as a JSON line to file, so that a
// meter in another process can read what the clients see. It returns the first error of the load.
func Drive(ctx context.Context, l Load, each time.Duration, file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open samples: %w", err)
	}
	defer f.Close()
	enc := json.NewEncoder(f)
	for ctx.Err() == nil {
		s, err := l.Measure(ctx, each)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("measure load: %w", err)
		}
		if err := enc.Encode(s); err != nil {
			return fmt.Errorf("write sample: %w", err)
		}
	}
	return nil
}

// ErrNoTool says that a program of a Debian package is not installed.
var ErrNoTool = errors.New("program not installed")

// Tool finds a program also where servers are installed, which an ordinary PATH leaves out.
func Tool(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", name, ErrNoTool)
}

// Command runs a program in a named network namespace ("" for the caller's own).
func Command(ctx context.Context, netns, name string, args ...string) *exec.Cmd {
	if netns != "" {
		args = append([]string{"netns", "exec", netns, name}, args...)
		name = "ip"
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Buffer collects a program's output from its goroutine.
type Buffer struct {
	mu sync.Mutex
	b  []byte
}

// Write appends.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b = append(b.b, p...)
	return len(p), nil
}

// String gives all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.b)
}
