package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

// begun starts the binary in a namespace, on the real kernel.
func begun(t *testing.T, ns *hosttest.Namespace, data string, args ...string) (cmd *exec.Cmd, out, errs *bytes.Buffer) {
	t.Helper()
	cmd = exec.Command(binary, append([]string{"--data-dir", data, "--use-ebpf", "off"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + data}
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, errs
	var err error
	ns.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // most have ended by now
		_ = cmd.Wait()
	})
	return cmd, out, errs
}

// answering is a web server in the namespace; stop closes it and every connection.
func answering(t *testing.T, ns *hosttest.Namespace) (url string, stop func()) {
	t.Helper()
	var l net.Listener
	var err error
	ns.Do(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }),
		ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String() + "/", func() { _ = s.Close() }
}

// TestHeldRolloutIsPutBackWhenItsLimitBreaks: a rollout waits in serve for a person, on a real kernel, and its
// server stops answering while its value stands. It is put back at the end of that slot: the value does not
// come again, and the command ends with exit 3.
func TestHeldRolloutIsPutBackWhenItsLimitBreaks(t *testing.T) {
	ns := freshHost(t)
	data := filepath.Join(t.TempDir(), "data")
	url, stop := answering(t, ns)
	before := tune.Canonical(sysctl(t, ns, "net/ipv4/tcp_rmem"))
	const tried = "4096 131072 8388608"

	_, _, serveErrs := begun(t, ns, data, "serve", "--listen", "127.0.0.1:9988")
	waitFor(t, 30*time.Second, "serve answers", func() bool {
		return exists(filepath.Join(data, "semantos.sock")) && inside(t, ns, data, "status", "--json", "--use-ebpf", "off").exit == 0
	})
	apply, out, errs := begun(t, ns, data, "apply", "--set", "net.ipv4.tcp_rmem=4096,131072,8388608", "--meter", "http:"+url,
		"--stage-time", "3s", "--hold", "--max-error-rate", "0.4", "--slo-max-p95", "10000", "--margin", "0.9", "--json")
	ended := make(chan time.Time, 1)
	go func() {
		_ = apply.Wait() // the status is read below
		ended <- time.Now()
	}()
	waitFor(t, 60*time.Second, "the rollout is held", func() bool {
		select {
		case <-ended:
			t.Fatalf("it ended\n%s\n%s\n%s", out, errs, serveErrs)
		default:
		}
		var doc statusDocument
		got := inside(t, ns, data, "status", "--json", "--use-ebpf", "off")
		return json.Unmarshal([]byte(got.stdout), &doc) == nil && len(doc.Rollouts) > 0 && doc.Rollouts[0].State == tune.Held
	})
	standing := func() bool { return tune.Canonical(sysctl(t, ns, "net/ipv4/tcp_rmem")) == tried }
	waitFor(t, 20*time.Second, "an untreated slot", func() bool { return !standing() })
	waitFor(t, 20*time.Second, "the next treated one", standing)
	stop()
	broke := time.Now()

	times, on := 0, true // how often it came to stand again
	var over, back time.Time
	for over.IsZero() {
		select {
		case over = <-ended:
		default:
			if now := standing(); now != on {
				if on = now; now {
					times++
				} else if back.IsZero() {
					back = time.Now()
				}
			}
			if time.Since(broke) > 60*time.Second {
				t.Fatalf("it goes on a minute after its server has stopped\n%s\n%s", errs, serveErrs)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	var r tune.Rollout
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, errs)
	}
	if apply.ProcessState.ExitCode() != exitVetoed || r.State != tune.RolledBack || r.Reason != tune.ReasonLimit {
		t.Errorf("exit %d, %s, %s (%s)", apply.ProcessState.ExitCode(), r.State, r.Reason, r.Detail)
	}
	if times > 0 {
		t.Errorf("it was tried %d times more after its limit had broken", times)
	}
	if now := tune.Canonical(sysctl(t, ns, "net/ipv4/tcp_rmem")); now != before {
		t.Errorf("left at %q, was %q", now, before)
	}
	t.Logf("back %s, the command over %s after the server stopped: %s", back.Sub(broke).Round(time.Millisecond), over.Sub(broke).Round(time.Millisecond), r.Detail)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func waitFor(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s until %s", limit, what)
		}
	}
}
