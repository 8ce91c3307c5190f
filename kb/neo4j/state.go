package neo4j

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"

	"semantos/internal/tune"
)

// Status is how it stands with the connection.
type Status string

// The statuses. In all but OK reads are answered from the last known copy and writes wait in the queue.
const (
	Connecting   Status = "connecting"   // the first answer is awaited, or everything is being copied
	OK           Status = "ok"           // reads and writes reach Neo4j
	Slow         Status = "slow"         // it takes connections and answers too late
	Unreachable  Status = "unreachable"  // it takes no connection
	Unauthorised Status = "unauthorised" // it refuses user or password
	Broken       Status = "broken"       // it answers, but not with what can be used; Reason says what
)

// State is what /readyz and doctor show.
type State struct {
	Status Status    `json:"status"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"` // "" when ok
	Queued int       `json:"queued"`           // writes that wait for delivery
}

// board holds the state and how far the queue was delivered, and wakes those who wait for either.
type board struct {
	mu        sync.Mutex
	state     State
	delivered int64
	changed   chan struct{} // closed and replaced at each change
}

// look gives what is there and a channel that is closed when it is not any more.
func (b *board) look() (State, int64, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state, b.delivered, b.changed
}

func (b *board) post(change func(*State, *int64)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.state, &b.delivered)
	close(b.changed)
	b.changed = make(chan struct{})
}

// become records a status and logs it when it is new.
func (s *Store) become(status Status, reason string) {
	reason = s.scrub(reason)
	before, _, _ := s.board.look()
	if before.Status == status && before.Reason == reason {
		return
	}
	s.board.post(func(st *State, _ *int64) {
		if st.Status != status {
			st.Since = s.cfg.Now()
		}
		st.Status, st.Reason = status, reason
	})
	if before.Status == status {
		return
	}
	if status == OK {
		s.cfg.Log.Info("neo4j answers", "address", s.addr)
		return
	}
	s.cfg.Log.Warn("neo4j is not usable: reading the last known copy, queueing writes",
		"address", s.addr, "status", string(status), "reason", reason)
}

// scrub keeps the password out of whatever a server or a library may have put into a text.
func (s *Store) scrub(text string) string {
	if len(s.cfg.Pass) > 3 {
		text = strings.ReplaceAll(text, s.cfg.Pass, "[password]")
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = text[:300] + "..."
	}
	return text
}

// errLost says that the database is not the one this connection began with, or lost things of it.
var errLost = errors.New("the database lost what it had: it is told everything again")

// errHole says that an edge found no node: somebody deleted it there. The copy still has it.
var errHole = fmt.Errorf("a node is missing: %w", errLost)

// classify turns an error of a connection into a status and a sentence.
func (s *Store) classify(err error) (Status, string) {
	var limit *neo4j.TransactionExecutionLimit
	if errors.As(err, &limit) && len(limit.Errors) > 0 {
		err = limit.Errors[len(limit.Errors)-1] // what happened, not how often it was tried
	}
	var (
		server  *neo4j.Neo4jError
		network net.Error
		dial    *net.OpError
		token   *neo4j.TokenExpiredError
	)
	switch {
	case errors.Is(err, errLost):
		return Connecting, err.Error()
	case errors.Is(err, tune.ErrCorrupt), errors.Is(err, tune.ErrStorage):
		return Broken, err.Error()
	case errors.As(err, &token):
		return Unauthorised, "the access token has expired: check NEO4J_PASS"
	case errors.As(err, &server) && strings.HasPrefix(server.Code, "Neo.ClientError.Security."):
		return Unauthorised, fmt.Sprintf("it refuses NEO4J_USER or NEO4J_PASS (%s)", server.Code)
	case errors.As(err, &server):
		return Broken, fmt.Sprintf("it refuses a statement (%s): %s", server.Code, server.Msg)
	case errors.Is(err, syscall.ECONNREFUSED):
		return Unreachable, "nobody listens there (connection refused)"
	case errors.As(err, &dial) && dial.Op == "dial":
		return Unreachable, dial.Err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout(), isTimeout(err):
		return Slow, "it takes connections but did not answer in time"
	}
	return Unreachable, err.Error()
}

// isTimeout knows the errors of the driver that stand for a time limit and wrap nothing that says so.
func isTimeout(err error) bool {
	text := err.Error()
	return strings.Contains(text, "Timeout while reading from connection") || strings.Contains(text, "context deadline exceeded")
}

// diagnose is classify, and tells slow from unreachable by trying: a lost packet looks like both.
func (s *Store) diagnose(ctx context.Context, err error) (Status, string) {
	status, reason := s.classify(err)
	if status != Slow {
		return status, reason
	}
	dialer := net.Dialer{Timeout: s.limits.connect / 3}
	conn, dialErr := dialer.DialContext(ctx, "tcp", s.addr)
	if dialErr != nil {
		return Unreachable, "no connection within the time limit"
	}
	conn.Close()
	return status, reason
}
