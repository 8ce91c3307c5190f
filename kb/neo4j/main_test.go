package neo4j

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"semantos/kb/kbtest"
	"semantos/kb/neo4j/neo4jtest"
)

// shared is one server for the tests of this package, which therefore are not parallel.
var shared neo4jtest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Stop()
	os.Exit(code)
}

// quick are the limits of a test: nothing waits long for what cannot be.
func quick() limits {
	l := defaultLimits()
	l.idle, l.retry, l.longest, l.locked = 200*time.Millisecond, 20*time.Millisecond, 200*time.Millisecond, 500*time.Millisecond
	return l
}

func server(t *testing.T) *neo4jtest.Server {
	t.Helper()
	srv := shared.Server(t)
	srv.Wipe(t)
	return srv
}

func configOf(uri, spool string) Config {
	return Config{URI: uri, User: neo4jtest.User, Pass: neo4jtest.Pass, Spool: spool, Log: slog.New(slog.DiscardHandler)}
}

func openStore(t *testing.T, cfg Config) *Store {
	t.Helper()
	return openWith(t, cfg, quick())
}

func openWith(t *testing.T, cfg Config, lim limits) *Store {
	t.Helper()
	s, err := open(t.Context(), cfg, lim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// reaches waits until the store has the status, and fails the test when it does not get there.
func reaches(t *testing.T, s *Store, want Status) State {
	t.Helper()
	s.await(t.Context(), 30*time.Second, func(st State, _ int64) bool { return st.Status == want })
	st := s.State()
	if st.Status != want {
		t.Fatalf("status %+v, want %s", st, want)
	}
	return st
}

// drained waits until nothing is queued.
func drained(t *testing.T, s *Store) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for s.State().Queued > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("still %+v", s.State())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestConformance(t *testing.T) {
	shared.Server(t)
	t.Run("one machine", func(t *testing.T) {
		kbtest.Run(t, func(t *testing.T) (kbtest.Store, func() kbtest.Store) {
			srv, dir := server(t), t.TempDir()
			return openStore(t, configOf(srv.URI(), dir)), func() kbtest.Store { return openStore(t, configOf(srv.URI(), dir)) }
		})
	})
	// What one machine wrote, another one with a spool of its own reads: it is in Neo4j.
	t.Run("two machines", func(t *testing.T) {
		kbtest.Contents(t, func(t *testing.T) (kbtest.Store, func() kbtest.Store) {
			srv := server(t)
			return openStore(t, configOf(srv.URI(), t.TempDir())), func() kbtest.Store { return openStore(t, configOf(srv.URI(), t.TempDir())) }
		})
	})
}
