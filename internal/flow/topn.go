package flow

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"laaster/internal/change"
)

// topN keeps every row in order and shows those from offset to offset+limit. Over an input that never takes rows back it
// keeps only the first offset+limit.
//
// The order is the sort columns, then the remaining columns ascending, then the row's bytes, so that it is total. The tree
// counts, so the two boundaries of what is shown are found by descent: a batch costs what it changed and how far the
// boundaries moved, whatever limit and offset are.
type topN struct {
	layout *change.Layout
	order  []sortKey
	exact  bool // equal keys are equal rows
	limit  int64
	offset int64
	bound  bool   // forget what lies behind the last row shown
	rows   tree   // sort key → row
	last   []byte // when bound and full: the key of the last row kept
	in     []ranked
	out    []delta
	gone   [][]byte
}

type sortKey struct {
	col              int
	desc, nullsFirst bool
}

// ranked is a row that the batch changed: net weight and copies before.
type ranked struct {
	prefix uint64
	key    []byte
	row    change.Row
	w      int64
	before int64
}

// boundary is a place between two copies of rows: behind copies copies of the row with this key. A nil key is the end.
type boundary struct {
	key    []byte
	copies int64
}

func newTopN(p *TopN, appendOnly bool) *topN {
	t := &topN{layout: change.NewLayout(p.In.Columns()), limit: p.Limit, offset: p.Offset, rows: newTree()}
	used := make([]bool, t.layout.Columns())
	for _, o := range p.Sort {
		if !used[o.Column] { // a later mention of the same column decides nothing
			t.order = append(t.order, sortKey{o.Column, o.Desc, o.NullsFirst})
			used[o.Column] = true
		}
	}
	for i := range used {
		if !used[i] {
			t.order = append(t.order, sortKey{col: i})
		}
	}
	t.exact = canonical(t.layout)
	t.bound = appendOnly && t.limit >= 0
	return t
}

func (t *topN) apply(x *exec, in []delta) []delta {
	t.out = t.out[:0]
	t.consolidate(x, in)
	if len(t.in) == 0 {
		return t.out
	}
	from, to := t.boundaries(x)
	for i := range t.in {
		r := &t.in[i]
		r.before = t.rows.add(r.key, r.row, r.w)
	}
	newFrom, newTo := t.boundaries(x)
	for i := range t.in {
		r := &t.in[i]
		t.emit(r.row, shown(r.key, r.before+r.w, newFrom, newTo)-shown(r.key, r.before, from, to))
	}
	t.moved(x, from, to, newFrom, newTo)
	if t.bound {
		t.forget(x)
	}
	return t.out
}

func (t *topN) emit(row change.Row, w int64) {
	if w != 0 {
		t.out = append(t.out, delta{row, w})
	}
}

// consolidate fills t.in with the net change of each row, in order.
func (t *topN) consolidate(x *exec, in []delta) {
	t.in = t.in[:0]
	for _, d := range in {
		key := t.keyOf(x, d.row)
		if t.last != nil && bytes.Compare(key, t.last) >= 0 {
			continue // it will never be shown
		}
		t.in = append(t.in, ranked{prefix: prefixOf(key), key: key, row: d.row, w: d.w})
	}
	slices.SortFunc(t.in, func(a, b ranked) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		return bytes.Compare(a.key, b.key)
	})
	n := 0
	for i := 0; i < len(t.in); {
		r := t.in[i]
		for i++; i < len(t.in) && bytes.Equal(r.key, t.in[i].key); i++ {
			r.w += t.in[i].w
		}
		if r.w != 0 {
			t.in[n] = r
			n++
		}
	}
	t.in = t.in[:n]
}

func (t *topN) keyOf(x *exec, row change.Row) []byte {
	at := len(x.scratch.buf)
	for _, k := range t.order {
		x.scratch.buf = change.AppendKey(x.scratch.buf, t.layout.Type(k.col), t.layout.Get(row, k.col), k.desc, k.nullsFirst)
	}
	if !t.exact {
		x.scratch.buf = append(x.scratch.buf, row...)
	}
	return x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)]
}

func (t *topN) boundaries(x *exec) (from, to boundary) {
	from = t.boundary(x, t.offset)
	if t.limit >= 0 && t.offset <= maxRank-t.limit {
		to = t.boundary(x, t.offset+t.limit)
	}
	return from, to
}

const maxRank = 1<<63 - 1

func (t *topN) boundary(x *exec, rank int64) boundary {
	c, before := t.rows.at(rank)
	if !c.valid() {
		return boundary{}
	}
	return boundary{x.scratch.copy(c.key()), rank - before}
}

// ahead returns how many of n copies of key lie ahead of the boundary.
func (b boundary) ahead(key []byte, n int64) int64 {
	if b.key == nil {
		return n
	}
	switch c := bytes.Compare(key, b.key); {
	case c < 0:
		return n
	case c > 0:
		return 0
	}
	return min(n, b.copies)
}

// shown returns how many of n copies of key lie between two boundaries.
func shown(key []byte, n int64, from, to boundary) int64 {
	return to.ahead(key, n) - from.ahead(key, n)
}

// moved emits the rows that the batch did not change but that a boundary passed.
func (t *topN) moved(x *exec, from, to, newFrom, newTo boundary) {
	a, b := span(from, newFrom)
	c, d := span(to, newTo)
	if a != nil && c != nil && (b == nil || bytes.Compare(c, b) <= 0) {
		a, b, c = minKey(a, c), maxKey(b, d), nil
	}
	t.walk(x, a, b, from, to, newFrom, newTo)
	t.walk(x, c, d, from, to, newFrom, newTo)
}

// span returns the keys between two boundaries, both included; nil, nil when they are the same place. A nil second key
// is the end.
func span(a, b boundary) (lo, hi []byte) {
	if a.copies == b.copies && bytes.Equal(a.key, b.key) {
		return nil, nil
	}
	return minKey(a.key, b.key), maxKey(a.key, b.key)
}

func minKey(a, b []byte) []byte {
	if a == nil || b != nil && bytes.Compare(b, a) < 0 {
		return b
	}
	return a
}

func maxKey(a, b []byte) []byte {
	if a == nil || b == nil {
		return nil
	}
	if bytes.Compare(a, b) < 0 {
		return b
	}
	return a
}

func (t *topN) walk(x *exec, lo, hi []byte, from, to, newFrom, newTo boundary) {
	if lo == nil {
		return
	}
	i, _ := slices.BinarySearchFunc(t.in, lo, func(r ranked, k []byte) int { return bytes.Compare(r.key, k) })
	for c := t.rows.seek(lo); c.valid(); c.next() {
		key := c.key()
		if hi != nil && bytes.Compare(key, hi) > 0 {
			return
		}
		for i < len(t.in) && bytes.Compare(t.in[i].key, key) < 0 {
			i++
		}
		if i < len(t.in) && bytes.Equal(t.in[i].key, key) {
			continue // emitted already
		}
		n := c.weight()
		if w := shown(key, n, newFrom, newTo) - shown(key, n, from, to); w != 0 {
			t.emit(x.scratch.copy(c.value()), w)
		}
	}
}

// forget drops the rows behind the last one shown.
func (t *topN) forget(x *exec) {
	n := t.offset + t.limit
	if end := t.boundary(x, n); end.key != nil {
		t.gone = t.gone[:0]
		for c := t.rows.seek(end.key); c.valid(); c.next() {
			t.gone = append(t.gone, x.scratch.copy(c.key()))
		}
		for i, key := range t.gone {
			w := t.rows.weight(key)
			if i == 0 {
				w -= end.copies
			}
			t.rows.add(key, nil, -w)
		}
	}
	if t.rows.total() < n {
		return
	}
	t.last = t.last[:0]
	if n > 0 {
		c, _ := t.rows.at(n - 1)
		t.last = append(t.last, c.key()...)
	}
	if t.last == nil {
		t.last = []byte{}
	}
}

func (t *topN) bytes() int { return t.rows.bytes() }

func (t *topN) name() string {
	if t.limit < 0 {
		return fmt.Sprintf("offset %d", t.offset)
	}
	return fmt.Sprintf("top %d offset %d", t.limit, t.offset)
}
