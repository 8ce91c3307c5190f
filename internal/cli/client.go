package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"semantos/console"
	"semantos/internal/tune"
)

// client talks to a running serve through its socket in DATA_DIR.
type client struct {
	http   *http.Client
	socket string
}

// serving finds a running serve; none is no error. A left-over socket file refuses the connection.
func (a *app) serving(ctx context.Context) *client {
	socket := a.cfg.Socket()
	dial := func(ctx context.Context) (net.Conn, error) { return console.DialUnix(ctx, socket) }
	quick, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := dial(quick)
	if err != nil {
		return nil
	}
	conn.Close()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	return &client{http: &http.Client{Transport: transport}, socket: socket}
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

// call sends one request and decodes the one answer; a problem becomes the error serve had.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
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
