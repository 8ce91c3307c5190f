package kb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// The values of the machine the test runs on must be values of their own entries: that is what finds a
// wrong type, arity, word or range. Absent and unreadable files are counted, not judged.
func TestLiveValuesParse(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	present, absent := 0, []string{}
	for _, tn := range c.All() {
		files := liveFiles(tn)
		read := 0
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Logf("%s: %v", tn.Name, err)
				}
				continue
			}
			read++
			v := liveValue(tn, data)
			if got, err := tn.Parse(string(v)); err != nil || got != v {
				t.Errorf("%s: live value %q of %s: parsed as %q, %v (%s)", tn.Name, v, f, got, err, tune.Hint(err))
			}
		}
		if read > 0 {
			present++
		} else {
			absent = append(absent, tn.Name)
		}
	}
	t.Logf("%d tunables read, %d absent here: %s", present, len(absent), strings.Join(absent, " "))
	if present == 0 {
		t.Skip("no tunable could be read: not on Linux with /proc and /sys")
	}
}

// TestLiveHostKeepsTheInvariants checks that no invariant is broken on a running host before semantos
// touches it. A change of every tunable to its own value judges them all.
func TestLiveHostKeepsTheInvariants(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	current := func(name, _ string) (tune.Value, error) {
		tn, _, err := c.Lookup(name)
		if err != nil {
			return "", err
		}
		for _, f := range liveFiles(tn) {
			if data, err := os.ReadFile(f); err == nil {
				return liveValue(tn, data), nil
			}
		}
		return "", tune.ErrUnsupported
	}
	judged := 0
	for _, tn := range c.All() {
		v, err := current(tn.Name, "")
		if err != nil || tn.Templated() {
			continue
		}
		judged++
		for _, err := range c.Invariants([]tune.Change{{Tunable: tn.Name, Target: "host", Proposed: v}}, current) {
			t.Errorf("%s=%s: %v", tn.Name, v, err)
		}
	}
	t.Logf("%d tunables set to their own value", judged)
}

// liveFiles gives the files of a tunable here: one, or one per device.
func liveFiles(tn *tune.Tunable) []string {
	star := regexp.MustCompile(`\{[a-z_]+\}`)
	var pattern string
	switch tn.Method {
	case tune.MethodSysctl:
		pattern = "/proc/sys/" + tn.Path
	case tune.MethodSysfs, tune.MethodChoice:
		pattern = "/sys/" + tn.Path
	case tune.MethodCgroup:
		if out, _ := filepath.Glob("/sys/fs/cgroup/" + tn.Path); len(out) > 0 {
			return out
		}
		controller, _, _ := strings.Cut(tn.Path, ".")
		pattern = "/sys/fs/cgroup/" + controller + "/" + tn.Path
	default:
		return nil
	}
	out, _ := filepath.Glob(star.ReplaceAllString(pattern, "*"))
	return out
}

func liveValue(tn *tune.Tunable, data []byte) tune.Value {
	text := string(data)
	if tn.Method == tune.MethodChoice {
		if i, j := strings.Index(text, "["), strings.Index(text, "]"); i >= 0 && j > i {
			text = text[i+1 : j]
		}
	}
	return tune.Canonical(text)
}
