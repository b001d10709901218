package node

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/sql"
	"laaster/internal/view"
)

// past is what a checkpoint is of, readable by any version that knows its format.
type past struct {
	state   *checkpoint.State
	program *flow.Program // of the definition that was in effect
	own     nodeState
	rels    []*expr.Relation // by their places in the store
}

// readPast reads what a checkpoint is of; its state is not read yet.
func (n *Node) readPast(state *checkpoint.State) (*past, error) {
	p := &past{state: state}
	var err error
	if p.program, err = n.compileCatalog(state.Header().Catalog); err != nil {
		return nil, fmt.Errorf("its definition: %w", err)
	}
	if err := json.Unmarshal(state.Part("node"), &p.own); err != nil {
		return nil, fmt.Errorf("its part of the node: %w", err)
	}
	p.rels, err = p.own.layOut(p.program)
	return p, err
}

// compileCatalog makes the program of a definition document.
func (n *Node) compileCatalog(doc []byte) (*flow.Program, error) {
	catalog, err := sql.ParseCatalog(doc)
	if err != nil {
		return nil, err
	}
	program, found := sql.Compile(filepath.Join(n.opt.Dir, "app.sql"), []byte(catalog.Source), catalog)
	if program == nil {
		return nil, &AppError{found}
	}
	return program, nil
}

// tables makes the engine of a program begin with the rows that the tables had, and returns the views' rows as an epoch.
func (p *past) tables(program *flow.Program, opt flow.Options) (*flow.Engine, *change.Epoch, error) {
	store, err := view.Load(p.rels, view.Options{Memory: 1}, p.state)
	if err != nil {
		return nil, nil, err
	}
	opt.Rows = func(table string, yield func(row change.Row) bool) error {
		for i, rel := range p.program.Relations {
			if rel.Name == table && rel.Table != nil {
				p.rows(store, i, yield)
			}
		}
		return nil
	}
	return flow.LoadTables(program, opt, p.state)
}

// rows calls yield for the rows of relation i, without _n.
func (p *past) rows(store *view.Store, i int, yield func(row change.Row) bool) {
	rel, slot := p.program.Relations[i], p.own.Slots[i]
	var cols []int
	var types []app.Type
	for c := range rel.Columns {
		if c < len(rel.Columns)-1 || !rel.Copies {
			cols, types = append(cols, c), append(types, rel.Columns[c].Type)
		}
	}
	bare := change.NewLayout(types)
	store.Snapshot(slot).Ascend(slot, nil, func(_ []byte, row change.Row) bool {
		return yield(rel.Layout.AppendColumns(nil, bare, row, cols))
	})
}
