package telemetry

import (
	"bytes"
	"context"
	"errors"

	"semantos/internal/tune"
)

// tablesCollector watches the kernel's tables that have an end: files, tasks, asynchronous I/O, keys.
type tablesCollector struct{ *env }

func newTables(e *env) collector { return &tablesCollector{e} }

func (c *tablesCollector) Name() string { return "tables" }

func (c *tablesCollector) Signals() []tune.Signal {
	return append(table("", "/proc/sys/fs, /proc/loadavg", `
table.files_used | files | open files of all processes
table.files_max | files | fs.file-max
table.files_share | share | open files of the limit
table.inodes_used | inodes | inodes in use
table.dentries_used | dentries | directory entries cached
table.dentries_unused | dentries | directory entries cached and not in use
table.pids_used | tasks | tasks: each thread takes one pid
table.pids_max | tasks | kernel.pid_max
table.pids_share | share | pids taken of the limit
table.threads_used | tasks | tasks
table.threads_max | tasks | kernel.threads-max
table.threads_share | share | tasks of the limit
table.aio_used | events | asynchronous I/O events reserved
table.aio_max | events | fs.aio-max-nr
table.aio_share | share | events reserved of the limit`), table("", "/proc/key-users", `
table.keys_used | keys | keys of the user nearest to the limit
table.keys_max | keys | that user's limit
table.keys_share | share | keys of the limit`)...)
}

func (c *tablesCollector) Collect(_ context.Context, f *frame) error {
	h := f.host()
	for _, read := range [...]func(*entry) error{c.openFiles, c.tasks, c.aio, c.keys} {
		if err := read(h); err != nil && !errors.Is(err, tune.ErrNoData) {
			return err
		}
	}
	if len(h.readings) == 0 {
		return fileError("/proc/sys/fs", errNotExist)
	}
	return nil
}

// numbers reads n integers of one file.
func (c *tablesCollector) numbers(rel string, dst []float64) error {
	b, err := c.files.read(rel)
	if err != nil {
		return err
	}
	n, err := parseNumbers(b, dst)
	if err == nil && n < len(dst) {
		err = corrupt(rel, b)
	}
	return err
}

func limited(h *entry, name string, used, most float64) {
	h.gauge(name+"_used", used)
	h.gauge(name+"_max", most)
	share(h, name+"_share", used, most)
}

func (c *tablesCollector) openFiles(h *entry) error {
	var nr [3]float64
	if err := c.numbers("proc/sys/fs/file-nr", nr[:]); err != nil {
		return err
	}
	limited(h, "table.files", nr[0]-nr[1], nr[2])
	var inodes, dentries [2]float64
	if err := c.numbers("proc/sys/fs/inode-nr", inodes[:]); err != nil {
		return err
	}
	h.gauge("table.inodes_used", inodes[0]-inodes[1])
	if err := c.numbers("proc/sys/fs/dentry-state", dentries[:]); err != nil {
		return err
	}
	h.gauge("table.dentries_used", dentries[0])
	h.gauge("table.dentries_unused", dentries[1])
	return nil
}

func (c *tablesCollector) tasks(h *entry) error {
	b, err := c.files.read("proc/loadavg")
	if err != nil {
		return err
	}
	used, err := parseLoadavgTasks(b)
	if err != nil {
		return err
	}
	var pids, threads [1]float64
	if err := c.numbers("proc/sys/kernel/pid_max", pids[:]); err != nil {
		return err
	}
	limited(h, "table.pids", used, pids[0])
	if err := c.numbers("proc/sys/kernel/threads-max", threads[:]); err != nil {
		return err
	}
	limited(h, "table.threads", used, threads[0])
	return nil
}

// parseLoadavgTasks gives the number of tasks, the part after the slash of the fourth field, which
// procfs drops.
func parseLoadavgTasks(b []byte) (float64, error) {
	rest := b
	var w []byte
	for range 4 {
		w, rest = word(rest)
	}
	_, all, found := bytes.Cut(w, []byte{'/'})
	n, ok := number(all)
	if !found || !ok {
		return 0, corrupt("loadavg", b)
	}
	return n, nil
}

func (c *tablesCollector) aio(h *entry) error {
	var used, most [1]float64
	if err := c.numbers("proc/sys/fs/aio-nr", used[:]); err != nil {
		return err
	}
	if err := c.numbers("proc/sys/fs/aio-max-nr", most[:]); err != nil {
		return err
	}
	limited(h, "table.aio", used[0], most[0])
	return nil
}

func (c *tablesCollector) keys(h *entry) error {
	b, err := c.files.read("proc/key-users")
	if err != nil {
		return err
	}
	used, most, err := parseKeyUsers(b)
	if err != nil {
		return err
	}
	limited(h, "table.keys", used, most)
	return nil
}

// parseKeyUsers gives keys and limit of the user who is nearest to the limit. A line is
// "uid: usage nkeys/nikeys qnkeys/maxkeys qnbytes/maxbytes".
func parseKeyUsers(b []byte) (used, most float64, err error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return 0, 0, corrupt("key-users", b)
	}
	worst := -1.0
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(bytes.TrimSpace(l)) == 0 {
			continue
		}
		_, rest, _ := bytes.Cut(l, []byte{':'})
		_, rest = word(rest)
		_, rest = word(rest)
		w, _ := word(rest)
		n, m, found := bytes.Cut(w, []byte{'/'})
		nv, ok1 := number(n)
		mv, ok2 := number(m)
		if !found || !ok1 || !ok2 {
			return 0, 0, corrupt("key-users", l)
		}
		if mv > 0 && nv/mv > worst {
			worst, used, most = nv/mv, nv, mv
		}
	}
	if worst < 0 {
		return 0, 0, corrupt("key-users", b)
	}
	return used, most, nil
}
