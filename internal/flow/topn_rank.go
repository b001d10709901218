package flow

import (
	"bytes"

	"laaster/internal/change"
)

// boundary is a place between two copies of rows of a partition: behind copies copies of the row with this key; of a key that no row
// has, before the first row above it. A nil key is the partition's end.
type boundary struct {
	key    []byte
	copies int64
}

const maxRank = 1<<63 - 1

// boundaries returns where the shown rows of a partition begin and end.
func (t *topN) boundaries(x *exec, part []byte) (from, to boundary) {
	rows := &t.rows
	if t.kind == DenseRank {
		rows = &t.peers
	}
	base := int64(0)
	if len(part) > 0 {
		base = rows.before(part)
	}
	from = t.boundary(x, rows, part, base, t.offset)
	if t.limit >= 0 && t.offset <= maxRank-t.limit {
		to = t.boundary(x, rows, part, base, t.offset+t.limit)
	}
	return from, to
}

// boundary returns the place between the rows of a partition with ranks up to rank and those above it. base is the weight before the
// partition.
func (t *topN) boundary(x *exec, rows *tree, part []byte, base, rank int64) boundary {
	if rank > maxRank-base {
		return boundary{}
	}
	c, before := rows.at(base + rank)
	if !c.valid() || !bytes.HasPrefix(c.key(), part) {
		return boundary{}
	}
	if t.kind != Rank {
		return boundary{x.scratch.copy(c.key()), base + rank - before}
	}
	at := len(x.scratch.buf)
	buf, _, peer := t.appendKey(x.scratch.buf, c.value())
	key := buf[at : at+peer : at+peer]
	x.scratch.buf = buf
	if t.rows.before(key) == base+rank {
		return boundary{key: key}
	}
	at = len(buf)
	x.scratch.buf = appendSuccessor(buf, key)
	return boundary{key: x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)]}
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

// keysBetween returns the keys between two boundaries, both included; nil, nil when they are the same place. A nil second key
// is the end.
func keysBetween(a, b boundary) (lo, hi []byte) {
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

// rankedRow is w copies of a shown row with their rank.
type rankedRow struct {
	key  []byte
	row  change.Row
	rank int64
	w    int64
}

// list appends the shown rows of a partition from the first change on, in order.
func (t *topN) list(x *exec, dst []rankedRow, part []byte, in []ranked, from, to boundary) []rankedRow {
	if from.key == nil {
		return dst
	}
	first := in[0].key[:in[0].peer]
	if bytes.Compare(from.key, first) > 0 {
		first = from.key
	}
	base := t.rows.before(part)
	peers := int64(0)
	if t.kind == DenseRank {
		peers = t.peers.before(part)
	}
	var group []byte // what the keys of the rows at hand that are equal begin with
	rank, c := int64(0), t.rows.seek(first)
	for at := t.rows.before(first) - base; c.valid() && bytes.HasPrefix(c.key(), part); c.next() {
		key, n := c.key(), c.weight()
		if to.key != nil && to.ahead(key, n) == 0 {
			break
		}
		row := x.scratch.copy(c.value())
		if t.kind != RowNumber && (group == nil || !bytes.HasPrefix(key, group)) {
			from := len(x.scratch.buf)
			buf, _, peer := t.appendKey(x.scratch.buf, row)
			x.scratch.buf = buf
			group = buf[from : from+peer]
			if rank = t.rows.before(group) - base + 1; t.kind == DenseRank {
				rank = t.peers.before(group) - peers + 1
			}
		}
		item := rankedRow{key: x.scratch.copy(key), row: row, rank: rank, w: shown(key, n, from, to)}
		if t.kind == RowNumber {
			skip := from.ahead(key, n)
			for i := range item.w {
				dst = append(dst, rankedRow{item.key, row, at + skip + i + 1, 1})
			}
		} else if item.w > 0 {
			dst = append(dst, item)
		}
		at += n
	}
	return dst
}

// renumber emits the difference between two lists of shown rows.
func (t *topN) renumber(x *exec) {
	a, b := t.old, t.new
	for len(a) > 0 || len(b) > 0 {
		c := 0
		switch {
		case len(b) == 0:
			c = -1
		case len(a) == 0:
			c = 1
		default:
			if c = bytes.Compare(a[0].key, b[0].key); c == 0 {
				c = int(min(1, max(-1, a[0].rank-b[0].rank)))
			}
		}
		switch {
		case c < 0:
			t.emit(t.widen.row(x, a[0].row, a[0].rank), -a[0].w)
			a = a[1:]
		case c > 0:
			t.emit(t.widen.row(x, b[0].row, b[0].rank), b[0].w)
			b = b[1:]
		default:
			if w := b[0].w - a[0].w; w != 0 {
				t.emit(t.widen.row(x, a[0].row, a[0].rank), w)
			}
			a, b = a[1:], b[1:]
		}
	}
}
