package expr

import (
	"bytes"
	"cmp"
	"math/bits"

	"laaster/app"
	"laaster/internal/change"
)

// This file has the forms that views run for every row: a comparison of anything with a constant, a numeric constant times
// an integer, a CASE over one operand. They give what the general forms give, with fewer calls and copies.

// compareWithConst compares x with k of type t; nil when there is no form for the type.
func compareWithConst(ok accept, t app.Type, x Func, k change.Value) Func {
	switch t {
	case app.Bool, app.Int4, app.Int8, app.Timestamptz, app.Timestamp, app.Date:
		n := k.N
		return func(c *Ctx) (change.Value, error) {
			v, err := x(c)
			if err != nil || v.Null {
				return v, err
			}
			return ok.truth(cmp.Compare(v.N, n)), nil
		}
	case app.Text:
		text := k.B
		if ok == acceptOf("=") {
			return func(c *Ctx) (change.Value, error) {
				v, err := x(c)
				if err != nil || v.Null {
					return v, err
				}
				return change.Bool(string(v.B) == viewString(text)), nil
			}
		}
		return func(c *Ctx) (change.Value, error) {
			v, err := x(c)
			if err != nil || v.Null {
				return v, err
			}
			return ok.truth(bytes.Compare(v.B, text)), nil
		}
	case app.Numeric:
		return func(c *Ctx) (change.Value, error) {
			v, err := x(c)
			if err != nil || v.Null {
				return v, err
			}
			return ok.truth(compareNumeric(v.B, k.B)), nil
		}
	case app.Float8:
		f := k.Float()
		return func(c *Ctx) (change.Value, error) {
			v, err := x(c)
			if err != nil || v.Null {
				return v, err
			}
			return ok.truth(compareFloat(v.Float(), f)), nil
		}
	}
	return nil
}

// buildNumMul compiles a product of numerics, with a form of its own for a small constant times an integer.
func buildNumMul(n *Node, in *change.Layout, args []Func) (Func, error) {
	for i := range 2 {
		k, other := n.Args[i], n.Args[1-i]
		if k.Kind != KConst || k.Value.Null || other.Kind != KCast || other.Args[0].Type != app.Int4 && other.Args[0].Type != app.Int8 {
			continue
		}
		c := toNum(k.Value.B)
		if c.kind != change.NumericFinite || c.big != nil || c.hi != 0 {
			continue
		}
		x, err := Compile(other.Args[0], in)
		if err != nil {
			return nil, err
		}
		return timesInt(x, c.neg, c.lo, c.scale), nil
	}
	return strict2(mulNumeric, args[0], args[1]), nil
}

// timesInt multiplies ±coef × 10^-scale by an integer.
func timesInt(x Func, neg bool, coef uint64, scale int) Func {
	return func(c *Ctx) (change.Value, error) {
		v, err := x(c)
		if err != nil || v.Null {
			return v, err
		}
		hi, lo := bits.Mul64(coef, absInt64(v.N))
		from := len(c.scratch)
		c.scratch = change.AppendNumericUint128(c.scratch, neg != (v.N < 0), hi, lo, scale)
		return c.made(from), nil
	}
}

// buildNumCompare compares a numeric constant with a product as of buildNumMul, or with an integer, without making the
// numeric; nil for all else.
func buildNumCompare(ok accept, l *Node, k change.Value, in *change.Layout) (Func, error) {
	limit := toNum(k.B)
	coef, neg, scale, x := productOfInt(l)
	if x == nil || limit.kind != change.NumericFinite || limit.big != nil || limit.hi != 0 || limit.scale > 12 || scale > 12 || limit.scale > scale && scale+12 < limit.scale {
		return nil, nil
	}
	// Compare coef × n × 10^-scale with limit: bring the limit to the product's scale, or both to the limit's.
	if limit.scale < scale {
		limit.scaleUp(scale - limit.scale)
	}
	up := uint64(1)
	if limit.scale > scale {
		up = pow10Small[limit.scale-scale]
	}
	over, factor := bits.Mul64(coef, up)
	if limit.big != nil || limit.hi != 0 || over != 0 {
		return nil, nil
	}
	f, err := Compile(x, in)
	if err != nil {
		return nil, err
	}
	return func(c *Ctx) (change.Value, error) {
		v, err := f(c)
		if err != nil || v.Null {
			return v, err
		}
		hi, lo := bits.Mul64(factor, absInt64(v.N))
		negative := neg != (v.N < 0) && hi|lo != 0
		if negative != limit.neg {
			return ok.truth(1 - 2*int(boolInt(negative))), nil
		}
		order := compare128(hi, lo, 0, limit.lo)
		if negative {
			order = -order
		}
		return ok.truth(order), nil
	}, nil
}

// productOfInt takes k × n::numeric or n::numeric apart, n an integer; x is nil for other expressions.
func productOfInt(l *Node) (coef uint64, neg bool, scale int, x *Node) {
	isInt := func(n *Node) bool {
		return n.Kind == KCast && (n.Args[0].Type == app.Int4 || n.Args[0].Type == app.Int8)
	}
	if isInt(l) {
		return 1, false, 0, l.Args[0]
	}
	if l.Kind != KCall || l.Func.Name != "*" {
		return 0, false, 0, nil
	}
	for i := range 2 {
		k, other := l.Args[i], l.Args[1-i]
		if k.Kind != KConst || k.Value.Null || !isInt(other) {
			continue
		}
		n := toNum(k.Value.B)
		if n.kind == change.NumericFinite && n.big == nil && n.hi == 0 && n.lo != 0 {
			return n.lo, n.neg, n.scale, other.Args[0]
		}
	}
	return 0, false, 0, nil
}

// buildSimpleCase compiles CASE x WHEN constant … of texts and integers, which evaluates x once; nil for other cases.
func buildSimpleCase(n *Node, in *change.Layout, args []Func) (Func, error) {
	whens := len(n.Args) / 2
	var operand *Node
	for i := range whens {
		cond := n.Args[2*i]
		if cond.Kind != KCall || cond.Func.Name != "=" || cond.Args[1].Kind != KConst || cond.Args[1].Value.Null {
			return nil, nil
		}
		if operand == nil {
			operand = cond.Args[0]
		}
		if cond.Args[0] != operand || operand.Kind == KConst || !hashable(operand.Type) || operand.Type == app.Float8 {
			return nil, nil
		}
	}
	if whens < 2 {
		return nil, nil
	}
	x, err := Compile(operand, in)
	if err != nil {
		return nil, err
	}
	inB := operand.Type == app.Text || operand.Type == app.UUID
	keys := make([]change.Value, whens)
	for i := range keys {
		keys[i] = n.Args[2*i].Args[1].Value
	}
	return func(c *Ctx) (change.Value, error) {
		v, err := x(c)
		if err != nil {
			return v, err
		}
		if !v.Null {
			for i := range keys {
				if inB && string(keys[i].B) == string(v.B) || !inB && keys[i].N == v.N {
					return args[2*i+1](c)
				}
			}
		}
		return args[2*whens](c)
	}, nil
}
