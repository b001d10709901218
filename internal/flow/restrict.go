package flow

import "slices"

// Missing lists the relations of next that an engine of another program of the same log cannot hand over: views that it does not compute,
// and tables whose rows it does not have or does not show. An engine of Restrict(next, these), fed with the log from its start, has them
// for [Take]. It must not run at the same time as running's Apply.
func Missing(next *Program, running *Engine) (relations []int) {
	for i, rel := range next.Relations {
		if rel.Table == nil {
			continue
		}
		if old := running.byID[rel.Table.Catalog]; old != nil {
			t, err := newTableState(rel)
			if err != nil || !running.provides(old, t, tableSink(next.Definition, t)) {
				relations = append(relations, i)
			}
		}
	}
	taken := map[*view]bool{}
	for _, vp := range next.Views {
		if running.twin(vp.Hash, next.planIdentity(vp.Root), next.Relations[vp.Relation], taken) == nil {
			relations = append(relations, vp.Relation)
		}
	}
	return relations
}

// Dependents adds to relations of p the views that read them, ascending. When what is missing is computed from the tables of a checkpoint ([LoadTables]), it is
// not the same as what the running engine had, so that whoever reads it has to be computed with it.
func Dependents(p *Program, relations []int) []int {
	in := make([]bool, len(p.Relations))
	for _, r := range relations {
		in[r] = true
	}
	for _, v := range p.Views { // in the order of their dependencies
		reads(v.Root, func(r int) { in[v.Relation] = in[v.Relation] || in[r] && p.Relations[r].Table == nil })
	}
	var out []int
	for r := range in {
		if in[r] {
			out = append(out, r)
		}
	}
	return out
}

// provides reports whether the engine's table old has what t and its sink (nil: it has none) need, rows for new readers included.
func (e *Engine) provides(old, t *tableState, sink *sink) bool {
	switch {
	case sink != nil && e.tableSink(old) == nil:
		return false
	case old.fits(t):
		return true
	}
	return old.converts(t) && (sink == nil || sink.quiet)
}

// Restrict returns the part of p that computes these relations: they, the views that they read, and the tables below. Relations keep
// their indexes. Its engine passes by what is written into other tables and has no system relations. It shares everything
// with p, which must not be changed.
func Restrict(p *Program, relations []int) *Program {
	q := *p
	q.Only, q.Views, q.Errors, q.Late, q.Audit = make([]bool, len(p.Relations)), nil, 0, 0, 0
	q.Asked = make([]bool, len(p.Relations))
	for _, r := range relations {
		q.Asked[r] = true
	}
	plans := map[int]Plan{}
	for _, v := range p.Views {
		plans[v.Relation] = v.Root
	}
	var need func(relation int)
	need = func(relation int) {
		if q.Only[relation] {
			return
		}
		q.Only[relation] = true
		if root := plans[relation]; root != nil {
			reads(root, need)
		}
	}
	for _, r := range relations {
		need(r)
	}
	for _, v := range p.Views {
		if q.Only[v.Relation] {
			q.Views = append(q.Views, v)
		}
	}
	return &q
}

// reads calls f for the relations that a plan reads or whose watermarks it goes by.
func reads(p Plan, f func(relation int)) {
	var tables []int
	bound := func(b *Bound) {
		if b != nil {
			tables = b.Tables
		}
	}
	switch n := p.(type) {
	case *Scan:
		tables = []int{n.Relation}
	case *Gate:
		tables = n.Tables
	case *Aggregate:
		bound(n.Closes)
	case *TopN:
		bound(n.Closes)
	case *Over:
		bound(n.Closes)
	case *Join:
		for _, free := range []*Free{n.FreeL, n.FreeR} {
			if free != nil {
				tables = slices.Concat(tables, free.Tables)
			}
		}
	}
	for _, t := range tables {
		f(t)
	}
	for _, in := range p.Inputs() {
		reads(in, f)
	}
}
