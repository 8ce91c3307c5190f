package host

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"semantos/internal/tune"
)

// The families of devices, as the names of their tunables begin.
const (
	BlockDevices = "block"
	LinkDevices  = "net"
)

// DeviceUse is what a device has done since it came up.
type DeviceUse struct {
	Done   uint64        // requests completed; packets in and out
	Bytes  uint64        // moved in both directions
	Waited time.Duration // block: by all of its reads and writes together, from made to complete
	Flying uint64        // block: requests on their way now
	Failed uint64        // net: packets dropped or broken
	Timed  bool          // block: it works on requests, which a probe can time one by one
}

// DeviceUses reads the counters of every device of a family, by name. Partitions are left out: what they do
// is counted with their disk. A block device that keeps no statistics (queue/iostats is 0) counts nothing.
func (h *Host) DeviceUses(family string) (map[string]DeviceUse, error) {
	switch family {
	case BlockDevices:
		return h.blockUses()
	case LinkDevices:
		return h.linkUses()
	}
	return nil, fmt.Errorf("devices of %q: %w", family, tune.ErrUnknown)
}

func (h *Host) blockUses() (map[string]DeviceUse, error) {
	text, err := os.ReadFile(h.Path("proc", "diskstats"))
	if err != nil {
		return nil, fmt.Errorf("read what disks have done: %w", err)
	}
	out := map[string]DeviceUse{}
	for line := range strings.Lines(string(text)) {
		name, use, ok := parseDisk(line)
		if !ok {
			continue
		}
		dir := h.Path("sys", "block", strings.ReplaceAll(name, "/", "!"))
		if _, err := os.Stat(dir); err != nil {
			continue // a partition
		}
		_, err := os.Stat(path.Join(dir, "mq"))
		use.Timed = err == nil
		out[name] = use
	}
	return out, nil
}

// parseDisk reads one line of /proc/diskstats: numbers, name, then for reads and for writes how many were
// completed, merged, sectors, milliseconds, and how many are on their way.
func parseDisk(line string) (name string, use DeviceUse, ok bool) {
	const sector = 512 // whatever the device's block size
	f := strings.Fields(line)
	if len(f) < 12 {
		return "", use, false
	}
	var n [9]uint64
	for i := range n {
		v, err := strconv.ParseUint(f[3+i], 10, 64)
		if err != nil {
			return "", use, false
		}
		n[i] = v
	}
	return f[2], DeviceUse{
		Done: n[0] + n[4], Bytes: sector * (n[2] + n[6]), Waited: time.Duration(n[3]+n[7]) * time.Millisecond, Flying: n[8],
	}, true
}

func (h *Host) linkUses() (map[string]DeviceUse, error) {
	links, err := os.ReadDir(h.Path("sys", "class", "net"))
	if err != nil {
		return nil, fmt.Errorf("list network devices: %w", err)
	}
	out := map[string]DeviceUse{}
	for _, l := range links {
		dir := path.Join("sys", "class", "net", l.Name(), "statistics")
		sum := func(names ...string) (total uint64, err error) {
			for _, name := range names {
				text, err := os.ReadFile(h.Path(dir, name))
				if err != nil {
					return 0, err
				}
				n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
				if err != nil {
					return 0, fmt.Errorf("%s/%s: %w", dir, name, tune.ErrCorrupt)
				}
				total += n
			}
			return total, nil
		}
		done, err1 := sum("rx_packets", "tx_packets")
		bytes, err2 := sum("rx_bytes", "tx_bytes")
		failed, err3 := sum("rx_dropped", "tx_dropped", "rx_errors", "tx_errors")
		switch err := errors.Join(err1, err2, err3); {
		case errors.Is(err, tune.ErrCorrupt):
			return nil, fmt.Errorf("read what %s has done: %w", l.Name(), err)
		case err != nil:
			continue // gone since it was listed, or a file of bonding
		}
		out[l.Name()] = DeviceUse{Done: done, Bytes: bytes, Failed: failed}
	}
	return out, nil
}

// Since gives what was done after an earlier reading. ok is false where the counters began anew meanwhile: it
// is another device of the same name.
func (u DeviceUse) Since(earlier DeviceUse) (d DeviceUse, ok bool) {
	if u.Done < earlier.Done || u.Bytes < earlier.Bytes || u.Waited < earlier.Waited || u.Failed < earlier.Failed {
		return d, false
	}
	d = u
	d.Done, d.Bytes, d.Waited, d.Failed = u.Done-earlier.Done, u.Bytes-earlier.Bytes, u.Waited-earlier.Waited, u.Failed-earlier.Failed
	return d, true
}

// And adds what another device did.
func (u DeviceUse) And(o DeviceUse) DeviceUse {
	return DeviceUse{Done: u.Done + o.Done, Bytes: u.Bytes + o.Bytes, Waited: u.Waited + o.Waited, Flying: u.Flying + o.Flying,
		Failed: u.Failed + o.Failed, Timed: u.Timed && o.Timed}
}
