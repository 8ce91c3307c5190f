package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"semantos/safety/audit"
)

// hook is a webhook in memory: it answers what the test says, in fake time.
type hook struct {
	mu     sync.Mutex
	status func(n int) int // of the nth request, from 1; 0 hangs, -1 fails
	after  string          // Retry-After
	got    []Alert
	ids    []string
	at     []time.Time
	sigs   []string
}

func (h *hook) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	var a Alert
	if err := json.Unmarshal(body, &a); err != nil {
		panic(err)
	}
	h.got, h.ids, h.at = append(h.got, a), append(h.ids, r.Header.Get(HeaderID)), append(h.at, time.Now())
	h.sigs = append(h.sigs, r.Header.Get(HeaderSignature)+"\n"+string(body))
	status := http.StatusOK
	if h.status != nil {
		status = h.status(len(h.got))
	}
	h.mu.Unlock()
	switch status {
	case 0:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case -1:
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {h.after}}, Body: io.NopCloser(bytes.NewReader(nil)), Request: r}, nil
}

func (h *hook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.got)
}

type post struct {
	*Sender
	hook *hook
	dir  string
	said []string
	gone []string
}

// in is a spool's folder.
func in(dir string) func() string { return func() string { return dir } }

func newPost(t *testing.T, dir string, h *hook) *post {
	t.Helper()
	p := &post{hook: h, dir: dir}
	p.Sender = start(Config{URL: "http://user:secret@hook.example/T000/secretpath", Secret: "s", most: 40, Dir: in(dir), Host: "host", Now: time.Now,
		Rand:   rand.New(rand.NewPCG(1, 2)),
		Say:    func(f string, a ...any) { p.said = append(p.said, fmt.Sprintf(f, a...)) },
		GaveUp: func(a Alert, why string) { p.gone = append(p.gone, a.Rollout+": "+why) }},
		&http.Client{Transport: h, Timeout: wholeTime, CheckRedirect: newClient().CheckRedirect})
	return p
}

func (p *post) finish(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	p.Close(ctx)
}

func (p *post) spooled(t *testing.T) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(p.dir, spoolDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func alertOf(i int) Alert {
	return Alert{Kind: Rollback, Severity: Warning, Rollout: fmt.Sprintf("r-%d", i), Actor: "uid 0", Reason: "worse",
		Tunables: []audit.Change{{Tunable: fmt.Sprintf("vm.t%d", i), New: "1"}}, Audit: fmt.Sprintf("%d:abc", i)}
}

func TestDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, t.TempDir(), &hook{})
		for i := range 3 {
			p.Post(alertOf(i))
		}
		p.finish(time.Minute)
		if c := p.Counts(); c.Delivered != 3 || c.Posted != 3 || c.Waiting != 0 || p.spooled(t) != 0 {
			t.Errorf("%+v, %d in the spool", c, p.spooled(t))
		}
		for i, a := range p.hook.got {
			sig, body, _ := strings.Cut(p.hook.sigs[i], "\n")
			if a.Rollout != fmt.Sprintf("r-%d", i) || a.Version != 1 || a.Host != "host" || a.ID == "" || a.ID != p.hook.ids[i] || a.Time.IsZero() {
				t.Errorf("%+v", a)
			}
			if sig != Sign("s", p.hook.at[i], []byte(body)) {
				t.Errorf("signature %s", sig)
			}
		}
		p.Post(alertOf(9)) // after the end: counted, and no panic
		if p.Counts().Dropped != 1 {
			t.Errorf("%+v", p.Counts())
		}
	})
}

// TestHooksThatMisbehave: what is tried again, when, and what is given up.
func TestHooksThatMisbehave(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status func(n int) int
		after  string
		tries  int
		least  time.Duration // until it is over
		most   time.Duration
		failed bool
	}{
		{"500 four times", func(n int) int { return map[bool]int{true: 500, false: 204}[n <= 4] }, "", 5, 7 * time.Second, 16 * time.Second, false},
		{"refuses connections", func(n int) int { return map[bool]int{true: -1, false: 200}[n <= 2] }, "", 3, time.Second, 4 * time.Second, false},
		{"hangs once", func(n int) int { return map[bool]int{true: 0, false: 200}[n <= 1] }, "", 2, wholeTime, wholeTime + 2*time.Second, false},
		{"429 with Retry-After", func(n int) int { return map[bool]int{true: 429, false: 200}[n <= 1] }, "60", 2, time.Minute, 65 * time.Second, false},
		{"503 with a wait of a year", func(n int) int { return map[bool]int{true: 503, false: 200}[n <= 1] }, "31536000", 2, time.Hour, time.Hour + 10*time.Second, false},
		{"Retry-After is garbage", func(n int) int { return map[bool]int{true: 503, false: 200}[n <= 1] }, "soon\x00", 2, 0, 2 * time.Second, false},
		{"400", func(int) int { return 400 }, "", 1, 0, time.Second, true},
		{"404", func(int) int { return 404 }, "5", 1, 0, time.Second, true},
		{"408", func(n int) int { return map[bool]int{true: 408, false: 200}[n <= 1] }, "", 2, 0, 2 * time.Second, false},
		{"a redirect", func(int) int { return 302 }, "", 1, 0, time.Second, true},
		{"a status nobody knows", func(int) int { return 999 }, "", 12, giveUp, 0, true},
		{"always away", func(int) int { return -1 }, "", 12, giveUp, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPost(t, t.TempDir(), &hook{status: c.status, after: c.after})
				start := time.Now()
				p.Post(alertOf(1))
				p.finish(48 * time.Hour)
				took := time.Since(start)
				n := p.Counts()
				if c.most == 0 {
					c.most = giveUp + mostWait
					if p.hook.count() < c.tries {
						t.Errorf("%d tries", p.hook.count())
					}
				} else if p.hook.count() != c.tries {
					t.Errorf("%d tries, want %d", p.hook.count(), c.tries)
				}
				if took < c.least || took > c.most {
					t.Errorf("took %s", took)
				}
				if (n.Failed == 1) != c.failed || (n.Delivered == 1) == c.failed || p.spooled(t) != 0 {
					t.Errorf("%+v", n)
				}
				if c.failed && (len(p.gone) != 1 || !strings.HasPrefix(p.gone[0], "r-1: ")) {
					t.Errorf("given up: %v", p.gone)
				}
				for _, said := range p.said {
					if strings.Contains(said, "secret") || !strings.Contains(said, "http://hook.example") {
						t.Errorf("said %q", said)
					}
				}
				if len(slices.Compact(slices.Clone(p.hook.ids))) != 1 {
					t.Errorf("ids %v", p.hook.ids)
				}
			})
		})
	}
}

// TestSurvivesARestart: what was not delivered goes out with the next process, under the same id.
func TestSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h := t.TempDir(), &hook{status: func(int) int { return 503 }}
		p := newPost(t, dir, h)
		for i := range 5 {
			p.Post(alertOf(i))
		}
		start := time.Now()
		p.finish(3 * time.Second)
		if took := time.Since(start); took > 4*time.Second || p.spooled(t) != 5 {
			t.Fatalf("took %s, %d in the spool", took, p.spooled(t))
		}
		h.status = nil
		first := h.count()
		q := newPost(t, dir, h)
		q.finish(time.Minute)
		if q.Counts().Delivered != 5 || q.spooled(t) != 0 {
			t.Errorf("%+v", q.Counts())
		}
		for i, a := range h.got[first:] {
			if !slices.ContainsFunc(h.got[first:], func(b Alert) bool { return b.Rollout == fmt.Sprintf("r-%d", i) }) {
				t.Errorf("r-%d is missing", i)
			}
			if a.Rollout == h.got[0].Rollout && a.ID != h.got[0].ID {
				t.Error("another id")
			}
		}
	})
}

// TestTwoProcesses: one spools while another delivers; nothing goes out twice.
func TestTwoProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h := t.TempDir(), &hook{}
		serve := newPost(t, dir, h)
		serve.Post(alertOf(0))
		time.Sleep(time.Second)
		apply := newPost(t, dir, h)
		for i := 1; i < 4; i++ {
			apply.Post(alertOf(i))
		}
		start := time.Now()
		apply.finish(3 * time.Second)
		if took := time.Since(start); took > 0 {
			t.Errorf("waited %s for another process", took)
		}
		time.Sleep(2 * lookEvery)
		serve.finish(time.Minute)
		if h.count() != 4 || serve.Counts().Delivered != 4 || apply.Counts().Delivered != 0 || serve.spooled(t) != 0 {
			t.Errorf("%d sent; %+v, %+v", h.count(), serve.Counts(), apply.Counts())
		}
	})
}

// TestStormIsFolded: of many alike the first go out, then one that counts the rest.
func TestStormIsFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost(t, t.TempDir(), &hook{})
		for i := range 40 {
			a := alertOf(1)
			a.Rollout, a.Audit = fmt.Sprintf("r-%d", i), fmt.Sprintf("%d:abc", i)
			p.Post(a)
			time.Sleep(time.Second)
		}
		p.Post(alertOf(2)) // another thing
		time.Sleep(time.Minute)
		if p.hook.count() != foldAfter+1 {
			t.Errorf("%d sent", p.hook.count())
		}
		time.Sleep(foldWindow)
		last := p.hook.got[len(p.hook.got)-1]
		if p.hook.count() != foldAfter+2 || last.Folded != 40-foldAfter-1 || last.Rollout != "r-39" {
			t.Errorf("%d sent, the last %+v", p.hook.count(), last)
		}
		p.finish(time.Minute)
		if p.Counts().Folded != 40-foldAfter {
			t.Errorf("%+v", p.Counts())
		}
	})
}

// TestSpoolIsBounded, and what was lost is told.
func TestSpoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hook{status: func(int) int { return 503 }}
		p := newPost(t, t.TempDir(), h)
		for i := range 100 {
			p.Post(alertOf(i))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(2 * mostWait)
		if n := p.spooled(t); n != 40 || p.Counts().Dropped != 60 {
			t.Errorf("%d in the spool, %+v", n, p.Counts())
		}
		h.status = nil
		p.Post(alertOf(9999))
		time.Sleep(2 * mostWait)
		p.finish(time.Minute)
		told := map[string]int{}
		for _, a := range h.got {
			told[a.ID] = a.Dropped
		}
		sum := 0
		for _, n := range told {
			sum += n
		}
		if sum < 40 {
			t.Errorf("of 60 lost %d are told", sum)
		}
	})
}

// TestSpoolThatCannotBeWritten: alerts go out all the same.
func TestSpoolThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		p := newPost(t, dir, &hook{status: func(n int) int { return map[bool]int{true: 500, false: 200}[n <= 1] }})
		p.Post(alertOf(1))
		p.Post(alertOf(2))
		p.finish(time.Minute)
		if p.Counts().Delivered != 2 || len(p.said) == 0 {
			t.Errorf("%+v, %v", p.Counts(), p.said)
		}
	})
}

// TestDamagedSpool: what is no alert goes away, and holds nothing up.
func TestDamagedSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := newPost(t, dir, &hook{})
		p.finish(time.Second)
		for name, text := range map[string]string{"1.json": "", "2.json": "{", "3.json": `{"alert":{},"id":""}`, "4.json": strings.Repeat("x", 2*maxOne), ".5.json": "{"} {
			if err := os.WriteFile(filepath.Join(dir, spoolDir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("/etc/hostname", filepath.Join(dir, spoolDir, "6.json")); err != nil {
			t.Fatal(err)
		}
		q := newPost(t, dir, &hook{})
		q.Post(alertOf(1))
		q.finish(time.Minute)
		if c := q.Counts(); c.Delivered != 1 || c.Dropped != 4 {
			t.Errorf("%+v", c)
		}
	})
}

// TestClockJumps: an alert does not wait for years, nor is it given up untried.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, h := t.TempDir(), &hook{status: func(int) int { return 503 }}
		p := newPost(t, dir, h)
		p.Post(alertOf(1))
		p.finish(5 * time.Second)
		for _, jump := range []time.Duration{-5 * 365 * 24 * time.Hour, 5 * 365 * 24 * time.Hour} {
			before := h.count()
			q := start(Config{URL: "http://hook.example/", Dir: in(dir), Host: "host", Rand: rand.New(rand.NewPCG(1, 2)),
				Now: func() time.Time { return time.Now().Add(jump) }}, &http.Client{Transport: h})
			time.Sleep(10 * time.Second)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			q.Close(ctx)
			cancel()
			if h.count() == before || q.Counts().Failed > 0 {
				t.Errorf("after a jump of %s: %d tries, %+v", jump, h.count()-before, q.Counts())
			}
		}
	})
}
