package alert

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"semantos/internal/tune"
)

// TestRealHooks: answers that no hook should give, over real sockets. None holds up the end of a command, or
// counts as delivered.
func TestRealHooks(t *testing.T) {
	t.Parallel()
	var followed atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	t.Cleanup(elsewhere.Close)
	raw := func(answer string, then time.Duration) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = io.CopyN(io.Discard, c, 200) // the head
					_, _ = io.WriteString(c, answer)
					time.Sleep(then)
				}()
			}
		}()
		return "http://" + l.Addr().String() + "/"
	}
	for name, c := range map[string]struct {
		url             string
		delivered, gone uint64
	}{
		"garbage":           {url: raw("\x00\xff HELLO\r\n\r\n", 0)},
		"nothing at all":    {url: raw("", 0)},
		"hangs":             {url: raw("", time.Minute)},
		"endless header":    {url: raw("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20), time.Minute)},
		"a body that hangs": {url: raw("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc", time.Minute), delivered: 1}, // its status came
		"a redirect":        {url: raw("HTTP/1.1 307 Moved\r\nLocation: "+elsewhere.URL+"\r\nContent-Length: 0\r\n\r\n", 0), gone: 1},
		"well":              {url: elsewhere.URL, delivered: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New(Config{URL: c.url, Dir: in(t.TempDir()), Host: "h", Now: time.Now, Rand: rand.New(rand.NewPCG(1, 1))})
			s.Post(alertOf(1))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			start := time.Now()
			s.Close(ctx)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("the end took %s", took)
			}
			if n := s.Counts(); n.Delivered != c.delivered || n.Failed != c.gone {
				t.Errorf("%+v", n)
			}
		})
	}
	t.Cleanup(func() {
		if followed.Load() != 1 {
			t.Errorf("%d requests arrived elsewhere", followed.Load())
		}
	})
}

// TestSignatureByAnotherTool: what openssl says of time, dot and body.
func TestSignatureByAnotherTool(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl")
	}
	at, body := time.Unix(1700000000, 0), `{"kind":"rollback"}`
	cmd := exec.Command(tool, "dgst", "-sha256", "-hmac", "the secret of 16+")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("%d.%s", at.Unix(), body))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	_, hex, _ := strings.Cut(strings.TrimSpace(string(out)), "= ")
	if got := Sign("the secret of 16+", at, []byte(body)); got != "t=1700000000,v1="+hex {
		t.Errorf("%s, openssl says %s", got, hex)
	}
}

func TestWhatIsAlerted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state    tune.State
		reason   string
		kind     Kind
		severity string
	}{
		{tune.Vetoed, "uncertainty 0.60 is not below 0.55", Veto, Info},
		{tune.RolledBack, tune.ReasonWorse, Rollback, Warning},
		{tune.RolledBack, tune.ReasonLimit, Rollback, Warning},
		{tune.RolledBack, tune.ReasonNoEffect, Rollback, Info},
		{tune.RolledBack, tune.ReasonOperator, Rollback, Info},
		{tune.RolledBack, tune.ReasonYielded, Yield, Warning},
		{tune.RolledBack, tune.ReasonFault, Fault, Critical},
		{tune.Committed, tune.ReasonBetter, "", ""},
		{tune.Held, "held", "", ""},
		{tune.Running, "", "", ""},
	} {
		r := tune.Rollout{ID: "r-1", State: c.state, Reason: c.reason, Detail: "d", Gate: &tune.Admission{Tau: 0.5},
			Effect: &tune.Effect{Metric: "p95_ms", Ratio: 2, Low: 1.5, High: 2.5}}
		a, told := Of(r, "uncertainty")
		if told != (c.kind != "") || a.Kind != c.kind || a.Severity != c.severity {
			t.Errorf("%s %s: %+v", c.state, c.reason, a)
		}
		if told && (*a.Numbers.Tau != 0.5 || *a.Numbers.Ratio != 2 || c.kind == Veto && (a.Reason != "uncertainty" || a.Detail != c.reason)) {
			t.Errorf("%+v", a)
		}
	}
	one, other := alertOf(1).fill("h", time.Now()), alertOf(1).fill("h", time.Now().Add(time.Hour))
	next := alertOf(1)
	next.Audit = "2:x"
	if one.ID != other.ID || one.ID == next.fill("h", time.Now()).ID || one.ID == alertOf(1).fill("i", time.Now()).ID {
		t.Error("an id that does not name the event")
	}
}
