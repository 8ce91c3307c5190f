// Package recall finds the past outcomes that speak about the case at hand: by what happened (words),
// by meaning (vectors) and by what the graph says is near, on hosts that are alike.
//
// It owns the index over traces in memory and the fusion of the three rankings; the traces themselves
// stay in the store. It must never rank a trace of a host that has little in common with this one, or
// give a hit without saying why. Read [Memory.Retrieve], then host.go.
package recall
