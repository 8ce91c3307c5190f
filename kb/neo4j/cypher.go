package neo4j

// cypher is a statement. Only constants are of this type (a test holds that), so that data can reach
// Neo4j as parameters only.
type cypher string

// schemaVersion is written to the database by the migration; a newer one is left alone.
const schemaVersion = 1

// migrations make version 1. Each is a transaction of its own, as Neo4j wants it, and can be repeated.
func migrations() []cypher {
	return []cypher{
		`CREATE CONSTRAINT semantos_meta_id IF NOT EXISTS FOR (n:SemantosMeta) REQUIRE n.id IS UNIQUE`,
		`CREATE CONSTRAINT semantos_writer_id IF NOT EXISTS FOR (n:SemantosWriter) REQUIRE n.id IS UNIQUE`,
		`CREATE CONSTRAINT semantos_node_id IF NOT EXISTS FOR (n:SemantosNode) REQUIRE n.id IS UNIQUE`,
		`CREATE CONSTRAINT semantos_event_key IF NOT EXISTS FOR (n:SemantosEvent) REQUIRE n.key IS UNIQUE`,
		`CREATE CONSTRAINT semantos_trace_id IF NOT EXISTS FOR (n:SemantosTrace) REQUIRE n.id IS UNIQUE`,
		`CREATE CONSTRAINT semantos_rollout_id IF NOT EXISTS FOR (n:SemantosRollout) REQUIRE n.id IS UNIQUE`,
		`CREATE CONSTRAINT semantos_advice_id IF NOT EXISTS FOR (n:SemantosAdvice) REQUIRE n.id IS UNIQUE`,
		`CREATE INDEX semantos_node_rev IF NOT EXISTS FOR (n:SemantosNode) ON (n.rev)`,
		`CREATE INDEX semantos_edge_rev IF NOT EXISTS FOR ()-[r:RELATES]-() ON (r.rev)`,
		`CREATE INDEX semantos_event_rev IF NOT EXISTS FOR (n:SemantosEvent) ON (n.rev)`,
		`CREATE INDEX semantos_trace_rev IF NOT EXISTS FOR (n:SemantosTrace) ON (n.rev)`,
		`CREATE INDEX semantos_rollout_rev IF NOT EXISTS FOR (n:SemantosRollout) ON (n.rev)`,
		`CREATE INDEX semantos_advice_rev IF NOT EXISTS FOR (n:SemantosAdvice) ON (n.rev)`,
		`CREATE INDEX semantos_advice_at IF NOT EXISTS FOR (n:SemantosAdvice) ON (n.at)`,
		`CREATE INDEX semantos_event_edge IF NOT EXISTS FOR (n:SemantosEvent) ON (n.from, n.type, n.to)`,
		`CREATE INDEX semantos_trace_at IF NOT EXISTS FOR (n:SemantosTrace) ON (n.at)`,
		`CREATE INDEX semantos_rollout_symptom IF NOT EXISTS FOR (n:SemantosRollout) ON (n.symptom)`,
	}
}

const (
	readVersion cypher = `
MATCH (v:SemantosMeta {id: 'schema'})
OPTIONAL MATCH (c:SemantosMeta {id: 'clock'})
RETURN v.version AS version, c IS NOT NULL AS clock`

	// The clock counts changes; its lock orders the writers. database tells this one from another.
	writeVersion cypher = `
MERGE (c:SemantosMeta {id: 'clock'}) ON CREATE SET c.n = 0, c.database = $database
MERGE (v:SemantosMeta {id: 'schema'}) SET v.version = $version`

	readClock cypher = `
MATCH (c:SemantosMeta {id: 'clock'})
OPTIONAL MATCH (w:SemantosWriter {id: $writer})
RETURN c.n AS n, c.database AS database, coalesce(w.seq, 0) AS seq`

	// claim takes the clock's write lock before it reads: setting a property does that.
	claim cypher = `
MATCH (c:SemantosMeta {id: 'clock'}) SET c.writer = $writer
WITH c
MERGE (w:SemantosWriter {id: $writer}) ON CREATE SET w.seq = 0
RETURN c.n AS n, c.database AS database, w.seq AS seq`

	confirm cypher = `
MATCH (c:SemantosMeta {id: 'clock'}) SET c.n = $n
WITH c
MATCH (w:SemantosWriter {id: $writer}) SET w.seq = $seq`
)

// What one queued write becomes. Each row carries rev, the number of its change.
const (
	writeNodes cypher = `
UNWIND $rows AS row
MERGE (n:SemantosNode {id: row.id})
SET n.kind = row.kind, n.summary = row.summary, n.source = row.source, n.rev = row.rev
RETURN count(n) AS n`

	writeEdges cypher = `
UNWIND $rows AS row
MATCH (a:SemantosNode {id: row.from})
MATCH (b:SemantosNode {id: row.to})
MERGE (a)-[r:RELATES {type: row.type}]->(b)
SET r.sign = row.sign, r.weight = row.weight, r.seed = row.seed, r.evidence = row.evidence, r.learned = row.learned,
    r.documented = row.documented, r.retired = row.retired, r.why = row.why, r.source = row.source,
    r.updated = row.updated, r.rev = row.rev
RETURN count(r) AS n`

	writeEvents cypher = `
UNWIND $rows AS row
MERGE (e:SemantosEvent {key: row.key})
ON CREATE SET e.from = row.from, e.type = row.type, e.to = row.to, e.at = row.at, e.body = row.body, e.rev = row.rev
RETURN count(e) AS n`

	writeTraces cypher = `
UNWIND $rows AS row
MERGE (t:SemantosTrace {id: row.id}) SET t.at = row.at, t.verdict = row.verdict, t.body = row.body, t.rev = row.rev
RETURN count(t) AS n`

	writeRollouts cypher = `
UNWIND $rows AS row
MERGE (r:SemantosRollout {id: row.id})
SET r.recommendation = row.recommendation, r.symptom = row.symptom, r.state = row.state, r.body = row.body, r.rev = row.rev
RETURN count(r) AS n`

	writeAdvice cypher = `
UNWIND $rows AS row
MERGE (a:SemantosAdvice {id: row.id}) SET a.at = row.at, a.body = row.body, a.rev = row.rev
RETURN count(a) AS n`

	forgetAdvice cypher = `MATCH (a:SemantosAdvice) WHERE a.at < $before DELETE a`
)

// What changed after one number of the clock, up to another.
const (
	readNodes cypher = `
MATCH (n:SemantosNode) WHERE n.rev > $after AND n.rev <= $until
RETURN n.rev AS rev, n.id AS id, n.kind AS kind, n.summary AS summary, n.source AS source
ORDER BY rev LIMIT $limit`

	readEdges cypher = `
MATCH (a:SemantosNode)-[r:RELATES]->(b:SemantosNode) WHERE r.rev > $after AND r.rev <= $until
RETURN r.rev AS rev, a.id AS from, r.type AS type, b.id AS to, r.sign AS sign, r.weight AS weight, r.seed AS seed,
       r.evidence AS evidence, r.learned AS learned, r.documented AS documented, r.retired AS retired, r.why AS why,
       r.source AS source, r.updated AS updated
ORDER BY rev LIMIT $limit`

	readEvents cypher = `
MATCH (e:SemantosEvent) WHERE e.rev > $after AND e.rev <= $until
RETURN e.rev AS rev, e.from AS from, e.type AS type, e.to AS to, e.body AS body
ORDER BY rev LIMIT $limit`

	readTraces cypher = `
MATCH (t:SemantosTrace) WHERE t.rev > $after AND t.rev <= $until
RETURN t.rev AS rev, t.body AS body
ORDER BY rev LIMIT $limit`

	readRollouts cypher = `
MATCH (r:SemantosRollout) WHERE r.rev > $after AND r.rev <= $until
RETURN r.rev AS rev, r.body AS body
ORDER BY rev LIMIT $limit`

	readAdvice cypher = `
MATCH (a:SemantosAdvice) WHERE a.rev > $after AND a.rev <= $until
RETURN a.rev AS rev, a.at AS at, a.body AS body
ORDER BY rev LIMIT $limit`
)

// expand takes one step from nodes that carry the best product of weights so far, along edges in either
// direction, and gives for each end its best product and the node before it (lists compare by their
// first difference). The length of a pattern cannot be a parameter in Cypher, so a walk is a statement
// per step, in one transaction.
const expand cypher = `
UNWIND $frontier AS f
MATCH (a:SemantosNode {id: f.id})-[r:RELATES]-(b:SemantosNode)
WHERE NOT r.retired AND r.weight > 0 AND (size($types) = 0 OR r.type IN $types)
WITH b, max([f.weight * r.weight, a.id]) AS best
RETURN b.id AS id, best[0] AS weight, best[1] AS before`
