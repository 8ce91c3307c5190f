package guard

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// HandOver gives the descriptor that a new program of this very process goes on with, see [Adopt]. Nothing
// may be under way; from here on nothing is sent, so that no frame is cut. The guard believes in its
// parent for another lease, and holds nothing uncommitted meanwhile.
func (c *Client) HandOver() (*os.File, error) {
	c.write.Lock() // for good: whoever still wants to send waits for the end of this program
	u, ok := c.conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("hand guard over: %w: its socket is none", tune.ErrUsage)
	}
	f, err := u.File()
	if err != nil {
		return nil, fmt.Errorf("hand guard over: %w", err)
	}
	c.handed = f
	return f, nil
}

// Adopt goes on with a guard that an earlier program of this process started. pid must be our child.
func Adopt(socket *os.File, pid int, lease time.Duration) (*Client, error) {
	var status unix.WaitStatus
	if got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil); err != nil || got != 0 {
		return nil, &tune.Error{Op: "adopt guard", Subject: fmt.Sprintf("pid %d", pid), Err: errors.Join(errGuardLost, err),
			Hint: "start again"}
	}
	conn, err := net.FileConn(socket)
	if err != nil {
		return nil, fmt.Errorf("adopt guard: %w", err)
	}
	_ = socket.Close() // conn has a descriptor of its own
	c := newClient(conn, pid, func() error {
		for {
			if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
				return err
			}
		}
	})
	go c.receive()
	go c.reap()
	if lease <= 0 {
		lease = DefaultLease / 5
	}
	go c.renew(lease)
	return c, nil
}
