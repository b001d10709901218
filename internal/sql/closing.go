package sql

import (
	"slices"

	"laaster/internal/flow"
)

// timed sets what the watermark closes: windows, groups, partitions, and the rows that joins keep. It makes the scans on whose
// watermark that relies leave late rows out.
func (c *compiler) timed(p flow.Plan) flow.Plan {
	p = c.timedPart(p, map[flow.Plan]flow.Plan{})
	// One view reads one and the same rows of a table everywhere.
	var tables []int
	for _, x := range parentsFirst(p) {
		if s, ok := x.(*flow.Scan); ok && s.OnTime {
			tables = append(tables, s.Relation)
		}
	}
	if tables == nil {
		return p
	}
	return onTimeScans(p, tables, true, map[flow.Plan]flow.Plan{})
}

func (c *compiler) timedPart(p flow.Plan, done map[flow.Plan]flow.Plan) flow.Plan {
	if r := done[p]; r != nil {
		return r
	}
	r := c.close(withInputs(p, func(in flow.Plan) flow.Plan { return c.timedPart(in, done) }))
	done[p] = r
	return r
}

func (c *compiler) close(p flow.Plan) flow.Plan {
	switch p := p.(type) {
	case *flow.Window:
		if c.isEventTime(p.In, p.Time) {
			w := *p
			w.Closes = true
			return &w
		}
	case *flow.Session:
		if c.isEventTime(p.In, p.Time) {
			s := *p
			s.Closes = true
			return &s
		}
	case *flow.Aggregate:
		if len(p.Aggs) == 0 && len(p.Keys) == 0 {
			return p
		}
		a := *p
		a.Closes = c.windowEnd(&a, upTo(len(p.Keys)))
		return &a
	case *flow.TopN:
		t := *p
		t.Closes = c.windowEnd(&t, p.Partition)
		return &t
	case *flow.Over:
		o := *p
		o.Closes = c.windowEnd(&o, p.Partition)
		return &o
	case *flow.Join:
		if !c.keepAll && !isLookup(p.Kind) {
			return c.closeJoin(p)
		}
	}
	return p
}

// isEventTime reports whether a plan is the scan of a table and col its event time.
func (c *compiler) isEventTime(p flow.Plan, col int) bool {
	s, ok := p.(*flow.Scan)
	if !ok {
		return false
	}
	return slices.ContainsFunc(c.factsOf(s).bounds, func(b timeBound) bool { return b.scans && b.Col == col })
}

// windowEnd returns the bound of one of the columns that is the end of a window: late rows are left out there already. A plain event time
// closes nothing, since rows of a group that nobody called a window would be left out by surprise.
func (c *compiler) windowEnd(p flow.Plan, cols []int) *flow.Bound {
	for _, b := range c.factsOf(p).bounds {
		if slices.Contains(cols, b.Col) && b.Ends && !b.scans {
			return &b.Bound
		}
	}
	return nil
}

// onTimeScans makes the scans of tables leave late rows out; those below windows that close, which are more patient, only with
// all.
func onTimeScans(p flow.Plan, tables []int, all bool, done map[flow.Plan]flow.Plan) flow.Plan {
	if r := done[p]; r != nil {
		return r
	}
	r := p
	switch x := p.(type) {
	case *flow.Scan:
		if slices.Contains(tables, x.Relation) && !x.OnTime {
			s := *x
			s.OnTime = true
			r = &s
		}
	case *flow.Window:
		if all || !x.Closes {
			r = withInputs(p, func(in flow.Plan) flow.Plan { return onTimeScans(in, tables, all, done) })
		}
	case *flow.Session:
		if all || !x.Closes {
			r = withInputs(p, func(in flow.Plan) flow.Plan { return onTimeScans(in, tables, all, done) })
		}
	default:
		r = withInputs(p, func(in flow.Plan) flow.Plan { return onTimeScans(in, tables, all, done) })
	}
	done[p] = r
	return r
}

// closeJoin sets when the rows of a join can be forgotten.
func (c *compiler) closeJoin(p *flow.Join) flow.Plan {
	j := *p
	width := len(p.L.Columns())
	l, r := c.factsOf(p.L), c.factsOf(p.R)
	lin, rin := p.L, p.R
	for _, o := range orderOf(p) {
		switch {
		case o.lo.Col >= width && ofLeft(o.hi, width) && j.FreeL == nil && l.needsFreeing():
			if f := freeUntil(o, l, r, o.lo.Col-width, o.hi); f != nil {
				j.FreeL, rin = &f.Free, c.onTimeFor(rin, f, r)
				if f.own {
					lin = c.onTimeFor(lin, f, l)
				}
			}
		case o.lo.Col < width && ofRight(o.hi, width) && j.FreeR == nil && r.needsFreeing():
			if f := freeUntil(o, r, l, o.lo.Col, shifted(o.hi, -width)); f != nil {
				j.FreeR, lin = &f.Free, c.onTimeFor(lin, f, l)
				if f.own {
					rin = c.onTimeFor(rin, f, r)
				}
			}
		}
	}
	j.L, j.R = lin, rin
	return &j
}

// needsFreeing reports whether the rows of a plan grow in number, or come and go with windows.
func (f *facts) needsFreeing() bool { return f.growing || len(f.bounds) > 0 }

func (c *compiler) onTimeFor(p flow.Plan, f *free, of *facts) flow.Plan {
	for _, b := range of.bounds {
		if b.scans && subset(b.Tables, f.Tables) {
			p = onTimeScans(p, b.Tables, false, map[flow.Plan]flow.Plan{})
		}
	}
	return p
}
