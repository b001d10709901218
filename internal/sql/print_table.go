package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// table prints a table with its rules.
func (p *planPrinter) table(prog *flow.Program, id int) {
	r := prog.Relations[id]
	t := r.Table.Table
	s := "table " + r.Name + keyText(r)
	if t.AppendOnly {
		s += " append-only"
	}
	if !t.Kept {
		s += " not-kept"
	}
	p.line(0, "%s", s)
	for i, col := range r.Columns {
		s := columnText(col)
		if i < len(r.Table.Defaults) && r.Table.Defaults[i] != nil {
			s += " default " + r.Table.Defaults[i].String()
		}
		p.line(1, "%s", s)
	}
	for _, c := range r.Table.Checks {
		p.line(1, "check %s %s", c.Name, c.Cond)
	}
	keys := make([]string, 0, len(t.Options))
	for k := range t.Options {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		p.line(1, "option %s = %s", k, t.Options[k])
	}
}

// access prints who may do what.
func (p *planPrinter) access(prog *flow.Program) {
	for _, role := range prog.Definition.Roles {
		p.line(0, "role %s", role)
	}
	byName := map[string]*expr.Relation{}
	for _, r := range slices.Concat(prog.Relations, prog.Channels) {
		byName[r.Name] = r
	}
	for _, g := range prog.Definition.Grants {
		allow := privilegeNames(g.Allow)
		if g.Columns != nil {
			var names []string
			for _, i := range g.Columns {
				names = append(names, byName[g.Relation].Columns[i].Name)
			}
			allow += " (" + strings.Join(names, ", ") + ")"
		}
		p.line(0, "grant %s on %s to %s", allow, g.Relation, g.Role)
	}
	for _, r := range prog.Relations {
		if r.Secured {
			p.line(0, "row level security of %s", r.Name)
		}
		for i := range r.Rules {
			c := catalogPolicy(r.Name, &r.Rules[i])
			p.line(1, "policy %s on %s %s", c.Name, r.Name, c.text())
		}
	}
}

func (p *planPrinter) columns(cols []app.Column) {
	for _, col := range cols {
		p.line(1, "%s", columnText(col))
	}
}

func columnText(col app.Column) string {
	s := col.Name + " " + col.Type.String()
	if col.NotNull {
		s += " not null"
	}
	return s
}

// keyText names the key of a relation.
func keyText(r *expr.Relation) string {
	switch {
	case r.Numbered:
		return " numbered"
	case r.Copies:
		return " copies"
	}
	names := make([]string, len(r.Key))
	for i, k := range r.Key {
		names[i] = r.Columns[k].Name
	}
	return " key (" + strings.Join(names, ", ") + ")"
}

func privilegeNames(p app.Privilege) string {
	var names []string
	for _, one := range []struct {
		p    app.Privilege
		name string
	}{{app.Select, "select"}, {app.Insert, "insert"}, {app.Update, "update"}, {app.Delete, "delete"}} {
		if p&one.p != 0 {
			names = append(names, one.name)
		}
	}
	return strings.Join(names, ", ")
}
