package expr

import (
	"math"

	"laaster/internal/change"
)

func undefinedPower() *EvalError {
	return &EvalError{codePower, "zero raised to a negative power is undefined"}
}

func complexPower() *EvalError {
	return &EvalError{codePower, "a negative number raised to a non-integer power yields a complex result"}
}

// powNum is power(a, b).
func powNum(a, b num) (num, error) {
	if a.isNaN() || b.isNaN() {
		one := intNum(1)
		if b.kind == change.NumericFinite && b.isZero() || a.kind == change.NumericFinite && compareNum(&a, &one) == 0 {
			return one, nil
		}
		return specialNum(change.NumericNaN), nil
	}
	whole := truncTo(b, 0)
	integral := b.isInf() || compareNum(&whole, &b) == 0
	switch {
	case a.sign() == 0 && b.sign() < 0:
		return num{}, undefinedPower()
	case a.sign() < 0 && !integral:
		return num{}, complexPower()
	case a.isInf() || b.isInf():
		return powInfinite(&a, &b), nil
	}
	if v, ok := numToInt(&whole); ok && integral && v == int64(int32(v)) {
		return powInt(a, v, clampScale(minSigDigits, a.scale))
	}
	if a.isZero() {
		return num{scale: minSigDigits}, nil
	}
	neg := false
	if a.neg {
		odd, _ := modNum(whole, intNum(2))
		neg, a = !odd.isZero(), negNum(a)
	}
	r, err := powReal(a, b)
	if neg {
		r = negNum(r)
	}
	return r, err
}

// powInfinite follows POSIX for infinite operands.
func powInfinite(a, b *num) num {
	one := intNum(1)
	abs := *a
	if a.sign() < 0 {
		abs = negNum(*a)
	}
	grows := compareNum(&abs, &one)
	switch {
	case b.sign() == 0 || a.kind == change.NumericFinite && grows == 0:
		return one
	case b.isInf():
		if (grows > 0) == (b.sign() > 0) {
			return infinity(1)
		}
		return num{}
	case b.sign() < 0:
		return num{}
	}
	if odd, _ := modNum(*b, intNum(2)); a.sign() < 0 && !odd.isZero() {
		return infinity(-1)
	}
	return infinity(1)
}

// powInt raises to an integer power.
func powInt(a num, e int64, scale int) (num, error) {
	switch e {
	case 0:
		return num{lo: pow10Small[0]}.padded(scale), nil
	case 1:
		return roundTo(a, scale).padded(scale), nil
	case -1:
		return quotient(intNum(1), a, scale, true), nil
	case 2:
		return roundTo(mulNum(a, a), scale).padded(scale), nil
	}
	if a.isZero() {
		return num{scale: scale}, nil
	}
	// The decimal weight of the result, from the leading digits of the base.
	d := a.digits()
	keep := min(d, 16)
	lead := float64(0)
	if a.big != nil || d > 16 {
		t := a.dropDigits(d-keep, false)
		lead = float64(t.lo)
	} else {
		lead = float64(a.lo)
	}
	weight := float64(e) * (math.Log10(lead) + float64(d-keep-a.scale))
	if weight > 3*math.MaxInt16*4 {
		return num{}, overflowNum()
	}
	if weight+1 < float64(-scale) {
		return num{scale: scale}, nil
	}
	// Squaring multiplies errors: guard digits for each decimal digit of the exponent.
	prec := bitsFor(scale + int(weight) + 1 + int(math.Log10(math.Abs(float64(e))))*2)
	n := fromReal(powerReal(toReal(&a, prec+guardBits), e, prec+guardBits), scale)
	return n, n.check()
}

// padded returns n with at least scale digits after the point.
func (n num) padded(scale int) num {
	n.scaleUp(max(0, scale-n.scale))
	return n
}

// powReal is e^(b·ln a) for a > 0.
func powReal(a, b num) (num, error) {
	w := lnWeight(&a)
	rough := lnAt(&a, max(8-w, 0), w)
	product := roundTo(mulNum(rough, b), max(8-w, 0))
	val := floatOfNum(&product)
	if math.Abs(val) > resultLimit*1.003 {
		if val > 0 {
			return num{}, overflowNum()
		}
		return num{scale: maxDisplayScale}, nil
	}
	val *= math.Log10E
	scale := clampScale(minSigDigits-int(val), a.scale, b.scale)
	prec := bitsFor(scale + max(int(val), 0) + max(-w, 0) + 10)
	p := lnReal(toReal(&a, prec+guardBits), prec)
	p.Mul(p, toReal(&b, prec+guardBits))
	return fromReal(expReal(p, prec), scale), nil
}
