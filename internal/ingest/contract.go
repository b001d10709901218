package ingest

import (
	"fmt"

	"laaster/internal/contract"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// columnContract is the schema of a jsonb column.
type columnContract struct {
	column int
	file   string
	schema *contract.Schema
}

func newContracts(rel *expr.Relation) ([]columnContract, error) {
	var out []columnContract
	for _, s := range rel.Table.Table.Schemas {
		schema, err := contract.Compile([]byte(s.Text))
		if err != nil {
			return nil, fmt.Errorf("schema %s of %s: %w", s.File, rel.Name, err)
		}
		out = append(out, columnContract{s.Column, s.File, schema})
	}
	return out, nil
}

// contracts checks the jsonb values of the row against their schemas. NULL passes, as it does a CHECK.
func (d *rowDecoder) contracts() *wire.Problem {
	for i := range d.t.contracts {
		c := &d.t.contracts[i]
		if d.vals[c.column].Null {
			continue
		}
		if bad := c.schema.Check(d.vals[c.column].B); bad != nil {
			field, hint := d.t.cols[c.column].Name+clip(bad.At), c.file+" asks for it"
			if bad.Rule != "" {
				hint += " at " + clip(bad.Rule)
			}
			return wire.NewProblem(wire.InvalidRow, field+": "+bad.Msg).WithField(field, hint)
		}
	}
	return nil
}
