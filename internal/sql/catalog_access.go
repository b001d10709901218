package sql

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
)

// CatalogPolicy is one policy. Using and Check are canonical: equal for equal conditions.
type CatalogPolicy struct {
	Name        string   `json:"name"`
	Relation    string   `json:"relation"`
	For         string   `json:"for"`
	Roles       []string `json:"roles"`
	Restrictive bool     `json:"restrictive,omitempty"`
	Using       string   `json:"using,omitempty"`
	Check       string   `json:"check,omitempty"`
}

// access puts into the document who may do what.
func (c *compiler) access(doc *Catalog) {
	doc.Roles = slices.Clone(c.def.Roles)
	for _, g := range c.def.Grants {
		x := CatalogGrant{Role: g.Role, Relation: g.Relation, Allow: privilegeNames(g.Allow)}
		for _, i := range g.Columns {
			x.Columns = append(x.Columns, c.byName[g.Relation].rel.Columns[i].Name)
		}
		doc.Grants = append(doc.Grants, x)
	}
	doc.Secured = slices.Sorted(maps.Keys(c.def.Secured))
	for _, r := range c.rels {
		for i := range r.rel.Rules {
			doc.Policies = append(doc.Policies, catalogPolicy(r.name, &r.rel.Rules[i]))
		}
	}
}

func catalogPolicy(relation string, p *expr.RowRule) CatalogPolicy {
	text := func(n *expr.Node) string {
		if n == nil {
			return ""
		}
		return n.String()
	}
	return CatalogPolicy{Name: p.Name, Relation: relation, For: commandName(p.For), Roles: p.Roles, Restrictive: p.Restrictive, Using: text(p.Using), Check: text(p.Check)}
}

func commandName(p app.Privilege) string {
	if p == app.Select|app.Insert|app.Update|app.Delete {
		return "all"
	}
	return privilegeNames(p)
}

// text says what the policy is, on one line.
func (p *CatalogPolicy) text() string {
	s := "for " + p.For + " to " + strings.Join(p.Roles, ", ")
	if p.Restrictive {
		s = "restrictive " + s
	}
	if p.Using != "" {
		s += " using " + p.Using
	}
	if p.Check != "" {
		s += " with check " + p.Check
	}
	return s
}

// Sight returns what decides which rows and columns of a relation its readers see; empty: each sees everything.
func (c *Catalog) Sight(relation string) string {
	var parts []string
	if slices.Contains(c.Secured, relation) {
		parts = append(parts, "secured")
		for i := range c.Policies {
			if p := &c.Policies[i]; p.Relation == relation {
				parts = append(parts, p.text())
			}
		}
	}
	for _, g := range c.Grants {
		if g.Relation == relation && len(g.Columns) > 0 {
			parts = append(parts, g.Role+": "+g.Allow+" "+strings.Join(g.Columns, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// accessTexts returns everything that a catalog says of who may do what, by what it is about.
func (c *Catalog) accessTexts() map[string]string {
	m := map[string]string{}
	add := func(key, value string) {
		if m[key] != "" {
			value = m[key] + "; " + value
		}
		m[key] = value
	}
	for _, role := range c.Roles {
		add("role "+role, "declared")
	}
	for _, g := range c.Grants {
		allow := g.Allow
		if len(g.Columns) > 0 {
			allow += " (" + strings.Join(g.Columns, ", ") + ")"
		}
		add("grant to "+g.Role+" on "+g.Relation, allow)
	}
	for _, name := range c.Secured {
		add("row level security of "+name, "enabled")
	}
	for i := range c.Policies {
		p := &c.Policies[i]
		add("policy "+p.Name+" on "+p.Relation, p.text())
	}
	return m
}

// accessChanges notes what changed of who may do what: it takes effect at once and breaks no row.
func (d *differ) accessChanges(old, now *Catalog) {
	o, n := old.accessTexts(), now.accessTexts()
	for _, k := range slices.Sorted(maps.Keys(union(o, n))) {
		if o[k] != n[k] {
			d.note(k, cmp.Or(o[k], "none"), cmp.Or(n[k], "none"))
		}
	}
}
