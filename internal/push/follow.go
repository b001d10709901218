package push

import (
	"slices"
	"sort"
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
// rows anew. With hold a client on trial gets nothing yet, unless it would get much at once then. The caller owns out.
func (c *conn) follow(light, hold bool) (bufs [][]byte, heavy bool) {
	h, cursor := c.h, c.cursor.Load()
	h.mu.Lock()
	s := c.out.shape
	if s == nil {
		h.mu.Unlock()
		return nil, false
	}
	reached, stamp := s.reached(h.mu.pos), h.mu.stamp
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
	if hold {
		if ok && size(frames) <= trialBehind {
			h.mu.Unlock()
			return nil, false
		}
		c.marks.lapsed.Store(true)
	}
	if ok && !c.out.inside {
		if s.pace.each {
			frames = head(frames, behindLimit)
			if n := len(frames); n > 0 && frames[n-1].to < reached {
				reached, stamp = frames[n-1].to, frames[n-1].stamp
			}
		}
		if told, ok := known(frames, c.out.told); ok && (s.pace.each || len(frames) == 1 || size(frames) <= c.most()) {
			buf, more := s.slice(frames), int64(-1)
			for i := range frames {
				if frames[i].size() > 0 {
					more++
				}
			}
			h.mu.Unlock()
			c.out.told = told
			c.advance(reached, stamp)
			if len(buf) == 0 {
				return nil, false
			}
			if more > 0 { // one is counted when the buffer goes out
				h.total.frames.Add(more)
			}
			c.out.one[0] = buf
			return c.out.one[:], false
		}
	}
	h.mu.Unlock()
	if light && (reached-cursor > conflateInline || c.lostWindow()) {
		return nil, true
	}
	return c.merged(s, reached), false
}

// lostWindow reports whether a window that is live has no rows, or a guard no sets: reading them may take long. The caller owns out.
func (c *conn) lostWindow() bool {
	return slices.ContainsFunc(c.out.live, func(m member) bool {
		return m.feed.window != nil && !m.feed.window.ready() || m.feed.guard != nil && !m.feed.guard.ready()
	})
}

// known returns what a client knows after frames that knew told before. It is false when they begin at a position that it does not know.
func known(frames []shapeFrame, told uint64) (after uint64, ok bool) {
	for i := range frames {
		if f := &frames[i]; f.size() > 0 {
			if f.from > told {
				return told, false
			}
			for last := len(frames) - 1; ; last-- { // each begins where the one before it ends, or earlier
				if frames[last].size() > 0 {
					return frames[last].to, true
				}
			}
		}
	}
	return told, true
}

// size returns how many bytes frames take.
func size(frames []shapeFrame) int {
	if len(frames) == 0 {
		return 0
	}
	return int(frames[len(frames)-1].end - frames[0].begin)
}

// head returns the first of frames, as many as take no more than limit bytes, and at least one if there is one.
func head(frames []shapeFrame, limit int) []shapeFrame {
	if len(frames) < 2 {
		return frames
	}
	begin := frames[0].begin
	n := sort.Search(len(frames), func(i int) bool { return frames[i].end-begin > uint64(limit) })
	return frames[:max(n, 1)]
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
	since uint64 // what the client has: from, unless log has what was between
	log   []byte // a fragment's body, see catchUp
	again int    // see paging
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
		oldest, known = min(oldest, j.from), min(known, j.since)
	}
	epochs, ok := h.store.Since(oldest)
	if !ok {
		return c.lost(joins, to, nil)
	}
	var failed []*feed
	var spans spanSet
	parts := make([]part, 0, len(c.out.live)+len(joins))
	changed := false
	add := func(m member, from uint64, log []byte) bool {
		body, ok := h.fragment(m.feed, spans.get(epochs, from, to))
		if !ok {
			failed = append(failed, m.feed)
		}
		body = withLog(log, body)
		changed = changed || len(body) > 0
		parts = append(parts, part{m.id, body})
		return ok
	}
	for _, m := range c.out.live {
		ok = ok && add(m, cursor, nil)
	}
	for _, j := range joins {
		ok = ok && add(j.member, j.from, j.log)
	}
	if !ok {
		return c.lost(joins, to, failed)
	}
	stamp := history(epochs).span(oldest, to).stamp(0)
	if stamp == 0 && to == cursor {
		stamp = c.out.stamp
	}
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

// lost sorts out who cannot be continued, failed among them, starts their rows anew, and continues the others.
func (c *conn) lost(joins []joining, to uint64, failed []*feed) (bufs [][]byte) {
	if len(joins) == 0 && c.backToLog() {
		return nil
	}
	h, cursor := c.h, c.cursor.Load()
	floor := h.store.Floor()
	gone := func(f *feed, from uint64) bool {
		return from < floor || slices.Contains(failed, f) || f.window != nil && !f.window.goesOn(from, h.reached())
	}
	var anew, kept []joining
	var live []member
	for _, m := range c.out.live {
		if gone(m.feed, cursor) {
			anew = append(anew, joining{member: m})
		} else {
			live = append(live, m)
		}
	}
	if len(live) < len(c.out.live) {
		c.out.live = live
		c.reshape()
	}
	for _, j := range joins {
		if gone(j.feed, j.from) {
			anew = append(anew, j)
		} else {
			kept = append(kept, j)
		}
	}
	ops := make([]op, 0, len(anew))
	for _, j := range anew {
		if j.again == mostRestarts {
			c.slow()
			return nil
		}
		bufs = append(bufs, c.gapFrame(j.id, floor))
		ops = append(ops, op{id: j.id, feed: j.feed})
	}
	start := c.takeRows(ops, cursor)
	for i, j := range anew {
		if p := start.pages[i]; p != nil {
			p.again = j.again + 1
			c.out.pages = append(c.out.pages, p)
		}
	}
	if len(kept) > 0 || len(c.out.live) > 0 {
		return append(bufs, c.conflate(kept, to)...)
	}
	c.begin(start.snap)
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
