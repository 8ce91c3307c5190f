package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"semantos/workloads"
)

// write sets one tunable file, inside the trial's namespace when the scenario has one.
func (t *trial) write(ctx context.Context, s setting) error {
	if !t.netns {
		if err := os.WriteFile(s.path, []byte(s.value), 0); err != nil {
			return fmt.Errorf("set %s=%s: %w", s.path, s.value, err)
		}
		return nil
	}
	out, err := workloads.Command(ctx, t.env.netns, "sh", "-c", `printf %s "$1" > "$0"`, s.path, s.value).CombinedOutput()
	if err != nil {
		return fmt.Errorf("set %s=%s in %s: %w: %s", s.path, s.value, t.env.netns, err, out)
	}
	return nil
}

func (t *trial) read(ctx context.Context, path string) (string, error) {
	if !t.netns {
		b, err := os.ReadFile(path)
		return string(b), err
	}
	out, err := workloads.Command(ctx, t.env.netns, "cat", path).Output()
	return string(out), err
}

// save remembers the bytes of what a trial will mistune and gives the function that puts them back.
func (t *trial) save(ctx context.Context) (restore func() error, err error) {
	var saved []setting
	for _, s := range append(append([]setting{}, t.mistune...), t.good...) {
		text, err := t.read(ctx, s.path)
		if err != nil {
			return nil, fmt.Errorf("save %s: %w", s.path, err)
		}
		saved = append(saved, setting{s.path, strings.TrimSpace(text)})
	}
	return func() error {
		var errs []error
		for _, s := range saved {
			// dirty_bytes 0 means that the ratio was active; the kernel refuses the zero itself, and
			// writing the ratio, which is saved beside it, sets it.
			if strings.HasSuffix(s.path, "_bytes") && s.value == "0" {
				continue
			}
			if strings.HasSuffix(s.path, "_ratio") && s.value == "0" {
				continue
			}
			errs = append(errs, t.write(context.WithoutCancel(ctx), s))
		}
		return errors.Join(errs...)
	}, nil
}

// addNetns makes the trial's namespace with its loopback up.
func (t *trial) addNetns(ctx context.Context) error {
	t.env.netns = fmt.Sprintf("semantos-lab-%d", os.Getpid())
	for _, args := range [][]string{{"netns", "add", t.env.netns}, {"-n", t.env.netns, "link", "set", "lo", "up"}} {
		if out, err := workloads.Command(ctx, "", "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("make namespace: %w: %s", err, out)
		}
	}
	return nil
}

func (t *trial) delNetns(ctx context.Context) error {
	out, err := workloads.Command(context.WithoutCancel(ctx), "", "ip", "netns", "del", t.env.netns).CombinedOutput()
	if err != nil {
		return fmt.Errorf("remove namespace: %w: %s", err, out)
	}
	return nil
}

// dumpRoots are the trees a wrong write would show in.
var dumpRoots = []string{"/proc/sys/vm", "/proc/sys/net/core", "/proc/sys/net/ipv4", "/proc/sys/net/ipv6", "/proc/sys/kernel",
	"/proc/sys/fs", "/sys/block", "/sys/kernel/mm"}

// volatile files move by themselves.
var volatile = []string{"random/", "ns_last_pid", "/fs/file-nr", "inode-nr", "inode-state", "dentry-state", "aio-nr",
	"/stat", "/inflight", "/io_ticks", "pages_collapsed", "full_scans", "/ksm/", "/numa/", "/damon/", "pty/nr", "/stats/",
	"sched_domain", "nf_conntrack_count", "perf_event_max_sample_rate", "mm_stat", "bd_stat", "io_stat", "/route/",
	"/mq/", "/trace/", "/uevent", "/diskseq", "kernel/keys/", "/hugepages/", "tainted"}

// dump reads every tunable-like file, so that a write to anything unrelated shows.
func (t *trial) dump(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for _, root := range dumpRoots {
		real, err := filepath.EvalSymlinks(root)
		if err != nil {
			continue
		}
		walk(real, root, 0, out)
	}
	if !t.netns {
		return out, nil
	}
	const list = `cd /proc/sys/net && find ipv4 ipv6 core -type f | sort | while read f; do printf '%s=' "$f"; (tr '\n' ' ' < "$f") 2>/dev/null; echo; done`
	text, err := workloads.Command(ctx, t.env.netns, "sh", "-c", list).Output()
	if err != nil {
		return nil, fmt.Errorf("dump namespace: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if !moves("/proc/sys/net/" + name) {
			out["netns:/proc/sys/net/"+name] = strings.TrimSpace(value)
		}
	}
	return out, nil
}

func walk(dir, name string, depth int, out map[string]string) {
	entries, err := os.ReadDir(dir)
	if err != nil || depth > 6 {
		return
	}
	for _, e := range entries {
		p, n := filepath.Join(dir, e.Name()), name+"/"+e.Name()
		if depth == 0 && e.Type()&fs.ModeSymlink != 0 && name == "/sys/block" {
			walk(p+"/queue", n+"/queue", depth+1, out)
			continue
		}
		if e.IsDir() {
			walk(p, n, depth+1, out)
			continue
		}
		info, err := e.Info()
		if err != nil || info.Mode()&0o222 == 0 || info.Mode()&0o444 == 0 || moves(n) {
			continue
		}
		if b, err := os.ReadFile(p); err == nil {
			out[n] = strings.TrimSpace(string(b))
		}
	}
}

func moves(name string) bool {
	for _, v := range volatile {
		if strings.Contains(name, v) {
			return true
		}
	}
	return false
}

// diff lists the names whose text differs, sorted.
func diff(a, b map[string]string) []string {
	var names []string
	for n, v := range a {
		if w, ok := b[n]; ok && v != w {
			names = append(names, fmt.Sprintf("%s: %q is %q", n, v, w))
		}
	}
	sort.Strings(names)
	return names
}
