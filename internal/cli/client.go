package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"semantos/console"
	"semantos/internal/tune"
)

// client talks to a running serve through its socket in DATA_DIR.
type client struct {
	http   *http.Client
	socket string
}

// serveAnswer is what a running serve has to take a connection, and DATA_DIR's disk to find its socket.
const serveAnswer = time.Second

// serving finds a running serve; none is no error. A left-over socket file refuses the connection.
func (a *app) serving(ctx context.Context) *client {
	socket := a.cfg.Socket()
	dial := func(ctx context.Context) (net.Conn, error) { return console.DialUnix(ctx, socket) }
	ctx, cancel := context.WithTimeout(ctx, serveAnswer)
	defer cancel()
	found := make(chan *client, 1)
	go func() { // the way to the socket may lie on a disk that hangs, which no context ends
		conn, err := dial(ctx)
		if err != nil {
			found <- nil
			return
		}
		defer conn.Close()
		if err := a.believe(conn); err != nil {
			a.say("the control socket is not used: %v", err)
			found <- nil
			return
		}
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
		found <- &client{http: &http.Client{Transport: transport}, socket: socket}
	}()
	select {
	case c := <-found:
		return c
	case <-ctx.Done():
		return nil
	}
}

// believe refuses a serve that somebody else may have put in the place of ours: who listens must be root,
// we, or the owner of DATA_DIR. Serve listens before it gives up root's rights, so it is root that listens.
func (a *app) believe(conn net.Conn) error {
	peer, err := peerOf(conn)
	if err != nil {
		return err
	}
	owner := -1
	if info, err := os.Stat(a.cfg.DataDir); err == nil {
		owner = ownerOf(info)
	}
	if uid := int(peer.Uid); uid != 0 && uid != os.Geteuid() && uid != owner {
		return fmt.Errorf("uid %d listens on %s: %w", uid, a.cfg.Socket(), tune.ErrNotPermitted)
	}
	return nil
}

// peerOf says who began to listen on the other end.
func peerOf(conn net.Conn) (*unix.Ucred, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("%T tells no peer: %w", conn, tune.ErrUnsupported)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(err, credErr)
}

// servePid is the process behind the control socket, 0 when none answers.
func (a *app) servePid(ctx context.Context) int {
	conn, err := console.DialUnix(ctx, a.cfg.Socket())
	if err != nil {
		return 0
	}
	defer conn.Close()
	peer, err := peerOf(conn)
	if err != nil {
		return 0
	}
	return int(peer.Pid)
}

// do sends one request and leaves the answer's body open.
func (c *client) do(ctx context.Context, method, path string, in any, accept string) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request %s: %w", path, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://semantos"+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request %s: %w", path, err)
	}
	req.Header.Set("Accept", accept)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &tune.Error{Op: "ask serve at", Subject: c.socket, Err: err,
			Hint: "see whether semantos serve still runs; without it the command does the work itself"}
	}
	return resp, nil
}

// startTime is how long a serve that still opens its rooms is waited for.
const startTime = 15 * time.Second

// call sends one request and decodes the one answer; a problem becomes the error serve had. A serve that
// still starts has done nothing with the request: it is asked again until it is open.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	late := time.After(startTime)
	for {
		err := c.once(ctx, method, path, in, out)
		if !errors.Is(err, tune.ErrStarting) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-late:
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *client) once(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.do(ctx, method, path, in, "application/json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return problem(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read answer of serve to %s: %w", path, err)
	}
	return nil
}

func problem(resp *http.Response) error {
	var p console.Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		return fmt.Errorf("serve answered %s without a reason: %w", resp.Status, err)
	}
	return p.AsError()
}

// recommend asks serve for advice over a window of its own.
func (c *client) recommend(ctx context.Context, window time.Duration) (console.Advice, error) {
	var doc console.Advice
	err := c.call(ctx, http.MethodPost, "/get_recommendations", console.RecommendRequest{WindowS: window.Seconds()}, &doc)
	return doc, err
}
