package flow

import (
	"fmt"
	"math/bits"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// newSum returns the accumulator of sum or avg over values of type t.
func newSum(g *Agg, t app.Type) (accumulator, error) {
	avg := g.Func == Avg
	switch t {
	case app.Int4, app.Int8:
		return intSum{avg: avg, bigint: g.Type == app.Int8}, nil
	case app.Float8:
		return &floatSum{avg: avg, slab: newSlab()}, nil
	case app.Numeric:
		return &numericSum{avg: avg, slab: newSlab()}, nil
	}
	return nil, fmt.Errorf("no sum over %s", t)
}

// intSum is sum and avg of integers in 128 bits, which no number of rows overflows: low word, high word (two's
// complement), count.
type intSum struct {
	avg    bool
	bigint bool // the result is a bigint, not a numeric
}

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
	lo, hi, count := getWord(state, 0), getWord(state, 1), getInt(state[16:])
	if count == 0 {
		return change.Null(), nil
	}
	if s.bigint {
		if hi != uint64(int64(lo)>>63) {
			return change.Null(), &expr.EvalError{Code: "numeric_value_out_of_range", Msg: "bigint out of range"}
		}
		return change.Int(int64(lo)), nil
	}
	neg := int64(hi) < 0
	if neg {
		var b uint64
		lo, b = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, b)
	}
	sum := x.made(func(dst []byte) []byte { return change.AppendNumericUint128(dst, neg, hi, lo, 0) })
	if s.avg {
		sum = x.made(func(dst []byte) []byte { return expr.AppendAverage(dst, sum.B, count) })
	}
	return sum, nil
}

func (intSum) free(ref, []byte) {}
func (intSum) bytes() int       { return 0 }
