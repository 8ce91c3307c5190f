//go:build !amd64

package vector

func detect() kernels { return portable() }
