package flow

import (
	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// gate lets a row through while its clock is between two times of the row.
//
// waiting has the rows whose visibility will still change: a row that is not yet visible under the time at which it will be, a visible one
// under the time at which it will not be any more. A row that is visible for ever, or not ever again, is nowhere.
type gate struct {
	from, until expr.Func // nil: no bound
	in          *change.Layout
	tables      []int // nil: the clock is now()
	rows        tree  // time, gateFrom or gateUntil, row; weighing how often the row is there
	clock       int64
	due         []dueRow // scratch
	errors      *errorLog
	out         []delta
	key         []byte
}

// What happens at the time in a key of a gate's tree.
const (
	gateFrom  = 0 // the row becomes visible
	gateUntil = 1 // it ceases to be
	gateHead  = 9 // bytes ahead of the row
)

// dueRow is an entry of a gate's tree whose time has come.
type dueRow struct {
	key []byte
	w   int64
}

// newGate returns the operator of p.
func newGate(p *Gate, log *errorLog) (operator, error) {
	g := &gate{in: change.NewLayout(p.In.Columns()), tables: p.Tables, rows: newTree(), clock: minTime, errors: log}
	for _, c := range []struct {
		n *expr.Node
		f *expr.Func
	}{{p.From, &g.from}, {p.Until, &g.until}} {
		if c.n == nil {
			continue
		}
		if c.n.Type != app.Timestamptz && c.n.Type != app.Timestamp {
			return nil, errGateType(c.n.Type)
		}
		fs, err := compileAll([]*expr.Node{c.n}, g.in)
		if err != nil {
			return nil, err
		}
		*c.f = fs[0]
	}
	if g.tables == nil {
		return &clockGate{g}, nil
	}
	return &markGate{g}, nil
}

// errGateType is what a plan gets whose bound is no time.
func errGateType(t app.Type) error {
	return &expr.EvalError{Code: "datatype_mismatch", Msg: "a bound of a gate is " + t.String()}
}

// clockGate is a gate whose clock is now().
type clockGate struct{ *gate }

func (g *clockGate) apply(x *exec, in []delta) []delta { return g.gate.apply(x, in, x.now) }
func (g *clockGate) due(x *exec) bool                  { return g.first() <= x.now }
func (g *clockGate) next() int64                       { return g.first() }
func (g *clockGate) name() string                      { return "while now" }

// waiting implements [clocked].
func (g *clockGate) waiting(until, _ int64) int64 {
	if until == never {
		return g.rows.total()
	}
	g.key = appendTime(g.key[:0], until+1)
	return g.rows.before(g.key)
}

// markGate is a gate whose clock is a watermark.
type markGate struct{ *gate }

func (g *markGate) apply(x *exec, in []delta) []delta { return g.gate.apply(x, in, x.latest(g.tables)) }
func (g *markGate) due(x *exec) bool                  { return g.first() <= x.latest(g.tables) }
func (g *markGate) next() int64                       { return never }
func (g *markGate) awaits() ([]int, int64)            { return g.tables, g.first() }
func (g *markGate) name() string                      { return "while watermark" }

// first returns when the first row is due; never when none waits.
func (g *gate) first() int64 {
	if c := g.rows.first(); c.valid() {
		return timeOfKey(c.key())
	}
	return never
}

func (g *gate) apply(x *exec, in []delta, clock int64) []delta {
	g.out = g.out[:0]
	if clock > g.clock {
		g.clock = clock
		g.fire(x)
	}
	for i := range in {
		d := &in[i]
		from, until, err := g.bounds(x, d.row)
		switch {
		case err != nil:
			g.errors.add(x, g.in, d.row, err, d.w)
		case until != never && until <= g.clock || from >= until: // gone, or never there
		case from > g.clock:
			g.wait(from, gateFrom, d.row, d.w)
		default:
			g.wait(until, gateUntil, d.row, d.w)
			g.out = append(g.out, *d)
		}
	}
	return g.out
}

// fire lets the rows in and out whose time has come.
func (g *gate) fire(x *exec) {
	g.due = g.due[:0]
	for c := g.rows.first(); c.valid() && timeOfKey(c.key()) <= g.clock; c.next() {
		g.due = append(g.due, dueRow{x.scratch.copy(c.key()), c.weight()})
	}
	for _, d := range g.due {
		g.rows.add(d.key, nil, -d.w)
		row := change.Row(d.key[gateHead:])
		if d.key[gateHead-1] == gateUntil {
			g.out = append(g.out, delta{row, -d.w})
			continue
		}
		// What was computed when the row came is computed again: it cannot fail now.
		if _, until, _ := g.bounds(x, row); until > g.clock {
			g.wait(until, gateUntil, row, d.w)
			g.out = append(g.out, delta{row, d.w})
		}
	}
}

// bounds returns from when to when the row is visible, infinitely early and late where there is no bound; the same time twice when it
// never is.
func (g *gate) bounds(x *exec, row change.Row) (from, until int64, err error) {
	from, until = minTime, never
	x.ctx.Reset()
	x.ctx.Row = row
	if g.from != nil {
		v, err := g.from(&x.ctx)
		if err != nil {
			return 0, 0, err
		}
		if v.Null {
			return never, never, nil
		}
		from = v.N
	}
	if g.until != nil {
		v, err := g.until(&x.ctx)
		if err != nil {
			return 0, 0, err
		}
		if v.Null {
			return never, never, nil
		}
		until = v.N
	}
	return from, until, nil
}

// wait notes what will happen to w copies of the row; at infinity nothing ever happens.
func (g *gate) wait(at int64, what byte, row change.Row, w int64) {
	if at == never {
		return
	}
	g.key = append(appendTime(g.key[:0], at), what)
	g.key = append(g.key, row...)
	g.rows.add(g.key, nil, w)
}

func (g *gate) bytes() int { return g.rows.bytes() }

func (g *gate) state(k *keeper) {
	k.tree(&g.rows)
	k.i64(&g.clock)
}
