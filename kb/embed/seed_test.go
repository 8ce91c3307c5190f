package embed

import (
	"flag"
	"os"
	"testing"
)

// TestMain gives the property tests one seed, so that a run can be repeated; make soak draws others.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.seed"); f != nil && f.Value.String() == f.DefValue && os.Getenv("SOAK") == "" {
		if err := f.Value.Set("20261124"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
