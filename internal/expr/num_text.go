package expr

import (
	"bytes"
	"cmp"
	"math"
	"math/big"
	"strconv"
	"strings"

	"laaster/app"
	"laaster/internal/change"
)

// parseNum reads PostgreSQL's input of numeric.
func parseNum(src []byte) (num, error) {
	s := trimSpace(src)
	if k, ok := specialName(s); ok {
		return specialNum(k), nil
	}
	d, ok := scanDecimal(s)
	if !ok {
		return num{}, syntaxError(app.Numeric, src)
	}
	n, ok := d.num()
	if !ok {
		return num{}, overflowNum()
	}
	return n, n.check()
}

// specialName reads NaN and the infinities in any case.
func specialName(s []byte) (change.NumericKind, bool) {
	if len(s) < 3 || len(s) > 9 || s[len(s)-1] < '9' {
		return 0, false
	}
	switch strings.ToLower(string(s)) {
	case "nan":
		return change.NumericNaN, true
	case "infinity", "+infinity", "inf", "+inf":
		return change.NumericPosInf, true
	case "-infinity", "-inf":
		return change.NumericNegInf, true
	}
	return 0, false
}

// decimal is a scanned number, not yet computed.
type decimal struct {
	neg   bool
	whole []byte // digits before the point, without leading zeros
	frac  []byte // digits after it
	exp   int    // clamped to ±expLimit
}

// expLimit is where PostgreSQL stops to read exponents, of zero too.
const expLimit = 1<<30 - 1

// scanDecimal reads [+-] digits [. digits] [e [+-] digits] with a digit before or after the point.
func scanDecimal(s []byte) (d decimal, ok bool) {
	i := 0
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		d.neg = s[i] == '-'
		i++
	}
	d.whole, i = scanDigits(s, i)
	seen := len(d.whole)
	if i < len(s) && s[i] == '.' {
		d.frac, i = scanDigits(s, i+1)
		seen += len(d.frac)
	}
	if seen == 0 {
		return d, false
	}
	for len(d.whole) > 0 && d.whole[0] == '0' {
		d.whole = d.whole[1:]
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		neg := i < len(s) && s[i] == '-'
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		var digits []byte
		if digits, i = scanDigits(s, i); len(digits) == 0 {
			return d, false
		}
		for _, c := range digits {
			d.exp = min(d.exp*10+int(c-'0'), expLimit)
		}
		if neg {
			d.exp = -d.exp
		}
	}
	return d, i == len(s)
}

func scanDigits(s []byte, i int) ([]byte, int) {
	from := i
	for i < len(s) && s[i]-'0' < 10 {
		i++
	}
	return s[from:i], i
}

// num computes the number; ok is false when it is beyond numeric's limits.
func (d *decimal) num() (n num, ok bool) {
	n.scale = len(d.frac) - d.exp
	if d.exp >= expLimit || d.exp <= -expLimit {
		return num{}, false
	}
	if n.scale > change.NumericMaxScale {
		return n, false
	}
	up := max(0, -n.scale)
	n.scale = max(0, n.scale)
	if len(d.whole)+d.exp > change.NumericMaxDigits+len(d.frac) {
		return num{}, len(d.whole) == 0 && allZero(d.frac)
	}
	if digits := len(d.whole) + len(d.frac); digits <= 19 {
		n.lo = parseUint(d.whole)*pow10Small[len(d.frac)] + parseUint(d.frac)
	} else {
		text := make([]byte, 0, digits)
		x, _ := new(big.Int).SetString(string(append(append(text, d.whole...), d.frac...)), 10)
		n.setBig(x)
	}
	if up > 0 {
		n.scaleUp(up)
		n.scale = 0
	}
	n.neg = d.neg && !n.isZero()
	return n, true
}

// appendText appends what appendNumText prints of d.num(), in time linear in what it appends: a number of a few bytes may have 130,000 digits, and computing
// them takes milliseconds. ok is false when d is beyond numeric's limits.
func (d *decimal) appendText(dst []byte) (text []byte, ok bool) {
	whole, frac, scale := d.whole, d.frac, len(d.frac)-d.exp
	if d.exp >= expLimit || d.exp <= -expLimit || scale > change.NumericMaxScale {
		return dst, false
	}
	up := max(0, -scale) // zeros behind the digits
	scale = max(0, scale)
	if len(whole) == 0 {
		for len(frac) > 0 && frac[0] == '0' {
			frac = frac[1:]
		}
		if len(frac) == 0 {
			if dst = append(dst, '0'); scale > 0 {
				dst = appendZeros(append(dst, '.'), scale)
			}
			return dst, true
		}
	}
	digits := len(whole) + len(frac)
	before := digits + up - scale
	if before > change.NumericMaxDigits {
		return dst, false
	}
	if d.neg {
		dst = append(dst, '-')
	}
	if before <= 0 {
		return append(append(appendZeros(append(dst, "0."...), -before), whole...), frac...), true
	}
	from := len(dst)
	dst = appendZeros(append(append(dst, whole...), frac...), up)
	if scale > 0 {
		dst = append(dst, 0)
		copy(dst[from+before+1:], dst[from+before:])
		dst[from+before] = '.'
	}
	return dst, true
}

// compareDecimals orders two texts of appendText by their numbers.
func compareDecimals(a, b []byte) int {
	negA, negB := a[0] == '-', b[0] == '-'
	if negA != negB {
		return int(boolInt(negB) - boolInt(negA))
	}
	if negA {
		a, b = b[1:], a[1:]
	}
	wholeA, fracA, _ := bytes.Cut(a, []byte{'.'})
	wholeB, fracB, _ := bytes.Cut(b, []byte{'.'})
	if len(wholeA) != len(wholeB) {
		return len(wholeA) - len(wholeB)
	}
	return cmp.Or(bytes.Compare(wholeA, wholeB), bytes.Compare(bytes.TrimRight(fracA, "0"), bytes.TrimRight(fracB, "0")))
}

func appendZeros(dst []byte, n int) []byte {
	for range n {
		dst = append(dst, '0')
	}
	return dst
}

func allZero(digits []byte) bool {
	for _, c := range digits {
		if c != '0' {
			return false
		}
	}
	return true
}

// parseUint reads up to 19 digits.
func parseUint(digits []byte) uint64 {
	var n uint64
	for _, c := range digits {
		n = n*10 + uint64(c-'0')
	}
	return n
}

// appendNumText appends PostgreSQL's output of n.
func appendNumText(dst []byte, n *num) []byte {
	switch n.kind {
	case change.NumericNaN:
		return append(dst, "NaN"...)
	case change.NumericPosInf:
		return append(dst, "Infinity"...)
	case change.NumericNegInf:
		return append(dst, "-Infinity"...)
	}
	if n.neg {
		dst = append(dst, '-')
	}
	from := len(dst)
	if n.big != nil {
		dst = n.big.Append(dst, 10)
	} else {
		dst = change.AppendUint128(dst, n.hi, n.lo)
	}
	if n.scale == 0 {
		return dst
	}
	if pad := n.scale + 1 - (len(dst) - from); pad > 0 { // a digit before the point, at least
		digits := len(dst) - from
		for range pad {
			dst = append(dst, '0')
		}
		copy(dst[from+pad:], dst[from:from+digits])
		for i := range min(pad, digits) {
			dst[from+i] = '0'
		}
	}
	point := len(dst) - n.scale
	dst = append(dst, 0)
	copy(dst[point+1:], dst[point:])
	dst[point] = '.'
	return dst
}

// numFromFloat converts as PostgreSQL does: by way of 15 significant digits.
func numFromFloat(f float64) num {
	switch {
	case f != f:
		return specialNum(change.NumericNaN)
	case math.IsInf(f, 0):
		return infinity(int(math.Copysign(1, f)))
	}
	var buf [40]byte
	d, _ := scanDecimal(strconv.AppendFloat(buf[:0], f, 'e', 14, 64))
	for len(d.frac) > 0 && d.frac[len(d.frac)-1] == '0' { // %.15g writes no trailing zeros
		d.frac = d.frac[:len(d.frac)-1]
	}
	n, _ := d.num()
	return n
}

// floatFromNum returns the nearest double. Beyond its range it is an infinity or zero, and ok is false.
func floatFromNum(n *num) (f float64, ok bool) {
	switch n.kind {
	case change.NumericNaN:
		return math.NaN(), true
	case change.NumericPosInf, change.NumericNegInf:
		return math.Inf(n.sign()), true
	}
	if n.big == nil && n.hi == 0 && n.lo < 1<<53 && n.scale <= 22 { // one exact division
		f := float64(n.lo) / exactPow10(n.scale)
		if n.neg {
			f = -f
		}
		return f, true
	}
	var buf [96]byte
	text := appendNumText(buf[:0], n)
	f, _ = strconv.ParseFloat(viewString(text), 64)
	return f, !math.IsInf(f, 0) && (f != 0 || n.isZero())
}

// exactPow10 returns 10^k, k <= 22, which doubles hold exactly.
func exactPow10(k int) float64 {
	if k < 20 {
		return float64(pow10Small[k])
	}
	return 1e19 * float64(pow10Small[k-19])
}

// numToInt rounds half away from zero; ok is false when the result does not fit.
func numToInt(n *num) (v int64, ok bool) {
	if n.kind != change.NumericFinite {
		return 0, false
	}
	r := roundTo(*n, 0)
	switch {
	case r.big != nil || r.hi != 0:
		return 0, false
	case r.neg:
		return -int64(r.lo), r.lo <= 1<<63
	}
	return int64(r.lo), r.lo < 1<<63
}
