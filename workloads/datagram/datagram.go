// Package datagram is a UDP receiver that works in batches, and a sender that sends in bursts: a
// collector of metrics, logs or market data. What does not fit the receive buffer is lost.
//
// It must not change tunables. Read [Receive] first.
package datagram

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sort"
	"strconv"
	"time"

	"semantos/workloads"
)

const (
	size  = 1024                  // bytes of a datagram
	burst = 40                    // datagrams sent back to back; fits a default receive buffer
	every = 10 * time.Millisecond // between bursts
	batch = 5 * time.Millisecond  // the receiver's pause between batches
)

// Receive reads datagrams until ctx ends and writes one line a second to out: datagrams received and
// the p50, p95 and p99 of their age in milliseconds. The socket keeps the default buffer.
func Receive(ctx context.Context, port int, out io.Writer) error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return fmt.Errorf("listen for datagrams: %w", err)
	}
	defer conn.Close()
	buf := make([]byte, 2*size)
	var ages []float64
	next := time.Now().Add(time.Second)
	enc := json.NewEncoder(out)
	for ctx.Err() == nil {
		time.Sleep(batch)
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		for {
			n, err := conn.Read(buf)
			if err != nil {
				break // the deadline: the batch is empty
			}
			if n >= 8 {
				sent := time.Unix(0, int64(binary.BigEndian.Uint64(buf)))
				ages = append(ages, float64(time.Since(sent))/float64(time.Millisecond))
			}
		}
		if now := time.Now(); now.After(next) {
			if err := enc.Encode(summary(ages)); err != nil {
				return fmt.Errorf("report datagrams: %w", err)
			}
			ages, next = ages[:0], now.Add(time.Second)
		}
	}
	return nil
}

type second struct {
	N             int     `json:"n"`
	P50, P95, P99 float64 `json:",omitempty"`
}

func summary(ages []float64) second {
	s := second{N: len(ages)}
	if s.N == 0 {
		return s
	}
	sort.Float64s(ages)
	at := func(q float64) float64 { return ages[int(q*float64(s.N-1))] }
	s.P50, s.P95, s.P99 = at(0.5), at(0.95), at(0.99)
	return s
}

// Load is the receiver in a process of its own and the sender in this one.
type Load struct {
	Port     int
	Receiver string   // the program that runs [Receive], with its leading arguments
	Args     []string // the port is appended

	cmd    *exec.Cmd
	cancel context.CancelFunc
	lines  chan second
	sent   chan int
}

// Start brings the receiver up, whose buffer has the size of that moment, and sends from then on.
func (l *Load) Start(ctx context.Context) error {
	ctx, l.cancel = context.WithCancel(ctx)
	l.cmd = workloads.Command(ctx, "", l.Receiver, append(append([]string{}, l.Args...), strconv.Itoa(l.Port))...)
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start receiver: %w", err)
	}
	if err := l.cmd.Start(); err != nil {
		return fmt.Errorf("start receiver: %w", err)
	}
	l.lines, l.sent = make(chan second, 600), make(chan int, 600)
	go func() {
		defer close(l.lines)
		scan := bufio.NewScanner(out)
		for scan.Scan() {
			var s second
			if json.Unmarshal(scan.Bytes(), &s) == nil {
				select {
				case l.lines <- s:
				default: // nobody measures
				}
			}
		}
	}()
	go l.send(ctx)
	return nil
}

// send is open loop: bursts keep their times whatever becomes of them.
func (l *Load) send(ctx context.Context) {
	conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", l.Port))
	if err != nil {
		return
	}
	defer conn.Close()
	buf := make([]byte, size)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for range burst {
			binary.BigEndian.PutUint64(buf, uint64(time.Now().UnixNano()))
			_, _ = conn.Write(buf) // an error is a lost datagram, which the receiver's count shows
		}
	}
}

// Stop ends receiver and sender.
func (l *Load) Stop() error {
	if l.cmd == nil {
		return nil
	}
	l.cancel()
	_ = l.cmd.Wait() // killed by us
	l.cmd = nil
	return nil
}

// Measure waits for d of the receiver's reports that begin after the call.
func (l *Load) Measure(ctx context.Context, d time.Duration) (workloads.Sample, error) {
	for len(l.lines) > 0 {
		<-l.lines
	}
	var all []second
	start := time.Now()
	for i := 0; i <= max(1, int(d.Seconds())); i++ {
		select {
		case s, ok := <-l.lines:
			if !ok {
				return workloads.Sample{}, errors.New("receiver ended")
			}
			if i > 0 { // the first second began before the call
				all = append(all, s)
			}
		case <-ctx.Done():
			return workloads.Sample{}, ctx.Err()
		}
	}
	return fold(all, start), nil
}

func fold(all []second, start time.Time) workloads.Sample {
	s := workloads.Sample{Start: start, End: time.Now()}
	offered := float64(burst) / every.Seconds()
	for _, sec := range all {
		s.Throughput += float64(sec.N) / float64(len(all))
		s.MedianMS, s.P95MS, s.P99MS = max(s.MedianMS, sec.P50), max(s.P95MS, sec.P95), max(s.P99MS, sec.P99)
	}
	s.Lost = min(1, max(0, 1-s.Throughput/offered))
	if s.Lost < 0.01 { // the seconds of two clocks do not start together
		s.Lost = 0
	}
	return s
}
