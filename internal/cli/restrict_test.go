package cli

import (
	"strings"
	"testing"
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
