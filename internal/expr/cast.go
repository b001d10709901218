package expr

import (
	"fmt"
	"math"

	"laaster/app"
	"laaster/internal/change"
)

// compileCast compiles the conversion of x from n.Args[0].Type to n.Type.
func compileCast(n *Node, x Func) (Func, error) {
	from := n.Args[0].Type
	f := caster(from, n.Type)
	if f == nil {
		return nil, fmt.Errorf("expr: no cast from %s to %s", from, n.Type)
	}
	return strict1(f, x), nil
}

// caster returns the conversion between two types, nil when there is none.
func caster(from, to app.Type) func(c *Ctx, v change.Value) (change.Value, error) {
	if castAllowed(from, to) == castNone {
		return nil
	}
	switch {
	case from == to:
		return func(_ *Ctx, v change.Value) (change.Value, error) { return v, nil }
	case from.IsArray() && to.IsArray():
		return castArray(from.Elem(), to.Elem())
	case to == app.Text:
		return func(c *Ctx, v change.Value) (change.Value, error) { return c.text(from, v), nil }
	case from == app.Text:
		return func(c *Ctx, v change.Value) (change.Value, error) {
			v, scratch, err := ParseText(to, v.B, c.scratch)
			c.scratch = scratch
			return v, err
		}
	}
	switch from {
	case app.Bool:
		return func(_ *Ctx, v change.Value) (change.Value, error) { return v, nil }
	case app.Int4, app.Int8:
		return castInt(to)
	case app.Float8:
		return castFloat(to)
	case app.Numeric:
		return castNum(to)
	case app.Date, app.Timestamp, app.Timestamptz:
		return castTime(from, to)
	}
	return castJSON(to)
}

// text returns the value's output as a text value. Booleans print in full here, as PostgreSQL's cast does.
func (c *Ctx) text(t app.Type, v change.Value) change.Value {
	if t == app.Text || t == app.JSONB {
		return v // both are their text
	}
	from := len(c.scratch)
	c.scratch = appendCastText(c.scratch, t, v)
	return c.made(from)
}

func appendCastText(dst []byte, t app.Type, v change.Value) []byte {
	switch {
	case t != app.Bool:
		return AppendText(dst, t, v)
	case v.N != 0:
		return append(dst, "true"...)
	}
	return append(dst, "false"...)
}

func castInt(to app.Type) func(c *Ctx, v change.Value) (change.Value, error) {
	switch to {
	case app.Bool:
		return func(_ *Ctx, v change.Value) (change.Value, error) { return change.Bool(v.N != 0), nil }
	case app.Float8:
		return func(_ *Ctx, v change.Value) (change.Value, error) { return change.Float(float64(v.N)), nil }
	case app.Numeric:
		return func(c *Ctx, v change.Value) (change.Value, error) {
			n := intNum(v.N)
			return c.value(&n)
		}
	}
	out := rangeError(to)
	return func(_ *Ctx, v change.Value) (change.Value, error) {
		if !fitInt(to, v.N) {
			return v, out
		}
		return v, nil
	}
}

func castFloat(to app.Type) func(c *Ctx, v change.Value) (change.Value, error) {
	if to == app.Numeric {
		return func(c *Ctx, v change.Value) (change.Value, error) {
			n := numFromFloat(v.Float())
			return c.value(&n)
		}
	}
	out := rangeError(to)
	return func(_ *Ctx, v change.Value) (change.Value, error) {
		f := math.RoundToEven(v.Float())
		if !(f >= math.MinInt64 && f < -math.MinInt64) || !fitInt(to, int64(f)) {
			return v, out
		}
		return change.Int(int64(f)), nil
	}
}

func castNum(to app.Type) func(c *Ctx, v change.Value) (change.Value, error) {
	if to == app.Float8 {
		return func(_ *Ctx, v change.Value) (change.Value, error) {
			n := toNum(v.B)
			f, ok := floatFromNum(&n)
			if !ok {
				return v, evalErrorf(codeRange, "%s is out of range for type double precision", quoteShort(appendNumText(nil, &n)))
			}
			return change.Float(f), nil
		}
	}
	return func(_ *Ctx, v change.Value) (change.Value, error) {
		n := toNum(v.B)
		return intFromNum(&n, to)
	}
}

func intFromNum(n *num, to app.Type) (change.Value, error) {
	switch {
	case n.isNaN():
		return change.Value{}, evalErrorf(codeFeature, "cannot convert NaN to %s", to)
	case n.isInf():
		return change.Value{}, evalErrorf(codeFeature, "cannot convert infinity to %s", to)
	}
	i, ok := numToInt(n)
	if !ok || !fitInt(to, i) {
		return change.Value{}, rangeError(to)
	}
	return change.Int(i), nil
}

// castJSON converts a jsonb scalar of the right kind.
func castJSON(to app.Type) func(c *Ctx, v change.Value) (change.Value, error) {
	return func(c *Ctx, v change.Value) (change.Value, error) {
		kind := change.JSONKind(v.B)
		if to == app.Bool && (kind == 't' || kind == 'f') {
			return change.Bool(kind == 't'), nil
		}
		if to == app.Bool || kind != '0' {
			return v, evalErrorf(codeParameter, "cannot cast jsonb %s to type %s", jsonKindName(kind), to)
		}
		n, err := parseNum(v.B)
		if err != nil {
			return v, err
		}
		switch to {
		case app.Numeric:
			return c.value(&n)
		case app.Float8:
			f, ok := floatFromNum(&n)
			if !ok {
				return v, evalErrorf(codeRange, "%s is out of range for type double precision", quoteShort(v.B))
			}
			return change.Float(f), nil
		}
		return intFromNum(&n, to)
	}
}

// jsonKindName is the word that messages and jsonb_typeof use.
func jsonKindName(kind byte) string {
	switch kind {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '0':
		return "number"
	case '[':
		return "array"
	}
	return "object"
}
