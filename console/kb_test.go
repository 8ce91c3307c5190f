package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

func post(t *testing.T, client *http.Client, path, body string) (int, Problem) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://serve"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	var p Problem
	if res.StatusCode >= 400 {
		if err := json.Unmarshal(raw.Bytes(), &p); err != nil || p.Status != res.StatusCode || p.Detail == "" || p.Hint == "" {
			t.Errorf("%s answered %d without a whole problem: %s", path, res.StatusCode, &raw)
		}
	}
	return res.StatusCode, p
}

// TestKnowledgeRoutesAreStrict: what is not right never reaches the knowledge base.
func TestKnowledgeRoutesAreStrict(t *testing.T) {
	t.Parallel()
	r := newRoom()
	_, client, _ := serve(t, newConsole(t, r))
	edge := `{"from":"a","type":"affects","to":"b","source":"s"%s}`
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"a vector of an outcome":   {"/kb/upsert_trace", strings.Replace(traceBody, `{`, `{"vector":[0.1,0.2],`, 1), 400},
		"an actor in the body":     {"/log_outcome", strings.Replace(traceBody, `{`, `{"actor":"uid 0",`, 1), 400},
		"an outcome without state": {"/log_outcome", `{"symptoms":[],"changes":[{"tunable":"vm.a","proposed":"1"}]}`, 400},
		"without changes":          {"/log_outcome", `{"symptoms":[],"changes":[],"state":"committed"}`, 400},
		"without symptoms":         {"/log_outcome", `{"changes":[{"tunable":"vm.a","proposed":"1"}],"state":"committed"}`, 400},
		"NaN":                      {"/kb/dep_edge", fmt.Sprintf(edge, `,"weight":NaN`), 400},
		"a number too large":       {"/kb/dep_edge", fmt.Sprintf(edge, `,"weight":1e999`), 400},
		"no weight":                {"/kb/dep_edge", fmt.Sprintf(edge, ``), 400},
		"an unknown field":         {"/kb/dep_edge", fmt.Sprintf(edge, `,"weight":1,"writable":true`), 400},
		"a writable tunable":       {"/kb/upsert_tunable", `{"name":"kernel.core_pattern","path":"/proc/sys/kernel/core_pattern"}`, 400},
		"two values":               {"/kb/search", `{"text":"a"} {"text":"b"}`, 400},
		"a limit below 0":          {"/kb/search", `{"text":"a","limit":-1}`, 400},
		"10 MB":                    {"/kb/upsert_tunable", `{"name":"` + strings.Repeat("x", 10<<20) + `"}`, 413},
		"10 MB of a sweep":         {"/kb/induce", `{"metric":"m","better":"lower","runs":[` + strings.Repeat(`{"on":[],"value":1},`, 500_000) + `]}`, 413},
		"nothing":                  {"/kb/decay", "", 400},
		"no time":                  {"/kb/decay", `{"at":"tomorrow"}`, 400},
		"a path that is not there": {"/kb/delete", `{}`, 404},
	} {
		t.Run(name, func(t *testing.T) {
			if status, p := post(t, client, c.path, c.body); status != c.status {
				t.Errorf("%s answered %d: %+v", c.path, status, p)
			}
		})
	}
	if len(r.taught) != 0 {
		t.Errorf("a refused request was passed on: %+v", r.taught)
	}
}

// TestKnowledgeNamesTheCaller by the socket's credentials.
func TestKnowledgeNamesTheCaller(t *testing.T) {
	t.Parallel()
	r := newRoom()
	tcp, client, _ := serve(t, newConsole(t, r))
	bodies := map[string]string{"/kb/upsert_tunable": `{"name":"vm.new"}`, "/log_outcome": traceBody,
		"/kb/dep_edge": `{"from":"a","type":"affects","to":"b","weight":0,"source":"s"}`, "/kb/induce": `{"metric":"m","better":"lower","runs":[]}`}
	for path, body := range bodies {
		if status, p := post(t, client, path, body); status != 200 {
			t.Errorf("%s answered %d: %+v", path, status, p)
		}
		res, err := http.Post(tcp+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 404 {
			t.Errorf("%s answered %d on TCP", path, res.StatusCode)
		}
	}
	want := fmt.Sprintf("uid %d", os.Geteuid())
	for _, req := range r.taught {
		var got string
		switch req := req.(type) {
		case TunableRequest:
			got = req.Actor
		case EdgeRequest:
			got = req.Actor
		case InduceRequest:
			got = req.Actor
		case TraceRequest:
			got = req.Actor
		}
		if got != want {
			t.Errorf("%T came from %q, want %q", req, got, want)
		}
	}
	if len(r.taught) != len(bodies) {
		t.Errorf("%d requests arrived", len(r.taught))
	}
}
