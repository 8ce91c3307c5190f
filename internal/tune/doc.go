// Package tune holds the words every room shares: tunable, signal, symptom, recommendation, rollout,
// verdict, and the sentinel errors.
//
// It owns types and pure functions over them. It must never read a file, start a goroutine, or import
// anything but the standard library. Read [Tunable] first, then [Recommendation].
package tune
