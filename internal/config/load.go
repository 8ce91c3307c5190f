package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// Sources are where values come from. Everything is passed in, so that a test is a table.
type Sources struct {
	File  string            // named by --config: must exist; "" reads DefaultFile if it is there
	Env   []string          // KEY=VALUE, as os.Environ gives it
	Flags map[string]string // flag name without dashes to value; only flags that were given
	UID   int               // decides the default of DATA_DIR
	// Content is the file's text where an earlier program of this process, with more rights, has read it;
	// nil reads the file.
	Content *string
}

// Load merges defaults, file, environment and flags. Its errors are one line, wrap tune.ErrUsage and
// name key, value, origin and what is accepted.
func Load(src Sources) (Config, error) {
	c := Config{Origin: map[string]string{}}
	for _, k := range keys() {
		if err := c.assign(k, k.def, "default"); err != nil {
			return Config{}, err
		}
	}
	c.DataDir = defaultDataDir(src)
	if err := c.loadFile(src); err != nil {
		return Config{}, err
	}
	if err := c.loadEnv(src.Env); err != nil {
		return Config{}, err
	}
	if err := c.loadFlags(src.Flags); err != nil {
		return Config{}, err
	}
	if err := c.checkBuilt(); err != nil {
		return Config{}, err
	}
	return c, c.checkTogether()
}

func (c *Config) assign(k key, value, origin string) error {
	if err := k.set(c, value); err != nil {
		return refuse(k, value, origin, "give "+k.accepts)
	}
	c.Origin[k.name] = origin
	return nil
}

func refuse(k key, value, origin, hint string) error {
	shown := fmt.Sprintf("%s=%q", k.name, value)
	if k.secret {
		shown = k.name
	}
	return &tune.Error{
		Op: "read configuration", Subject: shown,
		Err:  fmt.Errorf("%w (from %s): %s", tune.ErrUsage, origin, hint),
		Hint: hint,
	}
}

func (c *Config) loadFile(src Sources) error {
	name := src.File
	if name == "" {
		name = DefaultFile
	}
	var data []byte
	var err error
	if src.Content != nil {
		data = []byte(*src.Content)
	} else {
		data, err = os.ReadFile(name)
	}
	switch {
	case err == nil:
	case src.File == "" && errors.Is(err, fs.ErrNotExist):
		return nil
	case src.File == "" && errors.Is(err, fs.ErrPermission):
		c.Notices = append(c.Notices, name+" is not readable by this user; its settings are not used")
		return nil
	default:
		return &tune.Error{
			Op: "read configuration", Subject: name, Err: fmt.Errorf("%w: %w", tune.ErrUsage, err),
			Hint: "name a readable file of KEY=VALUE lines with --config",
		}
	}
	return c.parseFile(name, data)
}

// parseFile reads KEY=VALUE lines. Blank lines and lines starting with # are skipped; a value may stand
// in double quotes. A key twice is an error: one of the two would be ignored.
func (c *Config) parseFile(name string, data []byte) error {
	byName := map[string]key{}
	for _, k := range keys() {
		byName[k.name] = k
	}
	seen := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := fmt.Sprintf("file %s:%d", name, n)
		word, value, ok := strings.Cut(line, "=")
		word, value = strings.TrimSpace(word), strings.TrimSpace(value)
		k, known := byName[word]
		if !ok || !known {
			return c.unknown(word, at, slices.Collect(maps.Keys(byName)))
		}
		if first := seen[word]; first > 0 {
			return refuse(k, value, at, fmt.Sprintf("it is already set in line %d, keep one of the two", first))
		}
		seen[word] = n
		if len(value) > 1 && strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`) {
			value = value[1 : len(value)-1]
		}
		if err := c.assign(k, value, at); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return &tune.Error{Op: "read configuration", Subject: name, Err: fmt.Errorf("%w: %w", tune.ErrUsage, err),
			Hint: "the file must hold short KEY=VALUE lines"}
	}
	return nil
}

func (c *Config) unknown(word, at string, known []string) error {
	hint := "see semantos config for all keys"
	if near := nearest(word, known); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return &tune.Error{
		Op: "read configuration", Subject: fmt.Sprintf("%q", word),
		Err: fmt.Errorf("%w (from %s): not a key; %s", tune.ErrUsage, at, hint), Hint: hint,
	}
}

const envPrefix = "SEMANTOS_"

// loadEnv takes KEY and, before it, SEMANTOS_KEY. Other variables belong to other programs, but one that
// starts with our name and is no key is a typing error.
func (c *Config) loadEnv(env []string) error {
	given := map[string]string{}
	for _, e := range env {
		if name, value, ok := strings.Cut(e, "="); ok {
			given[name] = value
		}
	}
	own := map[string]bool{}
	for _, k := range keys() {
		own[envPrefix+k.name] = true
		for _, name := range []string{k.name, envPrefix + k.name} {
			value, ok := given[name]
			if !ok || (k.ownEnv && name == k.name) {
				continue
			}
			// An empty variable is how scripts and compose files say "not set".
			if value == "" {
				continue
			}
			if err := c.assign(k, value, "environment "+name); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if strings.HasPrefix(name, envPrefix) && !own[name] {
			return c.unknown(name, "environment", slices.Collect(maps.Keys(own)))
		}
	}
	return nil
}

func (c *Config) loadFlags(flags map[string]string) error {
	byFlag := map[string]key{}
	for _, k := range keys() {
		byFlag[k.flag()] = k
	}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		k, ok := byFlag[name]
		if !ok {
			return c.unknown("--"+name, "the command line", slices.Collect(maps.Keys(byFlag)))
		}
		if err := c.assign(k, flags[name], "flag --"+name); err != nil {
			return err
		}
	}
	return nil
}

func defaultDataDir(src Sources) string {
	if src.UID == 0 {
		return "/var/lib/semantos"
	}
	state, home := "", ""
	for _, e := range src.Env {
		if v, ok := strings.CutPrefix(e, "XDG_STATE_HOME="); ok {
			state = v
		}
		if v, ok := strings.CutPrefix(e, "HOME="); ok {
			home = v
		}
	}
	if filepath.IsAbs(state) {
		return filepath.Join(state, "semantos")
	}
	if filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "semantos")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("semantos-%d", src.UID))
}
