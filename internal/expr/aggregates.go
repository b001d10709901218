package expr

import (
	"math/big"

	"laaster/app"
	"laaster/internal/change"
)

// This file holds what aggregates over many rows need beyond what expressions do.

// AppendVariance appends the encoding of the variance, or with root of the standard deviation, of count numbers whose sum is
// sum × 10^-scale and the sum of whose squares is squares × 10^(-2·scale), with PostgreSQL's choice of scale. With sample it divides
// by count-1, and count must be above 1; else count must be above 0. It does not change sum and squares.
func AppendVariance(dst []byte, sum, squares *big.Int, scale int, count int64, sample, root bool) []byte {
	n := big.NewInt(count)
	up := new(big.Int).Mul(squares, n)
	up.Sub(up, new(big.Int).Mul(sum, sum))
	if up.Sign() <= 0 {
		return appendNum(dst, &num{})
	}
	down := big.NewInt(count)
	if sample {
		down.Sub(down, big.NewInt(1))
	}
	a, b := bigNum(up), bigNum(down.Mul(down, n))
	a.scale = 2 * scale
	digits := divScale(&a, &b)
	v := quotient(a, b, digits, true)
	if root {
		v = rootAt(&v, digits)
	}
	return appendNum(dst, &v)
}

// rootAt returns the square root of n >= 0, rounded to a scale.
func rootAt(n *num, scale int) num {
	// The root of coef·10^(2·scale-n.scale), made an integer with one digit more, which decides the rounding.
	x := n.bigCoef()
	if up := 2*(scale+1) - n.scale; up >= 0 {
		x = new(big.Int).Mul(x, bigPow10(up))
	} else {
		x = new(big.Int).Quo(x, bigPow10(-up))
	}
	r := bigNum(new(big.Int).Sqrt(x))
	r.scale = scale + 1
	return roundTo(r, scale)
}

// AppendIntervalSum appends the interval of these fields, each the sum of that field over many intervals.
func AppendIntervalSum(dst []byte, months, days, us int64) ([]byte, error) {
	if months != int64(int32(months)) || days != int64(int32(days)) {
		return dst, intervalRange()
	}
	return interval{int32(months), int32(days), us}.append(dst), nil
}

// AppendIntervalAverage appends sum ÷ count, count > 0.
func AppendIntervalAverage(dst, sum []byte, count int64) ([]byte, error) {
	iv, err := scaleInterval(toInterval(sum), float64(count), func(x, f float64) float64 { return x / f })
	return iv.append(dst), err
}

// AppendIntervalBetween appends the interval that lies the fraction f of the way from a to b.
func AppendIntervalBetween(dst, a, b []byte, f float64) ([]byte, error) {
	from, err := negInterval(toInterval(a))
	if err != nil {
		return dst, err
	}
	way, err := addInterval(toInterval(b), from)
	if err != nil {
		return dst, err
	}
	if way, err = scaleInterval(way, f, func(x, f float64) float64 { return x * f }); err != nil {
		return dst, err
	}
	if way, err = addInterval(way, toInterval(a)); err != nil {
		return dst, err
	}
	return way.append(dst), nil
}

// AppendAsJSON appends v as to_jsonb(v) prints it.
func AppendAsJSON(dst []byte, t app.Type, v change.Value) []byte { return appendAsJSON(dst, t, v) }

// AppendAsJSONKey appends v, which is not NULL, as the key of a jsonb object, in quotes.
func AppendAsJSONKey(dst []byte, t app.Type, v change.Value) []byte {
	switch t {
	case app.Text:
		return append(appendJSONChars(append(dst, '"'), v.B), '"')
	case app.Bool:
		return append(AppendJSON(append(dst, '"'), t, v, false), '"')
	case app.Timestamptz, app.Timestamp:
		return appendTimestampISO(dst, v.N, t == app.Timestamptz)
	}
	return append(appendJSONChars(append(dst, '"'), AppendText(nil, t, v)), '"')
}

// AppendJSONB appends the jsonb that text, which must not alias dst, stands for: keys in order, the last of equal ones.
func AppendJSONB(dst, text []byte) ([]byte, error) {
	_, dst, err := parseJSONB(text, dst)
	return dst, err
}
