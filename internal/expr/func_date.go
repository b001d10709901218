package expr

import (
	"math"

	"laaster/internal/change"
)

func addDateOperators(c *catalog) {
	c.add("+(date, integer) date", func(_ *Ctx, a, b change.Value) (change.Value, error) { return addDays(a.N, b.N) })
	c.add("+(integer, date) date", func(_ *Ctx, a, b change.Value) (change.Value, error) { return addDays(b.N, a.N) })
	c.add("-(date, integer) date", func(_ *Ctx, a, b change.Value) (change.Value, error) { return addDays(a.N, -b.N) })
	c.add("-(date, date) integer", func(_ *Ctx, a, b change.Value) (change.Value, error) {
		if !isFiniteDay(a.N) || !isFiniteDay(b.N) {
			return a, &EvalError{codeDateRange, "cannot subtract infinite dates"}
		}
		return change.Int(int64(int32(a.N - b.N))), nil
	})
	plus := func(_ *Ctx, a, b change.Value) (change.Value, error) {
		ts, err := dayToInstant(a.N)
		if err == nil {
			ts, err = addToInstant(ts, toInterval(b.B))
		}
		return change.Int(ts), err
	}
	c.add("+(date, interval) timestamp", plus)
	c.add("+(interval, date) timestamp", func(c *Ctx, a, b change.Value) (change.Value, error) { return plus(c, b, a) })
	c.add("-(date, interval) timestamp", func(_ *Ctx, a, b change.Value) (change.Value, error) {
		iv, err := negInterval(toInterval(b.B))
		if err != nil {
			return a, err
		}
		ts, err := dayToInstant(a.N)
		if err == nil {
			ts, err = addToInstant(ts, iv)
		}
		return change.Int(ts), err
	})
}

func addDays(days, n int64) (change.Value, error) {
	if !isFiniteDay(days) {
		return change.Int(days), nil
	}
	if days += n; !validDay(days) {
		return change.Value{}, &EvalError{codeDateRange, "date out of range"}
	}
	return change.Int(days), nil
}

func addDateFunctions(c *catalog) {
	c.add("make_date(integer, integer, integer) date", func(_ *Ctx, a, b, d change.Value) (change.Value, error) {
		days, err := makeDay(a.N, b.N, d.N)
		return change.Int(days), err
	})
	c.add("make_timestamp(integer, integer, integer, integer, integer, double precision) timestamp", makeTimestamp)
	c.add("make_timestamptz(integer, integer, integer, integer, integer, double precision) timestamptz", makeTimestamp)
	c.add("make_timestamptz(integer, integer, integer, integer, integer, double precision, text) timestamptz", makeTimestampIn)
	for _, t := range []string{"timestamptz", "timestamp"} {
		c.add("age("+t+", "+t+") interval", func(c *Ctx, a, b change.Value) (change.Value, error) { return age(c, a.N, b.N) })
		c.add("age("+t+") interval", func(c *Ctx, a change.Value) (change.Value, error) {
			return age(c, truncInstant(unitDay, c.Now), a.N)
		}).Volatility = Stable
		c.add("overlaps("+t+", "+t+", "+t+", "+t+") boolean", allArgs(overlapsInstants))
		c.add("overlaps("+t+", interval, "+t+", interval) boolean", allArgs(overlapsSpans(true, true)))
		c.add("overlaps("+t+", "+t+", "+t+", interval) boolean", allArgs(overlapsSpans(false, true)))
		c.add("overlaps("+t+", interval, "+t+", "+t+") boolean", allArgs(overlapsSpans(true, false)))
	}
}

// makeDay checks a date; years before 1 are BC, there is no year 0.
func makeDay(year, month, day int64) (int64, error) {
	fail := func() (int64, error) {
		return 0, evalErrorf(codeDateRange, "date field value out of range: %d-%02d-%02d", year, month, day)
	}
	y := year
	if year < 0 {
		y++
	}
	if year == 0 || month < 1 || month > 12 || day < 1 || day > daysInMonth(y, month) {
		return fail()
	}
	days := daysOf(y, month, day)
	if !validDay(days) {
		return 0, evalErrorf(codeDateRange, "date out of range: %d-%02d-%02d", year, month, day)
	}
	return days, nil
}

// clockOf returns the microseconds of a time of day.
func clockOf(hour, minute int64, sec float64) (int64, error) {
	us := math.RoundToEven(sec * usPerSecond)
	if sec != sec || hour < 0 || minute < 0 || minute > 59 || us < 0 || us > 60*usPerSecond || hour > 24 || hour == 24 && (minute > 0 || us > 0) {
		return 0, evalErrorf(codeDateRange, "time field value out of range: %d:%02d:%02g", hour, minute, sec)
	}
	return hour*usPerHour + minute*usPerMinute + int64(us), nil
}

func makeTimestamp(_ *Ctx, args []change.Value) (change.Value, error) {
	days, err := makeDay(args[0].N, args[1].N, args[2].N)
	if err != nil {
		return change.Value{}, err
	}
	us, err := clockOf(args[3].N, args[4].N, args[5].Float())
	if err != nil {
		return change.Value{}, err
	}
	if days > maxDay {
		return change.Value{}, evalErrorf(codeDateRange, "timestamp out of range: %d-%02d-%02d", args[0].N, args[1].N, args[2].N)
	}
	return change.Int(days*usPerDay + us), nil
}

func makeTimestampIn(c *Ctx, args []change.Value) (change.Value, error) {
	v, err := makeTimestamp(c, args[:6])
	if err != nil {
		return v, err
	}
	if p := (tsParser{s: args[6].B}); len(p.s) > 0 && (p.s[0] == '+' || p.s[0] == '-') { // an offset counts east here
		if !p.numericZone(p.s[0] == '-') || len(p.s) > 0 || p.offRange {
			return v, evalErrorf(codeParameter, "invalid input syntax for type numeric time zone: %s", quoteShort(args[6].B))
		}
		return checkInstant(v.N - p.offset*usPerSecond)
	}
	z, err := c.zone(args[6].B)
	if err != nil {
		return v, err
	}
	return fromLocal(z, v.N)
}

// age returns the difference in years, months, days and time, as people count it.
func age(c *Ctx, a, b int64) (change.Value, error) {
	if !isFinite(a) || !isFinite(b) {
		return change.Value{}, &EvalError{codeDateRange, "cannot subtract infinite timestamps"}
	}
	if a < b {
		iv, err := negInterval(ageOf(b, a))
		return c.maybeInterval(iv, err)
	}
	return c.interval(ageOf(a, b)), nil
}

// ageOf subtracts field by field, a >= b, and borrows days from the month of the earlier time.
func ageOf(a, b int64) interval {
	ay, am, ad, aus := fieldsOf(a)
	by, bm, bd, bus := fieldsOf(b)
	us, days, months := aus-bus, ad-bd, am-bm
	years := ay - by
	if us < 0 {
		us, days = us+usPerDay, days-1
	}
	for days < 0 {
		days += daysInMonth(by, bm)
		months--
	}
	for months < 0 {
		months, years = months+12, years-1
	}
	return interval{months: int32(years*12 + months), days: int32(days), us: us}
}

// overlapsInstants is (a, b) OVERLAPS (d, e) with PostgreSQL's treatment of NULL: an end that is not known may be enough.
func overlapsInstants(_ *Ctx, args []change.Value) (change.Value, error) {
	return overlaps(args[0], args[1], args[2], args[3]), nil
}

// overlapsSpans replaces lengths by ends.
func overlapsSpans(first, second bool) func(*Ctx, []change.Value) (change.Value, error) {
	return func(_ *Ctx, args []change.Value) (change.Value, error) {
		ends := [2]change.Value{args[1], args[3]}
		for i, isSpan := range [2]bool{first, second} {
			start := args[2*i]
			switch {
			case !isSpan:
			case start.Null || ends[i].Null:
				ends[i] = change.Null()
			default:
				ts, err := addToInstant(start.N, toInterval(ends[i].B))
				if err != nil {
					return change.Value{}, err
				}
				ends[i] = change.Int(ts)
			}
		}
		return overlaps(args[0], ends[0], args[2], ends[1]), nil
	}
}

func overlaps(s1, e1, s2, e2 change.Value) change.Value {
	order := func(s, e change.Value) (change.Value, change.Value, bool) {
		switch {
		case s.Null && e.Null:
			return s, e, false
		case s.Null:
			return e, s, true
		case !e.Null && s.N > e.N:
			return e, s, true
		}
		return s, e, true
	}
	s1, e1, ok1 := order(s1, e1)
	s2, e2, ok2 := order(s2, e2)
	if !ok1 || !ok2 {
		return change.Null()
	}
	if s1.N == s2.N {
		if e1.Null || e2.Null {
			return change.Null()
		}
		return change.Bool(true)
	}
	if s1.N < s2.N {
		s1, e1, s2, e2 = s2, e2, s1, e1
	}
	switch { // now s1 is the later one: they overlap when it begins before the other ends
	case e2.Null:
		return change.Null()
	case s1.N < e2.N:
		return change.Bool(true)
	case e1.Null:
		return change.Null()
	}
	return change.Bool(false)
}

// justifyInterval brings all fields to their ranges and to one sign.
func justifyInterval(a interval) (interval, error) {
	days := int64(a.days) + a.us/usPerDay
	us := a.us % usPerDay
	months := int64(a.months) + days/30
	days %= 30
	switch {
	case months > 0 && (days < 0 || days == 0 && us < 0):
		months, days = months-1, days+30
	case months < 0 && (days > 0 || days == 0 && us > 0):
		months, days = months+1, days-30
	}
	switch {
	case days > 0 && us < 0:
		days, us = days-1, us+usPerDay
	case days < 0 && us > 0:
		days, us = days+1, us-usPerDay
	}
	if months != int64(int32(months)) {
		return a, intervalRange()
	}
	return interval{int32(months), int32(days), us}, nil
}
