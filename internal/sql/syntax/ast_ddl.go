package syntax

// Statement is one statement: one of the pointer types below, or *Select.
type Statement interface {
	At() Span
	statement()
}

// Option is one element of WITH (..).
type Option struct {
	Span
	Namespace *Name // ns.key
	Key       Name
	Value     *OptionValue // nil for a bare name
}

// OptionKind says how an option's value was written.
type OptionKind uint8

// The kinds of option values.
const (
	OptString OptionKind = iota // 'text'
	OptNumber                   // Text with its sign
	OptWord                     // a reserved word such as true or on, or none
	OptType                     // any other name: Type
	OptOperator
)

// OptionValue is the value of an Option.
type OptionValue struct {
	Span
	Kind  OptionKind
	Float bool // of OptNumber
	Text  string
	Type  *TypeName
}

// ConstraintKind is the kind of a Constraint.
type ConstraintKind uint8

// The kinds of constraints.
const (
	NotNull ConstraintKind = iota
	Nullable
	Default
	Check
	PrimaryKey
	Unique
	ForeignKey
	Generated // AS (expr) STORED
	Identity  // GENERATED .. AS IDENTITY
)

// Constraint is a constraint of a column or of a table.
type Constraint struct {
	Span
	Kind             ConstraintKind
	Name             *Name  // CONSTRAINT name
	X                Expr   // of Check, Default, Generated
	Columns          []Name // of a table constraint
	NoInherit        bool
	NullsNotDistinct bool
	ByDefault        bool // of Identity
	RefTable         QName
	RefColumns       []Name
	OnUpdate         byte // PostgreSQL's letter: a no action, r restrict, c cascade, n set null, d set default
	OnDelete         byte
	Match            byte   // f full, p partial, s simple
	SetColumns       []Name // of ON DELETE SET NULL (..)
}

// ColumnDef is one column of CREATE TABLE.
type ColumnDef struct {
	Span
	Name        Name
	Type        *TypeName
	Collation   QName
	Constraints []Constraint
}

// TableElement is a column or a table constraint; exactly one is set.
type TableElement struct {
	Column     *ColumnDef
	Constraint *Constraint
}

// CreateTable is CREATE TABLE.
type CreateTable struct {
	Span
	Partial     bool // an element could not be read and is missing
	Name        QName
	IfNotExists bool
	Elements    []TableElement
	Options     []Option
}

// CreateView is CREATE MATERIALIZED VIEW.
type CreateView struct {
	Span
	Partial     bool // a part of the query could not be read and is missing
	Name        QName
	IfNotExists bool
	Columns     []Name
	Options     []Option
	Query       *Select
	NoData      bool
}

// RoleRef names a role.
type RoleRef struct {
	Span
	Name    string
	Public  bool // PUBLIC
	Current bool // CURRENT_USER, CURRENT_ROLE or SESSION_USER: Name in lower case
}

// PrivilegeRef is one privilege of a GRANT, lower case.
type PrivilegeRef struct {
	Span
	Name    string
	Columns []Name
}

// Grant is GRANT and REVOKE on tables and views.
type Grant struct {
	Span
	Revoke      bool
	All         bool           // ALL [PRIVILEGES]
	AllColumns  []Name         // ALL (columns)
	Privileges  []PrivilegeRef // unless All
	Tables      []QName
	Roles       []RoleRef
	GrantOption bool
	GrantedBy   *RoleRef
	Cascade     bool // of REVOKE
}

// CreateRole is CREATE ROLE. Options are flags such as login and nologin.
type CreateRole struct {
	Span
	Name    RoleRef
	Options []Name
}

// AlterTable is ALTER TABLE .. ROW LEVEL SECURITY.
type AlterTable struct {
	Span
	Name     QName
	IfExists bool
	Only     bool
	Actions  []Name // enable, disable, force, no force
}

// CreatePolicy is CREATE POLICY.
type CreatePolicy struct {
	Span
	Name        Name
	Table       QName
	Restrictive bool
	Command     string // all, select, insert, update, delete
	Roles       []RoleRef
	Using       Expr
	Check       Expr
}

// Comment is COMMENT ON. Object is table, column, view or materialized view.
type Comment struct {
	Span
	Object string
	Name   QName
	Text   *string // nil for NULL
}

func (*Select) statement()       {}
func (*CreateTable) statement()  {}
func (*CreateView) statement()   {}
func (*Grant) statement()        {}
func (*CreateRole) statement()   {}
func (*AlterTable) statement()   {}
func (*CreatePolicy) statement() {}
func (*Comment) statement()      {}
