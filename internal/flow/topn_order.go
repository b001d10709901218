package flow

import (
	"bytes"
	"cmp"

	"laaster/app"
	"laaster/internal/change"
)

type sortKey struct {
	col              int
	desc, nullsFirst bool
	kind             compareKind
}

// compareKind is how two values of a sort column that are not NULL are compared without making keys of them.
type compareKind uint8

const (
	compareKeys compareKind = iota
	compareNumber
	compareBytes
)

func compareKindOf(t app.Type) compareKind {
	switch t {
	case app.Bool, app.Int4, app.Int8, app.Timestamptz, app.Timestamp, app.Date:
		return compareNumber
	case app.Text, app.UUID:
		return compareBytes
	}
	return compareKeys
}

// rowOrder is the total order of rows inside their partitions: the sort columns, then the remaining columns ascending, then the row's
// bytes. As keys it is preceded by the partition columns, so that a partition is one range of a tree.
type rowOrder struct {
	layout *change.Layout
	first  []sortKey // the partition's columns; that of the Bound comes first, so that what it closes is the beginning of the tree
	sort   []sortKey
	rest   []sortKey
	exact  bool // equal keys are equal rows
	a, b   []byte
}

func newRowOrder(types []app.Type, partition []int, order []app.OrderBy, closes *Bound) *rowOrder {
	o := &rowOrder{layout: change.NewLayout(types)}
	o.exact = canonical(o.layout)
	used := make([]bool, len(types))
	add := func(to *[]sortKey, k sortKey) {
		if !used[k.col] { // a later mention of the same column decides nothing
			k.kind = compareKindOf(types[k.col])
			*to = append(*to, k)
			used[k.col] = true
		}
	}
	if closes != nil {
		add(&o.first, sortKey{col: closes.Col})
	}
	for _, c := range partition {
		add(&o.first, sortKey{col: c})
	}
	for _, k := range o.first {
		used[k.col] = false // it decides nothing, but RANGE may count by it
	}
	for _, s := range order {
		add(&o.sort, sortKey{col: s.Column, desc: s.Desc, nullsFirst: s.NullsFirst})
	}
	for _, k := range o.first {
		used[k.col] = true
	}
	for i := range used {
		add(&o.rest, sortKey{col: i})
	}
	return o
}

func (o *rowOrder) appendKeys(dst []byte, keys []sortKey, row change.Row) []byte {
	for i := range keys {
		k := &keys[i]
		dst = change.AppendKey(dst, o.layout.Type(k.col), o.layout.Get(row, k.col), k.desc, k.nullsFirst)
	}
	return dst
}

// appendKey appends the row's key and returns the lengths of what it has in common with all rows of its partition and with its peers.
func (o *rowOrder) appendKey(dst []byte, row change.Row) (key []byte, part, peer int) {
	at := len(dst)
	dst = o.appendKeys(dst, o.first, row)
	part = len(dst) - at
	dst = o.appendKeys(dst, o.sort, row)
	peer = len(dst) - at
	dst = o.appendKeys(dst, o.rest, row)
	if !o.exact {
		dst = append(dst, row...)
	}
	return dst, part, peer
}

// compare orders two rows of one partition as their keys are ordered.
func (o *rowOrder) compare(a, b change.Row) int {
	if c := o.compareBy(o.sort, a, b); c != 0 {
		return c
	}
	if c := o.compareBy(o.rest, a, b); c != 0 {
		return c
	}
	return bytes.Compare(a, b)
}

func (o *rowOrder) compareBy(keys []sortKey, a, b change.Row) int {
	for i := range keys {
		k := &keys[i]
		if c := o.compareColumn(k, o.layout.Get(a, k.col), o.layout.Get(b, k.col)); c != 0 {
			return c
		}
	}
	return 0
}

func (o *rowOrder) compareColumn(k *sortKey, v, w change.Value) (c int) {
	switch {
	case v.Null && w.Null:
		return 0
	case v.Null == w.Null && k.kind == compareNumber:
		c = cmp.Compare(v.N, w.N)
	case v.Null == w.Null && k.kind == compareBytes:
		c = bytes.Compare(v.B, w.B)
	default:
		t := o.layout.Type(k.col)
		o.a = change.AppendKey(o.a[:0], t, v, k.desc, k.nullsFirst)
		o.b = change.AppendKey(o.b[:0], t, w, k.desc, k.nullsFirst)
		return bytes.Compare(o.a, o.b)
	}
	if k.desc {
		return -c
	}
	return c
}

// bounded follows a Bound: partitions whose column is below key are freed.
type bounded struct {
	bound  *Bound // nil: nothing is ever closed
	layout *change.Layout
	limit  int64  // values of the column below it are closed
	key    []byte // the limit's key; empty: nothing is closed yet
	next   []byte // scratch
}

func newBounded(b *Bound, layout *change.Layout) bounded {
	return bounded{bound: b, layout: layout, limit: minTime}
}

// shut reports whether the row's partition was freed already: only what is removed by age can be in one.
func (c *bounded) shut(row change.Row) bool {
	if len(c.key) == 0 {
		return false
	}
	v := c.layout.Get(row, c.bound.Col)
	return !v.Null && v.N < c.limit
}

// limitAt returns the limit at x's mark.
func (c *bounded) limitAt(x *exec) int64 {
	m := x.mark(c.bound.Tables)
	if m == minTime || m == never {
		return m
	}
	day := c.layout.Type(c.bound.Col) == app.Date
	if c.bound.Ends {
		m++
	}
	if day {
		const us = 24 * 3600 * 1_000_000
		q := m / us
		if m%us > 0 {
			q++
		}
		return q
	}
	return m
}

// advance moves the limit on.
func (c *bounded) advance(x *exec) {
	if c.bound == nil {
		return
	}
	if m := c.limitAt(x); m > c.limit {
		c.limit = m
		c.key = change.AppendKey(c.key[:0], c.layout.Type(c.bound.Col), change.Int(m), false, false)
	}
}

// due reports whether the mark closes what has the first key of a tree, which begins with the column's.
func (c *bounded) due(x *exec, t *tree) bool {
	if c.bound == nil {
		return false
	}
	next := *c
	next.key = append(c.next[:0], c.key...)
	next.advance(x)
	c.next = next.key
	return next.closes(t.first())
}

func (c *bounded) state(k *keeper) {
	k.i64(&c.limit)
	k.bytes(&c.key)
}

func (c *bounded) closes(first cursor) bool {
	return len(c.key) > 0 && first.valid() && bytes.Compare(first.key(), c.key) < 0
}
