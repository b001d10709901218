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
	// free lets go of what is kept beside state, whatever values are still there.
	free(group ref, state []byte)
	// bytes is the memory held beside state.
	bytes() int
	// state of all groups that is kept beside what the groups have.
	stateful
}

// lifetime is what an aggregate's input does, which decides how much an accumulator has to keep.
type lifetime struct {
	appends bool // rows never go
	closes  bool // groups are freed while they have rows
}

// newAccumulator returns the accumulator of g. What add takes is what [aggInput.value] returns.
func newAccumulator(g *Agg, life lifetime) (accumulator, error) {
	t := argType(g)
	acc, err := plainAccumulator(g, t, life)
	if err != nil || !g.Distinct {
		return acc, err
	}
	switch g.Func {
	case Count, Sum, Avg, BitXor, StddevSamp, StddevPop, VarSamp, VarPop:
		return newDistinct(acc, t, life), nil
	}
	return acc, nil // once or often is the same, or it sees to it itself
}

// argType returns the type of the values that an accumulator adds up; Unknown when it takes entries, see [entryMaker].
func argType(g *Agg) app.Type {
	switch {
	case takesEntries(g.Func):
		return app.Unknown
	case g.Func == Mode || g.Func == PercentileCont || g.Func == PercentileDisc:
		return g.Sort[0].X.Type
	case g.Arg != nil:
		return g.Arg.Type
	}
	return app.Unknown
}

func plainAccumulator(g *Agg, t app.Type, life lifetime) (accumulator, error) {
	switch g.Func {
	case CountRows, Count:
		return countOf{}, nil
	case Sum, Avg:
		return newSum(g, t)
	case Min, Max, AnyValue:
		return newExtremeOf(t, g.Func == Max, life), nil
	case BoolAnd, BoolOr:
		return boolOf{and: g.Func == BoolAnd}, nil
	case BitAnd, BitOr, BitXor:
		return newBits(g.Func, t, life), nil
	case StddevSamp, StddevPop, VarSamp, VarPop:
		return newVariance(g.Func, t)
	case ApproxDistinct:
		if life.appends {
			return newSketch(t), nil
		}
		return newDistinct(countOf{}, t, life), nil
	case PercentileCont, PercentileDisc:
		return newPercentile(g, t)
	case Mode:
		return newMode(t, g.Sort[0].Desc), nil
	case ArrayAgg, StringAgg, JSONBAgg, JSONBObjectAgg, Only, First:
		return newList(g, life), nil
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
func (countOf) state(*keeper)    {}
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
func (boolOf) state(*keeper)    {}
func (boolOf) bytes() int       { return 0 }

// distinct hands each value to another accumulator once, however often it is there. Values that are equal but written
// differently are handed on as the form whose bytes come first.
type distinct struct {
	accumulator
	t     app.Type
	exact bool  // the table is used
	count table // ref of the group, value → how often it is there
	forms tree  // or: ref of the group, order key with the value's bytes → the value
	key   []byte
	old   []byte
	val   []byte
}

// newDistinct uses the tree where values have forms, and where groups are freed with what they have: it lists a group's values.
func newDistinct(of accumulator, t app.Type, life lifetime) *distinct {
	d := &distinct{accumulator: of, t: t, exact: canonicalType(t) && !life.closes}
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
		putInt(d.count.edit(r), w)
		d.accumulator.add(group, state, v, 1)
		return
	}
	n := d.count.edit(r)
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
	if !canonicalType(d.t) {
		d.key = append(d.key, v.B...)
	}
	d.val = appendValue(d.val[:0], d.t, v)
	d.forms.add(d.key, d.val, w)
	now, has := d.form(n)
	if had && has && string(d.old) == string(now) {
		return
	}
	if had {
		d.accumulator.add(group, state, valueOf(d.t, d.old), -1)
	}
	if has {
		d.accumulator.add(group, state, valueOf(d.t, now), 1)
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

func (d *distinct) free(group ref, state []byte) {
	if !d.exact { // else no value is left
		d.forms.drop(group)
	}
	d.accumulator.free(group, state)
}

func (d *distinct) bytes() int {
	if d.exact {
		return d.count.bytes() + d.accumulator.bytes()
	}
	return d.forms.bytes() + d.accumulator.bytes()
}

func (d *distinct) state(k *keeper) {
	if d.exact {
		k.table(&d.count)
	} else {
		k.tree(&d.forms)
	}
	d.accumulator.state(k)
}
