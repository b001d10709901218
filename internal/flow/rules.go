package flow

import (
	"fmt"

	"laaster/internal/change"
	"laaster/internal/expr"
)

const codeForbidden = "forbidden"

// mostRules is how many rules of entries an engine keeps compiled; beyond it all are compiled anew.
const mostRules = 1024

// mostRuleBytes bounds them as the log has them.
const mostRuleBytes = 16 << 20

// entryRules is what the rules of access ask of the rows of an entry, compiled. The zero value lets every row pass.
type entryRules struct {
	using         *expr.Filter // nil: every row
	check, insert expr.Func
}

// rulesKey is what compiled rules are kept under.
type rulesKey struct {
	table uint32
	text  string
}

// ruleCache has compiled rules. Nothing depends on what is in it.
type ruleCache struct {
	byText map[rulesKey]*entryRules
	bytes  int
}

// rulesOf returns the rules of an entry. An error means that the log cannot be read.
func (e *Engine) rulesOf(t *tableState, en *change.Entry) (*entryRules, error) {
	if len(en.Rules) == 0 {
		return &e.noRules, nil
	}
	c := &e.rules
	if r := c.byText[rulesKey{en.Table, string(en.Rules)}]; r != nil {
		return r, nil
	}
	r, err := compileRules(t, en.Rules)
	if err != nil {
		return nil, err
	}
	if c.bytes += len(en.Rules); c.byText == nil || len(c.byText) >= mostRules || c.bytes > mostRuleBytes {
		c.byText, c.bytes = map[rulesKey]*entryRules{}, len(en.Rules)
	}
	c.byText[rulesKey{en.Table, string(en.Rules)}] = r
	return r, nil
}

func compileRules(t *tableState, b []byte) (*entryRules, error) {
	read, err := change.ReadRules(b)
	if err != nil {
		return nil, err
	}
	r := &entryRules{}
	using, err := readRule(t, read.Using)
	if err != nil {
		return nil, err
	}
	if using != nil {
		f, err := expr.ParseFilter(t.rel, "")
		if err != nil {
			return nil, err
		}
		r.using = f.And(using)
	}
	for _, c := range []struct {
		b  []byte
		to *expr.Func
	}{{read.Check, &r.check}, {read.Insert, &r.insert}} {
		n, err := readRule(t, c.b)
		if err != nil {
			return nil, err
		}
		if n == nil {
			continue
		}
		if *c.to, err = expr.Compile(n, t.rules.Layout); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// readRule reads one condition over the table's columns; nil when there is none.
func readRule(t *tableState, b []byte) (*expr.Node, error) {
	if len(b) == 0 {
		return nil, nil
	}
	n, err := expr.ReadNode(b)
	if err != nil {
		return nil, err
	}
	if _, err := expr.Compile(n, t.rules.Layout); err != nil { // And takes what does not compile for false
		return nil, fmt.Errorf("a rule over %s: %w", t.rel.Name, err)
	}
	return n, nil
}

// sees reports whether a row that is there is one that the write may touch. A rule that fails on a row does not let it through.
func (r *entryRules) sees(x *exec, row change.Row) bool {
	if r.using == nil {
		return true
	}
	x.ctx.Reset()
	x.ctx.Row = row
	ok, err := r.using.Match(&x.ctx)
	return ok && err == nil
}

// holds reports whether a condition holds for a row; nil holds for all.
func holds(x *exec, f expr.Func, row change.Row) bool {
	if f == nil {
		return true
	}
	x.ctx.Reset()
	x.ctx.Row = row
	v, err := f(&x.ctx)
	return err == nil && v.True()
}

func notAllowed(what, table string) *change.Reject {
	return &change.Reject{Code: codeForbidden, Detail: what + " that the rules of " + table + " do not let this caller write"}
}
