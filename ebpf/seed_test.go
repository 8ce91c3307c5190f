package ebpf

import (
	"flag"
	"os"
	"testing"
)

// TestMain gives the property tests one seed, so that a run can be repeated; make soak draws others.
// With a role it is a child of one of the tests.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.seed"); f != nil && f.Value.String() == f.DefValue && os.Getenv("SOAK") == "" {
		if err := f.Value.Set("20261124"); err != nil {
			panic(err)
		}
	}
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(child(role))
	}
	os.Exit(m.Run())
}
