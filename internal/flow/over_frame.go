package flow

import (
	"bytes"
	"fmt"
	"math"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// endKind is how one end of a frame is found.
type endKind uint8

const (
	endEdge   endKind = iota // the partition's beginning or end
	endRows                  // so many rows from the current one
	endGroups                // so many groups of peers from the current one
	endPeers                 // the current row's peers
	endRange                 // rows whose sort value is so far from the current one's
)

// overEnd is one end of a frame. As positions a frame is from lo up to before hi.
type overEnd struct {
	kind   endKind
	last   bool // endEdge: the end, not the beginning
	offset int64
	by     *mover
}

// overFrame is the frame of one function, and where it lies for the row at hand.
type overFrame struct {
	lo, hi   overEnd
	exclude  FrameExclude
	from, to int64 // from <= to
	err      error
}

// newFrame compiles f over rows in o's order.
func (o *over) newFrame(f *Frame) (*overFrame, error) {
	lo, err := o.newEnd(f.Mode, &f.Lo, false)
	if err != nil {
		return nil, err
	}
	hi, err := o.newEnd(f.Mode, &f.Hi, true)
	if err != nil {
		return nil, err
	}
	return &overFrame{lo: lo, hi: hi, exclude: f.Exclude}, nil
}

func (o *over) newEnd(mode FrameMode, e *FrameEnd, hi bool) (overEnd, error) {
	switch {
	case e.Unbounded:
		return overEnd{kind: endEdge, last: !e.Preceding}, nil
	case mode == FrameRows:
		return overEnd{kind: endRows, offset: clampOffset(e.Offset)}, nil
	case mode == FrameGroups:
		return overEnd{kind: endGroups, offset: clampOffset(e.Offset)}, nil
	case e.By == nil:
		return overEnd{kind: endPeers}, nil
	case len(o.sort) != 1:
		return overEnd{}, fmt.Errorf("RANGE with an offset over %d sort columns", len(o.sort))
	}
	by, err := newMover(o.rowOrder, e.By, e.Preceding, hi)
	return overEnd{kind: endRange, by: by}, err
}

// clampOffset keeps offsets where adding them to a position cannot overflow.
func clampOffset(n int64) int64 { return min(max(n, -1<<40), 1<<40) }

func (f *overFrame) needsPeers() bool {
	return f.lo.kind >= endGroups || f.hi.kind >= endGroups || f.exclude >= ExcludeGroup
}

// grows reports whether frames only ever take rows in from one row to the next.
func (f *overFrame) grows() bool {
	return f.lo.kind == endEdge && !f.lo.last && f.exclude == ExcludeNone
}

// find sets from and to for the row at hand.
func (f *overFrame) find(o *over, at *overPlace) {
	if f.from, f.err = o.end(&f.lo, at, false); f.err == nil {
		f.to, f.err = o.end(&f.hi, at, true)
	}
	f.to = max(f.to, f.from)
}

// end returns the position at which an end of the frame of the row at hand lies: for hi the position behind it.
func (o *over) end(e *overEnd, at *overPlace, hi bool) (int64, error) {
	one := int64(0)
	if hi {
		one = 1
	}
	n := o.p.n
	switch e.kind {
	case endEdge:
		if e.last {
			return n, nil
		}
		return 0, nil
	case endRows:
		return min(max(at.i+e.offset+one, 0), n), nil
	case endGroups:
		return o.group(at.gs, at.ge, e.offset+one), nil
	case endRange:
		v := o.layout.Get(at.row, o.sort[0].col)
		if !v.Null {
			return e.by.position(o, v, hi)
		}
	}
	if hi {
		return at.ge, nil
	}
	return at.gs, nil
}

// group returns the position where the group of peers begins that is by groups behind the one from gs to ge.
func (o *over) group(gs, ge, by int64) int64 {
	for ; by < 0 && gs > 0; by++ {
		c, _ := o.rows.at(o.p.base + gs - 1)
		gs = o.rows.before(c.key()[:overRow(c.value()).peer()]) - o.p.base
	}
	if by <= 0 {
		return gs
	}
	for ; by > 1 && ge < o.p.n; by-- {
		c, _ := o.rows.at(o.p.base + ge)
		ge = o.groupEnd(&c, c.key()[:overRow(c.value()).peer()], ge)
	}
	return ge
}

// start returns the first position whose frame a change at the spot can be in.
func (f *overFrame) start(o *over, s *spot) int64 {
	switch e := &f.hi; e.kind {
	case endRows:
		first := s.pos - max(e.offset, 0)
		if f.exclude >= ExcludeGroup {
			first = min(first, o.rows.before(s.key)-o.p.base)
		}
		return first
	case endPeers, endGroups:
		first := o.rows.before(s.key) - o.p.base
		if e.kind == endGroups && e.offset > 0 {
			first = o.group(first, first, -e.offset)
		}
		return first
	case endRange:
		return o.firstInRange(e.by, s)
	}
	if f.hi.last {
		return 0
	}
	return min(s.pos, o.rows.before(s.key)-o.p.base)
}

// firstInRange returns the first position whose frame reaches the spot's sort value, or that of its peers.
func (o *over) firstInRange(by *mover, s *spot) int64 {
	first := o.rows.before(s.key) - o.p.base
	lo, hi := int64(0), first
	target := o.layout.Get(s.row, o.sort[0].col)
	for lo < hi {
		mid := (lo + hi) / 2
		v := o.layout.Get(o.rowAt(mid).row(), o.sort[0].col)
		if by.reaches(o, v, target) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// mover finds the end of a frame that is a distance in the sort column away.
type mover struct {
	*rowOrder
	t       app.Type
	back    bool      // towards smaller values: PRECEDING in an ascending order
	by      expr.Func // the distance
	moved   expr.Func // value ∓ distance, over a row of the one value; nil: computed here
	cell    *change.Layout
	hi      bool
	ctx     expr.Ctx
	row, at []byte
}

func newMover(order *rowOrder, by *expr.Node, preceding, hi bool) (*mover, error) {
	k := order.sort[0]
	m := &mover{rowOrder: order, t: order.layout.Type(k.col), back: preceding != k.desc, hi: hi}
	m.cell = change.NewLayout([]app.Type{m.t})
	var err error
	if m.by, err = compileOne(by, change.NewLayout(nil)); err != nil {
		return nil, err
	}
	switch {
	case (m.t == app.Int4 || m.t == app.Int8) && (by.Type == app.Int4 || by.Type == app.Int8), m.t == app.Float8 && by.Type == app.Float8:
		return m, nil
	}
	op := "+"
	if m.back {
		op = "-"
	}
	n, err := expr.Operator(op, []*expr.Node{expr.Column(0, m.t, -1), by}, -1)
	if err != nil {
		return nil, fmt.Errorf("RANGE with an offset of type %s over a column of type %s: %w", by.Type, m.t, err)
	}
	if n.Type != m.t && (m.t != app.Date || n.Type != app.Timestamp) {
		return nil, fmt.Errorf("RANGE with an offset of type %s over a column of type %s", by.Type, m.t)
	}
	m.moved, err = compileOne(n, m.cell)
	return m, err
}

// Where a moved value lies that is beyond all values of its type.
const (
	inside = 0
	above  = 1
	below  = -1
)

// move returns v moved by the distance, or where it went.
func (m *mover) move(v change.Value) (change.Value, int, error) {
	m.ctx.Reset()
	by, err := m.by(&m.ctx)
	if err != nil {
		return v, inside, err
	}
	switch {
	case m.t == app.Float8:
		return m.moveFloat(v.Float(), by.Float())
	case m.moved == nil:
		return m.moveInteger(v.N, by.N)
	}
	if m.t == app.Numeric {
		if a, b := change.DecodeNumeric(v.B).Kind, change.DecodeNumeric(by.B).Kind; b == change.NumericPosInf &&
			(m.back && a == change.NumericPosInf || !m.back && a == change.NumericNegInf) {
			if m.everything() == above {
				return by, inside, nil
			}
			return v, below, nil
		}
	}
	m.row = m.cell.Append(m.row[:0], []change.Value{v})
	m.ctx.Row = m.row
	to, err := m.moved(&m.ctx)
	if err == nil && m.t == app.Date {
		to = m.date(to)
	}
	return to, inside, err
}

// everything is where an infinite value lies when it is moved infinitely far towards the other values: PostgreSQL takes all rows in.
func (m *mover) everything() int {
	if m.hi != m.sort[0].desc {
		return above
	}
	return below
}

func (m *mover) moveInteger(n, by int64) (change.Value, int, error) {
	if m.back {
		by = -by
	}
	to := n + by
	lo, hi := int64(math.MinInt64), int64(math.MaxInt64)
	if m.t == app.Int4 {
		lo, hi = math.MinInt32, math.MaxInt32
	}
	switch {
	case by > 0 && (to < n || to > hi):
		return change.Value{}, above, nil
	case by < 0 && (to > n || to < lo):
		return change.Value{}, below, nil
	}
	return change.Int(to), inside, nil
}

func (m *mover) moveFloat(f, by float64) (change.Value, int, error) {
	if math.IsNaN(f) {
		return change.Float(f), inside, nil
	}
	if m.back {
		by = -by
	}
	if to := f + by; !math.IsNaN(to) {
		return change.Float(to), inside, nil
	}
	if m.everything() == above {
		return change.Float(math.Inf(1)), inside, nil
	}
	return change.Float(math.Inf(-1)), inside, nil
}

// date returns the date that bounds the frame when a date was moved to the time to.
func (m *mover) date(to change.Value) change.Value {
	const day = 86_400_000_000
	switch to.N {
	case math.MaxInt64:
		return change.Int(math.MaxInt32)
	case math.MinInt64:
		return change.Int(math.MinInt32)
	}
	days, rest := to.N/day, to.N%day
	if rest < 0 {
		days, rest = days-1, rest+day
	}
	if rest > 0 && m.hi == m.sort[0].desc { // the frame begins at the next whole day above
		days++
	}
	return change.Int(days)
}

// key appends the key of where the frame of a row with sort value v ends, behind prefix.
func (m *mover) key(dst, prefix []byte, v change.Value) ([]byte, error) {
	dst = append(dst, prefix...)
	to, where, err := m.move(v)
	if err != nil {
		return dst, err
	}
	k := &m.sort[0]
	if where == inside {
		return change.AppendKey(dst, m.t, to, k.desc, k.nullsFirst), nil
	}
	// The first byte of keys of values that are not NULL is 1.
	if (where == above) != k.desc {
		return append(dst, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), nil
	}
	return append(dst, 1), nil
}

// position returns where the frame of a row with sort value v ends: the first position in it, for hi the first behind it.
func (m *mover) position(o *over, v change.Value, hi bool) (int64, error) {
	var err error
	if m.at, err = m.key(m.at[:0], o.p.key, v); err != nil {
		return 0, err
	}
	if !hi || len(m.at) == len(o.p.key)+1 {
		return o.rows.before(m.at) - o.p.base, nil
	}
	m.row = appendSuccessor(m.row[:0], m.at)
	return o.rows.before(m.row) - o.p.base, nil
}

// reaches reports whether the frame of a row with sort value v, which is ahead of target, goes up to target. It may say so when the
// frame does not, not the other way round.
func (m *mover) reaches(o *over, v, target change.Value) bool {
	if v.Null {
		return target.Null
	}
	var err error
	if m.at, err = m.key(m.at[:0], nil, v); err != nil {
		return true
	}
	k := &m.sort[0]
	m.row = change.AppendKey(m.row[:0], m.t, target, k.desc, k.nullsFirst)
	return bytes.Compare(m.row, m.at) <= 0
}
