package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// ask gives status, content type and body.
func ask(t *testing.T, client *http.Client, req *http.Request) (int, string, []byte) {
	t.Helper()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Content-Type"), body
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

func TestTCPServesFourPathsToLoopbackNames(t *testing.T) {
	t.Parallel()
	r := newRoom()
	base, _, _ := serve(t, newConsole(t, r))
	cases := []struct {
		name, method, path, host string
		want                     int
	}{
		{"health", "GET", "/healthz", "", 200},
		{"health by head", "HEAD", "/healthz", "", 200},
		{"ready", "GET", "/readyz", "localhost:9988", 200},
		{"snapshot", "GET", "/snapshot", "[::1]:9988", 200},
		{"metrics", "GET", "/metrics", "127.9.9.9", 200},
		{"another name", "GET", "/snapshot", "evil.example", 403},
		{"another name with port", "GET", "/snapshot", "evil.example:9988", 403},
		{"looks like loopback", "GET", "/snapshot", "127.0.0.1.evil.example", 403},
		{"localhost as a subdomain", "GET", "/snapshot", "localhost.evil.example", 403},
		{"another address", "GET", "/snapshot", "10.0.0.1", 403},
		{"wrong method", "POST", "/healthz", "", 405},
		{"control path", "POST", "/apply", "", 404},
		{"control path by another name", "POST", "/apply", "evil.example", 403},
		{"status", "GET", "/status", "", 404},
		{"root", "GET", "/", "", 404},
		{"climbing", "GET", "/healthz/../status", "", 404},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			req := request(t, tc.method, base+tc.path, "")
			req.Host = tc.host
			status, kind, body := ask(t, http.DefaultClient, req)
			if status != tc.want {
				t.Fatalf("status %d, want %d: %s", status, tc.want, body)
			}
			if status >= 400 && kind != "application/problem+json" {
				t.Errorf("content type %q", kind)
			}
		})
	}
	_, _, body := ask(t, http.DefaultClient, request(t, "GET", base+"/status", ""))
	if !strings.Contains(string(body), "unix socket") {
		t.Errorf("no way shown: %s", body)
	}
	if len(r.applied) != 0 {
		t.Error("TCP reached apply")
	}
}

func TestNonLoopbackAddressTakesAnyHost(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true,
		"0.0.0.0:1": false, ":1": false, "10.1.2.3:1": false, "[::]:1": false} {
		if loopback(address) != want {
			t.Errorf("loopback(%q) is %v", address, !want)
		}
	}
	c := newConsole(t, newRoom())
	c.local = false
	rec := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "/healthz", nil)
	req.Host = "metrics.example"
	c.TCP().ServeHTTP(rec, req)
	if rec.Code != 200 {
		t.Errorf("status %d", rec.Code)
	}
}

func TestBodiesAreReadStrictly(t *testing.T) {
	t.Parallel()
	r := newRoom()
	_, client, _ := serve(t, newConsole(t, r))
	cases := []struct {
		name, path, kind, body string
		want                   int
	}{
		{"good", "/apply", "application/json; charset=utf-8", `{"id":"x"}`, 200},
		{"form", "/apply", "application/x-www-form-urlencoded", "id=x", 415},
		{"no type", "/apply", "", `{"id":"x"}`, 415},
		{"empty", "/apply", "application/json", "", 400},
		{"unknown field", "/apply", "application/json", `{"id":"x","force":true}`, 400},
		{"actor cannot be claimed", "/apply", "application/json", `{"id":"x","Actor":"uid 0"}`, 400},
		{"server-side meter", "/apply", "application/json", `{"id":"x","meter":"cmd:reboot"}`, 400},
		{"neither id nor set", "/apply", "application/json", `{}`, 400},
		{"both", "/apply", "application/json", `{"id":"x","set":["vm.a=1"]}`, 400},
		{"negative time", "/apply", "application/json", `{"id":"x","stage_time_s":-1}`, 400},
		{"two values", "/apply", "application/json", `{"id":"x"}{"id":"y"}`, 400},
		{"cut", "/apply", "application/json", `{"id":`, 400},
		{"an array", "/apply", "application/json", `[]`, 400},
		{"too large", "/apply", "application/json", `{"id":"` + strings.Repeat("x", bodyLimit) + `"}`, 413},
		{"another meter than ebpf", "/apply", "application/json", `{"id":"x","meter":"http://127.0.0.1/"}`, 400},
		{"large tail", "/apply", "application/json", `{"id":"x"}` + strings.Repeat(" ", bodyLimit), 413},
		{"window", "/get_recommendations", "application/json", `{"window_s":1e9}`, 400},
		{"rollback all and one", "/rollback", "application/json", `{"all":true,"id":"x"}`, 400},
		{"sample and error", "/rollout/sample", "application/json", `{"rollout":"x","seq":1,"error":"e","sample":{}}`, 400},
		{"neither sample nor error", "/rollout/sample", "application/json", `{"rollout":"x","seq":1}`, 400},
		{"history limit", "/history?limit=0", "", "", 400},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			method := "POST"
			if strings.HasPrefix(tc.path, "/history") {
				method = "GET"
			}
			req := request(t, method, "http://serve"+tc.path, tc.body)
			req.Header.Set("Content-Type", tc.kind)
			status, kind, body := ask(t, client, req)
			if status != tc.want || (status >= 400 && kind != "application/problem+json") {
				t.Errorf("status %d (%s), want %d: %s", status, kind, tc.want, body)
			}
		})
	}
	if len(r.applied) != 1 || r.applied[0].Actor != fmt.Sprintf("uid %d", os.Geteuid()) {
		t.Errorf("applied %+v", r.applied)
	}
}

func TestOnlyKnownPeersAreServed(t *testing.T) {
	t.Parallel()
	c := newConsole(t, newRoom())
	rec := httptest.NewRecorder()
	c.Unix().ServeHTTP(rec, httptest.NewRequest("GET", "/status", nil))
	if rec.Code != 403 {
		t.Errorf("without credentials: status %d", rec.Code)
	}
}

// TestAnotherUserIsRefused connects as nobody through a socket whose modes were opened by mistake.
func TestAnotherUserIsRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a connection of another uid")
	}
	const nobody = 65534
	r := newRoom()
	_, _, socket := serve(t, newConsole(t, r))
	for path, mode := socket, os.FileMode(0o666); path != filepath.Clean(os.TempDir()) && path != "/"; path, mode = filepath.Dir(path), 0o755 {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	dial := func(context.Context, string, string) (net.Conn, error) {
		type result struct {
			conn net.Conn
			err  error
		}
		done := make(chan result)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread with the other uid ends with the goroutine
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); e != 0 {
				done <- result{nil, e}
				return
			}
			conn, err := DialUnix(context.Background(), socket)
			done <- result{conn, err}
		}()
		got := <-done
		return got.conn, got.err
	}
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	status, _, body := ask(t, &http.Client{Transport: transport}, request(t, "POST", "http://serve/apply", `{"id":"x"}`))
	if status != 403 || !strings.Contains(string(body), "uid 65534") || len(r.applied) != 0 {
		t.Errorf("status %d: %s", status, body)
	}
}

func TestProblemsKeepTheirSentinel(t *testing.T) {
	t.Parallel()
	for _, typ := range problemTypes() {
		err := &tune.Error{Op: "apply", Subject: "x", Err: fmt.Errorf("deep: %w", typ.err), Hint: "do y"}
		p := problemOf(fmt.Errorf("handler: %w", err))
		back := p.AsError()
		if !errors.Is(back, typ.err) || tune.Hint(back) != "do y" || !strings.Contains(back.Error(), "deep") {
			t.Errorf("%s came back as %v", typ.word, back)
		}
	}
	if p := problemOf(errors.New("odd")); p.Status != 500 {
		t.Errorf("unknown error has status %d", p.Status)
	}
	if err := problemOf(refuse(400, "h", "bad")).AsError(); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("a refused body is %v", err)
	}
}

func TestPanicsBecomeProblems(t *testing.T) {
	t.Parallel()
	r := newRoom()
	r.panics = true
	base, _, _ := serve(t, newConsole(t, r))
	status, kind, body := ask(t, http.DefaultClient, request(t, "GET", base+"/readyz", ""))
	if status != 500 || kind != "application/problem+json" || strings.Contains(string(body), "boom") {
		t.Errorf("status %d %s: %s", status, kind, body)
	}
	if status, _, _ := ask(t, http.DefaultClient, request(t, "GET", base+"/healthz", "")); status != 200 {
		t.Errorf("after a panic: status %d", status)
	}
}

func TestValuesJSONCannotHoldAreProblems(t *testing.T) {
	t.Parallel()
	r := newRoom()
	r.snap.Signals["bad"] = math.NaN()
	base, _, _ := serve(t, newConsole(t, r))
	status, kind, _ := ask(t, http.DefaultClient, request(t, "GET", base+"/snapshot", ""))
	if status != 500 || kind != "application/problem+json" {
		t.Errorf("status %d %s", status, kind)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	t.Parallel()
	r := newRoom()
	r.snap.Entities["cgroup"] = []tune.Entity{{Kind: "cgroup", ID: "a\xffb", Signals: map[string]float64{"x": 1, "nan": math.NaN()}},
		{Kind: "cgroup", ID: "a\xffb", Signals: map[string]float64{"x": 2}}}
	base, _, _ := serve(t, newConsole(t, r))
	status, _, body := ask(t, http.DefaultClient, request(t, "GET", base+"/metrics", ""))
	if status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	problems, err := promlint.New(strings.NewReader(string(body))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, want := range []string{`semantos_telemetry_signal{entity="",kind="host",signal="vm.pgfault"} 3`,
		`semantos_telemetry_signal{entity="l1",kind="listener",signal="listener.queue"} 9`,
		`semantos_decisions_total{outcome="committed"} 1`, `semantos_loop_phase{phase="watching"} 1`,
		`semantos_telemetry_collector_success{collector="zswap"} 0`, `semantos_symptom_severity_ratio{entity="l1",symptom="accept_queue"} 0.8`,
		`semantos_telemetry_signals_dropped 2`} {
		if !strings.Contains(string(body), want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
}

func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRoom()
	for i := range maxSeries {
		e := tune.Entity{Kind: "process", ID: fmt.Sprintf("pid:%d", i), Signals: map[string]float64{"process.threads": 1}}
		r.snap.Entities["process"] = append(r.snap.Entities["process"], e)
	}
	base, _, _ := serve(t, newConsole(t, r))
	_, _, body := ask(t, http.DefaultClient, request(t, "GET", base+"/metrics", ""))
	if n := strings.Count(string(body), "\nsemantos_telemetry_signal{"); n != maxSeries {
		t.Errorf("%d signals on the page", n)
	}
	if !strings.Contains(string(body), "\nsemantos_telemetry_signals_dropped 6\n") {
		t.Error("what is not shown is not counted")
	}
}

// nextEvent reads one server-sent event, skipping comments.
func nextEvent(t *testing.T, lines *bufio.Scanner) (name, data string) {
	t.Helper()
	for lines.Scan() {
		line := lines.Text()
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			name = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok {
			data = v
		}
		if line == "" && name != "" {
			return name, data
		}
	}
	t.Fatalf("stream ended: %v", lines.Err())
	return "", ""
}

func open(t *testing.T, client *http.Client, req *http.Request) *bufio.Scanner {
	t.Helper()
	req.Header.Set("Accept", "text/event-stream")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("content type %q", res.Header.Get("Content-Type"))
	}
	return bufio.NewScanner(res.Body)
}

func TestApplyStreamsItsProgress(t *testing.T) {
	t.Parallel()
	r := newRoom()
	fail := false
	r.apply = func(_ context.Context, progress func(Event)) (tune.Rollout, error) {
		progress(Event{Time: noon, Kind: "sample", Rollout: "r1", Message: "a sample of 2 s is wanted", Data: map[string]any{"seq": 1}})
		if fail {
			return tune.Rollout{}, &tune.Error{Op: "apply", Err: tune.ErrStorage, Hint: "h"}
		}
		return exampleRollout(), nil
	}
	c := newConsole(t, r)
	_, client, _ := serve(t, c)
	watcher := open(t, client, request(t, "GET", "http://serve/events", ""))
	watcher.Scan() // the greeting: subscribed

	lines := open(t, client, request(t, "POST", "http://serve/apply", `{"id":"x","client_meter":"cmd"}`))
	if name, data := nextEvent(t, lines); name != "progress" || !strings.Contains(data, `"seq":1`) {
		t.Errorf("%s %s", name, data)
	}
	name, data := nextEvent(t, lines)
	var got tune.Rollout
	if err := json.Unmarshal([]byte(data), &got); err != nil || name != "rollout" || got.State != tune.Committed {
		t.Errorf("%s %s: %v", name, data, err)
	}
	if name, data := nextEvent(t, watcher); name != "event" || !strings.Contains(data, "is wanted") {
		t.Errorf("/events: %s %s", name, data)
	}

	fail = true
	lines = open(t, client, request(t, "POST", "http://serve/apply", `{"id":"x"}`))
	nextEvent(t, lines)
	name, data = nextEvent(t, lines)
	var p Problem
	if err := json.Unmarshal([]byte(data), &p); err != nil || name != "problem" || !errors.Is(p.AsError(), tune.ErrStorage) {
		t.Errorf("%s %s: %v", name, data, err)
	}
}

func TestARefusedTrialIsAPlainProblem(t *testing.T) {
	t.Parallel()
	r := newRoom()
	r.err = &tune.Error{Op: "apply", Subject: "x", Err: tune.ErrStale, Hint: "run recommend again"}
	_, client, _ := serve(t, newConsole(t, r))
	req := request(t, "POST", "http://serve/apply", `{"id":"x"}`)
	req.Header.Set("Accept", "text/event-stream")
	if status, kind, body := ask(t, client, req); status != 409 || kind != "application/problem+json" {
		t.Errorf("status %d %s: %s", status, kind, body)
	}
}

func TestLeavingEndsTheTrial(t *testing.T) {
	t.Parallel()
	r := newRoom()
	began, ended := make(chan struct{}), make(chan error, 1)
	r.apply = func(ctx context.Context, _ func(Event)) (tune.Rollout, error) {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return tune.Rollout{}, ctx.Err()
	}
	_, client, _ := serve(t, newConsole(t, r))
	ctx, cancel := context.WithCancel(t.Context())
	req := request(t, "POST", "http://serve/apply", `{"id":"x"}`).WithContext(ctx)
	go func() {
		<-began
		cancel()
	}()
	if res, err := client.Do(req); err == nil {
		res.Body.Close()
		t.Error("the request was answered")
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the trial goes on without its client")
	}
}

func TestALongTrialOutlivesTheBodyDeadline(t *testing.T) {
	t.Parallel()
	r := newRoom()
	r.apply = func(ctx context.Context, _ func(Event)) (tune.Rollout, error) {
		select {
		case <-ctx.Done():
			return tune.Rollout{}, ctx.Err()
		case <-time.After(time.Second):
			return exampleRollout(), nil
		}
	}
	c := newConsole(t, r)
	c.bodyTime = 300 * time.Millisecond
	_, client, _ := serve(t, c)
	if status, _, body := ask(t, client, request(t, "POST", "http://serve/apply", `{"id":"x"}`)); status != 200 {
		t.Errorf("status %d: %s", status, body)
	}
}

func TestASlowBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRoom()
	c := newConsole(t, r)
	c.bodyTime = 100 * time.Millisecond
	_, _, socket := serve(t, c)
	conn, err := DialUnix(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "POST /apply HTTP/1.1\r\nHost: serve\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\":")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 400 || len(r.applied) != 0 {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestSlowListenersAreDropped(t *testing.T) {
	t.Parallel()
	h := NewHub()
	slow, leave := h.subscribe()
	defer leave()
	for range listenerBuffer + 5 {
		h.Publish(Event{Kind: "x"})
	}
	n := 0
	for range slow {
		n++
	}
	if n != listenerBuffer {
		t.Errorf("%d events before the end", n)
	}
}

func TestListenUnix(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "semantos.sock")
	l, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Lstat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := ListenUnix(path); !errors.Is(err, tune.ErrBusy) || tune.Hint(err) == "" {
		t.Errorf("a second serve: %v", err)
	}
	left, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.Close()
	// A killed serve leaves its socket: close without removing it.
	l.(*unixListener).UnixListener.Close()
	again, err := ListenUnix(path)
	if err != nil {
		t.Fatalf("over a leftover: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
		t.Errorf("left %v behind", entries)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(path); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("over a file: %v", err)
	}
	if _, err := ListenUnix("/proc/semantos/x.sock"); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("nowhere: %v", err)
	}
}

func TestNewRefusesHalfWiring(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("accepted")
	}
}
