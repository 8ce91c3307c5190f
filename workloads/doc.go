// Package workloads runs real programs under load, from Debian packages, as an operator's machine would.
//
// It owns what a load is ([Load]), what a client sees of it ([Sample]) and the loop that keeps one
// running ([Drive]). It must never write a tunable: mistuning and restoring is the lab's business.
// Read [Sample.Cost] first, then the smallest load, workloads/stream.
package workloads
