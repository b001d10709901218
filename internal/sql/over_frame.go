package sql

import (
	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// windowOf binds what follows OVER.
func (b *binder) windowOf(w *windowCall, spec *syntax.Window) {
	full := *spec
	if spec.Name != nil {
		full = *b.namedWindow(*spec.Name)
	} else if spec.Ref != nil {
		full = *b.refined(spec)
	}
	for _, e := range full.Partition {
		if n := expr.Settle(b.expr(e)); n.Kind != expr.KConst {
			w.partition = append(w.partition, n)
		}
	}
	w.sort = b.sortKeys(full.OrderBy)
	w.call.Frame = b.frameOf(&full, w.sort)
	if w.call.Func != flow.OverAggregate && w.call.Func < flow.OverFirstValue { // they see the whole partition, whatever the frame
		w.call.Frame = flow.Frame{Lo: flow.FrameEnd{Unbounded: true, Preceding: true}}
	}
}

// checkWindow binds a definition of the WINDOW clause for its errors.
func (b *binder) checkWindow(w *syntax.Window) {
	for _, other := range b.q.sel.Windows {
		if other != w && other.Name.Text == w.Name.Text && other.Name.Pos < w.Name.Pos {
			b.c.fail(w.Name.Span, "", "window %s is defined twice", quoted(w.Name.Text))
		}
	}
	inner := *b
	inner.window = true
	inner.windowOf(&windowCall{call: flow.OverCall{Func: flow.OverAggregate}}, &syntax.Window{Span: w.Span, Name: w.Name})
}

// namedWindow finds a window of the WINDOW clause.
func (b *binder) namedWindow(name syntax.Name) *syntax.Window {
	var names []string
	for i, w := range b.q.sel.Windows {
		if w.Name.Text != name.Text {
			names = append(names, w.Name.Text)
			continue
		}
		if w.Ref == nil {
			return w
		}
		for _, later := range b.q.sel.Windows[i:] { // a definition may refine an earlier one
			if later.Name.Text == w.Ref.Text {
				b.c.fail(w.Ref.Span, "define it above", "window %s does not exist", quoted(w.Ref.Text))
			}
		}
		return b.refined(w)
	}
	b.c.fail(name.Span, didYouMean(name.Text, names), "window %s does not exist", quoted(name.Text))
	return nil
}

// refined puts a definition together with the window that it refines.
func (b *binder) refined(w *syntax.Window) *syntax.Window {
	c, base := b.c, b.namedWindow(*w.Ref)
	name := quoted(w.Ref.Text)
	switch {
	case len(w.Partition) > 0:
		c.fail(w.Partition[0].At(), "leave PARTITION BY out here, or write the window in full", "PARTITION BY of window %s cannot be replaced", name)
	case len(w.OrderBy) > 0 && len(base.OrderBy) > 0:
		c.fail(w.OrderBy[0].Span, "leave ORDER BY out here, or write the window in full", "ORDER BY of window %s cannot be replaced", name)
	case base.Mode != syntax.NoFrame:
		c.fail(w.Ref.Span, "to use it as it is, leave the parentheses out: OVER "+w.Ref.Text, "window %s has a frame and cannot be refined", name)
	}
	full := *w
	full.Partition = base.Partition
	if len(full.OrderBy) == 0 {
		full.OrderBy = base.OrderBy
	}
	return &full
}

// frameOf binds a frame. PostgreSQL's default is from the start of the partition to the last peer of the current row.
func (b *binder) frameOf(spec *syntax.Window, sort []flow.SortKey) flow.Frame {
	f := flow.Frame{Lo: flow.FrameEnd{Unbounded: true, Preceding: true}, Exclude: flow.FrameExclude(spec.Exclude)}
	switch spec.Mode {
	case syntax.NoFrame, syntax.Range:
		f.Mode = flow.FrameRange
	case syntax.Rows:
		f.Mode = flow.FrameRows
	case syntax.Groups:
		f.Mode = flow.FrameGroups
	}
	if f.Mode == flow.FrameGroups && len(spec.OrderBy) == 0 {
		b.c.fail(spec.Span, "add ORDER BY to the window", "GROUPS needs ORDER BY")
	}
	if spec.Mode != syntax.NoFrame {
		f.Lo = b.frameEnd(spec, spec.Lo, &f, sort)
		if spec.Between {
			f.Hi = b.frameEnd(spec, spec.Hi, &f, sort)
		}
	}
	if f.Mode == flow.FrameRange && len(sort) == 0 { // all rows are peers
		if f.Lo.By == nil {
			f.Lo = flow.FrameEnd{Unbounded: true, Preceding: true}
		}
		if f.Hi.By == nil {
			f.Hi = flow.FrameEnd{Unbounded: true}
		}
	}
	return f
}

func (b *binder) frameEnd(spec *syntax.Window, end syntax.Bound, f *flow.Frame, sort []flow.SortKey) flow.FrameEnd {
	switch end.Kind {
	case syntax.UnboundedPreceding:
		return flow.FrameEnd{Unbounded: true, Preceding: true}
	case syntax.UnboundedFollowing:
		return flow.FrameEnd{Unbounded: true}
	case syntax.CurrentRow:
		return flow.FrameEnd{}
	}
	preceding := end.Kind == syntax.Preceding
	at := end.X.At()
	inner := &binder{c: b.c, clause: "a frame", view: true}
	n := inner.expr(end.X)
	if f.Mode == flow.FrameRange {
		return flow.FrameEnd{By: b.rangeOffset(spec, n, sort, at), Preceding: preceding}
	}
	n, err := expr.Implicit(n, app.Int8, at.Pos)
	v := b.frameConstant(b.c.must(n, err, at), at)
	if v.N < 0 {
		b.c.fail(at, "", "the offset of a frame cannot be negative")
	}
	if preceding {
		return flow.FrameEnd{Offset: -v.N}
	}
	return flow.FrameEnd{Offset: v.N}
}

// frameConstant evaluates the offset of a frame.
func (b *binder) frameConstant(n *expr.Node, at span) change.Value {
	if n.Kind != expr.KConst {
		b.c.fail(at, "for example: 2 PRECEDING", "the offset of a frame must be a constant")
	}
	if n.Value.Null {
		b.c.fail(at, "", "the offset of a frame cannot be NULL")
	}
	return n.Value
}

// rangeOffset checks the offset of a RANGE frame: of a type that can be added to the one sort column.
func (b *binder) rangeOffset(spec *syntax.Window, n *expr.Node, sort []flow.SortKey, at span) *expr.Node {
	c := b.c
	if len(spec.OrderBy) != 1 || len(sort) != 1 {
		c.fail(at, "order by one column, or count rows: ROWS BETWEEN ..", "RANGE with an offset needs exactly one ORDER BY column")
	}
	t := sort[0].X.Type
	to := app.Unknown
	switch t {
	case app.Int4, app.Int8:
		to = app.Int8
	case app.Float8, app.Numeric:
		to = t
	case app.Timestamptz, app.Timestamp, app.Date, app.Interval:
		to = app.Interval
	default:
		c.fail(at, "count rows instead: ROWS BETWEEN ..", "RANGE with an offset is not supported over %s", t)
	}
	out, err := expr.Implicit(n, to, at.Pos)
	if err != nil {
		c.fail(at, "write an offset of type "+to.String(), "RANGE over %s cannot have an offset of type %s", t, n.Type)
	}
	b.frameConstant(out, at)
	zero, err := expr.Cast(expr.StringLit("0", at.Pos), to, at.Pos)
	zero = c.must(zero, err, at)
	if expr.Compare(to, out.Value, zero.Value) < 0 {
		c.fail(at, "", "the offset of a frame cannot be negative")
	}
	if to == app.Float8 || to == app.Numeric {
		nan, err := expr.Cast(expr.StringLit("NaN", at.Pos), to, at.Pos)
		if nan = c.must(nan, err, at); expr.Compare(to, out.Value, nan.Value) == 0 {
			c.fail(at, "", "the offset of a frame cannot be NaN")
		}
	}
	return out
}
