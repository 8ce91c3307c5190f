package probe_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSums holds that each folder's objects were made from the headers and the source that lie there:
// scripts/bpf.sh records the hash of both in bpf.sum.
func TestSums(t *testing.T) {
	headers, err := filepath.Glob("../headers/*.h")
	if err != nil || len(headers) == 0 {
		t.Fatal(err, headers)
	}
	var common []byte
	for _, h := range headers { // Glob sorts as the C locale does
		common = append(common, read(t, h)...)
	}
	sources, err := filepath.Glob("../*/*.bpf.c")
	if err != nil || len(sources) == 0 {
		t.Fatal(err, sources)
	}
	for _, src := range sources {
		dir := filepath.Dir(src)
		text := read(t, src)
		if first, _, _ := strings.Cut(string(text), "\n"); first != "//go:build ignore" {
			t.Errorf("%s begins with %q: go would take it for its own", src, first)
		}
		sum := sha256.Sum256(append(append([]byte{}, common...), text...))
		if got := strings.TrimSpace(string(read(t, filepath.Join(dir, "bpf.sum")))); got != hex.EncodeToString(sum[:]) {
			t.Errorf("%s or a header changed since its objects were made: run scripts/bpf.sh", src)
		}
		for _, end := range []string{"bpfel", "bpfeb"} {
			for _, kind := range []string{".o", ".go"} {
				if len(read(t, filepath.Join(dir, "bpf_"+end+kind))) == 0 {
					t.Errorf("%s: bpf_%s%s is empty", dir, end, kind)
				}
			}
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
