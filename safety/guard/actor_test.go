package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"semantos/internal/host"
	"semantos/internal/tune"
)

// envBoot is the boot id that a guard is told: the only reboot a test can make.
const envBoot = "SEMANTOS_TEST_BOOT"

// order is what a test has its parent process ask the guard for.
type order struct {
	Verb    string        `json:"verb"`
	Rollout string        `json:"rollout,omitempty"`
	Changes []tune.Change `json:"changes,omitempty"`
	Targets []string      `json:"targets,omitempty"`
}

// report is the answer, or how the start went.
type report struct {
	Pid      int        `json:"pid,omitempty"`
	Notes    []string   `json:"notes,omitempty"`
	Applied  []Applied  `json:"applied,omitempty"`
	Restored []Restored `json:"restored,omitempty"`
	Error    *wireError `json:"error,omitempty"`
}

// helperActor is a parent that does as it is told on its input, one order a line, and like every command
// ends with 1 when it loses its guard. Its descriptors 3 and 4 go on to the guard.
func helperActor() error {
	out := json.NewEncoder(os.Stdout)
	meet := []*os.File{os.NewFile(3, "meet"), os.NewFile(4, "go on")}
	c, err := Start(context.Background(), StartConfig{Env: roleEnv("met-guard"), Stderr: os.Stderr, Extra: meet})
	if err != nil {
		return errors.Join(err, out.Encode(report{Error: toWire(err)}))
	}
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- []byte(strings.Clone(in.Text()))
		}
	}()
	if err := out.Encode(report{Pid: c.Pid(), Notes: c.Notes()}); err != nil {
		return err
	}
	for {
		select {
		case <-c.Done():
			os.Exit(1)
		case line, ok := <-lines:
			if !ok {
				return c.Close()
			}
			var o order
			if err := json.Unmarshal(line, &o); err != nil {
				return err
			}
			if err := out.Encode(o.give(c)); err != nil {
				return err
			}
		}
	}
}

func (o order) give(c *Client) report {
	ctx := context.Background()
	var r report
	var err error
	switch o.Verb {
	case "apply":
		r.Applied, err = c.Apply(ctx, o.Rollout, o.Changes, "test")
	case "revert":
		r.Restored, err = c.Revert(ctx, o.Rollout, o.Targets...)
	case "commit":
		err = c.Commit(ctx, o.Rollout)
	case "rollback":
		r.Restored, err = c.Rollback(ctx, o.Rollout, "test")
	case "flush":
		err = flush(ctx, c)
	case "release":
		r.Restored, err = c.Release(ctx, o.Rollout, o.Changes, "test")
	default:
		err = fmt.Errorf("order %q: %w", o.Verb, tune.ErrUsage)
	}
	r.Error = toWire(err)
	return r
}

// flush waits until the journal knows of everything that has been answered: what was put back is recorded after
// it was told. The guard waits for its queue, but not for long.
func flush(ctx context.Context, c *Client) error {
	for range 200 {
		began := time.Now()
		if _, err := c.Audit(ctx); err != nil {
			return err
		}
		if time.Since(began) < standingWait {
			return nil
		}
	}
	return errors.New("the journal's queue does not become empty")
}

// metHost tells of every access to a tunable before it begins and after it ended, and waits until the
// test lets it go on: the test kills, stops, writes or breaks something there, or nothing.
type metHost struct {
	*host.Host
	meet io.Writer
	on   io.Reader
}

func (h metHost) access(format string, args ...any) {
	if _, err := fmt.Fprintf(h.meet, format+"\n", args...); err != nil {
		return // the test has ended
	}
	_, _ = h.on.Read(make([]byte, 1))
}

func (h metHost) Write(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	h.access("before write %s@%s=%s", t.Instance(target), target, v)
	got, err := h.Host.Write(t, target, v)
	h.access("after write %s@%s: %q %v", t.Instance(target), target, got, err)
	return got, err
}

func (h metHost) Restore(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	h.access("before restore %s@%s=%s", t.Instance(target), target, v)
	got, err := h.Host.Restore(t, target, v)
	h.access("after restore %s@%s: %q %v", t.Instance(target), target, got, err)
	return got, err
}

func helperMetGuard() error {
	h := host.New(host.Config{})
	boot := os.Getenv(envBoot)
	return Run(context.Background(), Config{Socket: os.NewFile(3, "parent"), Actuator: metHost{h, os.NewFile(4, "meet"), os.NewFile(5, "go on")},
		Catalogue: metCatalogue{}, DataDir: os.Getenv(envData), RunDir: os.Getenv(envRun), BootID: boot,
		LockWait: 5 * time.Second, Pace: 1e6, Now: time.Now})
}

// metCatalogue has tunables of a namespace, of a loop device's queue, of a control group, and one that can be busy.
type metCatalogue struct{ netCatalogue }

func (c metCatalogue) Lookup(name string) (*tune.Tunable, string, error) {
	for _, t := range []tune.Tunable{
		{Name: "mm/ksm/max_page_sharing", Scope: tune.ScopeHost, Method: tune.MethodSysfs, Path: "kernel/mm/ksm/max_page_sharing", Kind: tune.KindInteger},
		{Name: "block/{device}/queue/read_ahead_kb", Scope: tune.ScopeDevice, Method: tune.MethodSysfs, Kind: tune.KindInteger},
		{Name: "block/{device}/queue/nr_requests", Scope: tune.ScopeDevice, Method: tune.MethodSysfs, Kind: tune.KindInteger},
		{Name: "cgroup/memory.swappiness", Scope: tune.ScopeCgroup, Method: tune.MethodCgroup, Path: "memory.swappiness", Kind: tune.KindInteger},
	} {
		if t.Path == "" {
			t.Path = t.Name
		}
		if target, ok := t.Match(name); ok {
			return &t, target, nil
		}
	}
	return c.netCatalogue.Lookup(name)
}
