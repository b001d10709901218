package sql

import (
	"slices"

	"laaster/internal/expr"
	"laaster/internal/flow"
)

// traces finds out which relations can be told from the log alone, see [expr.Trace]: append-only tables that are kept and whose rows do not
// expire, and views that filter, project and look up (as_of) rows of one of these and have its primary key for their own.
func (c *compiler) traces() {
	for _, r := range c.rels {
		source, cols := c.traced(r)
		if source == nil || r.rel.Copies {
			continue
		}
		key := make([]int, len(r.rel.Key))
		for i, k := range r.rel.Key {
			key[i] = cols[k]
		}
		if sameColumns(key, source.table.PrimaryKey) {
			r.rel.Trace = &expr.Trace{Table: source.rel.Table.Catalog, Key: key}
		}
	}
}

// traced returns the table that each row of r is made of a row of, nil when there is no such table, and which of its columns each of r's columns is:
// -1 for one that is computed.
func (c *compiler) traced(r *relation) (table *relation, cols []int) {
	if r.table == nil {
		return c.tracedPlan(r.plan.Root)
	}
	if !r.table.AppendOnly || !r.table.Kept || r.table.Options["ttl"] != "" {
		return nil, nil
	}
	return r, upTo(len(r.table.Columns))
}

func (c *compiler) tracedPlan(p flow.Plan) (table *relation, cols []int) {
	switch p := p.(type) {
	case *flow.Scan:
		return c.traced(c.rels[p.Relation])
	case *flow.Filter:
		return c.tracedPlan(p.In)
	case *flow.Project:
		table, in := c.tracedPlan(p.In)
		if table == nil {
			return nil, nil
		}
		for _, n := range p.Exprs {
			col := -1
			if n.Kind == expr.KColumn {
				col = in[n.Col]
			}
			cols = append(cols, col)
		}
		return table, cols
	case *flow.Join:
		if !isLookup(p.Kind) {
			return nil, nil
		}
		if table, cols = c.tracedPlan(p.L); table == nil {
			return nil, nil
		}
		return table, append(slices.Clone(cols), slices.Repeat([]int{-1}, len(p.R.Columns()))...)
	}
	return nil, nil
}

// sameColumns reports whether a and b have the same columns, each once.
func sameColumns(a, b []int) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return len(a) > 0 && slices.Equal(a, b)
}
