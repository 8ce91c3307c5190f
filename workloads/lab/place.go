package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"semantos/workloads"
)

// place is what one trial of harm builds for itself and takes down again: a namespace, a loop device, a
// control group.
type place struct {
	env
	device string // loop0
	mount  string // of its file system, "" when it holds swap
	cgroup string // its path from the root of the hierarchy
	undo   []func() error
}

// close takes down what was built, the newest first.
func (p *place) close() error {
	var errs []error
	for i := len(p.undo) - 1; i >= 0; i-- {
		errs = append(errs, p.undo[i]())
	}
	p.undo = nil
	return errors.Join(errs...)
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	path, err := workloads.Tool(name)
	if err != nil {
		return "", err
	}
	out, err := workloads.Command(ctx, "", path, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// addNetns makes a namespace of its own with its loopback up.
func (p *place) addNetns(ctx context.Context) error {
	name := fmt.Sprintf("semantos-harm-%d", os.Getpid())
	if _, err := run(ctx, "ip", "netns", "add", name); err != nil {
		return err
	}
	p.netns = name
	p.undo = append(p.undo, func() error {
		_, err := run(context.WithoutCancel(ctx), "ip", "netns", "del", name)
		return err
	})
	_, err := run(ctx, "ip", "-n", name, "link", "set", "lo", "up")
	return err
}

// netnsTarget names the namespace as semantos does.
func (p *place) netnsTarget() (string, error) {
	st, err := os.Stat("/run/netns/" + p.netns)
	if err != nil {
		return "", fmt.Errorf("find namespace: %w", err)
	}
	return fmt.Sprintf("netns:%d", st.Sys().(*syscall.Stat_t).Ino), nil
}

// listener names the server's listening socket as semantos does.
func (p *place) listener(ctx context.Context, port int) (string, error) {
	out, err := workloads.Command(ctx, p.netns, "ss", "-Hltne", "sport", "=", ":"+strconv.Itoa(port)).Output()
	if err != nil {
		return "", fmt.Errorf("list listeners: %w", err)
	}
	for f := range strings.FieldsSeq(string(out)) {
		if cookie, ok := strings.CutPrefix(f, "sk:"); ok {
			ns, err := p.netnsTarget()
			return fmt.Sprintf("tcp:127.0.0.1:%d;%s;cookie=%s", port, strings.Replace(ns, ":", "=", 1), cookie), err
		}
	}
	return "", fmt.Errorf("list listeners: none on port %d in %q", port, out)
}

// addLoop makes a block device of a file of its own.
func (p *place) addLoop(ctx context.Context, megabytes int64) error {
	img := filepath.Join(p.disk, "image")
	f, err := os.Create(img)
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	if err := errors.Join(f.Truncate(megabytes<<20), f.Close()); err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	dev, err := run(ctx, "losetup", "--find", "--show", "--direct-io=on", img)
	if err != nil {
		return err
	}
	p.device = filepath.Base(dev)
	p.undo = append(p.undo, func() error {
		_, err := run(context.WithoutCancel(ctx), "losetup", "--detach", dev)
		return err
	})
	return nil
}

// addDisk makes a loop device with a mounted file system and the read-ahead a disk has.
func (p *place) addDisk(ctx context.Context) error {
	if err := p.addLoop(ctx, 1536); err != nil {
		return err
	}
	dev := "/dev/" + p.device
	if _, err := run(ctx, "mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", dev); err != nil {
		return err
	}
	if err := os.WriteFile(p.readAhead(), []byte("128"), 0); err != nil {
		return fmt.Errorf("set read-ahead: %w", err)
	}
	p.mount = filepath.Join(p.dir, "disk")
	if err := os.Mkdir(p.mount, 0o700); err != nil {
		return err
	}
	if _, err := run(ctx, "mount", dev, p.mount); err != nil {
		return err
	}
	p.undo = append(p.undo, func() error {
		_, err := run(context.WithoutCancel(ctx), "umount", p.mount)
		return err
	})
	return nil
}

func (p *place) readAhead() string { return "/sys/block/" + p.device + "/queue/read_ahead_kb" }

// addSwap makes a loop device this host may swap to.
func (p *place) addSwap(ctx context.Context) error {
	if err := p.addLoop(ctx, 1024); err != nil {
		return err
	}
	dev := "/dev/" + p.device
	if _, err := run(ctx, "mkswap", dev); err != nil {
		return err
	}
	if _, err := run(ctx, "swapon", dev); err != nil {
		return err
	}
	p.undo = append(p.undo, func() error { return swapOff(context.WithoutCancel(ctx), dev) })
	return nil
}

// swapOff reads back what is still swapped, which the kernel refuses while the group it is charged to is
// being emptied.
func swapOff(ctx context.Context, dev string) error {
	var err error
	for range 20 {
		if _, err = run(ctx, "swapoff", dev); err == nil {
			return nil
		}
		time.Sleep(250 * time.Millisecond)
	}
	return err
}

// memoryTree is where version 1 of the memory controller is mounted; version 2 has no swappiness of a
// group's own.
const memoryTree = "/sys/fs/cgroup/memory"

// addCgroup makes a group that may use so much memory, with a swappiness as a store's host has it.
func (p *place) addCgroup(ctx context.Context, megabytes int64, swappiness string) error {
	p.cgroup = fmt.Sprintf("/semantos-harm-%d", os.Getpid())
	dir := memoryTree + p.cgroup
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	p.undo = append(p.undo, func() error { return removeGroup(dir) })
	for name, value := range map[string]string{"memory.limit_in_bytes": strconv.FormatInt(megabytes<<20, 10), "memory.swappiness": swappiness} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0); err != nil {
			return fmt.Errorf("limit control group: %w", err)
		}
	}
	return ctx.Err()
}

// removeGroup waits for the last member to be gone.
func removeGroup(dir string) error {
	// Without its limit what it swapped out can be read back.
	err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte("-1"), 0)
	if err != nil {
		return fmt.Errorf("lift limit of control group: %w", err)
	}
	for range 100 {
		if err = os.Remove(dir); err == nil || os.IsNotExist(err) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("remove control group: %w", err)
}
