package expr

import (
	"math"
	"math/big"
)

// This file computes exponentials and logarithms to any precision in binary floating point (math/big.Float). Precisions are in
// bits; guard bits beyond what is asked for absorb the roundings of the steps.

const guardBits = 64

// bitsFor returns the precision that holds a number of decimal digits.
func bitsFor(digits int) uint { return uint(float64(max(digits, minSigDigits))*3.3220) + guardBits }

// newReal returns 0 of a precision.
func newReal(prec uint) *big.Float { return new(big.Float).SetPrec(prec) }

// toReal converts a finite number.
func toReal(n *num, prec uint) *big.Float {
	f := newReal(prec).SetInt(n.bigCoef())
	if n.scale > 0 {
		f.Quo(f, newReal(prec).SetInt(bigPow10(n.scale)))
	}
	if n.neg {
		f.Neg(f)
	}
	return f
}

// fromReal rounds half away from zero to a scale.
func fromReal(f *big.Float, scale int) num {
	x := newReal(f.Prec() + guardBits).SetInt(bigPow10(scale))
	x.Mul(x, f)
	half := big.NewFloat(0.5)
	if x.Sign() < 0 {
		half.Neg(half)
	}
	i, _ := x.Add(x, half).Int(nil)
	n := bigNum(i)
	n.scale = scale
	return n
}

// expReal returns e^x: x = n·ln 2 + r, then e^r by the Taylor series of r·2^-k, squared k times.
func expReal(x *big.Float, prec uint) *big.Float {
	k := int(math.Sqrt(float64(prec)))/2 + 1
	work := prec + uint(k)*2 + guardBits
	ln2 := ln2Real(work)
	q, _ := newReal(work).Quo(x, ln2).Float64()
	n := int(math.Round(q))
	r := newReal(work).SetInt64(int64(n))
	r.Sub(x, r.Mul(r, ln2))
	r.SetMantExp(r, -k)
	sum, term := newReal(work).SetInt64(1), newReal(work).SetInt64(1)
	for i := int64(1); ; i++ {
		term.Mul(term, r)
		term.Quo(term, newReal(work).SetInt64(i))
		if term.Sign() == 0 || term.MantExp(nil) < -int(work) {
			break
		}
		sum.Add(sum, term)
	}
	for range k {
		sum.Mul(sum, sum)
	}
	return sum.SetMantExp(sum, n)
}

// lnReal returns ln x for x > 0: x = m·2^e with m near 1, then k square roots of m, and the series of atanh.
func lnReal(x *big.Float, prec uint) *big.Float {
	k := int(math.Sqrt(float64(prec)))/4 + 1
	work := prec + uint(k)*2 + guardBits
	m := newReal(work)
	e := newReal(work).Set(x).MantExp(m) // 0.5 <= m < 1
	if m.Cmp(big.NewFloat(0.75)) < 0 {
		m.SetMantExp(m, 1)
		e--
	}
	one := newReal(work).SetInt64(1)
	if d := newReal(work).Sub(m, one); d.Sign() == 0 {
		return d.Mul(ln2Real(work), newReal(work).SetInt64(int64(e)))
	} else if near := -d.MantExp(nil); near > 0 { // what the difference from 1 loses
		work += uint(near)
		m.SetPrec(work)
		one.SetPrec(work)
	}
	for range k {
		m.Sqrt(m)
	}
	y := newReal(work).Quo(newReal(work).Sub(m, one), newReal(work).Add(m, one))
	sum := atanhReal(y, work)
	sum.SetMantExp(sum, k+1)
	if e != 0 {
		sum.Add(sum, newReal(work).Mul(ln2Real(work), newReal(work).SetInt64(int64(e))))
	}
	return sum
}

// atanhReal sums y + y³/3 + y⁵/5 + …
func atanhReal(y *big.Float, prec uint) *big.Float {
	sum, power := newReal(prec).Set(y), newReal(prec).Set(y)
	if y.Sign() == 0 {
		return sum
	}
	square := newReal(prec).Mul(y, y)
	for i := int64(3); ; i += 2 {
		power.Mul(power, square)
		term := newReal(prec).Quo(power, newReal(prec).SetInt64(i))
		if term.Sign() == 0 || term.MantExp(nil) < sum.MantExp(nil)-int(prec) {
			return sum
		}
		sum.Add(sum, term)
	}
}

// ln2Real returns ln 2 = 18·atanh(1/26) − 2·atanh(1/4801) + 8·atanh(1/8749).
func ln2Real(prec uint) *big.Float {
	sum := newReal(prec)
	for _, t := range [3][2]int64{{18, 26}, {-2, 4801}, {8, 8749}} {
		y := newReal(prec).Quo(newReal(prec).SetInt64(1), newReal(prec).SetInt64(t[1]))
		sum.Add(sum, newReal(prec).Mul(newReal(prec).SetInt64(t[0]), atanhReal(y, prec)))
	}
	return sum
}

// powerReal returns base^e by squaring.
func powerReal(base *big.Float, e int64, prec uint) *big.Float {
	result, b := newReal(prec).SetInt64(1), newReal(prec).Set(base)
	for k := absInt64(e); k > 0; k >>= 1 {
		if k&1 == 1 {
			result.Mul(result, b)
		}
		if k > 1 {
			b.Mul(b, b)
		}
	}
	if e < 0 {
		result.Quo(newReal(prec).SetInt64(1), result)
	}
	return result
}
