package flow

// dueLimit is how many rows may leave, or appear, because time passed, per stamp: after a long pause the engine's time catches up in
// steps of about so many. Rows that are due at one and the same microsecond go together.
const dueLimit = 50_000

// clocked is what has something due at times of the engine's now().
type clocked interface {
	// waiting returns how many rows are due at until or before, or any larger number when they are more than limit.
	waiting(until, limit int64) int64
	// next returns when the first is due; never when none waits.
	next() int64
}

// marked is what has something due when a watermark has come to a time.
type marked interface {
	// awaits returns the tables and the mark; never when nothing waits.
	awaits() ([]int, int64)
}

// clock is the engine's time.
type clock struct {
	now      int64 // at most the stamp; less while rows that are due leave in steps
	started  bool
	stamp    int64 // of the last batch
	clocked  []clocked
	marked   []marked
	expiring []*tableState // tables whose rows leave by themselves
}

// add takes note of an operator that has something due when time passes.
func (c *clock) add(op any) {
	if k, ok := op.(clocked); ok {
		c.clocked = append(c.clocked, k)
	}
	if k, ok := op.(marked); ok {
		c.marked = append(c.marked, k)
	}
}

func (c *clock) state(k *keeper) {
	k.flag(&c.started)
	k.i64(&c.stamp)
	k.i64(&c.now)
}

// begin moves the time on to a batch's stamp, or as far as dueLimit lets it. It reports whether the stamp is new: only then does anything
// move, so that batches of one stamp are as one.
func (c *clock) begin(stamp int64) bool {
	if c.started && stamp == c.stamp {
		return false
	}
	if !c.started {
		c.now = minTime
	}
	c.started, c.stamp = true, stamp
	c.now = c.reach(stamp)
	return true
}

// reach returns the latest time up to stamp by which at most dueLimit rows are due, but at least the first time at which any is.
func (c *clock) reach(stamp int64) int64 {
	if c.waiting(stamp) <= dueLimit {
		return stamp
	}
	lo, hi := max(c.now, c.first()), stamp // what is due at lo goes, not all that is due at hi
	for hi-lo > 1 {
		mid := lo + (hi-lo)/2
		if c.waiting(mid) <= dueLimit {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

func (c *clock) waiting(until int64) (n int64) {
	for _, k := range c.clocked {
		if n > dueLimit {
			return n
		}
		n += k.waiting(until, dueLimit-n)
	}
	return n
}

func (c *clock) first() int64 {
	at := int64(never)
	for _, k := range c.clocked {
		at = min(at, k.next())
	}
	return at
}

// NextDue returns when, by the log's time in microseconds, a batch without entries would change something because time passed: a row
// leaves or appears by now() or by its table's ttl, or a watermark that moves with the log's time lets a window out. It is above the last
// stamp; math.MaxInt64 when nothing waits. It must not run at the same time as Apply.
func (e *Engine) NextDue() int64 {
	c := &e.clock
	if !c.started {
		return never
	}
	if c.now < c.stamp {
		return c.stamp + 1
	}
	at := c.first()
	for _, k := range c.marked {
		if tables, mark := k.awaits(); mark != never {
			at = min(at, e.marks.reaches(tables, mark, c.stamp))
		}
	}
	if at == never {
		return never
	}
	return max(at, c.stamp+1)
}

// reaches returns the stamp after the last one at which the tables' watermark comes to mark when no row comes until then; never if it does
// not.
func (m *marks) reaches(tables []int, mark, stamp int64) int64 {
	var g *together
	if len(tables) > 1 {
		g = m.find(tables)
	} else if len(tables) == 1 && m.of[tables[0]] != nil {
		g = &together{of: []*watermark{m.of[tables[0]]}}
	}
	if g == nil {
		return never
	}
	end := max(mark, stamp+1) // by then whoever moves with the log's time is there
	for _, w := range g.of {
		if w == nil {
			return never
		}
		end = max(end, mark+w.idle+w.lateness, w.last+w.idle)
	}
	// Between the times at which tables fall quiet the mark only grows.
	for lo := stamp; lo < end; {
		hi := end
		for _, w := range g.of {
			if q := w.last + w.idle - 1; q > lo && q < hi {
				hi = q
			}
		}
		if at := g.first(lo, hi, mark); at != never {
			return at
		}
		lo = hi
	}
	return never
}

// first returns the first stamp above lo and up to hi at which the mark is there; never if it is not at hi.
func (g *together) first(lo, hi, mark int64) int64 {
	if g.later(hi) < mark {
		return never
	}
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; g.later(mid) >= mark {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi
}

// later returns the mark at a later stamp when no row comes until then.
func (g *together) later(stamp int64) int64 {
	return g.at(stamp, func(w *watermark) bool { return stamp-w.last >= w.idle })
}
