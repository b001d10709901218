package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// eachOver replaces the expressions of window functions; see [query.each].
func (q *query) eachOver(f func(n *expr.Node, at span) *expr.Node) {
	for i := range q.overs.list {
		q.overs.list[i].nodes(func(n *expr.Node) *expr.Node { return f(n, q.c.wordAt(max(n.Pos, 0))) })
	}
}

// windows adds the Over operators, one for each partitioning and order that there is. Below them stands a projection to what
// is needed from here on, so that they keep no more.
func (q *query) windows(in flow.Plan) flow.Plan {
	if !q.ordersInside() {
		q.hidden = nil
	}
	needed := map[int]bool{}
	q.each(func(n *expr.Node, _ span) *expr.Node {
		n.Columns(func(i int) { needed[i] = true })
		return n
	})
	list := q.overs.list
	q.overs.list = nil
	var calls []int
	for i := range list {
		if needed[overCol+i] {
			calls = append(calls, i)
		}
	}
	if len(calls) == 0 {
		return in
	}
	clear(needed) // what is above them, without what they read themselves
	q.each(func(n *expr.Node, _ span) *expr.Node {
		n.Columns(func(i int) { needed[i] = true })
		return n
	})
	s := &overStack{}
	for i, t := range in.Columns() {
		if needed[i] {
			s.place(expr.Column(i, t, -1))
		}
	}
	for _, i := range calls {
		s.add(i, &list[i])
	}
	plan := s.plan(in)
	q.each(func(n *expr.Node, _ span) *expr.Node { return rewriteColumns(n, s.replace) })
	return plan
}

// overStack is Over operators one above the other.
type overStack struct {
	base    []*expr.Node // the columns below all of them, over the input's
	text    []string
	overs   []*flow.Over
	windows []string
	ids     [][]int // of the calls of each
	columns map[int]int
}

// place returns the column of the base that an expression is, adding it if there is none.
func (s *overStack) place(n *expr.Node) int {
	text := n.String()
	if i := slices.Index(s.text, text); i >= 0 {
		return i
	}
	s.base, s.text = append(s.base, n), append(s.text, text)
	return len(s.base) - 1
}

// column is place, but leaves constants as they are.
func (s *overStack) column(n *expr.Node) *expr.Node {
	if n.Kind == expr.KConst {
		return n
	}
	return expr.Column(s.place(n), n.Type, n.Pos)
}

// add puts a call onto the operator with its partitioning and order.
func (s *overStack) add(id int, w *windowCall) {
	text := w.window()
	k := slices.Index(s.windows, text)
	if k < 0 {
		k = len(s.overs)
		o := &flow.Over{}
		for _, n := range w.partition {
			if i := s.place(n); !slices.Contains(o.Partition, i) {
				o.Partition = append(o.Partition, i)
			}
		}
		for _, key := range w.sort {
			i := s.place(key.X)
			if !slices.ContainsFunc(o.Sort, func(have app.OrderBy) bool { return have.Column == i }) {
				o.Sort = append(o.Sort, app.OrderBy{Column: i, Desc: key.Desc, NullsFirst: key.NullsFirst})
			}
		}
		s.overs, s.windows, s.ids = append(s.overs, o), append(s.windows, text), append(s.ids, nil)
	}
	w.nodes(s.column)
	s.overs[k].Calls = append(s.overs[k].Calls, w.call)
	s.ids[k] = append(s.ids[k], id)
}

// plan stacks the operators on in.
func (s *overStack) plan(in flow.Plan) flow.Plan {
	s.columns = map[int]int{}
	width := len(s.base)
	for _, ids := range s.ids {
		for _, id := range ids {
			s.columns[overCol+id] = width
			width++
		}
	}
	plan := project(in, s.base)
	for _, o := range s.overs {
		o.In = plan
		plan = o
	}
	return plan
}

// replace puts in the column that one over the input, or a call, is above all operators.
func (s *overStack) replace(col *expr.Node) *expr.Node {
	if i, ok := s.columns[col.Col]; ok {
		return expr.Column(i, col.Type, col.Pos)
	}
	if col.Col < aggregateCol {
		return expr.Column(s.place(expr.Column(col.Col, col.Type, -1)), col.Type, col.Pos)
	}
	return nil
}
