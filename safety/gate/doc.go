// Package gate decides whether a recommendation may be tried at all.
//
// It owns the vetoes and the threshold on uncertainty that past outcomes calibrate. It must never loosen
// the threshold beyond TAU, take what was never tried for safe, or let anybody past a hard limit. Read
// [Gate.Check], then [Calibrator].
package gate
