package console

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
	"golang.org/x/sys/unix"
)

// loopback reports whether a listen address is reachable from this host only.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	return loopbackName(host)
}

func loopbackName(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// checkHost refuses a Host that is not this machine while only this machine can connect: a web page
// could otherwise read the host through a name of its own that resolves to 127.0.0.1.
func (c *Console) checkHost(next echo.HandlerFunc) echo.HandlerFunc {
	return func(ctx echo.Context) error {
		host := ctx.Request().Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if c.local && !loopbackName(host) {
			return refuse(http.StatusForbidden, "use 127.0.0.1 or localhost", "host %q is not this machine's loopback", host)
		}
		return next(ctx)
	}
}

type peerKey struct{}

// withPeer keeps who connected to the unix socket; a TCP connection has no credentials.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// checkPeer admits root and the user serve runs as, whatever the mode of the socket became.
func (c *Console) checkPeer(next echo.HandlerFunc) echo.HandlerFunc {
	return func(ctx echo.Context) error {
		cred, ok := ctx.Request().Context().Value(peerKey{}).(*unix.Ucred)
		if !ok {
			return refuse(http.StatusForbidden, "connect through the unix socket", "the caller has no credentials")
		}
		if cred.Uid != 0 && int(cred.Uid) != c.cfg.UID {
			return refuse(http.StatusForbidden, "run the command as root or as the user of serve",
				"uid %d may not control this serve", cred.Uid)
		}
		return next(ctx)
	}
}

// actor names the caller in records.
func actor(ctx echo.Context) string {
	if cred, ok := ctx.Request().Context().Value(peerKey{}).(*unix.Ucred); ok {
		return fmt.Sprintf("uid %d", cred.Uid)
	}
	return "unknown"
}
