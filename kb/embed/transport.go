package embed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxAnswer bounds an answer in bytes: 64 vectors of 4096 numbers as text are below 6 MB.
const maxAnswer = 32 << 20

// Waits between attempts: doubling from firstWait; a service that asks for more than longestWait is not
// asked again.
const (
	firstWait   = 200 * time.Millisecond
	longestWait = 10 * time.Second
)

// outcome is what the transport met during one call. The library turns statuses and lost connections
// into text; this keeps them apart.
type outcome struct {
	status   int
	lost     error
	attempts int
}

type outcomeKey struct{}

// waiter waits for d or until ctx ends.
type waiter func(ctx context.Context, d time.Duration) error

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// newClient gives the client of one service: a limit on time, retries, no redirects, which could carry
// the texts to another host.
func newClient(c Config, wait waiter) *http.Client {
	return &http.Client{
		Timeout:       c.Timeout,
		Transport:     &retrying{next: http.DefaultTransport, retries: max(0, c.Retries), wait: wait},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// retrying reads each answer whole and asks again after one that says "later".
type retrying struct {
	next    http.RoundTripper
	retries int
	wait    waiter
}

func (r *retrying) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	met, _ := ctx.Value(outcomeKey{}).(*outcome)
	if met == nil {
		met = &outcome{}
	}
	met.attempts = 0 // one call may make a request per text
	for {
		met.attempts++
		answer, err := r.once(request)
		met.status, met.lost = 0, err
		if err == nil {
			met.status = answer.StatusCode
		}
		wait, again := r.again(met.attempts, answer, err)
		if !again || ctx.Err() != nil || r.wait(ctx, wait) != nil {
			return answer, err
		}
	}
}

func (r *retrying) once(request *http.Request) (*http.Response, error) {
	attempt := request.Clone(request.Context())
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return nil, fmt.Errorf("read request again: %w", err)
		}
		attempt.Body = body
	}
	answer, err := r.next.RoundTrip(attempt)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("answer of more than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if answer.StatusCode < 400 && answer.StatusCode != http.StatusOK { // the library takes it for an answer
		return nil, fmt.Errorf("answered status %d", answer.StatusCode)
	}
	answer.Body = io.NopCloser(bytes.NewReader(data))
	return answer, nil
}

// again says whether to ask once more and after what wait. A timeout is not repeated: the time is spent.
func (r *retrying) again(attempts int, answer *http.Response, err error) (time.Duration, bool) {
	if attempts > r.retries {
		return 0, false
	}
	wait := firstWait << (attempts - 1)
	if err != nil {
		return wait, !isTimeout(err) && !errors.Is(err, context.Canceled)
	}
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return 0, false
	}
	if asked := answer.Header.Get("Retry-After"); asked != "" {
		if seconds, err := strconv.Atoi(asked); err == nil && seconds >= 0 {
			wait = time.Duration(min(seconds, 1<<20)) * time.Second
		} else if at, err := http.ParseTime(asked); err == nil {
			wait = max(0, time.Until(at))
		}
	}
	return wait, wait <= longestWait
}
