package sql

import (
	"slices"
	"strings"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// MaxPolicies bounds the policies of one relation.
const MaxPolicies = 100

// createRole declares a role that tokens may name.
func (c *compiler) createRole(s *syntax.CreateRole) {
	for _, o := range s.Options {
		if o.Text != "nologin" && o.Text != "login" && o.Text != "inherit" && o.Text != "noinherit" {
			c.fail(o.Span, "leave it out: a role is a name that tokens carry, with the rights that are granted to it", "%s is not supported", strings.ToUpper(o.Text))
		}
	}
	name := c.roleName(s.Name)
	if slices.Contains(c.def.Roles, name) {
		c.fail(s.Name.Span, "", "role %s is declared twice", quoted(name))
	}
	c.def.Roles = append(c.def.Roles, name)
}

// alterTable switches row level security on or off.
func (c *compiler) alterTable(s *syntax.AlterTable) {
	r := c.securable(s.Name, s.Pos)
	for _, a := range s.Actions {
		switch a.Text {
		case "enable", "disable":
			r.rel.Secured = a.Text == "enable"
			if r.rel.Secured {
				c.secured(r.name, a.Span)
			} else {
				delete(c.def.Secured, r.name)
			}
		default: // force, no force: there is no owner who is exempt
		}
	}
}

func (c *compiler) secured(name string, at syntax.Span) {
	if c.def.Secured == nil {
		c.def.Secured, c.securedAt = map[string]bool{}, map[string]syntax.Span{}
	}
	c.def.Secured[name], c.securedAt[name] = true, at
}

// securable finds the table or view that has policies.
func (c *compiler) securable(q syntax.QName, pos int) *relation {
	if c.systemRelation(q) != nil {
		c.fail(q.At(), "GRANT it to those who may read all of it", "the system tables have no row level security")
	}
	r := c.lookup(q, pos)
	if r.table != nil && r.table.Ephemeral != nil {
		c.fail(q.At(), "one key of a channel is one row that its caller set: GRANT the channel, or use a table", "a channel has no row level security")
	}
	return r
}

// createPolicy binds the conditions of a policy.
func (c *compiler) createPolicy(s *syntax.CreatePolicy) {
	r := c.securable(s.Table, s.Pos)
	if slices.ContainsFunc(r.rel.Rules, func(p expr.RowRule) bool { return p.Name == s.Name.Text }) {
		c.fail(s.Name.Span, "", "policy %s on %s is declared twice", quoted(s.Name.Text), quoted(r.name))
	}
	if len(r.rel.Rules) == MaxPolicies {
		c.fail(s.Name.Span, "say it in fewer conditions", "%s has more than %d policies", quoted(r.name), MaxPolicies)
	}
	p := app.Policy{Name: s.Name.Text, Relation: r.name, For: c.policyCommand(s, r), Restrictive: s.Restrictive}
	for _, role := range s.Roles {
		if name := c.roleName(role); !slices.Contains(p.Roles, name) {
			p.Roles = append(p.Roles, name)
			c.usesRole(name, role.Span)
		}
	}
	if len(p.Roles) == 0 {
		p.Roles = []string{"public"}
	}
	rule := expr.RowRule{Name: p.Name, For: p.For, Roles: p.Roles, Restrictive: p.Restrictive}
	if s.Using != nil {
		p.Using, rule.Using = c.text(s.Using.At()), c.policyCondition(r, s.Using, "USING")
	}
	if s.Check != nil {
		p.Check, rule.Check = c.text(s.Check.At()), c.policyCondition(r, s.Check, "WITH CHECK")
	}
	r.rel.Rules = append(r.rel.Rules, rule)
	c.def.Policies = append(c.def.Policies, p)
	c.policyAt = append(c.policyAt, s.Name.Span)
}

// policyCommand says what a policy is for, and refuses what its relation cannot do or PostgreSQL would not take.
func (c *compiler) policyCommand(s *syntax.CreatePolicy, r *relation) app.Privilege {
	at := firstLine(c.src, s.Span)
	command := privilege(s.Command)
	switch {
	case command == app.Insert && s.Using != nil:
		c.fail(s.Using.At(), "write WITH CHECK: a row that is inserted was not there before", "a policy FOR INSERT has no USING")
	case (command == app.Select || command == app.Delete) && s.Check != nil:
		c.fail(s.Check.At(), "write USING: nothing is written", "a policy FOR %s has no WITH CHECK", strings.ToUpper(s.Command))
	case s.Using == nil && s.Check == nil:
		c.fail(at, "for example: USING (owner = auth_subject())", "the policy %s has no condition", quoted(s.Name.Text))
	case r.table == nil && command != 0 && command != app.Select:
		c.fail(at, "write FOR SELECT", "a view can only be read")
	case r.table != nil && r.table.AppendOnly && (command == app.Update || command == app.Delete):
		c.fail(at, "leave the policy out", "rows of the append-only table %s are never updated nor deleted", quoted(r.name))
	case command == 0:
		return app.Select | app.Insert | app.Update | app.Delete
	}
	return command
}

// policyCondition binds USING or WITH CHECK.
func (c *compiler) policyCondition(r *relation, e syntax.Expr, clause string) *expr.Node {
	b := &binder{c: c, clause: clause, scope: c.rowScope(r, r.name), policy: true}
	n := b.condition(e, clause)
	c.lasting(n, e.At(), clause)
	if bad := expr.Positive(n); bad != nil {
		at := e.At()
		if bad.Pos >= 0 {
			at = firstLine(c.src, syntax.Span{Pos: bad.Pos, End: at.End})
		}
		c.fail(at, "more members must never mean fewer rows: use x IN (SELECT ..) alone, or in AND and OR", "a sub-query in %s stands under AND and OR only", clause)
	}
	if !expr.Storable(n) {
		c.fail(firstLine(c.src, e.At()), "say it in simpler functions, or compute it in a column of a view", "this expression is not supported in %s", clause)
	}
	return n
}

// rowScope is the scope of a relation's own columns, without the copy number.
func (c *compiler) rowScope(r *relation, name string) *scope {
	cols := r.rel.Columns
	if r.rel.Copies {
		cols = cols[:len(cols)-1]
	}
	return newScope(name, cols, nil)
}

// lasting refuses what a rule cannot depend on: it holds for a row and a caller, until either changes.
func (c *compiler) lasting(n *expr.Node, at syntax.Span, clause string) {
	place := func(n *expr.Node) syntax.Span {
		if n.Pos >= 0 && n.Pos < at.End {
			return c.wordAt(n.Pos)
		}
		return firstLine(c.src, at)
	}
	if n.Kind == expr.KNow {
		c.fail(place(n), "a row would come and go without an event: put the time into a view, WHERE until > now(), and the policy on that", "now() is not allowed in %s", clause)
	}
	if n.Kind == expr.KCall && n.Func.Volatility != expr.Immutable {
		if _, ok := n.ClaimPath(); !ok {
			if n.Func.Name == "auth_claim" {
				c.fail(place(n), "for example: auth_claim('org.id')", "the argument of auth_claim in %s is a text", clause)
			}
			c.fail(place(n), "a row passes or it does not, as long as neither it nor the caller changes", "%s() is not allowed in %s", n.Func.Name, clause)
		}
	}
	if n.Kind == expr.KMember && n.Set.Cond != nil {
		c.lasting(n.Set.Cond, at, clause)
	}
	for _, a := range n.Args {
		c.lasting(a, at, clause)
	}
}
