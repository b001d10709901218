package expr

import (
	"math"
	"strconv"
	"strings"

	"laaster/app"
)

// parseTimestamp reads ISO 8601 dates and times as PostgreSQL does, and a few words, as a timestamptz, timestamp or date.
// Text without a zone is UTC; timestamp and date skip the zone, date the time too.
func parseTimestamp(t app.Type, src []byte) (int64, error) {
	p := tsParser{t: t, src: src, s: trimSpace(src)}
	if len(p.s) > 0 && !isDigit(p.s[0]) {
		return p.word()
	}
	if !p.date() {
		return 0, p.syntax()
	}
	if !p.dateEnd() {
		return 0, p.syntax()
	}
	if len(p.s) > 0 && isDigit(p.s[0]) && !p.clock() {
		return 0, p.syntax()
	}
	if !p.suffix() {
		return 0, p.syntax()
	}
	return p.instant()
}

// tsParser holds what was read so far; s is the rest.
type tsParser struct {
	t                app.Type
	src, s           []byte
	year, month, day int64
	hour, min, sec   int64
	us               int64 // fraction of the second
	offset           int64 // seconds east of UTC
	offRange         bool  // the offset is out of range
	bc, pm, am       bool
}

func isDigit(c byte) bool { return c-'0' < 10 }

func (p *tsParser) syntax() error {
	return evalErrorf(codeDateSyntax, "invalid input syntax for type %s: %s", p.t, quoteShort(p.src))
}

func (p *tsParser) outOfRange() error {
	return evalErrorf(codeDateRange, "date/time field value out of range: %s", quoteShort(p.src))
}

// word reads what begins with no digit.
func (p *tsParser) word() (int64, error) {
	if len(p.s) > 12 {
		return 0, p.syntax()
	}
	switch strings.ToLower(string(p.s)) {
	case "infinity":
		return infinityOf(p.t, 1), nil
	case "-infinity":
		return infinityOf(p.t, -1), nil
	case "epoch":
		return 0, nil
	case "now", "today", "tomorrow", "yesterday":
		return 0, evalErrorf(codeFeature, "%s is no constant here: use now()", quoteShort(p.src))
	}
	return 0, p.syntax()
}

// number reads between least and most digits.
func (p *tsParser) number(least, most int) (int64, bool) {
	n, i := int64(0), 0
	for i < len(p.s) && i < most && isDigit(p.s[i]) {
		n = n*10 + int64(p.s[i]-'0')
		i++
	}
	p.s = p.s[i:]
	return n, i >= least
}

func (p *tsParser) skip(c byte) bool {
	if len(p.s) > 0 && p.s[0] == c {
		p.s = p.s[1:]
		return true
	}
	return false
}

func (p *tsParser) digits() int {
	i := 0
	for i < len(p.s) && isDigit(p.s[i]) {
		i++
	}
	return i
}

// date reads YYYY-MM-DD, with longer years and shorter months and days, or YYYYMMDD.
func (p *tsParser) date() (ok bool) {
	if n := p.digits(); n == 8 && (len(p.s) == 8 || p.s[8] != '-') {
		p.year, _ = p.number(4, 4)
		p.month, _ = p.number(2, 2)
		p.day, _ = p.number(2, 2)
		return true
	} else if n < 3 || n > 7 {
		return false
	}
	p.year, _ = p.number(3, 7)
	if !p.skip('-') {
		return false
	}
	if p.month, ok = p.number(1, 2); !ok || !p.skip('-') {
		return false
	}
	p.day, ok = p.number(1, 2)
	return ok
}

// dateEnd moves from the date to what follows it: a time after 'T' or spaces, or the suffixes.
func (p *tsParser) dateEnd() bool {
	if len(p.s) == 0 {
		return true
	}
	if c := p.s[0]; c == 'T' || c == 't' {
		p.s = p.s[1:]
		return len(p.s) > 0 && isDigit(p.s[0])
	}
	rest := trimSpace(p.s)
	gap := len(rest) < len(p.s)
	p.s = rest
	return gap || p.s[0] == '+' || p.s[0]|0x20 == 'z' // a '-' would go on with the date
}

// clock reads HH:MM[:SS[.fraction]] or HHMM[SS[.fraction]].
func (p *tsParser) clock() (ok bool) {
	compact := p.digits() >= 4
	if p.hour, ok = p.number(1, 2); !ok {
		return false
	}
	if !compact && !p.skip(':') {
		return false
	}
	if p.min, ok = p.number(1, 2); !ok {
		return false
	}
	if compact && (len(p.s) == 0 || !isDigit(p.s[0])) {
		return true
	}
	if !compact && !p.skip(':') {
		return true
	}
	if p.sec, ok = p.number(1, 2); !ok {
		return false
	}
	if p.skip('.') {
		n := p.digits()
		p.us = fractionMicros(p.s[:n])
		p.s = p.s[n:]
	}
	return true
}

// fractionMicros rounds the digits after a decimal point to microseconds, half to even as PostgreSQL's double does.
func fractionMicros(digits []byte) int64 {
	if len(digits) <= 6 {
		n := int64(parseUint(digits))
		for range 6 - len(digits) {
			n *= 10
		}
		return n
	}
	var buf [32]byte
	text := append(append(buf[:0], "0."...), digits...)
	f, _ := strconv.ParseFloat(viewString(text), 64)
	return int64(math.RoundToEven(f * usPerSecond))
}

// suffix reads AM or PM, the zone, AD or BC, and spaces between them.
func (p *tsParser) suffix() bool {
	zone := false
	for p.s = trimSpace(p.s); len(p.s) > 0; p.s = trimSpace(p.s) {
		if c := p.s[0]; c == '+' || c == '-' {
			if zone || !p.numericZone(c == '-') {
				return false
			}
			zone = true
			continue
		}
		i := 0
		for i < len(p.s) && p.s[i]|0x20 >= 'a' && p.s[i]|0x20 <= 'z' {
			i++
		}
		word := p.s[:i]
		p.s = p.s[i:]
		switch {
		case equalFold(word, "z"), equalFold(word, "utc"), equalFold(word, "gmt"), equalFold(word, "zulu"), equalFold(word, "ut"):
			if zone {
				return false
			}
			zone = true
		case equalFold(word, "bc"), equalFold(word, "b.c."):
			p.bc = true
		case equalFold(word, "ad"), equalFold(word, "a.d."):
		case equalFold(word, "am"):
			p.am = true
		case equalFold(word, "pm"):
			p.pm = true
		default:
			return false
		}
	}
	return true
}

// equalFold compares ASCII text with a lower-case word.
func equalFold(s []byte, word string) bool {
	if len(s) != len(word) {
		return false
	}
	for i, c := range s {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// numericZone reads ±HH, ±HHMM, ±HH:MM or ±HH:MM:SS.
func (p *tsParser) numericZone(west bool) bool {
	p.s = p.s[1:]
	var h, m, s int64
	ok := true
	switch n := p.digits(); {
	case n == 0 || n > 4:
		return false
	case n >= 3:
		h, _ = p.number(1, n-2)
		m, _ = p.number(2, 2)
	default:
		h, _ = p.number(1, 2)
		if p.skip(':') {
			if m, ok = p.number(1, 2); ok && p.skip(':') {
				s, ok = p.number(1, 2)
			}
		}
	}
	p.offRange = h > 15 || m > 59 || s > 59
	p.offset = h*3600 + m*60 + s
	if west {
		p.offset = -p.offset
	}
	return ok
}

// instant checks the fields and computes.
func (p *tsParser) instant() (int64, error) {
	if p.offRange {
		return 0, evalErrorf(codeTimeZone, "time zone displacement out of range: %s", quoteShort(p.src))
	}
	if p.am || p.pm {
		if p.hour > 12 {
			return 0, p.outOfRange()
		}
		if p.hour %= 12; p.pm {
			p.hour += 12
		}
	}
	if p.year == 0 || p.month < 1 || p.month > 12 || p.day < 1 || p.hour > 24 || p.min > 59 || p.sec > 60 ||
		p.hour == 24 && (p.min > 0 || p.sec > 0 || p.us > 0) {
		return 0, p.outOfRange()
	}
	year := p.year
	if p.bc {
		year = 1 - year
	}
	if p.day > daysInMonth(year, p.month) {
		return 0, p.outOfRange()
	}
	days := daysOf(year, p.month, p.day)
	if p.t == app.Date {
		if !validDay(days) {
			return 0, evalErrorf(codeDateRange, "date out of range: %s", quoteShort(p.src))
		}
		return days, nil
	}
	if p.t == app.Timestamp {
		p.offset = 0
	}
	if days < minDay || days > maxDay {
		return 0, evalErrorf(codeDateRange, "timestamp out of range: %s", quoteShort(p.src))
	}
	ts := days*usPerDay + p.hour*usPerHour + p.min*usPerMinute + (p.sec-p.offset)*usPerSecond + p.us
	if ts < minDay*usPerDay {
		return 0, evalErrorf(codeDateRange, "timestamp out of range: %s", quoteShort(p.src))
	}
	return ts, nil
}

// appendTimestamp appends PostgreSQL's output in UTC: 2024-01-02 03:04:05.678, and +00 with a zone.
func appendTimestamp(dst []byte, ts int64, zone bool) []byte {
	if !isFinite(ts) {
		return appendInfinity(dst, ts)
	}
	year, month, day, us := fieldsOf(ts)
	dst, bc := appendDate(dst, year, month, day, ' ')
	dst = appendClock(dst, us, false)
	if zone {
		dst = append(dst, "+00"...)
	}
	if bc {
		dst = append(dst, " BC"...)
	}
	return dst
}

// appendTimestampJSON appends RFC 3339 with microseconds, without quotes, and Z with a zone; years that RFC 3339 cannot write look as PostgreSQL
// prints them.
func appendTimestampJSON(dst []byte, ts int64, zone bool) []byte {
	if !isFinite(ts) {
		return appendInfinity(dst, ts)
	}
	year, month, day, us := fieldsOf(ts)
	dst, bc := appendDate(dst, year, month, day, 'T')
	dst = appendClock(dst, us, true)
	if zone {
		dst = append(dst, 'Z')
	}
	if bc {
		dst = append(dst, " BC"...)
	}
	return dst
}

// appendTimestampISO appends what to_jsonb makes of a time, in quotes: 2024-01-02T03:04:05.678, and +00:00 with a zone.
func appendTimestampISO(dst []byte, ts int64, zone bool) []byte {
	dst = append(dst, '"')
	if !isFinite(ts) {
		return append(appendInfinity(dst, ts), '"')
	}
	year, month, day, us := fieldsOf(ts)
	dst, bc := appendDate(dst, year, month, day, 'T')
	if dst = appendClock(dst, us, false); zone {
		dst = append(dst, "+00:00"...)
	}
	if bc {
		dst = append(dst, " BC"...)
	}
	return append(dst, '"')
}

func appendInfinity(dst []byte, ts int64) []byte {
	if ts < 0 {
		dst = append(dst, '-')
	}
	return append(dst, "infinity"...)
}

// fieldsOf splits an instant into its date and the microseconds of the day.
func fieldsOf(ts int64) (year, month, day, us int64) {
	days, us := splitInstant(ts)
	year, month, day = dateOf(days)
	return year, month, day, us
}

func appendDate(dst []byte, year, month, day int64, sep byte) (out []byte, bc bool) {
	if bc = year <= 0; bc {
		year = 1 - year
	}
	dst = appendPadded(dst, year, 4)
	dst = append(dst, '-', byte('0'+month/10), byte('0'+month%10), '-', byte('0'+day/10), byte('0'+day%10), sep)
	return dst, bc
}

// appendClock appends HH:MM:SS and the fraction: all six digits, or without trailing zeros and, at zero, the point.
func appendClock(dst []byte, us int64, six bool) []byte {
	h, m, s, us := us/usPerHour, us/usPerMinute%60, us/usPerSecond%60, us%usPerSecond
	dst = append(dst, byte('0'+h/10), byte('0'+h%10), ':', byte('0'+m/10), byte('0'+m%10), ':', byte('0'+s/10), byte('0'+s%10))
	return appendFraction(dst, us, six)
}

func appendFraction(dst []byte, us int64, six bool) []byte {
	if us == 0 && !six {
		return dst
	}
	dst = appendPadded(append(dst, '.'), us, 6)
	for !six && dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendPadded appends n >= 0 with at least width digits, at most ten.
func appendPadded(dst []byte, n int64, width int) []byte {
	at, rest := len(dst), n
	dst = append(dst, "0000000000"[:width]...)
	for i := len(dst) - 1; i >= at && rest > 0; i, rest = i-1, rest/10 {
		dst[i] = byte('0' + rest%10)
	}
	if rest > 0 {
		return strconv.AppendInt(dst[:at], n, 10)
	}
	return dst
}
