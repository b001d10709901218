package expr

import (
	"strconv"
	"time"
	"unicode/utf8"

	"laaster/app"
	"laaster/internal/change"
)

func runeLength(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// charTime is a time taken apart for to_char.
type charTime struct {
	year, month, day  int64
	hour, min, sec    int64
	us                int64
	days              int64 // since 1970
	dow, doy          int64 // day of the week, 0 for Sunday; of the year
	interval, hasZone bool
}

func charOfInstant(ts int64, zone bool) charTime {
	t := charTime{hasZone: zone}
	var us int64
	t.days, us = splitInstant(ts)
	t.year, t.month, t.day = dateOf(t.days)
	t.hour, t.min, t.sec, t.us = us/usPerHour, us/usPerMinute%60, us/usPerSecond%60, us%usPerSecond
	t.dow, t.doy = isoDow(t.days)%7, t.days-daysOf(t.year, 1, 1)+1
	return t
}

func charOfInterval(iv interval) charTime {
	t := charTime{interval: true, year: int64(iv.months / 12), month: int64(iv.months % 12), day: int64(iv.days)}
	t.hour, t.min, t.sec, t.us = iv.us/usPerHour, iv.us/usPerMinute%60, iv.us/usPerSecond%60, iv.us%usPerSecond
	t.doy = (t.year*12+t.month)*30 + t.day
	y, m := t.year+4799, t.month+13 // as PostgreSQL counts the days of dates that are none
	if t.month > 2 {
		y, m = t.year+4800, t.month+1
	}
	t.days = y*365 - 32167 + y/4 - y/100 + y/100/4 + 7834*m/256 + t.day + minDay
	return t
}

func addToChar(c *catalog) {
	for _, t := range []string{"timestamptz", "timestamp", "interval"} {
		c.add("to_char("+t+", text) text", buildFunc(buildToChar))
	}
	addToCharNumbers(c)
	addFromChar(c)
}

// buildToChar reads a constant format once.
func buildToChar(n *Node, _ *change.Layout, args []Func) (Func, error) {
	t := n.Args[0].Type
	if k := n.Args[1]; k.Kind == KConst && !k.Value.Null && len(k.Value.B) > 0 {
		if ops, err := parseCharFormat(string(k.Value.B)); err == nil {
			if f := fastToChar(ops); f != nil && t != app.Interval {
				return strict1(f, args[0]), nil
			}
			return strict1(func(c *Ctx, a change.Value) (change.Value, error) { return c.toChar(ops, t, a) }, args[0]), nil
		}
	}
	return strict2(func(c *Ctx, a, b change.Value) (change.Value, error) {
		ops, err := parseCharFormat(string(b.B))
		if err != nil {
			return a, err
		}
		return c.toChar(ops, t, a)
	}, args[0], args[1]), nil
}

// fastToChar returns a writer for formats of years, months, days, hours, minutes and seconds with two or four digits and plain
// text, without all other computations; nil for other formats.
func fastToChar(ops []charOp) func(c *Ctx, a change.Value) (change.Value, error) {
	date := false
	for _, op := range ops {
		switch op.key {
		case charText, charHH24, charMI, charSS:
		case charMM, charDD:
			date = true
		case charYear:
			date = true
			if op.n != 4 {
				return nil
			}
		default:
			return nil
		}
		if op.fill || op.th != 0 {
			return nil
		}
	}
	return func(c *Ctx, a change.Value) (change.Value, error) {
		if !isFinite(a.N) {
			return change.Null(), nil
		}
		days, us := splitInstant(a.N)
		var year, month, day int64
		if date {
			year, month, day = dateOf(days)
		}
		from := len(c.scratch)
		dst := c.scratch
		for i := range ops {
			switch op := &ops[i]; op.key {
			case charText:
				dst = append(dst, op.text...)
			case charYear:
				dst = appendPadded(dst, plainYear(year), 4)
			case charMM:
				dst = append(dst, byte('0'+month/10), byte('0'+month%10))
			case charDD:
				dst = append(dst, byte('0'+day/10), byte('0'+day%10))
			case charHH24:
				h := us / usPerHour
				dst = append(dst, byte('0'+h/10), byte('0'+h%10))
			case charMI:
				m := us / usPerMinute % 60
				dst = append(dst, byte('0'+m/10), byte('0'+m%10))
			case charSS:
				s := us / usPerSecond % 60
				dst = append(dst, byte('0'+s/10), byte('0'+s%10))
			}
		}
		c.scratch = dst
		return c.made(from), nil
	}
}

func (c *Ctx) toChar(ops []charOp, t app.Type, v change.Value) (change.Value, error) {
	var at charTime
	switch {
	case len(ops) == 0:
		return change.Null(), nil
	case t == app.Interval:
		at = charOfInterval(toInterval(v.B))
	case !isFinite(v.N):
		return change.Null(), nil
	default:
		at = charOfInstant(v.N, t == app.Timestamptz)
	}
	from := len(c.scratch)
	for i := range ops {
		var err error
		if c.scratch, err = at.append(c.scratch, &ops[i]); err != nil {
			return v, err
		}
	}
	return c.made(from), nil
}

// append writes one part of a format.
func (t *charTime) append(dst []byte, op *charOp) ([]byte, error) {
	if t.interval && !op.ofInterval() {
		return dst, &EvalError{codeDateSyntax, "invalid format specification for an interval value"}
	}
	if out, ok := t.appendWord(dst, op); ok {
		return out, nil
	}
	from := len(dst)
	dst = t.appendNumber(dst, op)
	if op.th != 0 {
		dst = append(dst, ordinal(dst[from:], op.th)...)
	}
	return dst, nil
}

// ofInterval reports whether intervals have such a part.
func (op *charOp) ofInterval() bool {
	switch op.key {
	case charTZ, charTZH, charTZM, charOF, charAD, charADDots, charMonth, charMon, charDay, charDy, charD, charID:
		return false
	}
	return true
}

// appendWord writes what is no number.
func (t *charTime) appendWord(dst []byte, op *charOp) ([]byte, bool) {
	switch op.key {
	case charText:
		return append(dst, op.text...), true
	case charFX:
		return dst, true
	case charAM, charAMDots:
		return appendEither(dst, op, t.hour%24 >= 12, "AM", "PM", op.key == charAMDots), true
	case charAD, charADDots:
		return appendEither(dst, op, t.year <= 0, "AD", "BC", op.key == charADDots), true
	case charTZ:
		if t.hasZone {
			return appendCased(dst, "Utc", op.letter), true
		}
		return dst, true
	case charTZH:
		return append(dst, "+00"...), true
	case charTZM:
		return append(dst, "00"...), true
	case charOF:
		if op.fill {
			return append(dst, "+0"...), true
		}
		return append(dst, "+00"...), true
	case charMonth:
		return appendPaddedWord(dst, time.Month(t.month).String(), op, 9), true
	case charMon:
		return appendCased(dst, time.Month(t.month).String()[:3], op.letter), true
	case charDay:
		return appendPaddedWord(dst, time.Weekday(t.dow).String(), op, 9), true
	case charDy:
		return appendCased(dst, time.Weekday(t.dow).String()[:3], op.letter), true
	case charRM:
		return t.appendRoman(dst, op), true
	case charQ:
		return dst, t.month == 0
	}
	return dst, false
}

func appendEither(dst []byte, op *charOp, second bool, a, b string, dots bool) []byte {
	if second {
		a = b
	}
	for i := range len(a) {
		ch := a[i]
		if op.letter == charLower {
			ch |= 0x20
		}
		if dst = append(dst, ch); dots {
			dst = append(dst, '.')
		}
	}
	return dst
}

// appendCased writes an ASCII word that is in title case.
func appendCased(dst []byte, word string, letter charCase) []byte {
	for i := range len(word) {
		ch := word[i]
		switch {
		case letter == charLower:
			ch |= 0x20
		case letter == charUpper:
			ch &^= 0x20
		}
		dst = append(dst, ch)
	}
	return dst
}

func appendPaddedWord(dst []byte, word string, op *charOp, width int) []byte {
	dst = appendCased(dst, word, op.letter)
	for range width - len(word) {
		if !op.fill {
			dst = append(dst, ' ')
		}
	}
	return dst
}

func (t *charTime) appendRoman(dst []byte, op *charOp) []byte {
	if t.month == 0 && t.year == 0 {
		return dst
	}
	month := t.month
	switch {
	case month == 0 && t.year >= 0:
		month = 12
	case month == 0:
		month = 1
	case month < 0:
		month = 13 + month
	}
	word := [...]string{"I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"}[month-1]
	return appendPaddedWord(dst, word, op, 4)
}

// appendNumber writes a part that is a number.
func (t *charTime) appendNumber(dst []byte, op *charOp) []byte {
	pad := func(n int64, width int) []byte { return appendSigned(dst, n, width, op.fill) }
	switch op.key {
	case charHH12:
		h := t.hour % 12
		if h == 0 {
			h = 12
		}
		if t.hour < 0 {
			return appendWidth(dst, h, 3, op.fill)
		}
		return pad(h, 2)
	case charHH24:
		return pad(t.hour, 2)
	case charMI:
		return pad(t.min, 2)
	case charSS:
		return pad(t.sec, 2)
	case charFF1, charFF2, charFF3, charFF4, charFF5, charFF6:
		n, width := t.us, int(op.key-charFF1)+1
		for range 6 - width {
			n /= 10
		}
		return appendWidth(dst, n, width, false)
	case charSSSS:
		return strconv.AppendInt(dst, t.hour*3600+t.min*60+t.sec, 10)
	case charMM:
		return pad(t.month, 2)
	case charDDD:
		return appendWidth(dst, t.doy, 3, op.fill)
	case charDD:
		return appendWidth(dst, t.day, 2, op.fill)
	case charD:
		return strconv.AppendInt(dst, t.dow+1, 10)
	case charID:
		return strconv.AppendInt(dst, (t.dow+6)%7+1, 10)
	case charWW:
		return appendWidth(dst, (t.doy-1)/7+1, 2, op.fill)
	case charW:
		return strconv.AppendInt(dst, (t.day-1)/7+1, 10)
	case charQ:
		return strconv.AppendInt(dst, (t.month-1)/3+1, 10)
	case charJ:
		return strconv.AppendInt(dst, t.days-minDay, 10)
	}
	return t.appendYears(dst, op)
}

func (t *charTime) appendYears(dst []byte, op *charOp) []byte {
	year := t.year
	if !t.interval {
		year = plainYear(year)
	}
	switch op.key {
	case charIDDD:
		_, week := isoWeek(t.days)
		return appendWidth(dst, (week-1)*7+isoDow(t.days), 3, op.fill)
	case charIW:
		_, week := isoWeek(t.days)
		return appendWidth(dst, week, 2, op.fill)
	case charCC:
		c := t.year / 100
		if !t.interval && t.year > 0 {
			c = (t.year-1)/100 + 1
		} else if !t.interval {
			c = t.year/100 - 1
		}
		return appendSigned(dst, c, 2, op.fill)
	case charYComma:
		dst = append(strconv.AppendInt(dst, year/1000, 10), ',')
		return appendWidth(dst, year-year/1000*1000, 3, false)
	case charIYear:
		iso, _ := isoWeek(t.days)
		if !t.interval {
			iso = plainYear(iso)
		}
		return appendYearDigits(dst, year, iso, op)
	}
	return appendYearDigits(dst, year, year, op)
}

// appendYearDigits writes the last digits of a year; the sign of signed decides the width.
func appendYearDigits(dst []byte, signed, year int64, op *charOp) []byte {
	width := int(op.n)
	if width < 4 {
		year %= int64(pow10Small[width])
	}
	if op.n == 1 {
		return strconv.AppendInt(dst, year, 10)
	}
	if signed < 0 {
		width++
	}
	return appendWidth(dst, year, width, op.fill)
}

// plainYear counts years before 1 from 1 BC on, without a sign.
func plainYear(year int64) int64 {
	if year <= 0 {
		return 1 - year
	}
	return year
}

// appendSigned is appendWidth with one more place for the sign of negative numbers.
func appendSigned(dst []byte, n int64, width int, fill bool) []byte {
	if n < 0 {
		width++
	}
	return appendWidth(dst, n, width, fill)
}

// appendWidth writes n with zeros to a width that counts the sign; fill is without them.
func appendWidth(dst []byte, n int64, width int, fill bool) []byte {
	if n < 0 {
		dst = append(dst, '-')
		n, width = -n, width-1
	}
	if fill {
		return strconv.AppendInt(dst, n, 10)
	}
	return appendPadded(dst, n, width)
}

// ordinal returns the ending of a number: th is 't' or 'T' for the case.
func ordinal(number []byte, th byte) string {
	last := byte('0')
	if n := len(number); n > 0 && !(n > 1 && number[n-2] == '1') {
		last = number[n-1]
	}
	endings := [4]string{"th", "st", "nd", "rd"}
	if th == 'T' {
		endings = [4]string{"TH", "ST", "ND", "RD"}
	}
	if last >= '1' && last <= '3' {
		return endings[last-'0']
	}
	return endings[0]
}
