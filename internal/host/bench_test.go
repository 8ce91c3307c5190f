package host_test

import (
	"net"
	"testing"

	"semantos/internal/host"
	"semantos/internal/tune"
)

func BenchmarkReadSysctl(b *testing.B) {
	h := host.New(host.Config{})
	tun := number("net.core.somaxconn", "net/core/somaxconn", tune.ScopeNetns)
	for b.Loop() {
		if _, err := h.Read(tun, ""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInNetns(b *testing.B) {
	h := host.New(host.Config{})
	spaces, err := h.Namespaces()
	if err != nil || len(spaces) < 1 {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := h.InNetns(spaces[0].Target, func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNamespaces(b *testing.B) {
	h := host.New(host.Config{})
	for b.Loop() {
		if _, err := h.Namespaces(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkListeners(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	h := host.New(host.Config{})
	for b.Loop() {
		if _, err := h.Listeners(""); err != nil {
			b.Fatal(err)
		}
	}
}
