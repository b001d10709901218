package expr

import (
	"math"
	"strings"
	"time"

	"laaster/app"
	"laaster/internal/change"
)

func addFromChar(c *catalog) {
	c.add("to_timestamp(text, text) timestamptz", buildFunc(buildFromChar))
	c.add("to_date(text, text) date", buildFunc(buildFromChar))
}

// buildFromChar reads a constant format once.
func buildFromChar(n *Node, _ *change.Layout, args []Func) (Func, error) {
	t := n.Type
	if k := n.Args[1]; k.Kind == KConst && !k.Value.Null {
		if ops, err := parseCharFormat(string(k.Value.B)); err == nil {
			return strict1(func(_ *Ctx, a change.Value) (change.Value, error) { return fromChar(t, ops, a.B) }, args[0]), nil
		}
	}
	return strict2(func(_ *Ctx, a, b change.Value) (change.Value, error) {
		ops, err := parseCharFormat(string(b.B))
		if err != nil {
			return a, err
		}
		return fromChar(t, ops, a.B)
	}, args[0], args[1]), nil
}

// charReader reads a time by a format, as PostgreSQL does: spaces before fields are skipped, a separator of the format
// stands for one separator or space of the text or for none, and text that follows is ignored.
type charReader struct {
	src, s         []byte
	extra          int // characters that were skipped beyond what the format asks for
	year           int64
	month, day     int64
	doy, julian    int64
	hour, min, sec int64
	us, seconds    int64 // seconds: SSSS
	zoneHour, zone int64 // TZH with its sign, TZM
	west           bool
	pm, am, twelve bool
	bc             bool
	hasSeconds     bool
}

func fromChar(t app.Type, ops []charOp, text []byte) (change.Value, error) {
	r := charReader{src: text, s: text, month: 1, day: 1}
	for i := range ops {
		if len(r.s) == 0 {
			break
		}
		var err error
		switch op := &ops[i]; {
		case op.key == charText:
			r.literal(op, i == 0)
		case op.key == charFX:
			err = &EvalError{codeFeature, "FX is not supported in to_timestamp and to_date"}
		default:
			r.space()
			next := charText
			if i+1 < len(ops) {
				next = ops[i+1].key
			}
			digitNext := i+1 < len(ops) && (isNumberKey(next) || next == charText && ops[i+1].text != "" && isDigit(ops[i+1].text[0]))
			if err = r.field(op, op.fill || op.th != 0 || !digitNext); err == nil && op.th != 0 {
				r.s = r.s[min(2, len(r.s)):]
			}
			r.extra = 0
			r.space()
		}
		if err != nil {
			return change.Value{}, err
		}
	}
	return r.result(t)
}

func isNumberKey(k charKey) bool {
	switch k {
	case charText, charAM, charAMDots, charAD, charADDots, charMonth, charMon, charDay, charDy, charRM, charTZ, charFX, charOF:
		return false
	}
	return true
}

func (r *charReader) space() {
	for len(r.s) > 0 && isSpace(r.s[0]) {
		r.s = r.s[1:]
		r.extra++
	}
}

func isSeparator(c byte) bool {
	return c > ' ' && c < 0x7F && !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z')
}

// literal passes by plain text of the format.
func (r *charReader) literal(op *charOp, first bool) {
	if first {
		r.space()
	}
	for _, ch := range op.text {
		switch {
		case len(r.s) == 0:
			return
		case !op.quoted && ch < 0x80 && (isSpace(byte(ch)) || isSeparator(byte(ch))):
			r.extra--
			if isSpace(r.s[0]) || isSeparator(r.s[0]) {
				r.s = r.s[1:]
				r.extra++
			}
		case r.extra > 0:
			r.extra--
		default:
			r.s = r.s[runeOffset(r.s, 1):]
		}
	}
}

func (r *charReader) invalid(what string) error {
	return evalErrorf(codeDateSyntax, "invalid value %s for %q", quoteShort(r.s[:min(len(r.s), 10)]), what)
}

// number reads at most most digits, or with free as many as there are.
func (r *charReader) number(most int, free bool, what string) (n int64, digits int, err error) {
	r.space()
	sign, start := int64(1), 0
	if len(r.s) > 0 && (r.s[0] == '-' || r.s[0] == '+') {
		if r.s[0] == '-' {
			sign = -1
		}
		start = 1
	}
	if !free && len(r.s) < most {
		return 0, 0, evalErrorf(codeDateSyntax, "source string too short for %q formatting field", what)
	}
	i := start
	for i < len(r.s) && isDigit(r.s[i]) && (free || i < most) { // the sign counts as a digit
		if n = n*10 + int64(r.s[i]-'0'); n > math.MaxInt32 {
			return 0, 0, evalErrorf(codeDateRange, "value for %q in source string is out of range", what)
		}
		i++
	}
	if i == start || !free && i < most {
		return 0, 0, r.invalid(what)
	}
	r.s = r.s[i:]
	return sign * n, i - start, nil
}

// word reads one of the words, in any case and in the order given, and returns its number.
func (r *charReader) word(words []string, what string) (int, error) {
	for i, w := range words {
		if len(r.s) >= len(w) && strings.EqualFold(string(r.s[:len(w)]), w) {
			r.s = r.s[len(w):]
			return i, nil
		}
	}
	return 0, r.invalid(what)
}

// field reads one field.
func (r *charReader) field(op *charOp, free bool) (err error) {
	read := func(dst *int64, most int, what string) error {
		*dst, _, err = r.number(most, free, what)
		return err
	}
	switch op.key {
	case charYear:
		return r.readYear(int(op.n), free)
	case charYComma:
		return r.readYearComma()
	case charMM:
		return read(&r.month, 2, "MM")
	case charDD:
		return read(&r.day, 2, "DD")
	case charDDD:
		return read(&r.doy, 3, "DDD")
	case charJ:
		return read(&r.julian, 1, "J")
	case charHH24:
		return read(&r.hour, 2, "HH24")
	case charHH12:
		r.twelve = true
		return read(&r.hour, 2, "HH12")
	case charMI:
		return read(&r.min, 2, "MI")
	case charSS:
		return read(&r.sec, 2, "SS")
	case charSSSS:
		r.hasSeconds = true
		return read(&r.seconds, 5, "SSSS")
	case charFF1, charFF2, charFF3, charFF4, charFF5, charFF6:
		return r.readFraction(int(op.key-charFF1)+1, free)
	case charTZH:
		if ch := r.s[0]; ch == '-' || ch == '+' {
			r.west, r.s = ch == '-', r.s[1:]
		} else if at := len(r.src) - len(r.s); r.extra > 0 && r.src[at-1] == '-' { // a separator took the sign
			r.west = true
		}
		return read(&r.zoneHour, 2, "TZH")
	case charTZM:
		return read(&r.zone, 2, "TZM")
	}
	return r.names(op)
}

// names reads fields that are words.
func (r *charReader) names(op *charOp) error {
	switch op.key {
	case charMonth, charMon:
		var words []string
		for m := time.January; m <= time.December; m++ {
			name := m.String()
			if op.key == charMon {
				name = name[:3]
			}
			words = append(words, name)
		}
		i, err := r.word(words, "MONTH")
		r.month = int64(i) + 1
		return err
	case charDay, charDy: // says nothing that the date does not say
		var words []string
		for d := time.Sunday; d <= time.Saturday; d++ {
			name := d.String()
			if op.key == charDy {
				name = name[:3]
			}
			words = append(words, name)
		}
		_, err := r.word(words, "DAY")
		return err
	case charAM, charAMDots:
		words := []string{"AM", "PM"}
		if op.key == charAMDots {
			words = []string{"A.M.", "P.M."}
		}
		i, err := r.word(words, "AM")
		r.am, r.pm, r.twelve = i == 0, i == 1, true
		return err
	case charAD, charADDots:
		words := []string{"AD", "BC"}
		if op.key == charADDots {
			words = []string{"A.D.", "B.C."}
		}
		i, err := r.word(words, "BC")
		r.bc = i == 1
		return err
	}
	return &EvalError{codeFeature, "to_timestamp and to_date read years, months, days, hours, minutes, seconds, fractions and offsets only"}
}

// readYear reads the last n digits of a year; of less than four the year is one near 2020.
func (r *charReader) readYear(n int, free bool) error {
	year, digits, err := r.number(n, free, "YYYY"[:n])
	if err != nil {
		return err
	}
	if n < 4 && digits < 4 && year >= 0 {
		switch {
		case year < 70:
			year += 2000
		case year < 100:
			year += 1900
		case year < 520:
			year += 2000
		case year < 1000:
			year += 1000
		}
	}
	r.year = year
	return nil
}

func (r *charReader) readYearComma() error {
	thousands, _, err := r.number(9, true, "Y,YYY")
	if err != nil {
		return err
	}
	if len(r.s) == 0 || r.s[0] != ',' {
		return r.invalid("Y,YYY")
	}
	r.s = r.s[1:]
	rest, _, err := r.number(3, len(r.s) < 3, "Y,YYY")
	r.year = thousands*1000 + rest
	return err
}

// readFraction reads digits after a point: "5" of MS are 500 milliseconds.
func (r *charReader) readFraction(most int, free bool) error {
	have := 0
	for have < len(r.s) && isDigit(r.s[have]) && (free || have < most) {
		have++
	}
	if have == 0 || have > most {
		return r.invalid("fraction of a second")
	}
	r.us = 0
	for i := range 6 {
		r.us *= 10
		if i < have {
			r.us += int64(r.s[i] - '0')
		}
	}
	r.s = r.s[have:]
	return nil
}

func (r *charReader) outOfRange() error {
	return evalErrorf(codeDateRange, "date/time field value out of range: %s", quoteShort(r.src))
}

// result checks the fields and puts them together.
func (r *charReader) result(t app.Type) (change.Value, error) {
	if r.hasSeconds {
		r.hour, r.min, r.sec = r.seconds/3600, r.seconds/60%60, r.seconds%60
	}
	if r.twelve {
		if r.hour < 1 || r.hour > 12 {
			return change.Value{}, evalErrorf(codeDateSyntax, `hour "%d" is invalid for the 12-hour clock`, r.hour)
		}
		if r.pm && r.hour < 12 {
			r.hour += 12
		} else if r.am && r.hour == 12 {
			r.hour = 0
		}
	}
	days, err := r.days()
	if err != nil {
		return change.Value{}, err
	}
	if r.hour < 0 || r.hour > 23 || r.min < 0 || r.min > 59 || r.sec < 0 || r.sec > 59 {
		return change.Value{}, r.outOfRange()
	}
	if t == app.Date {
		if !validDay(days) {
			return change.Value{}, evalErrorf(codeDateRange, "date out of range: %s", quoteShort(r.src))
		}
		return change.Int(days), nil
	}
	if days < minDay || days > maxDay {
		return change.Value{}, evalErrorf(codeDateRange, "timestamp out of range: %s", quoteShort(r.src))
	}
	offset := (max(r.zoneHour, -r.zoneHour)*60 + r.zone) * usPerMinute
	if r.west {
		offset = -offset
	}
	if r.zone < 0 || r.zone > 59 || max(r.zoneHour, -r.zoneHour) > 15 {
		return change.Value{}, r.outOfRange()
	}
	return checkInstant(days*usPerDay + r.hour*usPerHour + r.min*usPerMinute + r.sec*usPerSecond + r.us - offset)
}

func (r *charReader) days() (int64, error) {
	year := r.year
	if r.bc && year > 0 {
		year = 1 - year
	} else if year < 0 {
		year++
	}
	switch {
	case r.julian != 0:
		return r.julian + minDay, nil
	case r.doy != 0:
		length := daysOf(year+1, 1, 1) - daysOf(year, 1, 1)
		if r.doy < 1 || r.doy > length {
			return 0, r.outOfRange()
		}
		return daysOf(year, 1, r.doy), nil
	}
	month, day := r.month, r.day
	if month == 0 { // as if it were not there
		month = 1
	}
	if day == 0 {
		day = 1
	}
	if month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month) {
		return 0, r.outOfRange()
	}
	return daysOf(year, month, day), nil
}
