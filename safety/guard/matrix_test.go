package guard

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFaultMatrixNamesTests: every test that docs/safety.md names exists.
func TestFaultMatrixNamesTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/safety.md")
	if err != nil {
		t.Fatal(err)
	}
	_, matrix, found := strings.Cut(string(page), "## Fault matrix")
	named := regexp.MustCompile(`\bTest[A-Z]\w*`).FindAllString(matrix, -1)
	if !found || len(named) < 30 {
		t.Fatalf("the fault matrix names %d tests", len(named))
	}
	var source strings.Builder
	for _, glob := range []string{"*_test.go", "../journal/*_test.go", "../rollout/*_test.go", "../lookout/*_test.go", "../../internal/cli/*_test.go"} {
		files, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(data)
		}
	}
	for _, name := range named {
		if !strings.Contains(source.String(), "func "+name+"(t *testing.T)") {
			t.Errorf("the fault matrix names %s, which does not exist", name)
		}
	}
}
