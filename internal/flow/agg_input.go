package flow

import (
	"encoding/binary"
	"fmt"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// aggInput computes from a row what an aggregate's accumulator takes: the value of the argument, or an entry.
type aggInput struct {
	filter expr.Func // nil: none
	arg    expr.Func // nil: none
	entry  *entryMaker
}

// newAggInput compiles what g reads of rows under in.
func newAggInput(g *Agg, in *change.Layout) (*aggInput, error) {
	s := &aggInput{}
	var err error
	if g.Filter != nil {
		if s.filter, err = compileOne(g.Filter, in); err != nil {
			return nil, err
		}
	}
	if takesEntries(g.Func) {
		s.entry, err = newEntryMaker(g, in)
		return s, err
	}
	if n := argOf(g); n != nil {
		s.arg, err = compileOne(n, in)
	}
	return s, err
}

func compileOne(n *expr.Node, in *change.Layout) (expr.Func, error) {
	fs, err := compileAll([]*expr.Node{n}, in)
	if err != nil {
		return nil, err
	}
	return fs[0], nil
}

// value returns what the accumulator is to add for c's row; counts is false when it is to add nothing. The value lives until the next
// call or until c.Reset.
func (s *aggInput) value(c *expr.Ctx) (v change.Value, counts bool, err error) {
	if s.filter != nil {
		if v, err = s.filter(c); err != nil || !v.True() {
			return v, false, err
		}
	}
	switch {
	case s.entry != nil:
		v, err = s.entry.value(c)
	case s.arg != nil:
		v, err = s.arg(c)
	default:
		v = change.Int(1)
	}
	return v, err == nil && !v.Null, err
}

// argOf returns the expression whose values an accumulator adds; nil when it takes none, or entries.
func argOf(g *Agg) *expr.Node {
	switch g.Func {
	case CountRows:
		return nil
	case Mode, PercentileDisc, PercentileCont:
		return g.Sort[0].X
	}
	return g.Arg
}

// checkAgg says what of an aggregate does not fit together: a mistake of who made the plan.
func checkAgg(g *Agg) error {
	switch g.Func {
	case Mode, PercentileCont, PercentileDisc:
		if len(g.Sort) != 1 {
			return fmt.Errorf("%s needs exactly one sort column", g.Func)
		}
		if t := g.Sort[0].X.Type; g.Func == PercentileCont && t != app.Float8 && t != app.Interval {
			return fmt.Errorf("no percentile_cont over %s", t)
		}
	}
	needs := 1
	switch g.Func {
	case CountRows, Mode:
		needs = 0
	case StringAgg, JSONBObjectAgg:
		needs = 2
	}
	if needs > 0 && g.Arg == nil || needs > 1 && g.Arg2 == nil {
		return fmt.Errorf("%s needs %d arguments", g.Func, needs)
	}
	return nil
}

// takesEntries reports whether the values of an aggregate are entries: they have an order or several parts, or NULLs count.
func takesEntries(f AggFunc) bool {
	switch f {
	case ArrayAgg, StringAgg, JSONBAgg, JSONBObjectAgg, Only, First:
		return true
	}
	return false
}

// entryMaker makes one value of all that an aggregate with an order needs of a row:
//
//	klen   4 bytes  little-endian
//	elen   4 bytes  the first elen bytes of the key are equal when the arguments are
//	key             by which entries are ordered; entries with one key are one and the same
//	row             the arguments
type entryMaker struct {
	f      AggFunc
	sort   []SortKey
	order  []expr.Func
	args   []expr.Func
	vals   []change.Value
	layout *change.Layout // of the arguments
	exact  bool           // equal arguments are equal bytes
	buf    []byte
}

const entryHead = 8

func newEntryMaker(g *Agg, in *change.Layout) (*entryMaker, error) {
	nodes := []*expr.Node{g.Arg}
	if g.Arg2 != nil {
		nodes = append(nodes, g.Arg2)
	}
	m := &entryMaker{f: g.Func, sort: g.Sort, layout: change.NewLayout(typesOf(nil, nodes)), vals: make([]change.Value, len(nodes))}
	m.exact = canonical(m.layout)
	var err error
	if m.args, err = compileAll(nodes, in); err != nil {
		return nil, err
	}
	var order []*expr.Node
	for _, k := range g.Sort {
		order = append(order, k.X)
	}
	m.order, err = compileAll(order, in)
	return m, err
}

// value returns the entry of c's row; it lives until the next call. NULL when the aggregate leaves the row out.
func (m *entryMaker) value(c *expr.Ctx) (change.Value, error) {
	if err := evaluate(c, m.args, m.vals); err != nil {
		return change.Null(), err
	}
	switch {
	case m.f == StringAgg && m.vals[0].Null:
		return change.Null(), nil
	case m.f == JSONBObjectAgg && m.vals[0].Null:
		return change.Null(), &expr.EvalError{Code: "invalid_parameter_value", Msg: "field name must not be null"}
	}
	m.buf = append(m.buf[:0], 0, 0, 0, 0, 0, 0, 0, 0)
	for i, k := range m.sort {
		v, err := m.order[i](c)
		if err != nil {
			return v, err
		}
		m.buf = change.AppendKey(m.buf, k.X.Type, v, k.Desc, k.NullsFirst)
	}
	for i, v := range m.vals {
		m.buf = change.AppendKey(m.buf, m.layout.Type(i), v, false, false)
	}
	equal := len(m.buf) - entryHead
	if !m.exact {
		m.buf = m.layout.Append(m.buf, m.vals)
	}
	binary.LittleEndian.PutUint32(m.buf, uint32(len(m.buf)-entryHead))
	binary.LittleEndian.PutUint32(m.buf[4:], uint32(equal))
	m.buf = m.layout.Append(m.buf, m.vals)
	return change.Bytes(m.buf), nil
}

// entryParts takes an entry apart.
func entryParts(entry []byte) (key []byte, equal int, row change.Row) {
	k := binary.LittleEndian.Uint32(entry)
	equal = int(binary.LittleEndian.Uint32(entry[4:]))
	return entry[entryHead : entryHead+k], equal, entry[entryHead+k:]
}
