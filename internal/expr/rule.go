package expr

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"laaster/app"
	"laaster/internal/change"
)

// RowRule is a bound CREATE POLICY. Read-only.
type RowRule struct {
	Name        string
	For         app.Privilege
	Roles       []string
	Restrictive bool
	Using       *Node // over the relation's columns, with the functions of the caller and memberships; nil: none was given
	Check       *Node
}

// Membership is a set of values: those of one column in the rows of a relation for which Cond holds. NULL is not among them.
type Membership struct {
	Relation string
	Column   int
	From     app.Type // of the column
	As       app.Type // what its values are compared as, an implicit cast away from From
	Cond     *Node    // over the relation's columns, with the functions of the caller; nil: all rows
}

// String returns canonical text, as that of nodes.
func (m *Membership) String() string {
	cond := "true"
	if m.Cond != nil {
		cond = m.Cond.String()
	}
	return "SELECT " + strconv.Quote(m.Relation) + ".$" + strconv.Itoa(m.Column+1) + ":" + m.From.String() + "::" + m.As.String() + " WHERE " + cond
}

// Value returns v, a value of the column, as it is compared.
func (m *Membership) Value(v change.Value) *Node {
	n := Const(m.From, v, -1)
	if m.As == m.From {
		return n
	}
	return fold(&Node{Kind: KCast, Type: m.As, Args: []*Node{n}, Pos: -1})
}

// In returns x IN (set); x has the type As.
func (m *Membership) In(x *Node, pos int) *Node {
	return &Node{Kind: KMember, Type: app.Bool, Args: []*Node{x}, Set: m, Pos: pos}
}

// Memberships calls f for every membership in the expression.
func (n *Node) Memberships(f func(n *Node)) {
	if n.Kind == KMember {
		f(n)
	}
	for _, a := range n.Args {
		a.Memberships(f)
	}
}

// Positive returns a part of a condition where a membership stands elsewhere than under AND and OR alone, so that more members could let fewer rows
// through; nil when there is none.
func Positive(n *Node) *Node {
	switch n.Kind {
	case KAnd, KOr:
		for _, a := range n.Args {
			if bad := Positive(a); bad != nil {
				return bad
			}
		}
		return nil
	case KMember:
		n = n.Args[0]
	}
	var bad *Node
	n.Memberships(func(m *Node) { bad = m })
	return bad
}

// Caller is what the functions of the caller return.
type Caller struct {
	Subject, Role string
	Claim         func(path string) (string, bool) // nil: there are none
}

// ClaimPath returns the path of a call of auth_claim whose argument is a constant.
func (n *Node) ClaimPath() (path string, ok bool) {
	if n.Kind != KCall || n.Func.Name != claimFunction || n.Args[0].Kind != KConst || n.Args[0].Value.Null {
		return "", false
	}
	return string(n.Args[0].Value.B), true
}

const claimFunction = "auth_claim"

// Bind returns n as it is for one caller: the functions of the caller are constants, and what then is constant is computed. Where a membership's left side
// is a constant, its set has no other value.
func (n *Node) Bind(c *Caller) *Node {
	text := func(s string) *Node {
		if !validText(s) {
			return Const(app.Text, change.Null(), n.Pos)
		}
		return Const(app.Text, change.Bytes([]byte(s)), n.Pos)
	}
	switch n.Kind {
	case KColumn, KConst:
		return n
	case KSubject:
		return text(c.Subject)
	case KRole:
		return text(c.Role)
	}
	if path, ok := n.ClaimPath(); ok {
		if c.Claim != nil {
			if s, ok := c.Claim(path); ok {
				return text(s)
			}
		}
		return Const(app.Text, change.Null(), n.Pos)
	}
	bound := *n
	bound.Args = make([]*Node, len(n.Args))
	for i, a := range n.Args {
		bound.Args[i] = a.Bind(c)
	}
	if n.Kind == KMember {
		bound.Set = n.Set.bind(c, bound.Args[0])
	}
	return reduce(&bound)
}

// validText reports whether a text of the caller can be a value: others are NULL.
func validText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func (m *Membership) bind(c *Caller, x *Node) *Membership {
	set := *m
	if m.Cond != nil {
		set.Cond = Decided(m.Cond.Bind(c))
	}
	if x.Kind != KConst || x.Value.Null {
		return &set
	}
	col := Column(m.Column, m.From, -1)
	if m.As != m.From {
		col = &Node{Kind: KCast, Type: m.As, Args: []*Node{col}, Pos: -1}
	}
	same, err := Operator("=", []*Node{col, x}, -1)
	if err != nil {
		return &set
	}
	if set.Cond == nil {
		set.Cond = same
		return &set
	}
	set.Cond = reduce(&Node{Kind: KAnd, Type: app.Bool, Args: flat(KAnd, []*Node{set.Cond, same}), Pos: -1})
	return &set
}

// reduce computes what constants decide in a node whose arguments are reduced. It keeps all three values.
func reduce(n *Node) *Node {
	switch n.Kind {
	case KAnd:
		return reduceList(n, false)
	case KOr:
		return reduceList(n, true)
	case KCase:
		return reduceCase(n)
	case KCoalesce:
		for len(n.Args) > 1 && n.Args[0].Kind == KConst && n.Args[0].Value.Null {
			n.Args = n.Args[1:]
		}
		if a := n.Args[0]; len(n.Args) == 1 || a.Kind == KConst && !a.Value.Null {
			return a
		}
		return n
	case KMember:
		if x := n.Args[0]; x.Kind == KConst && x.Value.Null {
			return Const(app.Bool, change.Null(), n.Pos)
		}
		return n
	case KCall:
		return reduceCall(n)
	}
	return fold(n)
}

// reduceList drops from an AND what is true and ends it at what is false; with or, the other way about.
func reduceList(n *Node, or bool) *Node {
	var rest []*Node
	for _, a := range flat(n.Kind, n.Args) {
		if a.Kind == KConst && !a.Value.Null {
			if a.Value.True() == or {
				return a
			}
			continue
		}
		rest = append(rest, a)
	}
	switch len(rest) {
	case 0:
		return BoolLit(!or, n.Pos)
	case 1:
		return rest[0]
	}
	n.Args = rest
	return n
}

// flat takes apart the arguments that are of the same kind.
func flat(kind Kind, args []*Node) []*Node {
	var out []*Node
	for _, a := range args {
		if a.Kind == kind {
			out = append(out, a.Args...)
		} else {
			out = append(out, a)
		}
	}
	return out
}

func reduceCase(n *Node) *Node {
	other := n.Args[len(n.Args)-1]
	var rest []*Node
	for i := 0; i+1 < len(n.Args); i += 2 {
		when, then := n.Args[i], n.Args[i+1]
		if when.Kind != KConst {
			rest = append(rest, when, then)
			continue
		}
		if when.Value.True() {
			other = then
			break
		}
	}
	if len(rest) == 0 {
		return other
	}
	n.Args = append(rest, other)
	return n
}

// reduceCall puts the column first where it is compared with a constant, as [Filter.Equals] wants it, and makes a set of a constant array.
func reduceCall(n *Node) *Node {
	f := n.Func
	if len(n.Args) == 2 && f.operator && n.Args[1].Kind == KConst {
		op, all := strings.CutSuffix(f.Name, " ALL")
		if word, any := strings.CutSuffix(f.Name, " ANY"); any || all {
			if any {
				op = word
			}
			if made, err := AnyOf(n.Args[0], op, n.Args[1], all, n.Pos); err == nil {
				return made
			}
		}
	}
	if f.Name == "=" && f.operator && n.Args[0].Kind == KConst && n.Args[1].Kind != KConst && n.Args[0].Type == n.Args[1].Type {
		n.Args[0], n.Args[1] = n.Args[1], n.Args[0]
	}
	if f.strict() && slices.ContainsFunc(n.Args, func(a *Node) bool { return a.Kind == KConst && a.Value.Null }) {
		return Const(n.Type, change.Null(), n.Pos)
	}
	return fold(n)
}

// strict reports whether a NULL argument makes NULL, whatever the others are.
func (f *Function) strict() bool {
	return f.fn1 != nil || f.fn2 != nil || f.fn3 != nil || f.fnN != nil || f.operator && compares(f.Name)
}

func compares(op string) bool {
	switch op {
	case "=", "<>", "<", "<=", ">", ">=":
		return true
	}
	return false
}

// Decided returns a bound condition that lets the same rows through and never fails: where nothing but true counts, NULL is false, and so is a part
// that fails. Parts that read no row are computed.
func Decided(n *Node) *Node {
	switch n.Kind {
	case KAnd, KOr:
		args := make([]*Node, len(n.Args))
		for i, a := range n.Args {
			args[i] = Decided(a)
		}
		return reduceList(&Node{Kind: n.Kind, Type: app.Bool, Args: args, Pos: n.Pos}, n.Kind == KOr)
	case KConst:
		return BoolLit(n.Value.True(), n.Pos)
	case KMember:
		if !mayFail(n.Args[0]) {
			return n
		}
		x := n.Args[0]
		if fails(x) {
			return BoolLit(false, n.Pos)
		}
		null := Const(x.Type, change.Null(), n.Pos)
		bound := *n
		bound.Args = []*Node{{Kind: KSure, Type: x.Type, Args: []*Node{x, null}, Pos: x.Pos}}
		return &bound
	}
	if !mayFail(n) {
		return n
	}
	if fails(n) {
		return BoolLit(false, n.Pos)
	}
	return &Node{Kind: KSure, Type: app.Bool, Args: []*Node{n, BoolLit(false, n.Pos)}, Pos: n.Pos}
}

// fails reports whether the expression ends in an error, or else is NULL, for every row: a part of it that reads no row fails.
func fails(n *Node) bool {
	if !readsRow(n) {
		if n.Kind == KConst {
			return false
		}
		f, err := Compile(n, nil)
		if err != nil {
			return true
		}
		_, err = f(&Ctx{})
		return err != nil
	}
	if n.Kind == KCast || n.Kind == KNot || n.Kind == KCall && n.Func.strict() {
		return slices.ContainsFunc(n.Args, fails)
	}
	return false
}

// mayFail reports whether the expression can end in an error for some row. Comparisons and tests cannot.
func mayFail(n *Node) bool {
	switch n.Kind {
	case KColumn, KConst, KNow, KSubject, KRole, KSure:
		return false
	case KAnd, KOr, KNot, KIsNull, KDistinct, KCase, KCoalesce, KIn:
		return slices.ContainsFunc(n.Args, mayFail)
	case KCast:
		return !widens(n.Args[0].Type, n.Type) || mayFail(n.Args[0])
	case KCall:
		return !n.Func.operator || !compares(n.Func.Name) || slices.ContainsFunc(n.Args, mayFail)
	}
	return true
}

// widens reports whether every value of one type is one of the other.
func widens(from, to app.Type) bool {
	switch from {
	case app.Int4:
		return to == app.Int8 || to == app.Numeric || to == app.Float8 || to == app.Text
	case app.Int8:
		return to == app.Numeric || to == app.Text
	case app.Bool, app.UUID, app.Numeric, app.Float8, app.JSONB:
		return to == app.Text
	}
	return false
}

// compileSure computes the first argument, and the second where that fails.
func compileSure(x, other Func) Func {
	return func(c *Ctx) (change.Value, error) {
		stack, slot := len(c.stack), c.slot
		v, err := x(c)
		if err != nil {
			c.stack, c.slot = c.stack[:stack], slot
			return other(c)
		}
		return v, nil
	}
}

// WithSets returns a decided condition with each membership replaced by a comparison with the values that sets gives for it: those of the set's
// column, in any order. It reads no other relation any more.
func (n *Node) WithSets(sets func(m *Membership) []change.Value) *Node {
	switch n.Kind {
	case KAnd, KOr:
		args := make([]*Node, len(n.Args))
		for i, a := range n.Args {
			args[i] = a.WithSets(sets)
		}
		return reduceList(&Node{Kind: n.Kind, Type: app.Bool, Args: flat(n.Kind, args), Pos: n.Pos}, n.Kind == KOr)
	case KMember:
		return n.Set.among(n.Args[0], sets(n.Set))
	}
	return n
}

// among returns x = v, x IN (v, …) or false.
func (m *Membership) among(x *Node, values []change.Value) *Node {
	list := make([]*Node, 0, len(values)+1)
	for _, v := range values {
		if n := m.Value(v); n.Kind == KConst && !n.Value.Null {
			list = append(list, n)
		}
	}
	compare := comparer(m.As)
	slices.SortFunc(list, func(a, b *Node) int { return compare(a.Value, b.Value) })
	list = slices.CompactFunc(list, func(a, b *Node) bool { return compare(a.Value, b.Value) == 0 })
	switch len(list) {
	case 0:
		return BoolLit(false, -1)
	case 1:
		if n, err := Operator("=", []*Node{x, list[0]}, -1); err == nil {
			return Decided(n)
		}
	}
	return Decided(fold(&Node{Kind: KIn, Type: app.Bool, Args: append([]*Node{x}, list...), Pos: -1}))
}

// Depends tells all that Bind depends on: whether the expression asks for the subject and the role, and the claims that it reads.
func (n *Node) Depends(claim func(path string)) (subject, role bool) {
	switch n.Kind {
	case KSubject:
		return true, false
	case KRole:
		return false, true
	case KMember:
		if n.Set.Cond != nil {
			subject, role = n.Set.Cond.Depends(claim)
		}
	}
	if path, ok := n.ClaimPath(); ok {
		claim(path)
	}
	for _, a := range n.Args {
		s, r := a.Depends(claim)
		subject, role = subject || s, role || r
	}
	return subject, role
}
