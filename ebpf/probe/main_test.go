package probe_test

import (
	"bufio"
	"testing"

	"semantos/ebpf/probetest"
)

func TestMain(m *testing.M) {
	probetest.Main(m, map[string]func(*bufio.Scanner){"renamer": renamer, "threaded": threaded, "holder": holder})
}
