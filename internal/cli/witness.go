package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"semantos/ebpf/writers"
	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/safety/guard"
)

// witness sees who else writes tunables: sysctls by a program in the kernel, other files by fanotify. It is
// the guard's, whose own writes it tells apart.
type witness struct {
	host *host.Host
	off  string // why no program may be loaded

	mu      sync.Mutex
	sysctls *writers.Watch
	files   *host.FileWatch
	partly  string // what the program does not see
	noCalls string // why there is no program, "" while it may still come
	noFiles string
}

// newWitness gives none below another root: the kernel that would tell is not behind it.
func (a *app) newWitness(h *host.Host) guard.Witness {
	if a.cfg.Root != "" {
		return nil
	}
	return a.makeWitness(h)
}

func (a *app) makeWitness(h *host.Host) *witness {
	w := &witness{host: h, noCalls: "the watch had not begun", noFiles: "the watch had not begun"}
	if a.cfg.UseEBPF == "off" {
		w.off = "USE_EBPF=off"
	}
	return w
}

// Start begins with what costs nothing.
func (w *witness) Start() {
	files, err := w.host.WatchFiles()
	w.mu.Lock()
	w.files, w.noFiles = files, reasonOf(err)
	w.mu.Unlock()
	sysctls, partly, err := w.watchSysctls()
	w.mu.Lock()
	w.sysctls, w.partly, w.noCalls = sysctls, partly, reasonOf(err)
	w.mu.Unlock()
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (w *witness) watchSysctls() (*writers.Watch, string, error) {
	if w.off != "" {
		return nil, "", fmt.Errorf("%s: %w", w.off, tune.ErrUnsupported)
	}
	root, whole, err := w.host.UnifiedRoot()
	if err != nil {
		return nil, "", err
	}
	partly := ""
	if !whole {
		partly = "only processes of this container's control group are seen"
	}
	watch, err := writers.Open(root)
	return watch, partly, err
}

// Hold marks the file of a tunable; a sysctl needs none.
func (w *witness) Hold(t *tune.Tunable, target string) {
	w.mu.Lock()
	files := w.files
	w.mu.Unlock()
	if files != nil && host.IsFile(t.Method) {
		_ = files.Hold(t, target) // Writes then says that it is not watched
	}
}

// Writes asks whoever can know.
func (w *witness) Writes(t *tune.Tunable, target string) tune.Seen {
	w.mu.Lock()
	sysctls, files, partly, noCalls, noFiles := w.sysctls, w.files, w.partly, w.noCalls, w.noFiles
	w.mu.Unlock()
	switch {
	case t.Method == tune.MethodSysctl && sysctls == nil:
		return tune.Seen{Why: noCalls}
	case t.Method == tune.MethodSysctl:
		var netns uint64
		if t.Scope == tune.ScopeNetns {
			if _, err := fmt.Sscanf(target, "netns:%d", &netns); err != nil {
				return tune.Seen{Why: "its network namespace has no number"}
			}
		}
		seen := sysctls.Writes(strings.Trim(t.PathOf(target), "/"), netns)
		if seen.Why == "" {
			seen.Why = partly
		}
		return seen
	case !host.IsFile(t.Method):
		return tune.Seen{Why: "the kernel does not tell for " + string(t.Method)}
	case files == nil:
		return tune.Seen{Why: noFiles}
	}
	return files.Writes(t, target)
}

// Close ends it.
func (w *witness) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sysctls != nil {
		_ = w.sysctls.Close() // the kernel detaches it with the process anyway
	}
	if w.files != nil {
		_ = w.files.Close()
	}
}

// witnessFindings says whether the kernel tells who writes, by trying.
func (a *app) witnessFindings(h *host.Host) []finding {
	if a.cfg.Root != "" {
		return []finding{{Area: "other writers", Status: "limited", Text: "not told below another ROOT"}}
	}
	w := a.makeWitness(h)
	w.Start()
	defer w.Close()
	sysctls := finding{Area: "other writers", Status: "ok", Text: "the kernel tells who writes a sysctl (a program at the root of the control groups)"}
	switch {
	case w.noCalls != "":
		sysctls.Status, sysctls.Text = "limited", "who writes a sysctl is not told: "+w.noCalls
		sysctls.Hint = "yields stay as safe as they are, but name nobody; it takes Linux 5.8 with BTF, root, and cgroup2 mounted"
	case w.partly != "":
		sysctls.Status, sysctls.Text = "limited", "who writes a sysctl is told in part: "+w.partly
	}
	files := finding{Area: "other writers", Status: "ok", Text: "the kernel tells who writes a file below /sys, of a control group or of a process (fanotify)"}
	if w.noFiles != "" {
		files.Status, files.Text = "limited", "who writes a file below /sys, of a control group or of a process is not told: "+w.noFiles
		files.Hint = "yields stay as safe as they are, but name nobody"
	}
	return []finding{sysctls, files}
}

// whoTime bounds the question: the loop goes on without an answer.
const whoTime = time.Second

// who asks the guard who made a kept tunable what it was found to be.
func (t *trials) who(found tune.Change) string {
	ctx, cancel := context.WithTimeout(context.Background(), whoTime)
	defer cancel()
	told, err := t.guard.Who(ctx, []tune.Change{{Tunable: found.Tunable, Target: found.Target, Current: found.Current}})
	if err != nil {
		return guard.NotKnown + err.Error()
	}
	return told[0]
}
