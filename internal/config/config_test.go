package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
)

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "semantos.conf")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := Load(Sources{File: file(t, ""), UID: 0})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"USE_EBPF": "auto", "SAMPLE_WINDOW": "60", "SAMPLE_INTERVAL_SEC": "5", "NEO4J_URI": "", "NEO4J_USER": "",
		"NEO4J_PASS": "", "DATA_DIR": "/var/lib/semantos", "OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "OPENAI_MODEL": "",
		"OLLAMA_HOST": "", "OLLAMA_MODEL": "", "OPENAI_EMBED_MODEL": "", "OLLAMA_EMBED_MODEL": "", "TAU": "0.55", "ALPHA": "0.1", "ROLLOUT_STEPS": "5,25,50,100",
		"SLO_MAX_P95": "35", "MAX_ERROR_RATE": "0.5", "PSI_MAX_MEMORY": "10", "PSI_MAX_IO": "80", "PSI_MAX_CPU": "off", "MIN_MEM_AVAILABLE": "3", "PROTECTED": "", "LIMITS": "", "EXPOSURE_BUDGET": "1h", "MAINTENANCE_WINDOW": "always",
		"AUTO_POLL": "on", "AUTO_APPLY": "off", "POLL_INTERVAL_SEC": "10", "MARGIN": "0.1",
		"ALERT_WEBHOOK": "", "ALERT_SECRET": "", "AUDIT_KEEP_DAYS": "400", "AUDIT_MAX_MB": "64", "LISTEN": "127.0.0.1:9988", "CATALOG_DIR": "", "ROOT": "", "RUN_AS": "",
	}
	got := map[string]string{}
	for _, r := range c.Rows() {
		if r.Origin != "default" {
			t.Errorf("%s comes from %q", r.Key, r.Origin)
		}
		got[r.Key] = r.Value
	}
	if filepath.Base(got["OUTPUTS_DIR"]) != "outputs" {
		t.Errorf("OUTPUTS_DIR is %q", got["OUTPUTS_DIR"])
	}
	delete(got, "OUTPUTS_DIR")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	name := file(t, "# limits\nTAU=0.2\nMARGIN = 0.05\nLISTEN=\"127.0.0.1:1\"\nSAMPLE_WINDOW=30\n")
	c, err := Load(Sources{
		File: name, UID: 1000,
		Env:   []string{"HOME=/home/u", "MARGIN=0.06", "LISTEN=127.0.0.1:2", "SEMANTOS_LISTEN=127.0.0.1:3", "TAU=", "ROOT=/elsewhere", "PATH=/bin"},
		Flags: map[string]string{"sample-window": "90s", "data-dir": "/srv/../srv/semantos"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Tau != 0.2 || c.Margin != 0.06 || c.Listen != "127.0.0.1:3" || c.SampleWindow != 90*time.Second ||
		c.DataDir != "/srv/semantos" || c.Root != "" {
		t.Errorf("merged wrongly: %+v", c)
	}
	want := map[string]string{
		"TAU": "file " + name + ":2", "MARGIN": "environment MARGIN", "LISTEN": "environment SEMANTOS_LISTEN",
		"SAMPLE_WINDOW": "flag --sample-window", "ALPHA": "default",
	}
	for k, o := range want {
		if c.Origin[k] != o {
			t.Errorf("%s comes from %q, want %q", k, c.Origin[k], o)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		file  string
		env   []string
		flags map[string]string
		says  []string
	}{
		{"not a number", "", []string{"TAU=high"}, nil, []string{`TAU="high"`, "environment TAU", "above 0 and at most 1"}},
		{"nan", "", nil, map[string]string{"tau": "NaN"}, []string{"TAU", "flag --tau"}},
		{"out of range", "\nALPHA=1\n", nil, nil, []string{`ALPHA="1"`, "semantos.conf:2", "below 1"}},
		{"wrong word", "", []string{"AUTO_APPLY=yes"}, nil, []string{"AUTO_APPLY", "off, calibrated, on"}},
		{"wrong case", "", []string{"AUTO_POLL=On"}, nil, []string{"AUTO_POLL", "on or off"}},
		{"steps fall", "", []string{"ROLLOUT_STEPS=5,4,100"}, nil, []string{"ROLLOUT_STEPS", "growing"}},
		{"steps end early", "", []string{"ROLLOUT_STEPS=5,50"}, nil, []string{"the last one 100"}},
		{"negative seconds", "", []string{"SAMPLE_INTERVAL_SEC=-5"}, nil, []string{"SAMPLE_INTERVAL_SEC", "seconds from"}},
		{"window below interval", "SAMPLE_WINDOW=6\n", nil, nil, []string{"SAMPLE_WINDOW", "two samples"}},
		{"listen without port", "", nil, map[string]string{"listen": "localhost"}, []string{"LISTEN", "HOST:PORT"}},
		{"port too large", "", nil, map[string]string{"listen": "localhost:99999"}, []string{"LISTEN"}},
		{"unknown key", "TAUU=1\n", nil, nil, []string{`"TAUU"`, "did you mean TAU?", ":1"}},
		{"no equals sign", "just words\n", nil, nil, []string{"just words", "not a key"}},
		{"key twice", "TAU=0.1\nTAU=0.2\n", nil, nil, []string{"TAU", "line 1"}},
		{"our prefix, no key", "", []string{"SEMANTOS_TUA=1"}, nil, []string{"SEMANTOS_TUA", "SEMANTOS_TAU"}},
		{"unknown flag", "", nil, map[string]string{"tua": "1"}, []string{"--tua"}},
		{"probes of another root", "", []string{"USE_EBPF=on"}, map[string]string{"root": "/tmp/x"}, []string{"USE_EBPF", "ROOT=/tmp/x"}},
		{"probes perhaps", "", []string{"USE_EBPF=maybe"}, nil, []string{"USE_EBPF", "auto, on, off"}},
		{"alerts to nowhere", "", []string{"ALERT_WEBHOOK=a.example/x"}, nil, []string{"ALERT_WEBHOOK", "an http:// or https:// address"}},
		{"alerts to a file", "", []string{"ALERT_WEBHOOK=file:///etc/x"}, nil, []string{"ALERT_WEBHOOK", "https://"}},
		{"a short secret", "", []string{"ALERT_SECRET=short"}, nil, []string{"ALERT_SECRET", "at least 16"}},
		{"share above one", "", []string{"MAX_ERROR_RATE=5"}, nil, []string{`MAX_ERROR_RATE="5"`, "at most 1"}},
		{"pressure of nothing", "", nil, map[string]string{"psi-max-memory": "0"}, []string{`PSI_MAX_MEMORY="0"`, "or off"}},
		{"pressure beyond all time", "PSI_MAX_IO=101\n", nil, nil, []string{"PSI_MAX_IO", "at most 100"}},
		{"memory in bytes", "", []string{"MIN_MEM_AVAILABLE=1G"}, nil, []string{`MIN_MEM_AVAILABLE="1G"`, "percent"}},
		{"a bracket left open", "", []string{"PROTECTED=vm.[a"}, nil, []string{`PROTECTED="vm.[a"`, "names between commas"}},
		{"limit upside down", "LIMITS=vm.swappiness=80..10\n", nil, nil, []string{"LIMITS", "LOWEST..HIGHEST"}},
		{"limit of one number", "", []string{"LIMITS=vm.swappiness=80"}, nil, []string{"LIMITS"}},
		{"limit without ends", "", []string{"LIMITS=vm.swappiness=.."}, nil, []string{"LIMITS"}},
		{"limit twice", "", []string{"LIMITS=vm.swappiness=1..2,vm.swappiness=1..3"}, nil, []string{"LIMITS"}},
		{"days that are no number", "", []string{"AUDIT_KEEP_DAYS=1.5"}, nil, []string{`AUDIT_KEEP_DAYS="1.5"`, "whole number from 1"}},
		{"a log without room", "", []string{"AUDIT_MAX_MB=1"}, nil, []string{"AUDIT_MAX_MB", "from 2"}},
		{"secret stays hidden", "", []string{"OPENAI_API_KEY=sk-\x01secret"}, nil, []string{"OPENAI_API_KEY"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(Sources{File: file(t, tc.file), Env: tc.env, Flags: tc.flags})
			if !errors.Is(err, tune.ErrUsage) {
				t.Fatalf("got %v, want wrong usage", err)
			}
			text := err.Error()
			for _, s := range tc.says {
				if !strings.Contains(text, s) {
					t.Errorf("%q does not say %q", text, s)
				}
			}
			if strings.Contains(text, "\n") || strings.Contains(text, "secret") || tune.Hint(err) == "" {
				t.Errorf("not one safe line with a hint: %q", text)
			}
		})
	}
}

func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	c, err := Load(Sources{File: file(t, ""), Env: []string{"OPENAI_API_KEY=sk-verysecret", "OPENAI_MODEL=m", "NEO4J_PASS=alsosecret"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Notices) != 1 || !strings.Contains(c.Notices[0], "no LLM voter") {
		t.Errorf("notices: %q", c.Notices)
	}
	for _, r := range c.Rows() {
		if strings.Contains(r.Value, "secret") {
			t.Errorf("%s shows %q", r.Key, r.Value)
		}
	}
	for _, f := range Flags() {
		if f.Secret || f.Key == "NEO4J_PASS" || f.Key == "OPENAI_API_KEY" {
			t.Errorf("secret %s has a flag", f.Key)
		}
	}
}

func TestNamedFileMustExist(t *testing.T) {
	t.Parallel()
	_, err := Load(Sources{File: filepath.Join(t.TempDir(), "absent.conf")})
	if !errors.Is(err, tune.ErrUsage) || !strings.Contains(err.Error(), "absent.conf") {
		t.Errorf("got %v", err)
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		src  Sources
		want string
	}{
		"root":      {Sources{UID: 0, Env: []string{"HOME=/root"}}, "/var/lib/semantos"},
		"user":      {Sources{UID: 7, Env: []string{"HOME=/home/u"}}, "/home/u/.local/state/semantos"},
		"xdg":       {Sources{UID: 7, Env: []string{"HOME=/home/u", "XDG_STATE_HOME=/s"}}, "/s/semantos"},
		"xdg local": {Sources{UID: 7, Env: []string{"HOME=/home/u", "XDG_STATE_HOME=s"}}, "/home/u/.local/state/semantos"},
		"homeless":  {Sources{UID: 7}, filepath.Join(os.TempDir(), "semantos-7")},
	}
	for name, tc := range cases {
		if got := defaultDataDir(tc.src); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestPrepareDataDir(t *testing.T) {
	t.Parallel()
	prepare := func(dir string) error {
		c := Config{DataDir: dir, Origin: map[string]string{"DATA_DIR": "flag --data-dir"}}
		return c.PrepareDataDir()
	}
	fresh := filepath.Join(t.TempDir(), "a", "b")
	if err := prepare(fresh); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(fresh); len(left) != 0 {
		t.Errorf("left %v behind", left)
	}
	if info, _ := os.Stat(fresh); info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	occupied := file(t, "")
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	bad := map[string]string{"below a file": filepath.Join(occupied, "x"), "a file": occupied, "open to all": open,
		"kernel's": "/proc/self/semantos", "empty": ""}
	for name, dir := range bad {
		err := prepare(dir)
		if !errors.Is(err, tune.ErrStorage) || tune.Hint(err) == "" || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("TAU=0.5\n# x\nROLLOUT_STEPS=5,100\n"))
	f.Add([]byte("SAMPLE_WINDOW=1e400"))
	f.Add([]byte("DATA_DIR=\"\n="))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Config{Origin: map[string]string{}}
		if err := c.parseFile("f", data); err != nil && !errors.Is(err, tune.ErrUsage) {
			t.Errorf("error of another kind: %v", err)
		}
	})
}
