package flow

import "laaster/internal/change"

// held returns the accumulator's state in the partition at hand, from where the frame that it holds is noted on.
func (c *overCall) held(o *over) []byte { return o.p.state[c.at : c.at+c.size()] }

// feed counts a row w times.
func (c *overCall) feed(x *exec, o *over, row change.Row, w int64) {
	x.ctx.Reset()
	x.ctx.Row = row
	v, counts, err := c.input.value(&x.ctx)
	if err != nil || !counts { // an error was found when the row arrived: such rows are not here
		return
	}
	c.acc.add(o.p.r, c.held(o)[frameBytes:], v, w)
}

// feedAll counts w times the rows from one position up to before another.
func (c *overCall) feedAll(x *exec, o *over, from, to, w int64) {
	if from >= to {
		return
	}
	cur, _ := o.rows.at(o.p.base + from)
	for ; from < to; from++ {
		c.feed(x, o, overRow(cur.value()).row(), w)
		cur.next()
	}
}

// reset makes the accumulator hold nothing.
func (c *overCall) reset(o *over) {
	held := c.held(o)
	c.acc.free(o.p.r, held[frameBytes:])
	clear(held)
}

// shift keeps the accumulators in step when a row came to position pos of the partition at hand, or went from it.
func (o *over) shift(x *exec, pos int64, row change.Row, w int64) {
	for i := range o.calls {
		c := &o.calls[i]
		if c.acc == nil {
			continue
		}
		held := c.held(o)
		from, to := getInt(held), getInt(held[8:])
		switch {
		case pos >= to:
			continue
		case pos < from:
			putInt(held, from+w)
		case c.only:
			c.reset(o)
			continue
		default:
			c.feed(x, o, row, w)
		}
		putInt(held[8:], to+w)
	}
}

// moveTo makes the accumulator hold the rows from one position up to before another: row by row from where it stands, or anew when
// that is shorter.
func (c *overCall) moveTo(x *exec, o *over, from, to int64) {
	held := c.held(o)
	a, b := getInt(held), getInt(held[8:])
	if a == from && b == to {
		return
	}
	slide := magnitude(a-from) + magnitude(b-to)
	switch {
	case from >= b || to <= a || slide > uint64(to-from), c.only && (from != a || to < b):
		c.reset(o)
		c.feedAll(x, o, from, to, 1)
	default:
		c.feedAll(x, o, from, a, 1)
		c.feedAll(x, o, b, to, 1)
		c.feedAll(x, o, a, from, -1)
		c.feedAll(x, o, to, b, -1)
	}
	putInt(held, from)
	putInt(held[8:], to)
}

// aggregate returns the aggregate over the frame of the row at hand.
func (c *overCall) aggregate(x *exec, o *over, at *overPlace) (change.Value, error) {
	f := c.frame
	c.moveTo(x, o, f.from, f.to)
	gone, keep := f.excluded(at)
	c.leave(x, o, gone, keep, -1)
	v, err := c.acc.result(x, o.p.r, c.held(o)[frameBytes:])
	if err == nil && len(v.B) > 0 && (f.exclude != ExcludeNone || len(o.calls) > 1) {
		v.B = x.scratch.copy(v.B)
	}
	c.leave(x, o, gone, keep, 1)
	return v, err
}

// leave counts w times the rows of the frame that are gone from it, but for those of keep.
func (c *overCall) leave(x *exec, o *over, gone, keep stretch, w int64) {
	if gone.from >= gone.to {
		return
	}
	f := c.frame
	from, to := max(gone.from, f.from), min(gone.to, f.to)
	if keep.from < keep.to {
		c.feedAll(x, o, from, min(to, keep.from), w)
		from = max(from, keep.to)
	}
	c.feedAll(x, o, from, to, w)
}
