package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

// TestWhoseKillEndsARollout: real kills at a control group's limit while a trial stands, in an ordinary serve
// that sees them through its guard. A stranger that is killed untreated too is noted and no more; a stranger's
// first kill ends the trial, and so does one in the group of the process that is tuned.
func TestWhoseKillEndsARollout(t *testing.T) {
	if _, err := host.New(host.Config{}).Kills(); err != nil {
		t.Skipf("needs the kernel log: %v", err)
	}
	for _, tc := range []struct {
		name   string
		before int  // kills in the group before the trial
		target bool // the trial's target lies in it
		want   tune.State
		says   string
	}{
		{"a stranger that is killed anyway", 3, false, tune.Committed, "not counted, for it happens untreated too"},
		{"a stranger's first", 0, false, tune.RolledBack, vitalKilledIn},
		{"beside the target", 3, true, tune.RolledBack, vitalKills + ": 1 during the rollout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ns := freshHost(t)
			dir, group := memoryGroup(t, strings.ReplaceAll(tc.name[len(tc.name)-6:], " ", "-"), 64)
			for range tc.before {
				killedIn(t, dir)
			}
			set, standing := "net.ipv4.tcp_rmem=4096,131072,8388608", func() bool {
				return tune.Canonical(sysctl(t, ns, "net/ipv4/tcp_rmem")) == "4096 131072 8388608"
			}
			if tc.target {
				pid := newHolder(t, dir).cmd.Process.Pid
				slack := fmt.Sprintf("%d/timerslack_ns", pid)
				set, standing = fmt.Sprintf("process/timerslack_ns@pid:%d=60000", pid), func() bool { return proc(t, ns, slack) == "60000" }
			}
			data := sharedData(t)
			begun(t, ns, data, "serve", "--listen", "127.0.0.1:9987")
			waitFor(t, 30*time.Second, "serve answers", func() bool {
				return exists(filepath.Join(data, "semantos.sock")) && inside(t, ns, data, "status", "--json", "--use-ebpf", "off").exit == 0
			})
			apply, out, errs := begun(t, ns, data, "apply", "--set", set, "--meter", steady(t), "--stage-time", "4s", "--margin", "0.9", "--json")
			ended := make(chan error, 1)
			go func() { ended <- apply.Wait() }()
			waitFor(t, 60*time.Second, "it stands", standing)
			killedIn(t, dir)
			select {
			case <-ended: // the exit status is the state's
			case <-time.After(120 * time.Second):
				t.Fatalf("it goes on\n%s\n%s", out, errs)
			}
			var r tune.Rollout
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, errs)
			}
			if r.State != tc.want || (tc.want == tune.RolledBack) != (r.Reason == tune.ReasonLimit) || !strings.Contains(r.Detail, tc.says) {
				t.Errorf("%s, %s: %s", r.State, r.Reason, r.Detail)
			}
			if !tc.target && !strings.Contains(r.Detail, group) {
				t.Errorf("the group %s is not named: %s", group, r.Detail)
			}
			t.Logf("%s, %s: %s", r.State, r.Reason, r.Detail)
		})
	}
}

func proc(t *testing.T, ns *hosttest.Namespace, name string) string {
	t.Helper()
	return strings.TrimSpace(sysctl(t, ns, "../"+name))
}
