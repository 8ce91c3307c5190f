package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"semantos/workloads"
)

// harmTrial feeds one candidate to semantos while a load runs on a host that is well.
type harmTrial struct {
	candidate
	semantos string
	disk     string // where images lie
	self     string
	stage    time.Duration // 0: the candidate's own
	equal    bool          // feed the harmless twin in place of the harmful value
	serve    bool          // apply goes through a running serve
	log      io.Writer
}

// harmReport is what became of it.
type harmReport struct {
	Candidate string   `json:"candidate"`
	Equal     bool     `json:"equal,omitempty"`
	Serve     bool     `json:"serve,omitempty"`
	Set       []string `json:"set"`
	State     string   `json:"state"`
	Reason    string   `json:"reason"`
	Detail    string   `json:"detail"`
	Stage     int      `json:"stage"` // in which it ended, from 1
	Share     float64  `json:"share"` // of that stage, percent
	Mode      string   `json:"mode"`
	Treated   int      `json:"treated_slots"` // with data, of the whole rollout
	UndoneS   float64  `json:"undone_s"`      // from the first treated moment to the last
	StageS    float64  `json:"stage_time_s"`
	Cost      extra    `json:"cost"`
	Problems  []string `json:"problems"`
}

func (r *harmReport) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

const (
	harmEach  = time.Second      // of one sample of a load
	calmTime  = 6 * time.Second  // untreated before and after
	harmLimit = 10 * time.Minute // of one apply
)

// run lives through one candidate; an error is the lab's own, what semantos did wrong is a problem.
func (h *harmTrial) run(ctx context.Context) (r harmReport, err error) {
	r.Candidate, r.Equal, r.Serve, r.Problems = h.name, h.equal, h.serve, []string{}
	if h.stage == 0 {
		h.stage = h.candidate.stage
	}
	r.StageS = h.stage.Seconds()
	p, err := h.newPlace()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := h.build(ctx, p); err != nil {
		return r, err
	}
	load := h.load(p)
	defer func() { err = errors.Join(err, load.Stop()) }()
	if err := load.Start(ctx); err != nil {
		return r, err
	}
	feed := h.bad
	if h.equal {
		feed = h.candidate.equal
	}
	if r.Set, err = feed(ctx, p); err != nil {
		return r, err
	}
	return r, h.try(ctx, p, load, &r)
}

func (h *harmTrial) newPlace() (*place, error) {
	p := &place{env: env{self: h.self}}
	var err error
	if p.dir, err = os.MkdirTemp("", "semantos-harm-"); err != nil {
		return nil, err
	}
	p.undo = append(p.undo, func() error { return os.RemoveAll(p.dir) })
	if err := os.Chmod(p.dir, 0o755); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if p.disk, err = os.MkdirTemp(h.disk, "semantos-harm-"); err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.undo = append(p.undo, func() error { return os.RemoveAll(p.disk) })
	return p, nil
}

// try drives the load, watches the tunable, calls semantos, and compares the host with before.
func (h *harmTrial) try(ctx context.Context, p *place, load workloads.Load, r *harmReport) error {
	old := &trial{scenario: scenario{netns: p.netns != ""}, env: p.env, semantos: h.semantos, dataDir: filepath.Join(p.dir, "data"), log: h.log}
	before, err := old.dump(ctx)
	if err != nil {
		return err
	}
	if err := h.vetoed(ctx, old, r); err != nil {
		return err
	}
	samples := filepath.Join(p.dir, "samples")
	driveCtx, stop := context.WithCancel(ctx)
	defer stop()
	driven := make(chan error, 1)
	go func() { driven <- workloads.Drive(driveCtx, load, harmEach, samples) }()
	eye, err := h.look(ctx, p)
	if err != nil {
		return err
	}
	time.Sleep(calmTime)
	from := time.Now()
	applyErr := h.apply(ctx, old, samples, r)
	to := time.Now()
	time.Sleep(calmTime)
	seen, err := eye()
	stop()
	if err := errors.Join(applyErr, err, <-driven); err != nil {
		return err
	}
	if err := h.settled(ctx, old, before, r); err != nil {
		return err
	}
	return h.count(samples, seen, from, to, r)
}

// vetoed demands that nobody gets the harmful value past the gate without saying --yes.
func (h *harmTrial) vetoed(ctx context.Context, t *trial, r *harmReport) error {
	if h.equal {
		return nil
	}
	out, err := t.call(ctx, append(h.args(r), "--json")...)
	if err != nil {
		return err
	}
	var doc struct{ State string }
	if err := json.Unmarshal(out, &doc); err != nil {
		return fmt.Errorf("read rollout: %w: %s", err, out)
	}
	if doc.State != "vetoed" {
		r.problem("without --yes it ended %s", doc.State)
	}
	return nil
}

func (h *harmTrial) args(r *harmReport) []string {
	args := []string{"apply", "--stage-time", h.stage.String()}
	for _, s := range r.Set {
		args = append(args, "--set", s)
	}
	return args
}

func (h *harmTrial) apply(ctx context.Context, t *trial, samples string, r *harmReport) (err error) {
	ctx, cancel := context.WithTimeout(ctx, harmLimit)
	defer cancel()
	if h.serve {
		s, err := t.serveAlone()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.stop()) }()
	}
	args := append(h.args(r), "--yes", "--meter", "cmd:"+h.self+" meter "+samples, "--json")
	if h.equal { // a limit beside the load's own level breaks by chance, whatever is changed
		args = append(args, "--slo-max-p95", "1000")
	}
	out, err := t.call(ctx, args...)
	if err != nil {
		return err
	}
	var doc struct {
		State, Reason, Detail string
		Stages                []struct {
			Share   float64 `json:"share"`
			Mode    string  `json:"mode"`
			Treated int     `json:"treated_slots"`
		}
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return fmt.Errorf("read rollout: %w: %s", err, out)
	}
	r.State, r.Reason, r.Detail, r.Stage = doc.State, doc.Reason, doc.Detail, len(doc.Stages)
	for _, st := range doc.Stages {
		r.Share, r.Mode, r.Treated = st.Share, st.Mode, r.Treated+st.Treated
	}
	undone := r.State == "rolled_back" && (r.Reason == "worse" || r.Reason == "limit")
	if undone == h.equal {
		r.problem("it ended %s (%s): %s", r.State, r.Reason, r.Detail)
	}
	return nil
}

// settled demands the exact bytes of before, and that nothing is held.
func (h *harmTrial) settled(ctx context.Context, t *trial, before map[string]string, r *harmReport) error {
	if r.State == "committed" {
		if _, err := t.call(ctx, "rollback", "--all", "--json"); err != nil {
			return err
		}
	}
	out, err := t.call(ctx, "status", "--json")
	if err != nil {
		return err
	}
	var doc struct{ Managed []json.RawMessage }
	if err := json.Unmarshal(out, &doc); err != nil {
		return fmt.Errorf("read status: %w: %s", err, out)
	}
	for _, m := range doc.Managed {
		r.problem("still held: %s", m)
	}
	after, err := t.dump(ctx)
	if err != nil {
		return err
	}
	for _, d := range diff(before, after) {
		r.problem("afterwards %s", d)
	}
	return nil
}

func (h *harmTrial) count(samples string, seen []sighting, from, to time.Time, r *harmReport) error {
	all, err := readSamples(samples)
	if err != nil {
		return err
	}
	stood := windows(seen, to)
	if len(stood) == 0 {
		r.problem("the change was never seen on the host")
		return nil
	}
	if last := seen[len(seen)-1]; last.Text != seen[0].Text && r.State != "committed" {
		r.problem("it reads %q in the end, %q at first", last.Text, seen[0].Text)
	}
	r.UndoneS = stood[len(stood)-1].to.Sub(stood[0].from).Seconds()
	r.Cost, err = account(h.candidate, all, stood, from, to, 2*harmEach)
	return err
}

// look starts to watch the tunable, where it holds, and gives what was seen when it is called.
func (h *harmTrial) look(ctx context.Context, p *place) (func() ([]sighting, error), error) {
	cmd := workloads.Command(ctx, p.netns, h.self, "watch", h.watch(p))
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watch %s: %w", h.watch(p), err)
	}
	return func() ([]sighting, error) {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			return nil, fmt.Errorf("watch %s: %w: %s", h.watch(p), err, diag.String())
		}
		return readSightings(out.Bytes())
	}, nil
}

// serveAlone starts a serve that tries nothing by itself.
func (t *trial) serveAlone() (*serving, error) {
	s := &serving{cmd: exec.Command(t.semantos, "serve"), done: make(chan error, 1)}
	s.cmd.Env = append(os.Environ(), "DATA_DIR="+t.dataDir, "AUTO_APPLY=off", "AUTO_POLL=on", "LISTEN=127.0.0.1:0")
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start serve: %w", err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	for range 100 {
		if _, err := os.Stat(filepath.Join(t.dataDir, "semantos.sock")); err == nil {
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("serve did not open its socket within 10 s: "+s.log.String()), s.stop())
}

// row is the report as a line of the table in docs/safety.md.
func (r harmReport) row() string {
	where := "kept"
	if r.State != "committed" {
		where = fmt.Sprintf("stage %d, %s %% by %s", r.Stage, strconv.FormatFloat(r.Share, 'g', 3, 64), r.Mode)
	}
	name := r.Candidate
	if r.Equal {
		name += " (equal)"
	}
	if r.Serve {
		name += " (serve)"
	}
	wait := "-"
	if r.Cost.WaitLevel > 0 {
		wait = fmt.Sprintf("%.1f s, %d requests late", r.Cost.WaitMS/1000, r.Cost.Late)
	}
	return fmt.Sprintf("| %s | %s, %s | %d | %.1f s | %.1f s of %.0f s | %.0f %s, %.1f %% of the run | %s |", name, r.Reason, where,
		r.Treated, r.UndoneS, r.Cost.TreatedS, r.Cost.RunS, r.Cost.NotDone, r.Cost.Unit, 100*r.Cost.Share, wait)
}

const rowHead = `| candidate | ended | treated slots | first to last treated | treated in all | work not done | extra waiting |
|---|---|---|---|---|---|---|`
