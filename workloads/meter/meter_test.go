package meter

import (
	"errors"
	"strings"
	"testing"

	"semantos/internal/tune"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		spec  string
		cfg   Config
		name  string
		fresh bool
		err   error
		says  string
	}{
		{"cmd:echo 1,2,3,4", Config{}, "cmd:echo 1,2,3,4", true, nil, ""},
		{"cmd:echo", Config{NoCommands: true}, "", false, tune.ErrNotPermitted, "http:URL"},
		{"http:http://127.0.0.1:8080/x", Config{}, "http:http://127.0.0.1:8080/x", true, nil, ""},
		{"http://127.0.0.1:8080/x", Config{}, "http:http://127.0.0.1:8080/x", true, nil, ""},
		{"https://example.org/", Config{}, "http:https://example.org/", true, nil, ""},
		{"http:localhost:80", Config{}, "", false, tune.ErrType, "http:http://HOST"},
		{"prom:http://127.0.0.1:9090?query=up", Config{}, "prom:http://127.0.0.1:9090?query=up", false, nil, ""},
		{"prom:http://127.0.0.1:9090/", Config{}, "", false, tune.ErrUsage, "query=EXPRESSION"},
		{"prom:http://h/?query=up&better=faster", Config{}, "", false, tune.ErrUsage, "lower or higher"},
		{"workload:web", Config{}, "", false, tune.ErrUnsupported, "cmd:COMMAND"},
		{"ebpf:comm=nginx", Config{}, "", false, tune.ErrUnsupported, "cmd:COMMAND"},
		{"guess:x", Config{}, "", false, tune.ErrUnknown, "cmd:COMMAND"},
		{"cmd:", Config{}, "", false, tune.ErrUsage, "cmd:COMMAND"},
		{"", Config{}, "", false, tune.ErrUsage, "cmd:COMMAND"},
	} {
		m, err := Parse(tc.spec, tc.cfg)
		if !errors.Is(err, tc.err) || (err != nil) != (tc.err != nil) {
			t.Errorf("%q: error %v, want %v", tc.spec, err, tc.err)
			continue
		}
		if err != nil {
			if !strings.Contains(tune.Hint(err), tc.says) {
				t.Errorf("%q: hint %q does not say %q", tc.spec, tune.Hint(err), tc.says)
			}
			continue
		}
		if m.Name() != tc.name || m.Fresh() != tc.fresh {
			t.Errorf("%q: name %q, fresh %v", tc.spec, m.Name(), m.Fresh())
		}
	}
}
