package hosttest

import (
	"errors"
	"testing"

	"semantos/internal/host"
	"semantos/internal/tune"
)

// Case is one tunable and what must hold for it.
type Case struct {
	Name    string
	Tunable *tune.Tunable
	Target  string
	Accepts []tune.Value         // written and read back exactly
	Refused map[tune.Value]error // each leaves every element as it was
	Fails   error                // reading and writing fail with this; the rest is not looked at
	Locked  error                // reading works, writing fails with this
}

// Run is the suite: whatever host gives, these laws hold. The value from before is there again at
// the end of each case.
func Run(t *testing.T, newHost func(testing.TB) *host.Host, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			h := newHost(t)
			t.Cleanup(func() {
				if err := h.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			if c.Fails != nil {
				absent(t, h, c)
				return
			}
			before := read(t, h, c)
			if c.Locked != nil {
				locked(t, h, c, before)
				return
			}
			able(t, h, c)
			for _, v := range c.Accepts {
				accept(t, h, c, v)
			}
			for v, want := range c.Refused {
				refuse(t, h, c, v, want)
			}
			if got, err := h.Restore(c.Tunable, c.Target, before); err != nil || got != before {
				t.Errorf("restore gave %q, %v; want %q", got, err, before)
			}
			if got := read(t, h, c); got != before {
				t.Errorf("after restore it reads %q, before %q", got, before)
			}
		})
	}
}

func read(t *testing.T, h *host.Host, c Case) tune.Value {
	t.Helper()
	v, err := h.Read(c.Tunable, c.Target)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if v == "" || v != tune.Canonical(string(v)) {
		t.Fatalf("read %q, which is not canonical", v)
	}
	return v
}

func able(t *testing.T, h *host.Host, c Case) {
	t.Helper()
	if got := h.Probe(c.Tunable, c.Target); got != (tune.Capability{Present: true, Readable: true, Writable: true}) {
		t.Errorf("probe says %+v", got)
	}
}

func accept(t *testing.T, h *host.Host, c Case, v tune.Value) {
	t.Helper()
	got, err := h.Write(c.Tunable, c.Target, v)
	if err != nil || got != v {
		t.Errorf("write %q gave %q, %v", v, got, err)
	}
	if now := read(t, h, c); now != v {
		t.Errorf("after writing %q it reads %q", v, now)
	}
}

func refuse(t *testing.T, h *host.Host, c Case, v tune.Value, want error) {
	t.Helper()
	before := read(t, h, c)
	got, err := h.Write(c.Tunable, c.Target, v)
	if !errors.Is(err, want) || got != "" {
		t.Errorf("write %q gave %q, %v; want %v", v, got, err, want)
	}
	operator(t, err)
	if now := read(t, h, c); now != before {
		t.Errorf("refused %q left %q, before it was %q", v, now, before)
	}
}

func absent(t *testing.T, h *host.Host, c Case) {
	t.Helper()
	if v, err := h.Read(c.Tunable, c.Target); !errors.Is(err, c.Fails) {
		t.Errorf("read gave %q, %v; want %v", v, err, c.Fails)
	}
	for what, try := range map[string]func() (tune.Value, error){
		"write":   func() (tune.Value, error) { return h.Write(c.Tunable, c.Target, "1") },
		"restore": func() (tune.Value, error) { return h.Restore(c.Tunable, c.Target, "1") },
	} {
		if v, err := try(); !errors.Is(err, c.Fails) {
			t.Errorf("%s gave %q, %v; want %v", what, v, err, c.Fails)
		} else {
			operator(t, err)
		}
	}
	if got := h.Probe(c.Tunable, c.Target); got.Readable || got.Writable || got.Reason == "" {
		t.Errorf("probe says %+v", got)
	}
}

func locked(t *testing.T, h *host.Host, c Case, before tune.Value) {
	t.Helper()
	for _, v := range append([]tune.Value{before}, c.Accepts...) {
		if _, err := h.Write(c.Tunable, c.Target, v); !errors.Is(err, c.Locked) {
			t.Errorf("write %q gave %v; want %v", v, err, c.Locked)
		}
	}
	if got := h.Probe(c.Tunable, c.Target); !got.Readable || got.Writable || got.Reason == "" {
		t.Errorf("probe says %+v", got)
	}
	if now := read(t, h, c); now != before {
		t.Errorf("it reads %q, before %q", now, before)
	}
}

// operator checks that an error names its thing.
func operator(t *testing.T, err error) {
	t.Helper()
	var e *tune.Error
	if err != nil && (!errors.As(err, &e) || e.Subject == "") {
		t.Errorf("error names nothing: %v", err)
	}
}
