package auth

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync/atomic"

	"laaster/app"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// Rules is the one engine of decisions: the grants and policies of the running app, asked by every transport. The zero value refuses everything; safe for
// concurrent use.
type Rules struct {
	table atomic.Pointer[definition]
}

// definition is what one app.sql allows. Read-only but for its cache.
type definition struct {
	allowed map[grantKey]*access
	secured map[string]*secured
	unknown map[string]bool // relations that are secured, and whose rules are not known: nobody sees a row
	rules   ruleCache
}

type grantKey struct{ role, relation string }

// access is what one role may do with one relation.
type access struct {
	whole   app.Privilege // on all columns
	partly  app.Privilege // on some columns only
	columns [3][]bool     // of Select, Insert and Update
}

// Use replaces the rules by those of def. relations are those of the program, which have the bound conditions of policies: without them nobody sees a row
// of a relation with row level security.
func (r *Rules) Use(def *app.Definition, relations ...*expr.Relation) {
	d := &definition{allowed: map[grantKey]*access{}, secured: map[string]*secured{}, unknown: map[string]bool{}}
	widths := map[string]int{}
	for name := range def.Secured {
		d.unknown[name] = true
	}
	for _, rel := range relations {
		widths[rel.Name] = len(rel.Columns)
		delete(d.unknown, rel.Name)
		if rel.Secured {
			d.secured[rel.Name] = newSecured(rel)
		}
	}
	for _, g := range def.Grants {
		d.grant(&g, widths[g.Relation])
	}
	d.rules.init()
	r.table.Store(d)
}

// Frozen returns the rules as they are now, which Use of r does not change: for who asks several things that have to fit each other.
func (r *Rules) Frozen() *Rules {
	f := &Rules{}
	f.table.Store(r.table.Load())
	return f
}

func (d *definition) grant(g *app.Grant, width int) {
	k := grantKey{g.Role, g.Relation}
	a := d.allowed[k]
	if a == nil {
		a = &access{}
		d.allowed[k] = a
	}
	if g.Columns == nil {
		a.whole |= g.Allow
		return
	}
	a.partly |= g.Allow
	for i, one := range columnPrivileges {
		if g.Allow&one == 0 {
			continue
		}
		for _, col := range g.Columns {
			width = max(width, col+1)
		}
		if n := width - len(a.columns[i]); n > 0 {
			a.columns[i] = append(a.columns[i], make([]bool, n)...)
		}
		for _, col := range g.Columns {
			a.columns[i][col] = true
		}
	}
}

// columnPrivileges are those that may be limited to columns.
var columnPrivileges = [3]app.Privilege{app.Select, app.Insert, app.Update}

// roles calls f for each role of p that relation is granted to, until f returns true.
func (d *definition) roles(p *Principal, relation string, f func(a *access) bool) bool {
	if a := d.allowed[grantKey{p.Role, relation}]; a != nil && f(a) {
		return true
	}
	if a := d.allowed[grantKey{public, relation}]; a != nil && f(a) {
		return true
	}
	if p.Token == nil {
		return false
	}
	for _, role := range p.Token.Roles {
		if a := d.allowed[grantKey{role, relation}]; a != nil && role != p.Role && f(a) {
			return true
		}
	}
	return false
}

// may reports whether p has every privilege of need on relation, on one column at least.
func (d *definition) may(p *Principal, relation string, need app.Privilege) bool {
	have := app.Privilege(0)
	return d.roles(p, relation, func(a *access) bool {
		have |= a.whole | a.partly
		return have&need == need
	})
}

// Allow returns nil when p has every privilege of need on relation, be it on one column only, else the problem to answer: unknown names are the
// caller's business (it knows whether it looked for a table or a view); here an ungranted one is unauthenticated for those without a token, as a
// token might help, and forbidden for others.
func (r *Rules) Allow(p Principal, relation string, need app.Privilege) *wire.Problem {
	if d := r.table.Load(); d != nil && d.may(&p, relation, need) {
		return nil
	}
	return refusal(&p, relation, need)
}

func refusal(p *Principal, relation string, need app.Privilege) *wire.Problem {
	verb, role := privilegeName(need), p.Role
	if role == "" {
		role = "a role of the token"
	}
	hint := "grant it in app.sql: GRANT " + verb + " ON " + relation + " TO " + role
	if p.Token == nil && p.Role == Anonymous().Role {
		return wire.NewProblem(wire.Unauthenticated, verb+" on "+relation+" is not granted to anon").WithHint(hint)
	}
	return wire.NewProblem(wire.Forbidden, verb+" on "+relation+" is not granted to "+role).WithHint(hint)
}

// Columns tells on which columns of relation p has need, which is Select, Insert or Update: one bit for each; nil: on all of them. Read-only.
func (r *Rules) Columns(p Principal, relation string, need app.Privilege) (cols []bool) {
	d := r.table.Load()
	if d == nil {
		return []bool{}
	}
	kind := slices.Index(columnPrivileges[:], need)
	shared := true
	whole := d.roles(&p, relation, func(a *access) bool {
		switch {
		case a.whole&need != 0:
			return true
		case kind < 0 || a.columns[kind] == nil:
		case cols == nil:
			cols = a.columns[kind]
		default:
			if shared {
				cols, shared = slices.Clone(cols), false
			}
			for i, ok := range a.columns[kind] {
				cols[i] = cols[i] || ok
			}
		}
		return false
	})
	switch {
	case whole:
		return nil
	case cols == nil:
		return []bool{}
	}
	return cols
}

// Rows returns the condition for the rows of relation that p may see (Select), change (Update) or delete; nil: every row. A row that p changes or deletes
// must be one that p may see: its condition is part of theirs. The problem is that of Allow.
func (r *Rules) Rows(p Principal, relation string, cmd app.Privilege) (*Rule, *wire.Problem) {
	return r.rule(&p, relation, cmd, false)
}

// Checks returns the condition for the rows that p writes by Insert or Update; nil: every row. What p makes of a row by Update must be a row that p may
// see, as in PostgreSQL. The problem is that of Allow.
func (r *Rules) Checks(p Principal, relation string, cmd app.Privilege) (*Rule, *wire.Problem) {
	return r.rule(&p, relation, cmd, true)
}

func (r *Rules) rule(p *Principal, relation string, cmd app.Privilege, check bool) (*Rule, *wire.Problem) {
	d := r.table.Load()
	if d == nil || !d.may(p, relation, cmd) {
		return nil, refusal(p, relation, cmd)
	}
	s := d.secured[relation]
	if s == nil {
		if d.unknown[relation] {
			return &Rule{Key: "false", None: true, cond: expr.BoolLit(false, -1)}, nil
		}
		return nil, nil
	}
	rule := (*Rule)(nil)
	if len(s.claims) > 0 && p.Token != nil {
		k := tokenKey{s, p.Token, p.Subject, p.Role, cmd, check}
		if rule = d.rules.byToken(k); rule == nil {
			rule = s.rule(&d.rules, p, cmd, check)
			d.rules.keepToken(k, rule)
		}
	} else {
		rule = s.rule(&d.rules, p, cmd, check)
	}
	if rule.cond == nil { // every row
		return nil, nil
	}
	return rule, nil
}

// secured is a relation with row level security.
type secured struct {
	rel      *expr.Relation
	roles    []string // that policies name, but public
	subject  bool     // a condition asks for the subject
	role     bool
	claims   []string // that conditions read
	separate string   // the name and a number, in front of cache keys
}

func newSecured(rel *expr.Relation) *secured {
	s := &secured{rel: rel}
	add := func(list *[]string, name string) {
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	for i := range rel.Rules {
		rule := &rel.Rules[i]
		for _, role := range rule.Roles {
			if role != public {
				add(&s.roles, role)
			}
		}
		for _, n := range []*expr.Node{rule.Using, rule.Check} {
			if n != nil {
				subject, role := n.Depends(func(path string) { add(&s.claims, path) })
				s.subject, s.role = s.subject || subject, s.role || role
			}
		}
	}
	s.separate = string(binary.AppendUvarint(nil, uint64(len(rel.Name)))) + rel.Name
	return s
}

// rule returns the condition for a command, from the cache if it was made before for a caller of the same roles and values.
func (s *secured) rule(c *ruleCache, p *Principal, cmd app.Privilege, check bool) *Rule {
	var space [256]byte
	key := append(append(space[:0], s.separate...), byte(cmd))
	if check {
		key[len(key)-1] |= 0x80
	}
	for _, role := range s.roles {
		key = append(key, '0')
		if p.HasRole(role) {
			key[len(key)-1] = '1'
		}
	}
	if s.subject {
		key = appendPart(key, p.Subject, true)
	}
	if s.role {
		key = appendPart(key, p.Role, true)
	}
	for _, path := range s.claims {
		text, ok := p.Claim(path)
		key = appendPart(key, text, ok)
	}
	if r := c.get(key); r != nil {
		return r
	}
	r := s.make(p, cmd, check)
	c.put(string(key), r)
	return r
}

func appendPart(key []byte, s string, ok bool) []byte {
	if !ok {
		return append(key, 0)
	}
	return append(binary.AppendUvarint(key, uint64(len(s))+1), s...)
}

// make puts the policies together.
func (s *secured) make(p *Principal, cmd app.Privilege, check bool) *Rule {
	caller := &expr.Caller{Subject: p.Subject, Role: p.Role, Claim: p.Claim}
	terms := s.terms(nil, p, caller, cmd, check)
	if cmd == app.Update || cmd == app.Delete {
		terms = s.terms(terms, p, caller, app.Select, false)
	}
	return newRule(terms)
}

// terms appends what has to hold for a command: one of the permissive policies and all restrictive ones.
func (s *secured) terms(terms []*expr.Node, p *Principal, caller *expr.Caller, cmd app.Privilege, check bool) []*expr.Node {
	var some []*expr.Node
	for i := range s.rel.Rules {
		rule := &s.rel.Rules[i]
		if rule.For&cmd == 0 || !slices.ContainsFunc(rule.Roles, p.HasRole) {
			continue
		}
		cond := rule.Using
		if check && rule.Check != nil {
			cond = rule.Check
		}
		if cond == nil {
			continue
		}
		cond = expr.Decided(cond.Bind(caller))
		if rule.Restrictive {
			terms = append(terms, cond)
		} else {
			some = append(some, cond)
		}
	}
	if len(some) == 0 {
		return append(terms, expr.BoolLit(false, -1))
	}
	any, err := expr.Or(some, -1)
	if err != nil {
		any = expr.BoolLit(false, -1)
	}
	return append(terms, expr.Decided(any))
}

func privilegeName(p app.Privilege) string {
	var names []string
	for _, x := range []struct {
		bit  app.Privilege
		name string
	}{{app.Select, "SELECT"}, {app.Insert, "INSERT"}, {app.Update, "UPDATE"}, {app.Delete, "DELETE"}} {
		if p&x.bit != 0 {
			names = append(names, x.name)
		}
	}
	return strings.Join(names, ", ")
}
