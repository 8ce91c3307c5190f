package probe

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf/btf"

	"semantos/internal/tune"
)

// tracepoint looks for a tracepoint's typed arguments in the BTF of the kernel and of its loaded modules
// (Debian's ext4 is one); nil when there is none. A program is attached by that type.
func tracepoint(types *btf.Cache, name string) (*btf.Typedef, error) {
	spec, err := types.Kernel()
	if err != nil {
		return nil, fmt.Errorf("%w: the kernel's types cannot be read (CONFIG_DEBUG_INFO_BTF, /sys/kernel/btf/vmlinux): %v",
			tune.ErrUnsupported, err)
	}
	specs := []*btf.Spec{spec}
	modules, err := types.Modules()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list modules' types: %w", err)
	}
	var t *btf.Typedef
	for i := 0; ; i++ {
		if err := specs[i].TypeByName("btf_trace_"+name, &t); err == nil {
			return t, nil
		} else if !errors.Is(err, btf.ErrNotFound) {
			return nil, fmt.Errorf("look for tracepoint %s: %w", name, err)
		}
		if i == len(modules) {
			return nil, nil
		}
		spec, err := types.Module(modules[i])
		if err != nil {
			return nil, fmt.Errorf("read types of module %s: %w", modules[i], err)
		}
		specs = append(specs, spec)
	}
}

// Args is how many arguments a tracepoint has on this kernel, for those whose arguments moved between
// kernels; tune.ErrUnsupported when it has no such tracepoint.
func (t *Types) Args(name string) (int, error) {
	def, err := tracepoint(t.cache, name)
	if err != nil {
		return 0, err
	}
	if def == nil {
		return 0, fmt.Errorf("%w: this kernel has no tracepoint %s", tune.ErrUnsupported, name)
	}
	if p, ok := def.Type.(*btf.Pointer); ok {
		if f, ok := p.Target.(*btf.FuncProto); ok {
			return len(f.Params) - 1, nil // the first is the tracepoint's own data
		}
	}
	return 0, fmt.Errorf("look for tracepoint %s: its type is no function's", name)
}

// Enum gives the names of an enumeration of the running kernel by number; empty when it has none of that
// name.
func (t *Types) Enum(name string) (map[uint64]string, error) {
	spec, err := t.cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("%w: the kernel's types cannot be read: %v", tune.ErrUnsupported, err)
	}
	var e *btf.Enum
	if err := spec.TypeByName(name, &e); err != nil && !errors.Is(err, btf.ErrNotFound) {
		return nil, fmt.Errorf("look for enum %s: %w", name, err)
	}
	out := map[uint64]string{}
	if e != nil {
		for _, v := range e.Values {
			out[v.Value] = v.Name
		}
	}
	return out, nil
}
