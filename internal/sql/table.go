package sql

import (
	"fmt"
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// tableParts is what a CREATE TABLE is made of before it is whole.
type tableParts struct {
	c      *compiler
	stmt   *syntax.CreateTable
	table  *app.Table
	rules  *expr.TableRules
	spans  []syntax.Span // of each column's declaration
	null   []bool        // declared NULL
	bad    bool          // a column's name or type is wrong: what reads the table cannot be checked
	key    *syntax.Constraint
	checks []syntax.Constraint // CHECK constraints wait for all columns
}

// createTable declares a table.
func (c *compiler) createTable(s *syntax.CreateTable) {
	r := c.declare(s.Name, s.Span, "table")
	p := &tableParts{c: c, stmt: s, table: &app.Table{Name: r.name}, rules: &expr.TableRules{}}
	r.table, p.rules.Table = p.table, p.table
	p.ephemeral(r)
	p.columns()
	p.ownColumns()
	if s.Partial {
		return // constraints may speak of columns that could not be read
	}
	p.constraints()
	p.options()
	if len(p.table.Columns) == 0 && !p.bad {
		c.wrong(s.Name.At(), "for example: (id uuid PRIMARY KEY)", "table %s has no columns", quoted(r.name))
	}
	if p.bad || len(p.table.Columns) == 0 {
		return
	}
	r.rel = &expr.Relation{Name: r.name, Columns: p.table.Columns, Table: p.rules}
	finishRelation(r.rel, p.table.PrimaryKey, len(p.table.PrimaryKey) > 0)
	r.hash = "table " + r.name
	r.broken = false
	if p.table.Ephemeral != nil {
		c.channel(r)
		return
	}
	c.version(r)
	c.def.Tables = append(c.def.Tables, p.table)
}

// columns binds the column list: names, types, and where their constraints go.
func (p *tableParts) columns() {
	c := p.c
	for _, e := range p.stmt.Elements {
		if e.Column == nil {
			continue
		}
		if !c.try(func() { p.column(e.Column) }) {
			p.bad = true
			continue
		}
		i := len(p.table.Columns) - 1
		for _, k := range e.Column.Constraints {
			c.try(func() { p.columnConstraint(i, k) })
		}
		if p.null[i] && p.table.Columns[i].NotNull {
			c.wrong(e.Column.Span, "", "column %s is declared both NULL and NOT NULL", quoted(p.table.Columns[i].Name))
		}
	}
	if n := len(p.table.Columns); n > MaxColumns {
		c.wrong(p.spans[MaxColumns], "split the table, or put the rest into a jsonb column", "a table has at most %d columns; %s has %d", MaxColumns, quoted(p.table.Name), n)
	}
}

func (p *tableParts) column(d *syntax.ColumnDef) {
	c := p.c
	col := app.Column{Name: d.Name.Text}
	c.columnName(d.Name)
	if slices.Contains(columnNames(p.table.Columns), col.Name) {
		c.fail(d.Name.Span, "", "column %s is declared twice", quoted(col.Name))
	}
	// The column is known from here on, even when its type is wrong, so that constraints may refer to it.
	p.table.Columns = append(p.table.Columns, col)
	p.rules.Defaults = append(p.rules.Defaults, nil)
	p.spans = append(p.spans, d.Span)
	p.null = append(p.null, false)
	i := len(p.table.Columns) - 1
	p.table.Columns[i].Type = app.Text
	p.table.Columns[i].Type = c.typeOf(d.Type, true)
	if d.Collation != nil {
		c.collation(d.Collation)
	}
}

// columnName refuses what cannot be a column.
func (c *compiler) columnName(n syntax.Name) {
	if strings.HasPrefix(n.Text, "_") {
		c.fail(n.Span, "parameters of requests begin with an underscore; choose another name", "the column name %s is reserved", quoted(n.Text))
	}
}

// collation accepts the one collation there is.
func (c *compiler) collation(q syntax.QName) {
	switch name := q.Last().Text; name {
	case "C", "POSIX", "default", "ucs_basic":
	default:
		c.fail(q.At(), "leave it out: text compares by its bytes", "collation %s is not supported", quoted(name))
	}
}

func (p *tableParts) columnConstraint(i int, k syntax.Constraint) {
	col := &p.table.Columns[i]
	switch k.Kind {
	case syntax.NotNull:
		col.NotNull = true
	case syntax.Nullable:
		p.null[i] = true
	case syntax.Default:
		p.setDefault(i, k)
	case syntax.Check:
		p.checks = append(p.checks, k)
	case syntax.PrimaryKey:
		p.setKey(k, []int{i})
	default:
		p.refuseConstraint(k)
	}
}

// refuseConstraint answers constraints that a table of a log cannot have, or not yet.
func (p *tableParts) refuseConstraint(k syntax.Constraint) {
	switch k.Kind {
	case syntax.Unique:
		p.c.fail(k.Span, "PRIMARY KEY is the one key of a table; find duplicates of other columns with a view: GROUP BY .. HAVING count(*) > 1",
			"UNIQUE is not supported yet")
	case syntax.ForeignKey:
		p.c.fail(k.Span, "leave it out; rows of tables arrive in any order", "foreign keys are not supported")
	case syntax.Generated:
		p.c.fail(k.Span, "compute it in a view", "generated columns are not supported")
	case syntax.Identity:
		p.c.fail(k.Span, "the sender makes the id, so that a repeat is recognised: use uuid PRIMARY KEY DEFAULT gen_random_uuid()", "identity columns are not supported")
	}
}

func (p *tableParts) setKey(k syntax.Constraint, cols []int) {
	if p.key != nil {
		p.c.fail(k.Span, "for a key of several columns: PRIMARY KEY (a, b)", "table %s has two primary keys", quoted(p.table.Name))
	}
	p.key = &k
	p.table.PrimaryKey = cols
	for _, i := range cols {
		col := &p.table.Columns[i]
		if p.null[i] {
			p.c.fail(k.Span, "", "column %s of the primary key is declared NULL", quoted(col.Name))
		}
		if col.Type == app.JSONB {
			p.c.fail(k.Span, "use text, uuid or bigint", "a primary key cannot have a column of type jsonb")
		}
		col.NotNull = true
	}
}

// setDefault binds a DEFAULT: an expression without columns.
func (p *tableParts) setDefault(i int, k syntax.Constraint) {
	c, col := p.c, &p.table.Columns[i]
	if col.Default != "" {
		c.fail(k.Span, "", "column %s has two defaults", quoted(col.Name))
	}
	b := &binder{c: c, clause: "DEFAULT"}
	n := b.expr(k.X)
	n, err := expr.Assign(n, col.Type, k.X.At().Pos)
	n = c.must(n, err, k.X.At())
	if n.Kind == expr.KConst && n.Value.Null {
		return // DEFAULT NULL is no default
	}
	col.Default = c.text(k.X.At())
	p.rules.Defaults[i] = n
}

// constraints binds the table constraints and the checks, once all columns are known.
func (p *tableParts) constraints() {
	c := p.c
	for _, e := range p.stmt.Elements {
		if e.Constraint == nil {
			continue
		}
		c.try(func() {
			switch k := *e.Constraint; k.Kind {
			case syntax.Check:
				p.checks = append(p.checks, k)
			case syntax.PrimaryKey:
				p.setKey(k, p.keyColumns(k))
			default:
				p.refuseConstraint(k)
			}
		})
	}
	for _, k := range p.checks {
		c.try(func() { p.check(k) })
	}
}

func (p *tableParts) keyColumns(k syntax.Constraint) []int {
	var cols []int
	for _, n := range k.Columns {
		i := slices.Index(columnNames(p.table.Columns), n.Text)
		if i < 0 {
			p.c.fail(n.Span, didYouMean(n.Text, columnNames(p.table.Columns)), "column %s does not exist", quoted(n.Text))
		}
		if slices.Contains(cols, i) {
			p.c.fail(n.Span, "", "column %s appears twice in the primary key", quoted(n.Text))
		}
		cols = append(cols, i)
	}
	return cols
}

// check binds a CHECK constraint and gives it PostgreSQL's name if it has none.
func (p *tableParts) check(k syntax.Constraint) {
	c := p.c
	b := &binder{c: c, clause: "CHECK", scope: tableScope(p.table)}
	cond := b.condition(k.X, "CHECK")
	if cond.Volatility() == expr.Volatile {
		c.fail(k.X.At(), "a row must pass or fail for ever, not by chance", "a CHECK cannot call a volatile function")
	}
	if asksClaim(cond) {
		c.fail(k.X.At(), "say it in a policy: CREATE POLICY .. FOR INSERT WITH CHECK (..)", "a CHECK cannot ask for auth_claim()")
	}
	name := p.checkName(k, cond)
	p.table.Checks = append(p.table.Checks, app.Check{Name: name, SQL: c.text(k.X.At())})
	p.rules.Checks = append(p.rules.Checks, expr.RowCheck{Name: name, Cond: cond})
}

// asksClaim reports whether an expression reads claims, which the log does not have.
func asksClaim(n *expr.Node) bool {
	return n.Kind == expr.KCall && n.Func.Name == "auth_claim" || slices.ContainsFunc(n.Args, asksClaim)
}

func (p *tableParts) checkName(k syntax.Constraint, cond *expr.Node) string {
	taken := func(name string) bool {
		return slices.ContainsFunc(p.table.Checks, func(c app.Check) bool { return c.Name == name })
	}
	if k.Name != nil {
		if taken(k.Name.Text) {
			p.c.fail(k.Name.Span, "", "constraint %s exists twice", quoted(k.Name.Text))
		}
		return k.Name.Text
	}
	var cols []int
	cond.Columns(func(i int) {
		if !slices.Contains(cols, i) {
			cols = append(cols, i)
		}
	})
	base := p.table.Name
	if len(cols) == 1 {
		base += "_" + p.table.Columns[cols[0]].Name
	}
	base += "_check"
	name := base
	for i := 1; taken(name) || p.givenName(name); i++ {
		name = fmt.Sprint(base, i)
	}
	return name
}

// givenName reports whether a constraint of the table was given this name.
func (p *tableParts) givenName(name string) bool {
	return slices.ContainsFunc(p.checks, func(k syntax.Constraint) bool { return k.Name != nil && k.Name.Text == name })
}

// options applies WITH (..), which decides whether rows may change.
func (p *tableParts) options() {
	c, t := p.c, p.table
	t.Options = c.tableOptionsOf(p.stmt.Options, t)
	value, given := t.Options["append_only"]
	t.AppendOnly = value == "true" || len(t.PrimaryKey) == 0
	if t.Ephemeral != nil {
		p.ephemeralOptions()
		return
	}
	if given && value == "false" && len(t.PrimaryKey) == 0 {
		c.wrong(p.stmt.Name.At(), "declare a PRIMARY KEY: rows that change need an identity", "table %s has no primary key and so is append-only", quoted(t.Name))
	}
	for _, k := range []string{"append_only", "channel", "presence"} {
		delete(t.Options, k)
	}
	t.Kept = t.Keyed()
	p.schemas()
	p.time()
}
