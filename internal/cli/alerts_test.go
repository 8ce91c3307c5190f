package cli

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"semantos/internal/tune"
	"semantos/safety/alert"
)

// inbox is a webhook that keeps what it got, and checks the signature by itself.
type inbox struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    []alert.Alert
	bad    []string
}

const inboxSecret = "a secret of enough length"

func newInbox(t *testing.T) *inbox {
	t.Helper()
	in := &inbox{status: http.StatusNoContent}
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in.mu.Lock()
		defer in.mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		at, sig, _ := strings.Cut(r.Header.Get("X-Semantos-Signature"), ",v1=")
		mac := hmac.New(sha256.New, []byte(inboxSecret))
		fmt.Fprintf(mac, "%s.%s", strings.TrimPrefix(at, "t="), body)
		var a alert.Alert
		if err := json.Unmarshal(body, &a); err != nil || sig != hex.EncodeToString(mac.Sum(nil)) || a.ID != r.Header.Get("X-Semantos-Id") {
			in.bad = append(in.bad, fmt.Sprintf("%v %q %s", err, sig, body))
		}
		in.got = append(in.got, a)
		w.WriteHeader(in.status)
	}))
	t.Cleanup(in.Close)
	return in
}

func (in *inbox) answer(status int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.status = status
}

func (in *inbox) alerts() []alert.Alert {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]alert.Alert{}, in.got...)
}

func TestAlertsReachTheWebhook(t *testing.T) {
	t.Parallel()
	in, m := newInbox(t), newMachine(t, nil)
	m.env = []string{"ALERT_WEBHOOK=" + in.URL + "/hidden", "ALERT_SECRET=" + inboxSecret}
	// Not kept without a meter: put back. The hook is away: the command ends all the same.
	in.answer(http.StatusServiceUnavailable)
	r := m.run(t, "apply", "--set", "vm.swappiness=10", "--stage-time", "1s")
	if r.exit != exitVetoed || !strings.Contains(r.stderr, "an alert waits") || strings.Contains(r.stderr, "hidden") {
		t.Fatalf("%d %s", r.exit, r.stderr)
	}
	waiting, err := filepath.Glob(filepath.Join(m.data, "alerts", "*.json"))
	if err != nil || len(waiting) != 1 {
		t.Fatalf("%v, %v", waiting, err)
	}
	first := in.alerts()[0]
	// The next command delivers it, under the same id, and its own.
	in.answer(http.StatusOK)
	before := len(in.alerts())
	if r = m.run(t, "apply", "--set", "vm.swappiness=190", "--stage-time", "1s"); r.exit != exitVetoed {
		t.Fatalf("%d %s", r.exit, r.stderr)
	}
	got := in.alerts()[before:]
	// Which is due first depends on how often the first was tried in vain.
	slices.SortFunc(got, func(a, b alert.Alert) int { return a.Time.Compare(b.Time) })
	if len(got) != 2 || got[0].ID != first.ID || got[0].Kind != alert.Rollback || got[0].Reason != tune.ReasonUnmeasured {
		t.Fatalf("%+v", got)
	}
	if v := got[1]; v.Kind != alert.Veto || v.Reason != "safe_range" || v.Actor != "uid 0" || len(v.Tunables) != 1 || string(v.Tunables[0].New) != "190" || v.Host == "" {
		t.Errorf("%+v", v)
	}
	if len(in.bad) > 0 {
		t.Errorf("signatures: %q", in.bad)
	}
	// The head that an alert carries verifies the log up to it.
	if r := m.run(t, "history", "--verify", "--head", got[1].Audit); r.exit != exitDone {
		t.Errorf("%d %s %s", r.exit, r.stdout, r.stderr)
	}
	m.env = append(m.env, "ALERT_WEBHOOK=nowhere")
	if r := m.run(t, "apply", "--set", "vm.swappiness=10"); r.exit != exitUsage || !strings.Contains(r.stderr, "ALERT_WEBHOOK") {
		t.Errorf("%d %s", r.exit, r.stderr)
	}
}

// TestVetoWords: each word's sentence is one that is really said.
func TestVetoWords(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"uncertainty 0.60 is not below 0.55":                                               "uncertainty",
		"vm.swappiness=190 lies outside the safe range 0 to 100":                           "safe_range",
		"vm.a conflicts with vm.b, which rollout r holds at 1":                             "conflict",
		"the maintenance window 01:00-02:00 is closed, it opens Mon 01:00":                 "window",
		"the exposure budget of 1h in 24 hours is used up":                                 "budget",
		"vm.a rests until 03:37:36: it was put back: unmeasured":                           "resting",
		"vm.a is left alone until 03:37:36: it went back and forth, last from 1 to 2 by x": "oscillation",
		"changes of net and vm in one trial: their effects cannot be told apart":           "mixed",
		"something new": "other",
	} {
		if got := vetoWord(reason, nil); got != want || reasonWord(got) != want {
			t.Errorf("%q is %q", reason, got)
		}
	}
	if got := vetoWord("x", fmt.Errorf("%w", tune.ErrDenied)); got != "protected" || reasonWord(got) != got {
		t.Error(got)
	}
	if reasonWord("free text of somebody") != "other" {
		t.Error("a label without bound")
	}
}
