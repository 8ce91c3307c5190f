package telemetry

import (
	"math"
	"os"
	"testing"
)

// seed adds a fixture's content and halves of it.
func seed(f *testing.F, paths ...string) {
	for _, p := range paths {
		b, err := os.ReadFile("testdata/fixture/" + p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
}

func sane(t *testing.T, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		t.Errorf("a parser gave %v", v)
	}
}

func FuzzKeyValues(f *testing.F) {
	seed(f, "proc/vmstat", "proc/net/snmp6")
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = parseKeyValues(b, func(_ []byte, v float64) { sane(t, v) })
		_ = parseMeminfo(b, func(_ []byte, v float64) { sane(t, v) })
	})
}

func FuzzNetstat(f *testing.F) {
	seed(f, "proc/net/snmp", "proc/net/netstat")
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = parseNetstat(b, func(_, _ []byte, v float64) { sane(t, v) })
	})
}

func FuzzTables(f *testing.F) {
	seed(f, "proc/net/stat/arp_cache", "proc/pressure/io", "proc/key-users", "proc/loadavg", "proc/sys/fs/file-nr")
	f.Fuzz(func(t *testing.T, b []byte) {
		if cols, err := parseHexTable(b); err == nil {
			for _, c := range cols {
				sane(t, c.sum)
			}
		}
		if p, err := parsePSI(b); err == nil {
			sane(t, p.some)
		}
		if used, most, err := parseKeyUsers(b); err == nil && (used < 0 || most <= 0) {
			t.Errorf("key-users gave %v of %v", used, most)
		}
		if n, err := parseLoadavgTasks(b); err == nil {
			sane(t, n)
		}
		var v [3]float64
		if n, err := parseNumbers(b, v[:]); err == nil && (n < 1 || n > 3) {
			t.Errorf("%d numbers", n)
		}
	})
}

func FuzzProcess(f *testing.F) {
	seed(f, "proc/901/stat", "proc/900/status", "proc/900/io", "proc/900/limits", "proc/900/cgroup", "proc/900/smaps_rollup", "proc/net/sockstat")
	f.Fuzz(func(t *testing.T, b []byte) {
		var s procStat
		if err := parseProcStat(b, &s); err == nil {
			sane(t, s.utime+s.stime)
		}
		sane(t, parseProcStatus(b).anon)
		_, _ = parseProcIO(b)
		sane(t, parseFDLimit(b))
		_, _, _ = parseSmapsRollup(b)
		_ = parseProcCgroup(b)
		used, _, _ := parseTCPInUse(b, "TCP:")
		sane(t, used)
	})
}

func FuzzDiag(f *testing.F) {
	f.Add(diagRequestBytes(DiagQuery{Family: 2, Proto: 6}))
	f.Add(make([]byte, diagMessageLen+tcpInfoMin+8))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var s DiagSocket
		_ = parseDiag(b, &s)
		_, _ = eachMessage(b, func(p []byte) error { return parseDiag(p, &s) })
	})
}

func FuzzUnixDiag(f *testing.F) {
	f.Add(unixRequestBytes())
	f.Add([]byte{1, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 4, 0, 9, 0, 0, 0, 8, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseUnixDiag(b); err != nil && s != (UnixSocket{}) {
			t.Errorf("an error and %+v", s)
		}
	})
}

func FuzzSnake(f *testing.F) {
	f.Add("TCPReqQFullDoCookies")
	f.Add("Active(anon)")
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range []byte(snake(s)) {
			if isUpper(c) {
				t.Errorf("%q keeps an upper-case letter", s)
			}
		}
	})
}
