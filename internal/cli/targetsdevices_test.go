package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loops gives n loop devices over files in memory, with the queue's files as wanted; all is put back.
func loops(t *testing.T, n int, queue ...[2]string) []string {
	t.Helper()
	for _, tool := range []string{"losetup", "fio"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128m"); err != nil {
		t.Skipf("needs a file system of its own: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	var out []string
	for i := range n {
		img := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(img, make([]byte, 16<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		dev := attachLoop(t, img)
		setQueue(t, dev, queue)
		out = append(out, dev)
	}
	return out
}

// attachLoop gives the name of a loop device over an image, which is nobody else's.
func attachLoop(t *testing.T, image string) string {
	t.Helper()
	text, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	dev := strings.TrimSpace(string(text))
	t.Cleanup(func() {
		if err := exec.Command("losetup", "--detach", dev).Run(); err != nil {
			t.Error(err)
		}
	})
	return filepath.Base(dev)
}

// setQueue writes files of a device's queue and has the test put them back, in the same order: a scheduler
// moves what comes after it.
func setQueue(t *testing.T, device string, queue [][2]string) {
	t.Helper()
	var old [][2]string
	write := func(files [][2]string) {
		for _, f := range files {
			if err := os.WriteFile(filepath.Join("/sys/block", device, "queue", f[0]), []byte(f[1]), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	for _, f := range queue {
		text, err := os.ReadFile(filepath.Join("/sys/block", device, "queue", f[0]))
		if err != nil {
			t.Fatal(err)
		}
		value := string(text)
		if _, chosen, ok := strings.Cut(value, "["); ok { // one word of several
			value, _, _ = strings.Cut(chosen, "]")
		}
		old = append(old, [2]string{f[0], value})
	}
	t.Cleanup(func() { write(old) })
	write(queue)
}

// load has fio work on each device until the test ends.
func load(t *testing.T, devices []string, how ...string) {
	t.Helper()
	args := append([]string{"--output=/dev/null", "--thread", "--time_based", "--runtime=300", "--ioengine=psync"}, how...)
	for _, d := range devices {
		args = append(args, "--name="+d, "--filename=/dev/"+d)
	}
	cmd := exec.Command("fio", args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if got, err := os.ReadFile("/sys/block/" + devices[len(devices)-1] + "/stat"); err == nil && !strings.HasPrefix(strings.TrimSpace(string(got)), "0 ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("fio does not begin")
		}
	}
}

// queueFile names one file of each device's queue, for --set and for its witness.
func queueFile(devices []string, file string) (set []string, all []*exposureWitness) {
	for _, d := range devices {
		set = append(set, "block/"+d+"/queue/"+file)
		all = append(all, fileWitness(d, "/sys/block/"+d+"/queue/"+file))
	}
	return set, all
}

// TestTargetsOfDevices: five loop devices under the same paced load, of which one at a time has shorter queues,
// which does nothing to them.
func TestTargetsOfDevices(t *testing.T) {
	ns := freshHost(t)
	devices := loops(t, 5, [2]string{"scheduler", "none"}, [2]string{"nr_requests", "128"})
	load(t, devices, "--rw=randread", "--bs=16k", "--direct=1", "--rate_iops=100")
	set, all := queueFile(devices, "nr_requests")
	got, r := applyTo(t, ns, "device:block/loop*", set, all, "120", "--margin", "0.9", "--stage-time", "10s", "--steps", "20,50,100")
	endedHarmless(t, got, r)
	exposedAsSaid(t, r, all, 3*time.Second, 0)
}

// TestTargetsOfDevicesUndoHarm: readers that open their device anew for each two MiB lose by reading nothing ahead.
func TestTargetsOfDevicesUndoHarm(t *testing.T) {
	ns := freshHost(t)
	devices := loops(t, 5, [2]string{"scheduler", "none"}, [2]string{"read_ahead_kb", "256"})
	readers(t, devices)
	set, all := queueFile(devices, "read_ahead_kb")
	got, r := applyTo(t, ns, "device:block/loop*,latency=off,files=new", set, all, "0", "--stage-time", "5s", "--steps", "20,50,100")
	endedAsHarm(t, got, r, all, 2*time.Second)
}

// readers read two MiB of each device in order, rest, and open it anew, until the test ends.
func readers(t *testing.T, devices []string) {
	t.Helper()
	for _, d := range devices {
		stop := make(chan struct{})
		ended := make(chan error, 1)
		go func() { ended <- reader("/dev/"+d, stop) }()
		t.Cleanup(func() {
			close(stop)
			if err := <-ended; err != nil {
				t.Errorf("read %s: %v", d, err)
			}
		})
	}
}

func reader(path string, stop <-chan struct{}) error {
	buf := make([]byte, 64<<10)
	for {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // nothing of the last round is in memory
		for at := int64(0); err == nil && at < 2<<20; at += int64(len(buf)) {
			_, err = f.ReadAt(buf, at)
		}
		f.Close()
		if err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
}
