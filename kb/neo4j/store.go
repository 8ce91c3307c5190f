package neo4j

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"semantos/kb/sqlite"
)

// Store is safe for concurrent use, and by several processes with the same spool.
type Store struct {
	cfg    Config
	limits limits
	addr   string // host:port
	spool  *sqlite.Spool
	board  board

	mu   sync.Mutex
	link *link // nil while nothing is connected

	pulling chan struct{} // holds one token: one copies what is newer, others wait
	wake    chan struct{}
	stop    context.CancelFunc
	done    chan struct{}
}

// Open opens the spool and begins to connect. It waits a moment for the first answer, never longer than
// about three seconds: a server that is absent, slow, or refuses the password is a [State], not an error.
// Errors are those of an unusable configuration (tune.ErrUsage) or spool (tune.ErrStorage, tune.ErrCorrupt).
func Open(ctx context.Context, cfg Config) (*Store, error) {
	return open(ctx, cfg, defaultLimits())
}

func open(ctx context.Context, cfg Config, lim limits) (*Store, error) {
	addr, err := cfg.address()
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	spool, err := sqlite.OpenSpoolWith(ctx, cfg.Spool, cfg.Opens)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	s := &Store{cfg: cfg, limits: lim, addr: addr, spool: spool, stop: stop,
		board:   board{state: State{Status: Connecting, Since: cfg.Now(), Reason: "no answer yet"}, changed: make(chan struct{})},
		pulling: make(chan struct{}, 1), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run(running)
	s.await(ctx, lim.open, func(st State, _ int64) bool { return st.Status != Connecting })
	return s, nil
}

// await waits until the board shows what is wanted, at most for limit.
func (s *Store) await(ctx context.Context, limit time.Duration, wanted func(State, int64) bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		state, delivered, changed := s.board.look()
		if wanted(state, delivered) {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// State says how it stands with the connection and how much waits.
func (s *Store) State() State {
	state, _, _ := s.board.look()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if n, err := s.spool.Waiting(ctx); err == nil {
		state.Queued = n
	}
	return state
}

// Close delivers what can be delivered at once and ends; the rest stays queued for the next [Open].
func (s *Store) Close() error {
	s.delivered(context.Background())
	s.stop()
	<-s.done
	return s.spool.Close()
}

// delivered waits, while the connection is up, until everything queued so far has arrived.
func (s *Store) delivered(ctx context.Context) {
	target, err := s.spool.LastQueued(ctx)
	if err != nil {
		return // whoever uses the spool next meets the same error and can report it
	}
	s.poke()
	s.await(ctx, s.limits.write, func(st State, seq int64) bool { return st.Status != OK || seq >= target })
}

// poke makes the runner look at the queue now.
func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) connected() *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}

func (s *Store) setLink(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
}

// refresh copies what is newer before a read, when that is quick. A failure never fails the read.
func (s *Store) refresh(ctx context.Context) {
	l := s.connected()
	if state, _, _ := s.board.look(); l == nil || state.Status != OK {
		return
	}
	short, cancel := context.WithTimeout(ctx, s.limits.read)
	defer cancel()
	err := s.pull(short, l)
	if err == nil || ctx.Err() != nil || s.connected() != l {
		return // answered, the caller gave up, or the runner met the failure first
	}
	s.become(s.classify(err))
	s.poke()
}
