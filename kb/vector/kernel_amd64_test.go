package vector

import (
	"testing"

	"golang.org/x/sys/cpu"
)

// TestKernelsAVX2 holds the loops of a processor with AVX2 only, where this one has more.
func TestKernelsAVX2(t *testing.T) {
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA {
		t.Skip("this processor has no AVX2")
	}
	k := detect()
	k.scan = scanAsm
	sameLoops(t, k, portable())
}
