package push

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"laaster/internal/change"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// manyRows is how many rows a view has at least that are not looked through by a goroutine that reads for others, too.
const manyRows = 10_000

// long reports whether many rows may have to be looked through for a subscription to begin: with a condition those of its first page can be far apart, and
// a window has to see all. It is carried out by a goroutine of the connection's own, a few at a time (Hub.scans).
func (h *Hub) long(o *op) bool {
	q := o.feed.q
	switch {
	case o.feed.guard != nil && !o.feed.guard.ready():
		return true
	case q.point, h.store.Len(q.rel.ID) < manyRows:
		return false
	case o.feed.window != nil:
		return !o.feed.window.ready()
	case q.filter.Cond() == nil && o.feed.guard == nil:
		return false
	}
	p, err := change.ParsePosition(o.from.Position)
	return err != nil || p.Log != h.opt.Log || p.Seq < h.store.Floor()
}

// rearrange carries out subscribes and unsubscribes, all at one position. The caller owns out.
func (c *conn) rearrange(ops []op) (bufs [][]byte) {
	var joins []op
	var released []*feed
	for _, o := range ops {
		if !o.end {
			joins = append(joins, o)
			continue
		}
		released = append(released, o.feed)
		joins = slices.DeleteFunc(joins, func(j op) bool { return j.id == o.id })
		c.out.pages = slices.DeleteFunc(c.out.pages, func(p *paging) bool { return p.id == o.id })
		c.leaveHistory(o.id)
		c.out.live = slices.DeleteFunc(slices.Clone(c.out.live), func(m member) bool { return m.id == o.id })
	}
	if len(released) > 0 {
		c.reshape()
	}
	if len(joins) > 0 {
		bufs = c.admit(joins)
	}
	for _, f := range released {
		c.h.releaseFeed(f)
	}
	return bufs
}

// admit begins new subscriptions. The rows of those that cannot go on from where they stand are taken at one position; what is
// live is brought to it first, so that everything on the connection goes on from there.
func (c *conn) admit(ops []op) (bufs [][]byte) {
	h := c.h
	if u := c.alone(); u != nil { // what it is told are positions that the others have passed
		bufs = c.giveUp(u)
	}
	head, _ := h.store.Head()
	floor, least := h.store.Floor(), c.cursor.Load()
	var resumed []joining
	var anew []op
	var behind []joining
	for _, o := range ops {
		if !h.current(o.feed.q.rel) { // the snapshot may have no rows of it; Hub.Settle ends it
			continue
		}
		m := member{o.id, o.feed}
		switch seq, how := h.place(o, head, floor); how {
		case goesOn:
			least = max(least, seq)
			bufs = append(bufs, c.resumedFrame(m, seq))
			resumed = append(resumed, joining{member: m, from: seq, since: seq})
		case fromLog:
			behind = append(behind, joining{member: m, from: seq})
		case afterGap:
			bufs = append(bufs, c.gapFrame(o.id, floor))
			fallthrough
		default:
			anew = append(anew, o)
		}
	}
	if begun, done := c.beginLog(behind, len(resumed)+len(anew) == 0); done {
		return append(bufs, begun...)
	}
	if len(anew) == 0 && len(resumed)+len(c.out.live) > 0 {
		return append(bufs, c.conflate(resumed, c.beat(resumed))...)
	}
	start := c.takeRows(anew, least)
	for _, p := range start.pages {
		if p != nil {
			c.out.pages = append(c.out.pages, p)
		}
	}
	if len(resumed)+len(c.out.live) > 0 {
		return append(bufs, c.conflate(resumed, start.snap.Seq())...)
	}
	c.begin(start.snap)
	return bufs
}

// beginning is the rows of subscriptions at one position.
type beginning struct {
	snap  *view.Snapshot
	pages []*paging // of each; nil: there are none to be had
}

// takeRows takes the rows of subscriptions at one position, at or after least. Those that cannot be served are told so and end.
func (c *conn) takeRows(ops []op, least uint64) beginning {
	h := c.h
	ended := make([]bool, len(ops))
	for tries := 0; ; tries++ {
		var rels []int
		served := make([]bool, len(ops))
		for i, o := range ops {
			if served[i] = !ended[i] && h.current(o.feed.q.rel); !served[i] { // a snapshot may have no rows of it; Hub.Settle ends it
				continue
			}
			w, g := o.feed.window, o.feed.guard
			if w == nil {
				rels = append(rels, o.feed.q.rel.ID)
			}
			if w == nil && g == nil {
				continue
			}
			p := tooFast()
			if tries <= mostRestarts {
				p = h.prepare(o.feed)
			}
			if p != nil {
				c.unserved(o, p)
				served[i], ended[i] = false, true
				continue
			}
			if w != nil {
				least = max(least, w.oldest())
			}
			if g != nil {
				least = max(least, g.oldest())
			}
		}
		slices.Sort(rels)
		b := beginning{h.snapshot(slices.Compact(rels), least), make([]*paging, len(ops))}
		whole := true
		for i, o := range ops {
			if !served[i] || h.unlike(c.asks(), o.feed.q) { // the snapshot may be one of other rules; Hub.Settle ends it, or whoever made the client another one
				continue
			}
			q, known := o.feed.queryAt(b.snap.Seq())
			b.pages[i], whole = &paging{member: member{o.id, o.feed}, q: q, snap: b.snap}, whole && known
			if w := o.feed.window; w != nil {
				rows, ok := w.rowsAt(b.snap.Seq(), h.reached())
				b.pages[i].rows, whole = rows, whole && ok
			}
		}
		if whole {
			return b
		}
	}
}

// prepare reads what a feed needs beside the rows of its view: those of its window, the values that its rule compares with. It must not be called with Hub.mu
// held.
func (h *Hub) prepare(f *feed) *wire.Problem {
	if f.guard != nil {
		if p := h.buildGuard(f.guard); p != nil {
			return p
		}
	}
	if f.window != nil {
		return h.build(f.window)
	}
	return nil
}

// unserved ends a subscription whose window or whose rule's values cannot be had.
func (c *conn) unserved(o op, p *wire.Problem) {
	c.mu.Lock()
	mine := !c.mu.over && c.mu.subs[o.id] == o.feed
	if mine {
		delete(c.mu.subs, o.id)
	}
	c.mu.Unlock()
	if !mine { // whoever ended it releases the feed
		return
	}
	c.refuse(o.id, p)
	if c.enc == eventStream { // nothing else is on it
		c.goodbye(p.Code, p.Detail, time.Duration(p.RetryAfterMS)*time.Millisecond, closeTryLater)
	}
	c.h.releaseFeed(o.feed)
}

// recent is a snapshot that was taken since the last flush: who subscribes to the same meanwhile shares it, and so the pages made of it.
type recent struct {
	rels []int
	snap *view.Snapshot
}

// snapshot returns rels, ascending, at a position at or after least and the last flush.
func (h *Hub) snapshot(rels []int, least uint64) *view.Snapshot {
	h.mu.Lock()
	r := h.mu.recent
	h.mu.Unlock()
	if r.snap != nil && r.snap.Seq() >= least && slices.Equal(r.rels, rels) {
		return r.snap
	}
	snap := h.store.Snapshot(rels...)
	if len(rels) == 0 {
		return snap
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if snap.Seq() >= h.mu.pos && (h.mu.recent.snap == nil || h.mu.recent.snap.Seq() < snap.Seq()) {
		h.mu.recent = recent{rels, snap}
	}
	return snap
}

// beat returns the position to bring resuming subscriptions to: the end of the last flush, since many clients that come back
// together then share what is encoded for it, unless somebody is further already.
func (c *conn) beat(resumed []joining) uint64 {
	c.h.mu.Lock()
	to := c.h.mu.pos
	c.h.mu.Unlock()
	to = max(to, c.cursor.Load())
	for _, j := range resumed {
		to = max(to, j.from)
	}
	return to
}

// continuation is how a subscription begins.
type continuation uint8

const (
	fromRows continuation = iota // with its rows
	goesOn                       // with the changes since a position
	afterGap                     // with its rows, after being told that history is gone
	fromLog                      // with what the log has since a position
)

// place decides how a subscription begins.
func (h *Hub) place(o op, head, floor uint64) (uint64, continuation) {
	if !o.from.Given || o.from.Position == "" {
		return 0, fromRows
	}
	p, err := change.ParsePosition(o.from.Position)
	switch {
	case err != nil, p.Log != h.opt.Log, p.Shard != h.opt.Shard, p.Seq > head:
		return 0, afterGap
	case p.Seq < h.store.Birth(o.feed.q.rel.ID):
		return 0, fromRows
	case o.feed.guard != nil && (h.prepare(o.feed) != nil || !o.feed.guard.reachBack(p.Seq)):
		return 0, fromRows
	case o.feed.window != nil && (h.prepare(o.feed) != nil || !o.feed.window.goesOn(p.Seq, h.reached())):
		return 0, fromRows
	case p.Seq < floor && h.traced(o.feed, p.Seq):
		return p.Seq, fromLog
	case p.Seq < floor:
		return 0, afterGap
	}
	return p.Seq, goesOn
}

// live makes subscriptions live whose rows stand at the cursor.
func (c *conn) live(joins []joining) {
	all := slices.Clone(c.out.live)
	for _, j := range joins {
		all = append(all, j.member)
	}
	c.out.live = all
	c.reshape()
}

// page returns the next rows of subscriptions that have not got all of theirs, about a page of them together.
func (c *conn) page() (bufs [][]byte) {
	room := c.h.opt.PageBytes
	var complete []joining
	for len(c.out.pages) > 0 && room > 0 {
		p := c.out.pages[0]
		frame, more := c.pageFrame(p, room)
		c.h.opt.Limiter.Replayed(c.asks(), len(frame))
		bufs = append(bufs, frame)
		room -= len(frame)
		if more {
			break
		}
		c.out.pages = c.out.pages[1:]
		complete = append(complete, joining{member: p.member, from: p.snap.Seq(), since: p.snap.Seq(), again: p.again})
	}
	if len(c.out.pages) == 0 {
		c.out.pages = nil
	}
	if len(complete) > 0 {
		bufs = append(bufs, c.settle(complete)...)
	}
	return bufs
}

// settle makes complete subscriptions live, with what has changed since their rows were taken.
func (c *conn) settle(complete []joining) [][]byte {
	cursor := c.cursor.Load()
	if !slices.ContainsFunc(complete, func(j joining) bool { return j.from != cursor || len(j.log) > 0 }) {
		c.live(complete)
		return nil
	}
	c.h.mu.Lock()
	to := max(c.h.mu.pos, cursor)
	c.h.mu.Unlock()
	for _, j := range complete {
		to = max(to, j.from)
	}
	return c.conflate(complete, to)
}

// pageFrame returns a page of about room bytes, and whether there are more.
func (c *conn) pageFrame(p *paging, room int) (frame []byte, more bool) {
	key := pageKey{feed: p.feed.id, position: p.snap.Seq(), enc: c.enc, id: p.id, after: string(p.after), room: room}
	if page, ok := c.h.kept.page(key); ok {
		p.after = append(p.after[:0], page.after...)
		return page.frame, page.more
	}
	frame, more = c.encodePage(p, room)
	c.h.kept.putPage(key, page{frame, more, bytes.Clone(p.after)})
	return frame, more
}

// encodePage is pageFrame for the first who asks.
func (c *conn) encodePage(p *paging, room int) (frame []byte, more bool) {
	r := reader{query: p.q}
	var position [96]byte
	at := c.h.position(position[:0], p.snap.Seq())
	buffers := buffersOf(&c.h.buffers) // a page that append grew would take five times its size, and it is kept for others
	defer buffers.free(&c.h.buffers)
	b := append(buffers.line[:0], make([]byte, frameHeader)...)
	if c.enc == eventStream {
		b = append(b[:0], "event: snapshot\ndata: {"...)
	} else {
		b = append(wire.AppendStart(b, "snapshot", p.id), ',')
	}
	b = wire.AppendSnapshotHead(b, at, r.key)
	b = append(b, `,"rows":[`...)
	empty := len(b)
	each := func(key []byte, row change.Row) bool {
		if len(b) > room && len(b) > empty {
			more = true
			return false
		}
		if len(b) > empty {
			b = append(b, ',')
		}
		b = r.appendRow(b, row)
		p.after = append(append(p.after[:0], key...), 0)
		return true
	}
	if p.feed.window != nil {
		eachOf(p.rows, p.after, each)
	} else {
		r.scan(p.snap, p.after, each)
	}
	b = append(b, `],"more":`...)
	b = append(strconv.AppendBool(b, more), '}')
	if c.enc == eventStream {
		b = append(b, '\n')
		if !more {
			b = append(append(append(b, "id: "...), at...), '\n')
		}
		b = append(b, '\n')
	}
	buffers.line = b
	if frame = bytes.Clone(b); c.enc == webSocket {
		frame = sealText(frame)
	}
	return frame, more
}

// reshape moves the connection to the shape of what is live now.
func (c *conn) reshape() {
	h := c.h
	sortMembers(c.out.live)
	p := c.pace()
	key := shapeKey(c.enc, p, c.out.live)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaveLocked(c)
	if _, here := h.mu.conns[c]; !here || len(c.out.live) == 0 {
		return
	}
	s := h.mu.shapes[key]
	if s == nil {
		s = h.newShapeLocked(key, c.enc, p, c.out.live)
	}
	s.conns[c] = struct{}{}
	c.out.shape = s
	if c.cursor.Load() > s.reached(h.mu.pos) {
		c.out.inside = !p.each // where no frame has more than one epoch, a position lies between two
		h.mu.ahead[c] = struct{}{}
	}
}
