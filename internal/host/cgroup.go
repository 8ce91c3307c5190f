package host

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"semantos/internal/tune"
)

// mount is one line of /proc/self/mountinfo.
type mount struct {
	Root    string // of the mounted filesystem, "/" unless a part of it is mounted (a container)
	Point   string
	Type    string
	Options []string // of the superblock: a v1 hierarchy's controllers stand here
}

// parseMounts reads mountinfo; a line it does not understand is left out.
func parseMounts(text string) []mount {
	var out []mount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 6 || len(tail) < 2 {
			continue
		}
		m := mount{Root: unescape(head[3]), Point: unescape(head[4]), Type: tail[0]}
		if len(tail) > 2 {
			m.Options = strings.Split(tail[2], ",")
		}
		out = append(out, m)
	}
	return out
}

// unescape undoes the octal escapes of mountinfo (\040 is a space).
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func (h *Host) mounts() ([]mount, error) {
	text, err := os.ReadFile(h.Path("/proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return parseMounts(string(text)), nil
}

// hierarchy is one mounted cgroup tree.
type hierarchy struct {
	point   string // below the host's root
	root    string // path of the mounted part inside the hierarchy
	v2      bool
	serving []string // v1 controllers
}

// dir gives the directory of a cgroup, named by its path from the hierarchy's root.
func (g hierarchy) dir(cgroup string) (string, bool) {
	rel := cgroup
	if g.root != "/" {
		var ok bool
		if rel, ok = strings.CutPrefix(cgroup, g.root); !ok || rel != "" && rel[0] != '/' {
			return "", false
		}
	}
	return filepath.Join(g.point, rel), true
}

// hierarchies lists the mounted cgroup trees, v2 first.
func (h *Host) hierarchies() ([]hierarchy, error) {
	mounts, err := h.mounts()
	if err != nil {
		return nil, err
	}
	var out []hierarchy
	for _, m := range mounts {
		switch m.Type {
		case "cgroup2":
			out = append(out, hierarchy{point: h.Path(m.Point), root: m.Root, v2: true})
		case "cgroup":
			out = append(out, hierarchy{point: h.Path(m.Point), root: m.Root, serving: m.Options})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].v2 && !out[j].v2 })
	return out, nil
}

// UnifiedRoot gives where the control groups of version 2 are mounted, and whether all of the machine's
// are below: in a container only a part is.
func (h *Host) UnifiedRoot() (dir string, whole bool, err error) {
	trees, err := h.hierarchies()
	if err != nil {
		return "", false, err
	}
	for _, g := range trees {
		if !g.v2 {
			continue
		}
		if _, err := os.Stat(filepath.Join(g.point, "cgroup.type")); os.IsNotExist(err) {
			return g.point, true, nil // every group but the root has that file
		}
		if dir == "" {
			dir = g.point
		}
	}
	if dir == "" {
		return "", false, fmt.Errorf("no control groups of version 2 are mounted: %w", tune.ErrUnsupported)
	}
	return dir, false, nil
}

// hierarchiesFor narrows to those that can hold a file: v2, or the v1 tree of the file's controller.
func (h *Host) hierarchiesFor(file string) ([]hierarchy, error) {
	all, err := h.hierarchies()
	if err != nil {
		return nil, err
	}
	controller, _, _ := strings.Cut(file, ".")
	fit := slices.DeleteFunc(all, func(g hierarchy) bool { return !g.v2 && !slices.Contains(g.serving, controller) })
	if len(fit) == 0 {
		return nil, fmt.Errorf("no cgroup tree with %s is mounted: %w", controller, tune.ErrUnsupported)
	}
	return fit, nil
}

// cgroupPlace finds the file in the first tree that has it: a controller is either in v1 or in v2.
func (h *Host) cgroupPlace(file, cgroup string) (place, error) {
	if err := cleanRel(file); err != nil || strings.Contains(file, "/") {
		return place{}, fmt.Errorf("cgroup file %q: %w", file, tune.ErrDenied)
	}
	if err := checkCgroup(cgroup); err != nil {
		return place{}, err
	}
	trees, err := h.hierarchiesFor(file)
	if err != nil {
		return place{}, err
	}
	var first *place
	for _, g := range trees {
		dir, ok := g.dir(cgroup)
		if !ok {
			continue
		}
		rel, err := filepath.Rel(g.point, filepath.Join(dir, file))
		if err != nil {
			continue
		}
		p := place{root: g.point, rel: rel, denied: func(rel string) bool { return deniedBy(deniedCgroup)(filepath.Base(rel)) }}
		if p.exists() {
			return p, p.check()
		}
		// Of those without the file, one that at least has the cgroup tells absent from gone.
		if _, err := os.Stat(dir); first == nil || err == nil {
			first = &p
		}
	}
	if first == nil {
		return place{}, fmt.Errorf("cgroup %s lies outside what is mounted: %w", cgroup, tune.ErrGone)
	}
	return *first, first.check()
}

func checkCgroup(cgroup string) error {
	if !strings.HasPrefix(cgroup, "/") {
		return &tune.Error{Op: "find", Subject: fmt.Sprintf("cgroup %q", cgroup), Err: tune.ErrUsage,
			Hint: "name it by its path from the root of the hierarchy, /system.slice/nginx.service"}
	}
	if cgroup == "/" {
		return nil
	}
	return cleanRel(cgroup[1:])
}

// maxCgroups bounds a listing.
const maxCgroups = 4096

// cgroupsWith lists the cgroups that have the file, in every tree.
func (h *Host) cgroupsWith(file string) ([]string, error) {
	trees, err := h.hierarchiesFor(file)
	if err != nil {
		return nil, err
	}
	all, err := h.hierarchies()
	if err != nil {
		return nil, err
	}
	point := map[string]bool{}
	for _, g := range all {
		point[g.point] = true
	}
	seen := map[string]bool{}
	for _, g := range trees {
		err := filepath.WalkDir(g.point, func(p string, d fs.DirEntry, err error) error {
			if err != nil || len(seen) >= maxCgroups {
				return fs.SkipDir // a cgroup removed meanwhile, or enough of them
			}
			if !d.IsDir() {
				return nil
			}
			if p != g.point && point[p] {
				return fs.SkipDir // another tree mounted inside this one
			}
			if _, err := os.Stat(filepath.Join(p, file)); err == nil {
				seen[filepath.Join(g.root, strings.TrimPrefix(p, g.point), "/")] = true
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
	}
	return sortedKeys(seen), nil
}

// ownCgroup gives this process's cgroup in the tree that has the file.
func (h *Host) ownCgroup(file string) (string, error) {
	text, err := os.ReadFile(h.Path("/proc/self/cgroup"))
	if err != nil {
		return "", fmt.Errorf("read own cgroup: %w", err)
	}
	controller, _, _ := strings.Cut(file, ".")
	unified := ""
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if slices.Contains(strings.Split(parts[1], ","), controller) {
			return parts[2], nil
		}
		if parts[1] == "" {
			unified = parts[2]
		}
	}
	if unified == "" {
		return "", fmt.Errorf("own cgroup of %s: %w", controller, tune.ErrUnsupported)
	}
	return unified, nil
}

// debugfs finds where debugfs is mounted. A re-rooted tree is taken as it is.
func (h *Host) debugfs() (string, error) {
	if !h.real() {
		return h.Path(debugfsRoot), nil
	}
	mounts, err := h.mounts()
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.Type == "debugfs" && m.Root == "/" {
			return m.Point, nil
		}
	}
	return "", &tune.Error{Op: "find", Subject: "debugfs", Err: fmt.Errorf("not mounted: %w", tune.ErrUnsupported),
		Hint: "mount it with: mount -t debugfs debugfs " + debugfsRoot}
}

func sortedKeys(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
