package expr

import (
	"math"
	"math/big"
	"slices"

	"laaster/app"
	"laaster/internal/change"
)

func addIntegers(c *catalog) {
	for _, t := range []app.Type{app.Int4, app.Int8} {
		two, name := "("+t.String()+", "+t.String()+") "+t.String(), t.String()
		width := int64(31)
		if t == app.Int8 {
			width = 63
		}
		c.add("<<("+name+", integer) "+name, func(_ *Ctx, a, b change.Value) (change.Value, error) {
			if t == app.Int4 {
				return change.Int(int64(int32(a.N) << (b.N & width))), nil
			}
			return change.Int(a.N << (b.N & width)), nil
		})
		c.add(">>("+name+", integer) "+name, func(_ *Ctx, a, b change.Value) (change.Value, error) {
			return change.Int(a.N >> (b.N & width)), nil
		})
		c.add("gcd"+two, func(_ *Ctx, a, b change.Value) (change.Value, error) {
			return magnitude(t, gcd(absInt64(a.N), absInt64(b.N)))
		})
		c.add("lcm"+two, func(_ *Ctx, a, b change.Value) (change.Value, error) {
			x, y := absInt64(a.N), absInt64(b.N)
			if x == 0 || y == 0 {
				return change.Int(0), nil
			}
			p, ok := mul128(u128{0, x / gcd(x, y)}, u128{0, y})
			if !ok || p.hi != 0 {
				return a, rangeError(t)
			}
			return magnitude(t, p.lo)
		})
		at := func(_ *Ctx, a change.Value) (change.Value, error) { return magnitude(t, absInt64(a.N)) }
		c.add("@("+name+") "+name, at)
	}
	c.add("@(numeric) numeric", numFn(func(n num) num {
		if n.sign() < 0 {
			return negNum(n)
		}
		return n
	}))
	c.add("@(double precision) double precision", floatFn(whole(math.Abs)))
	c.add("gcd(numeric, numeric) numeric", numOpErr(gcdNum))
	c.add("lcm(numeric, numeric) numeric", numOpErr(lcmNum))
	c.add("factorial(bigint) numeric", factorial)
	c.add("min_scale(numeric) integer", func(_ *Ctx, a change.Value) (change.Value, error) {
		n := toNum(a.B)
		if n.kind != change.NumericFinite {
			return change.Null(), nil
		}
		return change.Int(int64(minScale(&n))), nil
	})
	c.add("trim_scale(numeric) numeric", numFn(func(n num) num {
		if n.kind != change.NumericFinite {
			return n
		}
		return truncTo(n, minScale(&n))
	}))
}

// magnitude returns an unsigned number as t.
func magnitude(t app.Type, n uint64) (change.Value, error) {
	if n > math.MaxInt64 || !fitInt(t, int64(n)) {
		return change.Value{}, rangeError(t)
	}
	return change.Int(int64(n)), nil
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// alike brings two finite numbers to one scale and returns their coefficients.
func alike(a, b *num) (x, y *big.Int, scale int) {
	scale = max(a.scale, b.scale)
	a.scaleUp(scale - a.scale)
	b.scaleUp(scale - b.scale)
	return a.bigCoef(), b.bigCoef(), scale
}

func gcdNum(a, b num) (num, error) {
	if a.kind|b.kind != change.NumericFinite {
		return specialNum(change.NumericNaN), nil
	}
	x, y, scale := alike(&a, &b)
	r := bigNum(new(big.Int).GCD(nil, nil, x, y))
	r.scale = scale
	return r, nil
}

func lcmNum(a, b num) (num, error) {
	if a.kind|b.kind != change.NumericFinite {
		return specialNum(change.NumericNaN), nil
	}
	x, y, scale := alike(&a, &b)
	if x.Sign() == 0 || y.Sign() == 0 {
		return num{scale: scale}, nil
	}
	q := new(big.Int).Quo(x, new(big.Int).GCD(nil, nil, x, y))
	r := bigNum(q.Mul(q, y))
	r.scale = scale
	return r, nil
}

// maxFactorial bounds the time that one factorial takes.
const maxFactorial = 10_000

func factorial(c *Ctx, a change.Value) (change.Value, error) {
	switch {
	case a.N < 0:
		return a, &EvalError{codeRange, "factorial of a negative number is undefined"}
	case a.N > 32177:
		return a, overflowNum()
	case a.N > maxFactorial:
		return a, evalErrorf(codeLimit, "factorials are computed up to %d", maxFactorial)
	}
	n := bigNum(new(big.Int).MulRange(1, a.N))
	return c.value(&n)
}

// minScale returns how many digits after the point a number needs.
func minScale(n *num) int {
	text := appendNumText(nil, &num{kind: n.kind, scale: n.scale, hi: n.hi, lo: n.lo, big: n.big})
	scale := n.scale
	for scale > 0 && text[len(text)-1] == '0' {
		text = text[:len(text)-1]
		scale--
	}
	return scale
}

func addBuckets(c *catalog) {
	c.add("width_bucket(numeric, numeric, numeric, integer) integer", func(c *Ctx, args []change.Value) (change.Value, error) {
		x, lo, hi := toNum(args[0].B), toNum(args[1].B), toNum(args[2].B)
		return bucketNum(x, lo, hi, args[3].N)
	})
	c.add("width_bucket(double precision, double precision, double precision, integer) integer", func(_ *Ctx, args []change.Value) (change.Value, error) {
		return bucketFloat(args[0].Float(), args[1].Float(), args[2].Float(), args[3].N)
	})
	c.add("width_bucket(anycompatible, anycompatiblearray) integer", forElem(1, func(elem app.Type) any {
		compare := comparer(elem)
		return func(c *Ctx, a, b change.Value) (change.Value, error) {
			base := len(c.stack)
			c.pushElements(b.B, elem)
			list := c.stack[base:]
			c.stack = c.stack[:base]
			if slices.ContainsFunc(list, func(v change.Value) bool { return v.Null }) {
				return a, &EvalError{codeNull, "thresholds array must not contain NULLs"}
			}
			n, _ := slices.BinarySearchFunc(list, a, func(v, a change.Value) int {
				if compare(a, v) < 0 {
					return 1
				}
				return -1
			})
			return change.Int(int64(n)), nil
		}
	}))
}

func bucketError(msg string) error { return &EvalError{codeBucket, msg} }

func bucketNum(x, lo, hi num, count int64) (change.Value, error) {
	switch {
	case count <= 0:
		return change.Value{}, bucketError("count must be greater than zero")
	case slices.ContainsFunc([]num{x, lo, hi}, func(n num) bool { return n.isNaN() }):
		return change.Value{}, bucketError("operand, lower bound, and upper bound cannot be NaN")
	case lo.isInf() || hi.isInf():
		return change.Value{}, bucketError("lower and upper bounds must be finite")
	}
	order := compareNum(&lo, &hi)
	if order == 0 {
		return change.Value{}, bucketError("lower bound cannot equal upper bound")
	}
	below, above := compareNum(&x, &lo), compareNum(&x, &hi)
	if order > 0 {
		below, above = -below, -above
	}
	switch {
	case below < 0:
		return change.Int(0), nil
	case above >= 0:
		if !fitInt(app.Int4, count+1) {
			return change.Value{}, rangeError(app.Int4)
		}
		return change.Int(count + 1), nil
	}
	part := mulNum(subNum(x, lo), intNum(count))
	q, err := wholeQuotient(part, subNum(hi, lo))
	if err != nil {
		return change.Value{}, err
	}
	n, _ := numToInt(&q)
	return change.Int(n + 1), nil
}

func bucketFloat(x, lo, hi float64, count int64) (change.Value, error) {
	switch {
	case count <= 0:
		return change.Value{}, bucketError("count must be greater than zero")
	case x != x || lo != lo || hi != hi:
		return change.Value{}, bucketError("operand, lower bound, and upper bound cannot be NaN")
	case math.IsInf(lo, 0) || math.IsInf(hi, 0):
		return change.Value{}, bucketError("lower and upper bounds must be finite")
	case lo == hi:
		return change.Value{}, bucketError("lower bound cannot equal upper bound")
	}
	if lo > hi {
		lo, hi, x = -lo, -hi, -x
	}
	switch {
	case x < lo:
		return change.Int(0), nil
	case x >= hi:
		if !fitInt(app.Int4, count+1) {
			return change.Value{}, rangeError(app.Int4)
		}
		return change.Int(count + 1), nil
	}
	span := hi - lo
	part := (x - lo) / span
	if math.IsInf(span, 0) {
		part = (x/2 - lo/2) / (hi/2 - lo/2)
	}
	n := int64(float64(float64(count) * part))
	return change.Int(min(n, count-1) + 1), nil
}
