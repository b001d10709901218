package flow

import (
	"bytes"
	"encoding/binary"
	"slices"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// joinSide keeps the rows of one input of a join by key. A bucket has its rows in one of two forms:
//
//	chunks  blocks of the slab, each with rows one after the other. A bucket of a side that takes rows back has one chunk, in which a row
//	        is found by comparing all; one of a side that only grows has a list of them.
//	tree    the entries of the side's tree that begin with the bucket's ref, then the range value when the side has an order, then a hash
//	        of the row, so that few rows have to be compared, then the row. A bucket goes there for good when it has more than bucketRows rows and its side takes rows back, or is probed by range.
//
// Each row has meta bytes beside it: the number of its matches (counted), and until when it is kept (until).
type joinSide struct {
	layout  *change.Layout
	null    change.Row
	keys    []expr.Func
	columns []int // the keys' columns when each is a plain column and equal keys are equal bytes
	appends bool
	fixed   bool // complete before the other side has rows

	stored    bool // rows are kept; else their number alone
	preserved bool
	counted   bool

	slab  slab
	tree  *tree // nil until a bucket needs it
	order *joinOrder
	meta  int
	key   []byte // of the tree: scratch
	val   []byte // of the tree: scratch
	lo    []byte // range of a probe: scratch
	hi    []byte

	free   Free
	until  expr.Func // nil: rows are kept until they are taken back, or whole is set
	whole  expr.Func // instead of until when that is a column of the key: the rows of a bucket go together
	mark   int64     // with whole: of the batch
	due    *tree     // nil: no row is ever due. Time, then the ref of a bucket with so many rows in chunks (or with rows), or the key of a row in the tree
	dueKey []byte    // scratch
	failed int       // entries of the tree whose range value fails
	size   int       // see bytes
}

// joinPlace is where a row is: in a chunk at an offset, or a block of the tree. It holds until the side's next insertion or
// removal. No block: nowhere.
type joinPlace struct {
	block ref
	off   int
	tree  bool
	w     int64
}

func newJoinSide(l *change.Layout, appends bool, free Free) joinSide {
	return joinSide{layout: l, appends: appends, slab: newSlab(), free: free}
}

func (s *joinSide) compile(keys []*expr.Node, exact bool) error {
	fs, err := compileAll(keys, s.layout)
	if err != nil {
		return err
	}
	s.keys = fs
	if exact {
		s.columns = plainColumns(keys)
	}
	if s.free.Until != nil {
		until, err := compileAll([]*expr.Node{s.free.Until}, s.layout)
		if err != nil {
			return err
		}
		t := newTree()
		s.due = &t
		if n := s.free.Until; n.Kind == expr.KColumn && slices.Contains(s.columns, n.Col) {
			s.whole = until[0]
		} else {
			s.until = until[0]
		}
	}
	return nil
}

// finish is called when all that decides the form of rows is known.
func (s *joinSide) finish() {
	if s.counted {
		s.meta += 8
	}
	if s.until != nil {
		s.meta += 8
	}
}

// exactType reports whether equal values of a type are equal bytes.
func exactType(t app.Type) bool { return canonicalType(t) && t != app.Interval && !t.IsArray() }

// locate looks for a row that may be there: one that is taken back, or comes to a side that takes rows back. ok is false when the row
// has to be there and is not.
func (s *joinSide) locate(x *exec, r ref, b bucket, row change.Row, taken bool) (p joinPlace, ok bool) {
	switch {
	case b.isTree():
		s.treeKey(x, r, row)
		if s.meta == 0 && !(taken && s.whole != nil && s.isDue(keptUntil(x, s.whole, row), s.mark)) {
			return p, true // nothing but the tree's own count depends on it
		}
		c := s.tree.seek(s.key)
		if c.valid() && bytes.Equal(c.key(), s.key) {
			p = joinPlace{block: c.leaf.block[c.i], tree: true, w: c.weight()}
		}
	case !s.appends || taken:
		p = s.find(b, row)
	}
	return p, !taken || p.block != 0
}

// put changes the weight of a row that is at p, or adds it. s.key is the row's when the bucket is in the tree.
func (s *joinSide) put(x *exec, r ref, b bucket, p joinPlace, d delta, matches int64) {
	switch {
	case b.isTree():
		s.putTree(x, b, d, matches)
	case p.block == 0:
		s.resized(len(d.row), 0, d.w)
		s.add(x, r, b, d, matches)
	case p.w+d.w != 0:
		s.resized(len(d.row), p.w, p.w+d.w)
		binary.LittleEndian.PutUint64(s.slab.edit(p.block)[p.off+4:], uint64(p.w+d.w))
	default:
		s.resized(len(d.row), p.w, 0)
		s.cut(r, b, p)
	}
}

func (s *joinSide) putTree(x *exec, b bucket, d delta, matches int64) {
	s.val = s.appendMeta(s.val[:0], x, d.row, matches)
	s.val = binary.LittleEndian.AppendUint32(s.val, uint32(len(s.key)-len(d.row)))
	before := s.tree.add(s.key, s.val, d.w)
	s.resized(len(d.row), before, before+d.w)
	switch {
	case before == 0:
		b.addRows(1)
		s.entered(1)
	case before+d.w == 0:
		b.addRows(-1)
		s.entered(-1)
	}
}

// appendMeta appends the meta bytes of a row.
func (s *joinSide) appendMeta(dst []byte, x *exec, row change.Row, matches int64) []byte {
	if s.counted {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(matches))
	}
	if s.until != nil {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(keptUntil(x, s.until, row)))
	}
	return dst
}

// treeKey writes the key of a row in the tree into s.key.
func (s *joinSide) treeKey(x *exec, r ref, row change.Row) {
	s.key = binary.BigEndian.AppendUint64(s.key[:0], uint64(r))
	if s.order != nil {
		s.key = s.order.appendValue(s.key, x, s.layout, row)
	}
	s.key = binary.BigEndian.AppendUint64(s.key, hash128(domainState, row).lo)
	s.key = append(s.key, row...)
}

// entered does what belongs to an entry of the tree that came (n is 1) or goes (-1); s.key and s.val are its key and value.
func (s *joinSide) entered(n int) {
	if s.order != nil && s.key[8] == rangeFails {
		s.failed += n
	}
	if s.until != nil {
		s.dueRow(s.untilOf(s.val), int64(n))
	}
}

// editMeta returns the meta bytes of a row, of which those of its matches may be changed.
func (s *joinSide) editMeta(p joinPlace) []byte {
	if p.tree {
		return s.tree.edit(p.block)[:s.meta]
	}
	return s.slab.edit(p.block)[p.off+rowHead:][:s.meta]
}

// metaOf returns the meta bytes of a row.
func (s *joinSide) metaOf(p joinPlace) []byte {
	if p.tree {
		return s.tree.value(p.block)[:s.meta]
	}
	return s.slab.at(p.block)[p.off+rowHead:][:s.meta]
}

// row returns the row at a place.
func (s *joinSide) row(p joinPlace) change.Row {
	if p.tree {
		return s.rowOf(s.tree.key(p.block), s.tree.value(p.block))
	}
	c := chunk(s.slab.at(p.block))
	return change.Row(c[p.off+rowHead+s.meta:][:c.length(p.off)])
}

// rowOf returns the row of an entry of the tree.
func (s *joinSide) rowOf(key, val []byte) change.Row {
	return change.Row(key[binary.LittleEndian.Uint32(val[s.meta:]):])
}

// Bits of a row's number of matches while a pass changes it.
const (
	metBit     = 1 << 63
	metZeroBit = 1 << 62
)

// matches returns how many matches a row has.
func (s *joinSide) matches(p joinPlace) int64 {
	return int64(binary.LittleEndian.Uint64(s.metaOf(p)) &^ (metBit | metZeroBit))
}

// meet changes how many matches a row has; first: it is the first time in the pass.
func (s *joinSide) meet(p joinPlace, w int64) (first bool) {
	m := s.editMeta(p)
	n := binary.LittleEndian.Uint64(m)
	if first = n&metBit == 0; first {
		if n == 0 {
			n |= metZeroBit
		}
		n |= metBit
	}
	binary.LittleEndian.PutUint64(m, n+uint64(w))
	return first
}

// met ends the pass for a row: whether it had matches before, and has some now.
func (s *joinSide) met(p joinPlace) (before, now bool) {
	m := s.editMeta(p)
	n := binary.LittleEndian.Uint64(m)
	binary.LittleEndian.PutUint64(m, n&^(metBit|metZeroBit))
	return n&metZeroBit == 0, n&^(metBit|metZeroBit) != 0
}

// bytes is what the rows take, whichever form they have: a side that takes rows back has equal ones once.
func (s *joinSide) bytes() int { return s.size }

func (s *joinSide) state(k *keeper) {
	k.slab(&s.slab)
	if k.optional(s.tree != nil) {
		if s.tree == nil {
			t := newTree()
			s.tree = &t
		}
		k.tree(s.tree)
	}
	if s.due != nil {
		k.tree(s.due)
	}
	k.num(&s.failed)
	k.num(&s.size)
}

// resized takes into size that the weight of a row of n bytes went from before to after; for a row of a side that only grows, of which
// there may be others like it, these are of the entry at hand.
func (s *joinSide) resized(n int, before, after int64) {
	n += rowHead + s.meta
	if s.until != nil {
		n += dueBytes
	}
	switch {
	case s.appends:
		s.size += n * int(after-before)
	case before == 0:
		s.size += n
	case after == 0:
		s.size -= n
	}
}

// joinIter walks over rows of one bucket.
type joinIter struct {
	s       *joinSide
	c       chunk
	block   ref
	at, end int // of the next row in the chunk
	tail    ref // the chunk behind it
	tree    bool
	cur     cursor
	to      []byte // where the walk over the tree ends: before this key

	row change.Row
	w   int64
	off int
}

// all starts a walk over all rows of a bucket.
func (s *joinSide) all(it *joinIter, r ref, b bucket) {
	if b.isTree() {
		s.lo = binary.BigEndian.AppendUint64(s.lo[:0], uint64(r))
		s.hi = binary.BigEndian.AppendUint64(s.hi[:0], uint64(r)+1)
		s.within(it)
		return
	}
	it.s, it.tree, it.at, it.end, it.tail = s, false, 0, 0, ref(b.head())
}

// within starts a walk over the entries of the tree from s.lo to before s.hi.
func (s *joinSide) within(it *joinIter) {
	it.s, it.tree, it.cur, it.to, it.off = s, true, s.tree.seek(s.lo), s.hi, 0
}

func (it *joinIter) next() bool {
	if it.tree {
		return it.nextInTree()
	}
	for it.at >= it.end {
		if it.tail == 0 {
			return false
		}
		it.block = it.tail
		it.c = it.s.slab.at(it.block)
		it.at, it.end, it.tail = chunkHead, chunkHead+it.c.used(), it.c.next()
	}
	it.off = it.at
	from := it.at + rowHead + it.s.meta
	it.at = from + it.c.length(it.off)
	it.w, it.row = it.c.weight(it.off), change.Row(it.c[from:it.at:it.at])
	return true
}

func (it *joinIter) nextInTree() bool {
	if it.off < 0 { // not the first
		it.cur.next()
	}
	if !it.cur.valid() {
		return false
	}
	it.block, it.off = it.cur.leaf.block[it.cur.i], -1
	key := it.s.tree.key(it.block)
	if bytes.Compare(key, it.to) >= 0 {
		return false
	}
	it.w, it.row = it.cur.weight(), it.s.rowOf(key, it.s.tree.value(it.block))
	return true
}

// place returns where the row at hand is.
func (it *joinIter) place() joinPlace { return joinPlace{it.block, it.off, it.tree, it.w} }
