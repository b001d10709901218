package flow

import (
	"bytes"
	"encoding/binary"

	"laaster/app"
	"laaster/internal/change"
)

// fewRows is how many rows a partition of a topFew may keep.
const fewRows = 64

// topFew is a top-N by row number that keeps few rows of each partition, over an input that never takes rows back. A partition is
// one entry of a table: no row that is beaten by the last one kept is stored, and no key is made to find that out.
//
// The key is the row of the partition's columns where equal values are equal bytes, else their keys. The value is the
// number of rows (4 bytes), where each of them ends behind the ends (4 bytes each), and the rows in order.
type topFew struct {
	*rowOrder
	columns []int          // the partition's
	keyRow  *change.Layout // nil: the key is made of keys
	keep    int
	offset  int
	number  bool
	parts   table
	closing bounded
	ends    tree // with a Bound: key of its column, then the key of the partition
	widen   widener
	touched []touchedFew
	out     []delta
	key     []byte
	buf     []byte
}

type touchedFew struct {
	r   ref
	old []byte // the value before the batch; nil: there was no partition
}

func newTopFew(p *TopN) *topFew {
	t := &topFew{rowOrder: newRowOrder(p.In.Columns(), p.Partition, p.Sort, p.Closes), keep: int(p.Offset + p.Limit), offset: int(p.Offset),
		number: p.Number, parts: newTable()}
	types := []app.Type{}
	for _, k := range t.first {
		t.columns = append(t.columns, k.col)
		types = append(types, t.layout.Type(k.col))
	}
	if l := change.NewLayout(types); canonical(l) {
		t.keyRow = l
	}
	t.closing = newBounded(p.Closes, t.layout)
	if p.Closes != nil {
		t.ends = newTree()
	}
	t.widen = newWidener(t.layout)
	return t
}

func (t *topFew) apply(x *exec, in []delta) []delta {
	t.out, t.touched = t.out[:0], t.touched[:0]
	if t.keep == 0 {
		return t.out
	}
	if t.closing.bound != nil {
		t.close(x)
	}
	for _, d := range in {
		if t.closing.shut(d.row) {
			continue
		}
		for range min(d.w, int64(t.keep)) {
			if !t.insert(x, d.row) {
				break
			}
		}
	}
	for i := range t.touched {
		t.show(x, &t.touched[i])
	}
	return t.out
}

// few is the value of a partition.
type few []byte

func (f few) rows() int { return int(binary.LittleEndian.Uint32(f)) }

func (f few) row(i int) change.Row {
	n := f.rows()
	from := uint32(0)
	if i > 0 {
		from = binary.LittleEndian.Uint32(f[4*i:])
	}
	to := binary.LittleEndian.Uint32(f[4+4*i:])
	head := uint32(4 + 4*n)
	return change.Row(f[head+from : head+to : head+to])
}

// insert puts a row into its partition and reports whether it is among the first there.
func (t *topFew) insert(x *exec, row change.Row) bool {
	if t.key = t.key[:0]; t.keyRow != nil {
		t.key = t.layout.AppendColumns(t.key, t.keyRow, row, t.columns)
	} else {
		t.key = t.appendKeys(t.key, t.first, row)
	}
	h := t.parts.hash(t.key)
	r := t.parts.find(h, t.key)
	if r == 0 {
		r = t.parts.insert(h, t.key, 8+len(row))
		v := t.parts.edit(r)
		binary.LittleEndian.PutUint32(v, 1)
		binary.LittleEndian.PutUint32(v[4:], uint32(len(row)))
		copy(v[8:], row)
		t.touch(r, nil)
		if t.closing.bound != nil {
			t.ends.add(t.endKey(row), nil, 1)
		}
		return true
	}
	f := few(t.parts.value(r))
	n := f.rows()
	at := n
	for at > 0 && t.compare(row, f.row(at-1)) < 0 {
		at--
	}
	if at == t.keep {
		return false
	}
	m := t.parts.mark(r)
	if int(m) >= len(t.touched) || t.touched[m].r != r {
		m = t.touch(r, x.scratch.copy(f))
	}
	t.buf = f.with(t.buf[:0], at, row, t.keep)
	r = t.parts.resize(h, r, len(t.buf))
	copy(t.parts.edit(r), t.buf)
	t.touched[m].r = r
	return true
}

// with appends the value with row put before row at, cut off behind keep rows.
func (f few) with(dst []byte, at int, row change.Row, keep int) []byte {
	n := min(f.rows()+1, keep)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	end := uint32(0)
	for i := range n {
		if i == at {
			end += uint32(len(row))
		} else {
			end += uint32(len(f.pick(i, at)))
		}
		dst = binary.LittleEndian.AppendUint32(dst, end)
	}
	for i := range n {
		if i == at {
			dst = append(dst, row...)
		} else {
			dst = append(dst, f.pick(i, at)...)
		}
	}
	return dst
}

// pick returns row i as it is after one was put before row at.
func (f few) pick(i, at int) change.Row {
	if i > at {
		i--
	}
	return f.row(i)
}

func (t *topFew) touch(r ref, old []byte) uint32 {
	m := uint32(len(t.touched))
	t.parts.setMark(r, m)
	t.touched = append(t.touched, touchedFew{r, old})
	return m
}

// show emits how what a partition shows changed. Its rows lie in the state, which does not change before the next batch.
func (t *topFew) show(x *exec, p *touchedFew) {
	old, now := few(p.old), few(t.parts.value(p.r))
	n, m := 0, now.rows()
	if old != nil {
		n = old.rows()
	}
	if t.number {
		for i := t.offset; i < max(n, m); i++ {
			switch {
			case i < n && i < m && bytes.Equal(old.row(i), now.row(i)):
				continue
			case i < n:
				t.out = append(t.out, delta{t.widen.row(x, old.row(i), int64(i+1)), -1})
			}
			if i < m {
				t.out = append(t.out, delta{t.widen.row(x, now.row(i), int64(i+1)), 1})
			}
		}
		return
	}
	i, j := t.offset, t.offset
	for i < n || j < m {
		c := 0
		switch {
		case j >= m:
			c = -1
		case i >= n:
			c = 1
		default:
			c = t.compare(old.row(i), now.row(j))
		}
		if c < 0 {
			t.out = append(t.out, delta{old.row(i), -1})
		} else if c > 0 {
			t.out = append(t.out, delta{now.row(j), 1})
		}
		if c <= 0 {
			i++
		}
		if c >= 0 {
			j++
		}
	}
}

// endKey returns the key of the row's partition in t.ends. t.key is the partition's.
func (t *topFew) endKey(row change.Row) []byte {
	t.buf = t.appendKeys(t.buf[:0], t.first[:1], row)
	t.buf = append(t.buf, t.key...)
	return t.buf
}

// close frees the partitions that the watermark has passed. What they show stays.
func (t *topFew) close(x *exec) {
	t.closing.advance(x)
	for c := t.ends.first(); t.closing.closes(c); c = t.ends.first() {
		full := x.scratch.copy(c.key())
		key := full[len(t.closing.key):] // keys of values that are not NULL are of one length
		h := t.parts.hash(key)
		t.parts.remove(h, t.parts.find(h, key))
		t.ends.add(full, nil, -1)
	}
}

func (t *topFew) due(x *exec) bool { return t.closing.due(x, &t.ends) }
func (t *topFew) next() int64      { return never }

func (t *topFew) bytes() int {
	if t.closing.bound != nil {
		return t.parts.bytes() + t.ends.bytes()
	}
	return t.parts.bytes()
}

func (t *topFew) state(k *keeper) {
	k.table(&t.parts)
	if t.closing.bound != nil {
		k.tree(&t.ends)
	}
	t.closing.state(k)
}

func (t *topFew) name() string { return topName(int64(t.keep-t.offset), int64(t.offset), len(t.first)) }

// widener makes rows with one more column at the end, a bigint, out of the bytes of rows without it.
type widener struct {
	bitmap int // of the rows given
	more   int // bytes by which the bitmap grows
	heap   int // where the heap of the rows given begins
}

func newWidener(l *change.Layout) widener {
	n := l.Columns()
	w := widener{bitmap: (n + 7) / 8}
	w.more = (n+8)/8 - w.bitmap
	w.heap = w.bitmap
	if n > 0 {
		_, _, w.heap = l.Place(0)
	}
	return w
}

// row returns r with v behind it, in scratch memory.
func (w *widener) row(x *exec, r change.Row, v int64) change.Row {
	buf := x.scratch.buf
	at := len(buf)
	buf = append(buf, r[:w.bitmap]...)
	for range w.more {
		buf = append(buf, 0)
	}
	buf = append(buf, r[w.bitmap:w.heap]...)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(v))
	buf = append(buf, r[w.heap:]...)
	x.scratch.buf = buf
	return change.Row(buf[at:len(buf):len(buf)])
}
