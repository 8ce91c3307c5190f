// Package effect says how much a treatment changed a reading, and how sure that is, from time slots whose
// treatment was drawn at random.
//
// It owns the statistics alone: it is pure, and knows neither meters nor stages. It must never call a
// difference sure that chance explains, however often it is asked: what it claims rests on the draw of the
// treated slots, not on the noise being independent or normal. Read [Sequence] first, then [Alarm], which
// is faster and promises less. docs/statistics.md has the theory, its sources and the simulations.
package effect
