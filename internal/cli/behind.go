package cli

import "sync"

// behind does a thing for each value in order, behind whoever gives them: a slow disk, or a terminal that
// somebody has stopped, must not hold a rollout whose limits are watched.
type behind[T any] struct {
	mu     sync.Mutex
	more   sync.Cond
	queue  []T
	closed bool
	done   chan struct{}
}

func newBehind[T any](do func(T)) *behind[T] {
	b := &behind[T]{done: make(chan struct{})}
	b.more.L = &b.mu
	go func() {
		defer close(b.done)
		for {
			v, ok := b.next()
			if !ok {
				return
			}
			do(v)
		}
	}()
	return b
}

func (b *behind[T]) next() (v T, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) == 0 && !b.closed {
		b.more.Wait()
	}
	if len(b.queue) == 0 {
		return v, false
	}
	v, b.queue = b.queue[0], b.queue[1:]
	return v, true
}

func (b *behind[T]) put(v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, v)
	b.more.Signal()
}

// finish waits until everything is done. Nothing stands on the machine any more then.
func (b *behind[T]) finish() {
	b.mu.Lock()
	b.closed = true
	b.more.Signal()
	b.mu.Unlock()
	<-b.done
}
