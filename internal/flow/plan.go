package flow

import (
	"laaster/app"
	"laaster/internal/expr"
)

// Program is an app ready to run: what sql made of app.sql. Read-only; safe for concurrent use.
type Program struct {
	Definition *app.Definition
	Relations  []*expr.Relation // tables in the order of the file, then views in dependency order
	Views      []*ViewPlan      // in dependency order: a view comes after what it reads
	Catalog    []byte           // the definition document as an EntryDefinition carries it (JSON, see sql.Catalog)
}

// ViewPlan computes one view.
type ViewPlan struct {
	Relation int    // index of the view in Program.Relations
	Root     Plan   // its output columns are the relation's columns (without _n)
	Hash     string // of everything that decides the view's rows, inputs' hashes included; a change means a rebuild
}

// Plan is a relational operator. A plan is a tree; its inputs are plans or relations.
type Plan interface {
	// Columns returns the types of the output columns.
	Columns() []app.Type
}

// Scan reads a table or another view, changes and all. Its columns are the relation's, without _n.
type Scan struct {
	Relation int // index into Program.Relations
	Types    []app.Type
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

// Aggregate groups by Keys and computes Aggs. Without keys there is exactly one group, even over no rows; with Keys and no
// Aggs it is DISTINCT. Its columns are the keys, then the aggregates.
type Aggregate struct {
	In         Plan
	Keys       []*expr.Node // over In's columns
	Aggs       []Agg
	AppendOnly bool // In never retracts: min and max need one value each instead of a multiset
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
)

// Agg is one aggregate of an Aggregate.
type Agg struct {
	Func     AggFunc
	Arg      *expr.Node // nil for CountRows
	Filter   *expr.Node // nil when there is no FILTER clause
	Distinct bool
	Type     app.Type // of the result
}

// TopN keeps the rows from Offset to Offset+Limit in the order of Sort, ties broken by the remaining columns in order, so
// that the result is one and the same everywhere.
type TopN struct {
	In     Plan
	Sort   []app.OrderBy // over In's columns
	Limit  int64         // at least 0; -1: no limit (only an offset)
	Offset int64
}

// Columns implements [Plan].
func (s *Scan) Columns() []app.Type { return s.Types }

// Columns implements [Plan].
func (f *Filter) Columns() []app.Type { return f.In.Columns() }

// Columns implements [Plan].
func (p *Project) Columns() []app.Type {
	types := make([]app.Type, len(p.Exprs))
	for i, e := range p.Exprs {
		types[i] = e.Type
	}
	return types
}

// Columns implements [Plan].
func (a *Aggregate) Columns() []app.Type {
	types := make([]app.Type, 0, len(a.Keys)+len(a.Aggs))
	for _, k := range a.Keys {
		types = append(types, k.Type)
	}
	for _, g := range a.Aggs {
		types = append(types, g.Type)
	}
	return types
}

// Columns implements [Plan].
func (t *TopN) Columns() []app.Type { return t.In.Columns() }
