package push

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/expr"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// History is the log, for clients that come back when the ring has gone on. It is asked about relations whose rows the log tells (expr.Relation.Trace) and
// for keys alone: what a row is, the views know. Its methods may be called concurrently.
type History interface {
	// First returns the oldest position from which Read can go on.
	First() uint64
	// Read calls row for each row that a batch after from, at most to, wrote into the table of one of rels: which of rels, and the key that the row has there,
	// which is valid during the call. It may name rows that were refused or were there already, and names one again that is written again. It stops behind the
	// batch that makes about a page, and takes its time: reading must not disturb who writes. It returns the position that it has reached, at least one
	// beyond from, and the stamp of that batch. An error means that the log cannot tell, now or ever.
	Read(ctx context.Context, rels []*expr.Relation, from, to uint64, row func(rel int, key []byte)) (at uint64, stamp int64, err error)
}

// Bounds of what is brought up from the log.
const (
	logHolders = 64               // pages that are read and not sent yet, of all connections; others wait for their turn
	logTurn    = 30 * time.Second // how long; then the rows come anew
	logRate    = 128 << 20        // bytes of pages a second, for all: a hundred clients at once made writes wait 100 ms for the processor
	logBurst   = time.Second / 8  // how far the rate may be ahead
	logMerged  = 1 << 20          // bytes of rows for which a subscription waits that shares its connection with others: they come as one frame
	logNear    = 64               // epochs behind the head at which the ring takes over, when it reaches back so far
	logShared  = 16 << 20         // bytes of pages that are kept for others who come from the same positions
	logSilence = 16               // reads without a row after which the client is told the position
)

// logReader is what all catch-ups share.
type logReader struct {
	turns  chan struct{} // has an item for each page in memory
	begun  atomic.Int64  // subscriptions, since the start
	failed atomic.Int64  // of these: ended with a gap
	due    atomic.Int64  // when pages of logRate would all be sent, unix nanoseconds
	shared struct {
		sync.Mutex
		pages map[string]*sharedPage
		queue []string // oldest first: those of pages that are there
		bytes int
	}
}

// sharedPage is a page that is read once for all who come from one position: clients that were cut together come back together.
type sharedPage struct {
	done chan struct{} // closed when it was read
	ok   bool          // the page is there, and the same for everybody
	page logPage
}

// Resumes counts the subscriptions that the log began to bring up since the start, and those of them that ended with a gap: the log did not tell everything
// that was needed, too many others were being brought up, or another subscription came to the connection.
func (h *Hub) Resumes() (begun, failed int64) { return h.past.begun.Load(), h.past.failed.Load() }

// traced reports whether the log can tell f's rows from the position seq on.
func (h *Hub) traced(f *feed, seq uint64) bool {
	return h.opt.History != nil && f.window == nil && f.guard == nil && f.q.rel.Trace != nil && h.opt.History.First() <= seq
}

// catchUp is subscriptions that are brought up from the log, from one position. Alone on their connection they are live from the beginning and get what the log
// has page by page, as epochs. Beside others, which have other positions, they are silent until all of it can be told in one frame.
type catchUp struct {
	feeds   []member // read-only
	members []member // those of feeds that are still wanted; the owner's of out
	paged   bool
	from    uint64             // what the client has
	pages   chan logPage       // capacity 1
	taken   chan struct{}      // capacity 1: the page was taken, the next one is wanted
	stop    context.CancelFunc // ends the reading
}

// logPage is what the log has for the members of a catch-up up to a position.
type logPage struct {
	to    uint64
	stamp int64
	puts  [][]byte          // by feed: rows with commas between
	named []map[string]bool // by feed: the keys of these
	last  bool              // the ring has what follows
	err   error             // the log does not tell
}

var (
	errLogLong = errors.New("the log has more than can be told at once")
	errLogBusy = errors.New("too many others are being brought up from the log")
)

// catchUp begins to bring members up from the log. paged says whether they are all that the connection has. The caller owns out.
func (c *conn) catchUp(members []member, from uint64, paged bool) {
	ctx, stop := context.WithCancel(c.h.group.Context())
	u := &catchUp{feeds: members, members: slices.Clone(members), paged: paged, from: from, stop: stop,
		pages: make(chan logPage, 1), taken: make(chan struct{}, 1)}
	c.out.behind = append(c.out.behind, u)
	c.mu.Lock()
	c.mu.catchUps = append(slices.Clone(c.mu.catchUps), u) // whoever closes the connection may be reading the old list
	over := c.mu.over
	c.mu.Unlock()
	if over {
		stop()
	}
	c.h.past.begun.Add(int64(len(members)))
	c.reading(1)
	c.h.group.Go("push history", func(context.Context) error { c.readLog(ctx, u); return nil })
}

// reading counts by pages that are wanted and of which the connection does not know yet. Tests wait until there are none.
func (c *conn) reading(by int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.reading += by
}

// readLog reads page after page until the ring takes over, the log does not tell, or nobody wants it. A page in memory has a turn until it is taken.
func (c *conn) readLog(ctx context.Context, u *catchUp) {
	h, at := c.h, u.from
	for {
		if err := h.turn(ctx); err != nil {
			if err == errLogBusy {
				u.pages <- logPage{err: err}
				c.kick(false)
			}
			c.reading(-1)
			return
		}
		page := h.sharedPage(ctx, u, at)
		if !h.pace(ctx, page.size()) {
			<-h.past.turns
			c.reading(-1)
			return
		}
		u.pages <- page
		c.kick(false)
		c.reading(-1)
		select {
		case <-u.taken:
			<-h.past.turns
		case <-ctx.Done():
			<-h.past.turns
			if len(u.taken) > 0 { // and the next one was wanted before that
				c.reading(-1)
			}
			return
		}
		at = page.to
	}
}

// turn waits for a turn: the right to have a page in memory.
func (h *Hub) turn(ctx context.Context) error {
	select {
	case h.past.turns <- struct{}{}:
		return nil
	default:
	}
	select {
	case h.past.turns <- struct{}{}:
		return nil
	case <-h.clock.After(logTurn):
		return errLogBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pace waits until a page of so many bytes may be sent. It is false when ctx has ended.
func (h *Hub) pace(ctx context.Context, size int) bool {
	now := h.clock.Now().UnixNano()
	var due int64
	for {
		before := h.past.due.Load()
		due = max(before, now-int64(logBurst)) + int64(size)*int64(time.Second)/logRate
		if h.past.due.CompareAndSwap(before, due) {
			break
		}
	}
	if due <= now {
		return true
	}
	select {
	case <-h.clock.After(time.Duration(due - now)):
		return true
	case <-ctx.Done():
		return false
	}
}

// sharedPage is logPage, read once for all who want the same.
func (h *Hub) sharedPage(ctx context.Context, u *catchUp, at uint64) logPage {
	if !u.paged {
		return h.logPage(ctx, u, at)
	}
	key := binary.AppendUvarint(nil, at)
	for _, m := range u.feeds {
		key = binary.AppendUvarint(key, m.feed.id)
	}
	s := &h.past.shared
	s.Lock()
	p := s.pages[string(key)]
	if p == nil {
		p = &sharedPage{done: make(chan struct{})}
		if s.pages == nil {
			s.pages = map[string]*sharedPage{}
		}
		s.pages[string(key)] = p
		s.Unlock()
		p.page = h.logPage(ctx, u, at)
		h.share(string(key), p)
		return p.page
	}
	s.Unlock()
	select {
	case <-p.done:
	case <-ctx.Done():
		return logPage{err: ctx.Err()}
	}
	if p.ok {
		return p.page
	}
	return h.logPage(ctx, u, at)
}

// share keeps a page that was read for others, unless the next one would read another: the last page ends where the log does.
func (h *Hub) share(key string, p *sharedPage) {
	s := &h.past.shared
	s.Lock()
	defer s.Unlock()
	defer close(p.done)
	p.ok, p.page.named = p.page.err == nil && !p.page.last, nil
	size := p.page.size()
	if !p.ok || size > logShared/4 {
		delete(s.pages, key)
		return
	}
	s.queue, s.bytes = append(s.queue, key), s.bytes+size
	for s.bytes > logShared {
		oldest := s.queue[0]
		s.bytes -= s.pages[oldest].page.size()
		delete(s.pages, oldest)
		s.queue = s.queue[1:]
	}
}

// size is what a page takes in memory, about.
func (p *logPage) size() int {
	n := 256
	for _, b := range p.puts {
		n += len(b) + 64
	}
	return n
}

// forgetPages gives up what is kept for clients that come back, when nobody is there.
func (h *Hub) forgetPages() {
	s := &h.past.shared
	s.Lock()
	defer s.Unlock()
	for _, key := range s.queue {
		delete(s.pages, key)
	}
	s.queue, s.bytes = nil, 0
}

// logPage reads a page of the log after at.
func (h *Hub) logPage(ctx context.Context, u *catchUp, at uint64) logPage {
	page := logPage{to: at, puts: make([][]byte, len(u.feeds)), named: make([]map[string]bool, len(u.feeds))}
	limit := logMerged
	if u.paged {
		limit = h.opt.PageBytes
	}
	size := 0
	for reads := 0; ; reads++ {
		head, stamp := h.store.Head()
		if page.to >= head || page.to >= h.store.Floor() && head-page.to <= logNear {
			if page.last = true; page.to == head {
				page.stamp = stamp
			}
			return page
		}
		if u.paged && (size >= limit || reads == logSilence) {
			return page
		}
		n, err := h.readLog(ctx, u.feeds, &page, head)
		if size += n; err == nil && !u.paged && size > limit {
			err = errLogLong
		}
		if err != nil && !(u.paged && page.to > at) { // else with the next page, once what was read is told
			page.err = err
		}
		if err != nil {
			return page
		}
	}
}

// readLog adds the rows of feeds that the log names after page.to, up to head, and returns how many bytes they take.
func (h *Hub) readLog(ctx context.Context, feeds []member, page *logPage, head uint64) (size int, err error) {
	var rels []*expr.Relation
	for _, m := range feeds {
		if !slices.Contains(rels, m.feed.q.rel) {
			rels = append(rels, m.feed.q.rel)
		}
	}
	keys := make([][]string, len(rels))
	to, stamp, err := h.opt.History.Read(ctx, rels, page.to, head, func(rel int, key []byte) { keys[rel] = append(keys[rel], string(key)) })
	if err != nil {
		return 0, err
	}
	ids := make([]int, len(rels))
	for i, rel := range rels {
		if !h.current(rel) { // its subscriptions move on, see Hub.Settle
			return 0, errors.New("the view has become another one")
		}
		ids[i] = rel.ID
		slices.Sort(keys[i])
		keys[i] = slices.Compact(keys[i])
	}
	snap := h.store.Snapshot(ids...)
	for i, m := range feeds {
		before := len(page.puts[i])
		page.add(i, m.feed, snap, keys[slices.Index(rels, m.feed.q.rel)])
		size += len(page.puts[i]) - before
	}
	page.to, page.stamp = to, stamp
	return size, nil
}

// add takes those rows of feed i that have one of keys into the page, each once.
func (p *logPage) add(i int, f *feed, snap *view.Snapshot, keys []string) {
	r := reader{query: f.q}
	for _, key := range keys {
		row, ok := snap.Get(f.q.rel.ID, []byte(key))
		if !ok || !r.match(row) || p.named[i][key] {
			continue
		}
		if p.named[i] == nil {
			p.named[i] = map[string]bool{}
		}
		p.named[i][key] = true
		p.puts[i] = f.q.appendRow(separate(p.puts[i]), row)
	}
}

// history returns what was read from the log meanwhile, nothing while it is still being read. The caller owns out.
func (c *conn) history() (bufs [][]byte) {
	for _, u := range slices.Clone(c.out.behind) {
		select {
		case page := <-u.pages:
			c.h.opt.Limiter.Replayed(c.asks(), page.size())
			bufs = append(bufs, c.goOn(u, page)...)
			if slices.Contains(c.out.behind, u) {
				c.reading(1)
				u.taken <- struct{}{}
			}
		default:
		}
	}
	return bufs
}

// goOn takes one page of a catch-up.
func (c *conn) goOn(u *catchUp, page logPage) [][]byte {
	if page.err != nil {
		c.h.opt.Logger.Debug("the log does not bring a client up", "session", c.session, "reason", page.err.Error())
		return c.giveUp(u)
	}
	var parts []part
	for i, m := range u.feeds {
		if slices.Contains(u.members, m) {
			parts = append(parts, part{m.id, joinFragment(page.puts[i], nil)})
		}
	}
	if !u.paged {
		return c.joinFromLog(u, page, parts)
	}
	told := c.out.told
	c.advance(page.to, page.stamp)
	if page.last {
		complete := make([]joining, len(u.members))
		for i, m := range u.members {
			complete[i].member = m
		}
		c.drop(u)
		c.live(complete)
	}
	if page.to == told {
		return nil
	}
	c.out.told = page.to
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.id, b.id) })
	return [][]byte{c.h.epochFrame(c.enc, parts, told, page.to, page.stamp)}
}

// joinFromLog makes subscriptions live that were silent while the log was read: what it has comes with the next frame of the whole connection.
func (c *conn) joinFromLog(u *catchUp, page logPage, parts []part) (bufs [][]byte) {
	joins := make([]joining, len(u.members))
	for i, m := range u.members {
		bufs = append(bufs, c.resumedFrame(m, u.from))
		joins[i] = joining{member: m, from: page.to, since: u.from, log: parts[i].body}
	}
	c.drop(u)
	if len(c.out.live)+len(c.out.pages) == 0 { // the rows of others may stand further on
		c.advance(page.to, page.stamp)
	}
	return append(bufs, c.settle(joins)...)
}

func (c *conn) resumedFrame(m member, at uint64) []byte {
	return c.frame("resumed", &wire.ResumedFrame{ID: m.id, Position: string(c.h.position(nil, at)), Key: m.feed.q.keyNames})
}

// giveUp ends a catch-up with a gap: its rows begin anew.
func (c *conn) giveUp(u *catchUp) (bufs [][]byte) {
	c.h.past.failed.Add(int64(len(u.members)))
	c.drop(u)
	rels := make([]int, 0, len(u.members))
	for _, m := range u.members {
		rels = append(rels, m.feed.q.rel.ID)
	}
	floor, snap := c.h.store.Floor(), c.h.store.Snapshot(rels...)
	if len(c.out.live)+len(c.out.pages) == 0 {
		c.begin(snap)
	}
	for _, m := range u.members {
		if !c.h.current(m.feed.q.rel) { // the snapshot may have no rows of it; Hub.Settle ends it
			continue
		}
		bufs = append(bufs, c.gapFrame(m.id, floor))
		c.out.pages = append(c.out.pages, &paging{member: m, q: m.feed.q, snap: snap})
	}
	return bufs
}

// drop forgets a catch-up.
func (c *conn) drop(u *catchUp) {
	u.stop()
	same := func(x *catchUp) bool { return x == u }
	if c.out.behind = slices.DeleteFunc(c.out.behind, same); len(c.out.behind) == 0 {
		c.out.behind = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.catchUps = slices.DeleteFunc(slices.Clone(c.mu.catchUps), same); len(c.mu.catchUps) == 0 {
		c.mu.catchUps = nil
	}
}

// leaveHistory takes a subscription out of the catch-ups.
func (c *conn) leaveHistory(id string) {
	for _, u := range slices.Clone(c.out.behind) {
		u.members = slices.DeleteFunc(u.members, func(m member) bool { return m.id == id })
		if len(u.members) == 0 {
			c.drop(u)
		}
	}
}

// alone returns the catch-up that has the connection to itself, nil when there is none.
func (c *conn) alone() *catchUp {
	if len(c.out.behind) == 1 && c.out.behind[0].paged {
		return c.out.behind[0]
	}
	return nil
}

// withLog puts the rows that the log had before those of the ring.
func withLog(log, body []byte) []byte {
	switch {
	case len(log) == 0:
		return body
	case len(body) == 0:
		return log
	}
	const open = `"put":[`
	out := append(make([]byte, 0, len(log)+len(body)), log[:len(log)-1]...) // without its ]
	return append(append(out, ','), body[len(open):]...)
}

// beginLog begins with what the log has for subscriptions that were away for longer than the ring reaches back. When the connection has nothing else, that is
// all there is to do.
func (c *conn) beginLog(behind []joining, only bool) (bufs [][]byte, done bool) {
	if len(behind) == 0 {
		return nil, false
	}
	groups := map[uint64][]member{}
	for _, j := range behind {
		groups[j.from] = append(groups[j.from], j.member)
	}
	if only && len(groups) == 1 && len(c.out.live)+len(c.out.pages)+len(c.out.behind) == 0 {
		from := behind[0].from
		for _, j := range behind {
			bufs = append(bufs, c.resumedFrame(j.member, from))
		}
		c.out.inside, c.out.stamp, c.out.told = false, 0, from
		c.advance(from, 0)
		c.catchUp(groups[from], from, true)
		return bufs, true
	}
	for from, members := range groups {
		c.catchUp(members, from, false)
	}
	return nil, false
}

// backToLog has the log bring up a connection that was too slow for the ring, if the log tells all that it has, and reports whether it can.
func (c *conn) backToLog() bool {
	at := c.cursor.Load()
	if len(c.out.live) == 0 || len(c.out.pages)+len(c.out.behind) > 0 {
		return false
	}
	for _, m := range c.out.live {
		if !c.h.traced(m.feed, at) || !c.h.current(m.feed.q.rel) {
			return false
		}
	}
	members := c.out.live
	c.out.live, c.out.inside = nil, false
	c.reshape()
	c.catchUp(members, at, true)
	return true
}
