package lookout

import (
	"context"
	"errors"
	"testing"
	"time"

	"semantos/internal/host"
	"semantos/internal/tune"
)

// faulty is a machine whose reading takes down who looks.
type faulty struct{ *host.Host }

func (faulty) Read(*tune.Tunable, string) (tune.Value, error) { panic("a fault of ours") }

// TestAFaultInALookEndsTheLook: the guard that looks also puts back; it must not end by what it is asked to
// look at.
func TestAFaultInALookEndsTheLook(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ours)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- Serve(context.Background(), Config{Socket: theirs, Machine: faulty{host.New(host.Config{})}, Catalogue: catalogue{}, Now: time.Now})
	}()
	for range 2 {
		if _, err := c.Read("net.ipv4.tcp_fin_timeout", "netns:4026531840"); err == nil || errors.Is(err, tune.ErrNoData) {
			t.Errorf("it answered %v", err)
		}
	}
	if err := errors.Join(c.Close(), <-done); err != nil {
		t.Error(err)
	}
}
