package vector

// kernels are the inner loops, chosen once per index from what the processor has. Widths are padded
// lengths in elements, always a multiple of widthStep; rows are width int8 codes, one after another.
type kernels struct {
	name string
	// scan scores count rows (a multiple of four) from the start of codes:
	// out[i] = dot(q, row i) * qscale * scale[i] + slack[i].
	scan func(q []int16, codes []int8, width, count int, qscale float32, scale, slack, out []float32)
	// gather gives out[i] = dot(q, row ids[i]); len(ids) is a multiple of four.
	gather func(q []int16, codes []int8, width int, ids []uint32, out []int32)
	// pair is the dot product of two rows of codes.
	pair func(a, b []int8) int32
	// dot is the float32 dot product of two padded vectors.
	dot func(a, b []float32) float32
}

// widthStep is what a padded row's length is a multiple of: one turn of the AVX2 loop.
const widthStep = 32

// rowGroup is how many rows a scan or gather handles at once.
const rowGroup = 4

func padWidth(dim int) int { return (dim + widthStep - 1) / widthStep * widthStep }

// portable are the loops without assembly: every other architecture, and processors without AVX2.
func portable() kernels {
	return kernels{name: "go", scan: scanGo, gather: gatherGo, pair: pairGo, dot: dotGo}
}

func rowDotGo(q []int16, row []int8) int32 {
	row = row[:len(q)]
	var a, b, c, d int32
	for i := 0; i+4 <= len(q); i += 4 {
		a += int32(q[i]) * int32(row[i])
		b += int32(q[i+1]) * int32(row[i+1])
		c += int32(q[i+2]) * int32(row[i+2])
		d += int32(q[i+3]) * int32(row[i+3])
	}
	return a + b + c + d
}

func scanGo(q []int16, codes []int8, width, count int, qscale float32, scale, slack, out []float32) {
	for i := range count {
		d := rowDotGo(q, codes[i*width:(i+1)*width])
		out[i] = float32(d)*qscale*scale[i] + slack[i]
	}
}

func gatherGo(q []int16, codes []int8, width int, ids []uint32, out []int32) {
	for i, id := range ids {
		at := int(id) * width
		out[i] = rowDotGo(q, codes[at:at+width])
	}
}

func pairGo(a, b []int8) int32 {
	b = b[:len(a)]
	var s int32
	for i, x := range a {
		s += int32(x) * int32(b[i])
	}
	return s
}

// dotGo adds in another order than the assembly, so the last bits of a distance differ between them.
func dotGo(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	for i := 0; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	return (s0 + s1) + (s2 + s3)
}
