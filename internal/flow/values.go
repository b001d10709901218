package flow

import (
	"laaster/internal/change"
	"laaster/internal/expr"
)

// values emits its rows at its first call.
type values struct {
	rows   [][]expr.Func
	layout *change.Layout
	empty  *change.Layout // without columns, as the row that its expressions see
	errors *errorLog
	vals   []change.Value
	out    []delta
}

// newValues returns the operator of p.
func newValues(p *Values, log *errorLog) (operator, error) {
	v := &values{layout: change.NewLayout(p.Types), empty: change.NewLayout(nil), errors: log, vals: make([]change.Value, len(p.Types))}
	for _, row := range p.Rows {
		fs, err := compileAll(row, v.empty)
		if err != nil {
			return nil, err
		}
		v.rows = append(v.rows, fs)
	}
	return v, nil
}

func (v *values) apply(x *exec, _ []delta) []delta {
	v.out = v.out[:0]
	if !x.first {
		return v.out
	}
	for _, fs := range v.rows {
		x.ctx.Reset()
		x.ctx.Row = nil
		if err := evaluate(&x.ctx, fs, v.vals); err != nil {
			v.errors.add(x, v.empty, nil, err, 1)
			continue
		}
		v.out = append(v.out, delta{x.scratch.row(v.layout, v.vals), 1})
	}
	return v.out
}

func (v *values) bytes() int   { return 0 }
func (*values) state(*keeper)  {}
func (v *values) name() string { return "values" }
