package flow

import (
	"fmt"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// newView builds the dataflow of one view.
func newView(p *Program, vp *ViewPlan) (*view, error) {
	v := &view{rel: p.Relations[vp.Relation], from: -1}
	v.sink = newSink(v.rel)
	if err := v.build(p, vp.Root); err != nil {
		return nil, err
	}
	if v.from < 0 || v.from >= vp.Relation {
		return nil, fmt.Errorf("it reads relation %d, which is not before it", v.from)
	}
	return v, nil
}

func (v *view) build(p *Program, plan Plan) error {
	var op operator
	var err error
	switch n := plan.(type) {
	case *Scan:
		v.from = n.Relation
		return nil
	case *Filter:
		if err = v.build(p, n.In); err == nil {
			op, err = newFilter(n, &v.errors)
		}
	case *Project:
		if err = v.build(p, n.In); err == nil {
			op, err = newProject(n, &v.errors)
		}
	case *Aggregate:
		if err = v.build(p, n.In); err == nil {
			op, err = newAggregate(n, appendOnly(p, n.In), &v.errors)
		}
	case *TopN:
		if err = v.build(p, n.In); err == nil {
			op = newTopN(n, appendOnly(p, n.In))
		}
	default:
		err = fmt.Errorf("no operator for %T", plan)
	}
	v.steps = append(v.steps, step{operator: op})
	return err
}

// appendOnly reports whether a plan's output never takes a row back.
func appendOnly(p *Program, plan Plan) bool {
	switch n := plan.(type) {
	case *Scan:
		t := p.Relations[n.Relation].Table
		if t != nil {
			return !t.Table.Keyed()
		}
		for _, v := range p.Views {
			if v.Relation == n.Relation {
				return appendOnly(p, v.Root)
			}
		}
	case *Filter:
		return appendOnly(p, n.In)
	case *Project:
		return appendOnly(p, n.In)
	}
	return false
}

func newFilter(n *Filter, errors *errorLog) (*filter, error) {
	fs, err := compileAll([]*expr.Node{n.Cond}, change.NewLayout(n.In.Columns()))
	if err != nil {
		return nil, err
	}
	return &filter{cond: fs[0], errors: errors}, nil
}

func newProject(n *Project, errors *errorLog) (*project, error) {
	fs, err := compileAll(n.Exprs, change.NewLayout(n.In.Columns()))
	if err != nil {
		return nil, err
	}
	return &project{exprs: fs, layout: change.NewLayout(n.Columns()), errors: errors, vals: make([]change.Value, len(fs))}, nil
}
