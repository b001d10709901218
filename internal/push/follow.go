package push

import (
	"slices"
	"strings"

	"laaster/internal/change"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// conflateInline is the longest run that a fan-out goroutine merges for one connection itself.
const conflateInline = 64

// mostRestarts is how often a snapshot may take longer than the ring reaches back before the client counts as too slow.
const mostRestarts = 3

// follow returns what brings the live subscriptions to what their shape has reached: the shared frames when the
// connection is up to date or a little behind, else one frame of merged changes, else, when these are gone, a gap and the
// rows anew. The caller owns out.
func (c *conn) follow(light bool) (bufs [][]byte, heavy bool) {
	h, cursor := c.h, c.cursor.Load()
	h.mu.Lock()
	s := c.out.shape
	if s == nil {
		h.mu.Unlock()
		return nil, false
	}
	reached := s.reached(h.mu.pos)
	stamp := h.mu.stamp
	if reached != h.mu.pos {
		stamp = 0 // not known here
	}
	if cursor >= reached {
		if cursor > reached {
			h.mu.ahead[c] = struct{}{}
		} else {
			c.out.inside = false
		}
		h.mu.Unlock()
		return nil, false
	}
	frames, ok := s.after(cursor)
	h.mu.Unlock()
	if ok && !c.out.inside {
		if bufs, ok = c.shared(frames); ok {
			c.advance(reached, stamp)
			return bufs, false
		}
	}
	if light && reached-cursor > conflateInline {
		return nil, true
	}
	return c.conflate(nil, reached), false
}

// shared returns the bytes of frames unless these are not for this client: too many, or from a position that it does not know.
func (c *conn) shared(frames []shapeFrame) (bufs [][]byte, ok bool) {
	size, told := 0, c.out.told
	for i := range frames {
		f := &frames[i]
		if len(f.bytes) == 0 {
			continue
		}
		if f.from > told {
			return nil, false
		}
		bufs, told = append(bufs, f.bytes), f.to
		if size += len(f.bytes); size > behindLimit {
			return nil, false
		}
	}
	c.out.told = told
	return bufs, true
}

// behindLimit is how many bytes of frames a connection is sent to catch up. Beyond it, merged changes are less to send and
// nothing older than needed.
const behindLimit = 256 << 10

// advance moves the cursor. A stamp of 0 is not known.
func (c *conn) advance(to uint64, stamp int64) {
	c.cursor.Store(to)
	if stamp != 0 {
		c.out.stamp = stamp
	}
}

// begin sets the cursor of a connection on which nothing is live: its rows will be those of snap.
func (c *conn) begin(snap *view.Snapshot) {
	c.out.inside = false
	c.advance(snap.Seq(), snap.Stamp())
	c.out.told = snap.Seq()
}

// joining is a subscription that becomes live at a position, having the rows of another one.
type joining struct {
	member
	from  uint64
	again int // see paging
}

// conflate returns one frame with the merged changes of the live subscriptions, from the cursor, and of those that join,
// each from its own position, all up to to, moves the cursor there and makes those live. What the ring has lost begins anew.
func (c *conn) conflate(joins []joining, to uint64) [][]byte {
	h, cursor := c.h, c.cursor.Load()
	oldest, known := to, to
	if len(c.out.live) > 0 {
		oldest, known = cursor, c.out.told
	}
	for _, j := range joins {
		oldest, known = min(oldest, j.from), min(known, j.from)
	}
	epochs, ok := h.store.Since(oldest)
	if !ok {
		return c.lost(joins, to)
	}
	var spans spanSet
	parts := make([]part, 0, len(c.out.live)+len(joins))
	changed := false
	add := func(m member, from uint64) {
		body := h.fragment(m.feed, spans.get(epochs, from, to))
		changed = changed || len(body) > 0
		parts = append(parts, part{m.id, body})
	}
	for _, m := range c.out.live {
		add(m, cursor)
	}
	for _, j := range joins {
		add(j.member, j.from)
	}
	stamp := history(epochs).span(oldest, to).stamp(0)
	c.out.inside = false
	c.advance(to, stamp)
	if joins == nil {
		h.total.conflated.Add(1)
	} else {
		c.live(joins)
	}
	if !changed && (joins == nil || oldest == to) {
		c.out.told = known
		return nil
	}
	c.out.told = to
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.id, b.id) })
	return [][]byte{h.epochFrame(c.enc, parts, known, to, stamp)}
}

// lost sorts out who cannot be continued, starts their rows anew, and continues the others.
func (c *conn) lost(joins []joining, to uint64) (bufs [][]byte) {
	floor := c.h.store.Floor()
	var anew, kept []joining
	if len(c.out.live) > 0 && c.cursor.Load() < floor {
		for _, m := range c.out.live {
			anew = append(anew, joining{member: m})
		}
		c.out.live = nil
		c.reshape()
	}
	for _, j := range joins {
		if j.from < floor {
			anew = append(anew, j)
		} else {
			kept = append(kept, j)
		}
	}
	rels := make([]int, 0, len(anew))
	for _, j := range anew {
		if j.again == mostRestarts {
			c.slow()
			return nil
		}
		bufs = append(bufs, c.gapFrame(j.id, floor))
		rels = append(rels, j.feed.q.rel.ID)
	}
	snap := c.h.store.Snapshot(rels...)
	for _, j := range anew {
		if !c.h.current(j.feed.q.rel) { // the snapshot may have no rows of it; Hub.Settle ends it
			continue
		}
		c.out.pages = append(c.out.pages, &paging{member: j.member, snap: snap, again: j.again + 1})
	}
	if len(kept) > 0 || len(c.out.live) > 0 {
		return append(bufs, c.conflate(kept, to)...)
	}
	c.begin(snap)
	return bufs
}

func (c *conn) gapFrame(id string, keptFrom uint64) []byte {
	c.h.total.gaps.Add(1)
	return c.frame("gap", &wire.GapFrame{ID: id, KeptFrom: string(c.h.position(nil, keptFrom))})
}

// spanSet is spans of one history by where they begin: subscriptions mostly begin together.
type spanSet []*span

func (s *spanSet) get(epochs []*change.Epoch, from, to uint64) *span {
	for _, x := range *s {
		if x.from == from && x.to == to {
			return x
		}
	}
	x := history(epochs).span(from, to)
	*s = append(*s, x)
	return x
}
