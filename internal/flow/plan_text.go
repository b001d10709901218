package flow

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"laaster/app"
	"laaster/internal/expr"
)

// PlanText writes a plan as an indented tree, inputs below what reads them, each line as [OperatorText] has it. relation names what a Scan
// reads. Two plans with one text compute the same rows when equal names stand for equal relations.
func PlanText(p Plan, relation func(i int) string) string {
	var b strings.Builder
	planText(&b, p, relation, 0)
	return b.String()
}

func planText(b *strings.Builder, p Plan, relation func(i int) string, depth int) {
	b.WriteString(strings.Repeat("  ", depth))
	b.WriteString(OperatorText(p, relation))
	b.WriteByte('\n')
	for _, in := range p.Inputs() {
		planText(b, in, relation, depth+1)
	}
}

// OperatorText writes one operator of a plan without its inputs, with everything that decides its rows.
func OperatorText(p Plan, relation func(i int) string) string {
	switch n := p.(type) {
	case *Scan:
		return "scan " + relation(n.Relation) + flag(n.OnTime, " on time")
	case *Values:
		rows := make([]string, len(n.Rows))
		for i, r := range n.Rows {
			rows[i] = "(" + joined(r) + ")"
		}
		return "values " + strings.Join(rows, ", ")
	case *Filter:
		return "filter " + n.Cond.String()
	case *Project:
		return "project " + joined(n.Exprs)
	case *Expand:
		return "expand " + joined(n.Arrays) + flag(n.Ordinality, " with ordinality") + flag(n.Outer, " (outer)")
	case *Window:
		return fmt.Sprintf("window $%d width %s slide %s offset %s keep %s%s%s", n.Time+1, micros(n.Width), micros(n.Slide), micros(n.Offset),
			columnList(n.Keep), where(n.Where), flag(n.Closes, " (closes)"))
	case *Session:
		return fmt.Sprintf("session $%d gap %s by %s keep %s%s%s", n.Time+1, micros(n.Gap), columnList(n.Partition), columnList(n.Keep), where(n.Where),
			flag(n.Closes, " (closes)"))
	case *Gate:
		return gateText(n, relation)
	case *Join:
		return joinText(n, relation)
	case *Union:
		return "union all"
	case *SetOp:
		return map[SetOpKind]string{Intersect: "intersect", Except: "except"}[n.Op] + flag(n.All, " all")
	case *Aggregate:
		return aggregateText(n, relation)
	case *TopN:
		return topNText(n, relation)
	case *Over:
		return overText(n, relation)
	}
	return fmt.Sprintf("%T", p)
}

func flag(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

func where(n *expr.Node) string {
	if n == nil {
		return ""
	}
	return " where " + n.String()
}

// micros writes microseconds as Go writes durations, as far as these reach.
func micros(n int64) string {
	if n > 1<<50 {
		return strconv.FormatInt(n, 10) + "us"
	}
	return (time.Duration(n) * time.Microsecond).String()
}

func columnList(cols []int) string {
	parts := make([]string, len(cols))
	for i, c := range cols {
		parts[i] = "$" + strconv.Itoa(c+1)
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

func tableList(tables []int, relation func(i int) string) string {
	parts := make([]string, len(tables))
	for i, t := range tables {
		parts[i] = relation(t)
	}
	return strings.Join(parts, ", ")
}

func closesText(b *Bound, relation func(i int) string) string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf(" (closes $%d%s by %s)", b.Col+1, flag(b.Ends, " end"), tableList(b.Tables, relation))
}

func joined[T fmt.Stringer](list []T) string {
	parts := make([]string, len(list))
	for i, x := range list {
		parts[i] = x.String()
	}
	return strings.Join(parts, ", ")
}

func gateText(n *Gate, relation func(i int) string) string {
	s := "while"
	if n.From != nil {
		s += " " + n.From.String() + " <="
	}
	if s += " now"; n.Tables != nil {
		s = strings.TrimSuffix(s, "now") + "watermark of " + tableList(n.Tables, relation)
	}
	if n.Until != nil {
		s += " < " + n.Until.String()
	}
	return s
}

func joinText(n *Join, relation func(i int) string) string {
	s := [...]string{"join", "left join", "right join", "full join", "semi join", "anti join", "lookup", "left lookup"}[n.Kind]
	for i := range n.LKeys {
		op := " = "
		if n.NullSafe != nil && n.NullSafe[i] {
			op = " is not distinct from "
		}
		s += flag(i > 0, " and") + flag(i == 0, " on") + " " + n.LKeys[i].String() + op + n.RKeys[i].String()
	}
	s += where(n.Cond)
	for i, f := range []*Free{n.FreeL, n.FreeR} {
		if f != nil {
			s += fmt.Sprintf(" (%s kept until %s%s by %s)", [...]string{"left", "right"}[i], f.Until, flag(f.OrAt, " reached"), tableList(f.Tables, relation))
		}
	}
	return s
}

func aggregateText(n *Aggregate, relation func(i int) string) string {
	var b strings.Builder
	if len(n.Aggs) == 0 {
		b.WriteString("distinct " + joined(n.Keys))
	} else {
		b.WriteString("aggregate")
		for i := range n.Aggs {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(" " + n.Aggs[i].String())
		}
		if len(n.Keys) > 0 {
			b.WriteString(" by " + joined(n.Keys))
		}
	}
	return b.String() + closesText(n.Closes, relation)
}

// String returns the name that SQL knows the function by.
func (f AggFunc) String() string {
	return [...]string{"", "count", "count", "sum", "avg", "min", "max", "bool_and", "bool_or", "array_agg", "string_agg", "jsonb_agg",
		"jsonb_object_agg", "percentile_cont", "percentile_disc", "mode", "approx_count_distinct", "stddev_samp", "stddev_pop", "var_samp",
		"var_pop", "bit_and", "bit_or", "bit_xor", "any_value", "only", "first"}[f]
}

// String prints an aggregate call; equal calls print alike.
func (g *Agg) String() string {
	arg := "*"
	if g.Arg != nil {
		arg = g.Arg.String()
	} else if g.Func != CountRows {
		arg = ""
	}
	if g.Distinct {
		arg = "distinct " + arg
	}
	if g.Arg2 != nil {
		arg += ", " + g.Arg2.String()
	}
	for i, k := range g.Sort {
		arg += flag(i == 0, " order by ") + flag(i > 0, ", ") + k.X.String() + direction(k.Desc, k.NullsFirst)
	}
	s := g.Func.String() + "(" + arg + ")"
	if g.Filter != nil {
		s += " filter (" + g.Filter.String() + ")"
	}
	return s
}

func direction(desc, nullsFirst bool) string {
	s := flag(desc, " desc")
	if nullsFirst != desc {
		s += map[bool]string{true: " nulls first", false: " nulls last"}[nullsFirst]
	}
	return s
}

// OrderText prints an ORDER BY over columns.
func OrderText(order []app.OrderBy, name func(int) string) string {
	parts := make([]string, len(order))
	for i, o := range order {
		parts[i] = name(o.Column) + direction(o.Desc, o.NullsFirst)
	}
	return strings.Join(parts, ", ")
}

func sortText(order []app.OrderBy) string {
	if len(order) == 0 {
		return ""
	}
	return " by " + OrderText(order, func(i int) string { return "$" + strconv.Itoa(i+1) })
}

func topNText(n *TopN, relation func(i int) string) string {
	s := "top"
	if n.Limit >= 0 {
		s += " " + strconv.FormatInt(n.Limit, 10)
	}
	if n.Offset > 0 {
		s += " after " + strconv.FormatInt(n.Offset, 10)
	}
	s += [...]string{"", " rank", " dense rank"}[n.Rank] + flag(n.Number, " numbered") + sortText(n.Sort)
	if len(n.Partition) > 0 {
		s += " for each " + columnList(n.Partition)
	}
	return s + closesText(n.Closes, relation)
}

func overText(n *Over, relation func(i int) string) string {
	calls := make([]string, len(n.Calls))
	for i := range n.Calls {
		calls[i] = n.Calls[i].String()
	}
	s := "over " + strings.Join(calls, ", ") + sortText(n.Sort)
	if len(n.Partition) > 0 {
		s += " for each " + columnList(n.Partition)
	}
	return s + closesText(n.Closes, relation)
}

// String prints a window function with its frame.
func (c *OverCall) String() string {
	f := &c.Frame
	s := c.Agg.String()
	if c.Func != OverAggregate {
		s = [...]string{"", "", "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value",
			"nth_value"}[c.Func] + "(" + joined(c.Args) + ")"
	}
	return s + " " + [...]string{"range", "rows", "groups"}[f.Mode] + " " + f.Lo.String() + " to " + f.Hi.String() +
		[...]string{"", " exclude current", " exclude group", " exclude ties"}[f.Exclude]
}

// String prints one end of a frame.
func (e FrameEnd) String() string {
	switch {
	case e.Unbounded && e.Preceding:
		return "start"
	case e.Unbounded:
		return "end"
	case e.By != nil:
		return flag(e.Preceding, "-") + e.By.String()
	}
	return strconv.FormatInt(e.Offset, 10)
}
