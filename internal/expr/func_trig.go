package expr

import (
	"math"

	"laaster/internal/change"
)

func addTrigonometry(c *catalog) {
	limit := func(least, most float64, f func(float64) float64) func(float64) (float64, error) {
		return func(x float64) (float64, error) {
			if x < least || x > most {
				return 0, &EvalError{codeRange, "input is out of range"}
			}
			return f(x), nil
		}
	}
	circle := func(f func(float64) float64) func(float64) (float64, error) {
		return func(x float64) (float64, error) {
			if math.IsInf(x, 0) {
				return 0, &EvalError{codeRange, "input is out of range"}
			}
			return f(x), nil
		}
	}
	grows := func(f func(float64) float64) func(float64) (float64, error) {
		return func(x float64) (float64, error) { return checkFloat(f(x), x, x) }
	}
	floats := map[string]func(float64) (float64, error){
		"sin": circle(math.Sin), "cos": circle(math.Cos), "tan": circle(math.Tan), "cot": circle(func(x float64) float64 { return 1 / math.Tan(x) }),
		"asin": limit(-1, 1, math.Asin), "acos": limit(-1, 1, math.Acos), "atan": whole(math.Atan),
		"sinh": whole(math.Sinh), "cosh": whole(math.Cosh), "tanh": whole(math.Tanh),
		"asinh": whole(math.Asinh), "acosh": limit(1, math.Inf(1), math.Acosh), "atanh": limit(-1, 1, math.Atanh),
		"cbrt": whole(math.Cbrt), "degrees": grows(func(x float64) float64 { return x / (math.Pi / 180) }),
		"radians": func(x float64) (float64, error) { return mulFloat(x, math.Pi/180) },
	}
	for _, name := range sortedNames(floats) {
		f := floats[name]
		c.add(name+"(double precision) double precision", floatFn(f))
	}
	c.add("||/(double precision) double precision", floatFn(whole(math.Cbrt)))
	c.add("|/(double precision) double precision", floatFn(sqrtFloat))
	c.add("atan2(double precision, double precision) double precision", floatOp(func(a, b float64) (float64, error) { return math.Atan2(a, b), nil }))
}

func floatFn(f func(float64) (float64, error)) func(c *Ctx, a change.Value) (change.Value, error) {
	return func(_ *Ctx, a change.Value) (change.Value, error) {
		r, err := f(a.Float())
		return change.Float(r), err
	}
}
