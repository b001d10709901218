package expr

import (
	"math/big"
	"math/bits"

	"laaster/internal/change"
)

// The scales that PostgreSQL gives to results that have no natural one.
const (
	minSigDigits    = 16   // significant digits of a quotient, at least
	maxDisplayScale = 1000 // digits after the point of a quotient, at most
)

func specialNum(k change.NumericKind) num { return num{kind: k} }

// infinity returns ∞ with a sign.
func infinity(sign int) num {
	if sign < 0 {
		return specialNum(change.NumericNegInf)
	}
	return specialNum(change.NumericPosInf)
}

func (n *num) isNaN() bool { return n.kind == change.NumericNaN }

func (n *num) isInf() bool { return n.kind == change.NumericPosInf || n.kind == change.NumericNegInf }

func negNum(n num) num {
	switch n.kind {
	case change.NumericPosInf:
		return specialNum(change.NumericNegInf)
	case change.NumericNegInf:
		return specialNum(change.NumericPosInf)
	}
	n.neg = !n.neg && !n.isZero()
	return n
}

func addNum(a, b num) num {
	if a.kind|b.kind != change.NumericFinite {
		return addSpecial(&a, &b)
	}
	if a.scale < b.scale {
		a.scaleUp(b.scale - a.scale)
	} else {
		b.scaleUp(a.scale - b.scale)
	}
	if a.big == nil && b.big == nil {
		if r, ok := add128(&a, &b); ok {
			return r
		}
	}
	x, y := signedBig(&a), signedBig(&b)
	a.setBig(new(big.Int).Add(x, y))
	return a
}

// add128 adds two numbers of one scale whose coefficients are small; ok is false when the sum's is not.
func add128(a, b *num) (r num, ok bool) {
	r.scale = a.scale
	if a.neg == b.neg {
		lo, carry := bits.Add64(a.lo, b.lo, 0)
		hi, over := bits.Add64(a.hi, b.hi, carry)
		r.neg, r.hi, r.lo = a.neg, hi, lo
		return r, over == 0
	}
	if less128(a.hi, a.lo, b.hi, b.lo) {
		a, b = b, a
	}
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	r.neg, r.hi, r.lo = a.neg && hi|lo != 0, hi, lo
	return r, true
}

func addSpecial(a, b *num) num {
	switch {
	case a.isNaN() || b.isNaN() || a.isInf() && b.isInf() && a.kind != b.kind:
		return specialNum(change.NumericNaN)
	case a.isInf():
		return *a
	}
	return *b
}

// signedBig returns a new or shared big integer with the sign of n; the caller must not change it.
func signedBig(n *num) *big.Int {
	x := n.bigCoef()
	if n.neg {
		return new(big.Int).Neg(x)
	}
	return x
}

func subNum(a, b num) num { return addNum(a, negNum(b)) }

func mulNum(a, b num) num {
	if a.kind|b.kind != change.NumericFinite {
		if a.isNaN() || b.isNaN() || a.sign() == 0 || b.sign() == 0 {
			return specialNum(change.NumericNaN)
		}
		return infinity(a.sign() * b.sign())
	}
	r := num{scale: a.scale + b.scale}
	if a.big == nil && b.big == nil {
		if p, ok := mul128(u128{a.hi, a.lo}, u128{b.hi, b.lo}); ok {
			r.hi, r.lo = p.hi, p.lo
			r.neg = a.neg != b.neg && p.hi|p.lo != 0
			return roundTo(r, change.NumericMaxScale)
		}
	}
	r.setBig(new(big.Int).Mul(a.bigCoef(), b.bigCoef()))
	r.neg = a.neg != b.neg
	return roundTo(r, change.NumericMaxScale)
}

// divNum divides with PostgreSQL's choice of scale.
func divNum(a, b num) (num, error) {
	if a.kind|b.kind != change.NumericFinite {
		return divSpecial(&a, &b)
	}
	if b.isZero() {
		return num{}, divisionByZero()
	}
	return quotient(a, b, divScale(&a, &b), true), nil
}

func divSpecial(a, b *num) (num, error) {
	switch {
	case a.isNaN() || b.isNaN() || a.isInf() && b.isInf():
		return specialNum(change.NumericNaN), nil
	case a.isInf() && b.sign() == 0:
		return num{}, divisionByZero()
	case a.isInf():
		return infinity(a.sign() * b.sign()), nil
	}
	return num{}, nil // finite / ∞
}

func divisionByZero() *EvalError { return &EvalError{codeZero, "division by zero"} }

// quotient computes a/b at a scale of at least the operands' difference; b is not zero. Half is rounded away from zero, or
// else digits are cut off.
func quotient(a, b num, scale int, round bool) num {
	r := num{scale: scale}
	up := scale + b.scale - a.scale // a's coefficient × 10^up / b's is the quotient's
	down := max(0, -up)
	a.scaleUp(max(0, up))
	b.scaleUp(down)
	if a.big == nil && b.big == nil && b.hi == 0 {
		q, rest := div128(u128{a.hi, a.lo}, b.lo)
		if round && rest >= b.lo-rest {
			var carry uint64
			q.lo, carry = bits.Add64(q.lo, 1, 0)
			q.hi += carry
		}
		r.hi, r.lo = q.hi, q.lo
		r.neg = a.neg != b.neg && q.hi|q.lo != 0
		return r
	}
	d := b.bigCoef()
	q, rest := new(big.Int).QuoRem(a.bigCoef(), d, new(big.Int))
	if round && rest.Lsh(rest, 1).Cmp(d) >= 0 {
		q.Add(q, big.NewInt(1))
	}
	r.setBig(q)
	r.neg = a.neg != b.neg && !r.isZero()
	return r
}

// divScale is how many digits after the point a quotient gets: at least 16 significant ones, as counted in PostgreSQL's
// digits of base 10,000, and no fewer than either operand shows.
func divScale(a, b *num) int {
	wa, fa := a.weight()
	wb, fb := b.weight()
	w := wa - wb
	if fa <= fb {
		w--
	}
	return min(max(minSigDigits-w*4, a.scale, b.scale, 0), maxDisplayScale)
}

// weight returns the exponent and the value of the first nonzero digit in base 10,000; 0, 0 for zero.
func (n *num) weight() (weight, first int) {
	d := n.digits()
	if d == 0 {
		return 0, 0
	}
	before := d - n.scale // the value is 0.ddd… × 10^before, so its first digit has weight ceil(before/4)-1
	weight = floorDiv(before-1, 4)
	// The first digit holds the leading before-4*weight decimal digits, 1 to 4 of them.
	lead := before - 4*weight
	return weight, n.leading(d, lead)
}

// leading returns the first k of the d digits of the coefficient as a number; digits that are not there count as zeros.
func (n *num) leading(d, k int) int {
	if n.big != nil {
		q := new(big.Int).Quo(n.big, bigPow10(d-k))
		return int(q.Int64())
	}
	if d <= k {
		return int(n.lo * pow10Small[k-d])
	}
	if d-k < 20 {
		q, _ := div128(u128{n.hi, n.lo}, pow10Small[d-k])
		return int(q.lo)
	}
	q, _ := div128(u128{n.hi, n.lo}, pow10Small[19])
	q, _ = div128(q, pow10Small[d-k-19])
	return int(q.lo)
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// modNum returns the remainder with the sign of a.
func modNum(a, b num) (num, error) {
	if a.kind|b.kind != change.NumericFinite {
		switch {
		case a.isNaN() || b.isNaN():
			return specialNum(change.NumericNaN), nil
		case a.isInf() && b.sign() == 0:
			return num{}, divisionByZero()
		case a.isInf():
			return specialNum(change.NumericNaN), nil
		}
		return a, nil // finite % ∞
	}
	if b.isZero() {
		return num{}, divisionByZero()
	}
	if a.scale < b.scale {
		a.scaleUp(b.scale - a.scale)
	} else {
		b.scaleUp(a.scale - b.scale)
	}
	r := num{scale: a.scale}
	if a.big == nil && b.big == nil && b.hi == 0 {
		_, r.lo = div128(u128{a.hi, a.lo}, b.lo)
	} else {
		r.setBig(new(big.Int).Rem(a.bigCoef(), b.bigCoef()))
	}
	r.neg = a.neg && !r.isZero()
	return r, nil
}

// roundTo returns n with at most scale digits after the point, half rounded away from zero. A negative scale rounds to tens,
// hundreds, …; the result then has scale 0.
func roundTo(n num, scale int) num { return cut(n, scale, true) }

// truncTo is roundTo without the rounding.
func truncTo(n num, scale int) num { return cut(n, scale, false) }

func cut(n num, scale int, round bool) num {
	if n.kind != change.NumericFinite || n.scale <= scale {
		return n
	}
	drop := n.scale - scale
	n = n.dropDigits(drop, round)
	n.scale = scale
	if scale < 0 {
		n.scaleUp(-scale)
	}
	n.neg = n.neg && !n.isZero()
	return n
}

// dropDigits divides the coefficient by 10^k, k > 0.
func (n num) dropDigits(k int, round bool) num {
	switch {
	case k > n.digits()+1:
		n.hi, n.lo, n.big = 0, 0, nil
	case n.big == nil && k < 20:
		q := quotient(num{hi: n.hi, lo: n.lo}, num{lo: pow10Small[k]}, 0, round)
		n.hi, n.lo = q.hi, q.lo
	default:
		q := quotient(num{hi: n.hi, lo: n.lo, big: n.big}, bigNum(bigPow10(k)), 0, round)
		n.hi, n.lo, n.big = q.hi, q.lo, q.big
	}
	return n
}

// bigNum returns a non-negative integer.
func bigNum(x *big.Int) num {
	var n num
	n.setBig(x)
	return n
}

// ceilNum returns the least integer that is not below n.
func ceilNum(n num) num {
	r := truncTo(n, 0)
	if n.kind == change.NumericFinite && !n.neg && compareNum(&r, &n) != 0 {
		r = addNum(r, intNum(1))
	}
	return r
}

// floorNum returns the greatest integer that is not above n.
func floorNum(n num) num {
	return negNum(ceilNum(negNum(n)))
}
