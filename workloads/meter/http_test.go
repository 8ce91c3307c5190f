package meter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"semantos/internal/tune"
)

func web(t *testing.T, h http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, &conns
}

func httpSample(t *testing.T, url string, cfg Config, d time.Duration) tune.MeterSample {
	t.Helper()
	m, err := Parse("http:"+url, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Sample(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHTTPMeter(t *testing.T) {
	t.Parallel()
	s, conns := web(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		fmt.Fprint(w, "hello")
	})
	got := httpSample(t, s.URL, Config{Rate: 40}, 500*time.Millisecond)
	if got.ErrorRate != 0 || got.MedianMS < 20 || got.P95MS < got.MedianMS || got.P95MS > 1000 {
		t.Errorf("%+v", got)
	}
	if got.Throughput < 36 || got.Throughput > 44 {
		t.Errorf("throughput %v, asked 40/s", got.Throughput)
	}
	if got.Requests != 20 {
		t.Errorf("%d requests counted of 20", got.Requests)
	}
	if n := conns.Load(); n != 20 {
		t.Errorf("%d connections for 20 requests", n)
	}
}

func TestHTTPMeterCountsWhatWasLost(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s, _ := web(t, func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) % 4 {
		case 0:
			http.Error(w, "no", http.StatusServiceUnavailable) // fast, and nothing got
		case 1:
			<-r.Context().Done() // never
		}
	})
	got := httpSample(t, s.URL, Config{Rate: 40, Timeout: 300 * time.Millisecond}, time.Second)
	if got.ErrorRate < 0.4 || got.ErrorRate > 0.6 {
		t.Errorf("error rate %v, want a half", got.ErrorRate)
	}
	if got.P95MS < 299 {
		t.Errorf("p95 %v ms hides what timed out", got.P95MS)
	}
	// Nobody listens: refusals come at once and are no quick answers.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	got = httpSample(t, "http://"+addr, Config{Rate: 40, Timeout: 300 * time.Millisecond}, 250*time.Millisecond)
	if got.ErrorRate != 1 || got.Requests != 10 || got.Throughput != 0 || got.MedianMS < 299 {
		t.Errorf("a dead server: %+v", got)
	}
}

// A server that stalls for a while is felt by every request due meanwhile, not by the one it held.
func TestHTTPMeterSeesStalls(t *testing.T) {
	t.Parallel()
	start := time.Now()
	const from, to = 200 * time.Millisecond, 700 * time.Millisecond
	s, _ := web(t, func(http.ResponseWriter, *http.Request) {
		if now := time.Since(start); now > from && now < to {
			time.Sleep(to - now)
		}
	})
	got := httpSample(t, s.URL, Config{Rate: 50}, time.Second)
	if got.P95MS < 350 {
		t.Errorf("p95 %v ms: half a second of stall in one second is hidden", got.P95MS)
	}
}

func TestHTTPMeterStops(t *testing.T) {
	t.Parallel()
	s, _ := web(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	m, err := Parse("http:"+s.URL, Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := m.Sample(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %s to stop", took)
	}
}

func TestCheckRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	s, _ := web(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ok" {
			http.NotFound(w, r)
		}
	})
	for path, ok := range map[string]bool{"/ok": true, "/mistyped": false} {
		m, err := Parse("http:"+s.URL+path, Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Check(t.Context()); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestPromMeter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, body string
		want       float64
		err        error
		says       string
	}{
		{"vector", `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.25"]}]}}`, 0.25, nil, ""},
		{"scalar", `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`, 7, nil, ""},
		{"no series", `{"status":"success","data":{"resultType":"vector","result":[]}}`, 0, tune.ErrNoData, "0 series"},
		{"two series", `{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"2"]}]}}`, 0, tune.ErrNoData, "2 series"},
		{"NaN", `{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}`, 0, tune.ErrNoData, "NaN"},
		{"refused", `{"status":"error","error":"parse error"}`, 0, tune.ErrNoData, "parse error"},
		{"range", `{"status":"success","data":{"resultType":"matrix","result":[]}}`, 0, tune.ErrType, "matrix"},
		{"truncated", `{"status":"succ`, 0, tune.ErrType, "not the JSON"},
		{"short value", `{"status":"success","data":{"resultType":"scalar","result":[1]}}`, 0, tune.ErrType, "1 fields"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, _ := web(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != queryPath || r.URL.Query().Get("query") != "a b" || r.URL.Query().Has("better") {
					http.NotFound(w, r)
					return
				}
				fmt.Fprint(w, tc.body)
			})
			m, err := Parse("prom:"+s.URL+"?query=a+b&better=higher", Config{})
			if err != nil {
				t.Fatal(err)
			}
			if one, ok := m.(interface{ Measure() tune.Measure }); !ok || one.Measure().Better != "higher" {
				t.Error("does not say which way is better")
			}
			got, err := m.Sample(t.Context(), time.Millisecond)
			if !errors.Is(err, tc.err) || (err != nil) != (tc.err != nil) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tc.says) {
					t.Errorf("error %q does not say %q", err, tc.says)
				}
				if m.Check(t.Context()) == nil {
					t.Error("Check accepts it")
				}
				return
			}
			if got.Value == nil || *got.Value != tc.want {
				t.Errorf("%+v, want %v", got, tc.want)
			}
		})
	}
}
