package host

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"semantos/internal/tune"
)

// SocketTarget names one socket: protocol, local address, namespace, and the cookie, which the kernel
// never gives twice. Text: "tcp:0.0.0.0:8088;netns=4026531840;cookie=4f".
type SocketTarget struct {
	Proto  string // tcp or udp
	Local  netip.AddrPort
	Netns  uint64
	Cookie uint64
}

func (s SocketTarget) String() string {
	return fmt.Sprintf("%s:%s;netns=%d;cookie=%x", s.Proto, s.Local, s.Netns, s.Cookie)
}

// ParseSocketTarget reads the full text of a socket's target.
func ParseSocketTarget(text string) (SocketTarget, error) {
	bad := &tune.Error{Op: "read", Subject: fmt.Sprintf("socket %q", text), Err: tune.ErrUsage,
		Hint: "name it as tcp:PORT, tcp:ADDRESS:PORT, or in full as tcp:0.0.0.0:8088;netns=4026531840;cookie=4f"}
	parts := strings.Split(text, ";")
	if len(parts) != 3 {
		return SocketTarget{}, bad
	}
	proto, local, ok := strings.Cut(parts[0], ":")
	addr, err := netip.ParseAddrPort(local)
	netns, hasNetns := strings.CutPrefix(parts[1], "netns=")
	cookie, hasCookie := strings.CutPrefix(parts[2], "cookie=")
	ino, inoErr := strconv.ParseUint(netns, 10, 64)
	num, numErr := strconv.ParseUint(cookie, 16, 64)
	if !ok || proto != "tcp" && proto != "udp" || err != nil || addr.Addr().Zone() != "" ||
		!hasNetns || !hasCookie || inoErr != nil || numErr != nil {
		return SocketTarget{}, bad
	}
	return SocketTarget{Proto: proto, Local: addr, Netns: ino, Cookie: num}, nil
}

// socketWish is a shorthand: a port, maybe an address, maybe a namespace.
type socketWish struct {
	proto string
	addr  netip.Addr // zero: any
	port  uint16
	netns uint64 // 0: any
}

func parseSocketWish(text string) (socketWish, error) {
	full, err := ParseSocketTarget(text)
	if err == nil {
		return socketWish{full.Proto, full.Local.Addr(), full.Local.Port(), full.Netns}, nil
	}
	head, tail, _ := strings.Cut(text, ";")
	proto, rest, ok := strings.Cut(head, ":")
	if !ok || proto != "tcp" && proto != "udp" {
		return socketWish{}, err
	}
	w := socketWish{proto: proto}
	if ino, found := strings.CutPrefix(tail, "netns="); found {
		var numErr error
		if w.netns, numErr = strconv.ParseUint(ino, 10, 64); numErr != nil {
			return socketWish{}, err
		}
	} else if tail != "" {
		return socketWish{}, err
	}
	rest = strings.TrimPrefix(rest, "*:")
	if port, numErr := strconv.ParseUint(rest, 10, 16); numErr == nil && port > 0 {
		w.port = uint16(port)
		return w, nil
	}
	local, addrErr := netip.ParseAddrPort(rest)
	if addrErr != nil || local.Port() == 0 {
		return socketWish{}, err
	}
	w.addr, w.port = local.Addr(), local.Port()
	return w, nil
}

func (w socketWish) fits(s SocketTarget) bool {
	return w.proto == s.Proto && w.port == s.Local.Port() &&
		(!w.addr.IsValid() || w.addr == s.Local.Addr()) && (w.netns == 0 || w.netns == s.Netns)
}
