package hosttest

import (
	"os"
	"path/filepath"
	"testing"

	"semantos/internal/host"
)

// Tree writes files below a fresh directory and gives the host rooted there. A name that ends in "!"
// is made without any write permission, as the kernel shows its constants.
func Tree(t testing.TB, files map[string]string) *host.Host {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		mode := os.FileMode(0o644)
		if last := len(name) - 1; name[last] == '!' {
			name, mode = name[:last], 0o444
		}
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return host.New(host.Config{Root: root})
}
