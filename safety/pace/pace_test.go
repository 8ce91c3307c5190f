package pace

import (
	"testing"
	"time"
)

func TestBucketBoundsARateAndABurst(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	b := New(20, 60)
	taken := func(n int, every time.Duration) (got int) {
		for range n {
			if b.Take(now) {
				got++
			}
			now = now.Add(every)
		}
		return got
	}
	if got := taken(100, 0); got != 60 {
		t.Errorf("%d at once, want 60", got)
	}
	if got := taken(1000, 10*time.Millisecond); got < 198 || got > 201 {
		t.Errorf("%d in 10 s, want 200", got)
	}
	now = now.Add(-time.Hour)
	if b.left = 0; b.Take(now) {
		t.Error("a clock that went back filled the bucket")
	}
	now = now.Add(time.Hour)
	if got := taken(100, 0); got != 60 {
		t.Errorf("%d after an hour, want 60: a rest is worth a burst at most", got)
	}
}
