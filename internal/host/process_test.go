package host

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"testing"

	"semantos/internal/tune"
)

func processTunable(file string) *tune.Tunable {
	return &tune.Tunable{Name: "process/" + file, Scope: tune.ScopeProcess, Method: tune.MethodProcess, Path: file, Kind: tune.KindInteger, Arity: 1}
}

// A file of a real process is read, written and put back; nothing else below /proc/PID is reached, and
// when the process has ended that is what is said.
func TestProcessFiles(t *testing.T) {
	t.Parallel()
	h := New(Config{})
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Skip("no sleep(1) here: " + err.Error())
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	target := fmt.Sprintf("pid:%d", cmd.Process.Pid)
	adj := processTunable("oom_score_adj")
	before, err := h.Read(adj, target)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Write(adj, target, "700"); err != nil || got != "700" {
		t.Fatalf("write: %q, %v", got, err)
	}
	if got, err := h.Restore(adj, target, before); err != nil && !errors.Is(err, tune.ErrNotPermitted) || err == nil && got != before {
		t.Errorf("restore: %q, %v", got, err) // lowering it again needs CAP_SYS_RESOURCE
	}
	all, err := h.Targets(adj)
	if err != nil || !slices.Contains(all, target) || slices.Contains(all, "pid:2") {
		t.Errorf("targets hold the process, and no thread of the kernel: %v, %v", len(all), err)
	}
	for _, file := range []string{"mem", "oom_adj", "attr/current", "../sys/vm/swappiness", "task"} {
		if _, err := h.Read(processTunable(file), target); !errors.Is(err, tune.ErrDenied) {
			t.Errorf("%s: %v", file, err)
		}
	}
	id, err := h.Identity(tune.ScopeProcess, target)
	if err != nil || id["start"] == "" {
		t.Errorf("identity %v, %v", id, err)
	}
	end()
	if _, err := h.Write(adj, target, "1"); !errors.Is(err, tune.ErrGone) {
		t.Errorf("write to an ended process: %v", err)
	}
}
