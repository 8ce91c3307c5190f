package probe

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// haveTracepoint looks for the tracepoint's typed arguments in the kernel's BTF, which is what a
// tp_btf program is attached by.
func haveTracepoint(types *btf.Cache, name string) (bool, error) {
	t, err := tracepoint(types, name)
	return t != nil, err
}

// Types keeps what was read of the kernel's BTF while several probes are loaded; let go of it after
// that, it is some megabytes.
type Types struct{ cache *btf.Cache }

// NewTypes reads nothing yet.
func NewTypes() *Types { return &Types{cache: btf.NewCache()} }

// Need says why a probe cannot work where a kernel's struct lacks a member; config names what brings it.
func (t *Types) Need(name, member, config string) error {
	spec, err := t.cache.Kernel()
	if err != nil {
		return fmt.Errorf("%w: the kernel's types cannot be read (CONFIG_DEBUG_INFO_BTF, /sys/kernel/btf/vmlinux): %v",
			tune.ErrUnsupported, err)
	}
	var s *btf.Struct
	if err := spec.TypeByName(name, &s); err != nil && !errors.Is(err, btf.ErrNotFound) {
		return fmt.Errorf("look for struct %s: %w", name, err)
	}
	if s != nil && slices.ContainsFunc(s.Members, func(m btf.Member) bool { return m.Name == member }) {
		return nil
	}
	return fmt.Errorf("%w: this kernel has no %s.%s (%s)", tune.ErrUnsupported, name, member, config)
}

// Explain turns the kernel's no into the house's sentinels, keeping the cause.
func Explain(err error) error {
	var v *ebpf.VerifierError
	switch {
	case errors.As(err, &v):
		return fmt.Errorf("%w: the kernel's verifier refused it: %w", tune.ErrUnsupported, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: bpf(2) needs CAP_BPF and CAP_PERFMON, and lockdown or a security module may forbid it: %w",
			tune.ErrNotPermitted, err)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: %w", tune.ErrUnsupported, err)
	}
	return err
}
