package console

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzApplyBody: whatever the body, the answer is the rollout or a problem below 500.
func FuzzApplyBody(f *testing.F) {
	for _, seed := range []string{`{"id":"x"}`, `{"set":["vm.a=1"],"steps":[5,100]}`, `{"id":"x"} {}`, `{"margin":1e999}`, `[`, "\x00", `null`} {
		f.Add(seed)
	}
	c, err := New(wiring(newRoom()))
	if err != nil {
		f.Fatal(err)
	}
	h := c.Unix()
	f.Fuzz(func(t *testing.T, body string) {
		req := httptest.NewRequest(http.MethodPost, "/apply", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req = req.WithContext(context.WithValue(t.Context(), peerKey{}, &unix.Ucred{Uid: 0}))
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code >= 500 || rec.Body.Len() == 0 {
			t.Errorf("status %d: %s", rec.Code, rec.Body)
		}
	})
}

// FuzzKnowledgeBody: whatever the body, each route of the knowledge base answers or gives a problem below 500.
func FuzzKnowledgeBody(f *testing.F) {
	for _, seed := range []string{`{"text":"x"}`, `{"node":"MATCH (n) DETACH DELETE n"}`, `{"from":"a","type":"affects","to":"b","weight":1e-400,"source":"s"}`,
		traceBody, `{"at":"2026-01-01T00:00:00Z"}`, `{"runs":[{"on":null,"value":-0}]}`, `[[`, "\xff", `null`} {
		f.Add(seed)
	}
	c, err := New(wiring(newRoom()))
	if err != nil {
		f.Fatal(err)
	}
	h := c.Unix()
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/kb/search", "/kb/typed_neighborhood", "/kb/dependency_path", "/kb/decay", "/kb/upsert_tunable",
			"/kb/dep_edge", "/kb/induce", "/log_outcome"} {
			req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			req = req.WithContext(context.WithValue(t.Context(), peerKey{}, &unix.Ucred{Uid: 0}))
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			if rec.Code >= 500 || rec.Body.Len() == 0 {
				t.Errorf("%s: status %d: %s", path, rec.Code, rec.Body)
			}
		}
	})
}
