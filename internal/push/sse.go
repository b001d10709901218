package push

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"laaster/internal/wire"
)

// retryMS is how long a browser waits before it reconnects a stream that broke.
const retryMS = "retry: 1000\n\n"

// serveEvents is a view as a stream of events: one subscription on a connection of its own.
func (h *Hub) serveEvents(w http.ResponseWriter, r *http.Request, rd *read) {
	who, q := rd.who, rd.query
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	sink := &eventSink{w: w, out: http.NewResponseController(w), cancel: cancel}
	c := newConn(eventStream, who)
	c.session, c.sink, c.work = h.opt.RequestID(r), sink, make(chan struct{}, 1)
	feed, p := h.acquireFeed(q)
	if p == nil {
		if p = h.open(c); p != nil {
			h.releaseFeed(feed)
		}
	}
	if p != nil {
		h.opt.Answer(w, r, p)
		return
	}
	defer c.close()
	beginEvents(w)
	_ = sink.out.SetWriteDeadline(time.Time{}) // the hub watches for clients that do not read

	o := op{feed: feed, from: rd.lastEvent(r)}
	c.mu.Lock()
	c.mu.greeted = true
	c.mu.every, c.mu.each = rd.every, rd.each
	c.mu.replies = append(c.mu.replies, []byte(retryMS))
	if fresh := h.freshness(); fresh.State != wire.FreshLive {
		c.mu.replies = append(c.mu.replies, c.frame("freshness", &fresh))
	}
	c.mu.Unlock()
	if !c.begun(o) { // closed meanwhile
		return
	}
	if why := h.stale(q.rel); why != "" {
		c.tellStale(o.id, why)
	}
	if h.unlike(c.asks(), q) {
		c.redefine(false) // the app changed meanwhile
	}
	c.drain()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.work:
			if c.claim() {
				c.drain()
			}
		}
	}
}

// begun queues the connection's only subscription. It reports false when the connection has ended.
func (c *conn) begun(o op) bool {
	c.arranging.Lock()
	defer c.arranging.Unlock()
	if c.register(o) != nil {
		return false
	}
	o.long = c.h.long(&o)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ops = append(c.mu.ops, o)
	return true
}

func beginEvents(w http.ResponseWriter) {
	head := w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
}

// lastEvent is where the caller wants to go on: a browser that reconnects names the last event, whatever the address says.
func (rd *read) lastEvent(r *http.Request) wire.Cursor {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return wire.Cursor{Given: true, Position: id}
	}
	return rd.from
}

// eventSink writes through the HTTP server, on the request's goroutine.
type eventSink struct {
	busy   atomic.Bool // a write is under way
	w      http.ResponseWriter
	out    *http.ResponseController
	cancel context.CancelFunc
}

func (s *eventSink) try(bufs [][]byte) ([][]byte, error) { return bufs, nil }

func (s *eventSink) write(bufs [][]byte, moved func()) error {
	s.busy.Store(true)
	defer s.busy.Store(false)
	for _, b := range gather(bufs) {
		for len(b) > 0 {
			n, err := s.w.Write(b[:min(len(b), chunk)])
			if err != nil {
				return err
			}
			moved()
			b = b[n:]
		}
	}
	return s.out.Flush()
}

func (s *eventSink) narrow(int, int) {}

func (s *eventSink) queued() int { return 0 }

func (s *eventSink) away() int64 { return 0 }

// close ends the request. A write that waits for the client ends by a deadline in the past.
func (s *eventSink) close() {
	s.cancel()
	if s.busy.Load() {
		_ = s.out.SetWriteDeadline(time.Unix(1, 0))
	}
}
