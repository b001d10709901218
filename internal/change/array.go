package change

import (
	"encoding/binary"
	"errors"

	"laaster/app"
)

// This file holds arrays: one dimension, indexed from 1, elements of one type that is no array. [Value.B] holds
//
//	nothing        of an array without elements; else
//	head           uvarint: count*2, +1 when an element is NULL
//	null bitmap    only when an element is NULL: ceil(count/8) bytes, bit i set when element i (from 0) is NULL
//	elements       in order. Of fixed width: as in the fixed area of a [Row], of NULL zeros. Of the heap types: uvarint
//	               length and the bytes, of NULL nothing
//
// The encoding is canonical: arrays of equal elements are equal bytes (of numerics: equal with their scales). Nothing here
// panics on damaged bytes; [ValidArray] says whether they are.

// MaxArray is the most elements that an array may have.
const MaxArray = 1 << 20

// ArrayLen returns the number of elements of the encoded array b.
func ArrayLen(b []byte) int {
	head, n := binary.Uvarint(b)
	if n <= 0 || head > MaxArray*2+1 {
		return 0
	}
	return int(head >> 1)
}

// ArrayIter iterates over the elements of an array. It allocates nothing; elements alias the array.
type ArrayIter struct {
	nulls []byte // bitmap; empty when no element is NULL
	rest  []byte // of the elements after the last returned
	elem  app.Type
	width int
	i, n  int
}

// IterateArray returns an iterator over b, an array of elem.
func IterateArray(b []byte, elem app.Type) ArrayIter {
	it := ArrayIter{elem: elem, width: fixedWidth(elem)}
	head, n := binary.Uvarint(b)
	if n <= 0 || head > MaxArray*2+1 {
		return it
	}
	it.n, b = int(head>>1), b[n:]
	if head&1 != 0 {
		size := (it.n + 7) / 8
		if size > len(b) {
			it.n = 0
			return it
		}
		it.nulls, b = b[:size], b[size:]
	}
	it.rest = b
	return it
}

// Len returns the number of elements, those that were returned already included.
func (it *ArrayIter) Len() int { return it.n }

// Next returns the next element; ok is false at the end.
func (it *ArrayIter) Next() (v Value, ok bool) {
	if it.i >= it.n {
		return Value{}, false
	}
	i := it.i
	it.i++
	null := len(it.nulls) > 0 && it.nulls[i>>3]&(1<<(i&7)) != 0
	if it.width > 0 {
		if len(it.rest) < it.width {
			it.i = it.n
			return Value{}, false
		}
		if null {
			v = Null()
		} else {
			v = fixedValue(it.elem, it.rest)
		}
		it.rest = it.rest[it.width:]
		return v, true
	}
	if null {
		return Null(), true
	}
	size, k := binary.Uvarint(it.rest)
	if k <= 0 || size > uint64(len(it.rest)-k) {
		it.i = it.n
		return Value{}, false
	}
	end := k + int(size)
	v = Value{B: it.rest[k:end:end]}
	it.rest = it.rest[end:]
	return v, true
}

// skip moves past count elements.
func (it *ArrayIter) skip(count int) {
	if it.width > 0 {
		it.rest = it.rest[min(len(it.rest), count*it.width):]
		it.i += count
		return
	}
	for range count {
		if _, ok := it.Next(); !ok {
			return
		}
	}
}

// ArrayElem returns element i, counted from 1, of b, an array of elem: NULL outside of it.
func ArrayElem(b []byte, elem app.Type, i int64) Value {
	it := IterateArray(b, elem)
	if i < 1 || i > int64(it.n) {
		return Null()
	}
	it.skip(int(i - 1))
	if v, ok := it.Next(); ok {
		return v
	}
	return Null()
}

// fixedValue reads a value of a type of fixed width.
func fixedValue(t app.Type, b []byte) Value {
	switch t {
	case app.Bool:
		return Value{N: int64(b[0])}
	case app.Int4, app.Date:
		return Value{N: int64(int32(binary.LittleEndian.Uint32(b)))}
	case app.UUID, app.Interval:
		return Value{B: b[:16:16]}
	}
	return Value{N: int64(binary.LittleEndian.Uint64(b))}
}

// appendFixed appends a value of a type of fixed width.
func appendFixed(dst []byte, t app.Type, v *Value) []byte {
	switch t {
	case app.Bool:
		return append(dst, byte(v.N))
	case app.Int4, app.Date:
		return binary.LittleEndian.AppendUint32(dst, uint32(v.N))
	case app.UUID, app.Interval:
		return append(dst, v.B[:16]...)
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(v.N))
}

// AppendArray appends the encoding of an array of elem. It allocates nothing but what dst grows by.
func AppendArray(dst []byte, elem app.Type, vals []Value) []byte {
	if len(vals) == 0 {
		return dst
	}
	head := uint64(len(vals)) << 1
	for i := range vals {
		if vals[i].Null {
			head |= 1
			break
		}
	}
	dst = binary.AppendUvarint(dst, head)
	if head&1 != 0 {
		at := len(dst)
		for range (len(vals) + 7) / 8 {
			dst = append(dst, 0)
		}
		for i := range vals {
			if vals[i].Null {
				dst[at+i>>3] |= 1 << (i & 7)
			}
		}
	}
	for i := range vals {
		dst = appendElem(dst, elem, &vals[i])
	}
	return dst
}

func appendElem(dst []byte, elem app.Type, v *Value) []byte {
	width := fixedWidth(elem)
	switch {
	case v.Null:
		for range width {
			dst = append(dst, 0)
		}
		return dst
	case width > 0:
		return appendFixed(dst, elem, v)
	}
	return append(binary.AppendUvarint(dst, uint64(len(v.B))), v.B...)
}

// ArrayBuilder collects the elements of an array whose count is not known beforehand. Its memory is kept for the next
// array: after [ArrayBuilder.Reset] and a few arrays it allocates nothing. The zero value is an array of booleans without
// elements. Not safe for concurrent use.
type ArrayBuilder struct {
	elem  app.Type
	n     int
	nulls []byte // bitmap; empty while no element is NULL
	body  []byte
}

// Reset begins an array of elem.
func (b *ArrayBuilder) Reset(elem app.Type) {
	b.elem, b.n, b.nulls, b.body = elem, 0, b.nulls[:0], b.body[:0]
}

// Add appends an element. It copies v.
func (b *ArrayBuilder) Add(v Value) {
	if v.Null {
		for len(b.nulls) <= b.n>>3 {
			b.nulls = append(b.nulls, 0)
		}
		b.nulls[b.n>>3] |= 1 << (b.n & 7)
	}
	b.body = appendElem(b.body, b.elem, &v)
	b.n++
}

// Len returns the number of elements.
func (b *ArrayBuilder) Len() int { return b.n }

// Size returns the bytes that the encoded array takes, to within its head of at most three.
func (b *ArrayBuilder) Size() int { return len(b.body) + 3 + (b.n+7)/8 }

// Append appends the encoded array to dst.
func (b *ArrayBuilder) Append(dst []byte) []byte {
	if b.n == 0 {
		return dst
	}
	head := uint64(b.n) << 1
	if len(b.nulls) > 0 {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	if len(b.nulls) > 0 {
		dst = append(dst, b.nulls...)
		for range (b.n+7)/8 - len(b.nulls) {
			dst = append(dst, 0)
		}
	}
	return append(dst, b.body...)
}

// ValidArray reports an error when b is no array of elem in its canonical encoding. What is in the elements of text,
// numeric and jsonb is not looked at.
func ValidArray(b []byte, elem app.Type) error {
	if len(b) == 0 {
		return nil
	}
	head, n := binary.Uvarint(b)
	if n <= 0 || head>>1 == 0 || head>>1 > MaxArray || uvarintSize(head) != n {
		return errors.New("array with a wrong number of elements")
	}
	it := IterateArray(b, elem)
	if head&1 != 0 && !canonicalNulls(it.nulls, it.n) {
		return errors.New("array with a wrong null bitmap")
	}
	for range it.n {
		before := it.rest
		v, ok := it.Next()
		switch {
		case !ok:
			return errors.New("array shorter than its elements")
		case it.width == 0 && !v.Null && uvarintSize(uint64(len(v.B)))+len(v.B) != len(before)-len(it.rest):
			return errors.New("array with the length of an element in a longer form")
		case v.Null && !zeros(before[:it.width]), elem == app.Bool && v.N > 1:
			return errors.New("array with an element that is none")
		}
	}
	if len(it.rest) != 0 {
		return errors.New("array longer than its elements")
	}
	return nil
}

// canonicalNulls reports whether the bitmap of n elements has a bit set, and none beyond them.
func canonicalNulls(nulls []byte, n int) bool {
	if len(nulls) != (n+7)/8 || zeros(nulls) {
		return false
	}
	return n&7 == 0 || nulls[len(nulls)-1]>>(n&7) == 0
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func uvarintSize(n uint64) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
