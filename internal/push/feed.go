package push

import (
	"bytes"
	"slices"
	"sync"

	"laaster/internal/change"
)

// feed is one query that is followed live, shared by all subscriptions that ask the same. Its changes are encoded once
// for all of them.
type feed struct {
	id      uint64 // unique in the hub
	q       *query
	window  *window     // of a feed that follows the first rows of its result only
	guard   *guard      // of a feed whose rule has members
	members *membership // of a feed that only finds the changes of a membership

	// Guarded by Hub.mu.
	users  int                // connections that hold it
	now    *query             // what it asks at the hub's position: q, unless it has a guard
	shapes []*shape           // shapes it is part of
	each   int                // of these: shapes that get every epoch
	run    fragment           // of the flush under way
	slid   bool               // with window or members: an epoch of the flush under way may have changed it
	turned bool               // with guard: a set is another one since the last flush
	paths  []path             // where the index has it
	hit    []change.RowChange // of index.concerned under way
}

// fragment is the changes of a feed over a span, as the members of an object without its braces: `"put":[…],"del":[…]`.
// An empty body means that nothing changed for this feed.
type fragment struct {
	from, to uint64
	body     []byte
}

// fragments keeps what was encoded outside of the flushes: clients that resume or catch up together ask for the same. Safe for
// concurrent use.
type fragments struct {
	mu struct {
		sync.Mutex
		bodies map[fragmentKey][]byte
		queue  []fragmentKey // oldest first
		bytes  int

		pages     map[pageKey]page
		pageQueue []pageKey // oldest first
		pageBytes int
	}
}

type fragmentKey struct{ feed, from, to uint64 }

// pageKey names a page of a snapshot as it is sent.
type pageKey struct {
	feed, position uint64
	enc            encoding
	id, after      string
	room           int
}

type page struct {
	frame []byte
	more  bool
	after []byte // where the next one begins
}

// Bounds of what is kept.
const (
	keptFragments     = 8 << 20 // bytes in all, with an estimate for what is around each
	keptFragmentsEach = 256 << 10
	fragmentOverhead  = 128
	keptPages         = 16 << 20
	keptPagesEach     = 2 << 20
)

func (c *fragments) page(key pageKey) (page, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.mu.pages[key]
	return p, ok
}

func (c *fragments) putPage(key pageKey, p page) {
	if len(p.frame) > keptPagesEach {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.mu.pages[key]; there {
		return
	}
	if c.mu.pages == nil {
		c.mu.pages = map[pageKey]page{}
	}
	c.mu.pages[key] = p
	c.mu.pageQueue = append(c.mu.pageQueue, key)
	for c.mu.pageBytes += len(p.frame) + 2*fragmentOverhead; c.mu.pageBytes > keptPages; {
		oldest := c.mu.pageQueue[0]
		c.mu.pageQueue = c.mu.pageQueue[1:]
		c.mu.pageBytes -= len(c.mu.pages[oldest].frame) + 2*fragmentOverhead
		delete(c.mu.pages, oldest)
	}
}

func (c *fragments) get(key fragmentKey) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, ok := c.mu.bodies[key]
	return body, ok
}

func (c *fragments) put(key fragmentKey, body []byte) {
	if len(body) > keptFragmentsEach {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.mu.bodies[key]; there {
		return
	}
	if c.mu.bodies == nil {
		c.mu.bodies = map[fragmentKey][]byte{}
	}
	c.mu.bodies[key] = body
	c.mu.queue = append(c.mu.queue, key)
	for c.mu.bytes += len(body) + fragmentOverhead; c.mu.bytes > keptFragments; {
		oldest := c.mu.queue[0]
		c.mu.queue = c.mu.queue[1:]
		c.mu.bytes -= len(c.mu.bodies[oldest]) + fragmentOverhead
		delete(c.mu.bodies, oldest)
	}
}

// clear forgets everything.
func (c *fragments) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.bodies, c.mu.queue, c.mu.bytes = nil, nil, 0
	c.mu.pages, c.mu.pageQueue, c.mu.pageBytes = nil, nil, 0
}

// fragment returns the changes of f over sp, encoded. It is false when the history of a window or of a guard does not reach back to sp's beginning, or a guard lets too
// many other rows through at its end. Hub.mu must not be held.
func (h *Hub) fragment(f *feed, sp *span) ([]byte, bool) {
	var look *int
	if f.guard != nil {
		rows := turnRowsAlone
		look = &rows
	}
	if f.window == nil || sp.from == sp.to {
		return h.encode(f, sp, 0, look)
	}
	return h.encode(f, sp, h.reached(), look)
}

// reached returns the position up to which epochs have been turned into frames.
func (h *Hub) reached() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.pos
}

// encode is fragment for whoever knows the hub's position, or one that was. look is how many rows a guard may look at.
func (h *Hub) encode(f *feed, sp *span, pos uint64, look *int) ([]byte, bool) {
	if sp.from == sp.to {
		return nil, true
	}
	key := fragmentKey{f.id, sp.from, sp.to}
	if body, ok := h.kept.get(key); ok {
		return body, true
	}
	var changes []change.RowChange
	q, whole := f.q, f.window != nil
	switch {
	case f.window != nil:
		var ok bool
		if changes, ok = f.window.between(sp.from, sp.to, pos); !ok {
			return nil, false
		}
	case f.guard != nil:
		var ok bool
		if changes, q, whole, ok = h.guardedChanges(f, sp, look); !ok {
			return nil, false
		}
	case f.q.point:
		changes = only(sp.changes(f.q.rel.ID), f.q.lead)
	default:
		changes = sp.changes(f.q.rel.ID)
	}
	var r renderer
	body := r.render(q, whole, changes)
	if cap(r.body) > len(body)+len(body)/4 {
		body = bytes.Clone(body) // what is kept is counted by its length
	}
	h.kept.put(key, body)
	return body, true
}

// renderer renders changes. Bodies that it returns are parts of body: they are good until that is cut. Not for concurrent use.
type renderer struct {
	reader
	body, del []byte
}

// render renders changes, ordered by key: of the query's relation, or with whole of rows that are all part of the result.
func (r *renderer) render(q *query, whole bool, changes []change.RowChange) []byte {
	if len(changes) == 0 {
		return nil
	}
	r.query = q
	start := len(r.body)
	r.del = r.del[:0]
	for i := range changes {
		if i >= 16 && i&(i-1) == 0 { // append alone would take five times what megabytes need in the end
			n := len(r.body) - start
			r.body = slices.Grow(r.body, n/i*min(i, len(changes)-i)+n/16)
		}
		c := &changes[i]
		was, is := c.Old != nil && (whole || r.match(c.Old)), c.New != nil && (whole || r.match(c.New))
		switch {
		case is && !(was && q.looksSame(c.Old, c.New)):
			if len(r.body) == start {
				r.body = append(r.body, `"put":[`...)
			} else {
				r.body = append(r.body, ',')
			}
			r.body = q.appendRow(r.body, c.New)
		case was && !is:
			r.del = q.appendKey(separate(r.del), c.Old)
		}
	}
	if len(r.body) > start {
		r.body = append(r.body, ']')
	}
	if len(r.del) > 0 {
		if len(r.body) > start {
			r.body = append(r.body, ',')
		}
		r.body = append(append(append(r.body, `"del":[`...), r.del...), ']')
	}
	return r.body[start:len(r.body):len(r.body)]
}

// cut forgets the bodies.
func (r *renderer) cut() {
	const kept = 256 << 10
	if r.body = r.body[:0]; cap(r.body) > kept {
		r.body = nil
	}
	if cap(r.del) > kept {
		r.del = nil
	}
}

// separate appends a comma between elements.
func separate(list []byte) []byte {
	if len(list) > 0 {
		return append(list, ',')
	}
	return list
}

func joinFragment(put, del []byte) []byte {
	const names = len(`"put":[],"del":[]`)
	if len(put)+len(del) == 0 {
		return nil
	}
	body := make([]byte, 0, len(put)+len(del)+names)
	if len(put) > 0 {
		body = append(append(append(body, `"put":[`...), put...), ']')
	}
	if len(del) > 0 {
		body = append(append(append(separate(body), `"del":[`...), del...), ']')
	}
	return body
}

// only returns the changes of one key.
func only(changes []change.RowChange, key []byte) []change.RowChange {
	lo, hi := 0, len(changes)
	for lo < hi {
		if mid := (lo + hi) / 2; string(changes[mid].Key) < string(key) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(changes) && string(changes[lo].Key) == string(key) {
		return changes[lo : lo+1]
	}
	return nil
}

// feeds is the feeds of one relation.
type feeds struct {
	all     map[string]*feed // by canonical query
	rows    index            // of those that follow all rows of their result
	windows index            // of those that follow the first rows
	members index            // of memberships
}

// of returns the index that f is in.
func (x *feeds) of(f *feed) *index {
	if f.window != nil {
		return &x.windows
	}
	return &x.rows
}

func (x *feeds) add(f *feed) {
	if x.all == nil {
		x.all = map[string]*feed{}
	}
	x.all[f.q.canon] = f
	x.of(f).add(f)
}

// remove undoes add.
func (x *feeds) remove(f *feed) {
	if x.all[f.q.canon] == f {
		delete(x.all, f.q.canon)
	}
	x.of(f).remove(f)
}

func without[T comparable](list []T, x T) []T {
	for i := range list {
		if list[i] == x {
			last := len(list) - 1
			list[i] = list[last]
			var zero T
			list[last] = zero
			return list[:last]
		}
	}
	return list
}
