package expr

import (
	"math"

	"laaster/app"
	"laaster/internal/change"
)

func addTime(c *catalog) {
	addIntervalOperators(c)
	addTimeFunctions(c)
	addExtract(c)
	addDateFunctions(c)
	addZones(c)
	addToChar(c)
}

func addIntervalOperators(c *catalog) {
	c.add("+(interval, interval) interval", ivOp(addInterval))
	c.add("-(interval, interval) interval", ivOp(func(a, b interval) (interval, error) {
		b, err := negInterval(b)
		if err != nil {
			return a, err
		}
		return addInterval(a, b)
	}))
	c.add("-(interval) interval", ivFn(negInterval))
	mul := func(x, f float64) float64 { return float64(x * f) }
	c.add("*(interval, double precision) interval", func(c *Ctx, a, b change.Value) (change.Value, error) {
		return c.maybeInterval(scaleInterval(toInterval(a.B), b.Float(), mul))
	})
	c.add("*(double precision, interval) interval", func(c *Ctx, a, b change.Value) (change.Value, error) {
		return c.maybeInterval(scaleInterval(toInterval(b.B), a.Float(), mul))
	})
	c.add("/(interval, double precision) interval", func(c *Ctx, a, b change.Value) (change.Value, error) {
		if b.Float() == 0 {
			return a, divisionByZero()
		}
		return c.maybeInterval(scaleInterval(toInterval(a.B), b.Float(), func(x, f float64) float64 { return x / f }))
	})
	for _, t := range []string{"timestamptz", "timestamp"} {
		addInstantOperators(c, t)
	}
	addDateOperators(c)
}

func addInstantOperators(c *catalog, t string) {
	plus := func(_ *Ctx, a, b change.Value) (change.Value, error) {
		ts, err := addToInstant(a.N, toInterval(b.B))
		return change.Int(ts), err
	}
	c.add("+("+t+", interval) "+t, plus)
	c.add("+(interval, "+t+") "+t, func(c *Ctx, a, b change.Value) (change.Value, error) { return plus(c, b, a) })
	c.add("-("+t+", interval) "+t, func(_ *Ctx, a, b change.Value) (change.Value, error) {
		iv, err := negInterval(toInterval(b.B))
		if err != nil {
			return a, err
		}
		ts, err := addToInstant(a.N, iv)
		return change.Int(ts), err
	})
	c.add("-("+t+", "+t+") interval", func(c *Ctx, a, b change.Value) (change.Value, error) {
		if !isFinite(a.N) || !isFinite(b.N) {
			return a, &EvalError{codeDateRange, "cannot subtract infinite timestamps"}
		}
		us, ok := subInt64(a.N, b.N)
		if !ok {
			return a, intervalRange()
		}
		return c.interval(interval{days: int32(us / usPerDay), us: us % usPerDay}), nil
	})
}

func (c *Ctx) maybeInterval(iv interval, err error) (change.Value, error) {
	if err != nil {
		return change.Value{}, err
	}
	return c.interval(iv), nil
}

func ivOp(f func(a, b interval) (interval, error)) func(c *Ctx, a, b change.Value) (change.Value, error) {
	return func(c *Ctx, a, b change.Value) (change.Value, error) {
		return c.maybeInterval(f(toInterval(a.B), toInterval(b.B)))
	}
}

func ivFn(f func(a interval) (interval, error)) func(c *Ctx, a change.Value) (change.Value, error) {
	return func(c *Ctx, a change.Value) (change.Value, error) { return c.maybeInterval(f(toInterval(a.B))) }
}

func addTimeFunctions(c *catalog) {
	for _, t := range []string{"timestamptz", "timestamp"} {
		c.add("date_trunc(text, "+t+") "+t, buildFunc(buildDateTrunc))
		c.add("date_bin(interval, "+t+", "+t+") "+t, dateBin)
		c.add("isfinite("+t+") boolean", func(_ *Ctx, a change.Value) (change.Value, error) { return change.Bool(isFinite(a.N)), nil })
	}
	c.add("isfinite(date) boolean", func(_ *Ctx, a change.Value) (change.Value, error) { return change.Bool(isFiniteDay(a.N)), nil })
	c.add("justify_interval(interval) interval", ivFn(justifyInterval))
	c.add("date_trunc(text, interval) interval", func(c *Ctx, a, b change.Value) (change.Value, error) {
		return c.maybeInterval(truncInterval(a.B, toInterval(b.B)))
	})
	c.add("to_timestamp(double precision) timestamptz", toTimestamp)
	c.add("isfinite(interval) boolean", func(*Ctx, change.Value) (change.Value, error) { return change.Bool(true), nil })
	c.add("justify_hours(interval) interval", ivFn(justifyHours))
	c.add("justify_days(interval) interval", ivFn(justifyDays))
	sig := ""
	for i := range 7 { // the arguments have defaults: 0
		c.add("make_interval("+sig+") interval", makeInterval)
		if sig != "" {
			sig += ", "
		}
		if i < 6 {
			sig += "integer"
		} else {
			sig += "double precision"
		}
	}
	c.add("make_interval("+sig+") interval", makeInterval)
}

// makeInterval takes years, months, weeks, days, hours, minutes and seconds, as many as there are.
func makeInterval(c *Ctx, args []change.Value) (change.Value, error) {
	var n [6]int64
	secs := 0.0
	for i, v := range args {
		if i < 6 {
			n[i] = v.N
		} else {
			secs = v.Float()
		}
	}
	months, days := n[0]*12+n[1], n[2]*7+n[3]
	if secs-secs != 0 || months != int64(int32(months)) || days != int64(int32(days)) {
		return change.Value{}, intervalRange()
	}
	us := math.RoundToEven(secs * usPerSecond)
	if math.Abs(us) > math.MaxInt64/2 {
		return change.Value{}, intervalRange()
	}
	total, ok := addInt64(n[4]*usPerHour+n[5]*usPerMinute, int64(us)) // of 32-bit counts: no overflow before the sum
	if !ok {
		return change.Value{}, intervalRange()
	}
	return c.interval(interval{int32(months), int32(days), total}), nil
}

func justifyHours(a interval) (interval, error) {
	days, ok := add32(a.days, int32(a.us/usPerDay))
	if !ok {
		return a, intervalRange()
	}
	us := a.us % usPerDay
	switch {
	case days > 0 && us < 0:
		days, us = days-1, us+usPerDay
	case days < 0 && us > 0:
		days, us = days+1, us-usPerDay
	}
	return interval{a.months, days, us}, nil
}

func justifyDays(a interval) (interval, error) {
	months, ok := add32(a.months, a.days/30)
	if !ok {
		return a, intervalRange()
	}
	days := a.days % 30
	switch {
	case months > 0 && days < 0:
		months, days = months-1, days+30
	case months < 0 && days > 0:
		months, days = months+1, days-30
	}
	return interval{months, days, a.us}, nil
}

// unknownUnit refuses a name. As in PostgreSQL the fields of a time zone are known, if of no use here.
func unknownUnit(name []byte, t app.Type) *EvalError {
	if fieldNamed(name) == fieldZone {
		return unsupportedUnit(name, t)
	}
	return evalErrorf(codeParameter, "unit %s not recognized for type %s", quoteShort(name), t)
}

func unsupportedUnit(name []byte, t app.Type) *EvalError {
	return evalErrorf(codeFeature, "unit %s not supported for type %s", quoteShort(name), t)
}

// buildDateTrunc reads a constant unit once.
func buildDateTrunc(n *Node, _ *change.Layout, args []Func) (Func, error) {
	t := n.Args[1].Type
	if k := n.Args[0]; k.Kind == KConst && !k.Value.Null {
		if u := unitNamed(k.Value.B); u != unitNone {
			return strict1(func(_ *Ctx, a change.Value) (change.Value, error) { return dateTrunc(u, a.N) }, args[1]), nil
		}
	}
	return strict2(func(_ *Ctx, a, b change.Value) (change.Value, error) {
		u := unitNamed(a.B)
		if u == unitNone && isFinite(b.N) {
			return a, unknownUnit(a.B, t)
		}
		return dateTrunc(u, b.N)
	}, args[0], args[1]), nil
}

func dateTrunc(u unit, ts int64) (change.Value, error) {
	ts = truncInstant(u, ts)
	if ts < minDay*usPerDay && isFinite(ts) {
		return change.Value{}, instantRange()
	}
	return change.Int(ts), nil
}

// truncInstant is date_trunc over instants in UTC.
func truncInstant(u unit, ts int64) int64 {
	if !isFinite(ts) {
		return ts
	}
	if step := fixedUnit(u); step != 0 {
		return floorDiv64(ts, step) * step
	}
	days, _ := splitInstant(ts)
	if u == unitWeek { // 1970-01-01 was a Thursday, weeks begin on Monday
		return (floorDiv64(days+3, 7)*7 - 3) * usPerDay
	}
	year, month, _ := dateOf(days)
	switch u {
	case unitMonth:
	case unitQuarter:
		month = (month-1)/3*3 + 1
	default:
		year, month = truncYear(u, year), 1
	}
	return daysOf(year, month, 1) * usPerDay
}

// fixedUnit returns the length of units that always are as long; 0 for the others.
func fixedUnit(u unit) int64 {
	switch u {
	case unitMicrosecond:
		return 1
	case unitMillisecond:
		return 1000
	case unitSecond:
		return usPerSecond
	case unitMinute:
		return usPerMinute
	case unitHour:
		return usPerHour
	case unitDay:
		return usPerDay
	}
	return 0
}

// truncYear returns the first year of the decade, century or millennium; centuries begin with the year 1 of them.
func truncYear(u unit, year int64) int64 {
	switch u {
	case unitDecade:
		return floorDiv64(year, 10) * 10
	case unitCentury:
		return floorDiv64(year-1, 100)*100 + 1
	case unitMillennium:
		return floorDiv64(year-1, 1000)*1000 + 1
	}
	return year
}

func truncInterval(name []byte, a interval) (interval, error) {
	u := unitNamed(name)
	if step := fixedUnit(u); step != 0 && u != unitDay {
		return interval{a.months, a.days, a.us / step * step}, nil
	}
	m := int32(0)
	switch u {
	case unitDay:
		return interval{a.months, a.days, 0}, nil
	case unitMonth:
		m = 1
	case unitQuarter:
		m = 3
	case unitYear:
		m = 12
	case unitDecade:
		m = 120
	case unitCentury:
		m = 1200
	case unitMillennium:
		m = 12000
	case unitWeek:
		return a, unsupportedUnit(name, app.Interval)
	default:
		return a, unknownUnit(name, app.Interval)
	}
	return interval{a.months / m * m, 0, 0}, nil
}

// dateBin is date_bin(stride, source, origin).
func dateBin(_ *Ctx, stride, source, origin change.Value) (change.Value, error) {
	iv := toInterval(stride.B)
	switch {
	case !isFinite(source.N):
		return source, nil
	case !isFinite(origin.N):
		return source, &EvalError{codeDateRange, "origin out of range"}
	case iv.months != 0:
		return source, &EvalError{codeFeature, "timestamps cannot be binned into intervals containing months or years"}
	}
	step, ok := addInt64(int64(iv.days)*usPerDay, iv.us)
	if !ok {
		return source, intervalRange()
	}
	if step <= 0 {
		return source, &EvalError{codeDateRange, "stride must be greater than zero"}
	}
	diff, ok := subInt64(source.N, origin.N)
	if !ok {
		return source, intervalRange()
	}
	ts := origin.N + floorDiv64(diff, step)*step
	if ts < minDay*usPerDay {
		return source, instantRange()
	}
	return change.Int(ts), nil
}

// toTimestamp converts seconds since 1970.
func toTimestamp(_ *Ctx, a change.Value) (change.Value, error) {
	s := a.Float()
	switch {
	case s != s:
		return a, &EvalError{codeDateRange, "timestamp cannot be NaN"}
	case math.IsInf(s, 1):
		return change.Int(posInfinity), nil
	case math.IsInf(s, -1):
		return change.Int(negInfinity), nil
	case s < minDay*86400 || s >= (maxDay+1)*86400:
		return a, evalErrorf(codeDateRange, `timestamp out of range: "%g"`, s)
	}
	const epoch2000 = 946684800 // PostgreSQL counts from 2000, and rounds there
	return change.Int(int64(math.RoundToEven((s-epoch2000)*usPerSecond)) + epoch2000*usPerSecond), nil
}
