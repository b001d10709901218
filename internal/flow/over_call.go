package flow

import (
	"fmt"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// overCall is one window function in its place.
type overCall struct {
	f     OverFunc
	index int // in the row of results
	frame *overFrame
	args  []expr.Func
	far   int64 // lag and lead: the offset when it is constant (lead's is negative), else noOffset

	// An aggregate: its state in a partition's entry is at at: where the frame that acc holds begins and ends (8 bytes each), and acc's.
	acc   accumulator
	input *aggInput
	at    int
	only  bool // rows cannot be taken out of acc
}

const (
	noOffset   = -1 << 62
	frameBytes = 16
)

func (c *overCall) size() int { return frameBytes + c.acc.fixed() }

// compile makes c compute p.
func (o *over) compile(c *overCall, p *OverCall, appendOnly bool) (err error) {
	c.f, c.far = p.Func, noOffset
	if c.args, err = compileAll(p.Args, o.layout); err != nil {
		return err
	}
	switch p.Func {
	case OverRowNumber, OverRank, OverDenseRank, OverPercentRank, OverCumeDist:
		return argCount(p, 0, 0)
	case OverNtile:
		return argCount(p, 1, 1)
	case OverLag, OverLead:
		c.far = constantOffset(p)
		return argCount(p, 1, 3)
	case OverFirstValue, OverLastValue, OverNthValue:
		n := 1
		if p.Func == OverNthValue {
			n = 2
		}
		if err := argCount(p, n, n); err != nil {
			return err
		}
		c.frame, err = o.newFrame(&p.Frame)
		return err
	case OverAggregate:
		if c.frame, err = o.newFrame(&p.Frame); err != nil {
			return err
		}
		return o.compileAggregate(c, &p.Agg, appendOnly)
	}
	return fmt.Errorf("unknown function %d", p.Func)
}

func argCount(p *OverCall, least, most int) error {
	if len(p.Args) < least || len(p.Args) > most {
		return fmt.Errorf("%d arguments", len(p.Args))
	}
	return nil
}

// constantOffset returns by how many rows lag (lead: minus that) looks back, noOffset when that depends on the row.
func constantOffset(p *OverCall) int64 {
	n := int64(1)
	if len(p.Args) > 1 {
		a := p.Args[1]
		if a.Kind != expr.KConst || a.Value.Null {
			return noOffset
		}
		n = clampOffset(a.Value.N)
	}
	if p.Func == OverLead {
		return -n
	}
	return n
}

// compileAggregate chooses the accumulator. Over frames that only grow, and rows that only come, those that need not give anything
// back keep less. Aggregates that depend on the order of their input take it in the order of the frame.
func (o *over) compileAggregate(c *overCall, g *Agg, appendOnly bool) (err error) {
	if takesEntries(g.Func) && len(g.Sort) == 0 {
		with := *g
		for _, keys := range [][]sortKey{o.sort, o.rest} {
			for _, k := range keys {
				with.Sort = append(with.Sort, SortKey{expr.Column(k.col, o.layout.Type(k.col), -1), k.desc, k.nullsFirst})
			}
		}
		g = &with
	}
	if c.input, err = newAggInput(g, o.layout); err != nil {
		return err
	}
	switch g.Func {
	case Min, Max, AnyValue, BitAnd, BitOr, First:
		c.only = appendOnly && c.frame.grows()
	}
	c.acc, err = newAccumulator(g, lifetime{appends: c.only, closes: true})
	return err
}

func (c *overCall) needsPeers() bool {
	switch c.f {
	case OverRank, OverDenseRank, OverPercentRank, OverCumeDist:
		return true
	}
	return c.frame != nil && c.frame.needsPeers()
}

// start returns the first position whose result a change at the spot can reach.
func (c *overCall) start(o *over, s *spot) int64 {
	switch c.f {
	case OverRowNumber, OverRank, OverDenseRank:
		return s.pos
	case OverLag, OverLead:
		if c.far == noOffset {
			return 0
		}
		return s.pos + min(c.far, 0)
	case OverPercentRank, OverCumeDist, OverNtile:
		return 0
	}
	return c.frame.start(o, s)
}

// settled reports whether results from the row at hand on, which is behind reach, cannot see a change up to reach.
func (c *overCall) settled(o *over, at *overPlace, reach int64) bool {
	switch c.f {
	case OverRowNumber:
		return c.same(o, at, at.i+1)
	case OverRank:
		return at.gs > reach && c.same(o, at, at.gs+1)
	case OverDenseRank:
		return at.gs > reach && c.same(o, at, c.denseRank(o, at))
	case OverLag, OverLead:
		return c.far != noOffset && at.i > reach+max(c.far, 0)
	case OverPercentRank, OverCumeDist, OverNtile:
		return false
	}
	f := c.frame
	return f.err == nil && f.from > reach && (f.exclude < ExcludeGroup || at.gs > reach)
}

// same reports whether the row's result was n already. Behind the last change, that holds for all rows behind it then.
func (c *overCall) same(o *over, at *overPlace, n int64) bool {
	v := overRow(at.value())
	return v[0] == rowShown && o.results.Get(v.results(), c.index).N == n
}

// frames finds the frames of the row at hand.
func (o *over) frames(_ *exec, at *overPlace) {
	for i := range o.calls {
		if f := o.calls[i].frame; f != nil {
			f.find(o, at)
		}
	}
}

// compute returns the function's result for the row at hand, whose frame was found. It lives until the batch ends or, where it is part
// of a row, until that is stored anew.
func (c *overCall) compute(x *exec, o *over, at *overPlace) (change.Value, error) {
	n := o.p.n
	switch c.f {
	case OverRowNumber:
		return change.Int(at.i + 1), nil
	case OverRank:
		return change.Int(at.gs + 1), nil
	case OverDenseRank:
		return change.Int(c.denseRank(o, at)), nil
	case OverPercentRank:
		if n <= 1 {
			return change.Float(0), nil
		}
		return change.Float(float64(at.gs) / float64(n-1)), nil
	case OverCumeDist:
		return change.Float(float64(at.ge) / float64(n)), nil
	case OverNtile:
		return c.ntile(x, o, at)
	case OverLag, OverLead:
		return c.neighbour(x, o, at)
	}
	if c.frame.err != nil {
		return change.Null(), c.frame.err
	}
	if c.f == OverAggregate {
		return c.aggregate(x, o, at)
	}
	return c.pick(x, o, at)
}

// denseRank follows from the row ahead, whose result is up to date.
func (c *overCall) denseRank(o *over, at *overPlace) int64 {
	rank, ahead := int64(1), at.gs
	for ahead > 0 {
		v := o.rowAt(ahead - 1)
		if v[0] == rowShown {
			return rank + o.results.Get(v.results(), c.index).N
		}
		rank++
		cur, _ := o.rows.at(o.p.base + ahead - 1)
		ahead = o.rows.before(cur.key()[:v.peer()]) - o.p.base
	}
	return rank
}

// evaluate returns an argument over a row; the bytes of a value that was made live until the batch ends.
func (c *overCall) evaluate(x *exec, arg int, row change.Row) (change.Value, error) {
	x.ctx.Reset()
	x.ctx.Row = row
	v, err := c.args[arg](&x.ctx)
	if err == nil && len(v.B) > 0 {
		v.B = x.scratch.copy(v.B)
	}
	return v, err
}

// evaluable reports why an argument fails on a row.
func (o *over) evaluable(x *exec, row change.Row) error {
	for i := range o.calls {
		c := &o.calls[i]
		x.ctx.Reset()
		x.ctx.Row = row
		for _, f := range c.args {
			if _, err := f(&x.ctx); err != nil {
				return err
			}
		}
		if c.input != nil {
			if _, _, err := c.input.value(&x.ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// ntile goes by the argument over the partition's first row, as PostgreSQL does.
func (c *overCall) ntile(x *exec, o *over, at *overPlace) (change.Value, error) {
	v, err := c.evaluate(x, 0, o.rowAt(0).row())
	if err != nil || v.Null {
		return change.Null(), err
	}
	k := v.N
	if k <= 0 {
		return change.Null(), &expr.EvalError{Code: "invalid_argument_for_ntile_function", Msg: "argument of ntile must be greater than zero"}
	}
	size, more := o.p.n/k, o.p.n%k // the first more buckets have one row more
	if at.i < more*(size+1) {
		return change.Int(at.i/(size+1) + 1), nil
	}
	return change.Int((at.i-more*(size+1))/size + more + 1), nil
}

// neighbour is lag and lead.
func (c *overCall) neighbour(x *exec, o *over, at *overPlace) (change.Value, error) {
	n := int64(1)
	if len(c.args) > 1 {
		v, err := c.evaluate(x, 1, at.row)
		if err != nil || v.Null {
			return change.Null(), err
		}
		n = clampOffset(v.N)
	}
	if c.f == OverLag {
		n = -n
	}
	pos := at.i + n
	if pos >= 0 && pos < o.p.n {
		return c.evaluate(x, 0, o.rowAt(pos).row())
	}
	if len(c.args) > 2 {
		return c.evaluate(x, 2, at.row)
	}
	return change.Null(), nil
}

// pick is first_value, last_value and nth_value.
func (c *overCall) pick(x *exec, o *over, at *overPlace) (change.Value, error) {
	n := int64(1)
	if c.f == OverNthValue {
		v, err := c.evaluate(x, 1, at.row)
		if err != nil || v.Null {
			return change.Null(), err
		}
		if n = v.N; n <= 0 {
			return change.Null(), &expr.EvalError{Code: "invalid_argument_for_nth_value_function",
				Msg: "argument of nth_value must be greater than zero"}
		}
	}
	parts := c.frame.parts(at)
	if c.f == OverLastValue {
		for i := len(parts) - 1; i >= 0; i-- {
			if p := parts[i]; p.from < p.to {
				return c.evaluate(x, 0, o.rowAt(p.to-1).row())
			}
		}
		return change.Null(), nil
	}
	for _, p := range parts {
		if size := max(p.to-p.from, 0); n > size {
			n -= size
			continue
		}
		return c.evaluate(x, 0, o.rowAt(p.from+n-1).row())
	}
	return change.Null(), nil
}

// stretch is the rows from one position up to before another; none when to is not above from.
type stretch struct{ from, to int64 }

// parts returns the frame of the row at hand without what is excluded.
func (f *overFrame) parts(at *overPlace) [3]stretch {
	gone, keep := f.excluded(at)
	return [3]stretch{{f.from, min(f.to, gone.from)}, {max(f.from, keep.from), min(f.to, keep.to)}, {max(f.from, gone.to), f.to}}
}

// excluded returns the rows that the frame leaves out, but for those of keep.
func (f *overFrame) excluded(at *overPlace) (gone, keep stretch) {
	switch f.exclude {
	case ExcludeCurrent:
		return stretch{at.i, at.i + 1}, stretch{}
	case ExcludeGroup:
		return stretch{at.gs, at.ge}, stretch{}
	case ExcludeTies:
		return stretch{at.gs, at.ge}, stretch{at.i, at.i + 1}
	}
	return stretch{f.to, f.to}, stretch{}
}
