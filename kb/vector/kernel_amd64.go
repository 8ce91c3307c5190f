package vector

import "golang.org/x/sys/cpu"

// detect picks the fastest loops this processor can run.
func detect() kernels {
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA {
		return portable()
	}
	k := kernels{name: "avx2", scan: scanAsm, gather: gatherAsm, pair: pairAsm, dot: dotAsm}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VNNI {
		k.name, k.scan = "avx512vnni", scanWide
	}
	return k
}

// The assembly trusts its caller for every length; these doors are where lengths are held, by the
// bounds checks of the slicing below.

func scanAsm(q []int16, codes []int8, width, count int, qscale float32, scale, slack, out []float32) {
	if count < rowGroup {
		return
	}
	_, _, _ = q[:width], codes[:count*width], scale[:count]
	_, _ = slack[:count], out[:count]
	scanAVX2(&q[0], &codes[0], width, count/rowGroup, qscale, &scale[0], &slack[0], &out[0])
}

func scanWide(q []int16, codes []int8, width, count int, qscale float32, scale, slack, out []float32) {
	if count < rowGroup {
		return
	}
	_, _, _ = q[:width], codes[:count*width], scale[:count]
	_, _ = slack[:count], out[:count]
	scanVNNI(&q[0], &codes[0], width, count/rowGroup, qscale, &scale[0], &slack[0], &out[0])
}

func gatherAsm(q []int16, codes []int8, width int, ids []uint32, out []int32) {
	if len(ids) < rowGroup {
		return
	}
	_, _ = q[:width], out[:len(ids)]
	var last uint32
	for _, id := range ids {
		last = max(last, id)
	}
	_ = codes[int(last)*width : (int(last)+1)*width]
	gatherAVX2(&q[0], &codes[0], width, &ids[0], len(ids)/rowGroup, &out[0])
}

func pairAsm(a, b []int8) int32 { return pairAVX2(&a[0], &b[:len(a)][0], len(a)) }

func dotAsm(a, b []float32) float32 { return dotAVX2(&a[0], &b[:len(a)][0], len(a)) }

//go:noescape
func scanAVX2(q *int16, codes *int8, width, groups int, qscale float32, scale, slack, out *float32)

//go:noescape
func scanVNNI(q *int16, codes *int8, width, groups int, qscale float32, scale, slack, out *float32)

//go:noescape
func gatherAVX2(q *int16, codes *int8, width int, ids *uint32, groups int, out *int32)

//go:noescape
func pairAVX2(a, b *int8, width int) int32

//go:noescape
func dotAVX2(a, b *float32, width int) float32
