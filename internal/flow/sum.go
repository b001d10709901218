package flow

import (
	"fmt"
	"math/bits"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// averager is a sum that also knows how many values it has.
type averager interface {
	accumulator
	average(x *exec, group ref, state []byte) (change.Value, error)
}

// averageOf is avg: a sum whose result is another.
type averageOf struct{ averager }

func (a averageOf) result(x *exec, group ref, state []byte) (change.Value, error) {
	return a.average(x, group, state)
}

// newSum returns the accumulator of sum or avg over values of type t.
func newSum(g *Agg, t app.Type) (accumulator, error) {
	var sum averager
	switch t {
	case app.Int4, app.Int8:
		sum = intSum{}.of(g)
	case app.Float8:
		sum = &floatSum{slab: newSlab()}
	case app.Numeric:
		sum = &numericSum{slab: newSlab()}
	case app.Interval:
		sum = intervalSum{}
	default:
		return nil, fmt.Errorf("no sum over %s", t)
	}
	if g.Func == Avg {
		return averageOf{sum}, nil
	}
	return sum, nil
}

// intSum is sum and avg of integers in 128 bits, which no number of rows overflows: low word, high word (two's
// complement), count.
type intSum struct {
	bigint bool // the sum is a bigint, not a numeric
}

// of returns the sum that g asks for.
func (intSum) of(g *Agg) intSum { return intSum{bigint: g.Type == app.Int8} }

func (intSum) fixed() int { return 24 }

func (intSum) add(_ ref, state []byte, v change.Value, w int64) { addInteger(state, v.N, w) }

func addInteger(state []byte, n, w int64) {
	hi, lo := bits.Mul64(uint64(n), uint64(w))
	if n < 0 { // from the unsigned product to the signed one
		hi -= uint64(w)
	}
	if w < 0 {
		hi -= uint64(n)
	}
	var c uint64
	lo, c = bits.Add64(lo, getWord(state, 0), 0)
	putWord(state, 0, lo)
	putWord(state, 1, hi+getWord(state, 1)+c)
	putInt(state[16:], getInt(state[16:])+w)
}

func (s intSum) result(x *exec, _ ref, state []byte) (change.Value, error) {
	lo, hi := getWord(state, 0), getWord(state, 1)
	switch {
	case getInt(state[16:]) == 0:
		return change.Null(), nil
	case !s.bigint:
		return numericOf(x, state), nil
	case hi != uint64(int64(lo)>>63):
		return change.Null(), &expr.EvalError{Code: "numeric_value_out_of_range", Msg: "bigint out of range"}
	}
	return change.Int(int64(lo)), nil
}

// numericOf returns the 128 bits of state as a numeric.
func numericOf(x *exec, state []byte) change.Value {
	lo, hi := getWord(state, 0), getWord(state, 1)
	neg := int64(hi) < 0
	if neg {
		var b uint64
		lo, b = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, b)
	}
	at := len(x.scratch.buf)
	x.scratch.buf = change.AppendNumericUint128(x.scratch.buf, neg, hi, lo, 0)
	return change.Bytes(x.scratch.buf[at:len(x.scratch.buf):len(x.scratch.buf)])
}

func (s intSum) average(x *exec, _ ref, state []byte) (change.Value, error) {
	count := getInt(state[16:])
	if count == 0 {
		return change.Null(), nil
	}
	sum := numericOf(x, state)
	return x.made(func(dst []byte) []byte { return expr.AppendAverage(dst, sum.B, count) }), nil
}

func (intSum) free(ref, []byte) {}
func (intSum) state(*keeper)    {}
func (intSum) bytes() int       { return 0 }
