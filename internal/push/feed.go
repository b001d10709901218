package push

import (
	"sync"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// feed is one query that is followed live, shared by all subscriptions that ask the same. Its changes are encoded once
// for all of them.
type feed struct {
	id     uint64 // unique in the hub
	q      *query
	users  int      // connections that hold it; guarded by Hub.mu
	shapes []*shape // shapes it is part of; guarded by Hub.mu
	run    fragment // of the last flush; guarded by Hub.mu
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
	}
}

type fragmentKey struct{ feed, from, to uint64 }

// Bounds of what is kept.
const (
	keptFragments     = 8 << 20 // bytes in all, with an estimate for what is around each
	keptFragmentsEach = 256 << 10
	fragmentOverhead  = 128
)

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
}

// fragment returns the changes of f over sp, encoded.
func (h *Hub) fragment(f *feed, sp *span) []byte {
	if sp.from == sp.to {
		return nil
	}
	key := fragmentKey{f.id, sp.from, sp.to}
	if body, ok := h.kept.get(key); ok {
		return body
	}
	body := f.encode(sp)
	h.kept.put(key, body)
	return body
}

// encode renders the feed's changes over sp.
func (f *feed) encode(sp *span) []byte {
	changes := sp.changes(f.q.rel.ID)
	if f.q.point {
		changes = only(changes, f.q.lead)
	}
	return f.render(changes)
}

// render renders changes of the feed's relation, ordered by key.
func (f *feed) render(changes []change.RowChange) []byte {
	if len(changes) == 0 {
		return nil
	}
	r := reader{query: f.q}
	var put, del []byte
	for i := range changes {
		c := &changes[i]
		was, is := c.Old != nil && r.match(c.Old), c.New != nil && r.match(c.New)
		switch {
		case is && !(was && f.q.looksSame(c.Old, c.New)):
			put = f.q.appendRow(separate(put), c.New)
		case was && !is:
			del = f.q.appendKey(separate(del), c.Old)
		}
	}
	return joinFragment(put, del)
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

// feeds finds the feeds that changes of one relation may concern, without asking each: a feed whose filter demands
// column = value is found by the value.
type feeds struct {
	all   map[string]*feed           // by canonical query
	byCol map[int]map[string][]*feed // column, order-preserving value: feeds that demand it
	rest  []*feed                    // feeds that demand nothing of the kind
}

// add indexes f under one of its equality conditions.
func (x *feeds) add(f *feed) {
	if x.all == nil {
		x.all, x.byCol = map[string]*feed{}, map[int]map[string][]*feed{}
	}
	x.all[f.q.canon] = f
	if col, val, ok := f.index(); ok {
		if x.byCol[col] == nil {
			x.byCol[col] = map[string][]*feed{}
		}
		x.byCol[col][val] = append(x.byCol[col][val], f)
		return
	}
	x.rest = append(x.rest, f)
}

// remove undoes add.
func (x *feeds) remove(f *feed) {
	delete(x.all, f.q.canon)
	if col, val, ok := f.index(); ok {
		if left := without(x.byCol[col][val], f); len(left) > 0 {
			x.byCol[col][val] = left
		} else if delete(x.byCol[col], val); len(x.byCol[col]) == 0 {
			delete(x.byCol, col)
		}
		return
	}
	x.rest = without(x.rest, f)
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

// index returns the condition to find f by.
func (f *feed) index() (col int, val string, ok bool) {
	equals := f.q.filter.Equals()
	if len(equals) == 0 {
		return 0, "", false
	}
	e := equals[0]
	return e.Column, string(indexKey(nil, f.q.rel, e.Column, e.Value)), true
}

func indexKey(dst []byte, rel *expr.Relation, col int, v change.Value) []byte {
	return change.AppendKey(dst, rel.Layout.Type(col), v, false, false)
}

// concerned calls fn once for each feed that may have something to say about changes, which are of rel, with those
// changes that concern it.
func (x *feeds) concerned(rel *expr.Relation, changes []change.RowChange, fn func(*feed, []change.RowChange)) {
	for _, f := range x.rest {
		fn(f, changes)
	}
	if len(x.byCol) == 0 {
		return
	}
	hits := map[*feed][]change.RowChange{}
	for col, values := range x.byCol {
		for i := range changes {
			x.hit(hits, values, rel, col, &changes[i])
		}
	}
	for f, sub := range hits {
		fn(f, sub)
	}
}

// hit adds c to the feeds that demand the value that one of its rows has in col.
func (x *feeds) hit(hits map[*feed][]change.RowChange, values map[string][]*feed, rel *expr.Relation, col int, c *change.RowChange) {
	var scratch [64]byte
	for _, row := range [2]change.Row{c.Old, c.New} {
		if row == nil {
			continue
		}
		v := rel.Layout.Get(row, col)
		if v.Null {
			continue
		}
		for _, f := range values[string(indexKey(scratch[:0], rel, col, v))] {
			if sub := hits[f]; len(sub) == 0 || string(sub[len(sub)-1].Key) != string(c.Key) {
				hits[f] = append(sub, *c)
			}
		}
	}
}
