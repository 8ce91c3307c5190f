// Package neo4jtest starts a real Neo4j for tests: the Maven artifact org.neo4j:neo4j in a Java process
// of its own, with authentication on and Bolt on loopback.
//
// It owns the artifact's copy in the user's cache directory, the server process and its data. It must
// never be imported by what is shipped, and never leave a process behind: the server ends when its
// standard input does. Read [Start] first, then server/TestServer.java.
package neo4jtest
