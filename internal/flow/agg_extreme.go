package flow

import (
	"encoding/binary"
	"math"

	"laaster/app"
	"laaster/internal/change"
)

// ordered is min and max over values that may go again: all of them, in order. The tree's keys are the group's ref, the
// value's change.AppendKey, descending for max, and where equal values may be written differently their bytes, so that of
// equal values the one whose bytes come first is the result.
type ordered struct {
	t    app.Type
	max  bool
	tree tree
	key  []byte
	val  []byte
}

func newOrdered(t app.Type, max bool) *ordered { return &ordered{t: t, max: max, tree: newTree()} }

func (o *ordered) fixed() int { return 0 }

func (o *ordered) add(group ref, _ []byte, v change.Value, w int64) {
	o.key = binary.BigEndian.AppendUint64(o.key[:0], uint64(group))
	o.key = appendOrder(o.key, o.t, v, o.max)
	o.val = appendValue(o.val[:0], o.t, v)
	o.tree.add(o.key, o.val, w)
}

func (o *ordered) result(_ *exec, group ref, _ []byte) (change.Value, error) {
	o.key = binary.BigEndian.AppendUint64(o.key[:0], uint64(group))
	c := o.tree.seek(o.key)
	if !c.valid() || binary.BigEndian.Uint64(c.key()) != uint64(group) {
		return change.Null(), nil
	}
	return valueOf(o.t, c.value()), nil
}

func (o *ordered) free(group ref, _ []byte) { o.tree.drop(group) }
func (o *ordered) bytes() int               { return o.tree.bytes() }
func (o *ordered) state(k *keeper)          { k.tree(&o.tree) }

// appendOrder appends the key by which values of a type are ordered, all equal ones that differ in bytes apart.
func appendOrder(dst []byte, t app.Type, v change.Value, desc bool) []byte {
	dst = change.AppendKey(dst, t, v, desc, false)
	if !canonicalType(t) {
		dst = append(dst, v.B...)
	}
	return dst
}

// appendValue appends the bytes of a value that is not NULL.
func appendValue(dst []byte, t app.Type, v change.Value) []byte {
	if inNumber(t) {
		return binary.LittleEndian.AppendUint64(dst, uint64(v.N))
	}
	return append(dst, v.B...)
}

func valueOf(t app.Type, b []byte) change.Value {
	if inNumber(t) {
		return change.Int(getInt(b))
	}
	return change.Bytes(b)
}

// inNumber reports whether values of a type are in Value.N.
func inNumber(t app.Type) bool {
	switch t {
	case app.Bool, app.Int4, app.Int8, app.Float8, app.Timestamptz, app.Timestamp, app.Date:
		return true
	}
	return false
}

// extreme is min and max over values that never go: one value per group. The state is the ref of a block with the
// length of the order key (4 bytes), the length of the value (4 bytes), the order key and the value; 0 while there is none.
type extreme struct {
	t    app.Type
	max  bool
	slab slab
	key  []byte
	val  []byte
}

// newExtremeOf returns the accumulator of the least or greatest value.
func newExtremeOf(t app.Type, max bool, life lifetime) accumulator {
	switch {
	case !life.appends:
		return newOrdered(t, max)
	case inNumber(t):
		return extremeNumber{max: max, float: t == app.Float8}
	}
	return newExtreme(t, max)
}

func newExtreme(t app.Type, max bool) *extreme { return &extreme{t: t, max: max, slab: newSlab()} }

func (e *extreme) fixed() int { return 8 }

func (e *extreme) add(_ ref, state []byte, v change.Value, _ int64) {
	e.key = appendOrder(e.key[:0], e.t, v, e.max)
	e.val = appendValue(e.val[:0], e.t, v)
	keepLeast(&e.slab, state, e.key, e.val)
}

// keepLeast makes key and val the block that state refers to unless the one there has a key that is not above.
func keepLeast(s *slab, state, key, val []byte) {
	r := ref(getInt(state))
	have := 0
	if r != 0 {
		k, v := leastOf(s, state)
		if string(key) >= string(k) {
			return
		}
		have = 8 + len(k) + len(v)
	}
	need := 8 + len(key) + len(val)
	if r == 0 || !fits(have, need) {
		if r != 0 {
			s.release(r)
		}
		r = s.alloc(need)
		putInt(state, int64(r))
	}
	block := s.edit(r)
	binary.LittleEndian.PutUint32(block, uint32(len(key)))
	binary.LittleEndian.PutUint32(block[4:], uint32(len(val)))
	copy(block[8:], key)
	copy(block[8+len(key):], val)
}

// leastOf returns the key and value of the block that state refers to; nil when there is none.
func leastOf(s *slab, state []byte) (key, val []byte) {
	r := ref(getInt(state))
	if r == 0 {
		return nil, nil
	}
	block := s.at(r)
	k, n := binary.LittleEndian.Uint32(block), binary.LittleEndian.Uint32(block[4:])
	return block[8 : 8+k : 8+k], block[8+k : 8+k+n : 8+k+n]
}

func (e *extreme) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	key, val := leastOf(&e.slab, state)
	if key == nil {
		return change.Null(), nil
	}
	return valueOf(e.t, val), nil
}

func (e *extreme) free(_ ref, state []byte) {
	if r := ref(getInt(state)); r != 0 {
		e.slab.release(r)
	}
}

func (e *extreme) bytes() int { return e.slab.bytes }

func (e *extreme) state(k *keeper) { k.slab(&e.slab) }

// extremeNumber is extreme for values in Value.N, without a block: the value, and 1 when there is one.
type extremeNumber struct{ max, float bool }

func (extremeNumber) fixed() int { return 16 }

func (e extremeNumber) add(_ ref, state []byte, v change.Value, _ int64) {
	if getInt(state[8:]) != 0 {
		old, now := getInt(state), v.N
		if e.float {
			old, now = floatOrder(old), floatOrder(now)
		}
		if now == old || (now > old) != e.max {
			return
		}
	}
	putInt(state, v.N)
	putInt(state[8:], 1)
}

// floatOrder maps the bits of a double to an integer of the same order: NaN is above all.
func floatOrder(bits int64) int64 {
	if bits < 0 {
		return ^(bits & math.MaxInt64)
	}
	return bits
}

func (extremeNumber) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	if getInt(state[8:]) == 0 {
		return change.Null(), nil
	}
	return change.Int(getInt(state)), nil
}

func (extremeNumber) free(ref, []byte) {}
func (extremeNumber) state(*keeper)    {}
func (extremeNumber) bytes() int       { return 0 }
