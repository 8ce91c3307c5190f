package console

import (
	"strings"
	"testing"
)

// What a request asks of a rollout has the bounds that the command line and the configuration have: a limit of
// zero would be none, and a margin of ten would let anything pass.
func TestWhatARequestMayAskFor(t *testing.T) {
	t.Parallel()
	r := newRoom()
	_, client, _ := serve(t, newConsole(t, r))
	long := strings.Repeat("x", 2000)
	bad := [][2]string{
		{"/apply", `"stage_time_s":0.001`}, {"/apply", `"stage_time_s":1e6`}, {"/apply", `"stage_time_s":1e300`},
		{"/apply", `"margin":-1`}, {"/apply", `"margin":1`}, {"/apply", `"margin":10`},
		{"/apply", `"slo_max_p95":0`}, {"/apply", `"slo_max_p95":-5`},
		{"/apply", `"max_error_rate":0`}, {"/apply", `"max_error_rate":1.5`}, {"/apply", `"max_error_rate":-1`},
		{"/apply", `"steps":[0,100]`}, {"/apply", `"steps":[5,5,100]`}, {"/apply", `"steps":[50,25,100]`}, {"/apply", `"steps":[5,200]`},
		{"/apply", `"steps":[-5,100]`}, {"/apply", `"steps":[` + strings.Repeat("1,", 500) + `100]`},
		{"/apply", `"client_meter":"` + strings.Repeat(long, 3) + `"`},
		{"/rollout/abort", `"why":"` + long + `"`}, {"/rollout/hold", `"hold":true,"why":"` + long + `"`}, {"/freeze", `"freeze":true,"why":"` + long + `"`},
	}
	post := func(path, fields string) int {
		body := `{"id":"x",` + fields + `}`
		if path == "/freeze" {
			body = `{` + fields + `}`
		}
		req := request(t, "POST", "http://serve"+path, body)
		req.Header.Set("Content-Type", "application/json")
		status, _, _ := ask(t, client, req)
		return status
	}
	for _, b := range bad {
		if status := post(b[0], b[1]); status != 400 {
			t.Errorf("%s %.60s: status %d", b[0], b[1], status)
		}
	}
	if n := len(r.applied); n > 0 {
		t.Errorf("%d of them were applied", n)
	}
	for _, good := range []string{`"stage_time_s":1`, `"stage_time_s":0`, `"stage_time_s":86400`, `"margin":0`, `"margin":0.5`, `"slo_max_p95":0.1`, `"max_error_rate":1`,
		`"steps":[5,25,50,100]`, `"steps":[50]`, `"steps":[]`} {
		if status := post("/apply", good); status != 200 {
			t.Errorf("%s: status %d", good, status)
		}
	}
	many := `{"set":[` + strings.Repeat(`"vm.a=1",`, 600) + `"vm.a=1"]}`
	req := request(t, "POST", "http://serve/apply", many)
	req.Header.Set("Content-Type", "application/json")
	if status, _, _ := ask(t, client, req); status != 400 {
		t.Errorf("600 settings: status %d", status)
	}
}
