package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sort"
	"sync"
	"time"

	"semantos/workloads"
)

const (
	probers = 24
	pause   = 10 * time.Millisecond
	// lostAfter tells a wait for a retransmit (the initial SYN timeout is one second, a data
	// retransmit at least 200 ms) from a queue.
	lostAfter = 200 * time.Millisecond
)

// Probe lets a few clients call the server in a closed loop for d, timed from the first SYN; a call
// that has not ended by then counts with the time it has waited.
func Probe(ctx context.Context, port int, d time.Duration) workloads.Sample {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var mu sync.Mutex
	var waits []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for range probers {
		wg.Go(func() {
			for ctx.Err() == nil {
				at := time.Now()
				call(ctx, port)
				wait := time.Since(at)
				mu.Lock()
				waits = append(waits, wait)
				mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	wg.Wait()
	return summarise(waits, start, time.Now())
}

// call makes one request; an error counts as its waiting time, like an answer.
func call(ctx context.Context, port int) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, conn)
}

func summarise(waits []time.Duration, start, end time.Time) workloads.Sample {
	s := workloads.Sample{Start: start, End: end, Requests: len(waits)}
	if len(waits) == 0 {
		return s
	}
	sort.Slice(waits, func(i, j int) bool { return waits[i] < waits[j] })
	at := func(q float64) float64 { return ms(waits[int(q*float64(len(waits)-1))]) }
	var lost time.Duration
	for _, w := range waits {
		s.WaitMS += ms(w)
		if w >= lostAfter {
			s.Late++
			lost += w
		}
	}
	s.MedianMS, s.P95MS, s.P99MS = at(0.5), at(0.95), at(0.99)
	s.Lost = min(1, float64(lost)/(float64(end.Sub(start))*probers))
	return s
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// ParseProbe reads what a probing process printed.
func ParseProbe(out []byte) (workloads.Sample, error) {
	var s workloads.Sample
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("read probe's result %q: %w", out, err)
	}
	return s, nil
}
