package expr

import (
	"bytes"
	"math"
	"strings"
)

// ivField is one token of a verbose interval.
type ivField struct {
	kind  byte // 'n' number, 't' clock time, 'm' years-months, 'u' unit or word
	neg   bool
	whole int64
	frac  float64
	word  []byte
}

// verbose reads everything but ISO 8601: fields are understood from right to left, since a unit follows its number.
func (p *ivParser) verbose(s []byte) bool {
	var fields [32]ivField
	n := 0
	for {
		for len(s) > 0 && isFiller(s[0]) {
			s = s[1:]
		}
		if len(s) == 0 {
			break
		}
		if n == len(fields) {
			return false
		}
		var ok bool
		if fields[n], s, ok = p.field(s); !ok {
			return false
		}
		n++
	}
	return n > 0 && p.fields(fields[:n])
}

// isFiller reports what separates tokens: space, and punctuation but for signs and the decimal point.
func isFiller(c byte) bool {
	return isSpace(c) || c >= '!' && c <= '/' && c != '+' && c != '-' && c != '.' || c >= ':' && c <= '@' || c >= '[' && c <= '`' || c >= '{' && c <= '~'
}

// field reads one token.
func (p *ivParser) field(s []byte) (f ivField, rest []byte, ok bool) {
	if s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z' {
		i := 0
		for i < len(s) && s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z' {
			i++
		}
		ok = i == len(s) || !isDigit(s[i]) && strings.IndexByte("+-./", s[i]) < 0 || // or else a space is needed, but in 1d2h
			i == 1 && strings.IndexByte("dhmsy", s[0]|0x20) >= 0 && strings.IndexByte("-./", s[i]) < 0
		return ivField{kind: 'u', word: s[:i]}, s[i:], ok
	}
	if s[0] == '-' || s[0] == '+' {
		f.neg = s[0] == '-'
		for s = s[1:]; len(s) > 0 && isSpace(s[0]); {
			s = s[1:]
		}
		if len(s) == 0 || !isDigit(s[0]) {
			return f, s, false
		}
	}
	f.kind = 'n'
	if f.whole, f.frac, rest, ok = quantity(s); !ok || len(rest) == 0 {
		return f, rest, ok
	}
	switch {
	case rest[0] == '/', rest[0] == ':' && hasPoint(s, rest):
		ok = false
	case rest[0] == ':':
		f.kind = 't'
		f.whole, rest, ok = clockTime(f.whole, rest[1:])
	case rest[0] == '-' && f.frac == 0 && len(rest) > 1 && isDigit(rest[1]):
		var months int64
		f.kind = 'm'
		months, f.frac, rest, ok = quantity(rest[1:])
		ok = ok && f.frac == 0 && months < 12 && f.whole < math.MaxInt32 && (len(rest) == 0 || rest[0] != '-')
		f.whole = f.whole*12 + months
	}
	return f, rest, ok
}

// hasPoint reports whether what was read of s up to rest has a decimal point.
func hasPoint(s, rest []byte) bool { return bytes.IndexByte(s[:len(s)-len(rest)], '.') >= 0 }

// clockTime reads what follows the first colon of H:MM, H:MM:SS[.f] or MM:SS.f and returns microseconds.
func clockTime(first int64, s []byte) (us int64, rest []byte, ok bool) {
	second, frac, rest, ok := quantity(s)
	if !ok || second > 59 {
		return 0, rest, false
	}
	if first > math.MaxInt64/usPerHour-1 {
		return 0, rest, false
	}
	if len(rest) == 0 || rest[0] != ':' {
		if hasPoint(s, rest) { // minutes and seconds
			if first > 59 {
				return 0, rest, false
			}
			return first*usPerMinute + second*usPerSecond + int64(math.RoundToEven(frac*usPerSecond)), rest, true
		}
		return first*usPerHour + second*usPerMinute, rest, true
	}
	if hasPoint(s, rest) {
		return 0, rest, false
	}
	third, frac, rest, ok := quantity(rest[1:])
	us = first*usPerHour + second*usPerMinute + third*usPerSecond + int64(math.RoundToEven(frac*usPerSecond))
	return us, rest, ok && third <= 60
}

// fields adds up the tokens.
func (p *ivParser) fields(fields []ivField) bool {
	ago, u := false, unitNone
	for i := len(fields) - 1; i >= 0; i-- {
		f := &fields[i]
		switch {
		case f.kind == 'u' && equalFold(f.word, "ago"):
			ago = true
			u = unitNone
			continue
		case f.kind == 'u':
			if u = unitNamed(f.word); u == unitNone {
				return false
			}
			continue // a unit without a number has no effect
		}
		if f.neg {
			f.whole, f.frac = -f.whole, -f.frac
		}
		ok := true
		switch f.kind {
		case 't':
			const clock = 1<<unitHour | 1<<unitMinute | 1<<unitSecond | 1<<unitMillisecond | 1<<unitMicrosecond
			ok = p.seen&clock == 0
			p.seen |= clock
			p.time(f.whole, 0, 1)
			u = unitDay // a bare number before a clock time is days
		case 'm':
			u = unitMonth
			ok = p.add(u, f.whole, 0)
		default:
			if u == unitNone {
				u = unitSecond
			}
			if ok = p.add(u, f.whole, f.frac); u == unitHour {
				u = unitDay // so is one before hours
			}
		}
		if !ok {
			return false
		}
	}
	if ago {
		p.months, p.days, p.us = -p.months, -p.days, -p.us
	}
	return p.seen != 0
}

// iso reads ISO 8601 after the P: 1Y2M3W4DT5H6M7S with fractions and signs, or 0001-02-03T04:05:06.
func (p *ivParser) iso(s []byte) bool {
	time, any := false, false
	for len(s) > 0 {
		if s[0] == 'T' {
			if time {
				return false
			}
			time, s = true, s[1:]
			if len(s) == 0 {
				return true
			}
			continue
		}
		neg := false
		if s[0] == '-' || s[0] == '+' {
			neg = s[0] == '-'
			s = s[1:]
		}
		whole, frac, rest, ok := quantity(s)
		if !ok {
			return false
		}
		if neg {
			whole, frac = -whole, -frac
		}
		if len(rest) == 0 || rest[0] == '-' || rest[0] == ':' {
			return !any && frac == 0 && p.isoFields(s, neg, time)
		}
		if !time && !any && rest[0] == 'T' { // a number alone is years
			any, s = true, rest
			p.add(unitYear, whole, frac)
			continue
		}
		u := isoUnit(rest[0], time)
		if u == unitNone || !p.add(u, whole, frac) {
			return false
		}
		p.seen = 0 // ISO 8601 units may repeat in PostgreSQL
		any, s = true, rest[1:]
	}
	return any
}

func isoUnit(c byte, time bool) unit {
	switch c {
	case 'Y':
		return when2(!time, unitYear)
	case 'W':
		return when2(!time, unitWeek)
	case 'D':
		return when2(!time, unitDay)
	case 'H':
		return when2(time, unitHour)
	case 'S':
		return when2(time, unitSecond)
	case 'M':
		if time {
			return unitMinute
		}
		return unitMonth
	}
	return unitNone
}

func when2(ok bool, u unit) unit {
	if ok {
		return u
	}
	return unitNone
}

// isoFields reads the alternative form: years-months-days, then T and a clock time.
func (p *ivParser) isoFields(s []byte, neg, time bool) bool {
	if neg {
		return false
	}
	if !time {
		for _, u := range []unit{unitYear, unitMonth, unitDay} {
			whole, frac, rest, ok := quantity(s)
			if !ok || frac != 0 || !p.add(u, whole, 0) {
				return false
			}
			s = rest
			if len(s) == 0 {
				return true
			}
			if s[0] == 'T' {
				break
			}
			if s[0] != '-' {
				return false
			}
			s = s[1:]
		}
		if len(s) == 0 || s[0] != 'T' {
			return false
		}
		s = s[1:]
	}
	hours, frac, rest, ok := quantity(s)
	if !ok || frac != 0 {
		return false
	}
	if len(rest) == 0 {
		return p.add(unitHour, hours, 0)
	}
	if rest[0] != ':' {
		return false
	}
	us, rest, ok := clockTime(hours, rest[1:])
	p.time(us, 0, 1)
	return ok && len(rest) == 0
}
