package change

import (
	"encoding/binary"

	"laaster/app"
)

// Pair joins rows of two layouts into one row of the columns of both. Read-only after NewPair; safe for concurrent use.
type Pair struct {
	joined      *Layout
	left, right *Layout
	slots       []int // the right row's heap columns: where their fixed areas are in the joined row's fixed area
}

// NewPair returns the pair of two layouts.
func NewPair(left, right *Layout) *Pair {
	types := append(append([]app.Type{}, left.types...), right.types...)
	p := &Pair{joined: NewLayout(types), left: left, right: right}
	for i, t := range right.types {
		if fixedWidth(t) == 0 {
			p.slots = append(p.slots, p.joined.off[len(left.types)+i])
		}
	}
	return p
}

// Layout returns the layout of the joined rows: the left columns, then the right ones.
func (p *Pair) Layout() *Layout { return p.joined }

// Append appends the row that holds the columns of x, which is under the left layout, and those of y, which is under the right one. It
// copies areas as a whole: only NULL bits and the ends of the right heap values are computed.
func (p *Pair) Append(dst []byte, x, y Row) []byte {
	l, r := p.left, p.right
	base := len(dst)
	dst = append(dst, x[:l.bitmap]...)
	dst = p.appendBits(dst, base, y)
	dst = append(dst, x[l.bitmap:l.heap]...)
	dst = append(dst, y[r.bitmap:r.heap]...)
	if shift := uint32(len(x) - l.heap); shift > 0 {
		for _, at := range p.slots {
			slot := dst[base+at:]
			binary.LittleEndian.PutUint32(slot, binary.LittleEndian.Uint32(slot)+shift)
		}
	}
	dst = append(dst, x[l.heap:]...)
	return append(dst, y[r.heap:]...)
}

// appendBits adds y's NULL bits behind those of the left row, of which the bytes are at base.
func (p *Pair) appendBits(dst []byte, base int, y Row) []byte {
	bit := uint(len(p.left.types)) & 7
	if bit == 0 {
		return append(dst, y[:p.right.bitmap]...)
	}
	for _, b := range y[:p.right.bitmap] {
		dst[len(dst)-1] |= b << bit
		if len(dst)-base < p.joined.bitmap {
			dst = append(dst, b>>(8-bit))
		}
	}
	return dst
}

// Null returns a row of NULLs.
func (l *Layout) Null() Row {
	vals := make([]Value, len(l.types))
	for i := range vals {
		vals[i] = Null()
	}
	return l.Append(nil, vals)
}
