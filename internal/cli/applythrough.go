package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/safety/rollout"
)

// applyThrough lets a running serve do the rollout, and measures here when the meter is ours.
func (a *app) applyThrough(ctx context.Context, c *client, rec tune.Recommendation, f applyFlags, meter rollout.Meter) error {
	req := console.ApplyRequest{
		StageTimeS: f.stageTime.Seconds(), Steps: a.cfg.RolloutSteps, Margin: &a.cfg.Margin, SLOMaxP95: &a.cfg.SLOMaxP95, MaxErrorRate: &a.cfg.MaxErrorRate,
		Yes: f.yes, Hold: f.hold, Persist: f.persist,
	}
	if rec.Provenance.Operator {
		req.Set = settingsOf(rec) // with the targets found here: serve may live in another namespace
	} else {
		req.ID = rec.ID
	}
	switch meter.(type) {
	case nil:
	case *ebpfMeter, *deviceMeter: // serve measures it by itself, and goes on with it after a restart
		req.Meter, meter = f.meter, nil
	default:
		req.ClientMeter, req.FreshMeter = meter.Name(), meter.Fresh()
	}
	// Ctrl-C asks serve to put back and still waits for the rollout: a closed connection would do the
	// former, but nobody would see the outcome.
	requestCtx, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	over := make(chan struct{})
	defer close(over)
	follow := &follower{app: a, client: c, meter: meter, start: a.now()}
	follow.rollout.Store(&rec.ID) // until serve says which of its rollouts it is
	go func() {
		select {
		case <-over:
		case <-ctx.Done():
			a.say("interrupted: putting back")
			ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), interruptTime)
			defer cancel()
			var doc tune.Rollout
			if err := c.call(ask, http.MethodPost, "/rollout/abort", console.AbortRequest{ID: *follow.rollout.Load()}, &doc); err != nil {
				leave()
			}
		}
	}()
	if f.hold {
		a.say("when it holds, let it go on with: semantos advance %s", rec.ID)
	}
	resp, err := c.do(requestCtx, http.MethodPost, "/apply", req, "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return problem(resp)
	}
	rollout, err := follow.read(requestCtx, resp.Body)
	return a.finish(rollout, err)
}

// settingsOf spells a bundle out as --set takes it, each target in full.
func settingsOf(rec tune.Recommendation) []string {
	out := make([]string, len(rec.Changes))
	for i, c := range rec.Changes {
		out[i] = fmt.Sprintf("%s@%s=%s", c.Tunable, c.Target, c.Proposed)
	}
	return out
}

// interruptTime is what an interrupted command gives serve to put back.
const interruptTime = 15 * time.Second

// follower reads the events of one rollout.
type follower struct {
	app     *app
	client  *client
	meter   rollout.Meter
	start   time.Time
	rollout atomic.Pointer[string]
}

// read prints progress, answers what asks for a sample, and ends with the rollout or the problem.
func (f *follower) read(ctx context.Context, body io.Reader) (tune.Rollout, error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 4<<20)
	name := ""
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "event: "); ok {
			name = text
			continue
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		switch name {
		case "progress":
			if err := f.progress(ctx, []byte(data)); err != nil {
				return tune.Rollout{}, err
			}
		case "rollout":
			var r tune.Rollout
			if err := json.Unmarshal([]byte(data), &r); err != nil {
				return r, fmt.Errorf("read rollout from serve: %w", err)
			}
			return r, nil
		case "problem":
			var p console.Problem
			if err := json.Unmarshal([]byte(data), &p); err != nil {
				return tune.Rollout{}, fmt.Errorf("read problem from serve: %w", err)
			}
			return tune.Rollout{}, p.AsError()
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return tune.Rollout{}, &tune.Error{Op: "follow rollout at", Subject: f.client.socket, Err: err,
		Hint: "serve ended, and what was being tried is put back; semantos status says whether it goes on when serve starts again"}
}

// wireEvent is console.Event with data still to be read.
type wireEvent struct {
	Kind    string          `json:"kind"`
	Message string          `json:"message"`
	Rollout string          `json:"rollout"`
	Data    json.RawMessage `json:"data"`
}

func (f *follower) progress(ctx context.Context, data []byte) error {
	var e wireEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("read progress from serve: %w", err)
	}
	if e.Rollout != "" {
		f.rollout.Store(&e.Rollout)
	}
	if e.Kind == "sample" && f.meter != nil {
		var want sampleWanted
		if err := json.Unmarshal(e.Data, &want); err != nil {
			return fmt.Errorf("read progress from serve: %w", err)
		}
		go f.sample(ctx, e.Rollout, want)
		return nil
	}
	if e.Message != "" {
		f.app.say("%4.0f s  %s", f.app.now().Sub(f.start).Seconds(), e.Message)
	}
	return nil
}

// sample measures here, beside the reading of events, and posts what came of it.
func (f *follower) sample(ctx context.Context, rollout string, want sampleWanted) {
	req := console.SampleRequest{Rollout: rollout, Seq: want.Seq}
	sample, err := f.meter.Sample(ctx, time.Duration(want.Seconds*float64(time.Second)))
	if err != nil {
		req.Error = err.Error()
	} else {
		req.Sample = &sample
	}
	resp, err := f.client.do(ctx, http.MethodPost, "/rollout/sample", req, "application/json")
	if err != nil {
		if ctx.Err() == nil { // nobody waits for it after the end
			f.app.say("sample not delivered: %v", err)
		}
		return
	}
	resp.Body.Close()
}
