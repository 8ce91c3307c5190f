package telemetry

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

const (
	maxListeners  = 256   // per namespace
	maxUDPSockets = 1024  // looked at per namespace; few of them are shown
	maxPortScan   = 65536 // sockets looked at for their local port, per namespace
	cheapPortScan = 4096  // beyond it ports are counted every sceneAge only
)

// nsSockets is what one visit to a namespace's sockets brought.
type nsSockets struct {
	err       error
	listeners []DiagSocket
	conns     []DiagSocket
	udp       []DiagSocket
	cut       bool // more connections than the limit
	rmemMax   float64
	wmemMax   float64
	ports     portUse
}

// portUse is how the ephemeral ports of a namespace are used.
type portUse struct {
	at       time.Time
	scanned  int
	cut      bool
	span     float64 // ports in net.ipv4.ip_local_port_range
	used     float64 // towards the busiest destination
	dest     netip.AddrPort
	timeWait float64
	known    bool
}

// socketCache visits each namespace at most once per tick, however many collectors ask.
type socketCache struct {
	env    *env
	source SocketSource
	byNS   map[string]*nsSockets
	ports  map[string]portUse
	left   int // connections still allowed this tick
	counts map[netip.AddrPort]int
}

func newSocketCache(e *env, source SocketSource) *socketCache {
	return &socketCache{env: e, source: source, byNS: make(map[string]*nsSockets), ports: make(map[string]portUse),
		counts: make(map[netip.AddrPort]int)}
}

func (c *socketCache) begin() {
	clear(c.byNS)
	c.left = c.env.limits.Connections
}

// of gives the sockets of a namespace, visiting it when this tick has not yet.
func (c *socketCache) of(n nsview) (*nsSockets, error) {
	s := c.byNS[n.target]
	if s == nil {
		s = &nsSockets{}
		visit := func() error { return c.visit(n, s) }
		if n.own {
			s.err = visit()
		} else {
			s.err = c.env.host.InNetns(n.target, visit)
		}
		c.byNS[n.target] = s
	}
	return s, s.err
}

// visit runs on a thread inside the namespace.
func (c *socketCache) visit(n nsview, s *nsSockets) error {
	const states = 1<<tcpListen | 1<<tcpEstablished | 1<<tcpCloseWait | 1<<4 | 1<<5 // and both FIN_WAIT
	found := false
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		// Listeners first and by themselves: a flood of connections must not push them out.
		if _, err := c.dump(DiagQuery{Family: family, Proto: unix.IPPROTO_TCP, States: 1 << tcpListen, Memory: true,
			Max: maxListeners}, &s.listeners, &found); err != nil {
			return err
		}
		before := len(s.conns)
		cut, err := c.dump(DiagQuery{Family: family, Proto: unix.IPPROTO_TCP, States: states &^ (1 << tcpListen),
			Memory: true, Info: true, Max: max(1, c.left)}, &s.conns, &found)
		if err != nil {
			return err
		}
		c.left = max(0, c.left-(len(s.conns)-before))
		s.cut = s.cut || cut
		if _, err := c.dump(DiagQuery{Family: family, Proto: unix.IPPROTO_UDP, States: 0xfff, Memory: true,
			Max: maxUDPSockets}, &s.udp, &found); err != nil {
			return err
		}
	}
	if !found {
		return fileError("sock_diag", errNotExist)
	}
	s.rmemMax = c.element("tcp_rmem", 2)
	s.wmemMax = c.element("tcp_wmem", 2)
	return c.countPorts(n, s)
}

func (c *socketCache) dump(q DiagQuery, into *[]DiagSocket, found *bool) (bool, error) {
	cut, err := c.source.Dump(q, func(s *DiagSocket) { *into = append(*into, *s) })
	if errors.Is(err, tune.ErrNoData) {
		return false, nil // this family or protocol is not built in
	}
	*found = *found || err == nil
	return cut, err
}

// element reads one element of a sysctl of the namespace the thread is in; 0 when there is none.
// Sysctls of a namespace are found by the thread that opens them, so these files do not stay open.
func (c *socketCache) element(sysctl string, i int) float64 {
	b, err := c.env.files.once("proc/sys/net/ipv4/" + sysctl)
	if err != nil {
		return 0
	}
	var v [3]float64
	if n, err := parseNumbers(b, v[:]); err != nil || n <= i {
		return 0
	}
	return v[i]
}

// countPorts counts local ephemeral ports per destination. TIME_WAIT sockets can be tens of thousands,
// so a costly count is believed for some seconds.
func (c *socketCache) countPorts(n nsview, s *nsSockets) error {
	old, ok := c.ports[n.target]
	age := c.env.at.Sub(old.at)
	if ok && old.scanned > cheapPortScan && age >= 0 && age < sceneAge {
		s.ports = old
		return nil
	}
	low, high := c.element("ip_local_port_range", 0), c.element("ip_local_port_range", 1)
	use := portUse{at: c.env.at, known: high >= low && high > 0, span: high - low + 1}
	listening := make(map[uint16]bool, len(s.listeners))
	for i := range s.listeners {
		listening[s.listeners[i].Local.Port()] = true
	}
	clear(c.counts)
	const states = 0xfff &^ (1 << tcpListen) &^ (1 << 7) // all but LISTEN and CLOSE
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		cut, err := c.source.Dump(DiagQuery{Family: family, Proto: unix.IPPROTO_TCP, States: states, Max: maxPortScan - use.scanned},
			func(d *DiagSocket) {
				use.scanned++
				if d.State == tcpTimeWait {
					use.timeWait++
				}
				port := d.Local.Port()
				if float64(port) >= low && float64(port) <= high && !listening[port] {
					c.counts[d.Remote]++
				}
			})
		if err != nil && !errors.Is(err, tune.ErrNoData) {
			return err
		}
		use.cut = use.cut || cut
		if use.scanned >= maxPortScan {
			break
		}
	}
	for dest, count := range c.counts {
		if float64(count) > use.used || float64(count) == use.used && dest.Compare(use.dest) < 0 {
			use.used, use.dest = float64(count), dest
		}
	}
	c.ports[n.target], s.ports = use, use
	return nil
}
