package syntax

// Span is where a node stands in the text: the bytes from Pos to End.
type Span struct{ Pos, End int }

// At returns the span itself; every node has it by embedding.
func (s Span) At() Span { return s }

// Name is one identifier, folded unless it was quoted.
type Name struct {
	Span
	Text string
}

// QName is a name with optional qualification, as in schema.table: at least one part.
type QName []Name

// Last returns the last part.
func (q QName) Last() Name { return q[len(q)-1] }

// At returns the span of all parts.
func (q QName) At() Span { return Span{q[0].Pos, q[len(q)-1].End} }

// String returns the parts joined by dots, unquoted.
func (q QName) String() string {
	s := ""
	for i, n := range q {
		if i > 0 {
			s += "."
		}
		s += n.Text
	}
	return s
}

// Expr is an expression: one of the pointer types below.
type Expr interface {
	At() Span
	expr()
}

// ColumnRef is a, t.a, s.t.a; with Star *, t.*, s.t.*.
type ColumnRef struct {
	Span
	Names QName // empty only for a bare *
	Star  bool
}

// LiteralKind says what a Literal is.
type LiteralKind uint8

// The kinds of literals.
const (
	Int    LiteralKind = iota + 1 // fits 32 bits; Text is decimal, with a sign when a minus was folded in
	Num                           // any other number as written (underscores, 0x and exponents too), with a sign when folded in
	String                        // Text is the value
	Bit                           // B'..'
	Hex                           // X'..'
	True
	False
	Null
)

// Literal is a constant.
type Literal struct {
	Span
	Kind LiteralKind
	Text string
}

// Param is $n.
type Param struct {
	Span
	N int
}

// DefaultValue is the word DEFAULT where an expression may stand.
type DefaultValue struct{ Span }

// Cast is CAST(x AS t), x::t, and a literal with its type in front: t 'x'.
type Cast struct {
	Span
	X    Expr
	Type *TypeName
}

// Op is an operator that has no node of its own. L is nil for a prefix operator.
type Op struct {
	Span
	Schema QName // of OPERATOR(schema.+); nil as a rule
	Name   string
	L, R   Expr
	OpPos  int
}

// Quantified is x op ANY (..) and x op ALL (..). Exactly one of R (an array) and Query is set. Name is also LIKE's
// operator: ~~, !~~, ~~*, !~~*.
type Quantified struct {
	Span
	Schema QName
	Name   string
	All    bool
	L, R   Expr
	Query  *Select
}

// Distinct is l IS [NOT] DISTINCT FROM r.
type Distinct struct {
	Span
	Not  bool
	L, R Expr
}

// In is x [NOT] IN (list) or (query).
type In struct {
	Span
	Not   bool
	X     Expr
	List  []Expr
	Query *Select
}

// LikeKind tells LIKE, ILIKE and SIMILAR TO apart.
type LikeKind uint8

// The kinds of Like.
const (
	PlainLike LikeKind = iota
	ILike
	SimilarTo
)

// Like is x [NOT] LIKE pattern [ESCAPE escape].
type Like struct {
	Span
	Kind       LikeKind
	Not        bool
	X, Pattern Expr
	Escape     Expr // nil when absent
}

// Between is x [NOT] BETWEEN [SYMMETRIC] lo AND hi.
type Between struct {
	Span
	Not, Symmetric bool
	X, Lo, Hi      Expr
}

// LogicOp is AND, OR or NOT.
type LogicOp uint8

// The logic operators.
const (
	And LogicOp = iota
	Or
	Not
)

// Logic is AND and OR over two or more arguments (a AND b AND c is one node), and NOT over one.
type Logic struct {
	Span
	Op   LogicOp
	Args []Expr
}

// NullTest is x IS [NOT] NULL.
type NullTest struct {
	Span
	Not bool
	X   Expr
}

// BoolTest is x IS [NOT] TRUE, FALSE or UNKNOWN.
type BoolTest struct {
	Span
	Not   bool
	Value LiteralKind // True, False, or Null for UNKNOWN
	X     Expr
}

// When is one branch of a Case.
type When struct {
	Span
	Cond, Result Expr
}

// Case is CASE [operand] WHEN .. THEN .. [ELSE ..] END.
type Case struct {
	Span
	Operand Expr // nil for a searched CASE
	Whens   []When
	Else    Expr // nil when absent
}

// Arg is one argument of a call; Name is set for name => value.
type Arg struct {
	X    Expr
	Name *Name
}

// Call is a function call. What has a syntax of its own in SQL (EXTRACT, SUBSTRING .. FROM, AT TIME ZONE, OVERLAPS, …) is
// a call of the pg_catalog function that PostgreSQL makes of it, with Special set.
type Call struct {
	Span
	Name     QName
	Args     []Arg
	Star     bool // f(*)
	Distinct bool
	Variadic bool // the last argument is VARIADIC
	Special  bool
	OrderBy  []SortBy // within the parentheses, or of WITHIN GROUP
	Within   bool     // WITHIN GROUP (ORDER BY ..)
	Filter   Expr     // nil when absent
	Over     *Window  // nil when absent
}

// ConditionalKind tells the functions that do not evaluate all their arguments, and their kin.
type ConditionalKind uint8

// The kinds of Conditional.
const (
	Coalesce ConditionalKind = iota
	NullIf
	Greatest
	Least
)

// Conditional is COALESCE, NULLIF, GREATEST or LEAST.
type Conditional struct {
	Span
	Kind ConditionalKind
	Args []Expr
}

// Current is current_date, current_timestamp(p), current_user and their kin: functions without parentheses.
type Current struct {
	Span
	Name      string // lower case
	Precision int    // -1 when absent
}

// Row is ROW(..) or (a, b).
type Row struct {
	Span
	Explicit bool
	Items    []Expr
}

// Array is ARRAY[..]; inner brackets are Arrays too.
type Array struct {
	Span
	Items []Expr
}

// SubQueryKind says what is made of a sub-query's rows.
type SubQueryKind uint8

// The kinds of SubQuery.
const (
	Scalar  SubQueryKind = iota // (SELECT ..)
	Exists                      // EXISTS (SELECT ..)
	ToArray                     // ARRAY(SELECT ..)
)

// SubQuery is a query used as an expression.
type SubQuery struct {
	Span
	Kind  SubQueryKind
	Query *Select
}

// Step is one step of an Indirection: a field, all fields, a subscript or a slice.
type Step struct {
	Field *Name
	Star  bool
	Slice bool
	Lo    Expr // of a slice; may be nil
	Index Expr // the subscript, or the upper bound of a slice (then it may be nil)
}

// Indirection is x.field, x[1], x[1:2] and (x).*.
type Indirection struct {
	Span
	X     Expr
	Steps []Step
}

// Collate is x COLLATE name.
type Collate struct {
	Span
	X         Expr
	Collation QName
}

// Grouping is GROUPING(..).
type Grouping struct {
	Span
	Args []Expr
}

// TypeName is a type as written. The words that PostgreSQL's grammar knows (integer, varchar, …) are translated to its
// catalog names with System set: int4, varchar, float8, timestamptz, bpchar, ….
type TypeName struct {
	Span
	System bool
	Names  QName
	Mods   []Expr // in parentheses; for interval as PostgreSQL encodes them
	Bounds []int  // array dimensions, -1 when open
	SetOf  bool
}

// IsPlain reports whether the type has neither modifiers nor dimensions.
func (t *TypeName) IsPlain() bool { return len(t.Mods) == 0 && len(t.Bounds) == 0 && !t.SetOf }

func (*ColumnRef) expr()    {}
func (*Literal) expr()      {}
func (*Param) expr()        {}
func (*DefaultValue) expr() {}
func (*Cast) expr()         {}
func (*Op) expr()           {}
func (*Quantified) expr()   {}
func (*Distinct) expr()     {}
func (*In) expr()           {}
func (*Like) expr()         {}
func (*Between) expr()      {}
func (*Logic) expr()        {}
func (*NullTest) expr()     {}
func (*BoolTest) expr()     {}
func (*Case) expr()         {}
func (*Call) expr()         {}
func (*Conditional) expr()  {}
func (*Current) expr()      {}
func (*Row) expr()          {}
func (*Array) expr()        {}
func (*SubQuery) expr()     {}
func (*Indirection) expr()  {}
func (*Collate) expr()      {}
func (*Grouping) expr()     {}
