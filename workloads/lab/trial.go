package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"semantos/workloads"
)

// trial is one scenario being lived through.
type trial struct {
	scenario
	env      env
	semantos string
	dataDir  string
	rounds   int
	auto     bool // leave serve alone under AUTO_APPLY=on in place of recommend and apply
	log      io.Writer
}

// report is what a trial found. Costs in milliseconds, lower is better; Gap is the closed share of the
// way from Bad to Good on the log scale.
type report struct {
	Scenario   string   `json:"scenario"`
	Good       float64  `json:"good_cost_ms"`
	Bad        float64  `json:"bad_cost_ms"`
	After      float64  `json:"after_cost_ms"`
	Gap        float64  `json:"gap_closed"`
	First      []string `json:"first_recommendation"`
	Seconds    float64  `json:"recommend_s"`
	ApplyS     float64  `json:"apply_s"`
	State      string   `json:"state"`
	Reason     string   `json:"reason"`
	EffectText string   `json:"effect"`
	Problems   []string `json:"problems"`
}

// run lives through the scenario; an error is the lab's own, what semantos did wrong is a problem.
func (t *trial) run(ctx context.Context) (r report, err error) {
	r.Scenario = t.name
	if t.netns {
		if err := t.addNetns(ctx); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, t.delNetns(ctx)) }()
	}
	restore, err := t.save(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	if r.Good, err = t.known(ctx); err != nil {
		return r, err
	}
	for _, s := range t.mistune {
		if err := t.write(ctx, s); err != nil {
			return r, err
		}
	}
	load := t.load(&t.env)
	if err := load.Start(ctx); err != nil {
		return r, errors.Join(err, load.Stop())
	}
	defer func() { err = errors.Join(err, load.Stop()) }()
	if r.Bad, err = t.cost(ctx, load); err != nil {
		return r, err
	}
	if err := t.cure(ctx, load, &r); err != nil {
		return r, err
	}
	if r.gap(); r.State == "committed" && r.Gap < enough {
		if err := t.knownAgain(ctx, load, &r); err != nil {
			return r, err
		}
	}
	if r.Gap < enough {
		r.problem("only %.0f %% of the gap was closed", 100*r.Gap)
	}
	return r, nil
}

// enough is the share of the gap that a cure must close.
const enough = 0.9

func (r *report) gap() {
	if r.Bad > r.Good {
		r.Gap = math.Log(r.Bad/r.After) / math.Log(r.Bad/r.Good)
	}
}

// knownAgain asks whether the known good values still give what they gave: on a shared machine the whole
// host may be slower by now, which is no fault of the cure.
func (t *trial) knownAgain(ctx context.Context, load workloads.Load, r *report) error {
	if err := load.Stop(); err != nil {
		return err
	}
	again, err := t.known(ctx)
	if err != nil {
		return err
	}
	t.printf("  %s: closed %.0f %% by the first measurement of the good values; now they cost %.2f ms\n", t.name, 100*r.Gap, again)
	r.Good = max(r.Good, again)
	r.gap()
	return nil
}

// known measures the cost under the known good values, with a server started under them.
func (t *trial) known(ctx context.Context) (cost float64, err error) {
	for _, s := range t.good {
		if err := t.write(ctx, s); err != nil {
			return 0, err
		}
	}
	load := t.load(&t.env)
	defer func() { err = errors.Join(err, load.Stop()) }()
	if err := load.Start(ctx); err != nil {
		return 0, err
	}
	return t.cost(ctx, load)
}

// cost is the median of some fresh measurements: the best of many would flatter.
func (t *trial) cost(ctx context.Context, l workloads.Load) (float64, error) {
	var all []float64
	for range t.rounds {
		s, err := l.Measure(ctx, t.each)
		if err != nil {
			return 0, err
		}
		t.printf("  %s: cost %.2f ms (p50 %.3f p95 %.3f p99 %.3f ms, lost %.2f %%, %.0f/s)\n", t.name, s.Cost(),
			s.MedianMS, s.P95MS, s.P99MS, 100*s.Lost, s.Throughput)
		all = append(all, s.Cost())
	}
	sort.Float64s(all)
	return all[len(all)/2], nil
}

func (t *trial) printf(format string, args ...any) { fmt.Fprintf(t.log, format, args...) }

// oneSlot is what a slot of a rollout asks of the meter: longer samples make slots as long.
const oneSlot = time.Second

// cure calls semantos while the load runs, then measures without it, then rolls back.
func (t *trial) cure(ctx context.Context, load workloads.Load, r *report) error {
	before, err := t.dump(ctx)
	if err != nil {
		return err
	}
	samples := filepath.Join(t.env.dir, "samples")
	driveCtx, stop := context.WithCancel(ctx)
	driven := make(chan error, 1)
	go func() { driven <- workloads.Drive(driveCtx, load, min(t.each, oneSlot), samples) }()
	time.Sleep(time.Second)
	if t.auto {
		err = t.unattended(ctx, autoLimit, r)
	} else {
		err = t.attended(ctx, samples, r)
	}
	stop()
	if driveErr := <-driven; driveErr != nil {
		return errors.Join(err, driveErr)
	}
	if err != nil {
		return err
	}
	if r.After, err = t.cost(ctx, load); err != nil {
		return err
	}
	if r.State != "committed" {
		r.problem("no cure was kept")
	}
	return t.rollback(ctx, before, r)
}

// attended is a person at the command line.
func (t *trial) attended(ctx context.Context, samples string, r *report) error {
	id, err := t.recommend(ctx, r)
	if err != nil || id == "" {
		return err
	}
	return t.apply(ctx, id, samples, r)
}

func (r *report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

type advice struct {
	Recommendations []struct {
		ID      string `json:"id"`
		Changes []struct {
			Tunable  string `json:"tunable"`
			Current  string `json:"current"`
			Proposed string `json:"proposed"`
		} `json:"changes"`
		Rationale string `json:"rationale"`
	} `json:"recommendations"`
}

func (t *trial) recommend(ctx context.Context, r *report) (string, error) {
	start := time.Now()
	out, err := t.call(ctx, "recommend", "--window", "8s", "--json")
	r.Seconds = time.Since(start).Seconds()
	if err != nil {
		return "", err
	}
	var a advice
	if err := json.Unmarshal(out, &a); err != nil {
		return "", fmt.Errorf("read recommendations: %w: %s", err, out)
	}
	if len(a.Recommendations) == 0 {
		r.problem("nothing was recommended")
		return "", nil
	}
	first := a.Recommendations[0]
	hit := false
	for _, c := range first.Changes {
		r.First = append(r.First, fmt.Sprintf("%s: %s -> %s", c.Tunable, c.Current, c.Proposed))
		hit = hit || slices.Contains(t.cause, c.Tunable)
	}
	if !hit {
		r.problem("the cause %v is not in the first recommendation", t.cause)
	}
	if r.Seconds > 15 {
		r.problem("recommend took %.1f s", r.Seconds)
	}
	t.printf("  %s: %s\n    %s\n", t.name, first.Rationale, strings.Join(r.First, "\n    "))
	return first.ID, nil
}

func (t *trial) apply(ctx context.Context, id, samples string, r *report) error {
	start := time.Now()
	out, err := t.call(ctx, "apply", id, "--stage-time", "5s", "--meter", "cmd:"+t.env.self+" meter "+samples, "--json")
	r.ApplyS = time.Since(start).Seconds()
	if err != nil {
		return err
	}
	var done struct {
		State  string          `json:"state"`
		Reason string          `json:"reason"`
		Detail string          `json:"detail"`
		Effect json.RawMessage `json:"effect"`
	}
	if err := json.Unmarshal(out, &done); err != nil {
		return fmt.Errorf("read rollout: %w: %s", err, out)
	}
	r.State, r.Reason, r.EffectText = done.State, done.Reason, string(done.Effect)
	if done.State != "committed" {
		r.problem("apply ended %s (%s %s): %s", done.State, done.Reason, done.Detail, out)
	}
	return nil
}

// rollback demands the exact bytes of before, of everything.
func (t *trial) rollback(ctx context.Context, before map[string]string, r *report) error {
	if _, err := t.call(ctx, "rollback", "--all", "--json"); err != nil {
		return err
	}
	after, err := t.dump(ctx)
	if err != nil {
		return err
	}
	for _, d := range diff(before, after) {
		r.problem("after rollback %s", d)
	}
	return nil
}

// call runs semantos as a user would; exit statuses 0 and 3 are answers.
func (t *trial) call(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, t.semantos, args...)
	cmd.Env = append(os.Environ(), "DATA_DIR="+t.dataDir)
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 3) {
		return nil, fmt.Errorf("semantos %s: %w: %s%s", strings.Join(args, " "), err, stderr.String(), out)
	}
	if stderr.Len() > 0 {
		t.printf("    %s\n", strings.ReplaceAll(strings.TrimSpace(stderr.String()), "\n", "\n    "))
	}
	return out, nil
}
