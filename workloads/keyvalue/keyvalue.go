package keyvalue

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"semantos/workloads"
)

// Load is redis and the reader of files beside it.
type Load struct {
	Dir    string // for the file that is read
	Cgroup string // the directory of the group both run in
	Port   int
	Keys   int // values of 1 KiB
	FileMB int // the file; with the values more than the group may use
	RateMB int // read a second

	store, reader *exec.Cmd
	cancel        context.CancelFunc
}

const valueBytes = 1 << 10

func (l *Load) file() string { return filepath.Join(l.Dir, "semantos-kv") }

// Start brings redis up, fills it, and starts the reader.
func (l *Load) Start(ctx context.Context) error {
	redis, err := workloads.Tool("redis-server")
	if err != nil {
		return err
	}
	fio, err := workloads.Tool("fio")
	if err != nil {
		return err
	}
	size := fmt.Sprintf("--size=%dm", l.FileMB)
	if out, err := workloads.Command(ctx, "", fio, "--name=layout", "--filename="+l.file(), "--rw=write", "--bs=1m",
		"--direct=1", size, "--end_fsync=1").CombinedOutput(); err != nil {
		return fmt.Errorf("lay out the file beside the store: %w: %s", err, out)
	}
	ctx, l.cancel = context.WithCancel(ctx)
	l.store = l.inGroup(ctx, redis, "--port", strconv.Itoa(l.Port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", l.Dir)
	if err := l.store.Start(); err != nil {
		return fmt.Errorf("start redis: %w", err)
	}
	if err := l.answers(ctx); err != nil {
		return err
	}
	if err := fill(ctx, l.Port, l.Keys, valueBytes); err != nil {
		return err
	}
	l.reader = l.inGroup(ctx, fio, "--name=read", "--filename="+l.file(), "--thread", "--rw=randread", "--norandommap", "--bs=16k",
		size, "--time_based", "--runtime=1h", "--invalidate=0", fmt.Sprintf("--rate=%dm", l.RateMB), "--output="+os.DevNull)
	if err := l.reader.Start(); err != nil {
		return fmt.Errorf("start the reader beside the store: %w", err)
	}
	return nil
}

// inGroup runs a program as a member of the group from its first instruction.
func (l *Load) inGroup(ctx context.Context, program string, args ...string) *exec.Cmd {
	const join = `echo $$ > "$0" && exec "$@"`
	return workloads.Command(ctx, "", "sh", append([]string{"-c", join, filepath.Join(l.Cgroup, "cgroup.procs"), program}, args...)...)
}

func (l *Load) answers(ctx context.Context) error {
	var err error
	for range 100 {
		conn, dialErr := dial(ctx, l.Port)
		if dialErr == nil {
			return conn.Close()
		}
		err = dialErr
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("start redis: %w", err)
}

// Stop ends both and removes the file.
func (l *Load) Stop() error {
	if l.cancel != nil {
		l.cancel()
	}
	for _, c := range []*exec.Cmd{l.reader, l.store} {
		if c != nil && c.Process != nil {
			_ = c.Wait() // killed by us
		}
	}
	l.store, l.reader = nil, nil
	if err := os.Remove(l.file()); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the file beside the store: %w", err)
	}
	return nil
}

// Measure asks for random values for d.
func (l *Load) Measure(ctx context.Context, d time.Duration) (workloads.Sample, error) {
	return ask(ctx, l.Port, l.Keys, d)
}
