package expr

import (
	"math"
	"math/big"

	"laaster/internal/change"
)

// The functions of this file give as many digits as PostgreSQL gives: at least 16 significant ones as far as it estimates the
// size of the result, and no fewer after the point than the arguments show. They compute with guard bits and round
// once, so that the digits agree but for the rare last one that PostgreSQL itself rounds the wrong way.

// resultLimit is how far, in decimal exponents, PostgreSQL lets exp() go (its NUMERIC_MAX_RESULT_SCALE * 3).
const resultLimit = 6000

func clampScale(scale int, shown ...int) int {
	for _, s := range shown {
		scale = max(scale, s)
	}
	return min(max(scale, 0), maxDisplayScale)
}

func overflowNum() *EvalError { return evalErrorf(codeRange, "value overflows numeric format") }

func sqrtNum(n num) (num, error) {
	switch {
	case n.isNaN(), n.kind == change.NumericPosInf:
		return n, nil
	case n.sign() < 0:
		return num{}, &EvalError{codePower, "cannot take square root of a negative number"}
	}
	weight, _ := n.weight()
	scale := clampScale(minSigDigits-sqrtWeight(weight), n.scale)
	// The root of coef·10^(2·scale-n.scale), made an integer with one digit more, which decides the rounding.
	x := n.bigCoef()
	if up := 2*(scale+1) - n.scale; up >= 0 {
		x = new(big.Int).Mul(x, bigPow10(up))
	} else {
		x = new(big.Int).Quo(x, bigPow10(-up))
	}
	r := bigNum(new(big.Int).Sqrt(x))
	r.scale = scale + 1
	return roundTo(r, scale), nil
}

// sqrtWeight estimates the decimal weight of a root as PostgreSQL does.
func sqrtWeight(weight int) int {
	return (weight+1)*4/2 - 1
}

func floatOfNum(n *num) float64 {
	f, _ := floatFromNum(n)
	return f
}

func expNum(n num) (num, error) {
	switch n.kind {
	case change.NumericNegInf:
		return num{}, nil
	case change.NumericNaN, change.NumericPosInf:
		return n, nil
	}
	return expAt(&n, expScale(floatOfNum(&n), n.scale))
}

// expScale returns the scale of e^x, where x is about val.
func expScale(val float64, shown ...int) int {
	w := math.Min(math.Max(val*math.Log10E, -2000), 2000)
	return clampScale(minSigDigits-int(w), shown...)
}

// expAt computes e^n at a scale.
func expAt(n *num, scale int) (num, error) {
	val := floatOfNum(n)
	if math.Abs(val) >= resultLimit {
		if val > 0 {
			return num{}, overflowNum()
		}
		return num{scale: scale}, nil
	}
	prec := bitsFor(scale + int(val*math.Log10E) + 2)
	return fromReal(expReal(toReal(n, prec+guardBits), prec), scale), nil
}

// checkLog refuses what has no logarithm.
func checkLog(n *num) error {
	switch n.sign() {
	case -1:
		return &EvalError{codeLog, "cannot take logarithm of a negative number"}
	case 0:
		return &EvalError{codeLog, "cannot take logarithm of zero"}
	}
	return nil
}

func lnNum(n num) (num, error) {
	if n.isNaN() {
		return n, nil
	}
	if err := checkLog(&n); err != nil || n.isInf() {
		return n, err
	}
	w := lnWeight(&n)
	return lnAt(&n, clampScale(minSigDigits-w, n.scale), w), nil
}

// lnAt computes ln(n) at a scale; weight is lnWeight(n).
func lnAt(n *num, scale, weight int) num {
	prec := bitsFor(scale + max(weight, 0) + 2)
	return fromReal(lnReal(toReal(n, prec+guardBits), prec), scale)
}

// lnWeight estimates the decimal weight of ln(n), n > 0, as PostgreSQL does.
func lnWeight(n *num) int {
	lo, hi := num{lo: 9, scale: 1}, num{lo: 11, scale: 1}
	if compareNum(n, &lo) >= 0 && compareNum(n, &hi) <= 0 {
		x := subNum(*n, intNum(1))
		if x.isZero() {
			return 0
		}
		w, first := x.weight()
		return w*4 + int(math.Log10(float64(first)))
	}
	w, first := n.weight()
	digits := float64(first)
	exponent := w * 4
	if d, lead := n.digits(), n.digits()-n.scale-4*w; d > lead { // a second digit of base 10,000
		digits = float64(n.leading(d, lead+4))
		exponent -= 4
	}
	return int(math.Log10(math.Abs(math.Log(digits) + float64(exponent)*math.Ln10)))
}

func logNum(base, n num) (num, error) {
	if base.isNaN() || n.isNaN() {
		return specialNum(change.NumericNaN), nil
	}
	for _, x := range []*num{&base, &n} {
		if x.sign() < 0 {
			return num{}, checkLog(x)
		}
	}
	for _, x := range []*num{&base, &n} {
		if x.sign() == 0 {
			return num{}, checkLog(x)
		}
	}
	switch {
	case base.isInf() && n.isInf():
		return specialNum(change.NumericNaN), nil
	case base.isInf():
		return num{}, nil
	case n.isInf():
		return n, nil
	}
	wb, wn := lnWeight(&base), lnWeight(&n)
	scale := clampScale(minSigDigits-(wn-wb), base.scale, n.scale)
	prec := bitsFor(scale + max(wn-wb, 0) + max(-wb, 0) + max(-wn, 0) + 4)
	lb := lnReal(toReal(&base, prec+guardBits), prec)
	if lb.Sign() == 0 {
		return num{}, divisionByZero()
	}
	ln := lnReal(toReal(&n, prec+guardBits), prec)
	return fromReal(ln.Quo(ln, lb), scale), nil
}
