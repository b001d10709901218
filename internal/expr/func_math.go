package expr

import (
	"math"

	"laaster/internal/change"
)

func addMath(c *catalog) {
	addTrigonometry(c)
	addIntegers(c)
	addBuckets(c)
	floats := map[string]func(float64) (float64, error){
		"ceil": whole(math.Ceil), "ceiling": whole(math.Ceil), "floor": whole(math.Floor), "round": whole(math.RoundToEven),
		"trunc": whole(math.Trunc), "sign": whole(signFloat), "sqrt": sqrtFloat, "exp": expFloat, "ln": lnFloat(math.Log, math.Ln2),
		"log": lnFloat(math.Log10, math.Log10(2)), "log10": lnFloat(math.Log10, math.Log10(2)),
	}
	for _, name := range sortedNames(floats) {
		f := floats[name]
		c.add(name+"(double precision) double precision", func(_ *Ctx, a change.Value) (change.Value, error) {
			r, err := f(a.Float())
			return change.Float(r), err
		})
	}
	c.add("power(double precision, double precision) double precision", floatOp(powFloat))
	c.add("pow(double precision, double precision) double precision", floatOp(powFloat))
	c.add("pi() double precision", func(*Ctx) (change.Value, error) { return change.Float(math.Pi), nil })

	nums := map[string]func(num) num{
		"ceil": ceilNum, "ceiling": ceilNum, "floor": floorNum, "sign": signNum,
		"round": func(n num) num { return roundTo(n, 0) }, "trunc": func(n num) num { return truncTo(n, 0) },
	}
	for _, name := range sortedNames(nums) {
		c.add(name+"(numeric) numeric", numFn(nums[name]))
	}
	c.add("round(numeric, integer) numeric", scaled(true))
	c.add("trunc(numeric, integer) numeric", scaled(false))
	c.add("sqrt(numeric) numeric", numFnErr(sqrtNum))
	c.add("exp(numeric) numeric", numFnErr(expNum))
	c.add("ln(numeric) numeric", numFnErr(lnNum))
	c.add("log(numeric) numeric", numFnErr(func(n num) (num, error) { return logNum(intNum(10), n) }))
	c.add("log10(numeric) numeric", numFnErr(func(n num) (num, error) { return logNum(intNum(10), n) }))
	c.add("log(numeric, numeric) numeric", numOpErr(logNum))
	c.add("power(numeric, numeric) numeric", numOpErr(powNum))
	c.add("pow(numeric, numeric) numeric", numOpErr(powNum))
	c.add("scale(numeric) integer", func(_ *Ctx, a change.Value) (change.Value, error) {
		n := toNum(a.B)
		if n.kind != change.NumericFinite {
			return change.Null(), nil
		}
		return change.Int(int64(n.scale)), nil
	})
}

func sortedNames[V any](m map[string]V) []string {
	names := make(map[string][]*Function, len(m))
	for name := range m {
		names[name] = nil
	}
	return sortedKeys(names)
}

// whole adapts a function that cannot fail.
func whole(f func(float64) float64) func(float64) (float64, error) {
	return func(x float64) (float64, error) { return f(x), nil }
}

func signFloat(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0 // of NaN too
}

func sqrtFloat(x float64) (float64, error) {
	if x < 0 {
		return 0, &EvalError{codePower, "cannot take square root of a negative number"}
	}
	return math.Sqrt(x), nil
}

func expFloat(x float64) (float64, error) {
	r := math.Exp(x)
	if math.IsInf(r, 0) && !math.IsInf(x, 0) {
		return r, floatOverflow()
	}
	if r == 0 && !math.IsInf(x, 0) {
		return r, floatUnderflow()
	}
	return r, nil
}

// lnFloat adapts a logarithm. The library's are wrong for subnormal numbers, so those are scaled up first; log2 is the
// logarithm of 2.
func lnFloat(f func(float64) float64, log2 float64) func(float64) (float64, error) {
	return func(x float64) (float64, error) {
		switch {
		case x == 0:
			return 0, &EvalError{codeLog, "cannot take logarithm of zero"}
		case x < 0:
			return 0, &EvalError{codeLog, "cannot take logarithm of a negative number"}
		case x < minNormal:
			return f(x*subnormalScale) - subnormalBits*log2, nil
		}
		return f(x), nil
	}
}

const (
	minNormal      = 0x1p-1022 // the smallest double of full precision
	subnormalScale = 1 << subnormalBits
	subnormalBits  = 54
)

func powFloat(a, b float64) (float64, error) {
	switch {
	case a != a:
		if b == 0 {
			return 1, nil
		}
		return a, nil
	case b != b:
		if a == 1 {
			return 1, nil
		}
		return b, nil
	case a == 0 && b < 0:
		return 0, &EvalError{codePower, "zero raised to a negative power is undefined"}
	case a < 0 && math.Floor(b) != b:
		return 0, &EvalError{codePower, "a negative number raised to a non-integer power yields a complex result"}
	}
	r := 0.0
	if a != 0 && math.Abs(a) < minNormal {
		r = math.Pow(a*subnormalScale, b) * math.Exp2(-subnormalBits*b)
	} else {
		r = math.Pow(a, b)
	}
	if math.IsInf(a, 0) || math.IsInf(b, 0) {
		return r, nil
	}
	if math.IsInf(r, 0) {
		return r, floatOverflow()
	}
	if r == 0 && a != 0 {
		return r, floatUnderflow()
	}
	return r, nil
}

func signNum(n num) num {
	if n.isNaN() {
		return n
	}
	return intNum(int64(n.sign()))
}

func numFnErr(f func(num) (num, error)) func(c *Ctx, a change.Value) (change.Value, error) {
	return func(c *Ctx, a change.Value) (change.Value, error) {
		r, err := f(toNum(a.B))
		if err != nil {
			return change.Value{}, err
		}
		return c.value(&r)
	}
}

// scaled is round(numeric, integer) or trunc(numeric, integer): unlike the forms with one argument it pads with zeros.
func scaled(round bool) func(c *Ctx, a, b change.Value) (change.Value, error) {
	return func(c *Ctx, a, b change.Value) (change.Value, error) {
		n := toNum(a.B)
		if n.kind == change.NumericFinite {
			scale := int(min(max(b.N, -change.NumericMaxDigits-1), change.NumericMaxScale))
			n = cut(n, scale, round)
			if scale > n.scale {
				n.scaleUp(scale - n.scale)
			}
		}
		return c.value(&n)
	}
}
