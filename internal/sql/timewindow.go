package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// maxHops bounds in how many windows of hop a row may be: each is a row of its own.
const maxHops = 1000

// maxWindow is the longest width of a window, in microseconds: about 1,000 years.
const maxWindow = 1000 * 366 * dayMicros

// timeWindowCall is a call of tumble, hop or session in FROM.
type timeWindowCall struct {
	q     *query
	call  *syntax.Call
	name  string
	in    *bound
	table string                 // the name of what it reads
	args  []syntax.Expr          // by position
	named map[string]syntax.Expr // by name
}

// timeWindow plans tumble(t, col, width [, offset]), hop(t, col, slide, width [, offset]) and session(t, col, gap [, partition_by => k]).
func (q *query) timeWindow(r *syntax.RangeCall) *bound {
	w := &timeWindowCall{q: q, call: r.Calls[0].X.(*syntax.Call), named: map[string]syntax.Expr{}}
	w.name = w.call.Name.Last().Text
	switch c := q.c; {
	case r.Ordinality:
		c.fail(r.Span, "number the rows with row_number() OVER (ORDER BY ..)", "WITH ORDINALITY is not supported for %s", w.name)
	case len(r.Columns) > 0 || len(r.Calls[0].Columns) > 0:
		c.fail(r.Span, "name the columns alone: AS t (a, b)", "column definitions are not supported for %s", w.name)
	}
	w.arguments()
	w.in = q.relationArg(w.args[0])
	w.table = w.args[0].(*syntax.ColumnRef).Names.Last().Text
	time := w.timeColumn(w.args[1])
	keep := make([]int, len(w.in.cols))
	for i := range keep {
		keep[i] = i
	}
	b := &bound{cols: slices.Clone(w.in.cols)}
	for _, name := range []string{"window_start", "window_end"} {
		b.cols = append(b.cols, app.Column{Name: name, Type: w.in.cols[time].Type, NotNull: true})
	}
	b.cols[time].NotNull = true // a row without a time is in no window
	if w.name == "session" {
		b.plan = &flow.Session{In: w.in.plan, Keep: keep, Time: time, Gap: w.length(w.args[2], "gap"), Partition: w.partition()}
		return b
	}
	p := &flow.Window{In: w.in.plan, Keep: keep, Time: time}
	w.widths(p)
	b.plan = p
	return b
}

// signature is how a function is called.
func (w *timeWindowCall) signature() string {
	return map[string]string{"tumble": "tumble(table, column, width)", "hop": "hop(table, column, slide, width)", "session": "session(table, column, gap)"}[w.name]
}

// last is the name of the argument that may be left out.
func (w *timeWindowCall) last() string {
	if w.name == "session" {
		return "partition_by"
	}
	return "offset"
}

// arguments sorts the arguments of the call.
func (w *timeWindowCall) arguments() {
	c, e := w.q.c, w.call
	if e.Star || e.Distinct || e.Variadic || e.Within || len(e.OrderBy) > 0 || e.Filter != nil || e.Over != nil {
		c.fail(e.Span, "write "+w.signature(), "%s is a function in FROM and takes plain arguments", w.name)
	}
	for _, a := range e.Args {
		switch {
		case a.Name == nil && len(w.named) > 0:
			c.fail(a.X.At(), "", "arguments with a name come last")
		case a.Name == nil:
			w.args = append(w.args, a.X)
		case a.Name.Text != w.last():
			c.fail(a.Name.Span, "the one with a name is "+w.last()+"; write "+w.signature(), "%s has no argument named %s", w.name, quoted(a.Name.Text))
		case w.named[a.Name.Text] != nil:
			c.fail(a.Name.Span, "", "the argument %s is given twice", a.Name.Text)
		default:
			w.named[a.Name.Text] = a.X
		}
	}
	needed := 3
	if w.name == "hop" {
		needed = 4
	}
	if len(w.args) == needed+1 && len(w.named) == 0 {
		w.named[w.last()], w.args = w.args[needed], w.args[:needed]
	}
	if len(w.args) != needed {
		c.fail(e.Span, "for example: FROM "+w.example(), "%s takes %s: %s", w.name, plural(needed, "argument"), strings.TrimPrefix(w.signature(), w.name))
	}
}

func (w *timeWindowCall) example() string {
	return map[string]string{"tumble": "tumble(bids, at, interval '10 seconds')", "hop": "hop(bids, at, interval '2 seconds', interval '10 seconds')",
		"session": "session(bids, at, interval '10 seconds', partition_by => bidder)"}[w.name]
}

// column finds a column of what the function reads.
func (w *timeWindowCall) column(e syntax.Expr, what string) int {
	c := w.q.c
	ref, ok := e.(*syntax.ColumnRef)
	if !ok || ref.Star {
		c.fail(e.At(), "name a column of "+quoted(w.table)+"; compute it before in WITH name AS (SELECT ..)", "the %s of %s must be a column", what, w.name)
	}
	name := ref.Names.Last().Text
	if len(ref.Names) > 1 && ref.Names[len(ref.Names)-2].Text != w.table {
		c.fail(ref.Span, "name a column of "+quoted(w.table), "%s reads %s", w.name, quoted(w.table))
	}
	found := -1
	for i, col := range w.in.cols {
		if col.Name == name {
			if found >= 0 {
				c.fail(ref.Span, "", "column %s is ambiguous in %s", quoted(name), quoted(w.table))
			}
			found = i
		}
	}
	if found < 0 {
		c.fail(ref.Span, didYouMean(name, columnNames(w.in.cols)), "column %s does not exist in %s", quoted(name), quoted(w.table))
	}
	return found
}

func (w *timeWindowCall) timeColumn(e syntax.Expr) int {
	i := w.column(e, "time column")
	if t := w.in.cols[i].Type; t != app.Timestamptz && t != app.Timestamp {
		var names []string
		for _, col := range w.in.cols {
			if col.Type == app.Timestamptz || col.Type == app.Timestamp {
				names = append(names, col.Name)
			}
		}
		hint := quoted(w.table) + " has no column of type timestamptz or timestamp"
		if len(names) > 0 {
			hint = "of " + quoted(w.table) + " it can be " + strings.Join(names, " or ")
		}
		w.q.c.fail(e.At(), hint, "the time column of %s must be timestamptz or timestamp, and %s is %s", w.name, quoted(w.in.cols[i].Name), t)
	}
	return i
}

// interval evaluates a constant interval in microseconds.
func (w *timeWindowCall) interval(e syntax.Expr, what string) int64 {
	c, at := w.q.c, e.At()
	b := &binder{c: c, clause: "the " + what + " of " + w.name, view: true}
	n, err := expr.Implicit(b.expr(e), app.Interval, at.Pos)
	if err != nil {
		c.fail(at, "for example: interval '10 seconds'", "the %s of %s must be an interval", what, w.name)
	}
	if n.Kind != expr.KConst || n.Value.Null {
		c.fail(at, "for example: interval '10 seconds'", "the %s of %s must be a constant", what, w.name)
	}
	months, days, us := expr.IntervalFields(n.Value)
	if months != 0 {
		c.fail(at, "write interval '30 days', or group by month: GROUP BY date_trunc('month', col)",
			"the %s of %s cannot be in months or years, which differ in length", what, w.name)
	}
	if max(us, -us) > maxWindow || max(int64(days), -int64(days)) > maxWindow/dayMicros {
		c.fail(at, "", "the %s of %s is longer than 1000 years", what, w.name)
	}
	return int64(days)*dayMicros + us
}

// length is an interval above 0.
func (w *timeWindowCall) length(e syntax.Expr, what string) int64 {
	n := w.interval(e, what)
	if n <= 0 {
		w.q.c.fail(e.At(), "for example: interval '10 seconds'", "the %s of %s must be longer than nothing", what, w.name)
	}
	return n
}

// widths sets the lengths of a tumble or hop.
func (w *timeWindowCall) widths(p *flow.Window) {
	c := w.q.c
	if w.name == "tumble" {
		p.Width = w.length(w.args[2], "width")
		p.Slide = p.Width
	} else {
		p.Slide, p.Width = w.length(w.args[2], "slide"), w.length(w.args[3], "width")
	}
	switch {
	case p.Slide > p.Width:
		c.fail(w.args[2].At(), "the slide comes first, then the width: "+w.example(), "the slide of hop is longer than its width: rows between would be in no window")
	case (p.Width+p.Slide-1)/p.Slide > maxHops:
		c.fail(w.args[2].At(), "take a longer slide", "each row would be in %d windows, and %d is the most", (p.Width+p.Slide-1)/p.Slide, maxHops)
	}
	if e := w.named["offset"]; e != nil {
		p.Offset = ((w.interval(e, "offset") % p.Slide) + p.Slide) % p.Slide
	}
}

// partition returns the columns by which sessions are told apart.
func (w *timeWindowCall) partition() []int {
	e := w.named["partition_by"]
	if e == nil {
		return nil
	}
	list := []syntax.Expr{e}
	if row, ok := e.(*syntax.Row); ok {
		list = row.Items
	}
	var cols []int
	for _, x := range list {
		if i := w.column(x, "partition_by"); !slices.Contains(cols, i) {
			cols = append(cols, i)
		}
	}
	return cols
}
