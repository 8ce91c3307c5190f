package meter

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"semantos/internal/tune"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// httpMeter asks at a steady rate whatever comes back (an open loop), each request on a connection of
// its own. Latency counts from when a request was due, so that a server that stalls cannot hide the
// requests it kept from being sent.
type httpMeter struct {
	url     string
	rate    float64
	timeout time.Duration
	client  *http.Client
}

func newHTTP(url string, cfg Config) *httpMeter {
	return &httpMeter{url: url, rate: cfg.Rate, timeout: cfg.Timeout, client: newClient()}
}

// newClient reuses no connection and follows no proxy: the machine itself is measured.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a redirect is an answer; following it would measure another server
		},
	}
}

func (m *httpMeter) Name() string { return "http:" + m.url }

// Fresh: every request opens a connection.
func (m *httpMeter) Fresh() bool { return true }

// Check asks once.
func (m *httpMeter) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	if err := m.get(ctx); err != nil {
		return &tune.Error{Op: "ask meter", Subject: m.url, Err: err, Hint: "start the server, or correct the URL"}
	}
	return nil
}

const bodyRead = 16 << 20 // of each answer; more would measure the meter

// get makes one request and reads the answer. A status of 400 or more is a failure.
func (m *httpMeter) get(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, bodyRead)); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

// tally is what the requests of one sample saw.
type tally struct {
	mu     sync.Mutex
	hist   *hdrhistogram.Histogram // microseconds
	failed int
}

// add counts one request. A failed one is as slow as the timeout, however fast it failed: its client
// got nothing, and quick refusals must not look like quick answers.
func (t *tally) add(took, timeout time.Duration, failed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if failed {
		t.failed++
		took = max(took, timeout)
	}
	// Beyond the histogram's range everything is equally lost.
	_ = t.hist.RecordValue(min(t.hist.HighestTrackableValue(), max(1, took.Microseconds())))
}

// Sample implements [Meter]. It lasts d and until the last request is answered or timed out.
func (m *httpMeter) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	const highest = int64(time.Minute / time.Microsecond)
	t := &tally{hist: hdrhistogram.New(1, highest, 3)}
	every := time.Duration(float64(time.Second) / m.rate)
	start := time.Now()
	var wg sync.WaitGroup
	for due := start; due.Sub(start) < d; due = due.Add(every) {
		timer := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			timer.Stop()
			wg.Wait()
			return tune.MeterSample{}, fmt.Errorf("http meter stopped: %w", ctx.Err())
		case <-timer.C:
		}
		wg.Go(func() {
			rctx, cancel := context.WithDeadline(ctx, due.Add(m.timeout))
			defer cancel()
			err := m.get(rctx)
			t.add(time.Since(due), m.timeout, err != nil)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return tune.MeterSample{}, fmt.Errorf("http meter stopped: %w", ctx.Err())
	}
	n := t.hist.TotalCount()
	if n == 0 {
		return tune.MeterSample{}, fmt.Errorf("http meter asked nothing in %s: %w", d, tune.ErrNoData)
	}
	return tune.MeterSample{
		Start: start, End: time.Now(),
		MedianMS: float64(t.hist.ValueAtQuantile(50)) / 1000,
		P95MS:    float64(t.hist.ValueAtQuantile(95)) / 1000,
		// By the time requests were due in: one late answer must not halve it.
		Throughput: float64(n-int64(t.failed)) / d.Seconds(),
		ErrorRate:  float64(t.failed) / float64(n),
		Requests:   n,
	}, nil
}
