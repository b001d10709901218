package flow

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"laaster/internal/change"
)

// newTop returns the operator of p.
func newTop(p *TopN, appendOnly bool) (operator, error) {
	for _, c := range p.Partition {
		if c < 0 || c >= len(p.In.Columns()) {
			return nil, fmt.Errorf("top-N by column %d", c)
		}
	}
	if appendOnly && p.Rank == RowNumber && p.Limit >= 0 && p.Offset <= fewRows && p.Offset+p.Limit <= fewRows {
		return newTopFew(p), nil
	}
	return newTopN(p, appendOnly), nil
}

// topN keeps every row of each partition in order and shows those with ranks above offset and up to offset+limit. Over an input
// that never takes rows back it keeps only those up to offset+limit.
//
// The order is that of rowOrder, so it is total. The tree counts, so the two boundaries of what is shown are found by descent: a
// batch costs what it changed and how far the boundaries moved, whatever limit and offset are. With numbers it costs what is shown
// from the first change of a partition on.
type topN struct {
	*rowOrder
	kind    RankKind
	number  bool
	limit   int64
	offset  int64
	bound   bool // forget what lies behind the last row shown
	closing bounded
	rows    tree   // key → row; the weight is how often
	peers   tree   // DenseRank: what the keys of equal rows begin with, once
	last    []byte // when bound, full and without partitions: the key of the last row kept
	widen   widener
	in      []ranked
	out     []delta
	gone    [][]byte
	old     []rankedRow
	new     []rankedRow
}

// ranked is a row that the batch changed: net weight and copies before.
type ranked struct {
	prefix     uint64
	key        []byte
	part, peer int // how much of the key is the partition's, and how much its peers have too
	row        change.Row
	w          int64
	before     int64
}

func newTopN(p *TopN, appendOnly bool) *topN {
	t := &topN{rowOrder: newRowOrder(p.In.Columns(), p.Partition, p.Sort, p.Closes), kind: p.Rank, number: p.Number, limit: p.Limit,
		offset: p.Offset, rows: newTree()}
	if t.kind == DenseRank {
		t.peers = newTree()
	}
	t.bound = appendOnly && t.limit >= 0 && t.offset <= maxRank-t.limit
	t.closing = newBounded(p.Closes, t.layout)
	t.widen = newWidener(t.layout)
	return t
}

func (t *topN) apply(x *exec, in []delta) []delta {
	t.out = t.out[:0]
	if t.closing.bound != nil {
		t.close(x)
	}
	t.consolidate(x, in)
	for i := 0; i < len(t.in); {
		part := t.in[i].key[:t.in[i].part]
		j := i + 1
		for j < len(t.in) && bytes.HasPrefix(t.in[j].key, part) {
			j++
		}
		t.partition(x, part, t.in[i:j])
		i = j
	}
	return t.out
}

// partition applies the changes of one partition.
func (t *topN) partition(x *exec, part []byte, in []ranked) {
	from, to := t.boundaries(x, part)
	if t.number {
		t.old = t.list(x, t.old[:0], part, in, from, to)
	}
	for i := range in {
		r := &in[i]
		r.before = t.rows.add(r.key, r.row, r.w)
	}
	t.updatePeers(in)
	newFrom, newTo := t.boundaries(x, part)
	if t.number {
		t.new = t.list(x, t.new[:0], part, in, newFrom, newTo)
		t.renumber(x)
	} else {
		for i := range in {
			r := &in[i]
			t.emit(r.row, shown(r.key, r.before+r.w, newFrom, newTo)-shown(r.key, r.before, from, to))
		}
		t.moved(x, part, in, from, to, newFrom, newTo)
	}
	if t.bound {
		t.forget(x, part, newTo)
	}
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
		if t.closing.shut(d.row) {
			continue
		}
		at := len(x.scratch.buf)
		buf, part, peer := t.appendKey(x.scratch.buf, d.row)
		x.scratch.buf = buf
		key := buf[at:len(buf):len(buf)]
		if t.last != nil && bytes.Compare(key, t.last) >= 0 {
			continue // it will never be shown
		}
		t.in = append(t.in, ranked{prefix: prefixOf(key), key: key, part: part, peer: peer, row: d.row, w: d.w})
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

// updatePeers makes t.peers agree with the rows after the changes of a partition.
func (t *topN) updatePeers(in []ranked) {
	if t.kind != DenseRank {
		return
	}
	var last []byte
	for i := range in {
		key := in[i].key[:in[i].peer]
		if last != nil && bytes.Equal(key, last) {
			continue
		}
		last = key
		was, is := t.peers.weight(key), int64(0)
		if t.rows.has(key) {
			is = 1
		}
		t.peers.add(key, nil, is-was)
	}
}

// moved emits the rows that the batch did not change but that a boundary passed.
func (t *topN) moved(x *exec, part []byte, in []ranked, from, to, newFrom, newTo boundary) {
	a, b := keysBetween(from, newFrom)
	c, d := keysBetween(to, newTo)
	if a != nil && c != nil && (b == nil || bytes.Compare(c, b) <= 0) {
		a, b, c = minKey(a, c), maxKey(b, d), nil
	}
	bounds := [4]boundary{from, to, newFrom, newTo}
	t.walk(x, part, in, a, b, &bounds)
	t.walk(x, part, in, c, d, &bounds)
}

func (t *topN) walk(x *exec, part []byte, in []ranked, lo, hi []byte, bounds *[4]boundary) {
	if lo == nil {
		return
	}
	i, _ := slices.BinarySearchFunc(in, lo, func(r ranked, k []byte) int { return bytes.Compare(r.key, k) })
	for c := t.rows.seek(lo); c.valid(); c.next() {
		key := c.key()
		if hi != nil && bytes.Compare(key, hi) > 0 || !bytes.HasPrefix(key, part) {
			return
		}
		for i < len(in) && bytes.Compare(in[i].key, key) < 0 {
			i++
		}
		if i < len(in) && bytes.Equal(in[i].key, key) {
			continue // emitted already
		}
		n := c.weight()
		if w := shown(key, n, bounds[2], bounds[3]) - shown(key, n, bounds[0], bounds[1]); w != 0 {
			t.emit(x.scratch.copy(c.value()), w)
		}
	}
}

// forget drops the rows of a partition behind the last one shown.
func (t *topN) forget(x *exec, part []byte, end boundary) {
	if end.key != nil {
		t.gone = t.gone[:0]
		for c := t.rows.seek(end.key); c.valid() && bytes.HasPrefix(c.key(), part); c.next() {
			t.gone = append(t.gone, x.scratch.copy(c.key()))
		}
		for i, key := range t.gone {
			w := t.rows.weight(key)
			if i == 0 && bytes.Equal(key, end.key) {
				w -= end.copies
			}
			t.rows.add(key, nil, -w)
		}
		if t.kind == DenseRank {
			t.drop(x, &t.peers, end.key, part)
		}
	}
	n := t.offset + t.limit
	if len(t.first) > 0 || t.kind != RowNumber || t.rows.total() < n {
		return
	}
	if t.last = t.last[:0]; n > 0 {
		c, _ := t.rows.at(n - 1)
		t.last = append(t.last, c.key()...)
	}
	if t.last == nil {
		t.last = []byte{}
	}
}

// drop removes the keys from lo on that begin with part.
func (t *topN) drop(x *exec, of *tree, lo, part []byte) {
	t.gone = t.gone[:0]
	for c := of.seek(lo); c.valid() && bytes.HasPrefix(c.key(), part); c.next() {
		t.gone = append(t.gone, x.scratch.copy(c.key()))
	}
	for _, key := range t.gone {
		of.add(key, nil, -of.weight(key))
	}
}

// close frees the partitions that the watermark has passed. What they show stays.
func (t *topN) close(x *exec) {
	t.closing.advance(x)
	for _, of := range []*tree{&t.rows, &t.peers} {
		if of == &t.peers && t.kind != DenseRank {
			break
		}
		for c := of.first(); t.closing.closes(c); c = of.first() {
			of.add(x.scratch.copy(c.key()), nil, -c.weight())
		}
	}
}

func (t *topN) due(x *exec) bool { return t.closing.due(x, &t.rows) }
func (t *topN) next() int64      { return never }

func (t *topN) bytes() int {
	if t.kind == DenseRank {
		return t.rows.bytes() + t.peers.bytes()
	}
	return t.rows.bytes()
}

func (t *topN) state(k *keeper) {
	k.tree(&t.rows)
	if t.kind == DenseRank {
		k.tree(&t.peers)
	}
	k.bytes(&t.last)
	t.closing.state(k)
}

func (t *topN) name() string { return topName(t.limit, t.offset, len(t.first)) }

func topName(limit, offset int64, partition int) string {
	by := ""
	if partition > 0 {
		by = fmt.Sprintf(" by %d", partition)
	}
	if limit < 0 {
		return fmt.Sprintf("offset %d%s", offset, by)
	}
	return fmt.Sprintf("top %d offset %d%s", limit, offset, by)
}
