package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
)

// progress shows long work on stderr: a bar redrawn on a terminal, nothing elsewhere, so that logs
// and pipes stay quiet.
type progress struct {
	w     io.Writer
	label string
	drawn bool
	on    bool
}

func newProgress(w io.Writer, label string) *progress {
	return &progress{w: w, label: label, on: isTerminal(w)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// at draws the bar after done of total.
func (p *progress) at(done, total time.Duration) {
	if !p.on || total <= 0 {
		return
	}
	const cells = 30
	full := int(min(1, float64(done)/float64(total)) * cells)
	fmt.Fprintf(p.w, "\r%s [%s%s] %2.0f of %.0f s", p.label,
		strings.Repeat("#", full), strings.Repeat(".", cells-full), done.Seconds(), total.Seconds())
	p.drawn = true
}

// end clears the line.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", len(p.label)+52))
	}
}

// countDown draws the bar of a wait somebody else does, until the function it gives is called.
func (a *app) countDown(total time.Duration) (stop func()) {
	bar := newProgress(a.stderr, "watching")
	done, ended := make(chan struct{}), make(chan struct{})
	start := a.now()
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				bar.end()
				return
			case <-tick.C:
				bar.at(a.now().Sub(start), total)
			}
		}
	}()
	return func() { close(done); <-ended }
}
