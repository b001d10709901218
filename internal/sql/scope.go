package sql

import (
	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// source is one item of FROM: a name and its columns.
type source struct {
	name  string
	cols  []app.Column
	first int // index of its first column among the columns of the scope
}

// scope is what names of columns may mean.
type scope struct {
	sources []source
}

// tableScope is the scope of a CHECK constraint.
func tableScope(t *app.Table) *scope {
	return &scope{[]source{{name: t.Name, cols: t.Columns}}}
}

func (s *scope) columns() []app.Column {
	var all []app.Column
	for _, src := range s.sources {
		all = append(all, src.cols...)
	}
	return all
}

func (s *scope) names() []string {
	return columnNames(s.columns())
}

// column resolves a reference to a column.
func (b *binder) column(e *syntax.ColumnRef) *expr.Node {
	c := b.c
	if e.Star {
		c.fail(e.Span, "", "* is not an expression")
	}
	if b.scope == nil {
		hint := ""
		if b.clause == "DEFAULT" {
			hint = "text is written in single quotes: 'text'"
		}
		c.fail(e.Span, hint, "%s cannot refer to columns", b.clause)
	}
	if len(e.Names) == 1 {
		return b.bareColumn(e)
	}
	src := b.qualifier(e)
	name := e.Names.Last()
	for i, col := range src.cols {
		if col.Name == name.Text {
			return expr.Column(src.first+i, col.Type, e.Pos)
		}
	}
	c.fail(e.Span, didYouMean(name.Text, columnNames(src.cols)), "column %s does not exist in %s", quoted(name.Text), quoted(src.name))
	return nil
}

func (b *binder) bareColumn(e *syntax.ColumnRef) *expr.Node {
	name := e.Names[0].Text
	var found *expr.Node
	for _, src := range b.scope.sources {
		for i, col := range src.cols {
			if col.Name != name {
				continue
			}
			if found != nil {
				b.c.fail(e.Span, "write its table in front: "+src.name+"."+name, "column %s is ambiguous", quoted(name))
			}
			found = expr.Column(src.first+i, col.Type, e.Pos)
		}
	}
	if found != nil {
		return found
	}
	for _, src := range b.scope.sources {
		if src.name == name {
			b.c.fail(e.Span, "name a column: "+name+"."+src.cols[0].Name, "whole rows are not supported as values")
		}
	}
	hint := didYouMean(name, b.scope.names())
	if hint == "" && b.c.src[e.Pos] == '"' {
		hint = "double quotes are for names; text is written in single quotes"
	}
	if hint == "" && b.output[name] {
		hint = "it is a name of the select list, which " + b.clause + " cannot see: repeat the expression, or put the query into FROM (SELECT ..)"
	}
	b.c.fail(e.Span, hint, "column %s does not exist", quoted(name))
	return nil
}

// qualifier finds the item of FROM that a qualified column is of.
func (b *binder) qualifier(e *syntax.ColumnRef) *source {
	q := e.Names[:len(e.Names)-1]
	if e.Star {
		q = e.Names
	}
	name := q.Last().Text
	if len(q) == 1 || len(q) == 2 && q[0].Text == "public" {
		for i := range b.scope.sources {
			if b.scope.sources[i].name == name {
				return &b.scope.sources[i]
			}
		}
	}
	names := make([]string, len(b.scope.sources))
	for i, src := range b.scope.sources {
		names[i] = src.name
	}
	hint := didYouMean(name, names)
	if hint == "" && b.c.byName[name] != nil {
		hint = "it is not in FROM, or has another name there"
	}
	b.c.fail(q.At(), hint, "%s is not in FROM", quoted(q.String()))
	return nil
}
