// Package tcp sees what TCP's counters cannot time or place: segments sent again and resets as they
// happen, how long connections take to be set up on either side, and smoothed round trip times, all by
// network namespace.
//
// It owns the table of reset reasons. It must never keep more than a bounded number of namespaces, nor add
// up counts to the host: telemetry does that with every namespace's counters. Read [New] first.
package tcp
