package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/sql/syntax"
)

// grant records GRANT and takes back what REVOKE names, in the order of the file.
func (c *compiler) grant(s *syntax.Grant) {
	switch {
	case s.GrantOption:
		c.fail(firstLine(c.src, s.Span), "rights come from app.sql alone", "WITH GRANT OPTION is not supported")
	case s.GrantedBy != nil:
		c.fail(s.GrantedBy.Span, "leave it out", "GRANTED BY is not supported")
	}
	parts := c.privileges(s)
	for _, q := range s.Tables {
		c.try(func() {
			r := c.systemRelation(q)
			if r == nil {
				r = c.lookup(q, s.Pos)
			}
			may := c.grantable(s, r, parts)
			for _, role := range s.Roles {
				c.try(func() { c.grantTo(s, role, r, may) })
			}
		})
	}
}

// right is a set of privileges, on some columns or on all.
type right struct {
	allow   app.Privilege
	columns []int         // nil: all
	names   []syntax.Name // of the columns
}

func (c *compiler) privileges(s *syntax.Grant) []right {
	if s.All {
		return []right{{allow: app.Select | app.Insert | app.Update | app.Delete, names: s.AllColumns}}
	}
	whole := right{}
	var list []right
	for _, p := range s.Privileges {
		one := privilege(p.Name)
		switch {
		case p.Name == "execute":
			c.fail(p.Span, "the privileges are SELECT, INSERT, UPDATE, DELETE and ALL", "there is nothing to EXECUTE: an app has tables and views")
		case one == 0:
			hint := didYouMean(p.Name, []string{"select", "insert", "update", "delete"})
			if hint == "" {
				hint = "the privileges are SELECT, INSERT, UPDATE, DELETE and ALL"
			}
			c.fail(p.Span, hint, "privilege %s is not supported", strings.ToUpper(p.Name))
		case one == app.Delete && len(p.Columns) > 0:
			c.fail(p.Span, "leave the columns out: a row is deleted whole", "DELETE is not a privilege on columns")
		}
		if len(p.Columns) == 0 {
			whole.allow |= one
		} else {
			list = append(list, right{allow: one, names: p.Columns})
		}
	}
	if whole.allow != 0 {
		list = append([]right{whole}, list...)
	}
	return list
}

// grantTo gives a role its rights, or takes them.
func (c *compiler) grantTo(s *syntax.Grant, ref syntax.RoleRef, r *relation, rights []right) {
	role := c.roleName(ref)
	c.usesRole(role, ref.Span)
	took := app.Privilege(0)
	for _, x := range rights {
		if s.Revoke {
			took |= c.revoke(role, r, x)
			continue
		}
		if x.columns == nil {
			c.addGrant(role, r, x.allow, nil, firstLine(c.src, s.Span))
			continue
		}
		for _, one := range []app.Privilege{app.Select, app.Insert, app.Update} {
			if x.allow&one != 0 {
				c.addGrant(role, r, one, x.columns, firstLine(c.src, s.Span))
			}
		}
	}
	if s.Revoke && took == 0 {
		c.report(firstLine(c.src, s.Span), Warning, "this takes nothing from "+quoted(role)+": it was not granted above", "")
	}
}

// addGrant merges the grant into those there are: one for what a role may do with all columns, and one for each privilege on columns.
func (c *compiler) addGrant(role string, r *relation, allow app.Privilege, columns []int, at syntax.Span) {
	if r.table != nil && allow&app.Select != 0 {
		r.table.Kept = true
	}
	i := slices.IndexFunc(c.def.Grants, func(g app.Grant) bool {
		return g.Role == role && g.Relation == r.name && (g.Columns == nil) == (columns == nil) && (columns == nil || g.Allow == allow)
	})
	if i < 0 {
		c.def.Grants = append(c.def.Grants, app.Grant{Role: role, Relation: r.name, Allow: allow, Columns: columns})
		c.grantAt = append(c.grantAt, at)
		return
	}
	g := &c.def.Grants[i]
	g.Allow |= allow
	if columns != nil {
		g.Columns = append(slices.Clone(g.Columns), columns...)
		slices.Sort(g.Columns)
		g.Columns = slices.Compact(g.Columns)
	}
}

// revoke takes a right back and returns what of it was there. As in PostgreSQL, revoking a privilege on the whole relation takes it on each column
// too, and revoking it on columns leaves what was granted on the whole.
func (c *compiler) revoke(role string, r *relation, x right) (took app.Privilege) {
	for i := 0; i < len(c.def.Grants); i++ {
		g := &c.def.Grants[i]
		if g.Role != role || g.Relation != r.name || g.Allow&x.allow == 0 || x.columns != nil && g.Columns == nil {
			continue
		}
		if x.columns == nil {
			took |= g.Allow & x.allow
			g.Allow &^= x.allow
		} else {
			left := slices.DeleteFunc(slices.Clone(g.Columns), func(col int) bool { return slices.Contains(x.columns, col) })
			if len(left) < len(g.Columns) {
				took |= g.Allow
			}
			if g.Columns = left; len(left) == 0 {
				g.Allow = 0
			}
		}
		if g.Allow == 0 {
			c.def.Grants = slices.Delete(c.def.Grants, i, i+1)
			c.grantAt = slices.Delete(c.grantAt, i, i+1)
			i--
		}
	}
	return took
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

// grantable checks that the relation can do what is granted, and finds the columns. ALL means whatever it can do.
func (c *compiler) grantable(s *syntax.Grant, r *relation, rights []right) []right {
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
	out := slices.Clone(rights)
	for i := range out {
		out[i].allow &= can
		if len(out[i].names) > 0 {
			out[i].allow &^= app.Delete
			out[i].columns = c.grantColumns(r, out[i].names)
		}
	}
	return out
}

// grantColumns finds the columns of a right.
func (c *compiler) grantColumns(r *relation, names []syntax.Name) []int {
	if r.rel == nil || r.table != nil && r.table.Ephemeral != nil {
		c.fail(names[0].Span, "grant on all of it", "%s has no privileges on columns", quoted(r.name))
	}
	cols := columnNames(r.rel.Columns)
	var list []int
	for _, n := range names {
		i := slices.Index(cols, n.Text)
		if i < 0 || n.Text == copiesColumn {
			c.fail(n.Span, didYouMean(n.Text, cols), "column %s does not exist in %s", quoted(n.Text), quoted(r.name))
		}
		list = append(list, i)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (c *compiler) roleName(r syntax.RoleRef) string {
	if r.Current {
		c.fail(r.Span, "name the role", "%s means nobody here", strings.ToUpper(r.Name))
	}
	return r.Name
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
