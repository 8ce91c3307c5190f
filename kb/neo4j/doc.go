// Package neo4j is the store whose graph and traces live in Neo4j, and which keeps working without it.
//
// It owns the connection, the schema there (labels Semantos..., relationships RELATES) and a spool: a
// directory of this machine with the last known copy of everything and an ordered queue of what Neo4j
// was not told yet (see kb/sqlite.Spool). It must never build a statement from data, lose or repeat a
// write, let a reader wait long for the network, or say the password.
//
// How it works:
//
//   - A write is checked and stored in the spool first, copy and queue in one durable transaction. One
//     goroutine delivers the queue in order; the number of a write is recorded in the Neo4j transaction
//     that applies it, so it is applied once, also when the answer was lost or two processes deliver.
//     While the connection is up, a write waits a moment for its delivery, so that other machines see it.
//   - Each thing in Neo4j carries the number of the change that wrote it. A read asks for the newest
//     number, copies what is newer, and answers from the copy; without Neo4j it answers from the copy as
//     it is. Reading therefore gives the same answers as kb/sqlite, by the same code.
//   - A database that is new or was restored from a backup is told everything again.
//
// Of two machines that changed the same edge, the one delivered last is what holds; the history of both is kept.
//
// Read [Open] first, then deliver.go and pull.go, with cypher.go beside them.
package neo4j
