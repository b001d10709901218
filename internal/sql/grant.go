package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/sql/syntax"
)

// grant records GRANT. REVOKE has nothing to take: what no GRANT allows is refused.
func (c *compiler) grant(s *syntax.Grant) {
	switch {
	case s.Revoke:
		c.fail(firstLine(c.src, s.Span), "nothing is allowed that is not granted: remove the GRANT instead", "REVOKE is not supported")
	case s.GrantOption:
		c.fail(firstLine(c.src, s.Span), "rights come from app.sql alone", "WITH GRANT OPTION is not supported")
	case s.GrantedBy != nil:
		c.fail(s.GrantedBy.Span, "leave it out", "GRANTED BY is not supported")
	case len(s.AllColumns) > 0:
		c.fail(s.AllColumns[0].Span, "grant on a view that has only these columns", "privileges on columns are not supported yet")
	}
	allow := c.privileges(s)
	for _, q := range s.Tables {
		c.try(func() {
			r := c.systemRelation(q)
			if r == nil {
				r = c.lookup(q, s.Pos)
			}
			may := c.grantable(s, r, allow)
			for _, role := range s.Roles {
				c.try(func() { c.addGrant(c.roleName(role), r, may) })
			}
		})
	}
}

func (c *compiler) privileges(s *syntax.Grant) app.Privilege {
	if s.All {
		return app.Select | app.Insert | app.Update | app.Delete
	}
	allow := app.Privilege(0)
	for _, p := range s.Privileges {
		if len(p.Columns) > 0 {
			c.fail(p.Span, "grant on a view that has only these columns", "privileges on columns are not supported yet")
		}
		one := privilege(p.Name)
		if one == 0 {
			hint := didYouMean(p.Name, []string{"select", "insert", "update", "delete"})
			if hint == "" {
				hint = "the privileges are SELECT, INSERT, UPDATE, DELETE and ALL"
			}
			c.fail(p.Span, hint, "privilege %s is not supported", strings.ToUpper(p.Name))
		}
		allow |= one
	}
	return allow
}

func privilege(name string) app.Privilege {
	switch name {
	case "select":
		return app.Select
	case "insert":
		return app.Insert
	case "update":
		return app.Update
	case "delete":
		return app.Delete
	}
	return 0
}

// systemRelation returns the system table when one is named, else nil.
func (c *compiler) systemRelation(q syntax.QName) *relation {
	if len(q) != 2 || q[0].Text != "laaster" {
		return nil
	}
	name := q.String()
	switch name {
	case "laaster.errors", "laaster.late", "laaster.audit":
		return &relation{name: name}
	}
	hint := didYouMean(name, []string{"laaster.errors", "laaster.late", "laaster.audit"})
	if hint == "" {
		hint = "the system tables are laaster.errors, laaster.late and laaster.audit"
	}
	c.fail(q.At(), hint, "system table %s does not exist", quoted(name))
	return nil
}

// grantable checks that the relation can do what is granted. ALL means whatever it can do.
func (c *compiler) grantable(s *syntax.Grant, r *relation, allow app.Privilege) app.Privilege {
	can, what := app.Select, "views and system tables can only be read"
	if r.table != nil {
		can, what = app.Select|app.Insert, "rows of an append-only table never change"
		if r.table.Keyed() {
			can |= app.Update | app.Delete
		}
		if r.table.Ephemeral != nil {
			can, what = app.Select|app.Insert, "who may set the rows of a channel may change and clear them"
		}
	}
	if s.All {
		return can
	}
	for _, p := range s.Privileges {
		if one := privilege(p.Name); one&can == 0 {
			hint := "grant SELECT"
			if r.table != nil && r.table.Ephemeral != nil {
				hint = "grant INSERT"
			} else if r.table != nil {
				hint = "leave it out, or declare a PRIMARY KEY and leave append_only out"
			}
			c.fail(p.Span, hint, "cannot grant %s on %s: %s", strings.ToUpper(p.Name), quoted(r.name), what)
		}
	}
	return allow
}

func (c *compiler) roleName(r syntax.RoleRef) string {
	if r.Current {
		c.fail(r.Span, "name the role", "%s means nobody here", strings.ToUpper(r.Name))
	}
	return r.Name
}

// addGrant merges the grant into those there are.
func (c *compiler) addGrant(role string, r *relation, allow app.Privilege) {
	if r.table != nil && allow&app.Select != 0 {
		r.table.Kept = true
	}
	i := slices.IndexFunc(c.def.Grants, func(g app.Grant) bool { return g.Role == role && g.Relation == r.name })
	if i >= 0 {
		c.def.Grants[i].Allow |= allow
		return
	}
	c.def.Grants = append(c.def.Grants, app.Grant{Role: role, Relation: r.name, Allow: allow})
}

// comment checks that COMMENT ON speaks of something that exists. The text stays in the source.
func (c *compiler) comment(s *syntax.Comment) {
	if s.Object != "column" {
		r := c.lookup(s.Name, s.Pos)
		if (s.Object == "table") != (r.table != nil) {
			c.fail(s.Name.At(), "", "%s is not a %s", quoted(r.name), s.Object)
		}
		return
	}
	if len(s.Name) < 2 {
		c.fail(s.Name.At(), "write table.column", "a column needs its table in front")
	}
	r := c.lookup(s.Name[:len(s.Name)-1], s.Pos)
	name := s.Name.Last()
	cols := columnNames(r.rel.Columns)
	if !slices.Contains(cols, name.Text) || name.Text == copiesColumn {
		c.fail(name.Span, didYouMean(name.Text, cols), "column %s does not exist in %s", quoted(name.Text), quoted(r.name))
	}
}
