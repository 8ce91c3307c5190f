package lookout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/tune"
)

// Client asks. Its methods may be called from several goroutines; they wait for each other.
type Client struct {
	mu   sync.Mutex
	conn *net.UnixConn
	next uint64
	buf  []byte
}

// patience bounds one answer: the largest process's page tables take well under a second.
const patience = 5 * time.Second

// NewClient takes our end of [Pair].
func NewClient(f *os.File) (*Client, error) {
	conn, err := connect(f)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, buf: make([]byte, maxPacket)}, nil
}

// Close ends it; the other side then stops answering.
func (c *Client) Close() error { return c.conn.Close() }

// Read gives a tunable's value.
func (c *Client) Read(name, target string) (tune.Value, error) {
	r, _, err := c.ask(request{Verb: verbRead, Name: name, Target: target})
	return r.Value, err
}

// Probe says what the guard could do with a tunable.
func (c *Client) Probe(name, target string) tune.Capability {
	r, _, err := c.ask(request{Verb: verbProbe, Name: name, Target: target})
	if err != nil {
		return tune.Capability{Reason: err.Error()}
	}
	return *r.Capability
}

// Namespaces lists those with sockets.
func (c *Client) Namespaces() ([]host.Netns, error) {
	r, _, err := c.ask(request{Verb: verbNamespaces})
	return r.Namespaces, err
}

// Owners finds who holds sockets.
func (c *Client) Owners(inodes []uint64) (map[uint64]host.Owner, error) {
	out := map[uint64]host.Owner{}
	for len(inodes) > 0 {
		n := min(len(inodes), maxInodes)
		r, _, err := c.ask(request{Verb: verbOwners, Inodes: inodes[:n]})
		if err != nil {
			return nil, err
		}
		for ino, o := range r.Owners {
			out[ino] = o
		}
		inodes = inodes[n:]
	}
	return out, nil
}

// ProcessUse looks into a process.
func (c *Client) ProcessUse(pid int, start uint64, want host.UseWanted) (host.ProcessUse, error) {
	r, _, err := c.ask(request{Verb: verbProcess, Pid: pid, Start: start, Want: &want})
	if err != nil {
		return host.ProcessUse{FDs: -1, Maps: -1}, err
	}
	return *r.Use, nil
}

// Kills lists who was killed at the memory limit of a control group.
func (c *Client) Kills() ([]host.Kill, error) {
	r, _, err := c.ask(request{Verb: verbKills})
	return r.Kills, err
}

// DiagSocket gives a sock_diag socket of a namespace, which the caller closes. It only shows: what would
// change a socket through it asks for CAP_NET_ADMIN in whoever sends the request, too.
func (c *Client) DiagSocket(netns string) (int, error) {
	_, fd, err := c.ask(request{Verb: verbDiag, Target: netns})
	return fd, err
}

// Statistics keeps the kernel's run-time statistics of BPF on until it is closed.
func (c *Client) Statistics() (io.Closer, error) {
	_, fd, err := c.ask(request{Verb: verbStatistics})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "bpf-stats"), nil
}

// ask sends one request and waits for its answer.
func (c *Client) ask(q request) (reply, int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	q.ID = c.next
	fail := func(err error) (reply, int, error) {
		return reply{}, -1, &tune.Error{Op: "ask the guard to look", Subject: string(q.Verb), Err: errors.Join(tune.ErrNoData, err)}
	}
	b, err := json.Marshal(q)
	if err != nil {
		return fail(err)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience)) // a socket takes deadlines
	if _, err := c.conn.Write(b); err != nil {
		return fail(err)
	}
	for {
		r, fd, err := c.receive()
		if err != nil {
			return fail(err)
		}
		if r.ID != q.ID { // the late answer to one we gave up on
			if fd >= 0 {
				unix.Close(fd)
			}
			continue
		}
		wantsFD := q.Verb == verbDiag || q.Verb == verbStatistics
		complete := r.Error != nil || wantsFD == (fd >= 0) && (q.Verb != verbProbe || r.Capability != nil) && (q.Verb != verbProcess || r.Use != nil)
		if !complete {
			return fail(fmt.Errorf("half an answer: %w", tune.ErrCorrupt))
		}
		return r, fd, r.Error.error()
	}
}

func (c *Client) receive() (reply, int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(c.buf, oob)
	if err != nil {
		return reply{}, -1, err
	}
	fd := -1
	if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
		for _, m := range messages {
			if got, err := unix.ParseUnixRights(&m); err == nil && len(got) == 1 {
				fd = got[0]
			}
		}
	}
	var r reply
	if err = strict(c.buf[:n], &r); err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		if fd >= 0 {
			unix.Close(fd)
		}
		return reply{}, -1, errors.Join(tune.ErrCorrupt, err)
	}
	return r, fd, nil
}
