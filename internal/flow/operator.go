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
	// ends). It is called once per batch in which the input changed, and at the engine's first batch.
	apply(x *exec, in []delta) []delta
	// bytes is the memory that the operator's state holds.
	bytes() int
	// name is what EXPLAIN and metrics call the operator.
	name() string
}

// step is an operator in its place, counted.
type step struct {
	operator
	in, out uint64 // rows, removals included
}

// view is one running view.
type view struct {
	rel    *expr.Relation
	from   int    // the relation it reads
	steps  []step // from the scan to the root
	sink   sink
	errors errorLog
}

// run takes what changed in the relation that the view reads and returns what changed in the view, consolidated.
func (v *view) run(x *exec, in []delta) ([]delta, error) {
	for i := range v.steps {
		s := &v.steps[i]
		if len(in) == 0 && !x.first {
			return nil, nil
		}
		s.in += uint64(len(in))
		in = s.apply(x, in)
		s.out += uint64(len(in))
	}
	return v.sink.take(x, in)
}

// errorLog counts the rows that are missing from a view because an expression failed on them.
type errorLog struct {
	rows int64
	last [errorsKept]ErrorReason
	next int
}

// errorsKept is how many reasons an errorLog keeps.
const errorsKept = 8

// ErrorReason is why a row is missing from a view.
type ErrorReason struct {
	Seq    uint64 // the batch that brought the row; 0: no reason
	Reason string // what the expression said, such as "division by zero"
}

// add counts w rows that fail with err; negative w takes them back, whatever err is.
func (l *errorLog) add(x *exec, err error, w int64) {
	l.rows += w
	if w > 0 {
		l.last[l.next] = ErrorReason{x.seq, err.Error()}
		l.next = (l.next + 1) % errorsKept
	}
}

// reasons returns the kept reasons, newest first.
func (l *errorLog) reasons() []ErrorReason {
	var out []ErrorReason
	for i := range errorsKept {
		if r := l.last[(l.next+errorsKept-1-i)%errorsKept]; r.Seq != 0 {
			out = append(out, r)
		}
	}
	return out
}

// filter keeps the rows for which cond is true.
type filter struct {
	cond   expr.Func
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
			f.errors.add(x, err, d.w)
			continue
		}
		if v.True() {
			f.out = append(f.out, d)
		}
	}
	return f.out
}

func (f *filter) bytes() int   { return 0 }
func (f *filter) name() string { return "filter" }

// project computes a row from each row.
type project struct {
	exprs  []expr.Func
	layout *change.Layout
	errors *errorLog
	vals   []change.Value
	out    []delta
}

func (p *project) apply(x *exec, in []delta) []delta {
	p.out = p.out[:0]
	for _, d := range in {
		x.ctx.Reset()
		x.ctx.Row = d.row
		if err := evaluate(&x.ctx, p.exprs, p.vals); err != nil {
			p.errors.add(x, err, d.w)
			continue
		}
		p.out = append(p.out, delta{x.scratch.row(p.layout, p.vals), d.w})
	}
	return p.out
}

func (p *project) bytes() int   { return 0 }
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
	for _, a := range n.Args {
		if err := pure(a); err != nil {
			return err
		}
	}
	return nil
}
