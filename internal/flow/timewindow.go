package flow

import (
	"fmt"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// The times that a row can have: infinities, which are in no window, lie outside. As PostgreSQL's, they begin on 4714-11-24 BC; as ours,
// they end where 64 bits do.
const (
	minTime = -1 << 63
	dayUs   = 86400 * 1000 * 1000
	minDay  = -2440588
	maxDay  = (1<<63-1)/dayUs - 2
	minAt   = minDay * dayUs
	maxAt   = (maxDay + 1) * dayUs
)

// maxWidth bounds windows, slides and gaps, in microseconds: about 36,000 years.
const maxWidth = 1 << 60

// timeWindow puts rows into windows of fixed width. It keeps no state.
type timeWindow struct {
	where      expr.Func // nil: all rows
	in         *change.Layout
	time       instant
	pick       picker
	start, end instant // in the output
	width      int64
	slide      int64
	offset     int64 // from 0 to slide
	last       int64 // start of the last window that the row at hand is in, or could be in; kept since the next row's is mostly the same
	closes     bool
	table      int // with closes
	errors     *errorLog
	out        []delta
}

// newTimeWindow returns the operator of p.
func newTimeWindow(p *Window, log *errorLog) (operator, error) {
	if p.Width <= 0 || p.Slide <= 0 || p.Width > maxWidth || p.Slide > maxWidth {
		return nil, fmt.Errorf("a window of %d microseconds every %d", p.Width, p.Slide)
	}
	in, err := readTimes(p.In, p.Time, p.Where)
	if err != nil {
		return nil, err
	}
	out := change.NewLayout(p.Columns())
	n := len(p.Keep)
	w := &timeWindow{where: in.where, in: in.layout, time: instantOf(in.layout, p.Time), pick: newPicker(in.layout, out, p.Keep),
		start: instantOf(out, n), end: instantOf(out, n+1), width: p.Width, slide: p.Slide, offset: floorMod(p.Offset, p.Slide), errors: log}
	w.last = minAt - p.Slide
	if p.Closes {
		w.closes = true
		if w.table, err = closingTable(p.In); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// timedInput is what windows, sessions and gates read.
type timedInput struct {
	layout *change.Layout
	where  expr.Func
}

func readTimes(in Plan, time int, where *expr.Node) (timedInput, error) {
	l := change.NewLayout(in.Columns())
	if time < 0 || time >= l.Columns() || l.Type(time) != app.Timestamptz && l.Type(time) != app.Timestamp {
		return timedInput{}, fmt.Errorf("column %d is not a time", time)
	}
	t := timedInput{layout: l}
	if where != nil {
		fs, err := compileAll([]*expr.Node{where}, l)
		if err != nil {
			return t, err
		}
		t.where = fs[0]
	}
	return t, nil
}

// closingTable returns the table whose watermark closes what reads it directly.
func closingTable(in Plan) (int, error) {
	s, ok := in.(*Scan)
	if !ok {
		return 0, fmt.Errorf("it closes windows over %T", in)
	}
	return s.Relation, nil
}

func floorMod(a, b int64) int64 {
	if a %= b; a < 0 {
		a += b
	}
	return a
}

func (w *timeWindow) apply(x *exec, in []delta) []delta {
	w.out = w.out[:0]
	var late []behind
	if w.closes {
		late = x.late(w.table)
	}
	for i := range in {
		d := &in[i]
		b := behind{mark: minTime} // windows that end here or before take no row
		if w.closes {
			if d.w < 0 { // what leaves by itself does not change what is closed
				b.mark = x.markBefore(w.table)
			} else if len(late) > 0 && late[0].index == i {
				b, late = late[0], late[1:]
			}
		}
		if w.where != nil {
			x.ctx.Reset()
			x.ctx.Row = d.row
			v, err := w.where(&x.ctx)
			if err != nil {
				w.errors.add(x, w.in, d.row, err, d.w)
				continue
			}
			if !v.True() {
				continue
			}
		}
		t, ok := w.time.get(d.row)
		if !ok {
			continue
		}
		if uint64(t-w.last) >= uint64(w.slide) { // also when t is before it
			if t < minAt+w.width+w.slide || t > maxAt-w.width-w.slide {
				w.errors.add(x, w.in, d.row, errTimeRange(), d.w)
				continue
			}
			w.last = t - floorMod(t-w.offset, w.slide)
		}
		if w.assign(x, d, t, b); x.full() {
			break
		}
	}
	return w.out
}

// assign emits the row once for each window that has it and ends behind the mark of b, which is below all of them but for late rows.
func (w *timeWindow) assign(x *exec, d *delta, t int64, b behind) {
	if w.last+w.width <= b.mark {
		if d.w > 0 && t-w.last < w.width {
			x.divert(w.table, d.row, b)
		}
		return
	}
	first := len(x.scratch.buf)
	size := 0
	for s := w.last; t-s < w.width && s+w.width > b.mark; s -= w.slide {
		at := len(x.scratch.buf)
		if size == 0 {
			x.scratch.buf = w.pick.pick(x.scratch.buf, d.row)
			size = len(x.scratch.buf) - at
		} else {
			x.scratch.buf = append(x.scratch.buf, x.scratch.buf[first:first+size]...)
		}
		row := x.scratch.buf[at : at+size : at+size]
		w.start.set(row, s)
		w.end.set(row, s+w.width)
		w.out = append(w.out, delta{row, d.w})
	}
}

// errTimeRange is the error of a row whose time has no window.
func errTimeRange() error {
	return &expr.EvalError{Code: "datetime_field_overflow", Msg: "timestamp out of range"}
}

func (w *timeWindow) bytes() int  { return 0 }
func (*timeWindow) state(*keeper) {}

func (w *timeWindow) name() string {
	if w.slide == w.width {
		return "tumble"
	}
	return "hop"
}
