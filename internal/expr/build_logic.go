package expr

import (
	"laaster/app"
	"laaster/internal/change"
)

// And returns the conjunction of one or more conditions.
func And(args []*Node, pos int) (*Node, error) { return connect(KAnd, "AND", args, pos) }

// Or returns the disjunction of one or more conditions.
func Or(args []*Node, pos int) (*Node, error) { return connect(KOr, "OR", args, pos) }

func connect(kind Kind, word string, args []*Node, pos int) (*Node, error) {
	n := &Node{Kind: kind, Type: app.Bool, Pos: pos}
	for _, a := range args {
		a, err := Condition(a, word)
		if err != nil {
			return nil, err
		}
		if a.Kind == kind { // one flat list, however the text nested it
			n.Args = append(n.Args, a.Args...)
		} else {
			n.Args = append(n.Args, a)
		}
	}
	if len(n.Args) == 1 {
		return n.Args[0], nil
	}
	return n, nil
}

// Not returns NOT a.
func Not(a *Node, pos int) (*Node, error) {
	a, err := Condition(a, "NOT")
	if err != nil {
		return nil, err
	}
	return fold(&Node{Kind: KNot, Type: app.Bool, Args: []*Node{a}, Pos: pos}), nil
}

// IsNull returns a IS NULL, or a IS NOT NULL.
func IsNull(a *Node, not bool, pos int) *Node {
	n := fold(&Node{Kind: KIsNull, Type: app.Bool, Args: []*Node{Settle(a)}, Pos: pos})
	return negate(n, not)
}

// negate wraps a condition in NOT if not is set.
func negate(n *Node, not bool) *Node {
	if !not {
		return n
	}
	return fold(&Node{Kind: KNot, Type: app.Bool, Args: []*Node{n}, Pos: n.Pos})
}

// IsBool returns a IS [NOT] TRUE or FALSE.
func IsBool(a *Node, want, not bool, pos int) (*Node, error) {
	word := "IS FALSE"
	if want {
		word = "IS TRUE"
	}
	a, err := Condition(a, word)
	if err != nil {
		return nil, err
	}
	n := &Node{Kind: KDistinct, Type: app.Bool, Args: []*Node{a, BoolLit(want, pos)}, Pos: pos}
	return negate(fold(n), !not), nil
}

// IsUnknown returns a IS [NOT] UNKNOWN.
func IsUnknown(a *Node, not bool, pos int) (*Node, error) {
	a, err := Condition(a, "IS UNKNOWN")
	if err != nil {
		return nil, err
	}
	return IsNull(a, not, pos), nil
}

// IsDistinct returns a IS [NOT] DISTINCT FROM b.
func IsDistinct(a, b *Node, not bool, pos int) (*Node, error) {
	args, err := comparable(a, b, pos)
	if err != nil {
		return nil, err
	}
	return negate(fold(&Node{Kind: KDistinct, Type: app.Bool, Args: args, Pos: pos}), not), nil
}

// comparable coerces two operands as a = b would.
func comparable(a, b *Node, pos int) ([]*Node, error) {
	args := []*Node{a, b}
	f, ambiguous := resolve(builtins().operators["="], typesOf(args), true)
	if f == nil {
		return nil, noOperator("=", args, ambiguous, pos)
	}
	for i := range args {
		n, err := coerce(args[i], f.Args[i])
		if err != nil {
			return nil, err
		}
		args[i] = n
	}
	return args, nil
}

// When is one WHEN … THEN … of a CASE.
type When struct {
	Cond *Node // a condition; of a simple CASE the value to compare with
	Then *Node
}

// Case returns CASE [operand] WHEN … THEN … [ELSE …] END. operand and other may be nil.
func Case(operand *Node, whens []When, other *Node, pos int) (*Node, error) {
	if other == nil {
		other = NullLit(pos)
	}
	if operand != nil {
		operand = Settle(operand)
	}
	results := []*Node{other} // PostgreSQL looks at ELSE first
	n := &Node{Kind: KCase, Pos: pos}
	for _, w := range whens {
		cond, err := w.Cond, error(nil)
		if operand != nil {
			if cond, err = Operator("=", []*Node{operand, cond}, w.Cond.Pos); err != nil {
				return nil, err
			}
		}
		if cond, err = Condition(cond, "CASE/WHEN"); err != nil {
			return nil, err
		}
		n.Args = append(n.Args, cond, nil)
		results = append(results, w.Then)
	}
	t, err := CommonType(results, "CASE")
	if err != nil {
		return nil, err
	}
	if results, err = coerceAll(results, t, "CASE"); err != nil {
		return nil, err
	}
	for i := range whens {
		n.Args[2*i+1] = results[i+1]
	}
	n.Type, n.Args = t, append(n.Args, results[0])
	return n, nil
}

// CommonType returns the type that PostgreSQL gives to alternatives: the results of a CASE, the arguments of COALESCE, the
// rows of VALUES, the branches of UNION. context names the construct for the error.
func CommonType(nodes []*Node, context string) (app.Type, error) {
	t, bad := commonType(typesOf(nodes))
	if bad >= 0 {
		return t, typeErrorf(nodes[bad].Pos, "cast one of them", "%s types %s and %s cannot be matched", context, t, nodes[bad].Type)
	}
	return t, nil
}

// commonType returns the common type, or the index of a type that does not go with those before it, which have t in common;
// -1 when all fit.
func commonType(types []app.Type) (t app.Type, bad int) {
	t = app.Unknown
	for i, have := range types {
		switch {
		case have == app.Unknown || have == t:
		case t == app.Unknown:
			t = have
		case category(have) != category(t):
			return t, i
		case !preferred(t) && castAllowed(t, have) == castImplicit && castAllowed(have, t) != castImplicit:
			t = have
		}
	}
	if t == app.Unknown {
		t = app.Text
	}
	return t, -1
}

func coerceAll(nodes []*Node, t app.Type, context string) ([]*Node, error) {
	out := make([]*Node, len(nodes))
	for i, n := range nodes {
		if castAllowed(n.Type, t) != castImplicit {
			return nil, typeErrorf(n.Pos, "cast it: …::"+t.String(), "%s could not convert type %s to %s", context, n.Type, t)
		}
		n, err := coerce(n, t)
		if err != nil {
			return nil, err
		}
		out[i] = n
	}
	return out, nil
}

// Coalesce returns COALESCE(args…).
func Coalesce(args []*Node, pos int) (*Node, error) {
	t, err := CommonType(args, "COALESCE")
	if err != nil {
		return nil, err
	}
	if args, err = coerceAll(args, t, "COALESCE"); err != nil {
		return nil, err
	}
	return &Node{Kind: KCoalesce, Type: t, Args: args, Pos: pos}, nil
}

// NullIf returns NULLIF(a, b).
func NullIf(a, b *Node, pos int) (*Node, error) {
	args, err := comparable(a, b, pos)
	if err != nil {
		return nil, err
	}
	eq, err := Operator("=", args, pos)
	if err != nil {
		return nil, err
	}
	result := args[0]
	if a.Type == app.Int4 && b.Type == app.Int8 || category(a.Type) == 'D' && category(b.Type) == 'D' { // PostgreSQL compares these without a cast
		result = a
	}
	return &Node{Kind: KCase, Type: result.Type, Args: []*Node{eq, Const(result.Type, change.Null(), pos), result}, Pos: pos}, nil
}

// Greatest returns GREATEST(args…): NULLs are ignored.
func Greatest(args []*Node, pos int) (*Node, error) { return extreme("greatest", args, pos) }

// Least returns LEAST(args…): NULLs are ignored.
func Least(args []*Node, pos int) (*Node, error) { return extreme("least", args, pos) }

func extreme(name string, args []*Node, pos int) (*Node, error) {
	t, err := CommonType(args, name)
	if err != nil {
		return nil, err
	}
	if args, err = coerceAll(args, t, name); err != nil {
		return nil, err
	}
	f := &Function{Name: name, Args: []app.Type{t}, Result: t, variadic: true, build: buildExtreme}
	return fold(&Node{Kind: KCall, Type: t, Func: f, Args: args, Pos: pos}), nil
}

// In returns x [NOT] IN (list…).
func In(x *Node, list []*Node, not bool, pos int) (*Node, error) {
	// PostgreSQL gives x and the items without columns one type, and compares items with columns one by one.
	alike, single := []*Node{x}, []*Node(nil)
	for _, item := range list {
		if readsRow(item) {
			single = append(single, item)
		} else {
			alike = append(alike, item)
		}
	}
	var terms []*Node
	t, err := CommonType(alike, "IN")
	if err == nil && len(alike) > 2 && !t.IsArray() && castAllowed(x.Type, t) == castImplicit {
		coerced, err := coerceAll(alike, t, "IN")
		if err != nil {
			return nil, err
		}
		terms = append(terms, fold(&Node{Kind: KIn, Type: app.Bool, Args: coerced, Pos: pos}))
	} else {
		single = list
	}
	for _, item := range single {
		eq, err := Operator("=", []*Node{x, item}, pos)
		if err != nil {
			return nil, err
		}
		terms = append(terms, eq)
	}
	n, err := Or(terms, pos)
	if err != nil {
		return nil, err
	}
	return negate(n, not), nil
}

func readsRow(n *Node) bool {
	found := false
	n.Columns(func(int) { found = true })
	return found
}

// Between returns x [NOT] BETWEEN [SYMMETRIC] lo AND hi.
func Between(x, lo, hi *Node, symmetric, not bool, pos int) (*Node, error) {
	n, err := inRange(x, lo, hi, pos)
	if err != nil {
		return nil, err
	}
	if symmetric {
		swapped, err := inRange(x, hi, lo, pos)
		if err != nil {
			return nil, err
		}
		if n, err = Or([]*Node{n, swapped}, pos); err != nil {
			return nil, err
		}
	}
	return negate(n, not), nil
}

func inRange(x, lo, hi *Node, pos int) (*Node, error) {
	ge, err := Operator(">=", []*Node{x, lo}, pos)
	if err != nil {
		return nil, err
	}
	le, err := Operator("<=", []*Node{x, hi}, pos)
	if err != nil {
		return nil, err
	}
	return And([]*Node{ge, le}, pos)
}
