package sql

import (
	"slices"

	"laaster/internal/sql/syntax"
)

// with is a query of a WITH clause that what follows it can read. Each is planned once; plans that read it share it.
type with struct {
	up   *with
	cte  *syntax.CTE
	is   *bound
	used bool
}

// find returns a query of WITH by its name, nil when there is none.
func (w *with) find(name string) *bound {
	for ; w != nil; w = w.up {
		if w.cte.Name.Text == name {
			w.used = true
			return w.is
		}
	}
	return nil
}

// bindWith plans the queries of a WITH clause.
func (c *compiler) bindWith(s *syntax.With, around *frame, up *with) *with {
	if s.Recursive {
		for _, cte := range s.CTEs {
			if mentions(cte.Query, cte.Name.Text) {
				c.fail(cte.Name.Span, "for a hierarchy of known depth join the table to itself", "recursive queries are not supported")
			}
		}
	}
	w := up
	for _, cte := range s.CTEs {
		for x := w; x != up; x = x.up {
			if x.cte.Name.Text == cte.Name.Text {
				c.fail(cte.Name.Span, "", "%s is twice in WITH", quoted(cte.Name.Text))
			}
		}
		b := c.bindQuery(cte.Query, around, w)
		if len(cte.Columns) > len(b.cols) {
			c.fail(cte.Columns[len(b.cols)].Span, "", "%s has %s, and %s given", quoted(cte.Name.Text), plural(len(b.cols), "column"), plural(len(cte.Columns), "name"))
		}
		named := *b
		named.cols = slices.Clone(b.cols)
		for i, n := range cte.Columns {
			named.cols[i].Name = n.Text
		}
		w = &with{up: w, cte: cte, is: &named}
	}
	return w
}

// checkUsed warns of queries of WITH that nothing reads.
func (c *compiler) checkUsed(w, up *with) {
	for ; w != nil && w != up; w = w.up {
		if !w.used {
			c.report(w.cte.Name.Span, Warning, "nothing reads "+quoted(w.cte.Name.Text), "remove it")
		}
	}
}

// mentions reports whether a query reads a relation of this name.
func mentions(s *syntax.Select, name string) bool {
	if s == nil {
		return false
	}
	var inRef func(r syntax.TableRef) bool
	inRef = func(r syntax.TableRef) bool {
		switch r := r.(type) {
		case *syntax.RangeTable:
			return len(r.Name) == 1 && r.Name[0].Text == name
		case *syntax.RangeQuery:
			return mentions(r.Query, name)
		case *syntax.Join:
			return inRef(r.L) || inRef(r.R)
		}
		return false
	}
	return mentions(s.Left, name) || mentions(s.Right, name) || slices.ContainsFunc(s.From, inRef)
}
