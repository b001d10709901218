package flow

import (
	"fmt"
	"math"
	"math/big"
	"math/bits"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// spread says which function of the variance family an accumulator is. Its sums are exact, so that values can be taken back.
type spread struct{ sample, root bool }

func spreadOf(f AggFunc) spread {
	return spread{sample: f == StddevSamp || f == VarSamp, root: f == StddevSamp || f == StddevPop}
}

// none reports whether the result over n values is NULL.
func (s spread) none(n int64) bool { return n == 0 || s.sample && n == 1 }

func newVariance(f AggFunc, t app.Type) (accumulator, error) {
	switch t {
	case app.Int4, app.Int8:
		return intVariance{spreadOf(f)}, nil
	case app.Numeric:
		return numericVariance{spreadOf(f), &numericSum{slab: newSlab()}, &numericSum{slab: newSlab()}, new([]byte)}, nil
	case app.Float8:
		return floatVariance{spreadOf(f), &floatSum{slab: newSlab()}, &floatSum{slab: newSlab()}}, nil
	}
	return nil, fmt.Errorf("no %s over %s", f, t)
}

// result returns the numeric result over count values.
func (s spread) result(x *exec, sum, squares *big.Int, scale int, count int64) change.Value {
	return x.made(func(dst []byte) []byte { return expr.AppendVariance(dst, sum, squares, scale, count, s.sample, s.root) })
}

// intVariance is the variance of integers: their sum in 128 bits and their count, as intSum has them, then the sum of their squares in
// 192 bits.
type intVariance struct{ spread }

func (intVariance) fixed() int { return 48 }

func (intVariance) add(_ ref, state []byte, v change.Value, w int64) {
	addInteger(state, v.N, w)
	n := magnitude(v.N)
	hi, lo := bits.Mul64(n, n)
	top, mid := bits.Mul64(hi, magnitude(w))
	carry, low := bits.Mul64(lo, magnitude(w))
	mid, c := bits.Add64(mid, carry, 0)
	part := [3]uint64{low, mid, top + c}
	if w < 0 {
		subWords(state[24:48], part[:])
	} else {
		addWords(state[24:48], part[:])
	}
}

func (i intVariance) result(x *exec, _ ref, state []byte) (change.Value, error) {
	n := getInt(state[16:])
	if i.none(n) {
		return change.Null(), nil
	}
	return i.spread.result(x, bigOfWords(state[:16]), bigOfWords(state[24:48]), 0, n), nil
}

func (intVariance) free(ref, []byte) {}
func (intVariance) state(*keeper)    {}
func (intVariance) bytes() int       { return 0 }

// numericVariance is the variance of numerics: their sum, then that of the squares of the finite ones.
type numericVariance struct {
	spread
	sum, squares *numericSum
	buf          *[]byte
}

func (numericVariance) fixed() int { return 32 }

func (s numericVariance) add(group ref, state []byte, v change.Value, w int64) {
	s.sum.add(group, state[:16], v, w)
	n := change.DecodeNumeric(v.B)
	if n.Kind != change.NumericFinite {
		return
	}
	n.Neg, n.Scale = false, 2*n.Scale
	hi, lo, ok := n.Uint128()
	if ok && hi == 0 {
		hi, lo = bits.Mul64(lo, lo)
		*s.buf = change.AppendNumericUint128((*s.buf)[:0], false, hi, lo, n.Scale)
		s.squares.add(group, state[16:], change.Bytes(*s.buf), w)
		return
	}
	m := n.Big()
	s.squares.addNumber(state[16:], &change.Numeric{Scale: n.Scale, Coef: littleBytes(m.Mul(m, m))}, w)
}

func (s numericVariance) result(x *exec, _ ref, state []byte) (change.Value, error) {
	n := getInt(state)
	switch {
	case s.none(n):
		return change.Null(), nil
	case s.sum.specials(state[:16]) > 0:
		return x.made(func(dst []byte) []byte { return change.AppendNumeric(dst, change.Numeric{Kind: change.NumericNaN}) }), nil
	}
	sum, scale := s.sum.exact(state[:16])
	squares, _ := s.squares.exact(state[16:])
	return s.spread.result(x, sum, squares, scale, n), nil
}

func (s numericVariance) free(group ref, state []byte) {
	s.sum.free(group, state[:16])
	s.squares.free(group, state[16:])
}

func (s numericVariance) bytes() int { return s.sum.bytes() + s.squares.bytes() }

func (s numericVariance) state(k *keeper) {
	s.sum.state(k)
	s.squares.state(k)
}

// floatVariance is the variance of doubles, rounded once, when it is read.
type floatVariance struct {
	spread
	sum, squares *floatSum
}

func (floatVariance) fixed() int { return 32 }

func (s floatVariance) add(group ref, state []byte, v change.Value, w int64) {
	s.sum.add(group, state[:16], v, w)
	if x := v.Float(); !math.IsNaN(x) && !math.IsInf(x, 0) {
		s.squares.addSquare(state[16:], x, w)
	}
}

func (s floatVariance) result(_ *exec, _ ref, state []byte) (change.Value, error) {
	n := getInt(state)
	if s.none(n) {
		return change.Null(), nil
	}
	if n != getInt(state[16:]) {
		return change.Float(math.NaN()), nil
	}
	const prec = 200
	count, sum := big.NewInt(n), s.sum.exact(state[:16])
	up := s.squares.exact(state[16:])
	up.Sub(up.Mul(up, count), sum.Mul(sum, sum))
	if up.Sign() == 0 {
		return change.Float(0), nil
	}
	down := big.NewInt(n)
	if s.sample {
		down.Sub(down, big.NewInt(1))
	}
	v := new(big.Float).SetPrec(prec).SetInt(up)
	v.Quo(v, new(big.Float).SetPrec(prec).SetInt(down.Mul(down, count)))
	v.SetMantExp(v, -2*floatBias)
	if s.root {
		v.Sqrt(v)
	}
	f, _ := v.Float64()
	if math.IsInf(f, 0) {
		return change.Null(), &expr.EvalError{Code: "numeric_value_out_of_range", Msg: "value out of range: overflow"}
	}
	return change.Float(f), nil
}

func (s floatVariance) free(group ref, state []byte) {
	s.sum.free(group, state[:16])
	s.squares.free(group, state[16:])
}

func (s floatVariance) bytes() int { return s.sum.bytes() + s.squares.bytes() }

func (s floatVariance) state(k *keeper) {
	s.sum.state(k)
	s.squares.state(k)
}
