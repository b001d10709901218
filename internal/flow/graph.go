package flow

import (
	"fmt"
	"slices"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// graph is the dataflow of all views. Plans with equal texts are one step, whichever views they are of: what two views both compute is
// computed once. See graph_run.go for how a batch goes through it.
type graph struct {
	prog  *Program
	views []*view
	steps map[string]*step // by identity, see Program.planIdentity

	order   []unit  // in the order in which they run: a step behind its inputs, a view's sink behind its root
	scans   [][]int // by relation: places in order of the scans that read it
	timed   []*step
	pending []uint64 // by place in order, a bit each: what this batch has to run
	ran     []*step  // by this batch: their out is set
	size    int64    // bytes of all steps and sinks
	stale   bool     // order has freed steps
}

// unit is what has a place in order: a step or the sink of a view.
type unit struct {
	step *step
	view *view
}

// step is one operator in its place. Exactly one of one and many is set, unless it is a scan or was freed.
type step struct {
	id      string
	plan    Plan
	in      []*step
	at      int     // its place in order
	outs    []int   // places of what takes its output
	users   []*view // that need it and have not stopped
	scan    int     // the relation that a Scan reads, else -1
	one     operator
	many    multiOperator
	timed   timed // the operator when it is one, else nil
	ran     bool  // it was called: see exec.first
	errors  *errorLog
	appends bool     // its output never takes a row back
	session *Session // that an Aggregate is one step with, else nil

	ins             [][]delta // of the batch
	out             []delta
	size            int64  // bytes of its state
	inRows, outRows uint64 // removals included
	nanos           int64  // time spent, see Options.Clock
	late            []lateRow
}

// view is one running view.
type view struct {
	rel     *expr.Relation
	plan    *ViewPlan
	id      string // of plan.Root
	scope   string // see graph.build; empty: none
	root    *step
	steps   []*step // all that it needs, in the order in which they run; other views may need them too
	inputs  []int   // the relations that it reads
	sink    sink
	at      int // of its sink in order
	late    lateLog
	stopped *Stopped // nil: it runs

	lateBatch []lateRow // of this batch
}

// newGraph returns the graph of p. scopes has those of its views; nil: none has one.
func newGraph(p *Program, scopes []string) (*graph, error) {
	g := &graph{prog: p, steps: map[string]*step{}}
	for i, vp := range p.Views {
		rel := p.Relations[vp.Relation]
		v := &view{rel: rel, plan: vp, id: p.planIdentity(vp.Root), sink: newSink(rel, "view "+vp.Hash), late: newLateLog()}
		if scopes != nil {
			v.scope = scopes[i]
		}
		if rel.Numbered && !inOrder(vp.Root) {
			return nil, fmt.Errorf("flow: view %s: its rows have no order of arrival to be numbered in", rel.Name)
		}
		root, err := g.build(v, vp.Root)
		if err != nil {
			return nil, fmt.Errorf("flow: view %s: %w", rel.Name, err)
		}
		v.root = root
		g.order = append(g.order, unit{view: v})
		g.views = append(g.views, v)
	}
	g.link()
	return g, nil
}

// inOrder reports whether the rows of p come in the order in which those of one relation came, wherever batches are cut.
func inOrder(p Plan) bool {
	switch p := p.(type) {
	case *Scan:
		return true
	case *Filter, *Project, *Expand, *Window:
		return inOrder(p.Inputs()[0])
	case *Join:
		return (p.Kind == LookupJoin || p.Kind == LookupLeftJoin) && inOrder(p.L)
	}
	return false
}

// link fills what follows from order: places, scans, timed, pending and who takes whose output.
func (g *graph) link() {
	g.order = slices.DeleteFunc(g.order, func(u unit) bool {
		return u.step != nil && len(u.step.users) == 0 || u.view != nil && u.view.stopped != nil
	})
	g.scans, g.timed = make([][]int, len(g.prog.Relations)), g.timed[:0]
	g.pending = make([]uint64, (len(g.order)+63)/64)
	for i, u := range g.order {
		if u.view != nil {
			u.view.at = i
			u.view.root.outs = append(u.view.root.outs, i)
			continue
		}
		n := u.step
		n.at, n.outs = i, nil
		for _, in := range n.in {
			in.outs = append(in.outs, i)
		}
		switch {
		case n.scan >= 0:
			g.scans[n.scan] = append(g.scans[n.scan], i)
		case n.timed != nil:
			g.timed = append(g.timed, n)
		}
		if !n.ran && n.scan < 0 {
			g.wake(i)
		}
	}
	g.stale = false
}

// free gives up a step that no view needs any more.
func (g *graph) free(n *step) {
	g.size -= n.size
	delete(g.steps, n.id)
	*n = step{id: n.id, plan: n.plan, scan: -1, ran: true, errors: n.errors}
	g.stale = true
}

// planIdentity names what a plan computes, the same in every program of the log in which it computes the same.
func (p *Program) planIdentity(n Plan) string { return PlanText(n, p.identity) }

// identity names what a relation's rows are, the same in every program of the log in which they are the same.
func (p *Program) identity(relation int) string {
	r := p.Relations[relation]
	if r.Table != nil {
		return tableIdentity(r.Table)
	}
	for _, v := range p.Views {
		if v.Relation == relation {
			return "view " + v.Hash
		}
	}
	return r.Name
}

// build returns the step of p, made if no view had it so far, and notes that v needs it and what is below it.
//
// A view with a scope shares steps only with views of the same scope, and has for each view that it reads the steps of that view in its scope instead of the
// view's rows. So what was computed from the tables of a checkpoint, without what came before, never meets what has seen everything.
func (g *graph) build(v *view, p Plan) (*step, error) {
	if s, ok := p.(*Scan); ok && v.scope != "" && g.prog.Relations[s.Relation].Table == nil {
		for _, vp := range g.prog.Views {
			if vp.Relation == s.Relation && s.Relation < v.plan.Relation {
				return g.build(v, vp.Root)
			}
		}
	}
	id := v.scope + g.prog.planIdentity(p)
	n := g.steps[id]
	if n != nil {
		v.use(n)
		return n, nil
	}
	n = &step{id: id, plan: p, scan: -1, errors: newErrorLog(id, p, g.prog)}
	if err := g.inputs(v, n); err != nil {
		return nil, err
	}
	n.ins = make([][]delta, len(n.in))
	if err := g.operator(v, n); err != nil {
		return nil, err
	}
	if n.one != nil {
		n.timed, _ = n.one.(timed)
	} else {
		n.timed, _ = n.many.(timed)
	}
	g.steps[id] = n
	g.order = append(g.order, unit{step: n})
	v.use(n)
	return n, nil
}

// inputs builds what a step reads: its plan's inputs, or that of the session which it aggregates when both are one step.
func (g *graph) inputs(v *view, n *step) error {
	if s := sessionOf(n.plan); s != nil {
		m, err := g.build(v, s.In)
		if err != nil {
			return err
		}
		if m.appends {
			n.in, n.session, n.errors = []*step{m}, s, newErrorLog(n.id, s, g.prog)
			return nil
		}
	}
	for _, in := range n.plan.Inputs() {
		m, err := g.build(v, in)
		if err != nil {
			return err
		}
		n.in = append(n.in, m)
	}
	return nil
}

// use notes that v needs n and what n reads.
func (v *view) use(n *step) {
	if slices.Contains(v.steps, n) {
		return
	}
	for _, in := range n.in {
		v.use(in)
	}
	if n.scan >= 0 && !slices.Contains(v.inputs, n.scan) {
		v.inputs = append(v.inputs, n.scan)
	}
	v.steps, n.users = append(v.steps, n), append(n.users, v)
}

// operator makes the operator of a step whose inputs are built.
func (g *graph) operator(v *view, n *step) (err error) {
	switch p := g.numbered(n.plan).(type) {
	case *Scan:
		if n.scan = n.plan.(*Scan).Relation; n.scan < 0 || n.scan >= v.plan.Relation {
			return fmt.Errorf("it reads relation %d, which is not before it", n.scan)
		}
		n.appends, n.ran = g.appends(n.scan), true
		if p.OnTime {
			n.one = &onTime{table: g.prog.ids([]int{p.Relation})[0]}
		}
	case *Values:
		n.one, err = newValues(p, n.errors)
		n.appends = true
	case *Filter:
		n.one, err = newFilter(p, n.errors)
		n.appends = n.in[0].appends
	case *Project:
		n.one, err = newProject(p, n.errors)
		n.appends = n.in[0].appends
	case *Expand:
		n.one, err = newExpand(p, n.errors)
		n.appends = n.in[0].appends
	case *Window:
		n.one, err = newTimeWindow(p, n.errors)
		n.appends = n.in[0].appends
	case *Session:
		n.one, err = newSession(p, n.errors)
	case *Gate:
		n.one, err = newGate(p, n.errors)
		n.appends = n.in[0].appends && p.Until == nil
	case *Join:
		if p.Kind == LookupJoin || p.Kind == LookupLeftJoin {
			n.many, err = newLookup(p, n.in[0].appends, n.errors)
			n.appends = true
			break
		}
		n.many, err = newJoin(p, n.in[0].appends, n.in[1].appends, n.errors)
		n.appends = n.in[0].appends && n.in[1].appends && (p.Kind == InnerJoin || p.Kind == SemiJoin)
	case *Union:
		n.many = newUnion(p)
		n.appends = !slices.ContainsFunc(n.in, func(in *step) bool { return !in.appends })
	case *SetOp:
		n.many, err = newSetOp(p)
		n.appends = p.Op == Intersect && n.in[0].appends && n.in[1].appends && canonical(change.NewLayout(p.Columns()))
	case *Aggregate:
		if n.session != nil {
			n.one, err = newSessionSum(p, g.numbered(n.session).(*Session), n.errors)
			break
		}
		n.one, err = newAggregate(p, n.in[0].appends, n.errors)
		n.appends = len(p.Aggs) == 0 && len(p.Keys) > 0 && n.in[0].appends && canonical(change.NewLayout(p.Columns()))
	case *TopN:
		n.one, err = newTop(p, n.in[0].appends)
	case *Over:
		n.one, err = newOver(p, n.in[0].appends, n.errors)
	default:
		err = fmt.Errorf("no operator for %T", p)
	}
	return err
}

// appends reports whether a relation never takes a row back.
func (g *graph) appends(rel int) bool {
	if t := g.prog.Relations[rel].Table; t != nil {
		return !t.Table.Keyed() && t.TTL == 0
	}
	for _, v := range g.views {
		if v.plan.Relation == rel {
			return v.root.appends
		}
	}
	return false
}
