package expr

import (
	"math"
	"math/bits"

	"laaster/app"
	"laaster/internal/change"
)

func addArithmetic(c *catalog) {
	addIntArithmetic(c)
	addFloatArithmetic(c)
	addNumericArithmetic(c)
}

func addIntArithmetic(c *catalog) {
	for _, t := range []app.Type{app.Int4, app.Int8} {
		two, one := "("+t.String()+", "+t.String()+") "+t.String(), "("+t.String()+") "+t.String()
		out := rangeError(t) // shared by every row that overflows; an EvalError is never changed
		c.add("+"+two, buildInt(t, addInt64))
		c.add("-"+two, buildInt(t, subInt64))
		c.add("*"+two, buildInt(t, mulInt64))
		c.add("/"+two, func(_ *Ctx, a, b change.Value) (change.Value, error) { return divInt(t, a.N, b.N) })
		c.add("%"+two, buildFunc(buildMod))
		c.add("mod"+two, buildFunc(buildMod))
		c.add("&"+two, func(_ *Ctx, a, b change.Value) (change.Value, error) { return change.Int(a.N & b.N), nil })
		c.add("|"+two, func(_ *Ctx, a, b change.Value) (change.Value, error) { return change.Int(a.N | b.N), nil })
		c.add("#"+two, func(_ *Ctx, a, b change.Value) (change.Value, error) { return change.Int(a.N ^ b.N), nil })
		c.add("~"+one, func(_ *Ctx, a change.Value) (change.Value, error) { return change.Int(^a.N), nil })
		c.add("+"+one, func(_ *Ctx, a change.Value) (change.Value, error) { return a, nil })
		c.add("-"+one, func(_ *Ctx, a change.Value) (change.Value, error) {
			if a.N == minInt(t) {
				return a, out
			}
			return change.Int(-a.N), nil
		})
		abs := func(_ *Ctx, a change.Value) (change.Value, error) {
			if a.N == minInt(t) {
				return a, out
			}
			return change.Int(max(a.N, -a.N)), nil
		}
		c.add("abs"+one, abs)
	}
}

func minInt(t app.Type) int64 {
	if t == app.Int4 {
		return math.MinInt32
	}
	return math.MinInt64
}

// fitInt reports whether n is a value of t.
func fitInt(t app.Type, n int64) bool { return t == app.Int8 || n == int64(int32(n)) }

// The operations return false when the result does not fit 64 bits.

func addInt64(a, b int64) (int64, bool) {
	s := a + b
	return s, (a^s)&(b^s) >= 0
}

func subInt64(a, b int64) (int64, bool) {
	d := a - b
	return d, (a^b)&(a^d) >= 0
}

func mulInt64(a, b int64) (int64, bool) {
	if a == int64(int32(a)) && b == int64(int32(b)) {
		return a * b, true
	}
	hi, lo := bits.Mul64(absInt64(a), absInt64(b))
	neg := (a < 0) != (b < 0)
	switch {
	case hi != 0:
		return 0, false
	case neg:
		return -int64(lo), lo <= 1<<63
	}
	return int64(lo), lo < 1<<63
}

// absInt64 returns |a|, which MinInt64 has too as an unsigned number.
func absInt64(a int64) uint64 {
	if a < 0 {
		return -uint64(a)
	}
	return uint64(a)
}

func divInt(t app.Type, a, b int64) (change.Value, error) {
	if b == 0 {
		return change.Value{}, divisionByZero()
	}
	if b == -1 && a == minInt(t) {
		return change.Value{}, rangeError(t)
	}
	return change.Int(a / b), nil
}

func modInt(a, b int64) (change.Value, error) {
	if b == 0 {
		return change.Value{}, divisionByZero()
	}
	if b == -1 {
		return change.Int(0), nil
	}
	return change.Int(a % b), nil
}

// buildMod compiles the remainder, with a form of its own for a constant divisor.
func buildMod(n *Node, _ *change.Layout, args []Func) (Func, error) {
	if k := n.Args[1]; k.Kind == KConst && !k.Value.Null && k.Value.N > 0 {
		x, by := args[0], k.Value.N
		return func(c *Ctx) (change.Value, error) {
			a, err := x(c)
			if err != nil || a.Null {
				return a, err
			}
			return change.Int(a.N % by), nil
		}, nil
	}
	return strict2(func(_ *Ctx, a, b change.Value) (change.Value, error) { return modInt(a.N, b.N) }, args[0], args[1]), nil
}

// buildInt compiles an operation on two integers of type t, with a form of its own for a constant on the right.
func buildInt(t app.Type, op func(a, b int64) (int64, bool)) buildFunc {
	out := rangeError(t)
	return func(n *Node, _ *change.Layout, args []Func) (Func, error) {
		x, y := args[0], args[1]
		if k := n.Args[1]; k.Kind == KConst && !k.Value.Null {
			right := k.Value.N
			return func(c *Ctx) (change.Value, error) {
				a, err := x(c)
				if err != nil || a.Null {
					return a, err
				}
				r, ok := op(a.N, right)
				if !ok || !fitInt(t, r) {
					return a, out
				}
				return change.Int(r), nil
			}, nil
		}
		return strict2(func(_ *Ctx, a, b change.Value) (change.Value, error) {
			r, ok := op(a.N, b.N)
			if !ok || !fitInt(t, r) {
				return a, out
			}
			return change.Int(r), nil
		}, x, y), nil
	}
}

func addFloatArithmetic(c *catalog) {
	const two, one = "(double precision, double precision) double precision", "(double precision) double precision"
	c.add("+"+two, floatOp(func(a, b float64) (float64, error) { return checkFloat(a+b, a, b) }))
	c.add("-"+two, floatOp(func(a, b float64) (float64, error) { return checkFloat(a-b, a, b) }))
	c.add("*"+two, floatOp(mulFloat))
	c.add("/"+two, floatOp(divFloat))
	c.add("^"+two, floatOp(powFloat))
	c.add("+"+one, func(_ *Ctx, a change.Value) (change.Value, error) { return a, nil })
	c.add("-"+one, func(_ *Ctx, a change.Value) (change.Value, error) { return change.Float(-a.Float()), nil })
	c.add("abs"+one, func(_ *Ctx, a change.Value) (change.Value, error) { return change.Float(math.Abs(a.Float())), nil })
}

func floatOp(op func(a, b float64) (float64, error)) func(c *Ctx, a, b change.Value) (change.Value, error) {
	return func(_ *Ctx, a, b change.Value) (change.Value, error) {
		r, err := op(a.Float(), b.Float())
		return change.Float(r), err
	}
}

// checkFloat refuses an infinity that finite operands made.
func checkFloat(r, a, b float64) (float64, error) {
	if math.IsInf(r, 0) && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
		return r, floatOverflow()
	}
	return r, nil
}

func floatOverflow() *EvalError  { return &EvalError{codeRange, "value out of range: overflow"} }
func floatUnderflow() *EvalError { return &EvalError{codeRange, "value out of range: underflow"} }

func mulFloat(a, b float64) (float64, error) {
	r := a * b
	if r == 0 && a != 0 && b != 0 {
		return r, floatUnderflow()
	}
	return checkFloat(r, a, b)
}

func divFloat(a, b float64) (float64, error) {
	if b == 0 && a == a {
		return 0, divisionByZero()
	}
	r := a / b
	if r == 0 && a != 0 && !math.IsInf(b, 0) {
		return r, floatUnderflow()
	}
	return checkFloat(r, a, b)
}

func addNumericArithmetic(c *catalog) {
	const two, one = "(numeric, numeric) numeric", "(numeric) numeric"
	c.add("+"+two, addNumeric(1))
	c.add("-"+two, addNumeric(-1))
	c.add("*"+two, buildFunc(buildNumMul))
	c.add("/"+two, numOpErr(divNum))
	c.add("%"+two, numOpErr(modNum))
	c.add("mod"+two, numOpErr(modNum))
	c.add("div"+two, numOpErr(wholeQuotient))
	c.add("^"+two, numOpErr(powNum))
	c.add("+"+one, func(_ *Ctx, a change.Value) (change.Value, error) { return a, nil })
	c.add("-"+one, numFn(negNum))
	c.add("abs"+one, numFn(func(n num) num {
		if n.sign() < 0 {
			return negNum(n)
		}
		return n
	}))
}

func numOpErr(op func(a, b num) (num, error)) func(c *Ctx, a, b change.Value) (change.Value, error) {
	return func(c *Ctx, a, b change.Value) (change.Value, error) {
		r, err := op(toNum(a.B), toNum(b.B))
		if err != nil {
			return change.Value{}, err
		}
		return c.value(&r)
	}
}

func numFn(op func(a num) num) func(c *Ctx, a change.Value) (change.Value, error) {
	return func(c *Ctx, a change.Value) (change.Value, error) {
		r := op(toNum(a.B))
		return c.value(&r)
	}
}

// wholeQuotient is div(): the quotient cut off to an integer.
func wholeQuotient(a, b num) (num, error) {
	if a.kind|b.kind != change.NumericFinite {
		r, err := divSpecial(&a, &b)
		return r, err
	}
	if b.isZero() {
		return num{}, divisionByZero()
	}
	return quotient(a, b, 0, false), nil
}
