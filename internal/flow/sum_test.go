package flow

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// sumTest adds and removes values at one accumulator and compares its result with one that only ever sees what is there.
func sumTest(t *testing.T, seed uint64, g *Agg, make func(rnd *rand.Rand) change.Value, want func(vals []change.Value) (change.Value, error)) {
	rnd := rand.New(rand.NewPCG(seed, 5))
	acc, err := newSum(g, g.Arg.Type)
	if err != nil {
		t.Fatal(err)
	}
	state := bytes.Repeat([]byte{0}, acc.fixed())
	var x exec
	var there []change.Value
	for i := range 3000 {
		if grow := i/300%2 == 0; len(there) == 0 || (rnd.IntN(3) > 0) == grow {
			v := make(rnd)
			acc.add(0, state, v, 1)
			there = append(there, v)
		} else {
			k := rnd.IntN(len(there))
			acc.add(0, state, there[k], -1)
			there[k] = there[len(there)-1]
			there = there[:len(there)-1]
		}
		if i%17 > 0 && len(there) > 3 {
			continue
		}
		x.scratch.reset()
		got, err := acc.result(&x, 0, state)
		exp, expErr := change.Null(), error(nil)
		if len(there) > 0 {
			exp, expErr = want(there)
		}
		if (err != nil) != (expErr != nil) || err == nil && (got.Null != exp.Null || got.N != exp.N || !bytes.Equal(got.B, exp.B)) {
			t.Fatalf("seed %d, step %d, %d values: %v (%v), want %v (%v)", seed, i, len(there), got, err, exp, expErr)
		}
	}
	for _, v := range there {
		acc.add(0, state, v, -1)
	}
	acc.free(0, state)
}

// TestSums holds the accumulators against sums by math/big.
func TestSums(t *testing.T) {
	for seed := range uint64(6) {
		for _, f := range []AggFunc{Sum, Avg} {
			t.Run(fmt.Sprint(f, seed), func(t *testing.T) {
				sumTest(t, seed, &Agg{Func: f, Arg: &expr.Node{Type: app.Float8}}, wildFloat(seed), floatWant(f))
				sumTest(t, seed, &Agg{Func: f, Arg: &expr.Node{Type: app.Numeric}}, wildNumeric(seed), numericWant(f))
				sumTest(t, seed, &Agg{Func: f, Arg: &expr.Node{Type: app.Int8}, Type: app.Numeric}, func(rnd *rand.Rand) change.Value {
					return change.Int(int64(rnd.Uint64()) >> rnd.IntN(64))
				}, intWant(f))
			})
		}
	}
}

// wildFloat makes doubles of all sizes, or of similar ones, and now and then what is none.
func wildFloat(seed uint64) func(rnd *rand.Rand) change.Value {
	return func(rnd *rand.Rand) change.Value {
		switch {
		case seed%3 == 0:
			return change.Float((rnd.Float64() - 0.3) * 1e4)
		case seed%3 == 1 && rnd.IntN(400) == 0:
			return change.Float([]float64{math.Inf(1), math.Inf(-1), math.NaN()}[rnd.IntN(3)])
		case rnd.IntN(4) == 0:
			return change.Float(math.Float64frombits(rnd.Uint64N(1<<53)) * float64(1-2*rnd.IntN(2))) // subnormal and small
		}
		f := math.Float64frombits(rnd.Uint64())
		if f != f || math.IsInf(f, 0) {
			f = 1
		}
		if seed == 5 {
			f = math.Copysign(math.MaxFloat64/3, f) // sums overflow
		}
		return change.Float(f)
	}
}

func floatWant(f AggFunc) func([]change.Value) (change.Value, error) {
	return func(vals []change.Value) (change.Value, error) {
		special := 0.0
		sum := new(big.Float).SetPrec(2300)
		for _, v := range vals {
			if x := v.Float(); math.IsNaN(x) || math.IsInf(x, 0) {
				special += x
			} else {
				sum.Add(sum, big.NewFloat(x))
			}
		}
		x, _ := sum.Float64()
		switch {
		case special != 0:
			x = special
		case math.IsInf(x, 0):
			return change.Null(), errors.New("overflow")
		case f == Avg:
			x /= float64(len(vals))
		}
		return change.Float(x), nil
	}
}

func wildNumeric(seed uint64) func(rnd *rand.Rand) change.Value {
	return func(rnd *rand.Rand) change.Value {
		n := change.Numeric{Neg: rnd.IntN(2) == 0, Scale: rnd.IntN(4)}
		size := 1 + rnd.IntN(8)
		switch {
		case seed%3 == 1 && rnd.IntN(400) == 0:
			n = change.Numeric{Kind: []change.NumericKind{change.NumericNaN, change.NumericPosInf, change.NumericNegInf}[rnd.IntN(3)]}
		case seed > 2 && rnd.IntN(20) == 0:
			size, n.Scale = rnd.IntN(60), rnd.IntN(90)
		}
		for range size {
			n.Coef = append(n.Coef, byte(rnd.Uint32()))
		}
		return change.Bytes(change.AppendNumeric(nil, n))
	}
}

func numericWant(f AggFunc) func([]change.Value) (change.Value, error) {
	return func(vals []change.Value) (change.Value, error) {
		var sum big.Rat
		scale, special := 0, 0.0
		for _, v := range vals {
			n := change.DecodeNumeric(v.B)
			switch n.Kind {
			case change.NumericNaN:
				special = math.NaN()
			case change.NumericPosInf:
				special += math.Inf(1)
			case change.NumericNegInf:
				special += math.Inf(-1)
			}
			x := new(big.Rat).SetFrac(n.Big(), tenTo(n.Scale))
			if n.Neg {
				x.Neg(x)
			}
			sum.Add(&sum, x)
			scale = max(scale, n.Scale)
		}
		n := change.Numeric{Scale: scale, Neg: sum.Sign() < 0}
		switch {
		case special != special:
			n = change.Numeric{Kind: change.NumericNaN}
		case special > 0:
			n = change.Numeric{Kind: change.NumericPosInf}
		case special < 0:
			n = change.Numeric{Kind: change.NumericNegInf}
		default:
			sum.Mul(&sum, new(big.Rat).SetInt(tenTo(scale)))
			n.Coef = sum.Num().Bytes()
			slices.Reverse(n.Coef)
		}
		b := change.AppendNumeric(nil, n)
		if f == Avg {
			b = expr.AppendAverage(nil, b, int64(len(vals)))
		}
		return change.Bytes(b), nil
	}
}

func intWant(f AggFunc) func([]change.Value) (change.Value, error) {
	numbers := numericWant(f)
	return func(vals []change.Value) (change.Value, error) {
		as := make([]change.Value, len(vals))
		for i, v := range vals {
			as[i] = change.Bytes(change.AppendNumericUint128(nil, v.N < 0, 0, magnitude(v.N), 0))
		}
		return numbers(as)
	}
}
