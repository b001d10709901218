package push

import (
	"slices"
	"time"

	"laaster/internal/wire"
)

// acquireFeed returns the feed of a query, shared with everybody who asks the same. Each needs a releaseFeed. At the limit of
// feeds it returns a problem.
func (h *Hub) acquireFeed(q *query) (*feed, *wire.Problem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := &h.mu.feeds[q.rel.ID]
	f := x.all[q.canon]
	if f == nil || !f.q.same(q.sight) {
		if h.mu.feedCount == h.opt.MaxFeeds {
			return nil, retryLater(wire.Busy, "as many different live queries as the server is set to serve", 5*time.Second)
		}
		if h.mu.weight+q.weight > liveWeightsAll {
			return nil, retryLater(wire.Busy, "as many patterns in live queries as the server serves", 5*time.Second)
		}
		if q.window && h.windowed.Load() >= int64(h.opt.WindowBytes) {
			return nil, windowsFull()
		}
		h.mu.feedCount++
		h.mu.weight += q.weight
		h.mu.lastFeed++
		f = &feed{id: h.mu.lastFeed, q: q, now: q}
		if q.dependent() {
			f.guard = h.newGuardLocked(q, f) // f.now, too
		}
		if q.window {
			f.window = newWindow(h, f)
		}
		x.add(f)
	}
	f.users++
	return f, nil
}

func (h *Hub) releaseFeed(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.releaseLocked(f)
}

func (h *Hub) releaseLocked(f *feed) {
	if f.users--; f.users == 0 {
		h.mu.feeds[f.q.rel.ID].remove(f)
		h.mu.feedCount--
		h.mu.weight -= f.q.weight
		if f.window != nil {
			f.window.free()
		}
		if f.guard != nil {
			h.freeLocked(f.guard)
		}
	}
}

func (h *Hub) newShapeLocked(key string, enc encoding, p pace, members []member) *shape {
	s := &shape{key: key, enc: enc, pace: p, members: slices.Clone(members), conns: map[*conn]struct{}{},
		told: h.mu.pos, start: h.mu.pos}
	h.mu.shapes[key] = s
	for _, m := range s.members {
		if n := len(m.feed.shapes); n == 0 || m.feed.shapes[n-1] != s {
			m.feed.shapes = append(m.feed.shapes, s)
			m.feed.each += p.count()
		}
	}
	h.mu.each += p.count()
	return s
}

// count is 1 for a shape that gets every epoch.
func (p pace) count() int {
	if p.each {
		return 1
	}
	return 0
}

// leaveLocked takes c out of its shape. A shape that nobody has is gone.
func (h *Hub) leaveLocked(c *conn) {
	s := c.out.shape
	if s == nil {
		return
	}
	c.out.shape = nil
	delete(s.conns, c)
	delete(h.mu.ahead, c)
	if len(s.conns) > 0 {
		return
	}
	delete(h.mu.shapes, s.key)
	delete(h.mu.dirty, s)
	h.mu.frames -= size(s.frames)
	h.mu.each -= s.pace.count()
	for _, m := range s.members {
		if n := len(m.feed.shapes); n > 0 {
			if m.feed.shapes = without(m.feed.shapes, s); len(m.feed.shapes) < n {
				m.feed.each -= s.pace.count()
			}
		}
	}
}

// forget takes a closed connection out of everything.
func (h *Hub) forget(c *conn, held []*feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, here := h.mu.conns[c]; !here {
		return
	}
	delete(h.mu.conns, c)
	h.strangers.remove(c)
	h.leaveLocked(c)
	delete(h.mu.ahead, c)
	for _, f := range held {
		h.releaseLocked(f)
	}
	if h.mu.draining && len(h.mu.conns) == 0 {
		close(h.mu.gone)
	}
}
