// Package stream is iperf3: bulk TCP streams between two processes on one host.
//
// It must not change tunables. Read [Load.Measure] first; it is the smallest load.
package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"semantos/workloads"
)

// Load is an iperf3 server and its client with some parallel streams.
type Load struct {
	Netns   string
	Port    int
	Streams int

	server *exec.Cmd
	cancel context.CancelFunc
}

// Start brings the server up.
func (l *Load) Start(ctx context.Context) error {
	iperf, err := workloads.Tool("iperf3")
	if err != nil {
		return err
	}
	ctx, l.cancel = context.WithCancel(ctx)
	l.server = workloads.Command(ctx, l.Netns, iperf, "-s", "-p", strconv.Itoa(l.Port))
	if err := l.server.Start(); err != nil {
		return fmt.Errorf("start iperf3: %w", err)
	}
	time.Sleep(300 * time.Millisecond)
	return nil
}

// Stop ends the server.
func (l *Load) Stop() error {
	if l.server == nil {
		return nil
	}
	l.cancel()
	_ = l.server.Wait() // killed by us: its status says only that
	l.server = nil
	return nil
}

type result struct {
	End struct {
		Received struct {
			BitsPerSecond float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
	Error string `json:"error"`
}

// Measure streams for d. The latency is the time a mebibyte takes on its stream.
func (l *Load) Measure(ctx context.Context, d time.Duration) (workloads.Sample, error) {
	iperf, err := workloads.Tool("iperf3")
	if err != nil {
		return workloads.Sample{}, err
	}
	start := time.Now()
	seconds := max(1, int(d.Round(time.Second)/time.Second))
	out, err := workloads.Command(ctx, l.Netns, iperf, "-c", "127.0.0.1", "-p", strconv.Itoa(l.Port),
		"-t", strconv.Itoa(seconds), "-P", strconv.Itoa(l.Streams), "-J").Output()
	var r result
	if jsonErr := json.Unmarshal(out, &r); jsonErr != nil || r.Error != "" {
		return workloads.Sample{}, fmt.Errorf("run iperf3: %w: %s", err, r.Error)
	}
	bytes := r.End.Received.BitsPerSecond / 8
	if bytes <= 0 {
		return workloads.Sample{}, fmt.Errorf("run iperf3: nothing was received")
	}
	ms := float64(l.Streams) * (1 << 20) / bytes * 1000
	return workloads.Sample{Start: start, End: time.Now(), MedianMS: ms, P95MS: ms, P99MS: ms, Throughput: bytes}, nil
}
