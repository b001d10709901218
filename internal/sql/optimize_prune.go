package sql

import (
	"slices"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// rebuild makes an operator over pruned inputs.
func (p *pruner) rebuild(x flow.Plan) pruned {
	if r, ok := p.done[x]; ok {
		return r
	}
	r := p.build(x, p.need[x])
	p.done[x] = r
	return r
}

// narrow takes off the columns that are not needed; one remains.
func (p *pruner) narrow(r pruned, need []bool) pruned {
	types := r.plan.Columns()
	var exprs []*expr.Node
	place := make([]int, len(need))
	same := true
	for i, n := range need {
		place[i] = -1
		if n {
			place[i] = len(exprs)
			same = same && r.place[i] == len(exprs)
			exprs = append(exprs, expr.Column(r.place[i], types[r.place[i]], -1))
		}
	}
	if same && len(exprs) == len(types) {
		return r
	}
	if len(exprs) == 0 {
		exprs = []*expr.Node{expr.BoolLit(true, -1)}
	}
	return pruned{tidyProject(r.plan, exprs), place}
}

// at returns an expression over the pruned columns.
func (r pruned) at(n *expr.Node) *expr.Node {
	return rewriteColumns(n, func(col *expr.Node) *expr.Node {
		if to := r.place[col.Col]; to != col.Col {
			return expr.Column(to, col.Type, col.Pos)
		}
		return nil
	})
}

func (r pruned) all(cols []int) []int {
	out := make([]int, len(cols))
	for i, c := range cols {
		out[i] = r.place[c]
	}
	return out
}

func (r pruned) sorted(sort []app.OrderBy) []app.OrderBy {
	out := slices.Clone(sort)
	for i := range out {
		out[i].Column = r.place[out[i].Column]
	}
	return out
}

func (p *pruner) build(x flow.Plan, need []bool) pruned {
	switch x := x.(type) {
	case *flow.Scan, *flow.Values:
		return pruned{x, upTo(len(need))}
	case *flow.Project:
		return p.buildProject(x, need)
	case *flow.Join:
		return p.buildJoin(x, need)
	case *flow.Union:
		u := &flow.Union{}
		need = slices.Clone(need)
		need[0] = need[0] || !anyTrue(need)
		var place []int
		for _, in := range x.Ins {
			r := p.narrow(p.rebuild(in), need)
			u.Ins, place = append(u.Ins, r.plan), packed(need)
		}
		return pruned{u, place}
	case *flow.SetOp:
		s := *x
		every := slices.Repeat([]bool{true}, len(need))
		s.L, s.R = p.narrow(p.rebuild(x.L), every).plan, p.narrow(p.rebuild(x.R), every).plan
		return pruned{&s, upTo(len(need))}
	}
	in := p.rebuild(x.Inputs()[0])
	switch x := x.(type) {
	case *flow.Window:
		w := *x
		w.In, w.Time, w.Keep = in.plan, in.place[x.Time], nil
		if x.Where != nil {
			w.Where = in.at(x.Where)
		}
		var place []int
		w.Keep, place = keepNeeded(x.Keep, need, in)
		return pruned{&w, place}
	case *flow.Session:
		s := *x
		s.In, s.Time, s.Partition = in.plan, in.place[x.Time], in.all(x.Partition)
		if x.Where != nil {
			s.Where = in.at(x.Where)
		}
		var place []int
		s.Keep, place = keepNeeded(x.Keep, need, in)
		return pruned{&s, place}
	case *flow.Aggregate:
		return p.buildAggregate(x, in, need)
	case *flow.TopN:
		in = p.narrow(in, p.demand(x, need)[0])
		t := *x
		t.In, t.Partition, t.Sort = in.plan, in.all(x.Partition), in.sorted(x.Sort)
		place := slices.Clone(in.place)
		if x.Number {
			place = append(place, len(in.plan.Columns()))
			if t.Number = need[len(need)-1]; !t.Number {
				place[len(need)-1] = -1
			}
		}
		return pruned{&t, place}
	case *flow.Over:
		return p.buildOver(x, in, need)
	case *flow.Expand:
		e := mapPlan(x, func(int, flow.Plan) flow.Plan { return in.plan }, in.at)
		place := slices.Clone(in.place)
		width := len(in.plan.Columns())
		for len(place) < len(need) {
			place = append(place, width+len(place)-len(in.place))
		}
		return pruned{e, place}
	}
	return pruned{mapPlan(x, func(int, flow.Plan) flow.Plan { return in.plan }, in.at), in.place}
}

// packed returns the places of the needed columns side by side.
func packed(need []bool) []int {
	place := make([]int, len(need))
	n := 0
	for i, x := range need {
		place[i] = -1
		if x {
			place[i] = n
			n++
		}
	}
	return place
}

func keepNeeded(keep []int, need []bool, in pruned) (cols, place []int) {
	for i, k := range keep {
		if !need[i] {
			place = append(place, -1)
			continue
		}
		place = append(place, len(cols))
		cols = append(cols, in.place[k])
	}
	return cols, append(place, len(cols), len(cols)+1)
}

func (p *pruner) buildProject(x *flow.Project, need []bool) pruned {
	in := p.rebuild(x.In)
	var exprs []*expr.Node
	place := make([]int, len(need))
	for i, n := range x.Exprs {
		place[i] = -1
		if need[i] || i == 0 && !anyTrue(need) {
			place[i] = len(exprs)
			exprs = append(exprs, in.at(n))
		}
	}
	return pruned{tidyProject(in.plan, exprs), place}
}

func (p *pruner) buildJoin(x *flow.Join, need []bool) pruned {
	demand := p.demand(x, need)
	l, r := p.narrow(p.rebuild(x.L), demand[0]), p.narrow(p.rebuild(x.R), demand[1])
	j := *x
	j.L, j.R = l.plan, r.plan
	j.LKeys, j.RKeys = nil, nil
	for i := range x.LKeys {
		j.LKeys, j.RKeys = append(j.LKeys, l.at(x.LKeys[i])), append(j.RKeys, r.at(x.RKeys[i]))
	}
	place := slices.Clone(l.place)
	width := len(l.plan.Columns())
	for _, to := range r.place {
		if to >= 0 {
			to += width
		}
		place = append(place, to)
	}
	if x.Cond != nil {
		j.Cond = pruned{nil, place}.at(x.Cond)
	}
	return pruned{&j, place[:len(need)]}
}

func (p *pruner) buildAggregate(x *flow.Aggregate, in pruned, need []bool) pruned {
	a := *x
	a.In, a.Keys, a.Aggs = in.plan, nil, nil
	place := make([]int, len(need))
	for i, k := range x.Keys {
		place[i] = i
		a.Keys = append(a.Keys, in.at(k))
	}
	kept := neededAggs(x, need)
	a.Aggs = mapAggs(kept, in.at)
	if len(kept) == 0 {
		a.Aggs = nil
	}
	n := len(x.Keys)
	for i := range x.Aggs {
		place[len(x.Keys)+i] = -1
		if need[len(x.Keys)+i] || len(x.Keys) == 0 && i == 0 && len(kept) == 1 && !anyTrue(need) {
			place[len(x.Keys)+i] = n
			n++
		}
	}
	return pruned{&a, place}
}

func (p *pruner) buildOver(x *flow.Over, in pruned, need []bool) pruned {
	width := len(in.place)
	if !anyTrue(need[width:]) {
		return pruned{in.plan, append(slices.Clone(in.place), slices.Repeat([]int{-1}, len(need)-width)...)}
	}
	in = p.narrow(in, p.demand(x, need)[0])
	o := *x
	o.In, o.Partition, o.Sort, o.Calls = in.plan, in.all(x.Partition), in.sorted(x.Sort), nil
	place := slices.Clone(in.place)
	for i, c := range x.Calls {
		if !need[width+i] {
			place = append(place, -1)
			continue
		}
		place = append(place, len(in.plan.Columns())+len(o.Calls))
		c.Agg = mapAgg(c.Agg, in.at)
		args := make([]*expr.Node, len(c.Args))
		for k, n := range c.Args {
			args[k] = in.at(n)
		}
		c.Args = args
		o.Calls = append(o.Calls, c)
	}
	return pruned{&o, place}
}
