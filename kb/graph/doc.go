// Package graph answers questions over the knowledge graph from memory: neighbourhoods, strongest
// paths, conflicts, what a tunable depends on, what relieves a symptom.
//
// It owns the traversals and the arithmetic of a weight as of a moment ([WeightAt]). It must never keep
// anything on disk, change an edge, or follow a retired one. Read [New], then [Graph.Path].
package graph
