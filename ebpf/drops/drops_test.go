package drops

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/host/hosttest"
)

// truth reads a counter of a namespace's /proc/net/snmp or netstat.
func truth(t *testing.T, ns *hosttest.Namespace, file, section, name string) float64 {
	t.Helper()
	var b []byte
	var err error
	ns.Do(func() { b, err = os.ReadFile("/proc/thread-self/net/" + file) })
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		switch {
		case words[0] != section+":":
		case names == nil:
			names = words
		default:
			for i, w := range names {
				if w == name {
					v, err := strconv.ParseFloat(words[i], 64)
					if err != nil {
						t.Fatal(err)
					}
					return v
				}
			}
		}
	}
	t.Fatalf("%s has no %s %s", file, section, name)
	return 0
}

// flood sends datagrams to a socket that nobody reads, then to a port where nobody listens.
func flood(ns *hosttest.Namespace, n, void int) (err error) {
	ns.Do(func() {
		var l, c *net.UDPConn
		if l, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			return
		}
		defer l.Close()
		if err = l.SetReadBuffer(4096); err != nil {
			return
		}
		if c, err = net.DialUDP("udp4", nil, l.LocalAddr().(*net.UDPAddr)); err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 1000)
		for range n {
			if _, err = c.Write(b); err != nil {
				return
			}
		}
		l.Close()
		for range void {
			if _, err = c.Write(b); errors.Is(err, unix.ECONNREFUSED) { // the answer to the one before
				_, err = c.Write(b)
			}
			if err != nil {
				return
			}
		}
	})
	return err
}

// Others on the host drop packets too, so that the probe may count more than the truth of one namespace:
// the test looks for a quiet moment.
func TestReasons(t *testing.T) {
	ns := hosttest.FreshNetns(t)
	p := probetest.Load(t, New(), probe.Options{})
	var excess [2]float64
	for range 10 {
		before := probetest.Read(t, p)
		full, void := truth(t, ns, "snmp", "Udp", "RcvbufErrors"), truth(t, ns, "snmp", "Udp", "NoPorts")
		if err := flood(ns, 2000, 300); err != nil {
			t.Fatal(err)
		}
		after := probetest.Read(t, p)
		full = truth(t, ns, "snmp", "Udp", "RcvbufErrors") - full
		void = truth(t, ns, "snmp", "Udp", "NoPorts") - void
		if full < 1000 || void != 300 {
			t.Fatalf("the flood lost %v and %v datagrams", full, void)
		}
		excess = [2]float64{more(before, after, "drops.socket_rcvbuff") - full, more(before, after, "drops.no_socket") - void}
		t.Logf("full buffer %v, no socket %v; the probe counts %v more", full, void, excess)
		if excess == [2]float64{} {
			described(t, p)
			return
		}
	}
	t.Errorf("the probe counts %v more than the namespace's own counters", excess)
}

func more(before, after *probetest.Readings, name string) float64 {
	a, _ := before.Value("", name)
	b, _ := after.Value("", name)
	return b - a
}

func described(t *testing.T, p *probe.Probe) {
	t.Helper()
	names := map[string]bool{}
	for _, s := range New().Signals {
		names[s.Name] = true
	}
	if err := p.Spec.Read(p, checked{t: t, names: names}); err != nil {
		t.Error(err)
	}
}

type checked struct {
	probe.Sink // a reading that is no counter ends the test
	t          *testing.T
	names      map[string]bool
}

func (c checked) Counter(_ probe.Subject, name string, _ float64) {
	if !c.names[name] {
		c.t.Errorf("%s is handed over and not described", name)
	}
}

// Each reason with a series of its own has a meaning, and the newest kernel this was written for knows it.
func TestReasonsAreKnown(t *testing.T) {
	named, err := probe.NewTypes().Enum("skb_drop_reason")
	if err != nil || len(named) == 0 {
		t.Skipf("the kernel names no reasons: %v", err)
	}
	there := map[string]bool{}
	for _, n := range named {
		there[strings.ToLower(strings.TrimPrefix(n, "SKB_DROP_REASON_"))] = true
	}
	found := 0
	for reason, help := range known() {
		if help == "" {
			t.Errorf("%s has no meaning", reason)
		}
		if there[reason] {
			found++
		} else {
			t.Logf("this kernel has no reason %s", reason)
		}
	}
	if found < 5 {
		t.Errorf("of the reasons, the kernel knows %d", found)
	}
}
