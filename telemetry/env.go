package telemetry

import (
	"fmt"
	"sort"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// sceneAge is how long what changes slowly (namespaces, owners of sockets, lists of cgroups) is
// believed before it is looked up again.
const sceneAge = 5 * time.Second

// env is what the collectors share: the files, the clock of the tick, the namespaces, the sockets.
type env struct {
	host    Machine
	aid     Aid
	now     func() time.Time
	limits  Limits
	files   *files
	at      time.Time
	nsAt    time.Time
	ns      []nsview
	nsMiss  string
	sockets *socketCache
}

// nsview is one network namespace: own is the one this program's thread is in.
type nsview struct {
	target string // netns:<inode>
	proc   string // where its /proc/<pid>/net is found, relative to the root
	own    bool
	labels map[string]string
}

// file names a file of the namespace's /proc/net.
func (n nsview) file(name string) string { return n.proc + "/net/" + name }

// entry gives the frame's entry of the namespace.
func (n nsview) entry(f *frame) *entry {
	return f.entity(tune.EntityNetns, n.target, 0, n.labels)
}

func newEnv(cfg Config) *env {
	e := &env{host: cfg.Host, aid: cfg.Aid, now: cfg.Now, limits: cfg.Limits.orDefault(), files: newFiles(cfg.Host.Path)}
	source := cfg.Sockets
	if source == nil {
		source = &kernelSockets{}
	}
	e.sockets = newSocketCache(e, source)
	return e
}

// begin starts a tick.
func (e *env) begin() time.Time {
	e.at = e.now()
	if e.ns == nil || e.at.Sub(e.nsAt) >= sceneAge || e.at.Before(e.nsAt) {
		e.nsAt = e.at
		e.ns, e.nsMiss = e.findNamespaces()
	}
	e.sockets.begin()
	return e.at
}

func (e *env) reportLimits(f *frame) {
	if e.nsMiss != "" {
		f.miss("namespaces", e.nsMiss)
	}
}

// findNamespaces lists our own namespace first, then those that hold a socket, by target. Our own is
// the thread's, not the process's: that is where our sockets and files look.
func (e *env) findNamespaces() ([]nsview, string) {
	own := nsview{target: "netns:self", proc: "proc/thread-self", own: true}
	var st unix.Stat_t
	if err := unix.Stat(e.host.Path("proc/thread-self/ns/net"), &st); err == nil {
		own.target = "netns:" + strconv.FormatUint(st.Ino, 10)
	}
	if unix.Stat(e.host.Path("proc/thread-self/net"), &st) != nil {
		own.proc = "proc" // a re-rooted tree has no thread-self
	}
	list, err := e.host.Namespaces()
	miss := ""
	if err != nil {
		miss = "only our own network namespace is seen: " + err.Error()
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Target < list[j].Target })
	out := []nsview{own}
	for _, n := range list {
		switch {
		case n.Target == own.target || own.target == "netns:self":
			out[0].target = n.Target
			own.target = n.Target
			out[0].labels = map[string]string{"netns": n.Target, "name": n.Name}
		case n.Pid <= 0:
			continue
		case len(out) >= e.limits.Namespaces:
			miss = fmt.Sprintf("%d network namespaces hold sockets; %d are watched", len(list), e.limits.Namespaces)
		default:
			out = append(out, nsview{target: n.Target, proc: "proc/" + strconv.Itoa(n.Pid),
				labels: map[string]string{"netns": n.Target, "name": n.Name}})
		}
	}
	if out[0].labels == nil {
		out[0].labels = map[string]string{"netns": out[0].target, "name": ""}
	}
	return out, miss
}

// inside calls visit where the sockets of a namespace are seen: on a thread inside it, or here with sockets
// of it that the aid opens.
func (e *env) inside(n nsview, visit func() error) error {
	kernel, ours := e.sockets.source.(*kernelSockets)
	switch {
	case n.own:
		return visit()
	case e.aid == nil || !ours:
		return e.host.InNetns(n.target, visit)
	}
	kernel.open = func() (int, error) { return e.aid.DiagSocket(n.target) }
	defer func() {
		kernel.drop()
		kernel.open = nil
	}()
	return visit()
}

func (e *env) close() {
	e.files.close()
}

// eachNamespace runs read for every namespace and folds the outcome: one that fails is named in
// Missing, and only when all fail the collector fails.
func (e *env) eachNamespace(f *frame, name string, read func(n nsview) error) error {
	var firstErr error
	good := 0
	for _, n := range e.ns {
		if err := read(n); err != nil {
			if firstErr == nil {
				firstErr = err
			}
			if !n.own {
				f.miss(name, fmt.Sprintf("%s: %v", n.target, err))
			}
			continue
		}
		good++
	}
	if good == 0 && firstErr != nil {
		return firstErr
	}
	return nil
}
