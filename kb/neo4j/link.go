package neo4j

import (
	"context"
	"fmt"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/config"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/notifications"

	"semantos/internal/tune"
)

// link is one life of the connection: a pool of the driver's, given up as a whole when something failed.
type link struct {
	driver    neo4j.DriverWithContext
	bookmarks neo4j.BookmarkManager // so that in a cluster a read sees the writes before it
}

// dial makes a pool; nothing is connected yet.
func (s *Store) dial() (*link, error) {
	driver, err := neo4j.NewDriverWithContext(s.cfg.URI, neo4j.BasicAuth(s.cfg.User, s.cfg.Pass, ""), func(c *config.Config) {
		c.SocketConnectTimeout = s.limits.connect
		c.ConnectionAcquisitionTimeout = s.limits.connect
		c.MaxTransactionRetryTime = s.limits.read
		c.MaxConnectionPoolSize = 8
		c.ConnectionLivenessCheckTimeout = time.Minute
		c.FetchSize = neo4j.FetchAll
		c.UserAgent = "semantos"
		c.TelemetryDisabled = true
		c.NotificationsMinSeverity = notifications.DisabledLevel
	})
	if err != nil {
		return nil, fmt.Errorf("make connection pool: %w", err)
	}
	return &link{driver: driver, bookmarks: neo4j.NewBookmarkManager(neo4j.BookmarkManagerConfig{})}, nil
}

func (l *link) close(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	l.driver.Close(ctx)
}

// tx is one managed transaction: the driver runs the work again when the server asks for that.
type tx struct {
	ctx context.Context
	neo neo4j.ManagedTransaction
}

// run gives the records of a statement.
func (t tx) run(q cypher, params map[string]any) ([]row, error) {
	res, err := t.neo.Run(t.ctx, string(q), params)
	if err != nil {
		return nil, err
	}
	records, err := res.Collect(t.ctx)
	if err != nil {
		return nil, err
	}
	out := make([]row, len(records))
	for i, r := range records {
		out[i] = row{values: r.AsMap()}
	}
	return out, nil
}

// read and write run work in one transaction that ends, one way or the other, within limit.
func read[T any](ctx context.Context, l *link, limit time.Duration, work func(tx) (T, error)) (T, error) {
	return transact(ctx, l, neo4j.AccessModeRead, limit, work)
}

func write[T any](ctx context.Context, l *link, limit time.Duration, work func(tx) (T, error)) (T, error) {
	return transact(ctx, l, neo4j.AccessModeWrite, limit, work)
}

func transact[T any](ctx context.Context, l *link, mode neo4j.AccessMode, limit time.Duration, work func(tx) (T, error)) (out T, err error) {
	// The driver has panics on its reading path. No answer is known to reach one (bolt_test.go tries);
	// a broken server must not end this process.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: what answers does not speak Bolt: %v", tune.ErrCorrupt, p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	session := l.driver.NewSession(ctx, neo4j.SessionConfig{AccessMode: mode, BookmarkManager: l.bookmarks})
	defer func() {
		if closed := session.Close(ctx); err == nil {
			err = closed
		}
	}()
	inside := func(mt neo4j.ManagedTransaction) (T, error) { return work(tx{ctx, mt}) }
	if mode == neo4j.AccessModeRead {
		return neo4j.ExecuteRead(ctx, session, inside, neo4j.WithTxTimeout(limit))
	}
	return neo4j.ExecuteWrite(ctx, session, inside, neo4j.WithTxTimeout(limit))
}
