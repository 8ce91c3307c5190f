//go:build !amd64

package vector

func detect() kernels { return portable() }

// narrower are the loops of a processor one step older, for tests.
func narrower() kernels { return portable() }
