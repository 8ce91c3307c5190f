// Package web is nginx answering wrk, one connection per request, with a probe of few clients beside it.
//
// wrk starts its clock when a connection is open, so it sees nothing of a client that waits for its
// SYN to be retransmitted; the probe times from the first SYN. The package must not change tunables.
// Read [Load.Measure] first.
package web
