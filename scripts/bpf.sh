#!/bin/sh
# Compiles every probe's C to committed objects (little and big endian) with clang and bpf2go, and
# records the hash of headers and source in <probe>/bpf.sum, which a test holds against the sources.
# With a name, only that probe. Needs (Debian): clang llvm libbpf-dev libc6-dev.
set -eu
for tool in clang llvm-strip; do
	command -v "$tool" >/dev/null || { echo "bpf: $tool is missing; apt-get install clang llvm libbpf-dev libc6-dev" >&2; exit 1; }
done
root="$PWD"
only="${1:-}"
multi="/usr/include/$(cc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)"
for src in ebpf/*/*.bpf.c; do
	dir="$(dirname "$src")"
	name="$(basename "$dir")"
	[ -z "$only" ] || [ "$only" = "$name" ] || continue
	echo "bpf $name"
	GOPACKAGE="$name" "${GO:-go}" tool bpf2go -cc clang -strip llvm-strip -no-global-types -target bpfel,bpfeb \
		-output-dir "$dir" bpf "$src" -- -O2 -g -Wall -Werror -Wno-unused-function -Wno-missing-declarations \
		-I"$root/ebpf/headers" -I"$multi" >/dev/null
	LC_ALL=C cat ebpf/headers/*.h "$src" | sha256sum | cut -d' ' -f1 >"$dir/bpf.sum"
done
