package keyvalue

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"semantos/workloads"
)

const (
	clients = 8
	pause   = 5 * time.Millisecond
	// lostAfter is how long a client waits for an answer before it counts the time as lost.
	lostAfter = 200 * time.Millisecond
	batch     = 500 // SETs sent before their answers are read
)

func key(i int) string { return "key:" + strconv.Itoa(i) }

// fill stores n values of size bytes.
func fill(ctx context.Context, port, n, size int) error {
	conn, err := dial(ctx, port)
	if err != nil {
		return fmt.Errorf("fill store: %w", err)
	}
	defer conn.Close()
	r, w := bufio.NewReader(conn), bufio.NewWriter(conn)
	value := strings.Repeat("v", size)
	for at := 0; at < n; at += batch {
		end := min(n, at+batch)
		for i := at; i < end; i++ {
			k := key(i)
			fmt.Fprintf(w, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(k), k, size, value)
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("fill store: %w", err)
		}
		for range end - at {
			if line, err := r.ReadString('\n'); err != nil || line != "+OK\r\n" {
				return fmt.Errorf("fill store: answer %q: %w", line, err)
			}
		}
	}
	return nil
}

func dial(ctx context.Context, port int) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

// ask lets some clients get random keys for d, each over a connection of its own.
func ask(ctx context.Context, port, keys int, d time.Duration) (workloads.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var mu sync.Mutex
	var waits []time.Duration
	var failed error
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Go(func() {
			mine, err := client(ctx, port, keys)
			mu.Lock()
			defer mu.Unlock()
			waits = append(waits, mine...)
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return workloads.Sample{}, failed
	}
	return summarise(waits, start, time.Now()), nil
}

func client(ctx context.Context, port, keys int) ([]time.Duration, error) {
	conn, err := dial(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("ask store: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r := bufio.NewReader(conn)
	var waits []time.Duration
	for ctx.Err() == nil {
		at := time.Now()
		err := get(conn, r, key(rand.IntN(keys)))
		waits = append(waits, time.Since(at)) // one that did not end counts with the time it has waited
		if err != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("ask store: %w", err)
		}
		time.Sleep(pause)
	}
	return waits, nil
}

func get(w io.Writer, r *bufio.Reader, k string) error {
	if _, err := fmt.Fprintf(w, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(k), k); err != nil {
		return err
	}
	head, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
	if err != nil || n < 0 {
		return fmt.Errorf("answer %q to a key that was stored", head)
	}
	_, err = r.Discard(n + 2)
	return err
}

func summarise(waits []time.Duration, start, end time.Time) workloads.Sample {
	s := workloads.Sample{Start: start, End: end, Requests: len(waits)}
	if len(waits) == 0 {
		return s
	}
	slices.Sort(waits)
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
	s.Throughput = float64(len(waits)) / end.Sub(start).Seconds()
	s.Lost = min(1, float64(lost)/(float64(end.Sub(start))*clients))
	return s
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
