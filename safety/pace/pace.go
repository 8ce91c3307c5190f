// Package pace bounds how often something may happen.
//
// It owns the token bucket that the guard and its lookout put before requests. It must never wait: what
// is too much is refused, and the caller says so.
package pace

import "time"

// Bucket holds tokens: as many as Burst at once, Rate of them a second. It is used by one goroutine.
type Bucket struct {
	rate, burst float64
	left        float64
	at          time.Time
}

// New gives a full bucket.
func New(rate, burst float64) *Bucket { return &Bucket{rate: rate, burst: burst, left: burst} }

// Take takes one token, or reports that there is none. A clock that goes back fills nothing.
func (b *Bucket) Take(now time.Time) bool {
	if passed := now.Sub(b.at).Seconds(); passed > 0 && !b.at.IsZero() {
		b.left = min(b.burst, b.left+passed*b.rate)
	}
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
