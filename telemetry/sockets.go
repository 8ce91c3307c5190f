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
	low      uint16  // its ends
	high     uint16
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
}

func newSocketCache(e *env, source SocketSource) *socketCache {
	return &socketCache{env: e, source: source, byNS: make(map[string]*nsSockets), ports: make(map[string]portUse)}
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
		s.err = c.env.inside(n, func() error { return c.visit(n, s) })
		c.byNS[n.target] = s
	}
	return s, s.err
}

// visit runs on a thread inside the namespace. Walking the kernel's table of connections costs by the
// size of the table, so the ports are counted in the same walk, unless TIME_WAIT sockets are so many
// that counting them waits for its turn.
func (c *socketCache) visit(n nsview, s *nsSockets) error {
	found := false
	families := [...]uint8{unix.AF_INET, unix.AF_INET6}
	for _, family := range families {
		// Listeners first and by themselves: a flood of connections must not push them out.
		if _, err := c.dump(DiagQuery{Family: family, Proto: unix.IPPROTO_TCP, States: 1 << tcpListen, Memory: true,
			Max: maxListeners}, &found, func(d *DiagSocket) { s.listeners = append(s.listeners, *d) }); err != nil {
			return err
		}
		if _, err := c.dump(DiagQuery{Family: family, Proto: unix.IPPROTO_UDP, States: 0xfff, Memory: true,
			Max: maxUDPSockets}, &found, func(d *DiagSocket) { s.udp = append(s.udp, *d) }); err != nil {
			return err
		}
	}
	count := c.newPortCount(n, s)
	live := c.liveFamilies(n, s)
	for _, family := range families {
		if !live[family] {
			continue
		}
		if err := c.connections(family, s, count, &found); err != nil {
			return err
		}
	}
	if !found {
		return fileError("sock_diag", errNotExist)
	}
	if count != nil {
		c.ports[n.target] = count.finish()
	}
	s.ports = c.ports[n.target]
	s.rmemMax = c.element(n, "tcp_rmem", 2)
	s.wmemMax = c.element(n, "tcp_wmem", 2)
	return nil
}

// liveFamilies tells from sockstat which families have more than listeners, so that an idle table is
// not walked. What is not known counts as live.
func (c *socketCache) liveFamilies(n nsview, s *nsSockets) map[uint8]bool {
	live := map[uint8]bool{unix.AF_INET: true, unix.AF_INET6: true}
	var listening4, listening6 float64
	for i := range s.listeners {
		if s.listeners[i].Local.Addr().Is4() {
			listening4++
		} else {
			listening6++
		}
	}
	b, err := c.env.readNet(n, "sockstat")
	if err != nil {
		return live
	}
	used, waiting, ok := parseTCPInUse(b, "TCP:")
	if !ok || waiting > 0 { // those in TIME_WAIT are of either family
		return live
	}
	live[unix.AF_INET] = used > listening4
	if b, err = c.env.readNet(n, "sockstat6"); err == nil {
		if used, _, ok := parseTCPInUse(b, "TCP6:"); ok {
			live[unix.AF_INET6] = used > listening6
		}
	}
	return live
}

// parseTCPInUse gives the sockets in use and in TIME_WAIT of one line of sockstat.
func parseTCPInUse(b []byte, protocol string) (used, waiting float64, ok bool) {
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		key, rest := word(l)
		if string(key) != protocol {
			continue
		}
		for len(rest) > 0 {
			var name, value []byte
			name, rest = word(rest)
			value, rest = word(rest)
			v, isNumber := number(value)
			switch {
			case !isNumber:
				return 0, 0, false
			case string(name) == "inuse":
				used, ok = v, true
			case string(name) == "tw":
				waiting = v
			}
		}
		return used, waiting, ok
	}
	return 0, 0, false
}

// connections walks the connections of one family; with a count it sees those in TIME_WAIT too.
func (c *socketCache) connections(family uint8, s *nsSockets, count *portCount, found *bool) error {
	const carrying = 1<<tcpEstablished | 1<<tcpFinWait1 | 1<<tcpFinWait2 | 1<<tcpCloseWait
	q := DiagQuery{Family: family, Proto: unix.IPPROTO_TCP, States: carrying, Memory: true, Info: true, Max: c.left + 1}
	if count != nil {
		q.States, q.Max = 0xfff&^(1<<tcpListen)&^(1<<tcpClose), max(1, maxPortScan-count.use.scanned)
	}
	full := false
	cut, err := c.dump(q, found, func(d *DiagSocket) {
		if count != nil {
			count.add(d)
		}
		if 1<<d.State&carrying == 0 {
			return
		}
		if c.left == 0 {
			full = true
			return
		}
		c.left--
		s.conns = append(s.conns, *d)
	})
	s.cut = s.cut || full || cut
	if count != nil {
		count.use.cut = count.use.cut || cut
	}
	return err
}

func (c *socketCache) dump(q DiagQuery, found *bool, visit func(*DiagSocket)) (bool, error) {
	cut, err := c.source.Dump(q, visit)
	if errors.Is(err, tune.ErrNoData) {
		return false, nil // this family or protocol is not built in
	}
	*found = *found || err == nil
	return cut, err
}

// element reads one element of a sysctl of the namespace; 0 when there is none. Sysctls of a namespace
// are found by the thread that opens them, so these files do not stay open.
func (c *socketCache) element(n nsview, sysctl string, i int) float64 {
	var b []byte
	var err error
	if c.env.aid != nil && !n.own {
		var v tune.Value
		v, err = c.env.aid.Read("net.ipv4."+sysctl, n.target)
		b = []byte(v)
	} else {
		b, err = c.env.files.once("proc/sys/net/ipv4/" + sysctl)
	}
	if err != nil {
		return 0
	}
	var v [3]float64
	if n, err := parseNumbers(b, v[:]); err != nil || n <= i {
		return 0
	}
	return v[i]
}

// portCount counts local ephemeral ports per destination.
type portCount struct {
	use       portUse
	listening map[uint16]bool
	byDest    map[netip.AddrPort]int
}

// newPortCount starts a count, or gives nil while a costly one is still believed: TIME_WAIT sockets can
// be tens of thousands.
func (c *socketCache) newPortCount(n nsview, s *nsSockets) *portCount {
	old, ok := c.ports[n.target]
	age := c.env.at.Sub(old.at)
	if ok && old.scanned > cheapPortScan && age >= 0 && age < sceneAge {
		return nil
	}
	low, high := c.element(n, "ip_local_port_range", 0), c.element(n, "ip_local_port_range", 1)
	p := &portCount{listening: make(map[uint16]bool, len(s.listeners)), byDest: make(map[netip.AddrPort]int)}
	p.use.at = c.env.at
	if high >= low && low > 0 && high <= 65535 {
		p.use.known, p.use.span = true, high-low+1
		p.use.low, p.use.high = uint16(low), uint16(high)
	}
	for i := range s.listeners {
		p.listening[s.listeners[i].Local.Port()] = true
	}
	return p
}

// add takes one socket. The accepting side has a listener's port, which it does not use up.
func (p *portCount) add(d *DiagSocket) {
	p.use.scanned++
	if d.State == tcpTimeWait {
		p.use.timeWait++
	}
	port := d.Local.Port()
	if p.use.ephemeral(d.Local) && !p.listening[port] {
		p.byDest[d.Remote]++
	}
}

func (p *portCount) finish() portUse {
	for dest, n := range p.byDest {
		count := float64(n)
		if count > p.use.used || count == p.use.used && dest.Compare(p.use.dest) < 0 {
			p.use.used, p.use.dest = count, dest
		}
	}
	return p.use
}
