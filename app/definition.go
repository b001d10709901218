package app

import (
	"slices"
	"time"
)

// Definition is everything that one app.sql declares, in the order of the file. Names are unique over tables and views
// together and are stored folded as PostgreSQL folds them.
type Definition struct {
	Source   string // the text of app.sql, as it was read
	Tables   []*Table
	Channels []*Table // tables WITH (channel) or WITH (presence): Ephemeral is set; they are not among Tables
	Views    []*View
	Roles    []string // CREATE ROLE: those that a token may claim; grants to others are allowed and lead nowhere
	Grants   []Grant
	Policies []Policy
	Members  map[string]bool // tables whose rows a policy asks for: they are kept for it, whoever may read them
	Secured  map[string]bool // relations with ROW LEVEL SECURITY enabled: a role sees and writes the rows that policies let through
}

// Readable reports whether somebody needs the rows of a table: who may read it, or a policy.
func (d *Definition) Readable(table string) bool {
	return d.Members[table] || slices.ContainsFunc(d.Grants, func(g Grant) bool { return g.Relation == table && g.Allow&Select != 0 })
}

// Table is one CREATE TABLE: where events enter.
type Table struct {
	Name       string
	Columns    []Column
	PrimaryKey []int // indexes into Columns, in the order of the PRIMARY KEY clause; empty when there is none
	AppendOnly bool  // WITH (append_only), or no primary key: rows are facts, never updated nor deleted
	// Kept says that the rows are part of the engine's state. It is so for every keyed table and for append-only tables
	// that somebody may SELECT or whose key a view relies on; the rows of others live in the log alone.
	Kept     bool
	Priority Priority // WITH (priority = …)
	Checks   []Check
	Options  map[string]string // the WITH options that were given (owner, version, event_time, lateness, …), values as text
	Schemas  []Schema          // WITH (schema = …): of jsonb columns, ascending by column

	Ephemeral *Ephemeral // nil: the rows are in the log
}

// Ephemeral is what WITH (channel, …) or WITH (presence, …) says of a table whose rows live in memory alone, for as long as somebody keeps them up.
type Ephemeral struct {
	Presence bool          // a row per connection, for as long as that lasts
	TTL      time.Duration // a channel's row ends so long after it was set, one of presence so long after its connection ended; 0: never by itself
	ListUpTo int           // of presence: with more rows than this, subscribers are told their number only; at least 1
	Own      int           // columns from here on are filled in by the server; len(Columns): none is
}

// The columns that the server fills in: connection in presence and in channels without a primary key, whose key it is; the others in presence.
const (
	ConnectionColumn = "connection" // text: the client's name, the same for all connections of one instance
	SubjectColumn    = "subject"    // text: auth_subject() of the connection
	SinceColumn      = "since"      // timestamptz: when the row was first set
)

// Priority says whose writes are refused first when more comes than log and engine take. The zero value is what a table has that says nothing.
type Priority uint8

// The priorities. Writes to a table of low priority are refused while half of what may be pending is, normal ones from nine tenths on, high ones
// when nothing more fits.
const (
	NormalPriority Priority = iota
	LowPriority
	HighPriority
)

// Keyed reports whether rows have an identity that later writes may change: updates, deletes and on_conflict.
func (t *Table) Keyed() bool { return !t.AppendOnly }

// Column is one column of a table or of a view's result.
type Column struct {
	Name    string
	Type    Type
	NotNull bool
	Default string // SQL text of the DEFAULT expression; empty when there is none
}

// Schema is the JSON Schema that the values of one jsonb column follow.
type Schema struct {
	Column int    // index into Columns
	File   string // as app.sql names it, relative to its folder
	Text   string // JSON without white space
}

// Check is one CHECK constraint. PostgreSQL's rule holds: NULL passes.
type Check struct {
	Name string // as given, or made as PostgreSQL makes it: table_column_check
	SQL  string // text of the condition
}

// View is one CREATE MATERIALIZED VIEW.
type View struct {
	Name    string
	Columns []Column
	Key     []int     // indexes into Columns of the inferred unique key; nil: all columns and a copy number _n
	Single  bool      // at most one row (an aggregate without GROUP BY): Key is empty and that is a real key
	Order   []OrderBy // the ORDER BY of the query, for reads that ask for no other order
	SQL     string    // text of the query
	Options map[string]string
}

// OrderBy is one term of an ORDER BY over result columns.
type OrderBy struct {
	Column     int // index into Columns
	Desc       bool
	NullsFirst bool // already resolved: PostgreSQL's default is NULLS LAST ascending, NULLS FIRST descending
}

// Privilege is what a GRANT allows.
type Privilege uint8

// The privileges. A set of them is their bitwise or.
const (
	Select Privilege = 1 << iota
	Insert
	Update
	Delete
)

// Grant gives Role the privileges in Allow on one relation. Deny is the default: what no grant allows is refused.
type Grant struct {
	Role     string // "anon" is the role of callers without a token; "public" is every role
	Relation string // name of a table or of a view
	Allow    Privilege
	Columns  []int // of the relation, ascending: what Allow is limited to; nil: all columns. Never of DELETE
}

// Policy is one CREATE POLICY, as in PostgreSQL: of the permissive ones that apply to a caller one must hold, of the restrictive ones all.
type Policy struct {
	Name        string
	Relation    string
	For         Privilege // FOR ALL: all four
	Roles       []string  // TO; "public" is every role
	Restrictive bool
	Using       string // SQL text of the condition for rows that are there; empty when there is none
	Check       string // SQL text of the condition for rows that are written; empty: Using holds for them, too
}
