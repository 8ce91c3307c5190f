// Command lab repeats semantos' main job as a user would live it: it mistunes this host (or a network
// namespace of its own), runs a real workload, calls the semantos binary to recommend and apply, and
// measures afresh with semantos gone.
//
//	go run ./workloads/lab run --semantos ./semantos            every scenario
//	go run ./workloads/lab run --semantos ./semantos web        one
//
// It writes the tunables it mistunes itself, never through semantos, saves their values before and
// puts them back whatever happens. It must not know how semantos works inside.
// Read [scenarios] first, then [trial.run].
package main
