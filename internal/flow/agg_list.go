package flow

import (
	"bytes"
	"encoding/binary"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// newList returns the accumulator of an aggregate that takes entries.
func newList(g *Agg, life lifetime) accumulator {
	nodes := []*expr.Node{g.Arg}
	if g.Arg2 != nil {
		nodes = append(nodes, g.Arg2)
	}
	args := change.NewLayout(typesOf(nil, nodes))
	if g.Func == First && life.appends {
		return &firstOf{args: args, slab: newSlab()}
	}
	return &listOf{f: g.Func, distinct: g.Distinct, args: args, tree: newTree()}
}

// listOf is array_agg, string_agg, jsonb_agg, jsonb_object_agg, only and first: all entries in order. The tree's keys are the group's
// ref and the entry's key; its values are the length of what is equal in the key (4 bytes) and the row of the arguments. The state is
// the number of entries, copies included. The result is made anew for each group that a batch touches; one that would be larger
// than a value may be is an error.
type listOf struct {
	f        AggFunc
	distinct bool
	args     *change.Layout
	tree     tree
	key, val []byte
	last     []byte
	text     []byte
	array    change.ArrayBuilder
}

func (*listOf) fixed() int { return 8 }

func (l *listOf) add(group ref, state []byte, v change.Value, w int64) {
	key, equal, row := entryParts(v.B)
	l.key = binary.BigEndian.AppendUint64(l.key[:0], uint64(group))
	l.key = append(l.key, key...)
	l.val = binary.LittleEndian.AppendUint32(l.val[:0], uint32(equal))
	l.val = append(l.val, row...)
	l.tree.add(l.key, l.val, w)
	putInt(state, getInt(state)+w)
}

func (l *listOf) result(x *exec, group ref, state []byte) (change.Value, error) {
	n := getInt(state)
	if l.f == Only && n > 1 {
		return change.Null(), &expr.EvalError{Code: "cardinality_violation", Msg: "more than one row returned by a subquery used as an expression"}
	}
	if n == 0 {
		return change.Null(), nil
	}
	if l.f == Only || l.f == First {
		c := l.start(group)
		return l.args.Get(c.value()[4:], 0), nil
	}
	if n > expr.MaxValue*8 && !l.distinct { // an element takes at least a bit
		return change.Null(), tooLarge()
	}
	if l.f == ArrayAgg {
		return l.arrayOf(x, group)
	}
	return l.textOf(x, group)
}

func tooLarge() error {
	return &expr.EvalError{Code: "program_limit_exceeded", Msg: "result too large"}
}

func (l *listOf) start(group ref) cursor {
	l.key = binary.BigEndian.AppendUint64(l.key[:0], uint64(group))
	l.last = l.last[:0]
	return l.tree.seek(l.key)
}

// copies returns how often the entry at the cursor counts. With DISTINCT only the first of equal ones does, once.
func (l *listOf) copies(c *cursor) int64 {
	if !l.distinct {
		return c.weight()
	}
	n := 8 + int(binary.LittleEndian.Uint32(c.value()))
	key := c.key()[:n]
	if bytes.Equal(key, l.last) {
		return 0
	}
	l.last = append(l.last[:0], key...)
	return 1
}

func (l *listOf) arrayOf(x *exec, group ref) (change.Value, error) {
	l.array.Reset(l.args.Type(0))
	for c := l.start(group); c.ofGroup(group); c.next() {
		v := l.args.Get(c.value()[4:], 0)
		for range l.copies(&c) {
			l.array.Add(v)
			if l.array.Size() > expr.MaxValue || l.array.Len() > change.MaxArray {
				return change.Null(), tooLarge()
			}
		}
	}
	return x.made(l.array.Append), nil
}

func (l *listOf) textOf(x *exec, group ref) (change.Value, error) {
	l.text = append(l.text[:0], map[AggFunc]string{JSONBAgg: "[", JSONBObjectAgg: "{"}[l.f]...)
	first := true
	for c := l.start(group); c.ofGroup(group); c.next() {
		row := change.Row(c.value()[4:])
		for range l.copies(&c) {
			l.element(row, first)
			if first = false; len(l.text) > expr.MaxValue {
				return change.Null(), tooLarge()
			}
		}
	}
	switch l.f {
	case JSONBAgg:
		l.text = append(l.text, ']')
	case JSONBObjectAgg:
		var err error
		v := x.made(func(dst []byte) []byte {
			dst, err = expr.AppendJSONB(dst, append(l.text, '}'))
			return dst
		})
		return v, err
	}
	return change.Bytes(x.scratch.copy(l.text)), nil
}

// element appends one row of arguments to the text.
func (l *listOf) element(row change.Row, first bool) {
	v := l.args.Get(row, 0)
	switch l.f {
	case StringAgg:
		if sep := l.args.Get(row, 1); !first && !sep.Null {
			l.text = append(l.text, sep.B...)
		}
		l.text = append(l.text, v.B...)
		return
	case JSONBAgg:
		if !first {
			l.text = append(l.text, ", "...)
		}
		l.text = expr.AppendAsJSON(l.text, l.args.Type(0), v)
		return
	}
	if !first {
		l.text = append(l.text, ", "...)
	}
	l.text = append(expr.AppendAsJSONKey(l.text, l.args.Type(0), v), ": "...)
	l.text = expr.AppendAsJSON(l.text, l.args.Type(1), l.args.Get(row, 1))
}

func (l *listOf) free(group ref, _ []byte) { l.tree.drop(group) }
func (l *listOf) bytes() int               { return l.tree.bytes() }
func (l *listOf) state(k *keeper)          { k.tree(&l.tree) }

// firstOf is first over an input that never takes rows back: the first entry. The state is the ref of its block.
type firstOf struct {
	args *change.Layout
	slab slab
}

func (*firstOf) fixed() int { return 8 }

func (f *firstOf) add(_ ref, state []byte, v change.Value, _ int64) {
	key, _, row := entryParts(v.B)
	keepLeast(&f.slab, state, key, row)
}

func (f *firstOf) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	key, row := leastOf(&f.slab, state)
	if key == nil {
		return change.Null(), nil
	}
	return f.args.Get(row, 0), nil
}

func (f *firstOf) free(_ ref, state []byte) {
	if r := ref(getInt(state)); r != 0 {
		f.slab.release(r)
	}
}

func (f *firstOf) bytes() int { return f.slab.bytes }

func (f *firstOf) state(k *keeper) { k.slab(&f.slab) }
