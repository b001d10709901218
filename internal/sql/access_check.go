package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/flow"
	"laaster/internal/sql/syntax"
)

// usesRole remembers where a role is named that is not declared.
func (c *compiler) usesRole(name string, at syntax.Span) {
	if c.roleAt == nil {
		c.roleAt = map[string]syntax.Span{}
	}
	if _, known := c.roleAt[name]; !known {
		c.roleAt[name] = at
	}
}

// accessChecks says what is likely not meant, once all statements are read, and refuses column privileges without the key.
func (c *compiler) accessChecks() {
	c.undeclaredRoles()
	for i, p := range c.def.Policies {
		if !c.def.Secured[p.Relation] {
			c.report(c.policyAt[i], Warning, "the policy "+quoted(p.Name)+" does nothing: row level security of "+quoted(p.Relation)+" is not enabled",
				"ALTER TABLE "+p.Relation+" ENABLE ROW LEVEL SECURITY")
		}
	}
	for _, r := range c.rels {
		if r.broken {
			continue
		}
		if r.rel.Secured && len(r.rel.Rules) == 0 {
			c.report(c.securedAt[r.name], Warning, "nobody sees a row of "+quoted(r.name)+": row level security is enabled and there is no policy", "add CREATE POLICY .. ON "+r.name)
		}
		if r.view != nil {
			c.openView(r)
		}
	}
	c.keysGranted()
}

func (c *compiler) undeclaredRoles() {
	if len(c.def.Roles) == 0 {
		return
	}
	names := make([]string, 0, len(c.roleAt))
	for name := range c.roleAt {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "anon" || name == "public" || slices.Contains(c.def.Roles, name) {
			continue
		}
		hint := didYouMean(name, c.def.Roles)
		if hint == "" {
			hint = "CREATE ROLE " + name
		}
		c.report(c.roleAt[name], Warning, "the role "+quoted(name)+" is not declared", hint)
	}
}

// openView warns of a view that shows what the rules of a table below it hide.
func (c *compiler) openView(r *relation) {
	granted := slices.ContainsFunc(c.def.Grants, func(g app.Grant) bool { return g.Relation == r.name && g.Allow&app.Select != 0 })
	if !granted || r.rel.Secured {
		return
	}
	for _, name := range c.readBy(r) {
		if below := c.byName[name]; below != nil && !below.broken && below.rel.Secured {
			c.report(firstLine(c.src, r.at), Warning, "the view "+quoted(r.name)+" shows rows of "+quoted(name)+" to all who may read it: rules of a table do not pass into views over it",
				"ALTER TABLE "+r.name+" ENABLE ROW LEVEL SECURITY and give it a policy of its own")
			return
		}
	}
}

// keysGranted refuses privileges on columns without those of the key, which travels with every row.
func (c *compiler) keysGranted() {
	for i, g := range c.def.Grants {
		r := c.byName[g.Relation]
		if g.Allow&app.Select == 0 || g.Columns == nil || r == nil || r.broken {
			continue
		}
		var missing []string
		for _, k := range r.rel.Key {
			if k < len(r.rel.Columns) && r.rel.Columns[k].Name != copiesColumn && !slices.Contains(g.Columns, k) && !c.grantedWhole(g) {
				missing = append(missing, r.rel.Columns[k].Name)
			}
		}
		if len(missing) > 0 {
			hint := "grant SELECT (" + strings.Join(missing, ", ") + ") too"
			if r.rel.Copies && !r.rel.Numbered {
				hint = "it has no key but all its columns: grant on a view that has only the columns to be seen"
			}
			c.wrong(c.grantAt[i], hint, "SELECT on columns of %s leaves out its key, which travels with every row", quoted(g.Relation))
		}
	}
}

// grantedWhole reports whether the role may read all columns by another grant.
func (c *compiler) grantedWhole(g app.Grant) bool {
	return slices.ContainsFunc(c.def.Grants, func(o app.Grant) bool {
		return o.Role == g.Role && o.Relation == g.Relation && o.Columns == nil && o.Allow&app.Select != 0
	})
}

// readBy returns the names of the relations whose rows a view shows, by way of other views too, up to those that have rules of their own.
func (c *compiler) readBy(r *relation) []string {
	var names []string
	var walk func(p flow.Plan)
	seen := map[int]bool{}
	walk = func(p flow.Plan) {
		if s, ok := p.(*flow.Scan); ok && !seen[s.Relation] && s.Relation < len(c.rels) {
			seen[s.Relation] = true
			below := c.rels[s.Relation]
			names = append(names, below.name)
			if below.plan != nil && !below.rel.Secured {
				walk(below.plan.Root)
			}
		}
		for _, in := range p.Inputs() {
			walk(in)
		}
	}
	walk(r.plan.Root)
	return names
}
