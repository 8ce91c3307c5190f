package telemetry

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// procStatus is the part of /proc/<pid>/status used here, in bytes and switches.
type procStatus struct {
	anon, swap             float64
	voluntary, involuntary float64
	hasMemory, hasSwitches bool
}

// parseProcStatus takes what it finds: kernel threads lack the memory, old kernels some lines.
func parseProcStatus(b []byte) procStatus {
	var s procStatus
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		key, rest, found := bytes.Cut(l, []byte{':'})
		w, _ := word(rest)
		v, ok := number(w)
		if !found || !ok {
			continue
		}
		switch string(key) {
		case "RssAnon":
			s.anon, s.hasMemory = v*1024, true
		case "VmSwap":
			s.swap = v * 1024
		case "voluntary_ctxt_switches":
			s.voluntary = v
		case "nonvoluntary_ctxt_switches":
			s.involuntary, s.hasSwitches = v, true
		}
	}
	return s
}

// procIO is /proc/<pid>/io: what went through read and write calls, sockets and pipes included, and what
// reached storage.
type procIO struct {
	readChars, writeChars float64
	readCalls, writeCalls float64
	read, written         float64
}

func parseProcIO(b []byte) (procIO, error) {
	var p procIO
	fields := [...]struct {
		key  string
		into *float64
	}{{"rchar", &p.readChars}, {"wchar", &p.writeChars}, {"syscr", &p.readCalls}, {"syscw", &p.writeCalls},
		{"read_bytes", &p.read}, {"write_bytes", &p.written}}
	found := 0
	for rest := b; len(rest) > 0; {
		var l []byte
		l, rest = line(rest)
		key, value, _ := bytes.Cut(l, []byte{':'})
		w, _ := word(value)
		v, ok := number(w)
		if !ok {
			continue
		}
		for _, f := range fields {
			if f.key == string(key) {
				*f.into = v
				found++
			}
		}
	}
	if found != len(fields) {
		return procIO{}, corrupt("io", b)
	}
	return p, nil
}

// parseFDLimit gives the soft limit of open files; 0 when there is none.
func parseFDLimit(b []byte) float64 {
	key := []byte("Max open files")
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		if rest, ok := bytes.CutPrefix(l, key); ok {
			w, _ := word(rest)
			v, _ := number(w) // "unlimited" is no number and no limit
			return v
		}
	}
	return 0
}

// parseSmapsRollup gives anonymous memory and its part in huge pages, in bytes.
func parseSmapsRollup(b []byte) (anon, huge float64, err error) {
	found := 0
	for rest := b; len(rest) > 0; {
		var l []byte
		l, rest = line(rest)
		key, value, _ := bytes.Cut(l, []byte{':'})
		w, _ := word(value)
		v, ok := number(w)
		if !ok {
			continue
		}
		switch string(key) {
		case "Anonymous":
			anon = v * 1024
			found++
		case "AnonHugePages":
			huge = v * 1024
			found++
		}
	}
	if found != 2 {
		return 0, 0, corrupt("smaps_rollup", b)
	}
	return anon, huge, nil
}

// parseProcCgroup gives the path of the unified hierarchy, or where that says only "/" the memory or
// cpu controller's.
func parseProcCgroup(b []byte) string {
	best, rank := "", 0
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		_, rest, ok := bytes.Cut(l, []byte{':'})
		controllers, path, ok2 := bytes.Cut(rest, []byte{':'})
		if !ok || !ok2 || len(path) == 0 {
			continue
		}
		r := 1
		switch {
		case string(path) == "/":
		case len(controllers) == 0:
			r = 4
		case bytes.Contains(controllers, []byte("memory")):
			r = 3
		case bytes.Contains(controllers, []byte("cpu")) && !bytes.Contains(controllers, []byte("cpuset")):
			r = 2
		}
		if r > rank {
			best, rank = string(path), r
		}
	}
	return best
}

func countLines(b []byte) float64 { return float64(bytes.Count(b, []byte{'\n'})) }

// countFDs takes the size of the directory where that is the number of descriptors (sized), else counts
// them up to a bound.
func countFDs(dir string, sized bool) (float64, bool) {
	if sized {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return 0, false
		}
		if st.Size > 0 {
			return float64(st.Size), true
		}
	}
	names, err := readDirNames(dir, 4096)
	return float64(len(names)), err == nil
}

// sizedFDs reports whether a proc file system makes the size of /proc/<pid>/fd the number of
// descriptors: Linux 6.2 and later do, and a plain directory never does.
func sizedFDs(proc string) bool {
	var fs unix.Statfs_t
	var st unix.Stat_t
	return unix.Statfs(proc, &fs) == nil && fs.Type == unix.PROC_SUPER_MAGIC &&
		unix.Stat(proc+"/self/fd", &st) == nil && st.Size > 0
}

// readDirNames gives at most limit+1 names, so that a caller sees when there are more.
func readDirNames(dir string, limit int) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fileError(dir, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(limit + 1)
	if len(names) == 0 && err != nil {
		return nil, fileError(dir, err)
	}
	return names, nil
}
