package flow

// Reads reports whether a view of p reads a relation, itself or through other views.
func Reads(p *Program, view, relation int) bool {
	in := make([]bool, len(p.Relations))
	in[relation] = true
	for _, v := range p.Views { // in the order of their dependencies
		reads(v.Root, func(r int) { in[v.Relation] = in[v.Relation] || in[r] })
	}
	return view != relation && in[view]
}
