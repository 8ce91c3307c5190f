package guard

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
)

// ground is what one schedule changes for real, and nothing that anybody else looks at: two network
// namespaces, a loop device, a control group; and in a mount namespace of its own the data folder's disk.
type ground struct {
	t     *testing.T
	id    string
	work  string // a tmpfs
	data  string // the mount point of the data folder's disk
	run   string
	ext4  string // the loop device below the data folder; "" is a tmpfs
	own   string // the namespace of parent and guard
	other string // one that can vanish
	loop  string // target of the loop device, "" when there is none
	group string // target of the control group, "" when there is none
	held  *exec.Cmd
	host  *host.Host
}

// newGround moves the test's thread into fresh namespaces; children started from it are in them too.
func newGround(t *testing.T, id string, ext4 bool) *ground {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces, mounts, devices and control groups of its own")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		t.Skipf("needs root: unshare: %v", err)
	}
	g := &ground{t: t, id: id, work: t.TempDir(), host: host.New(host.Config{})}
	// A slave and not private: what others unmount on the host must not stay busy because of us.
	g.must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""))
	g.must(unix.Mount("work", g.work, "tmpfs", 0, "size=32m,mode=700"))
	t.Cleanup(func() { g.detach(g.work) })
	g.data, g.run = filepath.Join(g.work, "data"), filepath.Join(g.work, "run")
	g.must(os.Mkdir(g.data, 0o700))
	g.must(os.Mkdir(g.run, 0o700))
	t.Cleanup(g.unmount)
	if ext4 {
		g.format()
	} else {
		g.must(unix.Mount("data", g.data, "tmpfs", 0, "size=1m,mode=700"))
	}
	g.own = ownNetns()
	g.unshareOther()
	g.attach()
	g.makeGroup()
	t.Cleanup(func() { g.endOther(); g.endLoop(); g.endGroup() })
	return g
}

func (g *ground) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *ground) detach(path string) { _ = unix.Unmount(path, unix.MNT_DETACH) } // also ends with the thread's namespace

// command runs a tool of the system.
func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// image makes a loop device of so many bytes.
func (g *ground) image(name string, size int64) (string, error) {
	path := filepath.Join(g.work, name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return "", err
	}
	return command("losetup", "-f", "--show", path)
}

// format makes the data folder an ext4 that turns read-only when it meets an error, as a root file system does.
func (g *ground) format() {
	dev, err := g.image("disk", 4<<20)
	if err == nil {
		g.ext4 = dev
		_, err = command("mkfs.ext4", "-q", "-b", "1024", dev)
	}
	if err != nil {
		g.t.Skipf("needs a loop device with an ext4: %v", err)
	}
	g.mount()
}

func (g *ground) mount() {
	g.t.Helper()
	g.must(unix.Mount(g.ext4, g.data, "ext4", 0, "errors=remount-ro"))
}

func (g *ground) unmount() {
	if err := unix.Unmount(g.data, 0); err != nil {
		g.detach(g.data)
	}
	if g.ext4 != "" {
		_, _ = command("losetup", "-d", g.ext4) // what is still mounted somewhere is detached with its mount
	}
}

// turnReadOnly has the file system meet an error. Nothing can be written to it, also through files that
// are open, until it is mounted anew.
func (g *ground) turnReadOnly() {
	g.t.Helper()
	if err := os.WriteFile("/sys/fs/ext4/"+filepath.Base(g.ext4)+"/trigger_fs_error", []byte("test"), 0o200); err != nil {
		g.t.Skipf("needs an ext4 that can be told to fail: %v", err)
	}
	if err := os.WriteFile(filepath.Join(g.data, "probe"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		g.t.Fatalf("the file system is not read-only: %v", err)
	}
}

// remount is what an operator does about that; nobody may have files open there.
func (g *ground) remount() {
	g.t.Helper()
	g.must(unix.Unmount(g.data, 0))
	g.mount()
}

// fill leaves no space on the data folder's disk.
func (g *ground) fill() {
	g.t.Helper()
	f, err := os.OpenFile(filepath.Join(g.data, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	g.must(err)
	for chunk := make([]byte, 64<<10); err == nil || len(chunk) > 512; {
		if err != nil {
			chunk = chunk[:len(chunk)/2]
		}
		_, err = f.Write(chunk)
	}
	_ = f.Close() // full, as wanted
}

func (g *ground) empty() {
	g.t.Helper()
	if err := os.Remove(filepath.Join(g.data, "filler")); err != nil && !errors.Is(err, os.ErrNotExist) {
		g.t.Fatal(err)
	}
}

// unshareOther makes the second namespace, which a process holds.
func (g *ground) unshareOther() {
	g.t.Helper()
	g.held = exec.Command("sleep", "3600")
	g.held.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	g.must(g.held.Start())
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", g.held.Process.Pid))
	g.must(err)
	g.other = "netns:" + strings.Trim(link, "net:[]")
}

func (g *ground) endOther() {
	if g.other != "" {
		_ = g.held.Process.Kill()
		_ = g.held.Wait()
		g.other = ""
	}
}

// attach makes the loop device whose queue is tuned, with a number of its own: what a queue was set to stays with
// the number for whoever comes next. Without one the schedule goes without.
func (g *ground) attach() {
	path := filepath.Join(g.work, "block")
	g.must(os.WriteFile(path, make([]byte, 1<<20), 0o600))
	n, err := g.control(unix.LOOP_CTL_ADD, 100+os.Getpid()%1000, unix.EEXIST, 1)
	if err == nil {
		g.loop = fmt.Sprintf("loop%d", n)
		_, err = command("losetup", "/dev/"+g.loop, path)
	}
	if err != nil {
		g.t.Logf("no loop device: %v", err)
		g.loop = ""
	}
}

// control asks for one loop device more or less, with the next number after a refusal or the same one again.
func (g *ground) control(request uint, n int, again unix.Errno, next int) (int, error) {
	f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	for start := time.Now(); ; n += next {
		err := unix.IoctlSetInt(int(f.Fd()), request, n)
		if !errors.Is(err, again) || time.Since(start) > patience {
			return n, err
		}
		if next == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// endLoop detaches the device and takes its number away.
func (g *ground) endLoop() {
	if g.loop == "" {
		return
	}
	_, err := command("losetup", "-d", "/dev/"+g.loop)
	n, _ := strconv.Atoi(strings.TrimPrefix(g.loop, "loop"))
	if g.loop = ""; err == nil {
		_, err = g.control(unix.LOOP_CTL_REMOVE, n, unix.EBUSY, 0)
	}
	if err != nil {
		g.t.Logf("end of loop device %d: %v", n, err)
	}
}

// swapLoop gives the device's name to another one.
func (g *ground) swapLoop() {
	name := g.loop
	_, err := command("losetup", "-d", "/dev/"+name)
	g.must(err)
	if _, err := command("losetup", "/dev/"+name, filepath.Join(g.work, "block")); err != nil {
		g.t.Logf("somebody else has taken %s: %v", name, err)
		g.loop = ""
	}
}

const swappinessDir = "/sys/fs/cgroup/memory"

func (g *ground) makeGroup() {
	name := fmt.Sprintf("/semantos-story-%d-%s", os.Getpid(), g.id)
	if err := os.Mkdir(swappinessDir+name, 0o755); err != nil {
		g.t.Logf("no control group: %v", err)
		return
	}
	g.group = name
}

func (g *ground) endGroup() {
	if g.group != "" {
		_ = os.Remove(swappinessDir + g.group)
		g.group = ""
	}
}

// keys are the tunables there are now, as "name@target".
func (g *ground) keys() []string {
	var out []string
	for _, n := range netNames() {
		out = append(out, n+"@"+g.own)
	}
	if g.other != "" {
		out = append(out, "net.ipv4.tcp_rmem@"+g.other, "net.core.somaxconn@"+g.other)
	}
	if g.loop != "" {
		out = append(out, "block/"+g.loop+"/queue/read_ahead_kb@"+g.loop, "block/"+g.loop+"/queue/nr_requests@"+g.loop)
	}
	if g.group != "" {
		out = append(out, "cgroup/memory.swappiness@"+g.group)
	}
	return out
}

// path is the file of a key; those of the second namespace show only inside it.
func (g *ground) path(key string) string {
	name, target, _ := strings.Cut(key, "@")
	switch {
	case strings.HasPrefix(name, "block/"):
		return "/sys/" + name
	case strings.HasPrefix(name, "cgroup/"):
		return swappinessDir + target + "/" + strings.TrimPrefix(name, "cgroup/")
	}
	return "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
}

// in does something where a key's file shows the key.
func (g *ground) in(key string, do func() error) error {
	if _, target, _ := strings.Cut(key, "@"); target == g.other && target != "" {
		return g.host.InNetns(target, do)
	}
	return do()
}

func (g *ground) read(key string) string {
	var data []byte
	err := g.in(key, func() (err error) { data, err = os.ReadFile(g.path(key)); return err })
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(data)), " ")
}

// write is somebody else's; a queue that is busy with another write is asked again.
func (g *ground) write(key, value string) error {
	return g.in(key, func() error {
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			err := os.WriteFile(g.path(key), []byte(value), 0o644)
			if !errors.Is(err, unix.EBUSY) || time.Since(start) > patience {
				return err
			}
		}
	})
}

func (g *ground) readAll() map[string]string {
	out := map[string]string{}
	for _, key := range g.keys() {
		out[key] = g.read(key)
	}
	return out
}

// forget drops what was on a target.
func forget[V any](m map[string]V, target string) {
	maps.DeleteFunc(m, func(key string, _ V) bool { return strings.HasSuffix(key, "@"+target) })
}

// reboot gives everything a successor with fresh values, and takes the run folder away, as a boot does.
func (g *ground) reboot() {
	g.t.Helper()
	g.must(unix.Unshare(unix.CLONE_NEWNET))
	g.own = ownNetns()
	g.endOther()
	g.unshareOther()
	g.endLoop()
	g.attach()
	g.endGroup()
	g.makeGroup()
	entries, err := os.ReadDir(g.run)
	g.must(err)
	for _, e := range slices.Backward(entries) {
		g.must(os.RemoveAll(filepath.Join(g.run, e.Name())))
	}
}
