package flow

import (
	"bytes"
	"encoding/binary"

	"laaster/internal/change"
)

// setOp is INTERSECT and EXCEPT. It counts the rows of each side by their values, NULL being equal to NULL.
//
// The table's keys are rows where equal values are equal bytes, else their change.AppendKey; its values are how often a value is on the
// left and on the right, 8 bytes each. Where values have forms, the one shown is the one whose bytes come first among the left side's:
// forms has these.
type setOp struct {
	kind    SetOpKind
	all     bool
	layout  *change.Layout
	exact   bool
	values  table
	forms   tree // only unless exact: ref of the value, row of the left side
	touched []touchedValue
	out     []delta
	key     []byte
}

type touchedValue struct {
	r   ref
	h   uint64
	n   int64      // copies shown before the batch
	row change.Row // when there were any
}

// newSetOp returns the operator of p.
func newSetOp(p *SetOp) (multiOperator, error) {
	s := &setOp{kind: p.Op, all: p.All, layout: change.NewLayout(p.Columns()), values: newTable()}
	if s.exact = canonical(s.layout); !s.exact {
		s.forms = newTree()
	}
	return s, nil
}

func (s *setOp) apply(x *exec, in [][]delta) []delta {
	s.touched, s.out = s.touched[:0], s.out[:0]
	for side := range in {
		for _, d := range in[side] {
			s.add(x, side, d)
		}
	}
	for i := range s.touched {
		s.show(x, &s.touched[i])
	}
	return s.out
}

func (s *setOp) add(x *exec, side int, d delta) {
	s.encode(d.row)
	h := s.values.hash(s.key)
	r := s.values.find(h, s.key)
	if r == 0 {
		r = s.values.insert(h, s.key, 16)
		clear(s.values.edit(r))
		s.touch(touchedValue{r: r, h: h})
	} else if m := s.values.mark(r); int(m) >= len(s.touched) || s.touched[m].r != r {
		t := touchedValue{r: r, h: h}
		t.n, t.row = s.shown(x, r)
		s.touch(t)
	}
	count := s.values.edit(r)[8*side:]
	putInt(count, getInt(count)+d.w)
	if side == 0 && !s.exact {
		s.key = binary.BigEndian.AppendUint64(s.key[:0], uint64(r))
		s.key = append(s.key, d.row...)
		s.forms.add(s.key, nil, d.w)
	}
}

func (s *setOp) encode(row change.Row) {
	if s.exact {
		s.key = append(s.key[:0], row...)
		return
	}
	s.key = s.key[:0]
	for i := range s.layout.Columns() {
		s.key = change.AppendKey(s.key, s.layout.Type(i), s.layout.Get(row, i), false, false)
	}
}

func (s *setOp) touch(t touchedValue) {
	s.values.setMark(t.r, uint32(len(s.touched)))
	s.touched = append(s.touched, t)
}

// shown returns how many copies of a value come out, and their row.
func (s *setOp) shown(x *exec, r ref) (int64, change.Row) {
	count := s.values.value(r)
	n := s.copies(getInt(count), getInt(count[8:]))
	switch {
	case n == 0:
		return 0, nil
	case s.exact:
		return n, x.scratch.copy(s.values.key(r))
	}
	s.key = binary.BigEndian.AppendUint64(s.key[:0], uint64(r))
	c := s.forms.seek(s.key)
	return n, x.scratch.copy(c.key()[8:])
}

// copies returns how often a value comes out that is l times on the left and r times on the right.
func (s *setOp) copies(l, r int64) int64 {
	switch {
	case s.kind == Intersect && s.all:
		return min(l, r)
	case s.kind == Intersect:
		return min(l, r, 1)
	case s.all:
		return max(l-r, 0)
	case r > 0:
		return 0
	}
	return min(l, 1)
}

// show emits how a touched value's copies changed, and forgets a value that neither side has.
func (s *setOp) show(x *exec, t *touchedValue) {
	n, row := s.shown(x, t.r)
	switch {
	case t.n > 0 && n > 0 && bytes.Equal(t.row, row):
		if n != t.n {
			s.out = append(s.out, delta{row, n - t.n})
		}
	default:
		if t.n > 0 {
			s.out = append(s.out, delta{t.row, -t.n})
		}
		if n > 0 {
			s.out = append(s.out, delta{row, n})
		}
	}
	if count := s.values.value(t.r); getInt(count)|getInt(count[8:]) == 0 {
		s.values.remove(t.h, t.r)
	}
}

func (s *setOp) bytes() int {
	if s.exact {
		return s.values.bytes()
	}
	return s.values.bytes() + s.forms.bytes()
}

func (s *setOp) state(k *keeper) {
	k.table(&s.values)
	if !s.exact {
		k.tree(&s.forms)
	}
}

func (s *setOp) name() string {
	name := [...]string{"intersect", "except"}[s.kind]
	if s.all {
		return name + " all"
	}
	return name
}
