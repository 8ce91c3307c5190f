package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// Hub passes events on to whoever listens at /events. A listener that does not keep up loses its
// connection, never anyone's time.
type Hub struct {
	mu        sync.Mutex
	listeners map[chan Event]struct{}
}

// NewHub makes an empty one.
func NewHub() *Hub { return &Hub{listeners: map[chan Event]struct{}{}} }

const listenerBuffer = 64

// Publish never blocks.
func (h *Hub) Publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.listeners {
		select {
		case ch <- e:
		default:
			delete(h.listeners, ch)
			close(ch)
		}
	}
}

func (h *Hub) subscribe() (<-chan Event, func()) {
	ch := make(chan Event, listenerBuffer)
	h.mu.Lock()
	h.listeners[ch] = struct{}{}
	h.mu.Unlock()
	return ch, func() {
		h.mu.Lock()
		delete(h.listeners, ch)
		h.mu.Unlock()
	}
}

const keepAlive = 15 * time.Second

func (c *Console) events(ctx echo.Context) error {
	events, leave := c.cfg.Hub.subscribe()
	defer leave()
	s := newStream(ctx)
	defer s.end()
	s.comment("events of serve")
	ticker := time.NewTicker(keepAlive)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Request().Context().Done():
			return nil
		case <-ticker.C:
			s.comment("still here")
		case e, ok := <-events:
			if !ok {
				return nil
			}
			s.send("event", e)
		}
		if s.broken() {
			return nil
		}
	}
}

func accepts(ctx echo.Context, kind string) bool {
	return strings.Contains(ctx.Request().Header.Get("Accept"), kind)
}

// stream writes server-sent events. It may be called by several goroutines, and goes silent when the
// client does not read: a trial must not wait for a terminal.
type stream struct {
	mu      sync.Mutex
	ctx     echo.Context
	conn    *http.ResponseController
	started bool
	dead    bool
}

const streamWrite = 5 * time.Second

func newStream(ctx echo.Context) *stream {
	return &stream{ctx: ctx, conn: http.NewResponseController(ctx.Response())}
}

func (s *stream) send(name string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		name = "problem"
		data, _ = json.Marshal(problemOf(fmt.Errorf("print event: %w", err)))
	}
	s.write(fmt.Sprintf("event: %s\ndata: %s\n\n", name, data))
}

func (s *stream) comment(text string) { s.write(": " + text + "\n\n") }

func (s *stream) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.dead = true
		return
	}
	if !s.started {
		s.started = true
		h := s.ctx.Response().Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		s.ctx.Response().WriteHeader(http.StatusOK)
	}
	if _, err := s.ctx.Response().Write([]byte(text)); err != nil {
		s.dead = true
		return
	}
	s.dead = s.conn.Flush() != nil
}

func (s *stream) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

func (s *stream) broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// end silences progress that comes after the handler returned: the writer is not ours any more.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	_ = s.conn.SetWriteDeadline(time.Time{})
}
