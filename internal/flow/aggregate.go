package flow

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// aggregate keeps one entry per group: its rows and one accumulator per aggregate function. A group is shown while it has
// rows; without keys there is one group, always shown. A group that a watermark closes is freed, and stays shown as it is.
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
	working  []*aggState // those that add something of a row
	computed []*aggState // those of working whose argument is computed
	sets     []*distinctSet
	inputs   rowInputs
	exact    bool
	direct   bool // nothing has to be computed
	groups   table
	forms    tree // only unless exact: ref of the group, row of the key values
	closes   *closeIndex
	size     int // of a value
	touched  []touchedGroup
	errors   *errorLog
	out      []delta
	vals     []change.Value // of keys
	results  []change.Value // keys and aggregates
	key, buf []byte
	last     []byte // the key of the row before, whose group is lastRef; 0: none
	lastRef  ref
}

type touchedGroup struct {
	r      ref
	h      uint64
	old    change.Row // nil: not shown before the batch
	failed error      // why an aggregate had no result then: overflow
	key    change.Row // of the keys, when failed
}

func newAggregate(p *Aggregate, appendOnly bool, errors *errorLog) (*aggregate, error) {
	in := change.NewLayout(p.In.Columns())
	types := p.Columns()
	n := len(p.Keys)
	a := &aggregate{inRow: in, keyRow: change.NewLayout(types[:n]), outRow: change.NewLayout(types),
		errors: errors, groups: newTable(), size: 8, vals: make([]change.Value, n), results: make([]change.Value, len(types))}
	if a.exact = canonical(a.keyRow); a.exact {
		a.columns = plainColumns(p.Keys)
	} else {
		a.forms = newTree()
	}
	for _, k := range p.Keys {
		f, err := compileMemoized(k, in)
		if err != nil {
			return nil, err
		}
		a.keys = append(a.keys, f)
	}
	if p.Closes != nil && n > 0 {
		a.closes = newCloseIndex(p.Closes, types[p.Closes.Col], a.size)
		a.size += closeRefs
	}
	return a, a.build(p.Aggs, lifetime{appends: appendOnly, closes: a.closes != nil})
}

func (a *aggregate) build(aggs []Agg, life lifetime) error {
	b := newCallBuilder(a, life)
	for i := range aggs {
		if err := b.add(&aggs[i]); err != nil {
			return err
		}
	}
	for _, d := range a.sets {
		d.done()
	}
	for i := range a.aggs {
		g := &a.aggs[i]
		if g.how == howNothing {
			continue
		}
		a.working = append(a.working, g)
		if g.value >= 0 || g.entry != nil {
			a.computed = append(a.computed, g)
		}
	}
	a.direct = a.columns != nil && len(a.computed) == 0 && len(a.inputs.filters) == 0 && len(a.inputs.values) == 0
	return nil
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

func (a *aggregate) apply(x *exec, in []delta) []delta {
	a.touched, a.out, a.lastRef = a.touched[:0], a.out[:0], 0
	if a.closes != nil {
		a.closes.mark = x.mark(a.closes.bound.Tables)
		for _, r := range a.closes.take(&a.groups, a.closes.mark) {
			a.free(a.groups.hash(a.groups.key(r)), r)
		}
	}
	if x.first && len(a.keys) == 0 {
		a.key = a.key[:0]
		h := a.groups.hash(nil)
		a.touch(a.create(h), touchedGroup{h: h})
	}
	for _, d := range in {
		if !a.direct {
			x.ctx.Reset()
			x.ctx.Row = d.row
			if err := a.evaluate(&x.ctx); err != nil {
				a.errors.add(x, a.inRow, d.row, err, d.w)
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

// due reports whether there are groups to be freed.
func (a *aggregate) due(x *exec) bool {
	return a.closes != nil && a.closes.due(x.mark(a.closes.bound.Tables))
}

func (a *aggregate) next() int64 { return never }

// evaluate computes everything that the operator needs of a row.
func (a *aggregate) evaluate(c *expr.Ctx) error {
	if a.columns == nil {
		if err := evaluate(c, a.keys, a.vals); err != nil {
			return err
		}
	}
	return a.compute(c)
}

// add counts the evaluated row w times in its group.
func (a *aggregate) add(x *exec, row change.Row, w int64) {
	a.encodeKey(row)
	r := a.lastRef
	if r == 0 || string(a.key) != string(a.last) {
		if r = a.group(x, w); r == 0 {
			return
		}
		a.lastRef = r
		a.last = append(a.last[:0], a.key...)
	}
	if !a.exact {
		a.buf = binary.BigEndian.AppendUint64(a.buf[:0], uint64(r))
		a.buf = a.keyRow.Append(a.buf, a.vals)
		a.forms.add(a.buf, nil, w)
	}
	state := a.groups.slab.edit(r)[itemHeader+len(a.key):][:a.size]
	putInt(state, getInt(state)+w)
	for _, g := range a.working {
		if g.filter >= 0 && !a.inputs.pass[g.filter] {
			continue
		}
		v := a.value(g.column, g.value, row)
		if g.how == howEntry {
			v = g.val
		}
		if v.Null {
			continue
		}
		own := state[g.at : g.at+g.size]
		switch g.how {
		case howCount:
			putInt(own, getInt(own)+w)
		case howIntegers:
			addInteger(own, v.N, w)
		default:
			g.add(r, own, v, w)
		}
	}
	for _, d := range a.sets {
		if v := a.value(d.column, d.value, row); !v.Null {
			d.add(r, state, v, w, a.inputs.pass)
		}
	}
}

// value returns an argument; not NULL when there is none.
func (a *aggregate) value(column, value int, row change.Row) change.Value {
	switch {
	case column >= 0:
		return a.inRow.Get(row, column)
	case value >= 0:
		return a.inputs.vals[value]
	}
	return change.Value{}
}

// group returns the group of a.key, made if need be, and notes what it showed before the batch touched it. It returns 0 when there is no
// such group and it is closed, or w is negative: a row goes from a group that was closed.
func (a *aggregate) group(x *exec, w int64) ref {
	h := a.groups.hash(a.key)
	r := a.groups.find(h, a.key)
	if r == 0 {
		if a.closes != nil && (w < 0 || a.closes.shut(a.closing())) {
			return 0
		}
		r = a.create(h)
		a.touch(r, touchedGroup{h: h})
	} else if m := a.groups.mark(r); int(m) >= len(a.touched) || a.touched[m].r != r {
		t := touchedGroup{h: h}
		if t.old, t.failed = a.row(x, r); t.failed != nil {
			t.key = x.scratch.copy(a.shownKey(r))
		}
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
	clear(a.groups.edit(r))
	if a.closes != nil {
		a.closes.add(&a.groups, r, a.closing())
	}
	return r
}

// closing returns the value of a.key by which its group is closed.
func (a *aggregate) closing() change.Value {
	if !a.exact {
		return a.vals[a.closes.bound.Col]
	}
	return a.keyRow.Get(a.key, a.closes.bound.Col)
}

func (a *aggregate) touch(r ref, t touchedGroup) {
	t.r = r
	a.groups.setMark(r, uint32(len(a.touched)))
	a.touched = append(a.touched, t)
}

// shownKey returns the row of the key values that the group, which has rows, shows.
func (a *aggregate) shownKey(r ref) change.Row {
	if a.exact {
		return a.groups.key(r)
	}
	a.buf = binary.BigEndian.AppendUint64(a.buf[:0], uint64(r))
	c := a.forms.seek(a.buf)
	return c.key()[8:]
}

// row returns what the group shows now: nothing when it has no rows or when a result failed.
func (a *aggregate) row(x *exec, r ref) (change.Row, error) {
	state := a.groups.value(r)
	if binary.LittleEndian.Uint64(state) == 0 && len(a.keys) > 0 {
		return nil, nil
	}
	keyRow := a.shownKey(r)
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
		a.errors.add(x, a.keyRow, t.key, nil, -1)
	}
	if err != nil {
		a.errors.add(x, a.keyRow, a.shownKey(t.r), err, 1)
	}
	if !bytes.Equal(t.old, row) {
		if t.old != nil {
			a.out = append(a.out, delta{t.old, -1})
		}
		if row != nil {
			a.out = append(a.out, delta{row, 1})
		}
	}
	if getInt(a.groups.value(t.r)) != 0 {
		return
	}
	if len(a.keys) == 0 { // the one group stays, as it was made
		a.empty(t.r)
		return
	}
	if a.closes != nil {
		a.closes.remove(&a.groups, t.r)
	}
	a.free(t.h, t.r)
}

// free forgets a group and all that it has.
func (a *aggregate) free(h uint64, r ref) {
	a.empty(r)
	if !a.exact {
		a.forms.drop(r)
	}
	a.groups.remove(h, r)
}

// empty takes a group back to what create makes.
func (a *aggregate) empty(r ref) {
	state := a.groups.edit(r)
	for _, g := range a.working {
		g.free(r, state[g.at:g.at+g.size])
	}
	for _, d := range a.sets {
		d.free(state)
	}
	clear(state)
}

func (a *aggregate) bytes() int {
	n := a.groups.bytes()
	if !a.exact {
		n += a.forms.bytes()
	}
	for _, g := range a.working {
		n += g.bytes()
	}
	for _, d := range a.sets {
		n += d.bytes()
	}
	if a.closes != nil {
		n += a.closes.tree.bytes()
	}
	return n
}

func (a *aggregate) state(k *keeper) {
	k.table(&a.groups)
	if !a.exact {
		k.tree(&a.forms)
	}
	if a.closes != nil {
		k.tree(&a.closes.tree)
	}
	for _, g := range a.working {
		g.accumulator.state(k)
	}
	for _, d := range a.sets {
		d.state(k)
	}
}

func (a *aggregate) name() string {
	if len(a.aggs) == 0 {
		return "distinct"
	}
	return fmt.Sprintf("aggregate (%d keys)", len(a.keys))
}
