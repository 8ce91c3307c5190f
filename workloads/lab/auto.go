package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// autoLimit is how long serve may take, left alone, to find, try and keep the cure.
const autoLimit = 10 * time.Minute

// serving is `semantos serve` left alone under AUTO_APPLY=on.
type serving struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

func (t *trial) serve() (*serving, error) {
	s := &serving{cmd: exec.Command(t.semantos, "serve"), done: make(chan error, 1)}
	s.cmd.Env = append(os.Environ(), "DATA_DIR="+t.dataDir, "AUTO_APPLY=on", "AUTO_POLL=on", "LISTEN=127.0.0.1:0")
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start serve: %w", err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	return s, nil
}

// stop asks serve to end and demands that it does, cleanly.
func (s *serving) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop serve: %w: %s", <-s.done, s.log.String())
	}
	select {
	case err := <-s.done:
		if err != nil {
			return fmt.Errorf("serve ended badly: %w: %s", err, s.log.String())
		}
		return nil
	case <-time.After(15 * time.Second):
		return errors.Join(errors.New("serve did not stop within 15 s of SIGTERM"), s.cmd.Process.Kill())
	}
}

type status struct {
	Rollouts []struct {
		State          string          `json:"state"`
		Reason         string          `json:"reason"`
		Effect         json.RawMessage `json:"effect"`
		Recommendation struct {
			Changes []struct {
				Tunable  string `json:"tunable"`
				Current  string `json:"current"`
				Proposed string `json:"proposed"`
			} `json:"changes"`
		} `json:"recommendation"`
	} `json:"rollouts"`
}

// unattended waits until serve has kept a cure of its own accord, or until limit.
func (t *trial) unattended(ctx context.Context, limit time.Duration, r *report) (err error) {
	s, err := t.serve()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	start := time.Now()
	for time.Since(start) < limit && ctx.Err() == nil {
		time.Sleep(2 * time.Second)
		select {
		case died := <-s.done:
			return fmt.Errorf("serve died: %w: %s", died, s.log.String())
		default:
		}
		kept, err := t.kept(ctx, r)
		if err != nil {
			return err
		}
		if kept {
			r.ApplyS = time.Since(start).Seconds()
			return nil
		}
	}
	r.ApplyS = time.Since(start).Seconds()
	return ctx.Err()
}

// kept looks for a committed rollout of the cause.
func (t *trial) kept(ctx context.Context, r *report) (bool, error) {
	out, err := t.call(ctx, "status", "--json")
	if err != nil {
		return false, err
	}
	var st status
	if err := json.Unmarshal(out, &st); err != nil {
		return false, fmt.Errorf("read status: %w: %s", err, out)
	}
	for _, ro := range st.Rollouts {
		if ro.State != "committed" {
			continue
		}
		for _, c := range ro.Recommendation.Changes {
			if slices.Contains(t.cause, c.Tunable) {
				r.State, r.Reason, r.EffectText = ro.State, ro.Reason, string(ro.Effect)
				r.First = append(r.First, fmt.Sprintf("%s: %s -> %s", c.Tunable, c.Current, c.Proposed))
			}
		}
	}
	return r.State != "", nil
}

// healthy leaves serve alone on a host that is well for d and demands that it tries nothing.
func healthy(ctx context.Context, semantos string, d time.Duration) (problems []string, err error) {
	dir, err := os.MkdirTemp("", "semantos-lab-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	t := &trial{semantos: semantos, dataDir: dir + "/data", log: os.Stderr}
	before, err := t.dump(ctx)
	if err != nil {
		return nil, err
	}
	s, err := t.serve()
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(d):
	case died := <-s.done:
		return nil, fmt.Errorf("serve died: %w: %s", died, s.log.String())
	case <-ctx.Done():
	}
	out, err := t.call(ctx, "status", "--json")
	if err = errors.Join(err, s.stop()); err != nil {
		return nil, err
	}
	var st status
	if err := json.Unmarshal(out, &st); err != nil {
		return nil, fmt.Errorf("read status: %w: %s", err, out)
	}
	for _, ro := range st.Rollouts {
		problems = append(problems, fmt.Sprintf("a rollout on a healthy host: %v", ro))
	}
	after, err := t.dump(ctx)
	if err != nil {
		return nil, err
	}
	return append(problems, diff(before, after)...), nil
}
