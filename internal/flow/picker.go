package flow

import (
	"encoding/binary"

	"laaster/app"
	"laaster/internal/change"
)

// picker copies columns of rows under one layout into rows under another that may have more columns behind them, which are left
// zero. Where columns go is worked out once; neighbours that stay neighbours are copied together.
type picker struct {
	cols  []int
	fixed []fixedCopy
	heap  []heapCopy
	nulls int    // bytes of the input's null bitmap
	zero  []byte // a row's null bitmap and fixed area
	base  int    // where the input's heap starts
}

// fixedCopy moves bytes of the fixed area.
type fixedCopy struct{ from, to, n int }

// heapCopy moves a value of the heap: where the input says that it ends, where it says that the one before ends (-1: none is), and where
// the output says that it ends.
type heapCopy struct{ from, prev, to int }

// newPicker copies the columns cols of rows under from into the first columns of rows under to.
func newPicker(from, to *change.Layout, cols []int) picker {
	p := picker{cols: cols, nulls: (from.Columns() + 7) / 8, zero: make([]byte, heapOf(to)), base: heapOf(from)}
	for i, c := range cols {
		at, prev, _ := from.Place(c)
		put, _, _ := to.Place(i)
		n := fixedSize(from.Type(c))
		if n == 0 {
			p.heap = append(p.heap, heapCopy{at, prev, put})
			continue
		}
		if k := len(p.fixed) - 1; k >= 0 && p.fixed[k].from+p.fixed[k].n == at && p.fixed[k].to+p.fixed[k].n == put {
			p.fixed[k].n += n
			continue
		}
		p.fixed = append(p.fixed, fixedCopy{at, put, n})
	}
	return p
}

// heapOf returns where the heap of rows under l starts.
func heapOf(l *change.Layout) int {
	if l.Columns() == 0 {
		return 0
	}
	_, _, heap := l.Place(0)
	return heap
}

// fixedSize returns the bytes that a type takes in the fixed area, 0 when it lives in the heap.
func fixedSize(t app.Type) int {
	two := change.NewLayout([]app.Type{t, app.Text})
	first, _, _ := two.Place(0)
	second, prev, _ := two.Place(1)
	if prev >= 0 {
		return 0
	}
	return second - first
}

// pick appends the row that the columns of r make.
func (p *picker) pick(dst []byte, r change.Row) []byte {
	at := len(dst)
	dst = append(dst, p.zero...)
	out := dst[at:]
	for i := range p.fixed {
		switch f := &p.fixed[i]; f.n {
		case 8:
			*(*[8]byte)(out[f.to:]) = *(*[8]byte)(r[f.from:])
		case 4:
			*(*[4]byte)(out[f.to:]) = *(*[4]byte)(r[f.from:])
		case 16:
			*(*[16]byte)(out[f.to:]) = *(*[16]byte)(r[f.from:])
		default:
			copy(out[f.to:f.to+f.n], r[f.from:])
		}
	}
	for i := range p.nulls {
		if r[i] != 0 {
			p.pickNulls(out, r)
			break
		}
	}
	if len(p.heap) > 0 {
		dst = p.pickHeap(dst, at, r)
	}
	return dst
}

func (p *picker) pickNulls(out, r []byte) {
	for i, c := range p.cols {
		if r[c>>3]&(1<<(c&7)) != 0 {
			out[i>>3] |= 1 << (i & 7)
		}
	}
}

// pickHeap copies the values of the heap. A NULL there is as long as nothing.
func (p *picker) pickHeap(dst []byte, at int, r change.Row) []byte {
	end := uint32(0)
	for i := range p.heap {
		h := &p.heap[i]
		start := uint32(0)
		if h.prev >= 0 {
			start = binary.LittleEndian.Uint32(r[h.prev:])
		}
		stop := binary.LittleEndian.Uint32(r[h.from:])
		dst = append(dst, r[p.base+int(start):p.base+int(stop)]...)
		end += stop - start
		binary.LittleEndian.PutUint32(dst[at+h.to:], end)
	}
	return dst
}

// instant reads one column of type timestamptz or timestamp.
type instant struct {
	at   int // in the row
	null int // byte of the null bitmap
	mask byte
}

func instantOf(l *change.Layout, col int) instant {
	at, _, _ := l.Place(col)
	return instant{at, col >> 3, 1 << (col & 7)}
}

// get returns the time in a row; false when it is NULL.
func (c instant) get(r change.Row) (int64, bool) {
	return int64(binary.LittleEndian.Uint64(r[c.at:])), r[c.null]&c.mask == 0
}

// set writes the time into a row that nobody else has seen.
func (c instant) set(r []byte, t int64) { binary.LittleEndian.PutUint64(r[c.at:], uint64(t)) }
