package flow

import (
	"fmt"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// operator is one step of a view's dataflow. Its input and its output are Z-sets that say how a multiset changed from before
// the batch to after it, so that whatever is removed was there: no operator ever sees a negative multiset.
type operator interface {
	// apply takes the input's change and returns the output's, which lives until the next call (its rows until the batch
	// ends). It is called once per batch in which the input changed, and in the engine's first batch (x.first).
	apply(x *exec, in []delta) []delta
	// bytes is what the operator's state takes: a function of the state (sums of what table, tree and slab say, and of fixed
	// sizes), never of capacities or of what came and went before, since limits are decided by it.
	bytes() int
	// name is what EXPLAIN and metrics call the operator.
	name() string
	stateful
}

// multiOperator is an operator with any number of inputs; else it is as an operator.
type multiOperator interface {
	// apply takes the change of each input. When several changed, the output's removals are of rows that its output before the batch
	// or its insertions ahead of them have.
	apply(x *exec, in [][]delta) []delta
	bytes() int
	name() string
	stateful
}

// timed is an operator that has something to do when time passes, even when nothing comes in.
type timed interface {
	// due reports whether apply must be called at x's time: x.now and x.mark.
	due(x *exec) bool
	// next returns the time of now() at which due will be true; never when only a watermark can bring that about or nothing waits.
	next() int64
}

// never is later than every time.
const never = 1<<63 - 1

// filter keeps the rows for which cond is true.
type filter struct {
	cond   expr.Func
	in     *change.Layout
	errors *errorLog
	out    []delta
}

func (f *filter) apply(x *exec, in []delta) []delta {
	f.out = f.out[:0]
	for _, d := range in {
		x.ctx.Reset()
		x.ctx.Row = d.row
		v, err := f.cond(&x.ctx)
		if err != nil {
			f.errors.add(x, f.in, d.row, err, d.w)
			continue
		}
		if v.True() {
			f.out = append(f.out, d)
		}
	}
	return f.out
}

func (f *filter) bytes() int   { return 0 }
func (*filter) state(*keeper)  {}
func (f *filter) name() string { return "filter" }

// project computes a row from each row.
type project struct {
	exprs  []expr.Func
	in     *change.Layout
	layout *change.Layout
	errors *errorLog
	vals   []change.Value
	pick   *picker // when all are plain columns
	out    []delta
}

func (p *project) apply(x *exec, in []delta) []delta {
	p.out = p.out[:0]
	if p.pick != nil {
		for _, d := range in {
			at := len(x.scratch.buf)
			x.scratch.buf = p.pick.pick(x.scratch.buf, d.row)
			p.out = append(p.out, delta{x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)], d.w})
		}
		return p.out
	}
	for _, d := range in {
		x.ctx.Reset()
		x.ctx.Row = d.row
		if err := evaluate(&x.ctx, p.exprs, p.vals); err != nil {
			p.errors.add(x, p.in, d.row, err, d.w)
			continue
		}
		p.out = append(p.out, delta{x.scratch.row(p.layout, p.vals), d.w})
		if x.full() {
			break
		}
	}
	return p.out
}

func (p *project) bytes() int   { return 0 }
func (*project) state(*keeper)  {}
func (p *project) name() string { return "project" }

func evaluate(c *expr.Ctx, exprs []expr.Func, vals []change.Value) error {
	for i, f := range exprs {
		v, err := f(c)
		if err != nil {
			return err
		}
		vals[i] = v
	}
	return nil
}

func compileAll(nodes []*expr.Node, in *change.Layout) ([]expr.Func, error) {
	out := make([]expr.Func, len(nodes))
	for i, n := range nodes {
		if err := pure(n); err != nil {
			return nil, err
		}
		f, err := expr.Compile(n, in)
		if err != nil {
			return nil, err
		}
		out[i] = f
	}
	return out, nil
}

// pure refuses what would make a row's removal compute something else than its arrival did.
func pure(n *expr.Node) error {
	switch n.Kind {
	case expr.KNow:
		return fmt.Errorf("now() cannot be used in a view")
	case expr.KSubject, expr.KRole:
		return fmt.Errorf("auth_subject() and auth_role() cannot be used in a view")
	}
	if n.Kind == expr.KCall && n.Func.Volatility != expr.Immutable {
		return fmt.Errorf("%s cannot be used in a view", n.Func.Signature())
	}
	for _, a := range n.Args {
		if err := pure(a); err != nil {
			return err
		}
	}
	return nil
}

func newFilter(n *Filter, errors *errorLog) (*filter, error) {
	l := change.NewLayout(n.In.Columns())
	fs, err := compileAll([]*expr.Node{n.Cond}, l)
	if err != nil {
		return nil, err
	}
	return &filter{cond: fs[0], in: l, errors: errors}, nil
}

func newProject(n *Project, errors *errorLog) (*project, error) {
	l := change.NewLayout(n.In.Columns())
	fs, err := compileAll(n.Exprs, l)
	if err != nil {
		return nil, err
	}
	p := &project{exprs: fs, in: l, layout: change.NewLayout(n.Columns()), errors: errors, vals: make([]change.Value, len(fs))}
	if cols := plainColumns(n.Exprs); cols != nil {
		k := newPicker(l, p.layout, cols)
		p.pick = &k
	}
	return p, nil
}
