package probe_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/ebpf/runqlat"
)

// held is what a process holds of the kernel's BPF, by kind ("prog_id", "map_id", "link_id").
type held map[string][]uint32

func holds(t *testing.T, pid int) held {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	h := held{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue // closed meanwhile
		}
		link := false // a link's description has its program's id too
		for s := bufio.NewScanner(f); s.Scan(); {
			kind, rest, _ := strings.Cut(s.Text(), ":")
			var id uint32
			if _, err := fmt.Sscan(rest, &id); err != nil {
				continue
			}
			switch kind {
			case "link_id":
				link = true
				h[kind] = append(h[kind], id)
			case "prog_id", "map_id":
				if !link {
					h[kind] = append(h[kind], id)
				}
			}
		}
		f.Close()
	}
	return h
}

// alive lists what the kernel still has of it. It frees programs and maps a little after their last user.
func (h held) alive() (left []string) {
	open := map[string]func(uint32) (interface{ Close() error }, error){
		"prog_id": func(id uint32) (interface{ Close() error }, error) { return ebpf.NewProgramFromID(ebpf.ProgramID(id)) },
		"map_id":  func(id uint32) (interface{ Close() error }, error) { return ebpf.NewMapFromID(ebpf.MapID(id)) },
		"link_id": func(id uint32) (interface{ Close() error }, error) { return link.NewFromID(link.ID(id)) },
	}
	for kind, ids := range h {
		for _, id := range ids {
			x, err := open[kind](id)
			if err == nil {
				x.Close()
			}
			if !errors.Is(err, os.ErrNotExist) {
				left = append(left, fmt.Sprintf("%s %d (%v)", kind, id, err))
			}
		}
	}
	return left
}

func (h held) gone(t *testing.T) {
	t.Helper()
	var left []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		runtime.GC() // the memory of variables is unmapped when it is collected
		if left = h.alive(); len(left) == 0 {
			return
		}
	}
	t.Errorf("left behind: %v", left)
}

func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func TestNothingLeft(t *testing.T) {
	probetest.Load(t, runqlat.New(), probe.Options{}).Close() // what the library itself keeps open is open now
	before := descriptors(t)
	var loaded []held
	for range 3 {
		loaded = append(loaded, loadAndClose(t))
	}
	// One that fails half way: a tracepoint is missing.
	if _, err := probe.Load(probetest.Renames(false), probe.Options{}); err == nil {
		t.Fatal("loaded")
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	for _, h := range loaded {
		h.gone(t)
	}
}

// loadAndClose gives what a probe held. The probe itself is not kept: the memory of its variables is
// unmapped, and their maps freed, when it is collected.
func loadAndClose(t *testing.T) held {
	t.Helper()
	p, err := probe.Load(runqlat.New(), probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := holds(t, os.Getpid())
	if len(h["prog_id"]) == 0 || len(h["map_id"]) == 0 || len(h["link_id"]) == 0 || len(h.alive()) == 0 {
		t.Fatalf("holds %v", h)
	}
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if h := holds(t, os.Getpid()); len(h["link_id"]) != 0 {
		t.Errorf("paused, and still attached: %v", h)
	}
	if err := errors.Join(p.Resume(), p.Close(), p.Close(), p.Resume(), p.Pause()); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestKilled holds that nothing outlives a process that is killed while it has probes loaded.
func TestKilled(t *testing.T) {
	c := probetest.Start(t, "holder")
	if s := c.Hear(); s != "ready" {
		t.Skip(s)
	}
	h := holds(t, c.Pid)
	if len(h["prog_id"]) < 2 || len(h["link_id"]) < 2 || len(h["map_id"]) < 4 {
		t.Fatalf("it holds %v", h)
	}
	if left := h.alive(); len(left) < len(h["prog_id"])+len(h["map_id"])+len(h["link_id"]) {
		t.Fatalf("of %v only %v are there", h, left)
	}
	c.Kill()
	h.gone(t)
}
