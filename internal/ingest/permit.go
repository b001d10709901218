package ingest

import (
	"fmt"
	"sync"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// maxRules bounds the rules of one entry, in bytes: they are in each of its parts.
const maxRules = 128 << 10

// Bounds of the conditions that a door keeps compiled; beyond them all are made anew.
const (
	mostConditions     = 4096
	mostConditionBytes = 16 << 20
)

// permit is what a caller may write to a table, and which rows.
type permit struct {
	give  []bool    // the columns that may be given; nil: all
	see   []bool    // the columns that a filter may name; nil: all
	check expr.Func // of a row that is inserted; nil: any
	rules []byte    // what the engine asks of the rows; see change.Rules
}

// permit says what who may do, or why nothing. An app without rules for the table costs three look-ups.
func (d *Door) permit(who auth.Principal, t *table, op change.Op) (permit, *wire.Problem) {
	var p permit
	name, rules := t.rel.Name, d.opt.Rules.Frozen() // all is asked of one definition
	if problem := rules.Allow(who, name, needs(op)); problem != nil {
		return p, problem
	}
	var engine change.Rules
	switch op {
	case change.OpInsert, change.OpIgnore:
		rule, problem := rules.Checks(who, name, app.Insert)
		cond, problem := d.condition(t, rule, problem)
		if problem != nil {
			return p, problem
		}
		p.check = cond.f
	case change.OpMerge:
		rule, problem := rules.Checks(who, name, app.Insert)
		if problem = d.logged(t, rule, problem, &engine.Insert); problem != nil {
			return p, problem
		}
		fallthrough
	case change.OpUpdate:
		rule, problem := rules.Rows(who, name, app.Update)
		if problem = d.logged(t, rule, problem, &engine.Using); problem != nil {
			return p, problem
		}
		rule, problem = rules.Checks(who, name, app.Update)
		if problem = d.logged(t, rule, problem, &engine.Check); problem != nil {
			return p, problem
		}
	case change.OpDelete:
		rule, problem := rules.Rows(who, name, app.Delete)
		if problem = d.logged(t, rule, problem, &engine.Using); problem != nil {
			return p, problem
		}
	}
	if p.rules = engine.Append(nil); len(p.rules) > maxRules {
		return p, wire.NewProblem(wire.TooMany, fmt.Sprintf("the rules for this write take %d bytes, the limit is %d: the sets that they name have too many members", len(p.rules), maxRules)).
			WithHint("let the policy compare a column with a claim, or with a smaller set")
	}
	return p, p.columns(rules, who, t, op)
}

// logged puts what a rule asks of rows where the engine reads it.
func (d *Door) logged(t *table, rule *auth.Rule, problem *wire.Problem, to *[]byte) *wire.Problem {
	cond, problem := d.condition(t, rule, problem)
	if problem == nil {
		*to = cond.stored
	}
	return problem
}

// columns finds which columns may be named.
func (p *permit) columns(rules *auth.Rules, who auth.Principal, t *table, op change.Op) *wire.Problem {
	name := t.rel.Name
	switch op {
	case change.OpInsert, change.OpIgnore:
		p.give = rules.Columns(who, name, app.Insert)
	case change.OpUpdate:
		p.give, p.see = rules.Columns(who, name, app.Update), rules.Columns(who, name, app.Select)
	case change.OpDelete:
		p.see = rules.Columns(who, name, app.Select)
	case change.OpMerge:
		insert, update := rules.Columns(who, name, app.Insert), rules.Columns(who, name, app.Update)
		if insert == nil && update == nil {
			return nil
		}
		p.give = make([]bool, len(t.cols))
		for i := range p.give {
			p.give[i] = may(insert, i) && may(update, i)
		}
		for _, k := range t.rules.Table.PrimaryKey { // it says which row; it does not change
			p.give[k] = may(insert, k)
		}
	}
	return nil
}

// condition is a rule for one table and caller, in the forms that are used.
type condition struct {
	f      expr.Func
	stored []byte
}

// conditions keeps the conditions of rules that depend on no other rows. Safe for concurrent use.
type conditions struct {
	mu    sync.RWMutex
	of    map[conditionKey]*condition
	bytes int
}

type conditionKey struct {
	table *table // another one after each definition
	key   string
}

// forget drops all conditions.
func (c *conditions) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of, c.bytes = nil, 0
}

// condition returns what a rule asks of the rows of t now; nothing when there is no rule. It passes on why there is none.
func (d *Door) condition(t *table, rule *auth.Rule, problem *wire.Problem) (*condition, *wire.Problem) {
	if rule == nil || problem != nil {
		return &t.anything, problem
	}
	if len(rule.Members) > 0 {
		sets, problem := d.members(rule)
		if problem != nil {
			return nil, problem
		}
		return newCondition(t, rule.Cond(sets))
	}
	c, key := &d.conditions, conditionKey{t, rule.Key}
	c.mu.RLock()
	have := c.of[key]
	c.mu.RUnlock()
	if have != nil {
		return have, nil
	}
	made, problem := newCondition(t, rule.Cond(nil))
	if problem != nil {
		return nil, problem
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes += len(made.stored); c.of == nil || len(c.of) >= mostConditions || c.bytes > mostConditionBytes {
		c.of, c.bytes = map[conditionKey]*condition{}, len(made.stored)
	}
	c.of[key] = made
	return made, nil
}

func newCondition(t *table, n *expr.Node) (*condition, *wire.Problem) {
	f, err := expr.Compile(n, t.rules.Layout)
	if err != nil { // the rule is of another definition than the table
		return nil, busy("the app has just changed", 100*time.Millisecond)
	}
	return &condition{f, expr.AppendNode(nil, n)}, nil
}

// members returns the members of the sets that a rule names, as the views have them now.
func (d *Door) members(rule *auth.Rule) ([][]change.Value, *wire.Problem) {
	sets := make([][]change.Value, len(rule.Members))
	for i := range rule.Members {
		if d.opt.Members == nil {
			return nil, wire.NewProblem(wire.NotSupported, "rules that look up other rows are not evaluated here")
		}
		set, problem := d.opt.Members(&rule.Members[i])
		if problem != nil {
			return nil, problem
		}
		sets[i] = set
	}
	return sets, nil
}

// hintForbidden is what to do about a row that may not be written.
const hintForbidden = "the policies of the table in app.sql say which rows a caller may write"

// may reports whether column i may be named. While the app is changed the columns can be those of another definition than the table: what they lack may not.
func may(columns []bool, i int) bool { return columns == nil || i < len(columns) && columns[i] }

// allowed says why a row may not be inserted, nil when it may.
func (d *rowDecoder) allowed(row change.Row) *wire.Problem {
	if d.permit.check == nil {
		return nil
	}
	d.ctx.Reset()
	d.ctx.Row = row
	if v, err := d.permit.check(&d.ctx); err == nil && v.True() {
		return nil
	}
	return wire.NewProblem(wire.Forbidden, "the rules of "+d.t.rel.Name+" do not let this caller write the row").WithHint(hintForbidden)
}

// notGiven is the problem of a column that the caller may not give.
func (d *rowDecoder) notGiven(col int) *wire.Problem {
	return wire.NewProblem(wire.Forbidden, "this caller may not write the column "+d.t.cols[col].Name).WithField(d.t.cols[col].Name, "leave it out")
}

// refused reports whether a problem says that the caller may not.
func refused(p *wire.Problem) bool {
	return p != nil && (p.Code == wire.Forbidden || p.Code == wire.Unauthenticated)
}

// tell has a write that is refused for want of a right recorded, where the table asks for it.
func (d *Door) tell(who auth.Principal, table string, result *wire.WriteResult, problem *wire.Problem) {
	if d.opt.Refused == nil {
		return
	}
	if result != nil {
		for i := range result.Rejected {
			if refused(result.Rejected[i].Error) {
				problem = result.Rejected[i].Error
				break
			}
		}
	}
	if refused(problem) {
		d.opt.Refused(who, table)
	}
}
