package change

import (
	"encoding/binary"
	"errors"

	"laaster/app"
)

// Row is an encoded row. Its meaning comes from a [Layout]; rows are immutable once built.
//
//	null bitmap    ceil(columns/8) bytes, bit i set when column i is NULL
//	fixed area     per column in order: boolean 1 byte; integer, date 4; bigint, double, timestamptz, timestamp 8; uuid,
//	               interval 16; text, numeric, jsonb, arrays 4: where the value ends in the heap (it starts where the
//	               previous one ended)
//	heap           the bytes of text, numeric, jsonb and array columns in order
//
// Integers are little-endian. The fixed area of a NULL is zero (for heap types: the unchanged end), so equal rows are
// equal bytes.
type Row []byte

// Layout places the columns of one relation in a Row. Read-only after NewLayout; safe for concurrent use.
type Layout struct {
	types  []app.Type
	off    []int // of each column's fixed area
	prev   []int // offset of the end slot of the previous heap column, or -1 for the first
	bitmap int
	heap   int // where the heap starts
}

// NewLayout returns the layout for columns of these types.
func NewLayout(types []app.Type) *Layout {
	l := &Layout{types: types, off: make([]int, len(types)), prev: make([]int, len(types)), bitmap: (len(types) + 7) / 8}
	at, last := l.bitmap, -1
	for i, t := range types {
		l.off[i], l.prev[i] = at, last
		switch w := fixedWidth(t); w {
		case 0:
			last = at
			at += 4
		default:
			at += w
		}
	}
	l.heap = at
	return l
}

// ColumnLayout returns the layout of a list of columns.
func ColumnLayout(cols []app.Column) *Layout {
	types := make([]app.Type, len(cols))
	for i, c := range cols {
		types[i] = c.Type
	}
	return NewLayout(types)
}

// fixedWidth returns the bytes that a type takes in the fixed area, 0 for types that live in the heap.
func fixedWidth(t app.Type) int {
	switch t {
	case app.Bool:
		return 1
	case app.Int4, app.Date:
		return 4
	case app.Int8, app.Float8, app.Timestamptz, app.Timestamp:
		return 8
	case app.UUID, app.Interval:
		return 16
	}
	return 0
}

// Columns returns the number of columns.
func (l *Layout) Columns() int { return len(l.types) }

// Type returns the type of column i.
func (l *Layout) Type(i int) app.Type { return l.types[i] }

// Place returns where column i lies, for readers compiled for one column: its fixed area; and for text, numeric, jsonb
// and arrays the fixed area of the heap column before it (-1 for the first) and the start of the heap. See Row.
func (l *Layout) Place(i int) (at, prev, heap int) { return l.off[i], l.prev[i], l.heap }

// Get returns column i of r. The result aliases r.
func (l *Layout) Get(r Row, i int) Value {
	if r[i>>3]&(1<<(i&7)) != 0 {
		return Null()
	}
	at := l.off[i]
	switch l.types[i] {
	case app.Bool:
		return Value{N: int64(r[at])}
	case app.Int4, app.Date:
		return Value{N: int64(int32(binary.LittleEndian.Uint32(r[at:])))}
	case app.Int8, app.Float8, app.Timestamptz, app.Timestamp:
		return Value{N: int64(binary.LittleEndian.Uint64(r[at:]))}
	case app.UUID, app.Interval:
		return Value{B: r[at : at+16 : at+16]}
	}
	start := 0
	if p := l.prev[i]; p >= 0 {
		start = int(binary.LittleEndian.Uint32(r[p:]))
	}
	end := int(binary.LittleEndian.Uint32(r[at:]))
	return Value{B: r[l.heap+start : l.heap+end : l.heap+end]}
}

// Append encodes one row of values and appends it to dst. len(vals) must be Columns().
func (l *Layout) Append(dst []byte, vals []Value) []byte {
	base := len(dst)
	for range l.heap {
		dst = append(dst, 0)
	}
	end := 0
	for i := range vals {
		v := &vals[i]
		at := base + l.off[i]
		if v.Null {
			dst[base+(i>>3)] |= 1 << (i & 7)
			if fixedWidth(l.types[i]) == 0 {
				binary.LittleEndian.PutUint32(dst[at:], uint32(end))
			}
			continue
		}
		switch l.types[i] {
		case app.Bool:
			dst[at] = byte(v.N)
		case app.Int4, app.Date:
			binary.LittleEndian.PutUint32(dst[at:], uint32(v.N))
		case app.Int8, app.Float8, app.Timestamptz, app.Timestamp:
			binary.LittleEndian.PutUint64(dst[at:], uint64(v.N))
		case app.UUID, app.Interval:
			copy(dst[at:at+16], v.B)
		default:
			dst = append(dst, v.B...)
			end += len(v.B)
			binary.LittleEndian.PutUint32(dst[at:], uint32(end))
		}
	}
	return dst
}

// AppendColumns appends the row that has, under the layout to, the columns cols of r, which is under l. Their types must agree.
func (l *Layout) AppendColumns(dst []byte, to *Layout, r Row, cols []int) []byte {
	base := len(dst)
	for range to.heap {
		dst = append(dst, 0)
	}
	end := 0
	for i, c := range cols {
		at, null := base+to.off[i], r[c>>3]&(1<<(c&7)) != 0
		if null {
			dst[base+(i>>3)] |= 1 << (i & 7)
		}
		if w := fixedWidth(l.types[c]); w > 0 {
			copy(dst[at:at+w], r[l.off[c]:]) // the fixed area of a NULL is zero
			continue
		}
		if !null {
			start := 0
			if p := l.prev[c]; p >= 0 {
				start = int(binary.LittleEndian.Uint32(r[p:]))
			}
			v := r[l.heap+start : l.heap+int(binary.LittleEndian.Uint32(r[l.off[c]:]))]
			dst = append(dst, v...)
			end += len(v)
		}
		binary.LittleEndian.PutUint32(dst[at:], uint32(end))
	}
	return dst
}

// Valid reports an error when r cannot be read under l: rows from disk or from a peer pass through here once, so that
// Get need not check.
func (l *Layout) Valid(r Row) error {
	if len(r) < l.heap {
		return errors.New("row shorter than its fixed area")
	}
	end := 0
	for i, t := range l.types {
		if fixedWidth(t) != 0 {
			continue
		}
		e := int(binary.LittleEndian.Uint32(r[l.off[i]:]))
		if e < end || e > len(r)-l.heap {
			return errors.New("row with a value outside its heap")
		}
		if t.IsArray() {
			if err := ValidArray(r[l.heap+end:l.heap+e], t.Elem()); err != nil {
				return err
			}
		}
		end = e
	}
	if end != len(r)-l.heap {
		return errors.New("row longer than its values")
	}
	return nil
}
