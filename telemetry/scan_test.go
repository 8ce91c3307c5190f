package telemetry

import (
	"errors"
	"testing"

	"semantos/internal/tune"
)

func TestNetName(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{
		"ListenOverflows": "tcp.listen_overflows", "TCPReqQFullDrop": "tcp.req_q_full_drop", "TCPReqQFullDoCookies": "tcp.req_q_full_do_cookies",
		"PruneCalled": "tcp.prune_called", "TCPRcvCollapsed": "tcp.rcv_collapsed", "TCPToZeroWindowAdv": "tcp.to_zero_window_adv",
		"TCPTimeWaitOverflow": "tcp.time_wait_overflow", "RetransSegs": "tcp.retrans_segs", "TCPAbortOnMemory": "tcp.abort_on_memory",
		"TW": "tcp.tw", "TWRecycled": "tcp.tw_recycled", "TCPSlowStartRetrans": "tcp.slow_start_retrans", "TCPHPHits": "tcp.hp_hits",
		"DelayedACKs": "tcp.delayed_acks", "TCPSACKReneging": "tcp.sack_reneging", "TCPOFOQueue": "tcp.ofo_queue",
		"TcpTimeoutRehash": "tcp.timeout_rehash", "TCPMD5NotFound": "tcp.md5_not_found", "TCPACKSkippedFinWait2": "tcp.ack_skipped_fin_wait2",
		"TCPDeliveredCE": "tcp.delivered_ce", "IPReversePathFilter": "tcp.ip_reverse_path_filter", "TCPSpuriousRTOs": "tcp.spurious_rtos",
		"TCPRcvQDrop": "tcp.rcv_q_drop", "TCPSYNChallenge": "tcp.syn_challenge", "PAWSEstab": "tcp.paws_estab",
	} {
		if got := netName("tcp.", field); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
	for field, want := range map[string]string{"ReasmOKs": "ip.reasm_oks", "InECT1Pkts": "ip.in_ect1_pkts", "InNoECTPkts": "ip.in_no_ect_pkts",
		"InCEPkts": "ip.in_ce_pkts", "ReasmFails": "ip.reasm_fails"} {
		if got := netName("ip.", field); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
	for field, want := range map[string]string{"MemAvailable": "mem_available", "Committed_AS": "committed_as", "Active(anon)": "active_anon",
		"HugePages_Rsvd": "huge_pages_rsvd", "NFS_Unstable": "nfs_unstable", "AnonHugePages": "anon_huge_pages", "DirectMap4k": "direct_map4k"} {
		if got := snake(field); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"0": 0, "42": 42, "-1": -1, "18446744073709551615": 18446744073709551615} {
		if got, ok := number([]byte(text)); !ok || got != want {
			t.Errorf("%s: %v %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "-", "1.5", "0x1", "1 ", "18446744073709551616", "99999999999999999999", "--1"} {
		if got, ok := number([]byte(text)); ok {
			t.Errorf("%q is no number, got %v", text, got)
		}
	}
}

// TestParsersRefuse: what is cut or garbled is an error that wraps ErrCorrupt, never a smaller number.
func TestParsersRefuse(t *testing.T) {
	t.Parallel()
	discard := func([]byte, float64) {}
	var st procStat
	for name, err := range map[string]error{
		"vmstat cut in a line":    parseKeyValues([]byte("nr_dirty 5\nnr_wri"), discard),
		"vmstat empty":            parseKeyValues(nil, discard),
		"meminfo unit":            parseMeminfo([]byte("MemTotal: 5 MB\n"), discard),
		"meminfo no colon":        parseMeminfo([]byte("MemTotal 5 kB\n"), discard),
		"meminfo empty":           parseMeminfo(nil, discard),
		"netstat without values":  parseNetstat([]byte("Tcp: A B\n"), func(_, _ []byte, _ float64) {}),
		"netstat fewer values":    parseNetstat([]byte("Tcp: A B\nTcp: 1\n"), func(_, _ []byte, _ float64) {}),
		"netstat other section":   parseNetstat([]byte("Tcp: A\nUdp: 1\n"), func(_, _ []byte, _ float64) {}),
		"stat without name":       parseProcStat([]byte("1 nginx S 1"), &st),
		"stat cut":                parseProcStat([]byte("1 (a) S 1 2 3"), &st),
		"psi without some":        second(parsePSI([]byte("full avg10=0 total=3\n"))),
		"psi cut":                 second(parsePSI([]byte("some avg10=0.00 avg60"))),
		"loadavg":                 second(parseLoadavgTasks([]byte("0.1 0.2 0.3"))),
		"key-users":               third(parseKeyUsers([]byte("0: 1 2/2\n"))),
		"hex table short line":    second(parseHexTable([]byte("a b\n00000001\n"))),
		"hex table without lines": second(parseHexTable([]byte("a b\n"))),
		"io":                      second(parseProcIO([]byte("read_bytes: 5\n"))),
		"smaps":                   third(parseSmapsRollup([]byte("Rss: 5 kB\n"))),
	} {
		if !errors.Is(err, tune.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

func TestParseProcStatOddName(t *testing.T) {
	t.Parallel()
	var s procStat
	text := "901 (my (odd) name) S 1 901 901 0 -1 4194560 1000 0 3 0 100 50 0 0 20 0 2 0 1001 20480000 5000" +
		" 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 10 0 0\n"
	if err := parseProcStat([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if string(s.comm) != "my (odd) name" || s.utime != 100 || s.stime != 50 || s.threads != 2 || s.start != 1001 || s.rss != 5000 || s.blkio != 10 || s.majflt != 3 {
		t.Errorf("%q %+v", s.comm, s)
	}
}

func TestParseProcCgroup(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0::/system.slice/a.service\n":     "/system.slice/a.service",
		"4:memory:/docker/x\n0::/\n":       "/docker/x",
		"3:cpuset:/y\n1:cpu,cpuacct:/z\n":  "/z",
		"9:name=systemd:/\n0::/\n":         "/",
		"garbage":                          "",
		"5:memory:/v1\n0::/v2\n3:cpu:/c\n": "/v2",
	} {
		if got := parseProcCgroup([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestKthreadGroup(t *testing.T) {
	t.Parallel()
	for comm, want := range map[string]string{"kswapd0": "kswapd", "ksoftirqd/3": "ksoftirqd", "kworker/u8:2+flush-254:0": "kworker_flush",
		"kworker/0:1H-kblockd": "kworker", "jbd2/vda1-8": "jbd2", "khugepaged": "khugepaged", "kthreadd": ""} {
		got := ""
		if g := kthreadGroup(comm); g >= 0 {
			got = kthreadGroups[g].name
		}
		if got != want {
			t.Errorf("%s: %q, want %q", comm, got, want)
		}
	}
}

func TestParseTCPInUse(t *testing.T) {
	t.Parallel()
	text := []byte("sockets: used 9\nTCP: inuse 4 orphan 0 tw 7 alloc 5 mem 1\nUDP: inuse 1 mem 0\n")
	used, waiting, ok := parseTCPInUse(text, "TCP:")
	if !ok || used != 4 || waiting != 7 {
		t.Errorf("got %v %v %v", used, waiting, ok)
	}
	for _, bad := range []string{"", "UDP: inuse 1\n", "TCP: inuse x\n", "TCP: orphan 1\n", "TCP: inuse"} {
		if _, _, ok := parseTCPInUse([]byte(bad), "TCP:"); ok {
			t.Errorf("%q gave a number", bad)
		}
	}
}
