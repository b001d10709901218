package push

import (
	"slices"
	"strconv"

	"laaster/internal/change"
	"laaster/internal/wire"
)

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
	rels := make([]int, 0, len(ops))
	for _, o := range ops {
		if id := o.feed.q.rel.ID; !slices.Contains(rels, id) {
			rels = append(rels, id)
		}
	}
	snap := h.store.Snapshot(rels...)
	floor := h.store.Floor()
	var resumed []joining
	var anew []*paging
	to := snap.Seq()
	for _, o := range ops {
		if !h.current(o.feed.q.rel) { // the snapshot may have no rows of it; Hub.Settle ends it
			continue
		}
		m := member{o.id, o.feed}
		switch seq, how := h.place(o, snap.Seq(), floor); how {
		case goesOn:
			bufs = append(bufs, c.frame("resumed", &wire.ResumedFrame{ID: o.id, Position: string(h.position(nil, seq)), Key: o.feed.q.keyNames}))
			resumed = append(resumed, joining{member: m, from: seq})
		case afterGap:
			bufs = append(bufs, c.gapFrame(o.id, floor))
			fallthrough
		default:
			anew = append(anew, &paging{member: m, snap: snap})
		}
	}
	if len(anew) == 0 {
		to = c.beat(resumed)
	}
	c.out.pages = append(c.out.pages, anew...)
	if len(resumed)+len(c.out.live) > 0 {
		return append(bufs, c.conflate(resumed, to)...)
	}
	c.begin(snap)
	return bufs
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
		bufs = append(bufs, frame)
		room -= len(frame)
		if more {
			break
		}
		c.out.pages = c.out.pages[1:]
		complete = append(complete, joining{p.member, p.snap.Seq(), p.again})
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
	if !slices.ContainsFunc(complete, func(j joining) bool { return j.from != cursor }) {
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
	r := reader{query: p.feed.q}
	var position [96]byte
	at := c.h.position(position[:0], p.snap.Seq())
	b := make([]byte, frameHeader, 1<<10)
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
	r.scan(p.snap, p.after, each)
	b = append(b, `],"more":`...)
	b = append(strconv.AppendBool(b, more), '}')
	if c.enc == webSocket {
		return sealText(b), more
	}
	b = append(b, '\n')
	if !more {
		b = append(append(append(b, "id: "...), at...), '\n')
	}
	return append(b, '\n'), more
}

// reshape moves the connection to the shape of what is live now.
func (c *conn) reshape() {
	h := c.h
	sortMembers(c.out.live)
	c.mu.Lock()
	every := c.mu.every
	c.mu.Unlock()
	key := shapeKey(c.enc, every, c.out.live)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaveLocked(c)
	if _, here := h.mu.conns[c]; !here || len(c.out.live) == 0 {
		return
	}
	s := h.mu.shapes[key]
	if s == nil {
		s = h.newShapeLocked(key, c.enc, every, c.out.live)
	}
	s.conns[c] = struct{}{}
	c.out.shape = s
	if c.cursor.Load() > s.reached(h.mu.pos) {
		c.out.inside = true
		h.mu.ahead[c] = struct{}{}
	}
}
