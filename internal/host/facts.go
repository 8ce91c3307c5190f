package host

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"semantos/internal/tune"
)

// BootID names this boot of the kernel.
func (h *Host) BootID() (string, error) {
	text, err := os.ReadFile(h.Path("/proc/sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Facts reads what does not change while the host runs. What is absent has no key, except sizes that
// are known to be zero then (swap).
func (h *Host) Facts() (tune.Facts, error) {
	f := tune.Facts{Num: map[string]float64{}, Text: map[string]string{}}
	memory, err := os.ReadFile(h.Path("/proc/meminfo"))
	if err != nil {
		return f, fmt.Errorf("read facts: %w", err)
	}
	for key, name := range map[string]string{"MemTotal": "mem_total_bytes", "SwapTotal": "swap_total_bytes"} {
		if kib, ok := meminfo(string(memory), key); ok {
			f.Num[name] = kib * 1024
		}
	}
	f.Num["page_size"] = float64(os.Getpagesize())
	if n := countCPUs(h.text("/sys/devices/system/cpu/online")); n > 0 {
		f.Num["cpus"] = float64(n)
	} else if h.real() {
		f.Num["cpus"] = float64(runtime.NumCPU())
	}
	f.Num["numa_nodes"] = float64(max(1, countCPUs(h.text("/sys/devices/system/node/online"))))
	if release := h.text("/proc/sys/kernel/osrelease"); release != "" {
		f.Text["kernel"] = release
		if n, ok := kernelNumber(release); ok {
			f.Num["kernel"] = n
		}
	}
	f.Num["is_zram_swap"] = flag(strings.Contains(h.text("/proc/swaps"), "/dev/zram"))
	f.Num["rotational_any"] = flag(h.anyRotational())
	f.Text["arch"] = arch(runtime.GOARCH)
	f.Text["virt"] = h.virt()
	f.Text["distro"] = distro(h.text("/etc/os-release"))
	return f, nil
}

// text gives a small file's trimmed content, "" when it is not there.
func (h *Host) text(path string) string {
	b, err := os.ReadFile(h.Path(path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func meminfo(text, key string) (float64, bool) {
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if name != key || len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseUint(fields[0], 10, 64)
		return float64(n), err == nil
	}
	return 0, false
}

// countCPUs counts a list such as "0-3,8".
func countCPUs(list string) int {
	total := 0
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.ParseUint(low, 10, 20)
		if err != nil {
			return 0
		}
		b := a
		if isRange {
			if b, err = strconv.ParseUint(high, 10, 20); err != nil || b < a {
				return 0
			}
		}
		total += int(b-a) + 1
	}
	return total
}

// kernelNumber gives major*1000+minor of "6.18.44-fc".
func kernelNumber(release string) (float64, bool) {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return 0, false
	}
	major, err := strconv.ParseUint(parts[0], 10, 16)
	minor, err2 := strconv.ParseUint(strings.TrimRight(parts[1], "-+abcdefghijklmnopqrstuvwxyz"), 10, 16)
	return float64(major*1000 + minor), err == nil && err2 == nil
}

// anyRotational looks at disks with hardware behind them: loop and RAM devices have no device link.
func (h *Host) anyRotational() bool {
	disks, err := os.ReadDir(h.Path("/sys/block"))
	if err != nil {
		return false
	}
	for _, d := range disks {
		if _, err := os.Stat(h.Path("/sys/block", d.Name(), "device")); err != nil {
			continue
		}
		if h.text(filepath.Join("/sys/block", d.Name(), "queue/rotational")) == "1" {
			return true
		}
	}
	return false
}

// virt says what we run in: container, the hypervisor's name, or none.
func (h *Host) virt() string {
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(h.Path(mark)); err == nil {
			return "container"
		}
	}
	vendor := strings.ToLower(h.text("/sys/class/dmi/id/sys_vendor") + " " + h.text("/sys/class/dmi/id/product_name"))
	for _, known := range []struct{ mark, name string }{
		{"qemu", "kvm"}, {"kvm", "kvm"}, {"amazon ec2", "kvm"}, {"google compute", "kvm"}, {"vmware", "vmware"},
		{"virtualbox", "virtualbox"}, {"microsoft corporation virtual", "hyperv"}, {"xen", "xen"},
	} {
		if strings.Contains(vendor, known.mark) {
			return known.name
		}
	}
	for line := range strings.Lines(h.text("/proc/cpuinfo")) {
		if strings.HasPrefix(line, "flags") {
			if strings.Contains(line, " hypervisor") {
				return "vm"
			}
			break
		}
	}
	return "none"
}

func distro(osRelease string) string {
	for line := range strings.Lines(osRelease) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"'`)
		}
	}
	return "unknown"
}

func arch(goarch string) string {
	if goarch == "amd64" {
		return "x86_64"
	}
	if goarch == "arm64" {
		return "aarch64"
	}
	return goarch
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
