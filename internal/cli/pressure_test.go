package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"semantos/internal/config"
	"semantos/internal/host"
	"semantos/internal/tune"
)

// TestAHostWithoutMemoryEndsATrial: while a value stands, and only then, a process of the host takes memory beyond
// MIN_MEM_AVAILABLE, or has the host wait for memory beyond PSI_MAX_MEMORY, on a real kernel. The trial is put back
// by that limit, in a stage and while it is held, and says the numbers.
func TestAHostWithoutMemoryEndsATrial(t *testing.T) {
	for _, tc := range []struct {
		name string
		says string
		set  func(t *testing.T) (flags []string, hurts *holder, mib int)
	}{
		{"available memory", vitalLeft, scarce},
		{"memory pressure", vitalMemory, thrashing},
	} {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, held %v", tc.name, held), func(t *testing.T) {
				ns := freshHost(t)
				flags, hurts, mib := tc.set(t)
				data := sharedData(t)
				begun(t, ns, data, append([]string{"serve", "--listen", "127.0.0.1:9986"}, flags...)...)
				waitFor(t, 60*time.Second, "serve answers", func() bool {
					return exists(filepath.Join(data, "semantos.sock")) && inside(t, ns, data, "status", "--json", "--use-ebpf", "off").exit == 0
				})
				args := []string{"apply", "--set", "net.ipv4.tcp_rmem=4096,131072,8388608", "--meter", steady(t), "--stage-time", "5s", "--margin", "0.9", "--slo-max-p95", "10000", "--json"}
				if held {
					args = append(args, "--hold")
				}
				apply, out, errs := begun(t, ns, data, args...)
				ended := make(chan error, 1)
				go func() { ended <- apply.Wait() }()
				over := false
				if held {
					waitFor(t, 120*time.Second, "it is held", func() bool {
						var doc statusDocument
						got := inside(t, ns, data, "status", "--json", "--use-ebpf", "off")
						return json.Unmarshal([]byte(got.stdout), &doc) == nil && len(doc.Rollouts) > 0 && doc.Rollouts[0].State == tune.Held
					})
				}
				for limit, on := time.Now().Add(120*time.Second), false; !over; {
					select {
					case <-ended: // the exit status is the state's
						over = true
					case <-time.After(5 * time.Millisecond):
					}
					now := tune.Canonical(sysctl(t, ns, "net/ipv4/tcp_rmem")) == "4096 131072 8388608"
					if want := map[bool]int{true: mib}[now && !over]; now != on && !hurts.holds(want) {
						t.Fatal("the process that takes memory has died")
					}
					if on = now; time.Now().After(limit) {
						t.Fatalf("it goes on\n%s\n%s", out, errs)
					}
				}
				var r tune.Rollout
				if err := json.Unmarshal(out.Bytes(), &r); err != nil {
					t.Fatalf("%v\n%s\n%s", err, out, errs)
				}
				if r.State != tune.RolledBack || r.Reason != tune.ReasonLimit || !strings.HasPrefix(r.Detail, tc.says) || !strings.Contains(r.Detail, "while treated") {
					t.Errorf("%s, %s: %s", r.State, r.Reason, r.Detail)
				}
				if now := tune.Canonical(sysctl(t, ns, "net/ipv4/tcp_rmem")); now == "4096 131072 8388608" {
					t.Error("the value still stands")
				}
				t.Logf("%s, %s: %s", r.State, r.Reason, r.Detail)
			})
		}
	}
}

// scarce sets the limit 2 % of the memory below what is available; a process takes 5 %.
func scarce(t *testing.T) ([]string, *holder, int) {
	v := &vitals{path: host.New(host.Config{}).Path, cfg: config.Config{}}
	left, ok := v.left()
	all, okAll := v.field("/proc/meminfo", "MemTotal:")
	if !ok || !okAll || left < 30 {
		t.Skipf("%.3g %% of memory is available", left)
	}
	dir, _ := memoryGroup(t, "scarce", int(all/1024))
	return []string{"--min-mem-available", fmt.Sprintf("%.1f", left-2), "--psi-max-memory", "off", "--psi-max-io", "off"},
		newHolder(t, dir), int(all / 1024 / 20)
}

// thrashing gives a process of a small group that swaps to compressed memory as long as it is told to hold
// more than fits: each page it takes, it takes by reclaiming another, which is time the host waits for memory.
func thrashing(t *testing.T) ([]string, *holder, int) {
	swapOnZram(t)
	dir, _ := memoryGroup(t, "thrash", 64)
	return []string{"--psi-max-memory", "4", "--psi-max-io", "off", "--min-mem-available", "off"}, newHolder(t, dir), -200
}

// swapOnZram is a swap device of compressed memory, gone with the test.
func swapOnZram(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("/sys/class/zram-control/hot_add")
	if err != nil {
		t.Skipf("needs zram: %v", err)
	}
	id := strings.TrimSpace(string(text))
	dev := "/dev/zram" + id
	t.Cleanup(func() {
		if err := os.WriteFile("/sys/class/zram-control/hot_remove", []byte(id), 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile("/sys/block/zram"+id+"/disksize", []byte(strconv.Itoa(1<<30)), 0); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkswap", dev}, {"swapon", dev}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		out, err := exec.Command("swapoff", dev).CombinedOutput()
		if err != nil {
			t.Error(errors.Join(err, errors.New(string(out))))
		}
	})
}
