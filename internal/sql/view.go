package sql

import (
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

type span = syntax.Span

// createView declares a view.
func (c *compiler) createView(s *syntax.CreateView) {
	r := c.declare(s.Name, s.Span, "view")
	if s.Partial {
		return
	}
	if s.NoData {
		c.wrong(s.Span, "leave it out: a view is always up to date", "WITH NO DATA is not supported")
	}
	c.viewOptionsOf(s.Options)
	b := c.bindQuery(s.Query)
	c.viewColumns(s, b)
	if b.unseen != nil {
		c.report(b.unseen.Span, Warning, "readers of the view will not get this order: it is not of a column in the select list", "add it to the select list")
	}
	for _, t := range b.relies {
		t.table.Kept = true
	}
	r.bound = b
	r.view = &app.View{Name: r.name, Columns: b.cols, Order: b.order, SQL: c.text(s.Query.Span)}
	r.view.Single = b.unique && len(b.key) == 0
	if b.unique {
		r.view.Key = b.key
	}
	r.rel = &expr.Relation{Name: r.name, Columns: b.cols, Order: b.order}
	finishRelation(r.rel, b.key, b.unique)
	r.plan = &flow.ViewPlan{Root: b.plan}
	r.plan.Hash = c.hash(r)
	r.hash = "view " + r.plan.Hash
	r.broken = false
	c.def.Views = append(c.def.Views, r.view)
}

// viewColumns names and checks the result columns.
func (c *compiler) viewColumns(s *syntax.CreateView, b *bound) {
	if len(s.Columns) > len(b.cols) {
		c.fail(s.Columns[len(b.cols)].Span, "", "the query has %s, and %s given", plural(len(b.cols), "column"), plural(len(s.Columns), "name"))
	}
	for i, n := range s.Columns {
		b.cols[i].Name, b.spans[i] = n.Text, n.Span
	}
	if len(b.cols) > MaxColumns {
		c.fail(s.Name.At(), "", "a view has at most %d columns; %s has %d", MaxColumns, quoted(s.Name.Last().Text), len(b.cols))
	}
	seen := map[string]bool{}
	for i, col := range b.cols {
		at := firstLine(c.src, b.spans[i])
		switch {
		case col.Name == "?column?":
			c.wrong(at, "name it with AS", "this column has no name")
		case strings.HasPrefix(col.Name, "_"):
			c.wrong(at, "parameters of requests begin with an underscore; choose another name with AS", "the column name %s is reserved", quoted(col.Name))
		case seen[col.Name]:
			c.wrong(at, "name one of them otherwise with AS", "two columns are named %s", quoted(col.Name))
		case col.Type == app.Interval:
			c.wrong(at, "for seconds: extract(epoch from x)", "a column of a view cannot have type interval")
		}
		seen[col.Name] = true
	}
}

// figureName returns the name that PostgreSQL gives to a result column without AS. sure is false when a cast around it
// would name the column better.
func figureName(e syntax.Expr) (name string, sure bool) {
	switch e := e.(type) {
	case *syntax.ColumnRef:
		return e.Names.Last().Text, true
	case *syntax.Call:
		return e.Name.Last().Text, true
	case *syntax.Current:
		return e.Name, true
	case *syntax.Indirection:
		for i := len(e.Steps) - 1; i >= 0; i-- {
			if f := e.Steps[i].Field; f != nil {
				return f.Text, true
			}
		}
		return figureName(e.X)
	case *syntax.Cast:
		if n, ok := figureName(e.X); ok {
			return n, true
		}
		return e.Type.Names.Last().Text, false
	case *syntax.Collate:
		return figureName(e.X)
	case *syntax.Case:
		if e.Else != nil {
			if n, ok := figureName(e.Else); ok {
				return n, true
			}
		}
		return "case", false
	case *syntax.Conditional:
		return [...]string{syntax.Coalesce: "coalesce", syntax.NullIf: "nullif", syntax.Greatest: "greatest", syntax.Least: "least"}[e.Kind], true
	}
	return "?column?", false
}
