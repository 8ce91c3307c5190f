package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"semantos/internal/tune"
	"semantos/safety/guard"
)

// TestProtectedAndLimited: whatever is asked, and with --yes: exit 2 naming value and limit, and nothing
// is written. The guard reads the same configuration.
func TestProtectedAndLimited(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	before := m.kernel(t)
	for _, tc := range []struct {
		name string
		args []string
		exit int
		says []string
	}{
		{"protected", []string{"apply", "--set", "vm.swappiness=40", "--yes", "--protected", "vm.swap*"}, exitUsage, []string{"vm.swappiness", "PROTECTED has vm.swap*"}},
		{"protected, dry run", []string{"apply", "--set", "vm.swappiness=40", "--dry-run", "--protected", "vm.swappiness"}, exitUsage, []string{"PROTECTED has vm.swappiness"}},
		{"limited", []string{"apply", "--set", "vm.swappiness=90", "--yes", "--limits", "vm.swappiness=10..80"}, exitUsage, []string{`vm.swappiness="90"`, "10 to 80", "LIMITS"}},
		{"widened", []string{"status", "--limits", "vm.swappiness=10..800"}, 0, nil},
		{"widened, where it counts", []string{"tunables", "--limits", "vm.swappiness=10..800"}, exitUsage, []string{"vm.swappiness=10..800", "can only narrow"}},
		{"a name that means nothing", []string{"recommend", "--protected", "vm.swapiness"}, exitUsage, []string{"vm.swapiness", "did you mean vm.swappiness"}},
		{"no range", []string{"config", "--limits", "vm.swappiness=80..10"}, exitUsage, []string{`LIMITS="vm.swappiness=80..10"`, "LOWEST..HIGHEST"}},
	} {
		got := m.run(t, tc.args...)
		if got.exit != tc.exit {
			t.Errorf("%s: exit %d, want %d\n%s%s", tc.name, got.exit, tc.exit, got.stdout, got.stderr)
		}
		for _, s := range tc.says {
			if !strings.Contains(got.stderr, s) {
				t.Errorf("%s: %q does not say %q", tc.name, got.stderr, s)
			}
		}
	}
	for name, text := range before {
		if now := m.kernel(t)[name]; strings.TrimSpace(now) != strings.TrimSpace(text) {
			t.Errorf("%s is %q, was %q", name, now, text)
		}
	}
	got := m.run(t, "tunables", "vm.swappiness", "--limits", "vm.swappiness=10..80", "--protected", "vm.swappiness")
	for _, s := range []string{"10..80", "PROTECTED has vm.swappiness"} {
		if !strings.Contains(strings.ReplaceAll(got.stdout, " to ", ".."), s) {
			t.Errorf("tunables does not show %q:\n%s", s, got.stdout)
		}
	}
}

// TestTheGuardReadsItsOwnConfiguration: the real guard process refuses what its environment or file forbids,
// whatever its parent asks for; a parent that says nothing of it changes nothing.
func TestTheGuardReadsItsOwnConfiguration(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "semantos.conf")
	if err := os.WriteFile(file, []byte("PROTECTED=vm.swap*\nLIMITS=vm.vfs_cache_pressure=50..150\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args, env []string
		refuses   bool
	}{
		"environment": {nil, []string{"PROTECTED=vm.swappiness", "LIMITS=vm.vfs_cache_pressure=50..150"}, true},
		"file":        {[]string{"--config", file}, nil, true},
		"neither":     {nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			c, err := guard.Start(t.Context(), guard.StartConfig{Exe: binary, Stderr: os.Stderr, Env: append([]string{"HOME=" + m.data}, tc.env...),
				Args: append([]string{"guard", "--data-dir", m.data, "--root", m.root}, tc.args...)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			for rollout, want := range map[string]struct {
				change tune.Change
				err    error
			}{
				"a-1": {tune.Change{Tunable: "vm.swappiness", Proposed: "40"}, tune.ErrDenied},
				"b-1": {tune.Change{Tunable: "vm.vfs_cache_pressure", Proposed: "200"}, tune.ErrOutOfRange},
			} {
				_, err := c.Apply(t.Context(), rollout, []tune.Change{want.change}, "test")
				if tc.refuses != errors.Is(err, want.err) || !tc.refuses && err != nil {
					t.Errorf("%s: %v", want.change.Tunable, err)
				}
			}
			if now := m.read(t, "proc/sys/vm/swappiness"); (now == "60") != tc.refuses {
				t.Errorf("swappiness is %s", now)
			}
		})
	}
}
