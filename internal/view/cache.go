package view

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
)

// cache accounts for the pages of a store that are in memory, and reads those that are not. Safe for concurrent use.
type cache struct {
	resident  atomic.Int64 // bytes of the pages that the trees have in memory. Older versions that only snapshots hold are not counted
	limit     atomic.Int64 // that Trim was called with last; 0: none
	leaves    atomic.Int64 // of the trees
	stored    atomic.Int64 // of these: in the newest checkpoint as they are
	cold      atomic.Int64 // of these: not in memory. It may be a little off while readers load
	loads     atomic.Int64
	waits     atomic.Int64 // loads that Apply waited for
	evictions atomic.Int64
	reading   [64]sync.Mutex // by leaf: who needs the same page waits for the one that reads it
	damaged   func(error)    // see Options.Damaged
}

// pageRef is where a page is stored: a checkpoint.Ref.
type pageRef interface {
	Read(dst []byte) ([]byte, error)
}

func (c *cache) count(l *leaf) {
	if l.counted.CompareAndSwap(false, true) {
		c.resident.Add(int64(l.size))
	}
}

func (c *cache) discount(l *leaf) {
	if l.counted.CompareAndSwap(true, false) {
		c.resident.Add(-int64(l.size))
	}
}

// touch marks a leaf as used. Most are already, so it is looked first.
func (l *leaf) touch() {
	if !l.used.Load() {
		l.used.Store(true)
	}
}

// room reports whether a page that is read may stay in memory. What is asked for by its key may go beyond the limit, by one part of so many, until the
// next Trim: it is more likely to be used again than what Trim would take.
func (c *cache) room(beyond int64) bool {
	limit := c.limit.Load()
	if beyond > 0 {
		limit += limit / beyond
	}
	return limit == 0 || c.resident.Load() < limit
}

// load reads a page that is not in memory. With keep it stays there.
func (c *cache) load(l *leaf, in bounds, keep bool) page {
	mu := &c.reading[uintptr(unsafe.Pointer(l))/unsafe.Sizeof(*l)%uintptr(len(c.reading))]
	mu.Lock()
	defer mu.Unlock()
	if p := l.page(); p != nil {
		return p
	}
	from := l.source
	if l.stored() {
		from = l.ref
	}
	raw, err := from.Read(make([]byte, 0, l.size))
	if err == nil {
		err = l.verify(page(raw), in)
	}
	if err != nil {
		if c.damaged != nil {
			c.damaged(err)
		}
		panic(err)
	}
	c.loads.Add(1)
	if keep {
		l.data.Store(unsafe.SliceData(raw))
		if c.count(l); l.gone.Load() {
			c.discount(l)
		} else {
			c.cold.Add(-1)
		}
	}
	return raw
}

// verify says what is wrong with the page of l that was read.
func (l *leaf) verify(p page, in bounds) error {
	until := []byte(in.until)
	if in.end {
		until = nil
	}
	err := p.check(int(l.rows), []byte(in.from), until)
	if len(p) != int(l.size) {
		err = fmt.Errorf("a page of rows has %d bytes, not %d", len(p), l.size)
	}
	if err != nil {
		return &checkpoint.Damage{Page: l.number, Problem: err.Error()}
	}
	return nil
}

// shared is a tree as it is for ever: what a snapshot reads.
type shared struct {
	cache *cache
	root  *branch
	rows  int
}

// leaf returns the leaf that has key if any has, nil when there is none.
func (s *shared) leaf(key []byte) (*leaf, bounds) {
	b, in := s.root, bounds{end: true}
	for len(b.kids) > 0 {
		i := b.find(key)
		in = b.bounds(i, in)
		if b.level == 1 {
			return b.kids[i].leaf, in
		}
		b = b.kids[i].branch
	}
	return nil, in
}

func (s *shared) get(key []byte) (change.Row, bool) {
	l, in := s.leaf(key)
	if l == nil {
		return nil, false
	}
	p := l.page()
	if p == nil {
		p = s.cache.load(l, in, s.cache.room(8))
	}
	l.touch()
	r := p.rows()
	at, there := r.search(key, 0)
	if !there {
		return nil, false
	}
	_, row := r.at(at)
	return row, true
}

// ascend calls fn for the rows of b from key from on, until it returns false.
func (s *shared) ascend(b *branch, in bounds, from []byte, fn func(key []byte, row change.Row) bool) bool {
	first := 0
	if len(from) > 0 && len(b.kids) > 0 {
		first = b.find(from)
	}
	for i := first; i < len(b.kids); i++ {
		if i > first {
			from = nil
		}
		if b.level > 1 {
			if !s.ascend(b.kids[i].branch, b.bounds(i, in), from, fn) {
				return false
			}
			continue
		}
		p := b.kids[i].leaf.page()
		if p == nil {
			p = s.scan(b, i, in)
		}
		r, at := p.rows(), 0
		if len(from) > 0 {
			b.kids[i].leaf.touch() // who begins somewhere may come again; who goes over everything shall not push the others out
			at, _ = r.search(from, 0)
		}
		for ; at < r.n; at++ {
			if key, row := r.at(at); !fn(key, row) {
				return false
			}
		}
	}
	return true
}

// scan loads child i of b for a reader that passes by.
func (s *shared) scan(b *branch, i int, in bounds) page {
	return s.cache.load(b.kids[i].leaf, b.bounds(i, in), s.cache.room(0))
}

// turn is how far Trim has come: a clock's hand that goes over all relations, leaf by leaf.
type turn struct {
	relation int
	from     string // the next key
}

// Trim looks at so many branches before it lets others have the lock, and at so many in one call: 32,768 leaves, some milliseconds.
const (
	trimStep = 16
	trimMost = 512
)

// Trim frees memory of rows that are stored and unchanged until at most limit bytes of rows are in memory: what was used since it last came by stays once more.
// It ends when it has been round twice, or has seen 128 MiB of rows, and goes on from there when it is called again. Rows that are read later go
// beyond limit a little, until the next Trim. It returns the bytes that are in memory. A limit below 1 is 1.
func (s *Store) Trim(limit int64) (resident int64) {
	limit = max(limit, 1)
	s.cache.limit.Store(limit)
	s.trim.Lock()
	defer s.trim.Unlock()
	for turns, steps := 0, 0; turns < 2 && steps < trimMost/trimStep && s.cache.resident.Load() > limit; steps++ {
		s.mu.Lock()
		for range trimStep {
			if s.cache.resident.Load() <= limit {
				break
			}
			if s.trimBranchLocked(limit) {
				turns++
				break
			}
		}
		s.mu.Unlock()
	}
	return s.cache.resident.Load()
}

// trimBranchLocked goes over the leaves of one branch and reports whether that was the last of the store.
func (s *Store) trimBranchLocked(limit int64) bool {
	if s.trim.at.relation >= len(s.mu.state) {
		s.trim.at = turn{}
		return true
	}
	b, in := s.mu.state[s.trim.at.relation].tree.root, bounds{end: true}
	for b.level > 1 {
		i := b.find([]byte(s.trim.at.from))
		b, in = b.kids[i].branch, b.bounds(i, in)
	}
	for i := range b.kids {
		if s.cache.resident.Load() > limit {
			s.cache.evict(b.kids[i].leaf)
		}
	}
	if s.trim.at.from = in.until; in.end {
		s.trim.at = turn{relation: s.trim.at.relation + 1}
	}
	return false
}

// evict frees the page of a leaf that is stored, unless it was used since the last time.
func (c *cache) evict(l *leaf) {
	if l.page() == nil || !l.stored() {
		return
	}
	if l.used.Load() {
		l.used.Store(false)
		return
	}
	c.discount(l)
	l.data.Store(nil)
	c.cold.Add(1)
	c.evictions.Add(1)
}

// warm reads the pages that e changes, before anybody has to wait for it: Apply holds the store's lock later.
func (s *Store) warm(e *change.Epoch) {
	for i := range e.Deltas {
		s.mu.Lock()
		t := s.mu.state[e.Deltas[i].Relation].tree
		s.mu.Unlock()
		rows := shared{cache: t.cache, root: t.root}
		for k := range e.Deltas[i].Changes {
			rows.warm(e.Deltas[i].Changes[k].Key)
		}
	}
}

func (s *shared) warm(key []byte) {
	l, in := s.leaf(key)
	if l != nil && l.page() == nil {
		s.cache.waits.Add(1)
		s.cache.load(l, in, true)
		l.touch()
	}
}
