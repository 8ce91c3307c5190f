package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"semantos/internal/tune"
)

// checkBuilt refuses keys whose feature is not in this build. Starting as if they were heard would let
// someone believe that a graph fills, or that alerts arrive.
func (c *Config) checkBuilt() error {
	lack := func(name, value, why, hint string) error {
		return &tune.Error{
			Op: "read configuration", Subject: fmt.Sprintf("%s=%q", name, value),
			Err:  fmt.Errorf("%w (from %s): %s; %s", tune.ErrUsage, c.Origin[name], why, hint),
			Hint: hint,
		}
	}
	if c.OpenAIModel != "" || c.OllamaModel != "" {
		c.Notices = append(c.Notices, "OPENAI_MODEL or OLLAMA_MODEL is set, but no LLM voter is built in: it does not vote")
	}
	if c.OpenAIEmbedModel != "" && c.OllamaEmbedModel != "" {
		return lack("OPENAI_EMBED_MODEL", c.OpenAIEmbedModel, "OLLAMA_EMBED_MODEL is set too, and one of them can serve", "unset one of them")
	}
	return nil
}

// checkTogether judges keys that only make sense beside each other.
func (c *Config) checkTogether() error {
	if c.UseEBPF == On && c.Root != "" {
		return &tune.Error{
			Op: "read configuration", Subject: fmt.Sprintf("USE_EBPF=%q", On),
			Err: fmt.Errorf("%w (from %s): probes see the running kernel, not what lies below ROOT=%s (from %s)",
				tune.ErrUsage, c.Origin["USE_EBPF"], c.Root, c.Origin["ROOT"]),
			Hint: "set auto or off beside ROOT",
		}
	}
	if c.SampleWindow < 2*c.SampleInterval {
		return &tune.Error{
			Op: "read configuration", Subject: fmt.Sprintf("SAMPLE_WINDOW=%v", c.SampleWindow.Seconds()),
			Err: fmt.Errorf("%w (from %s): the window must hold two samples, and SAMPLE_INTERVAL_SEC is %v (from %s)",
				tune.ErrUsage, c.Origin["SAMPLE_WINDOW"], c.SampleInterval.Seconds(), c.Origin["SAMPLE_INTERVAL_SEC"]),
			Hint: "make the window at least twice the interval",
		}
	}
	return nil
}

// PrepareDataDir creates DATA_DIR (0700) if it is absent and proves that it can be written, by writing.
// Its errors wrap tune.ErrStorage.
func (c *Config) PrepareDataDir() error {
	bad := func(err error, hint string) error {
		return &tune.Error{
			Op: "use DATA_DIR", Subject: fmt.Sprintf("%s (from %s)", c.DataDir, c.Origin["DATA_DIR"]),
			Err: fmt.Errorf("%w: %w", tune.ErrStorage, err), Hint: hint,
		}
	}
	const elsewhere = "name another directory with --data-dir or DATA_DIR"
	if c.DataDir == "" {
		return bad(syscall.ENOENT, elsewhere)
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return bad(err, elsewhere+", or make this one writable")
	}
	info, err := os.Stat(c.DataDir)
	if err != nil {
		return bad(err, elsewhere)
	}
	if m := info.Mode(); m.Perm()&0o002 != 0 && m&os.ModeSticky == 0 {
		return bad(fmt.Errorf("mode %04o lets every user replace the files in it", m.Perm()),
			"run chmod 700 on it, or "+elsewhere)
	}
	f, err := os.CreateTemp(c.StoreDir(), ".writable-")
	if err != nil {
		return bad(err, elsewhere+", or make this one writable")
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString("semantos\n"); err != nil {
		return bad(err, "free some space, or "+elsewhere)
	}
	if err := f.Sync(); err != nil {
		return bad(err, "free some space, or "+elsewhere)
	}
	return nil
}

// storeDir is the folder below DATA_DIR that belongs to the user serve runs as.
const storeDir = "store"

// OwnStoreDir is where that folder is or would be.
func (c *Config) OwnStoreDir() string { return filepath.Join(c.DataDir, storeDir) }

// StoreDir is where history and knowledge lie: in the folder of the user that serve runs as once there is
// one, else in DATA_DIR itself.
func (c *Config) StoreDir() string {
	if info, err := os.Lstat(c.OwnStoreDir()); err == nil && info.IsDir() {
		return c.OwnStoreDir()
	}
	return c.DataDir
}

// Socket is where a running serve answers the command line.
func (c *Config) Socket() string { return filepath.Join(c.DataDir, "semantos.sock") }

// nearest gives the known word closest to a mistyped one, or "" when none is close.
func nearest(word string, known []string) string {
	best, limit := "", max(2, len(word)/3)+1
	for _, k := range known {
		d := distance(strings.ToUpper(word), strings.ToUpper(k))
		if d < limit || (d == limit && best != "" && k < best) {
			best, limit = k, d
		}
	}
	return best
}

// distance counts the single-letter edits between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
