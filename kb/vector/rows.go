package vector

// chunkRows is how many float rows share one allocation, so that growing never copies them.
const chunkRows = 1024

// view is a reading of the rows below n: slots are written once and never again, so a view taken
// under the lock stays readable without it while writers append.
type view struct {
	kern       kernels
	dim, width int
	n          int // slots in use, dead ones too
	ids        []string
	codes      []int8    // width codes a row; padded with zero rows to a multiple of rowGroup
	scale      []float32 // step of a row's codes
	slack      []float32 // bound of what the codes lose
	chunks     [][]float32
}

// rows adds what changes in place: only the owner of the write lock touches it.
type rows struct {
	view
	dead []bool
	slot map[string]uint32
	live int
}

func newRows(kern kernels, dim int) *rows {
	return &rows{view: view{kern: kern, dim: dim, width: padWidth(dim)}, slot: map[string]uint32{}}
}

// float is the unit vector of a slot, padded to the width.
func (v *view) float(slot uint32) []float32 {
	at := int(slot%chunkRows) * v.width
	return v.chunks[slot/chunkRows][at : at+v.width : at+v.width]
}

func (v *view) code(slot uint32) []int8 {
	at := int(slot) * v.width
	return v.codes[at : at+v.width : at+v.width]
}

// put stores the unit vector of id, in place of what id had. It reports whether anything changed.
func (r *rows) put(id string, unit []float32) bool {
	old, known := r.slot[id]
	if known && same(r.float(old), unit) {
		return false
	}
	if known {
		r.dead[old] = true
	} else {
		r.live++
	}
	slot := uint32(r.n)
	r.grow()
	r.ids = append(r.ids, id)
	r.dead = append(r.dead, false)
	copy(r.float(slot), unit)
	r.scale[slot], r.slack[slot] = encode(r.code(slot), unit)
	r.slot[id] = slot
	r.n++
	return true
}

// grow makes room for one row.
func (r *rows) grow() {
	if r.n%chunkRows == 0 {
		r.chunks = append(r.chunks, make([]float32, chunkRows*r.width))
	}
	if r.n%rowGroup == 0 {
		var none [rowGroup]float32
		r.scale = append(r.scale, none[:]...)
		r.slack = append(r.slack, none[:]...)
		r.codes = append(r.codes, make([]int8, rowGroup*r.width)...)
	}
}

// drop forgets id. It reports whether id was there.
func (r *rows) drop(id string) bool {
	slot, known := r.slot[id]
	if !known {
		return false
	}
	r.dead[slot] = true
	delete(r.slot, id)
	r.live--
	return true
}

func same(a, b []float32) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
