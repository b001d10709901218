package expr

import (
	"math"

	"laaster/app"
	"laaster/internal/change"
)

// field is what extract and date_part take out of a time: a unit or one of these.
type field uint8

const (
	fieldEpoch field = field(unitMillennium) + 1 + iota
	fieldJulian
	fieldDow
	fieldIsoDow
	fieldDoy
	fieldIsoYear
	fieldZone // the offset of the time zone and its parts: 0 in UTC
)

func fieldNamed(name []byte) field {
	if u := unitNamed(name); u != unitNone {
		return field(u)
	}
	switch {
	case equalFold(name, "epoch"):
		return fieldEpoch
	case equalFold(name, "julian"), equalFold(name, "jd"), equalFold(name, "j"):
		return fieldJulian
	case equalFold(name, "dow"):
		return fieldDow
	case equalFold(name, "isodow"):
		return fieldIsoDow
	case equalFold(name, "doy"):
		return fieldDoy
	case equalFold(name, "isoyear"):
		return fieldIsoYear
	case equalFold(name, "timezone"), equalFold(name, "timezone_hour"), equalFold(name, "timezone_minute"):
		return fieldZone
	}
	return 0
}

// part is an extracted number in the forms of extract, n × 10^-scale, and of date_part, f; or NULL; or an infinity.
type part struct {
	n     int64
	scale int
	f     float64
	null  bool
	inf   int
	days  int64 // with julian: n microseconds are a fraction of a day, to be added to it
	isDay bool
}

// wholePart returns an integer.
func wholePart(n int64) part { return part{n: n, f: float64(n)} }

func addExtract(c *catalog) {
	for _, t := range []app.Type{app.Timestamptz, app.Timestamp, app.Date, app.Interval} {
		c.add("extract(text, "+t.String()+") numeric", buildFunc(buildExtract))
		c.add("date_part(text, "+t.String()+") double precision", func(_ *Ctx, a, b change.Value) (change.Value, error) {
			p, err := partOf(fieldNamed(a.B), a.B, t, b, true)
			if err != nil || p.null {
				return change.Null(), err
			}
			return change.Float(p.float()), nil
		})
	}
}

// buildExtract reads a constant field once.
func buildExtract(n *Node, _ *change.Layout, args []Func) (Func, error) {
	t := n.Args[1].Type
	if k := n.Args[0]; k.Kind == KConst && !k.Value.Null {
		name, f := k.Value.B, fieldNamed(k.Value.B)
		if f == field(unitHour) && (t == app.Timestamp || t == app.Timestamptz) {
			return strict1(extractHour, args[1]), nil
		}
		return strict1(func(c *Ctx, a change.Value) (change.Value, error) { return c.extract(f, name, t, a) }, args[1]), nil
	}
	return strict2(func(c *Ctx, a, b change.Value) (change.Value, error) {
		return c.extract(fieldNamed(a.B), a.B, t, b)
	}, args[0], args[1]), nil
}

func (c *Ctx) extract(f field, name []byte, t app.Type, v change.Value) (change.Value, error) {
	p, err := partOf(f, name, t, v, false)
	if err != nil || p.null {
		return change.Null(), err
	}
	return c.numericPart(p)
}

// extractHour is extract(hour from timestamp): 0 to 23, so the encoding is two bytes, of 0 one.
func extractHour(c *Ctx, a change.Value) (change.Value, error) {
	if !isFinite(a.N) {
		return change.Null(), nil
	}
	_, us := splitInstant(a.N)
	from := len(c.scratch)
	c.scratch = append(c.scratch, 0)
	if h := us / usPerHour; h > 0 {
		c.scratch = append(c.scratch, byte(h))
	}
	return c.made(from), nil
}

// partOf extracts a field, whose name is for messages. cast: of a date as date_part does it, which takes it for a timestamp.
func partOf(f field, name []byte, t app.Type, v change.Value, cast bool) (part, error) {
	switch {
	case t == app.Interval:
		return partOfInterval(f, name, toInterval(v.B))
	case t == app.Date && !cast:
		return partOfDate(f, name, v.N)
	case t == app.Date:
		ts, err := dayToInstant(v.N)
		if err != nil {
			return part{}, err
		}
		return partOfInstant(f, name, app.Timestamp, ts)
	}
	return partOfInstant(f, name, t, v.N)
}

// partOfDate refuses the fields of the time of day.
func partOfDate(f field, name []byte, days int64) (part, error) {
	_, clock := clockPart(unit(f), 0)
	switch {
	case f == 0:
		return part{}, unknownUnit(name, app.Date)
	case clock || f == fieldZone:
		return part{}, unsupportedUnit(name, app.Date)
	case !isFiniteDay(days):
		p := infinitePart(f, days)
		return p, nil
	case f == fieldEpoch:
		return wholePart(days * 86400), nil
	case f == fieldJulian:
		return wholePart(days - minDay), nil
	}
	return dayPart(f, days), nil
}

func (c *Ctx) numericPart(p part) (change.Value, error) {
	if p.inf != 0 {
		n := infinity(p.inf)
		return c.value(&n)
	}
	n := intNum(p.n)
	n.scale = p.scale
	if p.isDay {
		q, _ := divNum(n, intNum(usPerDay))
		n = addNum(intNum(p.days), q)
	}
	return c.value(&n)
}

func (p part) float() float64 {
	if p.inf != 0 {
		return math.Inf(p.inf)
	}
	return p.f
}

// clockPart extracts from the microseconds of a day (or of an interval's time).
func clockPart(u unit, us int64) (part, bool) {
	switch u {
	case unitMicrosecond:
		return wholePart(us % usPerMinute), true
	case unitMillisecond:
		return part{n: us % usPerMinute, scale: 3, f: float64(float64(us/usPerSecond%60)*1000) + float64(us%usPerSecond)/1000}, true
	case unitSecond:
		return part{n: us % usPerMinute, scale: 6, f: float64(us/usPerSecond%60) + float64(us%usPerSecond)/usPerSecond}, true
	case unitMinute:
		return wholePart(us / usPerMinute % 60), true
	case unitHour:
		return wholePart(us / usPerHour), true
	}
	return part{}, false
}

func partOfInstant(f field, name []byte, t app.Type, ts int64) (part, error) {
	switch {
	case f == 0:
		return part{}, unknownUnit(name, t)
	case f == fieldZone && t == app.Timestamp && isFinite(ts):
		return part{}, unsupportedUnit(name, t)
	}
	if !isFinite(ts) {
		return infinitePart(f, ts), nil
	}
	days, us := splitInstant(ts)
	if p, ok := clockPart(unit(f), us); ok {
		return p, nil
	}
	switch f {
	case fieldEpoch:
		return part{n: ts, scale: 6, f: float64(ts) / usPerSecond}, nil
	case fieldJulian:
		return part{isDay: true, n: us, days: days - minDay, f: float64(days-minDay) + float64(us)/usPerSecond/86400}, nil
	case fieldZone:
		return part{}, nil
	}
	return dayPart(f, days), nil
}

// dayPart extracts what depends on the day alone.
func dayPart(f field, days int64) part {
	switch f {
	case fieldDow:
		return wholePart((days+4)%7 + 7*boolInt((days+4)%7 < 0))
	case fieldIsoDow:
		return wholePart(isoDow(days))
	}
	year, month, day := dateOf(days)
	switch f {
	case field(unitDay):
		return wholePart(day)
	case field(unitMonth):
		return wholePart(month)
	case field(unitQuarter):
		return wholePart((month-1)/3 + 1)
	case fieldDoy:
		return wholePart(days - daysOf(year, 1, 1) + 1)
	case field(unitWeek):
		_, week := isoWeek(days)
		return wholePart(week)
	case fieldIsoYear:
		y, _ := isoWeek(days)
		return wholePart(civilYear(y))
	}
	return wholePart(yearPart(unit(f), year))
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// infinitePart is what infinity has: ±∞ for what grows with time, NULL for what goes round.
func infinitePart(f field, ts int64) part {
	switch f {
	case fieldEpoch, fieldJulian, fieldIsoYear, field(unitYear), field(unitDecade), field(unitCentury), field(unitMillennium):
		if ts < 0 {
			return part{inf: -1}
		}
		return part{inf: 1}
	}
	return part{null: true}
}

// civilYear counts 1 BC as -1.
func civilYear(year int64) int64 {
	if year <= 0 {
		return year - 1
	}
	return year
}

func yearPart(u unit, year int64) int64 {
	switch u {
	case unitYear:
		return civilYear(year)
	case unitDecade:
		return floorDiv64(year, 10)
	case unitCentury:
		return civilYear(floorDiv64(year-1, 100) + 1)
	}
	return civilYear(floorDiv64(year-1, 1000) + 1)
}

// isoDow returns 1 for Monday to 7 for Sunday.
func isoDow(days int64) int64 { return days + 3 - floorDiv64(days+3, 7)*7 + 1 }

// isoWeek returns the ISO 8601 year and week: a week belongs to the year of its Thursday.
func isoWeek(days int64) (year, week int64) {
	thursday := days - isoDow(days) + 4
	year, _, _ = dateOf(thursday)
	return year, (thursday-daysOf(year, 1, 1))/7 + 1
}

func partOfInterval(f field, name []byte, iv interval) (part, error) {
	if p, ok := clockPart(unit(f), iv.us); ok {
		return p, nil
	}
	years, months := int64(iv.months/12), int64(iv.months%12)
	switch f {
	case field(unitDay):
		return wholePart(int64(iv.days)), nil
	case field(unitMonth):
		return wholePart(months), nil
	case field(unitQuarter):
		return wholePart(months/3 + 1), nil
	case field(unitYear):
		return wholePart(years), nil
	case field(unitDecade):
		return wholePart(years / 10), nil
	case field(unitCentury):
		return wholePart(years / 100), nil
	case field(unitMillennium):
		return wholePart(years / 1000), nil
	case fieldEpoch: // a year of 365.25 days
		secs := (1461*years + 120*months + 4*int64(iv.days)) * 21600
		us, ok := mulInt64(secs, usPerSecond)
		if ok {
			us, ok = addInt64(us, iv.us)
		}
		if !ok {
			return part{}, intervalRange()
		}
		const year, month, day = 365.25 * 86400, 30 * 86400, 86400
		f := float64(iv.us)/usPerSecond + float64(year*float64(years)) // the conversions keep the roundings on every machine
		return part{n: us, scale: 6, f: f + float64(month*float64(months)) + float64(day*float64(iv.days))}, nil
	case 0:
		return part{}, unknownUnit(name, app.Interval)
	}
	return part{}, unsupportedUnit(name, app.Interval)
}
