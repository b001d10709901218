package flow

import (
	"fmt"
	"slices"

	"laaster/internal/expr"
)

// numbered returns p with tables named by their catalog ids instead of their relations wherever an operator uses them at run time, for
// exec.mark and the like. Ids are the same in every program of the log, relations are not, and an operator may be taken over by the
// engine of another program.
func (g *graph) numbered(p Plan) Plan {
	switch n := p.(type) {
	case *Window:
		c := *n
		c.In = g.numberedScan(n.In)
		return &c
	case *Session:
		c := *n
		c.In = g.numberedScan(n.In)
		return &c
	case *Gate:
		c := *n
		c.Tables = g.prog.ids(n.Tables)
		return &c
	case *Aggregate:
		c := *n
		c.Closes = g.numberedBound(n.Closes)
		return &c
	case *TopN:
		c := *n
		c.Closes = g.numberedBound(n.Closes)
		return &c
	case *Over:
		c := *n
		c.Closes = g.numberedBound(n.Closes)
		return &c
	case *Join:
		c := *n
		c.FreeL, c.FreeR = g.numberedFree(n.FreeL), g.numberedFree(n.FreeR)
		return &c
	}
	return p
}

func (g *graph) numberedScan(p Plan) Plan {
	s, ok := p.(*Scan)
	if !ok || g.prog.Relations[s.Relation].Table == nil {
		return p
	}
	c := *s
	c.Relation = int(g.prog.Relations[s.Relation].Table.Catalog)
	return &c
}

func (g *graph) numberedBound(b *Bound) *Bound {
	if b == nil {
		return nil
	}
	c := *b
	c.Tables = g.prog.ids(b.Tables)
	return &c
}

func (g *graph) numberedFree(f *Free) *Free {
	if f == nil {
		return nil
	}
	c := *f
	c.Tables = g.prog.ids(f.Tables)
	return &c
}

// ids returns the catalog ids of tables, nil for none.
func (p *Program) ids(relations []int) []int {
	if relations == nil {
		return nil
	}
	ids := make([]int, len(relations))
	for i, r := range relations {
		ids[i] = int(p.Relations[r].Table.Catalog)
	}
	return ids
}

// tableIdentity names what decides a table's rows and its watermark, beside the log.
func tableIdentity(r *expr.TableRules) string {
	t := r.Table
	s := fmt.Sprintf("table %d with %d columns", r.Catalog, len(t.Columns))
	if t.AppendOnly {
		s += fmt.Sprintf(" append only, event time %d late %d idle %d", r.EventTime, r.Lateness, r.Idle)
	}
	if r.Dedupe > 0 {
		s += fmt.Sprintf(" dedupe %d", r.Dedupe)
	}
	if r.TTL > 0 {
		s += fmt.Sprintf(" ttl %d", r.TTL)
	}
	return s
}

// names returns the names of p's columns where they are known; nil when they are not, or when two are the same.
func (p *Program) names(n Plan) []string {
	names := p.columnNames(n)
	sorted := slices.Sorted(slices.Values(names))
	if len(slices.Compact(sorted)) < len(names) {
		return nil
	}
	return names
}

func (p *Program) columnNames(n Plan) (names []string) {
	switch n := n.(type) {
	case *Scan:
		for _, c := range p.Relations[n.Relation].Columns[:len(n.Types)] {
			names = append(names, c.Name)
		}
	case *Filter, *Gate:
		names = p.columnNames(n.Inputs()[0])
	case *Project:
		names = pickNames(p.columnNames(n.In), n.Exprs)
	case *Window:
		names = windowNames(p.columnNames(n.In), n.Keep)
	case *Session:
		names = windowNames(p.columnNames(n.In), n.Keep)
	case *Join:
		l, r := p.columnNames(n.L), p.columnNames(n.R)
		if names = l; n.Kind != SemiJoin && n.Kind != AntiJoin && l != nil {
			if names = nil; r != nil {
				names = slices.Concat(l, r)
			}
		}
	case *Aggregate:
		if names = pickNames(p.columnNames(n.In), n.Keys); names != nil {
			for i := range n.Aggs {
				names = append(names, fmt.Sprintf("c%d", len(n.Keys)+i+1))
			}
		}
	}
	return names
}

// pickNames returns the names of plain columns; nil when there is something else among them.
func pickNames(in []string, exprs []*expr.Node) (names []string) {
	for _, e := range exprs {
		if e.Kind != expr.KColumn || in == nil {
			return nil
		}
		names = append(names, in[e.Col])
	}
	return names
}

func windowNames(in []string, keep []int) (names []string) {
	if in == nil {
		return nil
	}
	for _, k := range keep {
		names = append(names, in[k])
	}
	return append(names, "window_start", "window_end")
}
