package neo4j

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"semantos/internal/tune"
	"semantos/kb/sqlite"
)

// run keeps a connection, one life after the other, until ctx ends.
func (s *Store) run(ctx context.Context) {
	defer close(s.done)
	pause := s.limits.retry
	for ctx.Err() == nil {
		err := s.live(ctx, func() { pause = s.limits.retry })
		if ctx.Err() != nil {
			return
		}
		status, reason := s.diagnose(ctx, err)
		s.become(status, reason)
		longest := s.limits.longest
		if status == Unauthorised {
			longest, pause = s.limits.locked, max(pause, s.limits.locked/10)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longest)
	}
}

// live is one connection from its beginning to the error that ends it; works is called when it has
// proved itself.
func (s *Store) live(ctx context.Context, works func()) error {
	l, err := s.dial()
	if err != nil {
		return err
	}
	defer l.close(s.limits.connect)
	if err := s.greet(ctx, l); err != nil {
		return err
	}
	s.setLink(l)
	defer s.setLink(nil)
	for {
		took, err := s.round(ctx, l)
		if err != nil {
			return err
		}
		works()
		// What a reader would wait too long for is slow, although it works.
		if took > s.limits.read/2 {
			s.become(Slow, fmt.Sprintf("a question took it %v", took.Round(100*time.Millisecond)))
		} else {
			s.become(OK, "")
		}
		select {
		case <-s.wake:
		case <-time.After(s.limits.idle):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// round delivers what waits and copies what is new; took is how long the first question took.
func (s *Store) round(ctx context.Context, l *link) (took time.Duration, err error) {
	begin := time.Now()
	if _, err := s.clock(ctx, l); err != nil {
		return 0, err
	}
	took = time.Since(begin)
	if err := s.deliver(ctx, l); err != nil {
		return 0, err
	}
	return took, s.pull(ctx, l)
}

// greet makes sure of password and schema, and of which database this is.
func (s *Store) greet(ctx context.Context, l *link) error {
	known, err := s.spool.Remote(ctx)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, s.limits.connect)
	defer cancel()
	if err := s.verify(short, l); err != nil {
		return err
	}
	if err := s.migrate(ctx, l); err != nil {
		return err
	}
	meeting, err := s.ask(ctx, l, known.Writer)
	if err != nil {
		return err
	}
	for _, k := range kinds() {
		meeting.Kinds = append(meeting.Kinds, k.name)
	}
	requeued, err := s.spool.Meet(ctx, known, meeting)
	if err != nil {
		return err
	}
	if requeued {
		s.cfg.Log.Warn("neo4j is another database than before or lost what it had: telling it everything again", "address", s.addr)
	}
	return nil
}

// verify asks for nothing but an answer. A panic of the driver is caught as in transact.
func (s *Store) verify(ctx context.Context, l *link) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: what answers does not speak Bolt: %v", tune.ErrCorrupt, p)
		}
	}()
	return l.driver.VerifyConnectivity(ctx)
}

// migrate brings the schema to this build's version; a newer one is refused.
func (s *Store) migrate(ctx context.Context, l *link) error {
	version, err := read(ctx, l, s.limits.deliver, func(t tx) (int64, error) {
		rows, err := t.run(readVersion, nil)
		if err != nil || len(rows) == 0 {
			return 0, err
		}
		v, clock := rows[0].whole("version"), rows[0].truth("clock")
		if v == schemaVersion && !clock {
			return 0, rows[0].err // somebody deleted it: made anew, it is another database
		}
		return v, rows[0].err
	})
	switch {
	case err != nil:
		return err
	case version > schemaVersion:
		return fmt.Errorf("%w: its schema is version %d and this build knows up to %d: use the newer semantos, or another database",
			tune.ErrStorage, version, schemaVersion)
	case version == schemaVersion:
		return nil
	}
	for _, step := range migrations() {
		if _, err := write(ctx, l, s.limits.deliver, func(t tx) (any, error) { return t.run(step, nil) }); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	_, err = write(ctx, l, s.limits.deliver, func(t tx) (any, error) {
		return t.run(writeVersion, map[string]any{"database": rand.Text(), "version": int64(schemaVersion)})
	})
	return err
}

// clock asks for the number of the newest change, on behalf of whoever writes here.
func (s *Store) clock(ctx context.Context, l *link) (sqlite.Meeting, error) {
	known, err := s.spool.Remote(ctx)
	if err != nil {
		return sqlite.Meeting{}, err
	}
	m, err := s.ask(ctx, l, known.Writer)
	if err == nil && m.Database != known.Database {
		return m, errLost
	}
	return m, err
}

func (s *Store) ask(ctx context.Context, l *link, writer string) (sqlite.Meeting, error) {
	return read(ctx, l, s.limits.deliver, func(t tx) (sqlite.Meeting, error) {
		rows, err := t.run(readClock, map[string]any{"writer": writer})
		if err == nil && len(rows) == 0 {
			return sqlite.Meeting{}, errLost
		}
		return meeting(one(rows, err))
	})
}

func meeting(r row, err error) (sqlite.Meeting, error) {
	if err != nil {
		return sqlite.Meeting{}, err
	}
	m := sqlite.Meeting{Database: r.text("database"), Seq: r.whole("seq"), Clock: r.whole("n")}
	if r.err != nil {
		return m, fmt.Errorf("read clock: %w", r.err)
	}
	return m, nil
}
