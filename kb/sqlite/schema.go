package sqlite

import (
	"context"
	"fmt"

	"semantos/internal/tune"
)

// applicationID marks the file as ours ("smts"), so that another program's database is not migrated.
const applicationID = 0x736d7473

// migrations lead from one schema version (PRAGMA user_version) to the next. They are only appended to.
// The documents are JSON as the command line prints them; columns beside them exist to be searched.
func migrations() []string {
	return []string{`
CREATE TABLE recommendation (
	id   TEXT PRIMARY KEY,
	at   INTEGER NOT NULL,              -- unix nanoseconds of the newest time it was given
	body TEXT NOT NULL CHECK (json_valid(body))
) STRICT;
CREATE INDEX recommendation_at ON recommendation (at);
CREATE TABLE rollout (
	id             TEXT PRIMARY KEY,
	recommendation TEXT NOT NULL,
	symptom        TEXT NOT NULL,
	state          TEXT NOT NULL,
	started        INTEGER NOT NULL,    -- unix nanoseconds
	body           TEXT NOT NULL CHECK (json_valid(body))
) STRICT;
CREATE INDEX rollout_started ON rollout (started);
CREATE INDEX rollout_recommendation ON rollout (recommendation, started);
CREATE INDEX rollout_symptom ON rollout (symptom, started);
CREATE TABLE rollout_change (
	rollout TEXT NOT NULL REFERENCES rollout (id) ON DELETE CASCADE,
	tunable TEXT NOT NULL,
	target  TEXT NOT NULL,
	PRIMARY KEY (rollout, tunable, target)
) STRICT;
CREATE INDEX rollout_change_tunable ON rollout_change (tunable, rollout);
`, `
CREATE TABLE node (
	id   TEXT PRIMARY KEY,
	body TEXT NOT NULL CHECK (json_valid(body))
) STRICT;
CREATE TABLE edge (
	from_id TEXT NOT NULL REFERENCES node (id),
	type    TEXT NOT NULL,
	to_id   TEXT NOT NULL REFERENCES node (id),
	retired INTEGER NOT NULL,
	body    TEXT NOT NULL CHECK (json_valid(body)),
	PRIMARY KEY (from_id, type, to_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE edge_event (
	seq     INTEGER PRIMARY KEY,        -- the order of arrival, for events of the same instant
	from_id TEXT NOT NULL,
	type    TEXT NOT NULL,
	to_id   TEXT NOT NULL,
	at      INTEGER NOT NULL,           -- unix nanoseconds
	body    TEXT NOT NULL CHECK (json_valid(body)),
	FOREIGN KEY (from_id, type, to_id) REFERENCES edge (from_id, type, to_id)
) STRICT;
CREATE INDEX edge_event_edge ON edge_event (from_id, type, to_id, at, seq);
CREATE TABLE trace (
	id   TEXT PRIMARY KEY,
	at   INTEGER NOT NULL,              -- unix nanoseconds of its end
	body TEXT NOT NULL CHECK (json_valid(body))
) STRICT;
CREATE INDEX trace_at ON trace (at, id);
CREATE TABLE counter (
	name TEXT PRIMARY KEY,
	n    INTEGER NOT NULL
) STRICT;
INSERT INTO counter VALUES ('graph', 0);
`, `
-- For a store that stands before a remote one: what it was not told yet, and what is known of it.
CREATE TABLE outbox (
	seq    INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice, also after a delivery
	things INTEGER NOT NULL,
	body   TEXT NOT NULL CHECK (json_valid(body))
) STRICT;
CREATE TABLE remote (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	writer   TEXT NOT NULL,             -- who we are there
	database TEXT NOT NULL,             -- which one it is, '' before the first meeting
	seq      INTEGER NOT NULL,          -- the newest outbox row it has confirmed
	cursors  TEXT NOT NULL CHECK (json_valid(cursors))
) STRICT;
`, `
-- Trials that run or wait, as they stood: this machine's alone, never queued for a remote store.
CREATE TABLE trial (
	rollout TEXT PRIMARY KEY,
	at      INTEGER NOT NULL,           -- unix nanoseconds
	body    BLOB NOT NULL               -- whoever wrote it checks it when it reads it
) STRICT;
`}
}

// migrate brings the schema to the newest version in one transaction: all of it or nothing.
func (s *Store) migrate(ctx context.Context) error {
	steps := migrations()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.explain("open store", err)
	}
	defer tx.Rollback()
	var version, tables int
	if err := tx.QueryRowContext(ctx, `SELECT (SELECT user_version FROM pragma_user_version),
		(SELECT count(*) FROM sqlite_schema)`).Scan(&version, &tables); err != nil {
		return s.explain("open store", err)
	}
	switch {
	case version > len(steps):
		return &tune.Error{
			Op: "open store", Subject: s.path,
			Err: fmt.Errorf("%w: its schema is version %d and this build knows up to %d",
				tune.ErrStorage, version, len(steps)),
			Hint: "use the newer semantos that wrote it, or name another directory with --data-dir",
		}
	case version < 0 || (version == 0 && tables > 0):
		return corrupt(s.path, fmt.Errorf("its schema version is %d with %d tables and indexes", version, tables))
	case version == len(steps):
		return nil
	}
	for i, step := range steps[version:] {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return s.explain(fmt.Sprintf("migrate store to version %d", version+i+1), err)
		}
	}
	pragmas := fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d", len(steps), applicationID)
	if _, err := tx.ExecContext(ctx, pragmas); err != nil {
		return s.explain("migrate store", err)
	}
	if err := tx.Commit(); err != nil {
		return s.explain("migrate store", err)
	}
	return nil
}
