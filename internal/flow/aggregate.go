package flow

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// aggregate keeps one entry per group: its rows and one accumulator per aggregate function. A group is shown while it has
// rows; without keys there is one group, always shown.
//
// The entry's value is the number of rows (8 bytes), then the accumulators' states, each of a fixed size: entries never
// move, so that a group's ref names it in the ordered state of min, max and DISTINCT. Its key is the row of the key values
// where equal values are equal bytes; else it is their change.AppendKey, and forms has how the values were written: the
// group shows the form whose bytes come first, whatever came first in time.
type aggregate struct {
	keys     []expr.Func
	columns  []int // the keys' columns when each is a plain column and exact holds; else nil: then keys are evaluated
	inRow    *change.Layout
	keyRow   *change.Layout
	outRow   *change.Layout
	aggs     []aggState
	exact    bool
	direct   bool // nothing has to be evaluated
	groups   table
	forms    tree // only unless exact: ref of the group, row of the key values
	size     int  // of a value
	touched  []touchedGroup
	errors   *errorLog
	out      []delta
	vals     []change.Value // of keys
	results  []change.Value // keys and aggregates
	key, buf []byte
}

type touchedGroup struct {
	r      ref
	h      uint64
	old    change.Row // nil: not shown before the batch
	failed error      // why an aggregate had no result then: overflow
}

// aggState is one aggregate function in its place.
type aggState struct {
	accumulator
	how    how
	column int       // the argument, when it is a plain column
	arg    expr.Func // nil: none, or a plain column
	filter expr.Func // nil: none
	at     int       // of its state in the group's value
	size   int
	val    change.Value // of the row at hand
	skip   bool         // FILTER left the row at hand out
}

// how is the way from a row to an accumulator. Most aggregates are counts and sums of plain columns: without the detour over
// compiled functions and an interface, a row costs half.
type how uint8

const (
	howRows     how = iota // count(*): the group's own number of rows
	howIntegers            // sum or avg of a plain integer column
	howColumn              // a plain column
	howValue               // an expression or a FILTER: evaluated before anything changes, since it may fail
)

func newAggregate(p *Aggregate, appendOnly bool, errors *errorLog) (*aggregate, error) {
	in := change.NewLayout(p.In.Columns())
	keys, err := compileAll(p.Keys, in)
	if err != nil {
		return nil, err
	}
	types := p.Columns()
	a := &aggregate{keys: keys, inRow: in, keyRow: change.NewLayout(types[:len(keys)]), outRow: change.NewLayout(types),
		errors: errors, groups: newTable(), size: 8, vals: make([]change.Value, len(keys)),
		results: make([]change.Value, len(types))}
	if a.exact = canonical(a.keyRow); a.exact {
		a.columns = plainColumns(p.Keys)
	} else {
		a.forms = newTree()
	}
	a.direct = a.columns != nil
	for i := range p.Aggs {
		s, err := newAggState(&p.Aggs[i], in, appendOnly)
		if err != nil {
			return nil, err
		}
		s.size = s.fixed()
		if s.how != howRows {
			s.at = a.size
			a.size += s.size
		}
		a.direct = a.direct && s.how != howValue
		a.aggs = append(a.aggs, s)
	}
	return a, nil
}

// plainColumns returns the columns that the nodes are; nil when one is something else.
func plainColumns(nodes []*expr.Node) []int {
	cols := make([]int, len(nodes))
	for i, n := range nodes {
		if n.Kind != expr.KColumn {
			return nil
		}
		cols[i] = n.Col
	}
	return cols
}

func newAggState(g *Agg, in *change.Layout, appendOnly bool) (aggState, error) {
	var s aggState
	for _, c := range []struct {
		n *expr.Node
		f *expr.Func
	}{{g.Arg, &s.arg}, {g.Filter, &s.filter}} {
		if c.n == nil {
			continue
		}
		fs, err := compileAll([]*expr.Node{c.n}, in)
		if err != nil {
			return s, err
		}
		*c.f = fs[0]
	}
	acc, err := newAccumulator(g, appendOnly)
	s.accumulator = acc
	_, integers := acc.(intSum)
	switch {
	case g.Filter != nil:
		s.how = howValue
	case g.Func == CountRows:
		s.how = howRows
	case g.Arg.Kind != expr.KColumn:
		s.how = howValue
	default:
		s.column, s.arg = g.Arg.Col, nil
		if s.how = howColumn; integers {
			s.how = howIntegers
		}
	}
	return s, err
}

func (a *aggregate) apply(x *exec, in []delta) []delta {
	a.touched, a.out = a.touched[:0], a.out[:0]
	if x.first && len(a.keys) == 0 {
		a.key = a.key[:0]
		h := a.groups.hash(nil)
		a.create(h)
		a.touched = append(a.touched, touchedGroup{r: a.groups.find(h, nil), h: h})
		a.groups.setMark(a.touched[0].r, 0)
	}
	for _, d := range in {
		if !a.direct {
			x.ctx.Reset()
			x.ctx.Row = d.row
			if err := a.evaluate(&x.ctx); err != nil {
				a.errors.add(x, err, d.w)
				continue
			}
		}
		a.add(x, d.row, d.w)
	}
	for i := range a.touched {
		a.show(x, &a.touched[i])
	}
	return a.out
}

// evaluate computes everything that the operator needs of a row, so that a row that fails anywhere changes nothing.
func (a *aggregate) evaluate(c *expr.Ctx) error {
	if a.columns == nil {
		if err := evaluate(c, a.keys, a.vals); err != nil {
			return err
		}
	}
	for i := range a.aggs {
		g := &a.aggs[i]
		if g.how != howValue {
			continue
		}
		if g.filter != nil {
			v, err := g.filter(c)
			if err != nil {
				return err
			}
			if g.skip = !v.True(); g.skip {
				continue
			}
		}
		if g.arg != nil {
			v, err := g.arg(c)
			if err != nil {
				return err
			}
			g.val = v
		}
	}
	return nil
}

// add counts the evaluated row w times in its group.
func (a *aggregate) add(x *exec, row change.Row, w int64) {
	a.encodeKey(row)
	r := a.group(x)
	if !a.exact {
		a.buf = binary.BigEndian.AppendUint64(a.buf[:0], uint64(r))
		a.buf = a.keyRow.Append(a.buf, a.vals)
		a.forms.add(a.buf, nil, w)
	}
	state := a.groups.slab.at(r)[itemHeader+len(a.key):][:a.size]
	putInt(state, getInt(state)+w)
	for i := range a.aggs {
		g := &a.aggs[i]
		if g.how == howRows {
			continue
		}
		own := state[g.at : g.at+g.size]
		switch g.how {
		case howIntegers:
			if v := a.inRow.Get(row, g.column); !v.Null {
				addInteger(own, v.N, w)
			}
		case howColumn:
			if v := a.inRow.Get(row, g.column); !v.Null {
				g.add(r, own, v, w)
			}
		default:
			if !g.skip && !g.val.Null {
				g.add(r, own, g.val, w)
			}
		}
	}
}

// group returns the group of a.key, made if need be, and notes what it showed before the batch touched it.
func (a *aggregate) group(x *exec) ref {
	h := a.groups.hash(a.key)
	r := a.groups.find(h, a.key)
	if r == 0 {
		r = a.create(h)
		a.touch(r, touchedGroup{r: r, h: h})
	} else if m := a.groups.mark(r); int(m) >= len(a.touched) || a.touched[m].r != r {
		t := touchedGroup{r: r, h: h}
		t.old, t.failed = a.row(x, r)
		a.touch(r, t)
	}
	return r
}

func (a *aggregate) encodeKey(row change.Row) {
	switch {
	case a.columns != nil:
		a.key = a.inRow.AppendColumns(a.key[:0], a.keyRow, row, a.columns)
		return
	case a.exact:
		a.key = a.keyRow.Append(a.key[:0], a.vals)
		return
	}
	a.key = a.key[:0]
	for i := range a.vals {
		a.key = change.AppendKey(a.key, a.keyRow.Type(i), a.vals[i], false, false)
	}
}

// create makes an empty group of a.key.
func (a *aggregate) create(h uint64) ref {
	r := a.groups.insert(h, a.key, a.size)
	clear(a.groups.value(r))
	return r
}

func (a *aggregate) touch(r ref, t touchedGroup) {
	a.groups.setMark(r, uint32(len(a.touched)))
	a.touched = append(a.touched, t)
}

// row returns what the group shows now: nothing when it has no rows or when a result failed.
func (a *aggregate) row(x *exec, r ref) (change.Row, error) {
	state := a.groups.value(r)
	if binary.LittleEndian.Uint64(state) == 0 && len(a.keys) > 0 {
		return nil, nil
	}
	keyRow := change.Row(a.groups.key(r))
	if !a.exact {
		a.buf = binary.BigEndian.AppendUint64(a.buf[:0], uint64(r))
		c := a.forms.seek(a.buf)
		keyRow = c.key()[8:]
	}
	n := len(a.keys)
	for i := range n {
		a.results[i] = a.keyRow.Get(keyRow, i)
	}
	for i := range a.aggs {
		g := &a.aggs[i]
		v, err := g.result(x, r, state[g.at:g.at+g.size])
		if err != nil {
			return nil, err
		}
		a.results[n+i] = v
	}
	return x.scratch.row(a.outRow, a.results), nil
}

// show emits how a touched group's row changed, and frees a group without rows.
func (a *aggregate) show(x *exec, t *touchedGroup) {
	row, err := a.row(x, t.r)
	if t.failed != nil {
		a.errors.add(x, nil, -1)
	}
	if err != nil {
		a.errors.add(x, err, 1)
	}
	if !bytes.Equal(t.old, row) {
		if t.old != nil {
			a.out = append(a.out, delta{t.old, -1})
		}
		if row != nil {
			a.out = append(a.out, delta{row, 1})
		}
	}
	state := a.groups.value(t.r)
	if len(a.keys) == 0 || binary.LittleEndian.Uint64(state) != 0 {
		return
	}
	for i := range a.aggs {
		g := &a.aggs[i]
		g.free(t.r, state[g.at:g.at+g.size])
	}
	a.groups.remove(t.h, t.r)
}

func (a *aggregate) bytes() int {
	n := a.groups.bytes()
	if !a.exact {
		n += a.forms.bytes()
	}
	for i := range a.aggs {
		n += a.aggs[i].bytes()
	}
	return n
}

func (a *aggregate) name() string {
	if len(a.aggs) == 0 {
		return "distinct"
	}
	return fmt.Sprintf("aggregate (%d keys)", len(a.keys))
}
