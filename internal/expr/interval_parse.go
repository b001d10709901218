package expr

import (
	"math"
	"strconv"
)

// parseInterval reads PostgreSQL's input of interval: numbers with units, clock times, years-months, ISO 8601, "ago".
func parseInterval(src []byte) (interval, error) {
	p := ivParser{src: src}
	s := trimSpace(src)
	var ok bool
	if len(s) > 0 && s[0] == 'P' {
		ok = p.iso(s[1:])
	} else {
		ok = p.verbose(s)
	}
	if !ok {
		return interval{}, evalErrorf(codeDateSyntax, "invalid input syntax for type interval: %s", quoteShort(src))
	}
	return p.result()
}

// ivParser sums up fields; overflow is remembered and reported at the end.
type ivParser struct {
	src          []byte
	months, days int64
	us           int64
	seen         uint32 // units that occurred, by bit
	over         bool
}

func (p *ivParser) result() (interval, error) {
	if p.over || p.months != int64(int32(p.months)) || p.days != int64(int32(p.days)) {
		return interval{}, evalErrorf(codeIntervalOver, "interval field value out of range: %s", quoteShort(p.src))
	}
	return interval{int32(p.months), int32(p.days), p.us}, nil
}

// unit is one entry of the table of units.
type unit uint8

const (
	unitNone unit = iota
	unitMicrosecond
	unitMillisecond
	unitSecond
	unitMinute
	unitHour
	unitDay
	unitWeek
	unitMonth
	unitQuarter // not in intervals, only as a field of a time
	unitYear
	unitDecade
	unitCentury
	unitMillennium
)

// unitNamed reads the name of a unit; only the first 10 letters count, as in PostgreSQL.
func unitNamed(word []byte) unit {
	if len(word) > 10 {
		word = word[:10]
	}
	var buf [10]byte
	for i, c := range word {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		buf[i] = c
	}
	switch string(buf[:len(word)]) {
	case "us", "usec", "usecs", "usecond", "useconds", "microsecon":
		return unitMicrosecond
	case "ms", "msec", "msecs", "mseconds", "msecond", "millisecon":
		return unitMillisecond
	case "s", "sec", "secs", "second", "seconds":
		return unitSecond
	case "m", "min", "mins", "minute", "minutes":
		return unitMinute
	case "h", "hr", "hrs", "hour", "hours":
		return unitHour
	case "d", "day", "days":
		return unitDay
	case "w", "week", "weeks":
		return unitWeek
	case "mon", "mons", "month", "months":
		return unitMonth
	case "qtr", "quarter":
		return unitQuarter
	case "y", "yr", "yrs", "year", "years":
		return unitYear
	case "dec", "decs", "decade", "decades":
		return unitDecade
	case "c", "cent", "century", "centuries":
		return unitCentury
	case "mil", "mils", "millennia", "millennium":
		return unitMillennium
	}
	return unitNone
}

// add adds (whole + frac) units. What a fraction of a unit means is PostgreSQL's: of years it is months, of months days of
// 30 to the month, of days and weeks time.
func (p *ivParser) add(u unit, whole int64, frac float64) bool {
	bit := uint32(1) << u
	if u == unitSecond && frac != 0 {
		bit |= 1<<unitMicrosecond | 1<<unitMillisecond
	}
	if p.seen&bit != 0 {
		return false
	}
	p.seen |= bit
	switch u {
	case unitMicrosecond:
		p.time(whole, frac, 1)
	case unitMillisecond:
		p.time(whole, frac, 1000)
	case unitSecond:
		p.time(whole, frac, usPerSecond)
	case unitMinute:
		p.time(whole, frac, usPerMinute)
	case unitHour:
		p.time(whole, frac, usPerHour)
	case unitDay:
		p.addDays(whole)
		p.time(0, frac, usPerDay)
	case unitWeek:
		p.addDays(p.times(whole, 7))
		p.fractionDays(frac, 7)
	case unitMonth:
		p.addMonths(whole)
		p.fractionDays(frac, 30)
	case unitYear:
		p.addYears(whole, frac, 1)
	case unitDecade:
		p.addYears(whole, frac, 10)
	case unitCentury:
		p.addYears(whole, frac, 100)
	case unitMillennium:
		p.addYears(whole, frac, 1000)
	default:
		return false
	}
	return true
}

func (p *ivParser) times(a, b int64) int64 {
	r, ok := mulInt64(a, b)
	p.over = p.over || !ok
	return r
}

// time adds (whole + frac) × scale microseconds, the fraction rounded half toward zero.
func (p *ivParser) time(whole int64, frac float64, scale int64) {
	whole = p.times(whole, scale)
	frac *= float64(scale)
	us := math.Trunc(frac)
	if rest := frac - us; rest > 0.5 {
		us++
	} else if rest < -0.5 {
		us--
	}
	var ok bool
	if p.us, ok = addInt64(p.us, whole); ok {
		p.us, ok = addInt64(p.us, int64(us))
	}
	p.over = p.over || !ok
}

func (p *ivParser) addDays(n int64) {
	p.days += n
	p.over = p.over || n != int64(int32(n)) || p.days != int64(int32(p.days))
}

func (p *ivParser) addMonths(n int64) {
	p.months += n
	p.over = p.over || n != int64(int32(n)) || p.months != int64(int32(p.months))
}

func (p *ivParser) addYears(whole int64, frac float64, scale int64) {
	p.addMonths(p.times(p.times(whole, scale), 12))
	p.addMonths(int64(math.RoundToEven(frac * float64(scale*12))))
}

func (p *ivParser) fractionDays(frac float64, scale float64) {
	frac *= scale
	whole := math.Trunc(frac)
	p.addDays(int64(whole))
	p.time(0, frac-whole, usPerDay)
}

// quantity reads digits and a fraction.
func quantity(s []byte) (whole int64, frac float64, rest []byte, ok bool) {
	digits, i := scanDigits(s, 0)
	if len(digits) > 19 {
		return 0, 0, s, false
	}
	whole = int64(parseUint(digits))
	if whole < 0 || len(digits) == 19 && parseUint(digits) > math.MaxInt64 {
		return 0, 0, s, false
	}
	ok = len(digits) > 0
	if i < len(s) && s[i] == '.' {
		var fraction []byte
		fraction, i = scanDigits(s, i+1)
		ok = ok || len(fraction) > 0
		var buf [64]byte
		frac, _ = strconv.ParseFloat(viewString(append(append(buf[:0], "0."...), fraction...)), 64)
	}
	return whole, frac, s[i:], ok
}
