package flow

import (
	"bytes"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// sessionSum is an aggregate directly over a session, grouped by the session, over an input that never takes rows back: one step that keeps
// accumulators instead of rows and adds them up when sessions merge. Its rows are those that the two would make.
//
// spans has the sessions: partition (its columns as a row) and first time → last time, the batch that touched it last, the number of rows and
// the accumulators' states.
type sessionSum struct {
	where    expr.Func
	in       *change.Layout
	time     instant
	pick     picker // the partition's columns
	part     *change.Layout
	gap      int64
	keys     []int // column of part; sessionStart, sessionEnd
	aggs     []sessionAgg
	direct   bool // nothing has to be evaluated
	size     int  // of a value of spans
	out      *change.Layout
	spans    tree
	ends     sessionEnds
	touched  []touchedSession
	errors   *errorLog
	result   []delta
	vals     []change.Value
	key, val []byte
}

const (
	sessionStart = -1
	sessionEnd   = -2

	// The places in a value of spans.
	spanBatch  = 8
	spanRows   = 16
	spanStates = 24
)

// sessionAgg is one aggregate function over sessions.
type sessionAgg struct {
	accumulator
	rows   bool      // count(*): the session's own number of rows
	column int       // the argument, when it is a plain column, else -1
	arg    expr.Func // nil: none, or a plain column
	filter expr.Func // nil: none
	at     int       // of its state
	size   int
	val    change.Value // of the row at hand
	skip   bool         // FILTER left the row at hand out
}

// touchedSession is a session that the batch touched, by its key in spans, and its row before.
type touchedSession struct {
	key []byte
	old change.Row // nil: there was none
	err error      // why there was none, though there was the session
}

// sessionOf returns the session that a plan aggregates when both can be one step over rows that never go; nil when they cannot.
func sessionOf(plan Plan) *Session {
	p, ok := plan.(*Aggregate)
	if !ok || len(p.Aggs) == 0 {
		return nil
	}
	s, ok := p.In.(*Session)
	if !ok {
		return nil
	}
	part := sessionKeys(p, s)
	if part == nil {
		return nil
	}
	in := s.In.Columns()
	for _, c := range s.Partition {
		if !canonicalType(in[c]) {
			return nil // a group shows the first form of equal values
		}
	}
	for i := range p.Aggs {
		g := &p.Aggs[i]
		switch g.Func {
		case CountRows, Count, Sum, Avg, Min, Max:
		default:
			return nil
		}
		if g.Distinct || len(g.Sort) > 0 || g.Arg2 != nil || readsWindow(g.Arg, len(s.Keep)) || readsWindow(g.Filter, len(s.Keep)) {
			return nil
		}
		if acc, err := newAccumulator(g, lifetime{appends: true}); err != nil || !mergeable(acc) {
			return nil
		}
	}
	return s
}

// sessionKeys returns what each key of p is, a place in s.Partition or the session's start or end; nil when the keys do not stand for
// the session.
func sessionKeys(p *Aggregate, s *Session) []int {
	keys := make([]int, len(p.Keys))
	seen := make([]bool, len(s.Partition))
	window := false
	for i, k := range p.Keys {
		switch {
		case k.Kind != expr.KColumn:
			return nil
		case k.Col == len(s.Keep):
			keys[i], window = sessionStart, true
		case k.Col == len(s.Keep)+1:
			keys[i], window = sessionEnd, true
		default:
			keys[i] = -3
			for j, c := range s.Partition {
				if c == s.Keep[k.Col] {
					keys[i], seen[j] = j, true
				}
			}
			if keys[i] == -3 {
				return nil
			}
		}
	}
	for _, ok := range seen {
		window = window && ok
	}
	if !window {
		return nil
	}
	return keys
}

// readsWindow reports whether an expression over a session's columns, of which the first n are kept ones, reads its start or end.
func readsWindow(n *expr.Node, kept int) (yes bool) {
	if n != nil {
		n.Columns(func(c int) { yes = yes || c >= kept })
	}
	return yes
}

// renamed returns n over the columns that cols names.
func renamed(n *expr.Node, cols []int) *expr.Node {
	if n == nil {
		return nil
	}
	c := *n
	if c.Kind == expr.KColumn {
		c.Col = cols[c.Col]
	}
	c.Args = make([]*expr.Node, len(n.Args))
	for i, a := range n.Args {
		c.Args[i] = renamed(a, cols)
	}
	return &c
}

// newSessionSum returns the one step for p over s, which sessionOf returned.
func newSessionSum(p *Aggregate, s *Session, log *errorLog) (operator, error) {
	if _, err := newSession(s, log); err != nil {
		return nil, err
	}
	in, err := readTimes(s.In, s.Time, s.Where)
	if err != nil {
		return nil, err
	}
	part := typesAt(s.In.Columns(), s.Partition)
	a := &sessionSum{where: in.where, in: in.layout, time: instantOf(in.layout, s.Time), part: change.NewLayout(part), gap: s.Gap,
		keys: sessionKeys(p, s), out: change.NewLayout(p.Columns()), spans: newTree(), errors: log, size: spanStates, direct: true,
		vals: make([]change.Value, len(p.Keys)+len(p.Aggs))}
	a.pick = newPicker(in.layout, a.part, s.Partition)
	for i := range p.Aggs {
		g, err := newSessionAgg(&p.Aggs[i], s.Keep, in.layout)
		if err != nil {
			return nil, err
		}
		g.at = a.size
		a.size += g.size
		a.direct = a.direct && g.arg == nil && g.filter == nil
		a.aggs = append(a.aggs, g)
	}
	if s.Closes {
		table, err := closingTable(s.In)
		if err != nil {
			return nil, err
		}
		a.ends = newSessionEnds(table, s.Gap)
	}
	return a, nil
}

// typesAt returns the types of some columns.
func typesAt(types []app.Type, cols []int) []app.Type {
	out := make([]app.Type, len(cols))
	for i, c := range cols {
		out[i] = types[c]
	}
	return out
}

func newSessionAgg(g *Agg, keep []int, in *change.Layout) (s sessionAgg, err error) {
	s.column = -1
	if s.accumulator, err = newAccumulator(g, lifetime{appends: true}); err != nil {
		return s, err
	}
	if g.Func == CountRows && g.Filter == nil {
		s.rows = true
		return s, nil
	}
	s.size = s.fixed()
	if g.Filter != nil {
		fs, err := compileAll([]*expr.Node{renamed(g.Filter, keep)}, in)
		if err != nil {
			return s, err
		}
		s.filter = fs[0]
	}
	switch {
	case g.Arg == nil:
	case g.Arg.Kind == expr.KColumn:
		s.column = keep[g.Arg.Col]
	default:
		fs, err := compileAll([]*expr.Node{renamed(g.Arg, keep)}, in)
		if err != nil {
			return s, err
		}
		s.arg = fs[0]
	}
	return s, nil
}

func (a *sessionSum) apply(x *exec, in []delta) []delta {
	a.touched, a.result = a.touched[:0], a.result[:0]
	late := a.ends.late(x)
	for i := range in {
		d := &in[i]
		var b *behind
		if len(late) > 0 && late[0].index == i {
			b, late = &late[0], late[1:]
		}
		if t, ok := a.read(x, d); ok {
			part := a.key[:len(a.key)-8]
			if b == nil || a.ends.admits(x, &a.spans, part, t, d.row, *b) {
				a.add(x, d, part, t)
			}
		}
	}
	for i := range a.touched {
		a.show(x, &a.touched[i])
	}
	a.free(x)
	return a.result
}

// read computes what is needed of a row: its partition and time in a.key, and the arguments of the aggregates. It is false when the row is
// in no session.
func (a *sessionSum) read(x *exec, d *delta) (int64, bool) {
	if a.where != nil || !a.direct {
		x.ctx.Reset()
		x.ctx.Row = d.row
	}
	if a.where != nil {
		v, err := a.where(&x.ctx)
		if err != nil {
			a.errors.add(x, a.in, d.row, err, d.w)
			return 0, false
		}
		if !v.True() {
			return 0, false
		}
	}
	t, ok := a.time.get(d.row)
	if !ok {
		return 0, false
	}
	if t < minAt || t > maxAt-a.gap {
		a.errors.add(x, a.in, d.row, errTimeRange(), d.w)
		return 0, false
	}
	if !a.direct {
		if err := a.evaluate(&x.ctx); err != nil {
			a.errors.add(x, a.in, d.row, err, d.w)
			return 0, false
		}
	}
	a.key = appendTime(a.pick.pick(a.key[:0], d.row), t)
	return t, true
}

func (a *sessionSum) evaluate(c *expr.Ctx) (err error) {
	for i := range a.aggs {
		g := &a.aggs[i]
		if g.filter != nil {
			v, err := g.filter(c)
			if err != nil {
				return err
			}
			g.skip = !v.True()
		}
		if g.arg != nil && !g.skip {
			if g.val, err = g.arg(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// add puts a row at t into the session that it touches, into what two sessions become through it, or into one of its own. a.key is its
// partition, part, and t.
func (a *sessionSum) add(x *exec, d *delta, part []byte, t int64) {
	c := a.spans.floor(a.key)
	mine := c.valid() && samePartition(c.key(), part)
	var follow cursor
	if mine {
		o := spanAt(&c)
		if t <= o.last {
			a.touch(x, &c)
			a.count(d, c.edit())
			return
		}
		follow, mine = c, t-o.last < a.gap
		follow.next()
	} else {
		follow = a.spans.seek(a.key)
	}
	joins := follow.valid() && samePartition(follow.key(), part) && timeOfKey(follow.key()[len(part):])-t < a.gap
	switch {
	case mine:
		a.touch(x, &c)
		v := c.edit()
		putInt(v, t)
		a.count(d, v)
		if joins {
			a.touch(x, &follow)
			a.merge(v, follow.value())
			a.key = append(a.key[:0], follow.key()...)
			a.spans.add(a.key, nil, -1)
		}
	case joins:
		a.touch(x, &follow)
		a.val = append(a.val[:0], follow.value()...)
		a.count(d, a.val)
		old := x.scratch.copy(follow.key())
		a.spans.add(old, nil, -1)
		a.open(x, part)
	default:
		a.val = append(a.val[:0], make([]byte, a.size)...)
		putInt(a.val, t)
		putInt(a.val[spanBatch:], int64(x.batch))
		a.count(d, a.val)
		a.open(x, part)
	}
}

// open makes a.val the session that begins at a.key.
func (a *sessionSum) open(x *exec, part []byte) {
	a.spans.add(a.key, a.val, 1)
	a.ends.opened(part, sessionSpan{timeOfKey(a.key[len(part):]), getInt(a.val)})
	a.touched = append(a.touched, touchedSession{key: x.scratch.copy(a.key)})
}

// touch notes what a session showed before the batch changes it.
func (a *sessionSum) touch(x *exec, c *cursor) {
	if getInt(c.value()[spanBatch:]) == int64(x.batch) {
		return
	}
	v := c.edit()
	putInt(v[spanBatch:], int64(x.batch))
	t := touchedSession{key: x.scratch.copy(c.key())}
	t.old, t.err = a.row(x, t.key, v)
	a.touched = append(a.touched, t)
}

// count adds the row at hand to a session.
func (a *sessionSum) count(d *delta, v []byte) {
	putInt(v[spanRows:], getInt(v[spanRows:])+d.w)
	for i := range a.aggs {
		g := &a.aggs[i]
		if g.rows || g.skip {
			continue
		}
		val := g.val
		if g.column >= 0 {
			val = a.in.Get(d.row, g.column)
		}
		if !val.Null {
			g.add(0, v[g.at:g.at+g.size], val, d.w)
		}
	}
}

// merge adds what the session in from has to that in to and lets go of from.
func (a *sessionSum) merge(to, from []byte) {
	putInt(to, max(getInt(to), getInt(from)))
	putInt(to[spanRows:], getInt(to[spanRows:])+getInt(from[spanRows:]))
	for i := range a.aggs {
		g := &a.aggs[i]
		if !g.rows {
			mergeStates(g.accumulator, to[g.at:g.at+g.size], from[g.at:g.at+g.size])
		}
	}
}

// row returns what a session shows.
func (a *sessionSum) row(x *exec, key, v []byte) (change.Row, error) {
	part := change.Row(key[:len(key)-8])
	for i, k := range a.keys {
		switch k {
		case sessionStart:
			a.vals[i] = change.Int(timeOfKey(key[len(part):]))
		case sessionEnd:
			a.vals[i] = change.Int(getInt(v) + a.gap)
		default:
			a.vals[i] = a.part.Get(part, k)
		}
	}
	for i := range a.aggs {
		g := &a.aggs[i]
		val := change.Int(getInt(v[spanRows:]))
		if !g.rows {
			var err error
			if val, err = g.accumulator.result(x, 0, v[g.at:g.at+g.size]); err != nil {
				return nil, err
			}
		}
		a.vals[len(a.keys)+i] = val
	}
	return x.scratch.row(a.out, a.vals), nil
}

// show emits how a touched session's row changed.
func (a *sessionSum) show(x *exec, t *touchedSession) {
	var row change.Row
	var err error
	c := a.spans.seek(t.key)
	if c.valid() && bytes.Equal(c.key(), t.key) {
		row, err = a.row(x, t.key, c.value())
	}
	if t.err != nil {
		a.errors.add(x, a.part, t.key[:len(t.key)-8], nil, -1)
	}
	if err != nil {
		a.errors.add(x, a.part, t.key[:len(t.key)-8], err, 1)
	}
	if bytes.Equal(t.old, row) {
		return
	}
	if t.old != nil {
		a.result = append(a.result, delta{t.old, -1})
	}
	if row != nil {
		a.result = append(a.result, delta{row, 1})
	}
}

// free forgets the sessions that no row can touch any more.
func (a *sessionSum) free(x *exec) {
	for part, o, ok := a.ends.next(x, &a.spans); ok; part, o, ok = a.ends.next(x, &a.spans) {
		a.key = appendTime(append(a.key[:0], part...), o.first)
		c := a.spans.seek(a.key)
		v := c.value()
		for i := range a.aggs {
			if g := &a.aggs[i]; !g.rows {
				g.accumulator.free(0, v[g.at:g.at+g.size])
			}
		}
		a.spans.add(a.key, nil, -1)
	}
}

func (a *sessionSum) due(x *exec) bool { return a.ends.due(x) }
func (a *sessionSum) next() int64      { return never }

func (a *sessionSum) bytes() int {
	n := a.spans.bytes() + a.ends.bytes()
	for i := range a.aggs {
		n += a.aggs[i].bytes()
	}
	return n
}

func (a *sessionSum) state(k *keeper) {
	k.tree(&a.spans)
	a.ends.state(k)
	for i := range a.aggs {
		a.aggs[i].accumulator.state(k)
	}
}

func (a *sessionSum) name() string { return "sessions" }

// mergeable reports whether mergeStates knows the accumulator.
func mergeable(acc accumulator) bool {
	switch a := acc.(type) {
	case countOf, intSum, extremeNumber, *extreme:
		return true
	case averageOf:
		return mergeable(a.averager)
	}
	return false
}

// mergeStates adds what is in from to what is in to and lets go of what from holds beside itself.
func mergeStates(acc accumulator, to, from []byte) {
	switch a := acc.(type) {
	case countOf:
		putInt(to, getInt(to)+getInt(from))
	case intSum:
		addWords(to[:16], []uint64{getWord(from, 0), getWord(from, 1)})
		putInt(to[16:], getInt(to[16:])+getInt(from[16:]))
	case averageOf:
		mergeStates(a.averager, to, from)
	case extremeNumber:
		if getInt(from[8:]) != 0 {
			a.add(0, to, change.Int(getInt(from)), 1)
		}
	case *extreme:
		if key, val := leastOf(&a.slab, from); key != nil {
			a.key, a.val = append(a.key[:0], key...), append(a.val[:0], val...)
			keepLeast(&a.slab, to, a.key, a.val)
			a.free(0, from)
		}
	}
}
