package syntax

// SetOp combines two queries.
type SetOp uint8

// The set operations.
const (
	NoSetOp SetOp = iota
	Union
	Intersect
	Except
)

// Select is a query: a block of SELECT, VALUES, or a set operation over two queries.
type Select struct {
	Span
	With *With

	Op          SetOp // with Left and Right; All keeps duplicates
	All         bool
	Left, Right *Select

	Values [][]Expr

	Unique   bool   // SELECT DISTINCT
	UniqueOn []Expr // DISTINCT ON (..)
	Targets  []Target
	From     []TableRef
	Where    Expr

	GroupBy     []GroupItem
	GroupUnique bool // GROUP BY DISTINCT
	Having      Expr
	Windows     []*Window

	OrderBy  []SortBy
	Limit    Expr // nil when absent; a Null literal for LIMIT ALL
	Offset   Expr
	WithTies bool
}

// Target is one item of a select list.
type Target struct {
	Span
	X     Expr
	Alias *Name // nil when absent
}

// GroupKind says what a GroupItem is.
type GroupKind uint8

// The kinds of GroupItem.
const (
	GroupExpr  GroupKind = iota // X
	GroupEmpty                  // ()
	Rollup                      // Items as expressions
	Cube
	GroupingSets // Items
)

// GroupItem is one item of GROUP BY.
type GroupItem struct {
	Span
	Kind  GroupKind
	X     Expr
	Items []GroupItem
}

// SortDir is the direction of a SortBy.
type SortDir uint8

// The directions.
const (
	DefaultDir SortDir = iota
	Asc
	Desc
	Using
)

// SortNulls is where NULLs go.
type SortNulls uint8

// The places of NULLs.
const (
	DefaultNulls SortNulls = iota
	NullsFirst
	NullsLast
)

// SortBy is one term of ORDER BY.
type SortBy struct {
	Span
	X        Expr
	Dir      SortDir
	Operator QName // of USING
	Nulls    SortNulls
}

// With is the WITH clause of a query.
type With struct {
	Span
	Recursive bool
	CTEs      []*CTE
}

// CTE is one query of WITH.
type CTE struct {
	Span
	Name         Name
	Columns      []Name
	Materialized *bool // nil when not said
	Query        *Select
}

// FrameMode is what a window frame counts.
type FrameMode uint8

// The frame modes. NoFrame: no frame clause.
const (
	NoFrame FrameMode = iota
	Range
	Rows
	Groups
)

// BoundKind is one end of a window frame.
type BoundKind uint8

// The kinds of Bound.
const (
	UnboundedPreceding BoundKind = iota
	Preceding
	CurrentRow
	Following
	UnboundedFollowing
)

// Bound is one end of a window frame; X is set for Preceding and Following.
type Bound struct {
	Kind BoundKind
	X    Expr
}

// Exclude is the exclusion of a window frame.
type Exclude uint8

// The exclusions.
const (
	ExcludeNothing Exclude = iota
	ExcludeCurrentRow
	ExcludeGroup
	ExcludeTies
)

// Window is a window definition: of the WINDOW clause (Name), after OVER in parentheses, or OVER name (Ref).
type Window struct {
	Span
	Name      *Name // in the WINDOW clause; after OVER name without parentheses: that name
	Ref       *Name // the window that this one refines: OVER (name ...)
	Partition []Expr
	OrderBy   []SortBy
	Mode      FrameMode
	Between   bool
	Lo, Hi    Bound
	Exclude   Exclude
}

// TableRef is an item of FROM: one of the pointer types below.
type TableRef interface {
	At() Span
	tableRef()
}

// Alias renames an item of FROM.
type Alias struct {
	Span
	Name    Name
	Columns []Name
}

// RangeTable is a table or view in FROM.
type RangeTable struct {
	Span
	Name  QName
	Only  bool
	Alias *Alias
}

// RangeQuery is a sub-query in FROM.
type RangeQuery struct {
	Span
	Lateral bool
	Query   *Select
	Alias   *Alias
}

// RangeCall is a function in FROM, or several in ROWS FROM (..).
type RangeCall struct {
	Span
	Lateral    bool
	RowsFrom   bool
	Ordinality bool
	Calls      []RangeCallItem
	Alias      *Alias
	Columns    []ColumnDef // of AS (a int, b text)
}

// RangeCallItem is one function of a RangeCall.
type RangeCallItem struct {
	X       Expr
	Columns []ColumnDef // of AS (..) inside ROWS FROM
}

// JoinKind is the kind of a join.
type JoinKind uint8

// The kinds of joins. A CROSS JOIN is Inner without a condition.
const (
	Inner JoinKind = iota
	LeftJoin
	RightJoin
	FullJoin
)

// Join is a joined table.
type Join struct {
	Span
	Kind       JoinKind
	Natural    bool
	L, R       TableRef
	Using      []Name
	UsingAlias *Name
	On         Expr
	Alias      *Alias // of a join in parentheses
}

func (*RangeTable) tableRef() {}
func (*RangeQuery) tableRef() {}
func (*RangeCall) tableRef()  {}
func (*Join) tableRef()       {}
