package flow

import (
	"encoding/binary"
	"fmt"

	"laaster/app"
	"laaster/internal/change"
)

// accumulator is one aggregate function over many groups. It keeps state bytes of a fixed size in each group and may keep
// more of its own under the group's ref, which names the group as long as it lives. Values come and go in any order and the
// result depends only on which are there: nothing drifts.
type accumulator interface {
	// fixed is the size of state. A new group's is zero.
	fixed() int
	// add counts a value that is not NULL w times; negative w takes it back. v's bytes are the caller's.
	add(group ref, state []byte, v change.Value, w int64)
	// result returns the value over what is there; its bytes may be in x.scratch. The error is what PostgreSQL would say.
	result(x *exec, group ref, state []byte) (change.Value, error)
	// free lets go of what is kept beside state.
	free(group ref, state []byte)
	// bytes is the memory held beside state.
	bytes() int
}

// newAccumulator returns the accumulator of g. Over an input that never takes rows back min and max keep one value.
func newAccumulator(g *Agg, appendOnly bool) (accumulator, error) {
	var t app.Type
	if g.Arg != nil {
		t = g.Arg.Type
	}
	switch g.Func {
	case CountRows:
		return countOf{}, nil
	case Count:
		if g.Distinct {
			return newDistinct(countOf{}, t), nil
		}
		return countOf{}, nil
	case Sum, Avg:
		acc, err := newSum(g, t)
		if err == nil && g.Distinct {
			acc = newDistinct(acc, t)
		}
		return acc, err
	case Min, Max:
		if !appendOnly {
			return newOrdered(t, g.Func == Max), nil
		}
		return newExtreme(t, g.Func == Max), nil
	case BoolAnd, BoolOr:
		return boolOf{and: g.Func == BoolAnd}, nil
	}
	return nil, fmt.Errorf("unknown aggregate function %d", g.Func)
}

func getInt(b []byte) int64    { return int64(binary.LittleEndian.Uint64(b)) }
func putInt(b []byte, n int64) { binary.LittleEndian.PutUint64(b, uint64(n)) }

// countOf is count(*) and count(x).
type countOf struct{}

func (countOf) fixed() int                                       { return 8 }
func (countOf) add(_ ref, state []byte, _ change.Value, w int64) { putInt(state, getInt(state)+w) }
func (countOf) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	return change.Int(getInt(state)), nil
}
func (countOf) free(ref, []byte) {}
func (countOf) bytes() int       { return 0 }

// boolOf is bool_and and bool_or: how many are true, how many are false.
type boolOf struct{ and bool }

func (boolOf) fixed() int { return 16 }

func (boolOf) add(_ ref, state []byte, v change.Value, w int64) {
	if v.N == 0 {
		state = state[8:]
	}
	putInt(state, getInt(state)+w)
}

func (b boolOf) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	yes, no := getInt(state), getInt(state[8:])
	switch {
	case yes == 0 && no == 0:
		return change.Null(), nil
	case b.and:
		return change.Bool(no == 0), nil
	}
	return change.Bool(yes > 0), nil
}

func (boolOf) free(ref, []byte) {}
func (boolOf) bytes() int       { return 0 }

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

// free has nothing to do: a group without rows has no values.
func (o *ordered) free(ref, []byte) {}
func (o *ordered) bytes() int       { return o.tree.bytes() }

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
	case app.Bool, app.Int4, app.Int8, app.Float8, app.Timestamptz:
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

func newExtreme(t app.Type, max bool) *extreme { return &extreme{t: t, max: max, slab: newSlab()} }

func (e *extreme) fixed() int { return 8 }

func (e *extreme) add(_ ref, state []byte, v change.Value, _ int64) {
	e.key = appendOrder(e.key[:0], e.t, v, e.max)
	r := ref(getInt(state))
	var block []byte
	have := 0
	if r != 0 {
		block = e.slab.at(r)
		k, n := binary.LittleEndian.Uint32(block), binary.LittleEndian.Uint32(block[4:])
		if string(e.key) >= string(block[8:8+k]) {
			return
		}
		have = int(8 + k + n)
	}
	e.val = appendValue(e.val[:0], e.t, v)
	need := 8 + len(e.key) + len(e.val)
	if r == 0 || !fits(have, need) {
		if r != 0 {
			e.slab.release(r)
		}
		r = e.slab.alloc(need)
		putInt(state, int64(r))
		block = e.slab.at(r)
	}
	binary.LittleEndian.PutUint32(block, uint32(len(e.key)))
	binary.LittleEndian.PutUint32(block[4:], uint32(len(e.val)))
	copy(block[8:], e.key)
	copy(block[8+len(e.key):], e.val)
}

func (e *extreme) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	r := ref(getInt(state))
	if r == 0 {
		return change.Null(), nil
	}
	block := e.slab.at(r)
	k, n := binary.LittleEndian.Uint32(block), binary.LittleEndian.Uint32(block[4:])
	return valueOf(e.t, block[8+k:8+k+n]), nil
}

func (e *extreme) free(_ ref, state []byte) {
	if r := ref(getInt(state)); r != 0 {
		e.slab.release(r)
	}
}

func (e *extreme) bytes() int { return e.slab.bytes }

// distinct hands each value to another accumulator once, however often it is there. Values that are equal but written
// differently are handed on as the form whose bytes come first.
type distinct struct {
	accumulator
	t     app.Type
	exact bool
	count table // exact: ref of the group, value → how often it is there
	forms tree  // else: ref of the group, order key with the value's bytes → the bytes
	key   []byte
	old   []byte
}

func newDistinct(of accumulator, t app.Type) *distinct {
	d := &distinct{accumulator: of, t: t, exact: canonicalType(t)}
	if d.exact {
		d.count = newTable()
	} else {
		d.forms = newTree()
	}
	return d
}

func (d *distinct) add(group ref, state []byte, v change.Value, w int64) {
	d.key = binary.BigEndian.AppendUint64(d.key[:0], uint64(group))
	if !d.exact {
		d.addForm(group, state, v, w)
		return
	}
	d.key = appendValue(d.key, d.t, v)
	h := d.count.hash(d.key)
	r := d.count.find(h, d.key)
	if r == 0 {
		r = d.count.insert(h, d.key, 8)
		putInt(d.count.value(r), w)
		d.accumulator.add(group, state, v, 1)
		return
	}
	n := d.count.value(r)
	putInt(n, getInt(n)+w)
	if getInt(n) == 0 {
		d.count.remove(h, r)
		d.accumulator.add(group, state, v, -1)
	}
}

func (d *distinct) addForm(group ref, state []byte, v change.Value, w int64) {
	d.key = change.AppendKey(d.key, d.t, v, false, false)
	n := len(d.key)
	old, had := d.form(n)
	d.old = append(d.old[:0], old...)
	d.key = append(d.key, v.B...)
	d.forms.add(d.key, v.B, w)
	now, has := d.form(n)
	if had && has && string(d.old) == string(now) {
		return
	}
	if had {
		d.accumulator.add(group, state, change.Bytes(d.old), -1)
	}
	if has {
		d.accumulator.add(group, state, change.Bytes(now), 1)
	}
}

// form returns the first of the values that are equal under the key's first n bytes.
func (d *distinct) form(n int) ([]byte, bool) {
	c := d.forms.seek(d.key[:n])
	if !c.valid() || len(c.key()) < n || string(c.key()[:n]) != string(d.key[:n]) {
		return nil, false
	}
	return c.value(), true
}

func (d *distinct) bytes() int {
	if d.exact {
		return d.count.bytes() + d.accumulator.bytes()
	}
	return d.forms.bytes() + d.accumulator.bytes()
}
