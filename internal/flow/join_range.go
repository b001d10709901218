package flow

import (
	"encoding/binary"
	"slices"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// joinOrder is how a side's rows of one key lie in its tree: by the value of an expression over the side that conjuncts of the join's
// condition compare with the other side. A row of the other side then meets a range of them.
type joinOrder struct {
	x      expr.Func
	col    int // the expression is this column; -1: it is something else
	typ    app.Type
	bounds []joinBound
	rest   []expr.Func // the conjuncts that the range does not imply, in their order
}

// joinBound is a conjunct: the order's expression, op, x over the other side.
type joinBound struct {
	op string
	x  expr.Func
}

// The first bytes of a range value. The others are those of change.AppendKey.
const (
	rangeFails = 0 // the expression fails on the row: every pair has to be looked at
	rangeNull  = 2
)

// append appends the range value of a row.
func (o *joinOrder) appendValue(dst []byte, x *exec, l *change.Layout, row change.Row) []byte {
	if o.col >= 0 {
		return change.AppendKey(dst, o.typ, l.Get(row, o.col), false, false)
	}
	x.ctx.Reset()
	x.ctx.Row = row
	v, err := o.x(&x.ctx)
	if err != nil {
		return append(dst, rangeFails)
	}
	return change.AppendKey(dst, o.typ, v, false, false)
}

// bounds writes the range of s's rows in a bucket that the other side's row meets into s.lo and s.hi. ok is false when all rows have
// to be looked at, since a bound fails.
func (s *joinSide) bounds(x *exec, r ref, row change.Row) (ok bool) {
	s.lo = append(binary.BigEndian.AppendUint64(s.lo[:0], uint64(r)), 1)
	s.hi = append(binary.BigEndian.AppendUint64(s.hi[:0], uint64(r)), rangeNull)
	for i := range s.order.bounds {
		b := &s.order.bounds[i]
		x.ctx.Reset()
		x.ctx.Row = row
		v, err := b.x(&x.ctx)
		if err != nil {
			return false
		}
		if v.Null {
			s.hi = append(s.hi[:0], s.lo...) // true for no row
			continue
		}
		s.key = binary.BigEndian.AppendUint64(s.key[:0], uint64(r))
		s.key = change.AppendKey(s.key, s.order.typ, v, false, false)
		if b.op == ">" || b.op == "<=" { // the place behind all rows with the value
			for i := len(s.key) - 1; ; i-- {
				if s.key[i]++; s.key[i] != 0 {
					break
				}
			}
		}
		if b.op[0] == '>' {
			s.lo = append(s.lo[:0], maxKey(s.lo, s.key)...)
		} else {
			s.hi = append(s.hi[:0], minKey(s.hi, s.key)...)
		}
	}
	return true
}

// conjunct is a part of a join's condition. A range conjunct is: left op right, each over the columns of its own side.
type conjunct struct {
	node  *expr.Node
	sides [2]*expr.Node // nil unless it is a range conjunct
	op    string
	safe  bool // cannot fail
}

// newConds splits the join's condition into conjuncts: range conjuncts that cannot fail, then those that can, then the rest. A pair is
// given up at the first that is not true. That order makes errors the same whether a range is walked or all pairs are looked at.
func (j *join) newConds(p *Join) error {
	if p.Cond == nil {
		return nil
	}
	parts := conjuncts(p.Cond, j.sides[0].layout.Columns())
	slices.SortStableFunc(parts, func(a, b conjunct) int { return a.class() - b.class() })
	nodes := make([]*expr.Node, len(parts))
	for i := range parts {
		nodes[i] = parts[i].node
	}
	fs, err := compileAll(nodes, j.pair.Layout())
	if err != nil {
		return err
	}
	j.conds = fs
	for s := range j.sides {
		if err := j.newOrder(s, parts); err != nil {
			return err
		}
	}
	return nil
}

func (c *conjunct) class() int {
	switch {
	case c.sides[0] == nil:
		return 2
	case !c.safe:
		return 1
	}
	return 0
}

func conjuncts(n *expr.Node, left int) (parts []conjunct) {
	if n.Kind == expr.KAnd {
		for _, a := range n.Args {
			parts = append(parts, conjuncts(a, left)...)
		}
		return parts
	}
	c := conjunct{node: n, safe: infallible(n)}
	if n.Kind == expr.KCall && len(n.Args) == 2 && ranges(n.Args[0].Type, n.Args[1].Type) {
		a, b := n.Args[0], n.Args[1]
		op, turned := n.Func.Name, map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<="}[n.Func.Name]
		switch la, lb := sideOf(a, left), sideOf(b, left); {
		case turned == "":
		case la == 1 && lb == 2:
			c.sides, c.op = [2]*expr.Node{a, moved(b, left)}, op
		case la == 2 && lb == 1:
			c.sides, c.op = [2]*expr.Node{b, moved(a, left)}, turned
		}
	}
	return []conjunct{c}
}

// ranges reports whether values of these types are ordered as the keys of the first type are.
func ranges(a, b app.Type) bool {
	integer := func(t app.Type) bool { return t == app.Int4 || t == app.Int8 }
	return (a == b || integer(a) && integer(b)) && !a.IsArray() && a != app.JSONB
}

// sideOf returns which columns an expression reads: bit 0 those of the left, bit 1 those of the right.
func sideOf(n *expr.Node, left int) (sides int) {
	if n.Kind == expr.KColumn {
		if n.Col < left {
			return 1
		}
		return 2
	}
	for _, a := range n.Args {
		sides |= sideOf(a, left)
	}
	return sides
}

// moved returns the expression over columns that are by less.
func moved(n *expr.Node, by int) *expr.Node {
	m := *n
	if m.Kind == expr.KColumn {
		m.Col -= by
	}
	m.Args = nil
	for _, a := range n.Args {
		m.Args = append(m.Args, moved(a, by))
	}
	return &m
}

// infallible reports whether an expression is of a kind that fails on no row.
func infallible(n *expr.Node) bool {
	switch n.Kind {
	case expr.KColumn, expr.KConst, expr.KAnd, expr.KOr, expr.KNot, expr.KIsNull, expr.KDistinct, expr.KIn, expr.KCase, expr.KCoalesce:
	case expr.KCast:
		from, to := n.Args[0].Type, n.Type
		wider := from == app.Int4 && (to == app.Int8 || to == app.Numeric || to == app.Float8) || from == app.Int8 && (to == app.Numeric || to == app.Float8)
		if !wider {
			return false
		}
	case expr.KCall:
		if !slices.Contains([]string{"=", "<>", "<", "<=", ">", ">="}, n.Func.Name) {
			return false
		}
	default:
		return false
	}
	for _, a := range n.Args {
		if !infallible(a) {
			return false
		}
	}
	return true
}

// newOrder chooses the order of side s: the expression that most conjuncts bound. Of the conjuncts that can fail, one counts only when
// those before it do, so that no pair is left out on which one of those fails.
func (j *join) newOrder(s int, parts []conjunct) error {
	best, text := []bool(nil), ""
	for i := range parts {
		if parts[i].sides[s] == nil {
			continue
		}
		t := parts[i].sides[s].String()
		if used := boundedBy(parts, s, t); used != nil && count(used) > count(best) {
			best, text = used, t
		}
	}
	if best == nil {
		return nil
	}
	o := &joinOrder{col: -1}
	for i := range parts {
		p := &parts[i]
		if !best[i] {
			o.rest = append(o.rest, j.conds[i])
			continue
		}
		if x := p.sides[s]; o.x == nil && x.String() == text {
			if err := o.compile(x, j.sides[s].layout); err != nil {
				return err
			}
		}
		if p.sides[0].Type == app.Int8 || p.sides[1].Type == app.Int8 {
			o.typ = app.Int8
		}
		b, err := compileAll([]*expr.Node{p.sides[1-s]}, j.sides[1-s].layout)
		if err != nil {
			return err
		}
		op := p.op
		if s == 1 {
			op = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<="}[op]
		}
		o.bounds = append(o.bounds, joinBound{op, b[0]})
	}
	j.sides[s].order = o
	return nil
}

func (o *joinOrder) compile(x *expr.Node, l *change.Layout) error {
	fs, err := compileAll([]*expr.Node{x}, l)
	if err != nil {
		return err
	}
	o.x, o.typ = fs[0], x.Type
	if x.Kind == expr.KColumn {
		o.col = x.Col
	}
	return nil
}

// boundedBy returns which conjuncts a walk in the order of the expression with this text implies, nil when none.
func boundedBy(parts []conjunct, s int, text string) (used []bool) {
	for i := range parts {
		p := &parts[i]
		if p.sides[s] == nil {
			break
		}
		if p.sides[s].String() != text {
			if !p.safe {
				break
			}
			continue
		}
		if used == nil {
			used = make([]bool, len(parts))
		}
		used[i] = true
	}
	return used
}

func count(set []bool) (n int) {
	for _, b := range set {
		if b {
			n++
		}
	}
	return n
}
