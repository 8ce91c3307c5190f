// Package simulate plays rollouts against a model of a noisy workload, through the real planner and the
// real Step, with a clock of its own.
//
// It owns the model and the counting. It must never decide anything itself: what it counts is what the
// rollout did. Its tests hold the promises of docs/statistics.md; internal/gen/statistics writes that page's
// tables and plot from it. Read [Load] first.
package simulate
