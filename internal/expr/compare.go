package expr

import (
	"bytes"
	"cmp"

	"laaster/app"
	"laaster/internal/change"
)

// Compare orders two values of type t that are not NULL, as PostgreSQL's < does: negative, zero or positive.
func Compare(t app.Type, a, b change.Value) int { return comparer(t)(a, b) }

// comparer returns the order of a type.
func comparer(t app.Type) func(a, b change.Value) int {
	switch t {
	case app.Float8:
		return func(a, b change.Value) int { return compareFloat(a.Float(), b.Float()) }
	case app.Numeric:
		return func(a, b change.Value) int { return compareNumeric(a.B, b.B) }
	case app.Text, app.UUID:
		return func(a, b change.Value) int { return bytes.Compare(a.B, b.B) }
	case app.JSONB:
		return func(a, b change.Value) int { return compareJSON(a.B, b.B) }
	case app.Interval:
		return func(a, b change.Value) int { return compareInterval(a.B, b.B) }
	}
	if t.IsArray() {
		return arrayComparer(t.Elem())
	}
	return func(a, b change.Value) int { return cmp.Compare(a.N, b.N) }
}

// compareFloat orders doubles with NaN above everything and equal to itself.
func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b:
		return 0
	case a == a: // b is NaN
		return -1
	case b == b: // a is NaN
		return 1
	}
	return 0
}

// accept is the set of comparison results for which an operator is true: bit 0 less, bit 1 equal, bit 2 greater.
type accept uint8

// truth returns the operator's result for a comparison's.
func (a accept) truth(c int) change.Value {
	bit := uint(1)
	if c < 0 {
		bit = 0
	} else if c > 0 {
		bit = 2
	}
	return change.Int(int64(a>>bit) & 1)
}

func acceptOf(op string) accept {
	switch op {
	case "<":
		return 1
	case "=":
		return 2
	case "<=":
		return 3
	case ">":
		return 4
	case "<>":
		return 5
	}
	return 6 // >=
}

func addComparisons(c *catalog) {
	types := []string{"boolean", "integer", "bigint", "double precision", "numeric", "text", "uuid", "timestamptz", "timestamp", "date", "jsonb", "interval", "anyarray"}
	for _, op := range []string{"=", "<>", "<", "<=", ">", ">="} {
		for _, t := range types {
			c.add(op+"("+t+", "+t+") boolean", buildFunc(buildComparison))
		}
	}
}

// buildComparison prefers forms made for a column beside a constant or another column, which is what most filters are.
func buildComparison(n *Node, in *change.Layout, args []Func) (Func, error) {
	ok, l, r := acceptOf(n.Func.Name), n.Args[0], n.Args[1]
	if l.Kind == KConst && r.Kind != KConst {
		l, r, ok = r, l, flip(ok)
	}
	if l.Kind == KColumn && r.Kind == KConst && !r.Value.Null {
		if f := compareColumnConst(ok, placeOf(in, l.Col), l.Type, r.Value); f != nil {
			return f, nil
		}
	}
	if r.Kind == KConst && !r.Value.Null && l.Kind != KConst {
		x := args[0]
		if l != n.Args[0] {
			x = args[1]
		}
		if l.Type == app.Numeric {
			if f, err := buildNumCompare(ok, l, r.Value, in); f != nil || err != nil {
				return f, err
			}
		}
		if f := compareWithConst(ok, l.Type, x, r.Value); f != nil {
			return f, nil
		}
	}
	if l.Kind == KColumn && r.Kind == KColumn {
		if f := compareColumns(ok, placeOf(in, l.Col), placeOf(in, r.Col), l.Type); f != nil {
			return f, nil
		}
	}
	return compareAny(acceptOf(n.Func.Name), n.Args[0].Type, args[0], args[1]), nil
}

// flip turns the set for a op b into the one for b op a.
func flip(a accept) accept { return a&2 | a>>2&1 | a&1<<2 }

func compareColumnConst(ok accept, p column, t app.Type, k change.Value) Func {
	switch t {
	case app.Int8, app.Timestamptz, app.Timestamp:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) {
				return change.Null(), nil
			}
			return ok.truth(cmp.Compare(p.int64(c.Row), k.N)), nil
		}
	case app.Int4, app.Date:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) {
				return change.Null(), nil
			}
			return ok.truth(cmp.Compare(p.int32(c.Row), k.N)), nil
		}
	case app.Text:
		if ok == acceptOf("=") {
			return func(c *Ctx) (change.Value, error) {
				if p.isNull(c.Row) {
					return change.Null(), nil
				}
				return change.Bool(string(p.bytes(c.Row)) == viewString(k.B)), nil
			}
		}
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) {
				return change.Null(), nil
			}
			return ok.truth(bytes.Compare(p.bytes(c.Row), k.B)), nil
		}
	case app.UUID:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) {
				return change.Null(), nil
			}
			return ok.truth(bytes.Compare(c.Row[p.at:p.at+16], k.B)), nil
		}
	}
	return nil
}

func compareColumns(ok accept, p, q column, t app.Type) Func {
	switch t {
	case app.Int8, app.Timestamptz, app.Timestamp:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) || q.isNull(c.Row) {
				return change.Null(), nil
			}
			return ok.truth(cmp.Compare(p.int64(c.Row), q.int64(c.Row))), nil
		}
	case app.Int4, app.Date:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) || q.isNull(c.Row) {
				return change.Null(), nil
			}
			return ok.truth(cmp.Compare(p.int32(c.Row), q.int32(c.Row))), nil
		}
	case app.Text:
		return func(c *Ctx) (change.Value, error) {
			if p.isNull(c.Row) || q.isNull(c.Row) {
				return change.Null(), nil
			}
			return ok.truth(bytes.Compare(p.bytes(c.Row), q.bytes(c.Row))), nil
		}
	}
	return nil
}

func compareAny(ok accept, t app.Type, x, y Func) Func {
	compare := comparer(t)
	return strict2(func(_ *Ctx, a, b change.Value) (change.Value, error) { return ok.truth(compare(a, b)), nil }, x, y)
}
