package expr

import (
	"encoding/hex"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"

	"laaster/app"
	"laaster/internal/change"
)

// ParseText reads s in PostgreSQL's input syntax of t. Bytes that the value needs are appended to dst, which is returned
// grown; the value aliases it, or s itself (text). The error is an *EvalError in PostgreSQL's wording.
func ParseText(t app.Type, s []byte, dst []byte) (change.Value, []byte, error) {
	switch t {
	case app.Bool:
		v, err := parseBool(s)
		return v, dst, err
	case app.Int4, app.Int8:
		v, err := parseInt(t, s)
		return v, dst, err
	case app.Float8:
		f, err := parseFloat(s)
		return change.Float(f), dst, err
	case app.Numeric:
		n, err := parseNum(s)
		if err != nil {
			return change.Value{}, dst, err
		}
		from := len(dst)
		dst = appendNum(dst, &n)
		return since(dst, from), dst, nil
	case app.Text:
		return change.Bytes(s), dst, checkText(s)
	case app.UUID:
		return parseUUID(s, dst)
	case app.Timestamptz, app.Timestamp, app.Date:
		v, err := parseTimestamp(t, s)
		return change.Int(v), dst, err
	case app.JSONB:
		return parseJSONB(s, dst)
	case app.Interval:
		iv, err := parseInterval(s)
		if err != nil {
			return change.Value{}, dst, err
		}
		from := len(dst)
		dst = iv.append(dst)
		return since(dst, from), dst, nil
	}
	if t.IsArray() {
		return parseArray(t, s, dst)
	}
	return change.Value{}, dst, evalErrorf(codeUndefined, "no input for type %s", t)
}

// since returns the bytes of dst from an offset on as a value.
func since(dst []byte, from int) change.Value { return change.Bytes(dst[from:len(dst):len(dst)]) }

// AppendText appends PostgreSQL's output of v, which is of type t and not NULL: ISO dates, UTC, the shortest digits of a
// double that read back as it.
func AppendText(dst []byte, t app.Type, v change.Value) []byte {
	switch t {
	case app.Bool:
		if v.N != 0 {
			return append(dst, 't')
		}
		return append(dst, 'f')
	case app.Int4, app.Int8:
		return strconv.AppendInt(dst, v.N, 10)
	case app.Float8:
		return appendFloat(dst, v.Float())
	case app.Numeric:
		n := toNum(v.B)
		return appendNumText(dst, &n)
	case app.UUID:
		return appendUUID(dst, v.B)
	case app.Timestamptz, app.Timestamp:
		return appendTimestamp(dst, v.N, t == app.Timestamptz)
	case app.Date:
		return appendDay(dst, v.N)
	case app.Interval:
		return toInterval(v.B).appendText(dst)
	}
	if t.IsArray() {
		return appendArrayText(dst, t.Elem(), v.B)
	}
	return append(dst, v.B...) // text, jsonb
}

func parseBool(src []byte) (change.Value, error) {
	s := trimSpace(src)
	if len(s) > 0 && len(s) <= 5 {
		word := strings.ToLower(string(s))
		switch {
		case word == "1", word == "on", strings.HasPrefix("true", word), strings.HasPrefix("yes", word):
			return change.Bool(true), nil
		case word == "0", word == "of", word == "off", strings.HasPrefix("false", word), strings.HasPrefix("no", word):
			return change.Bool(false), nil
		}
	}
	return change.Value{}, syntaxError(app.Bool, src)
}

func parseInt(t app.Type, src []byte) (change.Value, error) {
	s := trimSpace(src)
	neg := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		neg = s[0] == '-'
		s = s[1:]
	}
	if len(s) == 0 {
		return change.Value{}, syntaxError(t, src)
	}
	n, over := uint64(0), false
	for _, c := range s {
		if c -= '0'; c > 9 {
			return change.Value{}, syntaxError(t, src)
		}
		over = over || n > (math.MaxUint64-9)/10
		n = n*10 + uint64(c)
	}
	v := int64(n)
	if neg {
		v = -v
	}
	if over || n > 1<<63 || n == 1<<63 && !neg || !fitInt(t, v) {
		return change.Value{}, evalErrorf(codeRange, "value %s is out of range for type %s", quoteShort(src), t)
	}
	return change.Int(v), nil
}

func parseFloat(src []byte) (float64, error) {
	s := trimSpace(src)
	if k, ok := specialName(s); ok {
		switch k {
		case change.NumericPosInf:
			return math.Inf(1), nil
		case change.NumericNegInf:
			return math.Inf(-1), nil
		}
		return math.NaN(), nil
	}
	d, ok := scanDecimal(s)
	if !ok {
		if len(s) == 4 && (s[0] == '-' || s[0] == '+') && equalFold(s[1:], "nan") {
			return math.NaN(), nil
		}
		return 0, syntaxError(app.Float8, src)
	}
	f, _ := strconv.ParseFloat(viewString(s), 64)
	if math.IsInf(f, 0) || f == 0 && !(allZero(d.whole) && allZero(d.frac)) {
		return 0, evalErrorf(codeRange, "%s is out of range for type double precision", quoteShort(src))
	}
	return f, nil
}

// appendFloat prints the shortest digits that read back as f: plain between 1e-4 and 1e15, else with an exponent.
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case f != f:
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case f == 0:
		return append(dst, '0')
	}
	if a := math.Abs(f); a >= 1e-4 && a < 1e15 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	from := len(dst)
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	for digits := countDigits(dst[from:]); digits < 17 && halfway(dst[from:], f); digits++ {
		dst = strconv.AppendFloat(dst[:from], f, 'e', digits, 64) // one more
	}
	return dst
}

// countDigits counts the digits before the exponent.
func countDigits(s []byte) int {
	n := 0
	for _, c := range s {
		switch {
		case c == 'e':
			return n
		case isDigit(c):
			n++
		}
	}
	return n
}

// halfway reports whether the printed number lies exactly between f and a neighbour. It reads back as f, since ties go to
// even, but PostgreSQL does not rely on that and prints one digit more. Only large numbers have such neighbours.
func halfway(text []byte, f float64) bool {
	frac, exponent := math.Frexp(math.Abs(f))
	if exponent <= 53 {
		return false
	}
	d, _ := scanDecimal(text)
	k := d.exp - len(d.frac) // the number is digits × 10^k
	if k > 22 || k < 0 {
		return false
	}
	digits := parseUint(d.whole)*pow10Small[len(d.frac)] + parseUint(d.frac)
	hi, lo := bits.Mul64(digits, pow5(k))
	zeros := bits.TrailingZeros64(lo)
	if lo == 0 {
		zeros = 64 + bits.TrailingZeros64(hi)
	}
	printed := u128{hi, lo}.shiftRight(zeros)
	m := uint64(frac * (1 << 53)) // f = m·2^(exponent-53)
	neighbour := func(odd uint64, at int) bool { return printed == u128{0, odd} && zeros+k == at }
	return neighbour(2*m+1, exponent-54) || neighbour(2*m-1, exponent-54) || m == 1<<52 && neighbour(4*m-1, exponent-55)
}

// pow5 returns 5^k, k <= 27.
func pow5(k int) uint64 {
	n := uint64(1)
	for range k {
		n *= 5
	}
	return n
}

func checkText(s []byte) error {
	if i := invalidText(s); i >= 0 {
		return evalErrorf(codeEncoding, `invalid byte sequence for encoding "UTF8": 0x%02x at byte %d`, s[i], i)
	}
	return nil
}

// invalidText returns where s stops being text: a NUL or a byte that is no UTF-8; -1 when it is text throughout.
func invalidText(s []byte) int {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c == 0 {
				return i
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// parseUUID reads 32 hexadecimal digits of any case, with hyphens after any group of four, in braces or not.
func parseUUID(src, dst []byte) (change.Value, []byte, error) {
	from, s := len(dst), src
	braces := len(s) > 0 && s[0] == '{'
	if braces {
		s = s[1:]
	}
	for i := range 16 {
		if len(s) < 2 {
			return change.Value{}, dst[:from], syntaxError(app.UUID, src)
		}
		hi, lo := hexDigit(s[0]), hexDigit(s[1])
		if hi > 15 || lo > 15 {
			return change.Value{}, dst[:from], syntaxError(app.UUID, src)
		}
		dst, s = append(dst, hi<<4|lo), s[2:]
		if len(s) > 0 && s[0] == '-' && i%2 == 1 && i < 15 {
			s = s[1:]
		}
	}
	if braces && (len(s) != 1 || s[0] != '}') || !braces && len(s) != 0 {
		return change.Value{}, dst[:from], syntaxError(app.UUID, src)
	}
	return since(dst, from), dst, nil
}

// hexDigit returns the value of a hexadecimal digit, 255 for other bytes.
func hexDigit(c byte) byte {
	switch {
	case c-'0' < 10:
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 255
}

func appendUUID(dst, b []byte) []byte {
	dst = hex.AppendEncode(dst, b[:4])
	for _, group := range [4][2]int{{4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, b[group[0]:group[1]])
	}
	return dst
}
