package sql

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"laaster/internal/expr"
	"laaster/internal/flow"
)

// Semantics is the version of what programs mean. It is part of every view's hash: an engine that would compute other
// rows from the same text has another number, and rebuilds.
const Semantics = 2

// planPrinter writes a plan as an indented tree, inputs below what reads them.
type planPrinter struct {
	b        strings.Builder
	relation func(i int) string
}

func (p *planPrinter) line(depth int, format string, args ...any) {
	p.b.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(&p.b, format, args...)
	p.b.WriteByte('\n')
}

func (p *planPrinter) plan(plan flow.Plan, depth int) {
	for _, line := range strings.Split(strings.TrimSuffix(flow.PlanText(plan, p.relation), "\n"), "\n") {
		p.line(depth, "%s", line)
	}
}

// hash is of everything that decides a view's rows.
func (c *compiler) hash(r *relation) string {
	p := planPrinter{relation: func(i int) string { return c.rels[i].hash }}
	p.line(0, "semantics %d", Semantics)
	for _, col := range r.rel.Columns {
		p.line(0, "column %q %s", col.Name, col.Type)
	}
	p.line(0, "key %v %v %v", r.rel.Key, r.rel.Copies, r.rel.Numbered)
	p.plan(r.plan.Root, 0)
	sum := sha256.Sum256([]byte(p.b.String()))
	return hex.EncodeToString(sum[:16])
}

// Explain prints a program: its tables, and each view as a tree of operators. It is for people and for tests.
func Explain(p *flow.Program) string {
	pp := &planPrinter{relation: func(i int) string { return p.Relations[i].Name }}
	for _, r := range p.Relations {
		if r.Table != nil {
			pp.table(p, r.ID)
		}
	}
	for _, r := range p.Channels {
		pp.channel(r)
	}
	for _, v := range p.Views {
		r := p.Relations[v.Relation]
		pp.line(0, "view %s%s", r.Name, keyText(r))
		pp.columns(r.Columns)
		if len(r.Order) > 0 {
			pp.line(1, "order %s", flow.OrderText(r.Order, func(i int) string { return r.Columns[i].Name }))
		}
		pp.plan(v.Root, 1)
	}
	pp.access(p)
	return pp.b.String()
}

// ExplainView prints how one view is computed: its tree of operators, for each what state it keeps and what bounds that, and who sees which rows of it.
func ExplainView(p *flow.Program, name string) string {
	pp := &planPrinter{relation: func(i int) string { return p.Relations[i].Name }}
	for _, v := range p.Views {
		if r := p.Relations[v.Relation]; r.Name == name {
			pp.line(0, "view %s%s", r.Name, keyText(r))
			pp.explain(p, v.Root, 1)
			pp.policies(p, r)
		}
	}
	return pp.b.String()
}

// policies prints the policies of a relation as they were written.
func (p *planPrinter) policies(prog *flow.Program, r *expr.Relation) {
	if !r.Secured {
		return
	}
	p.line(1, "row level security")
	for _, x := range prog.Definition.Policies {
		if x.Relation != r.Name {
			continue
		}
		s := "policy " + x.Name + " for " + commandName(x.For) + " to " + strings.Join(x.Roles, ", ")
		if x.Using != "" {
			s += " using (" + oneLine(x.Using) + ")"
		}
		if x.Check != "" {
			s += " with check (" + oneLine(x.Check) + ")"
		}
		if x.Restrictive {
			s += ", restrictive"
		}
		p.line(2, "%s", s)
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (p *planPrinter) explain(prog *flow.Program, plan flow.Plan, depth int) {
	p.line(depth, "%s", flow.OperatorText(plan, p.relation))
	if s := keepsText(prog, plan); s != "" {
		p.line(depth, "  keeps %s", s)
	}
	for _, in := range plan.Inputs() {
		p.explain(prog, in, depth+1)
	}
}
