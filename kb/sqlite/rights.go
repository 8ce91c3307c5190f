package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"semantos/internal/tune"
)

// Rights calls what opens the store's files with the rights of another user, on the thread that calls. Root gives
// it for a store in a folder of that user, who may put there, at any moment, what leads elsewhere: opened with
// the user's own rights it leads to nothing that the user has not already.
type Rights func(open func() error) error

// with opens with our own rights where there are no others.
func (r Rights) with(open func() error) error {
	if r == nil {
		return open()
	}
	return r(open)
}

// opener opens connections with the rights of a user. Whatever a connection opens by name it opens in Connect:
// the database, its log and the log's index stay open as long as the connection, and what comes after goes
// through their descriptors.
type opener struct {
	driver.Connector
	rights Rights
}

// Connect opens one connection, with all its files.
func (o opener) Connect(ctx context.Context) (conn driver.Conn, err error) {
	err = o.rights.with(func() error {
		if conn, err = o.Connector.Connect(ctx); err != nil {
			return err
		}
		if err = openAll(ctx, conn); err != nil {
			return errors.Join(err, conn.Close())
		}
		return nil
	})
	return conn, err
}

// openAll reads once, for only that opens the log, and refuses a connection that works without one: it would open
// a rollback journal by name at every change.
func openAll(ctx context.Context, conn driver.Conn) error {
	asks, ok := conn.(driver.QueryerContext)
	if !ok {
		return fmt.Errorf("%T answers no query: %w", conn, tune.ErrUnsupported)
	}
	row := []driver.Value{nil}
	for _, query := range []string{"SELECT count(*) FROM sqlite_schema", "PRAGMA journal_mode"} {
		rows, err := asks.QueryContext(ctx, query, nil)
		if err != nil {
			return err
		}
		if err := errors.Join(rows.Next(row), rows.Close()); err != nil {
			return err
		}
	}
	if mode := fmt.Sprint(row[0]); mode != "wal" {
		return fmt.Errorf("%w: journal mode %q, not wal", tune.ErrStorage, mode)
	}
	return nil
}
