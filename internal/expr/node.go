package expr

import (
	"laaster/app"
	"laaster/internal/change"
)

// Relation is what rows of a table or of a view look like. Read-only after sql built it; safe for concurrent use.
type Relation struct {
	ID      int // index into flow.Program.Relations
	Name    string
	Columns []app.Column
	Layout  *change.Layout
	Key     []int // indexes into Columns; never nil: a relation without a unique key has a last column _n and all columns as key
	Copies  bool  // the last column is the copy number _n (bigint, from 1), because no unique key could be inferred
	// Numbered: _n is the running number of the row in the relation, in the order of arrival, and Key is _n alone. Only for rows that
	// come one by one from an append-only table and never go. Copies is true too: the last column is _n either way.
	Numbered bool
	Order    []app.OrderBy
	Table    *TableRules // nil for views
	Secured  bool        // a caller sees and writes the rows that Rules let through; without a rule none
	Rules    []RowRule
	Trace    *Trace // nil: the relation's rows cannot be told from the log alone
}

// Trace is a fact of relations whose rows can be found again by what the log says: each row is made of one row of one append-only table, in
// the batch that inserts that row, and neither changes nor leaves; the table keeps its rows, so that nothing is taken twice. The log need only be
// read for keys: a row is there when the relation has its key, and then it is what it was from the beginning.
type Trace struct {
	Table uint32 // catalog id of the table
	Key   []int  // the table's columns that make the relation's key, in its order: all of the table's primary key
}

// TableRules is what a table asks of the rows that enter it.
type TableRules struct {
	Table    *app.Table
	Catalog  uint32  // the table's id in the log (Entry.Table); stable over all definitions of the log
	Version  uint32  // the table's schema version (Entry.Version): 1, and one more for each definition that added columns
	Defaults []*Node // one per column of Table; nil: the default is NULL
	Checks   []RowCheck
	// Layout is that of the rows that enter and that the log holds under Version: the table's columns without _n. It
	// differs from Relation.Layout only when the relation has copies.
	Layout *change.Layout
	// Versions are the schema versions that rows in the log may have, ascending; the last is the current one. Columns are
	// only ever appended, so a row of an older version holds the first Columns columns and the others take Fill.
	Versions []TableVersion
	Fill     []change.Value // one per column of Table: its value in rows that were logged before the column was added
	// EventTime is the column with the time of a row's event, of type timestamptz or timestamp; -1: the table has none, as have all
	// tables that are not append-only. Spans of time are in microseconds.
	EventTime int
	Lateness  int64 // how far behind the largest event time a row may be and still be on time
	Idle      int64 // without rows for so long the table holds back nobody; 0: the larger of Lateness and 10 s
	TTL       int64 // a row leaves so long after its last write; 0: never
	Dedupe    int64 // how long primary keys are remembered when the rows are not kept; 0: as long as the engine's options say
}

// TableVersion is one schema version of a table.
type TableVersion struct {
	Version uint32
	Columns int            // number of columns it had
	Layout  *change.Layout // of its rows in the log
}

// RowCheck is a bound CHECK constraint.
type RowCheck struct {
	Name string
	Cond *Node
}

// Kind says what a Node is.
type Kind uint8

// The kinds of nodes. Their numbers are in logs: new ones come last.
const (
	KColumn   Kind = iota + 1 // Col of the input row
	KConst                    // Value
	KCall                     // Func over Args (operators are functions too)
	KCast                     // Args[0] as Type
	KAnd                      // Args, three-valued
	KOr                       // Args, three-valued
	KNot                      // Args[0]
	KIsNull                   // Args[0] IS NULL
	KDistinct                 // Args[0] IS DISTINCT FROM Args[1]
	KCase                     // when, then, when, then, …, else (always present; a simple CASE is rewritten to equality)
	KCoalesce                 // first Arg that is not NULL
	KNow                      // now(): the batch's stamp; the statement time at ingest
	KSubject                  // auth_subject()
	KRole                     // auth_role()
	KIn                       // Args[0] IN (Args[1], …), three-valued; all of one type
	KMember                   // Args[0] IN Set; only in conditions of policies, and never computed: see [Node.WithSets]
	KSure                     // Args[0], and Args[1] where that fails
)

// Node is a bound expression: names are resolved, types are known, casts are explicit. Build nodes with the functions
// of this package, which check and coerce as PostgreSQL does; never change one that is in use.
type Node struct {
	Kind  Kind
	Type  app.Type
	Col   int
	Value change.Value
	Func  *Function
	Args  []*Node
	Set   *Membership // of KMember
	Pos   int         // byte offset in the source text, for errors; -1 when there is none
}
