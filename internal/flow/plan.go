package flow

import (
	"laaster/app"
	"laaster/internal/expr"
)

// Program is an app ready to run: what sql made of app.sql. Read-only; safe for concurrent use.
type Program struct {
	Definition *app.Definition
	Relations  []*expr.Relation // tables in the order of the file, views in dependency order, then the system relations
	Views      []*ViewPlan      // in dependency order: a view comes after what it reads
	Channels   []*expr.Relation // tables whose rows are in memory alone, in the order of the file: no part of the engine, whatever their ID
	Catalog    []byte           // the definition document as an EntryDefinition carries it (JSON, see sql.Catalog)
	Errors     int              // index of laaster.errors in Relations; 0: the program has none
	Late       int              // index of laaster.late in Relations; 0: the program has none
	Audit      int              // index of laaster.audit in Relations; 0: the program has none
	// Only says, by relation, which tables the engine has: writes into others pass it by. Nil: all of them. See [Restrict].
	Only []bool
	// Asked says, by relation, what Restrict was asked for; the others are there because these read them. Nil: there is no difference.
	Asked []bool
}

// ViewPlan computes one view.
type ViewPlan struct {
	Relation int    // index of the view in Program.Relations
	Root     Plan   // its output columns are the relation's columns (without _n)
	Hash     string // of everything that decides the view's rows, inputs' hashes included; a change means a rebuild
}

// Plan is a relational operator. A plan is a tree; its inputs are plans or relations. Plans whose texts are equal (see
// [PlanText]) are one node of the engine's graph, whichever views they are of.
type Plan interface {
	// Columns returns the types of the output columns.
	Columns() []app.Type
	// Inputs returns the plans that it reads, none for a leaf.
	Inputs() []Plan
}

// Scan reads a table or another view, changes and all. Its columns are the relation's, without _n.
type Scan struct {
	Relation int // index into Program.Relations
	Types    []app.Type
	// OnTime diverts rows that are behind the table's watermark when they arrive to laaster.late, for a reader that frees state
	// by that watermark.
	OnTime bool
}

// Values is a relation that never changes. Its expressions read no column.
type Values struct {
	Rows  [][]*expr.Node
	Types []app.Type
}

// Filter keeps the rows for which Cond is true.
type Filter struct {
	In   Plan
	Cond *expr.Node // boolean, over In's columns
}

// Project computes Exprs for each row.
type Project struct {
	In    Plan
	Exprs []*expr.Node // over In's columns
}

// Expand emits each row once for every element of Arrays, side by side as ROWS FROM does: its columns are In's, then one per
// array, then the ordinal (bigint, from 1) when Ordinality is set. Set-returning functions are functions that return arrays here.
type Expand struct {
	In         Plan
	Arrays     []*expr.Node // over In's columns
	Ordinality bool
	Outer      bool // a row without elements comes out once, with NULLs
}

// Window assigns rows to windows of fixed width: tumble when Slide equals Width, hop else. Its columns are Keep's, then
// window_start and window_end of Time's type. A row whose Time is NULL is in no window.
type Window struct {
	In     Plan
	Where  *expr.Node // over In's columns; nil: all rows
	Keep   []int      // columns of In that come out
	Time   int        // column of In: timestamptz or timestamp
	Width  int64      // microseconds, above 0
	Slide  int64      // microseconds, above 0; a row is in every window that holds it
	Offset int64      // microseconds: windows start at Offset + k * Slide
	// Closes: In is a Scan of an append-only table whose event time is Time. A row is not put into windows that the watermark had
	// passed when it arrived (window_end <= watermark); when that leaves it none, it goes to laaster.late.
	Closes bool
}

// Session assigns rows to sessions: rows of one partition whose times are closer together than Gap. Its columns are Keep's, then
// window_start (the first row's time) and window_end (the last row's time + Gap). Neighbours exactly Gap apart are two sessions.
type Session struct {
	In        Plan
	Where     *expr.Node // over In's columns; nil: all rows
	Keep      []int
	Time      int
	Gap       int64 // microseconds, above 0
	Partition []int // columns of In
	// Closes is as in Window: a session is closed when the watermark has reached its end. A late row is taken when it falls into an open
	// session, or when it touches no closed one and Time + Gap is above the watermark; else it goes to laaster.late.
	Closes bool
}

// Gate lets a row through while From <= clock < Until. The clock is the engine's now(), or, with Tables, the watermark of these tables
// together, which only grows.
type Gate struct {
	In          Plan
	From, Until *expr.Node // over In's columns, of type timestamptz (with Tables also timestamp); nil: no bound; NULL: never
	Tables      []int      // nil: now()
}

// Bound says of a plan's output that the watermark of Tables closes it: a change of a row whose column Col is below it (with Ends:
// below or equal, Col being the end of a window) never comes again.
type Bound struct {
	Col    int
	Tables []int // relations
	Ends   bool
}

// JoinKind is the kind of a join.
type JoinKind uint8

// The kinds of joins.
const (
	InnerJoin JoinKind = iota
	LeftJoin
	RightJoin
	FullJoin
	SemiJoin // rows of L with a match, once
	AntiJoin // rows of L without one
	// Rows of L, which never takes one back, with the rows of R that were there before the row's stamp: as_of(R). Later changes of R revise
	// nothing. The left form has rows without a match, too.
	LookupJoin
	LookupLeftJoin
)

// Join pairs rows of L and R whose keys are equal and for which Cond is true. Its columns are L's, then R's; those of L alone for semi
// and anti joins.
type Join struct {
	Kind         JoinKind
	L, R         Plan
	LKeys, RKeys []*expr.Node // pairwise of one type, over their own side's columns; none: every pair
	NullSafe     []bool       // by key: NULL matches NULL; nil: none does
	Cond         *expr.Node   // over L's columns, then R's; nil: none
	FreeL, FreeR *Free        // when a row of that side can be forgotten
}

// Free says when a row in a join's state can have no further match: when the watermark of Tables is above Until, or equal with OrAt.
type Free struct {
	Until  *expr.Node // over the columns of the row's own side: timestamptz or timestamp
	Tables []int      // relations whose watermark counts
	OrAt   bool
}

// Union has all rows of its inputs, which have equal columns.
type Union struct{ Ins []Plan }

// SetOpKind is INTERSECT or EXCEPT.
type SetOpKind uint8

// The set operations.
const (
	Intersect SetOpKind = iota
	Except
)

// SetOp compares two inputs with equal columns by their rows' values, NULL being equal to NULL. Without All a row comes out once.
type SetOp struct {
	Op   SetOpKind
	All  bool
	L, R Plan
}

// Aggregate groups by Keys and computes Aggs. Without keys there is exactly one group, even over no rows; with Keys and no
// Aggs it is DISTINCT. Its columns are the keys, then the aggregates.
type Aggregate struct {
	In     Plan
	Keys   []*expr.Node // over In's columns
	Aggs   []Agg
	Closes *Bound // Col is an index of Keys: a group whose window is closed is freed and stays as it is; nil: none is
}

// AggFunc names an aggregate function.
type AggFunc uint8

// The aggregate functions, typed as PostgreSQL types them: sum(integer) is bigint, sum(bigint) and avg of either are
// numeric, of double precision they are double precision.
const (
	CountRows AggFunc = iota + 1 // count(*)
	Count                        // count(x)
	Sum
	Avg
	Min
	Max
	BoolAnd
	BoolOr
	ArrayAgg       // NULLs included
	StringAgg      // Arg2: the separator
	JSONBAgg       // NULLs included
	JSONBObjectAgg // Arg: the key, Arg2: the value
	PercentileCont // WITHIN GROUP: Sort is the value, Arg the fraction (a constant)
	PercentileDisc // as PercentileCont
	Mode           // WITHIN GROUP: Sort is the value
	ApproxDistinct // approx_count_distinct(x): bigint
	StddevSamp
	StddevPop
	VarSamp
	VarPop
	BitAnd
	BitOr
	BitXor
	AnyValue // the least value, so that it is one and the same everywhere
	Only     // the value of the only row; an error when there are several: a scalar sub-query
	First    // the first value in the order of Sort
)

// Agg is one aggregate of an Aggregate or of an Over. Without Sort, aggregates that depend on order go by the values, ascending, NULLs
// last.
type Agg struct {
	Func     AggFunc
	Arg      *expr.Node // nil for CountRows and Mode
	Arg2     *expr.Node
	Sort     []SortKey
	Filter   *expr.Node // nil when there is no FILTER clause
	Distinct bool
	Type     app.Type // of the result
}

// SortKey is one term of an order over computed values.
type SortKey struct {
	X                *expr.Node
	Desc, NullsFirst bool
}

// RankKind says what a TopN counts.
type RankKind uint8

// The ranks.
const (
	RowNumber RankKind = iota
	Rank               // rows that are equal in Sort share a rank: LIMIT .. WITH TIES
	DenseRank
)

// TopN keeps, for each value of the Partition columns, the rows from Offset to Offset+Limit in the order of Sort, ties broken by the
// remaining columns in order, so that the result is one and the same everywhere. With Number its last column is the rank (bigint).
type TopN struct {
	In        Plan
	Partition []int
	Sort      []app.OrderBy // over In's columns
	Limit     int64         // at least 0; -1: no limit (only an offset)
	Offset    int64
	Rank      RankKind
	Number    bool
	Closes    *Bound // Col is one of Partition: a partition whose window is closed is freed and stays as it is
}

// OverFunc names a window function. Aggregates are window functions too.
type OverFunc uint8

// The window functions.
const (
	OverAggregate OverFunc = iota + 1 // Agg, over the frame
	OverRowNumber
	OverRank
	OverDenseRank
	OverPercentRank
	OverCumeDist
	OverNtile // Args: n
	OverLag   // Args: value, offset, default
	OverLead  // as OverLag
	OverFirstValue
	OverLastValue
	OverNthValue // Args: value, n
)

// FrameMode is how the ends of a frame are counted.
type FrameMode uint8

// The frame modes.
const (
	FrameRange FrameMode = iota
	FrameRows
	FrameGroups
)

// FrameExclude is what a frame leaves out.
type FrameExclude uint8

// The exclusions.
const (
	ExcludeNone FrameExclude = iota
	ExcludeCurrent
	ExcludeGroup
	ExcludeTies
)

// FrameEnd is one end of a frame: so many rows, groups or units of the sort column before (negative) or behind the current row.
type FrameEnd struct {
	Unbounded bool
	Offset    int64      // ROWS and GROUPS
	By        *expr.Node // RANGE: a constant that is not negative, of a type that the sort column can be moved by; nil: the current row's peers
	Preceding bool       // By counts back; with Unbounded: the beginning
}

// Frame is the rows that a window function sees.
type Frame struct {
	Mode    FrameMode
	Lo, Hi  FrameEnd
	Exclude FrameExclude
}

// OverCall is one window function.
type OverCall struct {
	Func  OverFunc
	Agg   Agg          // of OverAggregate
	Args  []*expr.Node // of the others, over In's columns
	Frame Frame
	Type  app.Type // of the result
}

// Over computes window functions over one partitioning and order. Its columns are In's, then one per call. Rows that are equal in Sort are
// ordered by their remaining columns where a function depends on it.
type Over struct {
	In        Plan
	Partition []int
	Sort      []app.OrderBy
	Calls     []OverCall
	Closes    *Bound // Col is one of Partition
}

// Columns implements [Plan].
func (s *Scan) Columns() []app.Type { return s.Types }

// Columns implements [Plan].
func (v *Values) Columns() []app.Type { return v.Types }

// Columns implements [Plan].
func (f *Filter) Columns() []app.Type { return f.In.Columns() }

// Columns implements [Plan].
func (p *Project) Columns() []app.Type { return typesOf(nil, p.Exprs) }

// Columns implements [Plan].
func (e *Expand) Columns() []app.Type {
	types := append([]app.Type{}, e.In.Columns()...)
	for _, a := range e.Arrays {
		types = append(types, a.Type.Elem())
	}
	if e.Ordinality {
		types = append(types, app.Int8)
	}
	return types
}

// Columns implements [Plan].
func (w *Window) Columns() []app.Type { return windowColumns(w.In.Columns(), w.Keep, w.Time) }

// Columns implements [Plan].
func (s *Session) Columns() []app.Type { return windowColumns(s.In.Columns(), s.Keep, s.Time) }

func windowColumns(in []app.Type, keep []int, time int) []app.Type {
	types := make([]app.Type, 0, len(keep)+2)
	for _, k := range keep {
		types = append(types, in[k])
	}
	return append(types, in[time], in[time])
}

// Columns implements [Plan].
func (g *Gate) Columns() []app.Type { return g.In.Columns() }

// Columns implements [Plan].
func (j *Join) Columns() []app.Type {
	types := append([]app.Type{}, j.L.Columns()...)
	if j.Kind == SemiJoin || j.Kind == AntiJoin {
		return types
	}
	return append(types, j.R.Columns()...)
}

// Columns implements [Plan].
func (u *Union) Columns() []app.Type { return u.Ins[0].Columns() }

// Columns implements [Plan].
func (s *SetOp) Columns() []app.Type { return s.L.Columns() }

// Columns implements [Plan].
func (a *Aggregate) Columns() []app.Type {
	types := typesOf(nil, a.Keys)
	for _, g := range a.Aggs {
		types = append(types, g.Type)
	}
	return types
}

// Columns implements [Plan].
func (t *TopN) Columns() []app.Type {
	if !t.Number {
		return t.In.Columns()
	}
	return append(append([]app.Type{}, t.In.Columns()...), app.Int8)
}

// Columns implements [Plan].
func (o *Over) Columns() []app.Type {
	types := append([]app.Type{}, o.In.Columns()...)
	for _, c := range o.Calls {
		types = append(types, c.Type)
	}
	return types
}

func typesOf(types []app.Type, exprs []*expr.Node) []app.Type {
	for _, e := range exprs {
		types = append(types, e.Type)
	}
	return types
}

// Inputs implements [Plan].
func (s *Scan) Inputs() []Plan { return nil }

// Inputs implements [Plan].
func (v *Values) Inputs() []Plan { return nil }

// Inputs implements [Plan].
func (f *Filter) Inputs() []Plan { return []Plan{f.In} }

// Inputs implements [Plan].
func (p *Project) Inputs() []Plan { return []Plan{p.In} }

// Inputs implements [Plan].
func (e *Expand) Inputs() []Plan { return []Plan{e.In} }

// Inputs implements [Plan].
func (w *Window) Inputs() []Plan { return []Plan{w.In} }

// Inputs implements [Plan].
func (s *Session) Inputs() []Plan { return []Plan{s.In} }

// Inputs implements [Plan].
func (g *Gate) Inputs() []Plan { return []Plan{g.In} }

// Inputs implements [Plan].
func (j *Join) Inputs() []Plan { return []Plan{j.L, j.R} }

// Inputs implements [Plan].
func (u *Union) Inputs() []Plan { return u.Ins }

// Inputs implements [Plan].
func (s *SetOp) Inputs() []Plan { return []Plan{s.L, s.R} }

// Inputs implements [Plan].
func (a *Aggregate) Inputs() []Plan { return []Plan{a.In} }

// Inputs implements [Plan].
func (t *TopN) Inputs() []Plan { return []Plan{t.In} }

// Inputs implements [Plan].
func (o *Over) Inputs() []Plan { return []Plan{o.In} }
