package flow

import (
	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// expand emits a row once for every element of its arrays, side by side: the shorter ones go on with NULLs.
type expand struct {
	arrays     []expr.Func
	elems      []app.Type
	ordinality bool
	outer      bool
	in, layout *change.Layout
	errors     *errorLog
	vals       []change.Value // of the output row
	iters      []change.ArrayIter
	out        []delta
}

// newExpand returns the operator of p.
func newExpand(p *Expand, log *errorLog) (operator, error) {
	in := change.NewLayout(p.In.Columns())
	fs, err := compileAll(p.Arrays, in)
	if err != nil {
		return nil, err
	}
	types := p.Columns()
	e := &expand{arrays: fs, ordinality: p.Ordinality, outer: p.Outer, in: in, layout: change.NewLayout(types), errors: log,
		vals: make([]change.Value, len(types)), iters: make([]change.ArrayIter, len(fs))}
	for _, a := range p.Arrays {
		e.elems = append(e.elems, a.Type.Elem())
	}
	return e, nil
}

func (e *expand) apply(x *exec, in []delta) []delta {
	e.out = e.out[:0]
	for _, d := range in {
		x.ctx.Reset()
		x.ctx.Row = d.row
		n, err := e.open(&x.ctx)
		if err != nil {
			e.errors.add(x, e.in, d.row, err, d.w)
			continue
		}
		for i := range e.in.Columns() {
			e.vals[i] = e.in.Get(d.row, i)
		}
		if n == 0 && e.outer {
			for i := e.in.Columns(); i < len(e.vals); i++ {
				e.vals[i] = change.Null()
			}
			e.out = append(e.out, delta{x.scratch.row(e.layout, e.vals), d.w})
		}
		for i := range n {
			e.element(i)
			e.out = append(e.out, delta{x.scratch.row(e.layout, e.vals), d.w})
		}
		if x.full() {
			break
		}
	}
	return e.out
}

// open computes the row's arrays and returns the length of the longest; NULL has no elements.
func (e *expand) open(c *expr.Ctx) (n int, err error) {
	for i, f := range e.arrays {
		v, err := f(c)
		if err != nil {
			return 0, err
		}
		if e.iters[i] = change.IterateArray(v.B, e.elems[i]); v.Null {
			e.iters[i] = change.ArrayIter{}
		}
		n = max(n, e.iters[i].Len())
	}
	return n, nil
}

// element puts the next element of each array, and the ordinal of element i, into vals.
func (e *expand) element(i int) {
	at := e.in.Columns()
	for k := range e.iters {
		v, ok := e.iters[k].Next()
		if !ok {
			v = change.Null()
		}
		e.vals[at+k] = v
	}
	if e.ordinality {
		e.vals[at+len(e.iters)] = change.Int(int64(i) + 1)
	}
}

func (e *expand) bytes() int   { return 0 }
func (*expand) state(*keeper)  {}
func (e *expand) name() string { return "expand" }
