package expr

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"laaster/app"
	"laaster/internal/change"
)

// Column returns input column i, of type t.
func Column(i int, t app.Type, pos int) *Node { return &Node{Kind: KColumn, Type: t, Col: i, Pos: pos} }

// Const returns a constant of a known type. It keeps v.
func Const(t app.Type, v change.Value, pos int) *Node {
	return &Node{Kind: KConst, Type: t, Value: v, Pos: pos}
}

// StringLit returns a string literal: of unknown type until its surroundings settle one, see [Settle].
func StringLit(s string, pos int) *Node { return Const(app.Unknown, change.Bytes([]byte(s)), pos) }

// NullLit returns a bare NULL, of unknown type.
func NullLit(pos int) *Node { return Const(app.Unknown, change.Null(), pos) }

// BoolLit returns TRUE or FALSE.
func BoolLit(b bool, pos int) *Node { return Const(app.Bool, change.Bool(b), pos) }

// NumLit returns a number as PostgreSQL types it: integer if it fits, else bigint, else numeric; with a point or an
// exponent numeric. text may begin with '-', so that -2147483648 is an integer.
func NumLit(text string, pos int) (*Node, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n == int64(int32(n)) {
			return Const(app.Int4, change.Int(n), pos), nil
		}
		return Const(app.Int8, change.Int(n), pos), nil
	}
	v, _, err := ParseText(app.Numeric, []byte(text), nil)
	if err != nil {
		return nil, typeErrorf(pos, "", "%s", err.Error())
	}
	return Const(app.Numeric, v, pos), nil
}

// Call returns a call of the function that PostgreSQL would choose for these arguments. Session functions become nodes of
// their own kind.
func Call(name string, args []*Node, pos int) (*Node, error) {
	f, ambiguous := resolve(builtins().functions[name], typesOf(args), false)
	if f == nil {
		if n, err := callAsCast(name, args, pos); n != nil || err != nil {
			return n, err
		}
		return nil, noFunction(name, args, ambiguous, pos)
	}
	return bind(f, args, pos)
}

// callAsCast reads text(x) as a cast, as PostgreSQL does for a function that is named like a type.
func callAsCast(name string, args []*Node, pos int) (*Node, error) {
	if len(args) != 1 {
		return nil, nil
	}
	switch t := TypeNamed(name); {
	case t == app.Unknown || strings.Contains(name, " "):
		return nil, nil
	case args[0].Type == app.Unknown, castAllowed(args[0].Type, t) != castNone:
		return Cast(args[0], t, pos)
	}
	return nil, nil
}

func noFunction(name string, args []*Node, ambiguous bool, pos int) *TypeError {
	sig := signature(name, false, typesOf(args))
	overloads := builtins().functions[name]
	if len(overloads) == 0 && SetFunction(name) {
		return typeErrorf(pos, "write it in FROM: FROM t, "+name+"(…) AS x", "set-returning function %s stands in FROM only", name)
	}
	switch {
	case ambiguous:
		return typeErrorf(pos, "could not choose the best candidate: add explicit type casts", "function %s is not unique", sig)
	case len(overloads) > 0:
		known := make([]string, len(overloads))
		for i, f := range overloads {
			known[i] = f.Signature()
		}
		return typeErrorf(pos, "there is "+strings.Join(known, ", ")+": cast the arguments to fit", "function %s does not exist", sig)
	}
	names := FunctionNames()
	if isSet(name) {
		names = slices.DeleteFunc(sortedKeys(builtins().functions), func(n string) bool { return !isSet(n) })
	}
	if near := Closest(name, names); near != "" {
		return typeErrorf(pos, "did you mean "+near+"?", "function %s does not exist", sig)
	}
	return typeErrorf(pos, "", "function %s does not exist", sig)
}

// Operator returns an operator applied to one operand (prefix) or two. op is the symbol; LIKE, ILIKE and their negations
// are "~~", "~~*", "!~~" and "!~~*".
func Operator(op string, args []*Node, pos int) (*Node, error) {
	if op == "!=" {
		op = "<>"
	}
	f, ambiguous := resolve(builtins().operators[op], typesOf(args), true)
	if f == nil {
		return nil, noOperator(op, args, ambiguous, pos)
	}
	return bind(f, args, pos)
}

func noOperator(op string, args []*Node, ambiguous bool, pos int) *TypeError {
	sig := signature(op, true, typesOf(args))
	if ambiguous {
		return typeErrorf(pos, "could not choose the best candidate: add explicit type casts", "operator is not unique: %s", sig)
	}
	hint := "no operator of this name takes these types: you may need an explicit cast, such as x::" + castHint(args)
	if len(builtins().operators[op]) == 0 {
		hint = "there is no operator " + op
	}
	return typeErrorf(pos, hint, "operator does not exist: %s", sig)
}

// castHint names the type that a cast should most likely aim at.
func castHint(args []*Node) string {
	for _, n := range args {
		if c := category(n.Type); c != 'S' && c != 'X' {
			return n.Type.String()
		}
	}
	return "text"
}

// bind makes the call of f, with its arguments coerced to its parameters.
func bind(f *Function, args []*Node, pos int) (*Node, error) {
	if f.kind != 0 {
		return &Node{Kind: f.kind, Type: f.Result, Pos: pos}, nil
	}
	n := &Node{Kind: KCall, Type: f.Result, Func: f, Pos: pos}
	for i, a := range args {
		a, err := coerce(a, f.param(i))
		if err != nil {
			return nil, err
		}
		n.Args = append(n.Args, a)
	}
	return fold(n), nil
}

// coerce converts implicitly; the caller knows that the cast is allowed. An unknown literal is read as the type.
func coerce(n *Node, to app.Type) (*Node, error) {
	if to == anyType || to == anyNonArray {
		if n.Type != app.Unknown {
			return n, nil
		}
		to = app.Text
	}
	if n.Type == to {
		return n, nil
	}
	if n.Type == app.Unknown {
		return literal(n, to)
	}
	return fold(&Node{Kind: KCast, Type: to, Args: []*Node{n}, Pos: n.Pos}), nil
}

// literal reads an unknown literal as a type.
func literal(n *Node, to app.Type) (*Node, error) {
	if n.Value.Null {
		return Const(to, change.Null(), n.Pos), nil
	}
	v, _, err := ParseText(to, n.Value.B, nil)
	if err != nil {
		return nil, typeErrorf(n.Pos, "", "%s", err.Error())
	}
	return Const(to, change.Value{N: v.N, B: bytes.Clone(v.B)}, n.Pos), nil
}

// Settle gives a node that is still of unknown type the type text, as PostgreSQL does for results.
func Settle(n *Node) *Node {
	if n.Type != app.Unknown {
		return n
	}
	n, _ = literal(n, app.Text) // text reads every literal
	return n
}

// Cast converts where the text says so: CAST(n AS to), n::to.
func Cast(n *Node, to app.Type, pos int) (*Node, error) {
	return convert(n, to, castExplicit, pos, "cannot cast type %s to %s", "")
}

// Assign converts n as if it were stored into a column of type to: INSERT, UPDATE, DEFAULT.
func Assign(n *Node, to app.Type, pos int) (*Node, error) {
	return convert(n, to, castAssign, pos, "expression is of type %s but the column is of type %s", "cast it")
}

// Implicit converts n where PostgreSQL does so unasked.
func Implicit(n *Node, to app.Type, pos int) (*Node, error) {
	return convert(n, to, castImplicit, pos, "type %s does not become %s by itself", "cast it")
}

func convert(n *Node, to app.Type, context castKind, pos int, format, hint string) (*Node, error) {
	if castAllowed(n.Type, to) < context {
		if hint != "" && castAllowed(n.Type, to) != castNone {
			hint += ": …::" + to.String()
		} else {
			hint = ""
		}
		return nil, typeErrorf(pos, hint, format, n.Type, to)
	}
	return coerce(n, to)
}

// Condition makes n a boolean for the clause that is named, such as "WHERE".
func Condition(n *Node, clause string) (*Node, error) {
	if castAllowed(n.Type, app.Bool) != castImplicit {
		return nil, typeErrorf(n.Pos, "compare it with something", "argument of %s must be type boolean, not type %s", clause, n.Type)
	}
	return coerce(n, app.Bool)
}

func typesOf(args []*Node) []app.Type {
	types := make([]app.Type, len(args))
	for i, n := range args {
		types[i] = n.Type
	}
	return types
}

// foldLimit bounds the constants that folding makes, so that a short text cannot become a huge plan.
const foldLimit = 4096

// fold computes a call or cast of constants now, where that is harmless: an error is left for the row that meets it.
func fold(n *Node) *Node {
	if n.Kind == KCall && n.Func.Volatility != Immutable {
		return n
	}
	for _, a := range n.Args {
		if a.Kind != KConst {
			return n
		}
	}
	f, err := Compile(n, nil)
	if err != nil {
		return n
	}
	v, err := f(&Ctx{})
	if err != nil || len(v.B) > foldLimit {
		return n
	}
	return Const(n.Type, change.Value{N: v.N, B: bytes.Clone(v.B), Null: v.Null}, n.Pos)
}

// Volatility returns the strongest volatility in the expression.
func (n *Node) Volatility() Volatility {
	v := Immutable
	switch n.Kind {
	case KNow, KSubject, KRole:
		v = Stable
	case KCall:
		v = n.Func.Volatility
	}
	for _, a := range n.Args {
		v = max(v, a.Volatility())
	}
	return v
}

// Columns calls f for every column that the expression reads, with repetitions.
func (n *Node) Columns(f func(col int)) {
	if n.Kind == KColumn {
		f(n.Col)
	}
	for _, a := range n.Args {
		a.Columns(f)
	}
}
