package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"semantos/workloads"
)

// sighting is one text of a watched file and when it was first seen there.
type sighting struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// watchEvery is how fine the times of a trial are known.
const watchEvery = 10 * time.Millisecond

// watch prints each change of a file until ctx ends: a lab inside a namespace does it for one outside.
func watch(ctx context.Context, path string) error {
	enc := json.NewEncoder(os.Stdout)
	last := ""
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		at := time.Now()
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		if text := string(bytes.TrimSpace(b)); text != last {
			last = text
			if err := enc.Encode(sighting{at, text}); err != nil {
				return fmt.Errorf("watch: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// window is a time in which a change stood.
type window struct{ from, to time.Time }

// windows are the times between end and the first sighting in which the text was another than at first.
func windows(seen []sighting, end time.Time) []window {
	var out []window
	for i, s := range seen {
		if s.Text == seen[0].Text {
			continue
		}
		to := end
		if i+1 < len(seen) {
			to = seen[i+1].At
		}
		if n := len(out); n > 0 && out[n-1].to.Equal(s.At) {
			out[n-1].to = to // a dose on its way
			continue
		}
		out = append(out, window{s.At, to})
	}
	return out
}

func readSightings(out []byte) ([]sighting, error) {
	var seen []sighting
	scan := bufio.NewScanner(bytes.NewReader(out))
	for scan.Scan() {
		var s sighting
		if err := json.Unmarshal(scan.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("read watch: %w: %s", err, scan.Text())
		}
		seen = append(seen, s)
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("read watch: it saw nothing")
	}
	return seen, scan.Err()
}

// extra is what a trial cost the workload beyond its untreated level, counted by the load itself.
type extra struct {
	TreatedS  float64 `json:"treated_s"`
	Times     int     `json:"times"`      // that the change stood
	RunS      float64 `json:"run_s"`      // from the command's start to its end
	Level     float64 `json:"level"`      // untreated work a second
	LevelCV   float64 `json:"level_cv"`   // of its samples
	NotDone   float64 `json:"not_done"`   // work
	Share     float64 `json:"share"`      // of the run's work at its level
	LostS     float64 `json:"lost_s"`     // seconds of the untreated level that NotDone is
	Late      int     `json:"late"`       // requests that waited as long as for a retransmit, or in vain, while it stood
	WaitMS    float64 `json:"wait_ms"`    // extra milliseconds times requests of the clients beside the load
	WaitLevel float64 `json:"wait_level"` // untreated milliseconds a request
	Unit      string  `json:"unit"`
}

// account adds up what the samples that a window touched, or that began within tail after it, fell short
// of the level of the others, from the first window to the end. All others of the trial are the level.
func account(c candidate, samples []workloads.Sample, stood []window, from, to time.Time, tail time.Duration) (extra, error) {
	x := extra{Times: len(stood), RunS: to.Sub(from).Seconds(), Unit: c.unit}
	for _, w := range stood {
		x.TreatedS += w.to.Sub(w.from).Seconds()
	}
	var level, squares, waits, requests float64
	n := 0
	var hurt []workloads.Sample
	for _, s := range samples {
		if touched(s, stood, tail) {
			hurt = append(hurt, s)
			continue
		}
		n++
		level += c.rate(s)
		squares += math.Pow(c.rate(s), 2)
		waits, requests = waits+s.WaitMS, requests+float64(s.Requests)
	}
	if n < 3 {
		return x, fmt.Errorf("count the cost: only %d samples stand apart from the change", n)
	}
	x.Level = level / float64(n)
	x.LevelCV = math.Sqrt(max(0, squares/float64(n)-x.Level*x.Level)) / x.Level
	if requests > 0 {
		x.WaitLevel = waits / requests
	}
	for _, s := range hurt {
		x.NotDone += (x.Level - c.rate(s)) * s.End.Sub(s.Start).Seconds()
		x.Late += s.Late
		x.WaitMS += s.WaitMS - x.WaitLevel*float64(s.Requests)
	}
	x.LostS = x.NotDone / x.Level
	x.Share = x.LostS / x.RunS
	return x, nil
}

// rate is the work of a sample, a second.
func (c candidate) rate(s workloads.Sample) float64 {
	if c.scale == 0 {
		return float64(s.Requests) / s.End.Sub(s.Start).Seconds()
	}
	return s.Throughput * c.scale
}

func touched(s workloads.Sample, stood []window, tail time.Duration) bool {
	for _, w := range stood {
		if s.End.After(w.from) && s.Start.Before(w.to.Add(tail)) {
			return true
		}
	}
	return false
}
