package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// binary is semantos itself, built once: the guard is another process of it.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv(listenRole) != "" {
			return listenOnly()
		}
		if os.Getenv(memoryRole) != "" {
			return holdMemory()
		}
		if os.Getenv(answerRole) != "" {
			return onFirstThread(answerOnly)
		}
		dir, err := os.MkdirTemp("", "semantos-cli-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "semantos")
		build := exec.Command("go", "build", "-trimpath", "-o", binary, "semantos")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build semantos: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// result is what one command line did.
type result struct {
	exit           int
	stdout, stderr string
}

// decode reads the one document on stdout.
func (r result) decode(t *testing.T, into any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(r.stdout))
	if err := dec.Decode(into); err != nil {
		t.Fatalf("stdout is no JSON document: %v\n%s\nstderr: %s", err, r.stdout, r.stderr)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Fatalf("stdout has more than one document:\n%s", r.stdout)
	}
}

// machine is a fake root with a data folder, and what runs commands on it.
type machine struct {
	root, data string
	env        []string
}

// newMachine writes a small host below a fresh root; files replace or add.
func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	m := &machine{root: t.TempDir(), data: filepath.Join(t.TempDir(), "data")}
	all := map[string]string{
		"proc/meminfo": "MemTotal:        8000000 kB\nMemFree:         4000000 kB\nMemAvailable:    6000000 kB\n" +
			"SwapTotal:             0 kB\nDirty:                0 kB\n",
		"proc/vmstat":                             "nr_free_pages 1000000\nnr_dirty 0\npgmajfault 5\noom_kill 0\n",
		"proc/stat":                               "cpu  100 0 100 9000 0 0 0 0 0 0\ncpu0 100 0 100 9000 0 0 0 0 0 0\nctxt 100\nprocesses 10\nprocs_running 1\nprocs_blocked 0\n",
		"proc/loadavg":                            "0.00 0.00 0.00 1/10 100\n",
		"proc/sys/kernel/random/boot_id":          "6f1a1c52-0000-4000-8000-000000000001\n",
		"proc/sys/kernel/osrelease":               "6.18.0\n",
		"sys/devices/system/cpu/online":           "0-3\n",
		"proc/sys/vm/swappiness":                  "60\n",
		"proc/sys/vm/dirty_ratio":                 "20\n",
		"proc/sys/vm/dirty_background_ratio":      "10\n",
		"proc/sys/vm/dirty_bytes":                 "0\n",
		"proc/sys/vm/dirty_background_bytes":      "0\n",
		"proc/sys/vm/vfs_cache_pressure":          "100\n",
		"proc/sys/net/core/somaxconn":             "4096\n",
		"proc/sys/net/ipv4/tcp_rmem":              "4096\t131072\t6291456\n",
		"proc/sys/net/ipv4/tcp_fin_timeout":       "60\n",
		"proc/sys/kernel/sched_autogroup_enabled": "1\n",
	}
	maps.Copy(all, files)
	for name, text := range all {
		m.write(t, name, text)
	}
	return m
}

func (m *machine) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// kernel gives every file of the fake kernel with its bytes.
func (m *machine) kernel(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, top := range []string{"proc", "sys"} {
		err := filepath.WalkDir(filepath.Join(m.root, top), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			out[path] = string(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// run runs one command line in this process; its guard is the real binary.
func (m *machine) run(t *testing.T, args ...string) result {
	t.Helper()
	return m.runAs(t, 0, args...)
}

func (m *machine) runAs(t *testing.T, uid int, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	exit := run(ctx, &app{
		args: append([]string{"--root", m.root, "--data-dir", m.data}, args...), stdin: strings.NewReader(""),
		stdout: &out, stderr: &errs, env: m.env, now: time.Now, uid: uid, exe: binary,
	})
	return result{exit: exit, stdout: out.String(), stderr: errs.String()}
}
