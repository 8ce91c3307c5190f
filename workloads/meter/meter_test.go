package meter

import (
	"errors"
	"strings"
	"testing"

	"semantos/internal/tune"
)

func TestParseDevices(t *testing.T) {
	t.Parallel()
	for rest, want := range map[string]Devices{
		"block/loop*":                      {Family: "block", Pattern: "loop*"},
		" net/eth? , latency=off":          {Family: "net", Pattern: "eth?", NoLatency: true},
		"block/sd*,files=new, latency=off": {Family: "block", Pattern: "sd*", NoLatency: true, NewFiles: true},
	} {
		if got, err := ParseDevices("device:"+rest, rest); err != nil || got != want {
			t.Errorf("%q: %+v %v, want %+v", rest, got, err, want)
		}
	}
}

// probed stands for the meter another room makes.
type probed struct {
	Meter
	name string
	of   Traffic
}

func (p probed) Name() string { return p.name }
func (p probed) Fresh() bool  { return false }

func TestParseTraffic(t *testing.T) {
	t.Parallel()
	m, err := Parse("ebpf:comm=nginx, port=8088,cgroup=/a/b,netns=netns:4026531840,pid=12", Config{
		Probe: func(name string, of Traffic) Meter { return probed{name: name, of: of} }})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.(probed).of, (Traffic{Comm: "nginx", Port: 8088, Cgroup: "/a/b", Netns: "4026531840", PID: 12}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	probing := Config{Probe: func(name string, of Traffic) Meter { return probed{name: name, of: of} }}
	counting := Config{Device: func(name string, _ Devices) Meter { return probed{name: name} }}
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
		{"ebpf:comm=nginx", Config{}, "", false, tune.ErrUnsupported, "another meter"},
		{"ebpf:comm=nginx", probing, "ebpf:comm=nginx", false, nil, ""},
		{"ebpf:nginx", probing, "", false, tune.ErrUsage, "ebpf:comm=NAME"},
		{"ebpf:comm=", probing, "", false, tune.ErrUsage, "ebpf:comm=NAME"},
		{"ebpf:name=nginx", probing, "", false, tune.ErrUnknown, "ebpf:port=N"},
		{"ebpf:comm=a,comm=b", probing, "", false, tune.ErrUsage, "ebpf:port=N"},
		{"ebpf:comm=sixteen-letters-", probing, "", false, tune.ErrOutOfRange, "15 bytes"},
		{"ebpf:port=0", probing, "", false, tune.ErrOutOfRange, "1 to 65535"},
		{"ebpf:port=65536", probing, "", false, tune.ErrOutOfRange, "1 to 65535"},
		{"ebpf:pid=-1", probing, "", false, tune.ErrOutOfRange, "process"},
		{"ebpf:cgroup=system.slice", probing, "", false, tune.ErrType, "begins with /"},
		{"device:block/loop*", Config{}, "", false, tune.ErrUnsupported, "another meter"},
		{"device:block/loop*,latency=off", counting, "device:block/loop*,latency=off", false, nil, ""},
		{"device:net/eth?", counting, "device:net/eth?", false, nil, ""},
		{"device:loop0", counting, "", false, tune.ErrUsage, "device:block/NAME"},
		{"device:block/", counting, "", false, tune.ErrUsage, "device:block/NAME"},
		{"device:block/a/b", counting, "", false, tune.ErrUsage, "device:block/NAME"},
		{"device:usb/1", counting, "", false, tune.ErrUnknown, "device:net/NAME"},
		{"device:block/a,by=x", counting, "", false, tune.ErrUnknown, "latency=off"},
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
