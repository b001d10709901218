package sql

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"laaster/app"
	"laaster/internal/flow"
)

// Semantics is the version of what programs mean. It is part of every view's hash: an engine that would compute other
// rows from the same text has another number, and rebuilds.
const Semantics = 1

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
	switch n := plan.(type) {
	case *flow.Scan:
		p.line(depth, "scan %s", p.relation(n.Relation))
	case *flow.Filter:
		p.line(depth, "filter %s", n.Cond)
		p.plan(n.In, depth+1)
	case *flow.Project:
		p.line(depth, "project %s", joined(n.Exprs))
		p.plan(n.In, depth+1)
	case *flow.Aggregate:
		p.line(depth, "%s", aggregateText(n))
		p.plan(n.In, depth+1)
	case *flow.TopN:
		p.line(depth, "%s", topNText(n))
		p.plan(n.In, depth+1)
	default:
		p.line(depth, "%T", plan)
	}
}

func joined[T fmt.Stringer](list []T) string {
	parts := make([]string, len(list))
	for i, x := range list {
		parts[i] = x.String()
	}
	return strings.Join(parts, ", ")
}

func aggregateText(n *flow.Aggregate) string {
	var b strings.Builder
	if len(n.Aggs) == 0 {
		b.WriteString("distinct " + joined(n.Keys))
	} else {
		b.WriteString("aggregate")
		for i, g := range n.Aggs {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(" " + aggText(g))
		}
		if len(n.Keys) > 0 {
			b.WriteString(" by " + joined(n.Keys))
		}
	}
	if n.AppendOnly {
		b.WriteString(" (append-only)")
	}
	return b.String()
}

// aggText prints an aggregate call; equal calls print alike.
func aggText(g flow.Agg) string {
	names := [...]string{flow.CountRows: "count", flow.Count: "count", flow.Sum: "sum", flow.Avg: "avg", flow.Min: "min",
		flow.Max: "max", flow.BoolAnd: "bool_and", flow.BoolOr: "bool_or"}
	arg := "*"
	if g.Arg != nil {
		arg = g.Arg.String()
	}
	if g.Distinct {
		arg = "distinct " + arg
	}
	s := names[g.Func] + "(" + arg + ")"
	if g.Filter != nil {
		s += " filter (" + g.Filter.String() + ")"
	}
	return s
}

func topNText(n *flow.TopN) string {
	s := "top"
	if n.Limit >= 0 {
		s += " " + strconv.FormatInt(n.Limit, 10)
	}
	if n.Offset > 0 {
		s += " after " + strconv.FormatInt(n.Offset, 10)
	}
	if len(n.Sort) > 0 {
		s += " by " + orderText(n.Sort, func(i int) string { return "$" + strconv.Itoa(i+1) })
	}
	return s
}

func orderText(order []app.OrderBy, name func(int) string) string {
	parts := make([]string, len(order))
	for i, o := range order {
		parts[i] = name(o.Column)
		if o.Desc {
			parts[i] += " desc"
		}
		if o.NullsFirst != o.Desc {
			parts[i] += map[bool]string{true: " nulls first", false: " nulls last"}[o.NullsFirst]
		}
	}
	return strings.Join(parts, ", ")
}

// hash is of everything that decides a view's rows.
func (c *compiler) hash(r *relation) string {
	p := planPrinter{relation: func(i int) string { return c.rels[i].hash }}
	p.line(0, "semantics %d", Semantics)
	for _, col := range r.rel.Columns {
		p.line(0, "column %q %s", col.Name, col.Type)
	}
	p.line(0, "key %v %v", r.rel.Key, r.rel.Copies)
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
	for _, v := range p.Views {
		r := p.Relations[v.Relation]
		pp.line(0, "view %s%s", r.Name, keyText(r))
		pp.columns(r.Columns)
		if len(r.Order) > 0 {
			pp.line(1, "order %s", orderText(r.Order, func(i int) string { return r.Columns[i].Name }))
		}
		pp.plan(v.Root, 1)
	}
	for _, g := range p.Definition.Grants {
		pp.line(0, "grant %s on %s to %s", privilegeNames(g.Allow), g.Relation, g.Role)
	}
	return pp.b.String()
}
