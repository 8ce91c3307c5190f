package cli

import (
	"io"
	"os"
	"sync"
)

// shared makes a writer safe for us and for the guard that writes to it too. A file needs nothing: the
// guard inherits its descriptor, and a terminal stays recognisable.
func shared(w io.Writer) io.Writer {
	if _, ok := w.(*os.File); ok {
		return w
	}
	return &sharedWriter{w: w}
}

type sharedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sharedWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
