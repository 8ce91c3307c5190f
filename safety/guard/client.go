package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
	"semantos/safety/audit"
)

// StartConfig says how to start the guard.
type StartConfig struct {
	Exe    string   // "" is this binary
	Args   []string // nil is {"guard"}; the same folders and --root as the parent's belong here
	Env    []string // nil is the parent's
	Stderr io.Writer
	Extra  []*os.File    // descriptors 4 and up of the guard
	Lease  time.Duration // renewal; 0 is a fifth of DefaultLease
}

// Client speaks to one guard. Its methods may be called from several goroutines.
type Client struct {
	conn  net.Conn
	wait  func() error // collects the child
	pid   int
	notes []string
	weak  []string

	write   sync.Mutex
	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan wireReply
	lost    error
	done    chan struct{}
	exited  chan struct{}
	closing chan struct{}
	once    sync.Once
	handed  *os.File // its descriptor, once it was handed over
}

// Start spawns the guard and waits until it has the host's lock and has recovered what a dead one left.
// The guard does not die with ctx, which bounds the start alone.
func Start(ctx context.Context, cfg StartConfig) (*Client, error) {
	c, err := spawn(cfg)
	if err != nil {
		return nil, err
	}
	go c.receive()
	go c.reap()
	r, err := c.call(ctx, wireRequest{Verb: verbHello, Version: protocolVersion})
	if err == nil && r.Version != protocolVersion {
		err = fmt.Errorf("%w: guard speaks version %d", errProtocol, r.Version)
	}
	if err != nil {
		_ = c.conn.Close() // the guard ends with its socket
		return nil, fmt.Errorf("start guard: %w", err)
	}
	c.pid, c.notes, c.weak = r.Pid, r.Notes, r.Weak
	renew := cfg.Lease
	if renew <= 0 {
		renew = DefaultLease / 5
	}
	go c.renew(renew)
	return c, nil
}

func spawn(cfg StartConfig) (*Client, error) {
	if cfg.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own binary: %w", err)
		}
		cfg.Exe = exe
	}
	if cfg.Args == nil {
		cfg.Args = []string{"guard"}
	}
	// Close-on-exec: a meter's child that inherited our end would keep the guard from seeing us die.
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make guard socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "guard"), os.NewFile(uintptr(pair[1]), "parent")
	defer func() { _, _ = ours.Close(), theirs.Close() }() // copies live in conn and in the child
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("make guard socket: %w", err)
	}
	cmd := exec.Command(cfg.Exe, cfg.Args...)
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = cfg.Env, cfg.Stderr, append([]*os.File{theirs}, cfg.Extra...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start guard: %w", err), conn.Close())
	}
	return newClient(conn, cmd.Process.Pid, cmd.Wait), nil
}

func newClient(conn net.Conn, pid int, wait func() error) *Client {
	return &Client{conn: conn, wait: wait, pid: pid, waiting: map[uint64]chan wireReply{},
		done: make(chan struct{}), exited: make(chan struct{}), closing: make(chan struct{})}
}

// Pid is the guard's process id.
func (c *Client) Pid() int { return c.pid }

// Notes says what the guard found when it started: what it restored, what is wrong with the journal.
func (c *Client) Notes() []string { return c.notes }

// Weaknesses says how this host keeps the guard from protecting itself (memory, the OOM killer): for
// doctor, not for every command.
func (c *Client) Weaknesses() []string { return c.weak }

// Done is closed when the guard is gone. The caller must then stop acting: nobody guards any more.
func (c *Client) Done() <-chan struct{} { return c.done }

// Apply makes all changes or none: journaled, written, read back.
func (c *Client) Apply(ctx context.Context, rollout string, changes []tune.Change, actor string) ([]Applied, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbApply, Rollout: rollout, Changes: changes, Actor: actor})
	return r.Applied, err
}

// Revert puts an uncommitted rollout's tunables back, those on the targets named or all, and keeps it open
// for the next slot. A value that something else changed is yielded, which is an outcome and not an error.
func (c *Client) Revert(ctx context.Context, rollout string, targets ...string) ([]Restored, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbRevert, Rollout: rollout, Targets: targets})
	return r.Restored, err
}

// Commit keeps what stands; it fails with tune.ErrDrifted when something else changed it.
func (c *Client) Commit(ctx context.Context, rollout string) error {
	_, err := c.call(ctx, wireRequest{Verb: verbCommit, Rollout: rollout})
	return err
}

// Rollback puts a rollout back, committed or not, removes what it persisted, and closes it. Of a closed
// one it restores nothing.
func (c *Client) Rollback(ctx context.Context, rollout, actor string) ([]Restored, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbRollback, Rollout: rollout, Actor: actor})
	return r.Restored, err
}

// Release puts single tunables of a committed rollout back, named by tunable and target alone; the rest
// stands on. Once it began it is carried through, by this guard or by the next one.
func (c *Client) Release(ctx context.Context, rollout string, named []tune.Change, actor string) ([]Restored, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbRelease, Rollout: rollout, Changes: named, Actor: actor})
	return r.Restored, err
}

// Persist makes a committed rollout hold over a boot, and names the files it wrote.
func (c *Client) Persist(ctx context.Context, rollout string) ([]string, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbPersist, Rollout: rollout})
	return r.Files, err
}

// Reopen lets a rollout whose command ended go on under its name: everything it held was put back since.
// It fails with tune.ErrUnknown for one that never wrote, tune.ErrDrifted where something else took a
// value over, and tune.ErrStale after a boot.
func (c *Client) Reopen(ctx context.Context, rollout string) error {
	_, err := c.call(ctx, wireRequest{Verb: verbReopen, Rollout: rollout})
	return err
}

// Freeze forbids every change on this host, puts back what is not committed, and says so on disk: it
// outlives this process and the boot. Thaw takes it back.
func (c *Client) Freeze(ctx context.Context, actor, why string) ([]Restored, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbFreeze, Actor: actor, Why: why})
	return r.Restored, err
}

// Frozen says whose freeze stands on this host, nil for none.
func (c *Client) Frozen(ctx context.Context) (*tune.Freeze, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbFrozen})
	return r.Frozen, err
}

// Thaw lets changes be made again.
func (c *Client) Thaw(ctx context.Context, actor string) error {
	_, err := c.call(ctx, wireRequest{Verb: verbThaw, Actor: actor})
	return err
}

// Managed lists what semantos holds now, oldest first.
func (c *Client) Managed(ctx context.Context) ([]tune.Managed, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbManaged})
	if err == nil && r.Managed == nil {
		r.Managed = []tune.Managed{}
	}
	return r.Managed, err
}

// Who says of tunables that were found changed who made them so: one sentence each. Current is the value found.
func (c *Client) Who(ctx context.Context, found []tune.Change) ([]string, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbWho, Changes: found})
	if err == nil && len(r.Told) != len(found) {
		err = fmt.Errorf("%w: %d answers to %d questions", errProtocol, len(r.Told), len(found))
	}
	return r.Told, err
}

// Note has a decision logged. It fails where there were too many; a log that cannot be written stops the
// next change instead.
func (c *Client) Note(ctx context.Context, e audit.Entry) error {
	_, err := c.call(ctx, wireRequest{Verb: verbNote, Note: &e})
	return err
}

// Audit says where the log of decisions and writes stands.
func (c *Client) Audit(ctx context.Context) (Audited, error) {
	r, err := c.call(ctx, wireRequest{Verb: verbAudit})
	if err != nil || r.Audit == nil {
		return Audited{}, err
	}
	return *r.Audit, nil
}

// Close ends the guard, which restores what is uncommitted, and waits until it is gone.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime+5*time.Second)
	defer cancel()
	var err error
	if c.handed == nil {
		_, err = c.call(ctx, wireRequest{Verb: verbBye})
	} else {
		err = c.handed.Close() // nobody took it over: the end of the socket says goodbye
	}
	c.once.Do(func() { close(c.closing) })
	closeErr := c.conn.Close()
	select {
	case <-c.exited:
	case <-ctx.Done():
		err = errors.Join(err, &tune.Error{Op: "close guard", Err: fmt.Errorf("%w: process %d does not end", tune.ErrStorage, c.pid),
			Hint: "what it put back stands; its journal follows once the disk of DATA_DIR answers"})
	}
	if errors.Is(closeErr, net.ErrClosed) {
		closeErr = nil
	}
	return errors.Join(err, closeErr)
}

// call sends one request and waits for its reply, the guard's end, or ctx.
func (c *Client) call(ctx context.Context, q wireRequest) (wireReply, error) {
	answer := make(chan wireReply, 1)
	c.mu.Lock()
	c.next++
	q.ID = c.next
	c.waiting[q.ID] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, q.ID)
		c.mu.Unlock()
	}()
	if err := c.send(q); err != nil {
		return wireReply{}, c.lostError(err)
	}
	select {
	case r := <-answer:
		return r, r.Error.error()
	case <-c.done:
		select {
		case r := <-answer: // it answered before it went
			return r, r.Error.error()
		default:
		}
		return wireReply{}, c.lostError(nil)
	case <-ctx.Done():
		return wireReply{}, fmt.Errorf("ask guard to %s: %w", q.Verb, ctx.Err())
	}
}

func (c *Client) send(q wireRequest) error {
	c.write.Lock()
	defer c.write.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(2 * time.Second)) // a stopped guard must not hold us
	return writeFrame(c.conn, q)
}

func (c *Client) lostError(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &tune.Error{Op: "ask guard", Err: errors.Join(errGuardLost, err, c.lost),
		Hint: "nothing more is changed; run 'semantos rollback --all' to restore what it left"}
}

var errGuardLost = errors.New("the guard process is gone")

func (c *Client) receive() {
	defer close(c.done)
	for {
		var r wireReply
		if err := readReply(c.conn, &r); err != nil {
			c.mu.Lock()
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				c.lost = err
			}
			c.mu.Unlock()
			return
		}
		c.mu.Lock()
		answer := c.waiting[r.ID]
		c.mu.Unlock()
		select {
		case answer <- r:
		default: // nobody waits for it any more
		}
	}
}

// renew keeps the lease from a goroutine of its own: it stops with the process, not with slow work.
func (c *Client) renew(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-c.done:
			return
		case <-tick.C:
			_ = c.send(wireRequest{Verb: verbLease}) // a lost guard is told by receive
		}
	}
}

// reap collects the child.
func (c *Client) reap() {
	defer close(c.exited)
	_ = c.wait() // its status tells nothing that the socket did not
}
