package sql

import (
	"fmt"
	"slices"
	"strings"

	"laaster/internal/expr"
	"laaster/internal/flow"
)

// optimizer rewrites the plan of one view. Every step keeps the rows as they are. The plan is a graph: what is written twice is
// computed once, and so is not pulled apart.
type optimizer struct {
	c       *compiler
	interns map[string]flow.Plan
	ids     map[flow.Plan]int
	parents map[flow.Plan]int
	pushed  map[flow.Plan]flow.Plan
}

// optimize returns a plan of the same rows that keeps less state.
func (c *compiler) optimize(p flow.Plan) flow.Plan {
	p = c.intern(p)
	for range 2 { // a join that became an inner one lets more conditions through
		o := &optimizer{c: c, parents: parentsOf(p), pushed: map[flow.Plan]flow.Plan{}}
		p = c.intern(o.push(p, nil))
	}
	p = c.intern(c.prune(p))
	return c.intern(c.timed(p))
}

// intern makes equal parts of a plan one and the same.
func (c *compiler) intern(p flow.Plan) flow.Plan {
	o := &optimizer{c: c, interns: map[string]flow.Plan{}, ids: map[flow.Plan]int{}}
	return o.unify(p, map[flow.Plan]flow.Plan{})
}

func (o *optimizer) unify(p flow.Plan, done map[flow.Plan]flow.Plan) flow.Plan {
	if r := done[p]; r != nil {
		return r
	}
	r := withInputs(p, func(in flow.Plan) flow.Plan { return o.unify(in, done) })
	var key strings.Builder
	key.WriteString(flow.OperatorText(r, func(i int) string { return fmt.Sprint(i) }))
	for _, in := range r.Inputs() {
		fmt.Fprint(&key, " ", o.ids[in])
	}
	if old := o.interns[key.String()]; old != nil {
		r = old
	} else {
		o.interns[key.String()] = r
		o.ids[r] = len(o.ids)
	}
	done[p] = r
	return r
}

// parentsOf counts what reads each part of a plan.
func parentsOf(p flow.Plan) map[flow.Plan]int {
	count := map[flow.Plan]int{}
	var walk func(p flow.Plan)
	walk = func(p flow.Plan) {
		if count[p]++; count[p] > 1 {
			return
		}
		for _, in := range p.Inputs() {
			walk(in)
		}
	}
	walk(p)
	return count
}

// keepsState reports whether an operator is worth sharing.
func keepsState(p flow.Plan) bool {
	switch p.(type) {
	case *flow.Scan, *flow.Values, *flow.Filter, *flow.Project, *flow.Expand, *flow.Window, *flow.Union:
		return false
	}
	return true
}

// guard is a condition or a gate on its way down a plan.
type guard struct {
	cond        *expr.Node
	from, until *expr.Node // of a gate
}

func (g guard) nodes() []*expr.Node {
	return slices.DeleteFunc([]*expr.Node{g.cond, g.from, g.until}, func(n *expr.Node) bool { return n == nil })
}

// within reports whether the guard reads only columns for which ok holds, and any at all.
func (g guard) within(ok func(col int) bool) bool {
	all, some := true, false
	for _, n := range g.nodes() {
		n.Columns(func(i int) {
			some = true
			all = all && ok(i)
		})
	}
	return all && some
}

func (g guard) mapped(f func(n *expr.Node) *expr.Node) guard {
	one := func(n *expr.Node) *expr.Node {
		if n == nil {
			return nil
		}
		return f(n)
	}
	return guard{one(g.cond), one(g.from), one(g.until)}
}

// guarded puts guards on top of a plan.
func guarded(p flow.Plan, gs []guard) flow.Plan {
	var conds []*expr.Node
	for _, g := range gs {
		if g.cond != nil && !slices.ContainsFunc(conds, func(n *expr.Node) bool { return n.String() == g.cond.String() }) {
			conds = append(conds, g.cond)
		}
	}
	if f, ok := p.(*flow.Filter); ok && len(conds) > 0 {
		p, conds = f.In, append(conjuncts(f.Cond), conds...)
	}
	p = filter(p, conds)
	for _, g := range gs {
		if g.cond == nil {
			p = &flow.Gate{In: p, From: g.from, Until: g.until}
		}
	}
	return p
}

// split sorts guards by whether they may go further down.
func split(gs []guard, down func(g guard) bool) (below, above []guard) {
	for _, g := range gs {
		if down(g) {
			below = append(below, g)
		} else {
			above = append(above, g)
		}
	}
	return below, above
}

func composed(gs []guard, to []*expr.Node) []guard {
	out := make([]guard, len(gs))
	for i, g := range gs {
		out[i] = g.mapped(func(n *expr.Node) *expr.Node { return compose(n, to) })
	}
	return out
}

// push moves conditions as far down as they go.
func (o *optimizer) push(p flow.Plan, gs []guard) flow.Plan {
	if o.parents[p] > 1 && keepsState(p) {
		done := o.pushed[p]
		if done == nil {
			done = o.descend(p, nil)
			o.pushed[p] = done
		}
		return ranked(guarded(done, gs))
	}
	return o.descend(p, gs)
}

func (o *optimizer) descend(p flow.Plan, gs []guard) flow.Plan {
	switch p := p.(type) {
	case *flow.Filter:
		for _, n := range conjuncts(p.Cond) {
			gs = append(slices.Clip(gs), guard{cond: n})
		}
		return o.push(p.In, gs)
	case *flow.Gate:
		if p.Tables == nil {
			return o.push(p.In, append(slices.Clip(gs), guard{from: p.From, until: p.Until}))
		}
	case *flow.Project:
		below, above := split(gs, func(g guard) bool { return growth(g, p.Exprs) <= 64 })
		return guarded(tidyProject(o.push(p.In, composed(below, p.Exprs)), p.Exprs), above)
	case *flow.Join:
		return o.pushJoin(p, gs)
	case *flow.Union:
		u := &flow.Union{}
		for _, in := range p.Ins {
			u.Ins = append(u.Ins, o.push(in, gs))
		}
		return u
	case *flow.SetOp:
		below, above := split(gs, func(g guard) bool { return g.cond != nil && formless(g.cond) })
		s := *p
		s.L, s.R = o.push(p.L, below), o.push(p.R, below)
		return guarded(&s, above)
	case *flow.Window:
		return o.pushWindow(p, gs)
	case *flow.Session:
		return o.pushSession(p, gs)
	case *flow.Aggregate, *flow.TopN, *flow.Over, *flow.Expand:
		return o.pushGrouped(p, gs)
	}
	return guarded(withInputs(p, func(in flow.Plan) flow.Plan { return o.push(in, nil) }), gs)
}

// growth estimates how much larger a guard gets by putting in what its columns are computed from.
func growth(g guard, exprs []*expr.Node) int {
	n := 0
	for _, x := range g.nodes() {
		x.Columns(func(i int) {
			if i < len(exprs) {
				n += size(exprs[i]) - 1
			}
		})
	}
	return n
}

// pushGrouped moves conditions on what rows are grouped by below the grouping.
func (o *optimizer) pushGrouped(p flow.Plan, gs []guard) flow.Plan {
	in := p.Inputs()[0]
	to := columnsOf(in)
	ok := func(int) bool { return false }
	switch p := p.(type) {
	case *flow.Aggregate:
		to = p.Keys
		ok = func(i int) bool { return i < len(p.Keys) }
	case *flow.TopN:
		ok = func(i int) bool { return slices.Contains(p.Partition, i) }
	case *flow.Over:
		ok = func(i int) bool { return slices.Contains(p.Partition, i) }
	case *flow.Expand:
		ok = func(i int) bool { return i < len(to) }
	}
	_, expand := p.(*flow.Expand)
	below, above := split(gs, func(g guard) bool { return g.within(ok) && (expand || g.cond != nil && formless(g.cond)) })
	done := o.push(in, composed(below, to))
	return ranked(guarded(withInputs(p, func(flow.Plan) flow.Plan { return done }), above))
}

// ranked makes a TopN of a condition on a rank.
func ranked(p flow.Plan) flow.Plan {
	if f, ok := p.(*flow.Filter); ok {
		if _, over := f.In.(*flow.Over); over {
			if t := rankFilter(f); t != nil {
				return t
			}
		}
	}
	return p
}

func (o *optimizer) pushWindow(p *flow.Window, gs []guard) flow.Plan {
	below, above := split(gs, func(g guard) bool { return g.cond != nil && g.within(func(i int) bool { return i < len(p.Keep) }) })
	w := *p
	w.In = o.push(p.In, nil)
	w.Where = conjunction(append(conjuncts(p.Where), kept(below, p.Keep, p.In)...))
	return guarded(&w, above)
}

// pushSession moves conditions on what sessions are told apart by: others would change the sessions.
func (o *optimizer) pushSession(p *flow.Session, gs []guard) flow.Plan {
	below, above := split(gs, func(g guard) bool {
		return g.cond != nil && formless(g.cond) && g.within(func(i int) bool { return i < len(p.Keep) && slices.Contains(p.Partition, p.Keep[i]) })
	})
	s := *p
	s.In = o.push(p.In, nil)
	s.Where = conjunction(append(conjuncts(p.Where), kept(below, p.Keep, p.In)...))
	return guarded(&s, above)
}

// kept returns conditions over the columns that a window keeps as conditions over its input.
func kept(gs []guard, keep []int, in flow.Plan) []*expr.Node {
	types := in.Columns()
	to := make([]*expr.Node, len(keep))
	for i, k := range keep {
		to[i] = expr.Column(k, types[k], -1)
	}
	var out []*expr.Node
	for _, g := range gs {
		out = append(out, compose(g.cond, to))
	}
	return out
}

// tidyProject computes exprs over in, in one step with a projection below where that computes nothing twice.
func tidyProject(in flow.Plan, exprs []*expr.Node) flow.Plan {
	below, ok := in.(*flow.Project)
	if !ok {
		return project(in, exprs)
	}
	uses := make([]int, len(below.Exprs))
	for _, n := range exprs {
		n.Columns(func(i int) { uses[i]++ })
	}
	for i, n := range below.Exprs {
		if uses[i] > 1 && n.Kind != expr.KColumn && n.Kind != expr.KConst {
			return project(in, exprs)
		}
	}
	out := make([]*expr.Node, len(exprs))
	for i, n := range exprs {
		out[i] = compose(n, below.Exprs)
	}
	return project(below.In, out)
}

// formless reports whether a condition says the same of equal values: 1.0 and 1.00 are equal, their texts are not.
func formless(n *expr.Node) bool {
	if n.Kind == expr.KColumn {
		return !manyForms(n)
	}
	if n.Kind == expr.KCall && n.Func.IsOperator() && slices.Contains([]string{"=", "<>", "<", "<=", ">", ">="}, n.Func.Name) ||
		n.Kind == expr.KIn || n.Kind == expr.KIsNull || n.Kind == expr.KDistinct {
		return !slices.ContainsFunc(n.Args, func(a *expr.Node) bool { return a.Kind != expr.KColumn && !formless(a) })
	}
	return !slices.ContainsFunc(n.Args, func(a *expr.Node) bool { return !formless(a) })
}
