package expr

import (
	"laaster/app"
	"laaster/internal/change"
)

// ArrayLit returns ARRAY[elems…], of the elements' common type. Without elements it is of unknown type, as '{}' is.
func ArrayLit(elems []*Node, pos int) (*Node, error) {
	if len(elems) == 0 {
		return StringLit("{}", pos), nil
	}
	t, err := CommonType(elems, "ARRAY")
	if err != nil {
		return nil, err
	}
	if t.IsArray() {
		return nil, typeErrorf(pos, "keep the elements as jsonb", "arrays have one dimension here: an array of %s is not supported", t)
	}
	if elems, err = coerceAll(elems, t, "ARRAY"); err != nil {
		return nil, err
	}
	f := &Function{Name: "array", Args: []app.Type{t}, Result: app.Array(t), variadic: true,
		fnAll: func(c *Ctx, args []change.Value) (change.Value, error) { return c.array(t, args) }}
	return fold(&Node{Kind: KCall, Type: app.Array(t), Func: f, Args: elems, Pos: pos}), nil
}

// Subscript returns n[index]: an element of an array, counted from 1, NULL outside of it; of jsonb what n -> index is.
func Subscript(n, index *Node, pos int) (*Node, error) {
	if n.Type == app.JSONB {
		return Operator("->", []*Node{n, Settle(index)}, pos)
	}
	if !n.Type.IsArray() {
		return nil, typeErrorf(pos, "", "cannot subscript type %s because it does not support subscripting", n.Type)
	}
	index, err := subscript(index)
	if err != nil {
		return nil, err
	}
	elem := n.Type.Elem()
	f := &Function{Name: "element", Args: []app.Type{n.Type, app.Int4}, Result: elem, build: buildSubscript}
	return fold(&Node{Kind: KCall, Type: elem, Func: f, Args: []*Node{n, index}, Pos: pos}), nil
}

func subscript(index *Node) (*Node, error) {
	if castAllowed(index.Type, app.Int4) < castAssign {
		return nil, typeErrorf(index.Pos, "", "array subscript must have type integer, not %s", index.Type)
	}
	return coerce(index, app.Int4)
}

// buildSubscript compiles a subscript. Of regexp_match it computes no more than the one group.
func buildSubscript(n *Node, in *change.Layout, args []Func) (Func, error) {
	if f, err := buildMatchedGroup(n, in); f != nil || err != nil {
		return f, err
	}
	elem := n.Type
	return strict2(func(_ *Ctx, a, b change.Value) (change.Value, error) {
		return change.ArrayElem(a.B, elem, b.N), nil
	}, args[0], args[1]), nil
}

// Slice returns n[lo:hi], the elements from lo to hi; either bound may be nil. NULL when a bound is.
func Slice(n, lo, hi *Node, pos int) (*Node, error) {
	if !n.Type.IsArray() {
		return nil, typeErrorf(pos, "", "cannot subscript type %s because it does not support subscripting", n.Type)
	}
	if lo == nil {
		lo = Const(app.Int4, change.Int(1), pos)
	}
	if hi == nil {
		hi = Const(app.Int4, change.Int(change.MaxArray), pos)
	}
	lo, err := subscript(lo)
	if err != nil {
		return nil, err
	}
	if hi, err = subscript(hi); err != nil {
		return nil, err
	}
	elem := n.Type.Elem()
	f := &Function{Name: "slice", Args: []app.Type{n.Type, app.Int4, app.Int4}, Result: n.Type,
		fn3: func(c *Ctx, a, lo, hi change.Value) (change.Value, error) { return c.sliceArray(a.B, elem, lo.N, hi.N) }}
	return fold(&Node{Kind: KCall, Type: n.Type, Func: f, Args: []*Node{n, lo, hi}, Pos: pos}), nil
}

func (c *Ctx) sliceArray(b []byte, elem app.Type, lo, hi int64) (change.Value, error) {
	base := len(c.stack)
	it := change.IterateArray(b, elem)
	i := int64(0)
	for v, ok := it.Next(); ok && i < hi; v, ok = it.Next() {
		if i++; i >= lo {
			c.stack = append(c.stack, v)
		}
	}
	v, err := c.array(elem, c.stack[base:])
	c.stack = c.stack[:base]
	return v, err
}

// AnyOf returns left op ANY(array), or with all left op ALL(array). op is an operator with a boolean result, such as "=" or
// "~~" (LIKE).
func AnyOf(left *Node, op string, array *Node, all bool, pos int) (*Node, error) {
	if op == "!=" {
		op = "<>"
	}
	word := "ANY"
	if all {
		word = "ALL"
	}
	elem := app.Unknown
	if array.Type != app.Unknown {
		if !array.Type.IsArray() {
			return nil, typeErrorf(pos, "", "op %s (array) requires array on right side, not %s", word, array.Type)
		}
		elem = array.Type.Elem()
	}
	types := []app.Type{left.Type, elem}
	f, ambiguous := resolve(builtins().operators[op], types, true)
	if f == nil {
		return nil, noOperator(op, []*Node{left, {Type: elem}}, ambiguous, pos)
	}
	if f.Result != app.Bool {
		return nil, typeErrorf(pos, "", "op %s (array) requires operator to yield boolean", word)
	}
	left, err := coerce(left, f.Args[0])
	if err != nil {
		return nil, err
	}
	if f.Args[1].IsArray() || isPseudo(f.Args[1]) {
		return nil, typeErrorf(pos, "", "%s %s (…) is not supported", op, word)
	}
	if array, err = coerce(array, app.Array(f.Args[1])); err != nil {
		return nil, err
	}
	if n := anyOfConstants(left, f, array, all, pos); n != nil {
		return n, nil
	}
	test := &Function{Name: f.Name + " " + word, Args: []app.Type{left.Type, array.Type}, Result: app.Bool, operator: true, build: buildAnyOf(f, all)}
	return fold(&Node{Kind: KCall, Type: app.Bool, Func: test, Args: []*Node{left, array}, Pos: pos}), nil
}

// anyOfConstants makes x = ANY and x <> ALL of a list that is written out into IN and NOT IN, which know sets.
func anyOfConstants(left *Node, f *Function, array *Node, all bool, pos int) *Node {
	if !(f.Name == "=" && !all || f.Name == "<>" && all) {
		return nil
	}
	var list []*Node
	switch {
	case array.Kind == KConst && !array.Value.Null:
		it := change.IterateArray(array.Value.B, f.Args[1])
		for v, ok := it.Next(); ok; v, ok = it.Next() {
			list = append(list, Const(f.Args[1], v, pos))
		}
	case array.Kind == KCall && array.Func.Name == "array" && !array.Func.operator:
		list = array.Args
	}
	if len(list) == 0 {
		return nil
	}
	n := fold(&Node{Kind: KIn, Type: app.Bool, Args: append([]*Node{left}, list...), Pos: pos})
	return negate(n, all)
}

// buildAnyOf compiles a comparison with every element, three-valued.
func buildAnyOf(f *Function, all bool) buildFunc {
	return func(n *Node, _ *change.Layout, args []Func) (Func, error) {
		elem := n.Args[1].Type.Elem()
		slots := &Node{Kind: KCall, Type: app.Bool, Func: f, Args: []*Node{slotNode(n.Args[0].Type), slotNode(elem)}}
		test, err := compileCall(slots, nil, []Func{readSlot(0), readSlot(1)})
		if err != nil {
			return nil, err
		}
		x, list := args[0], args[1]
		return func(c *Ctx) (change.Value, error) {
			left, err := x(c)
			if err != nil {
				return left, err
			}
			array, err := list(c)
			if err != nil || array.Null {
				return array, err
			}
			base, outer := len(c.stack), c.slot
			c.stack, c.slot = append(c.stack, left, change.Value{}), base
			v, err := anyOf(c, array.B, elem, test, all)
			c.stack, c.slot = c.stack[:base], outer
			return v, err
		}, nil
	}
}

// slotNode stands for an operand that readSlot supplies.
func slotNode(t app.Type) *Node { return &Node{Kind: KCall, Type: t} }

// readSlot returns operand i of the innermost comparison with an array.
func readSlot(i int) Func {
	return func(c *Ctx) (change.Value, error) { return c.stack[c.slot+i], nil }
}

func anyOf(c *Ctx, array []byte, elem app.Type, test Func, all bool) (change.Value, error) {
	result := change.Bool(all)
	it := change.IterateArray(array, elem)
	for v, ok := it.Next(); ok; v, ok = it.Next() {
		c.stack[c.slot+1] = v
		switch v, err := test(c); {
		case err != nil:
			return v, err
		case v.Null:
			result = v
		case v.True() != all:
			return change.Bool(!all), nil
		}
	}
	return result, nil
}

// NumericCast returns n::numeric(precision, scale), 1 <= precision <= 1000, -1000 <= scale <= 1000.
func NumericCast(n *Node, precision, scale int, pos int) (*Node, error) {
	n, err := Cast(n, app.Numeric, pos)
	if err != nil {
		return nil, err
	}
	if precision < 1 || precision > 1000 {
		return nil, typeErrorf(pos, "", "NUMERIC precision %d must be between 1 and 1000", precision)
	}
	if scale < -1000 || scale > 1000 {
		return nil, typeErrorf(pos, "", "NUMERIC scale %d must be between -1000 and 1000", scale)
	}
	f := &Function{Name: "numeric", Args: []app.Type{app.Numeric, app.Int4, app.Int4}, Result: app.Numeric,
		fn3: func(c *Ctx, a, _, _ change.Value) (change.Value, error) { return c.fitNumeric(a, precision, scale) }}
	args := []*Node{n, Const(app.Int4, change.Int(int64(precision)), pos), Const(app.Int4, change.Int(int64(scale)), pos)}
	return fold(&Node{Kind: KCall, Type: app.Numeric, Func: f, Args: args, Pos: pos}), nil
}

// fitNumeric rounds to scale and refuses what then has too many digits.
func (c *Ctx) fitNumeric(a change.Value, precision, scale int) (change.Value, error) {
	n := toNum(a.B)
	if n.isNaN() {
		return a, nil
	}
	if n.isInf() {
		return a, &EvalError{codeRange, "numeric field overflow"}
	}
	n = cut(n, scale, true)
	if scale > n.scale {
		n.scaleUp(scale - n.scale)
	}
	if !n.isZero() && n.digitsBefore() > precision-scale {
		return a, &EvalError{codeRange, "numeric field overflow"}
	}
	return c.value(&n)
}

// VarcharCast returns n::varchar(length): the first length characters.
func VarcharCast(n *Node, length int, pos int) (*Node, error) {
	n, err := Cast(n, app.Text, pos)
	if err != nil {
		return nil, err
	}
	if length < 1 {
		return nil, typeErrorf(pos, "", "length for type varchar must be at least 1")
	}
	f := &Function{Name: "varchar", Args: []app.Type{app.Text, app.Int4}, Result: app.Text,
		fn2: func(_ *Ctx, a, _ change.Value) (change.Value, error) {
			return change.Bytes(a.B[:runeOffset(a.B, int64(length))]), nil
		}}
	args := []*Node{n, Const(app.Int4, change.Int(int64(length)), pos)}
	return fold(&Node{Kind: KCall, Type: app.Text, Func: f, Args: args, Pos: pos}), nil
}
