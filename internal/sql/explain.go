package sql

import (
	"strings"

	"laaster/internal/flow"
)

// keepsText says what state an operator keeps and what bounds it; "" when it keeps none.
func keepsText(p *flow.Program, plan flow.Plan) string {
	switch x := plan.(type) {
	case *flow.Join:
		return joinKeeps(p, x)
	case *flow.Aggregate:
		what := "a group for each combination of its keys"
		switch {
		case len(x.Keys) == 0:
			what = "one group"
		case len(x.Aggs) == 0:
			what = "a count for each distinct row"
		}
		return what + closedText(x.Closes, p)
	case *flow.TopN:
		return topKeeps(p, x)
	case *flow.Over:
		return "every row of each partition in order" + closedText(x.Closes, p)
	case *flow.SetOp:
		return "two counts for each distinct row"
	case *flow.Session:
		return "the rows of each session" + map[bool]string{true: ", until the watermark has passed its end", false: ", for ever"}[x.Closes]
	case *flow.Gate:
		switch {
		case x.Tables != nil:
			return "the rows whose window is open, until the watermark has passed its end"
		case x.From != nil && x.Until != nil:
			return "the rows that are to come or to leave, until they left"
		case x.Until != nil:
			return "the rows that are to leave, until they left"
		}
		return "the rows that are to come, until they came"
	}
	return ""
}

func closedText(b *flow.Bound, p *flow.Program) string {
	if b == nil {
		return ""
	}
	return ", until the watermark of " + tableNames(b.Tables, p) + " has passed it"
}

func tableNames(tables []int, p *flow.Program) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = p.Relations[t].Name
	}
	return strings.Join(names, ", ")
}

func topKeeps(p *flow.Program, x *flow.TopN) string {
	rows := "every row in order"
	if len(x.Partition) > 0 {
		rows = "every row of each partition in order"
	}
	if x.Limit >= 0 && appendsOnly(p, x.In) {
		rows = "the rows that it shows"
		if len(x.Partition) > 0 {
			rows += " of each partition"
		}
	}
	return rows + closedText(x.Closes, p)
}

// appendsOnly reports whether a plan never takes a row back.
func appendsOnly(p *flow.Program, plan flow.Plan) bool {
	switch x := plan.(type) {
	case *flow.Scan:
		r := p.Relations[x.Relation]
		if r.Table != nil {
			return !r.Table.Table.Keyed() && r.Table.TTL == 0
		}
		for _, v := range p.Views {
			if v.Relation == x.Relation {
				return appendsOnly(p, v.Root)
			}
		}
		return false
	case *flow.Values:
		return true
	case *flow.Filter, *flow.Project, *flow.Expand, *flow.Window, *flow.Union:
	case *flow.Gate:
		if x.Until != nil {
			return false
		}
	case *flow.Join:
		if isLookup(x.Kind) {
			return appendsOnly(p, x.L)
		}
		if x.Kind != flow.InnerJoin && x.Kind != flow.SemiJoin {
			return false
		}
	case *flow.Aggregate:
		if len(x.Aggs) > 0 || len(x.Keys) == 0 {
			return false
		}
	case *flow.SetOp:
		if x.Op != flow.Intersect {
			return false
		}
	default:
		return false
	}
	for _, in := range plan.Inputs() {
		if !appendsOnly(p, in) {
			return false
		}
	}
	return true
}

// joinKeeps says for each side of a join what it keeps.
func joinKeeps(p *flow.Program, x *flow.Join) string {
	side := func(own, other flow.Plan, f *flow.Free, name string) string {
		switch {
		case constantPlan(other):
			return ""
		case f != nil:
			return name + ", each until the watermark of " + tableNames(f.Tables, p) + " has passed " + f.Until.String()
		case appendsOnly(p, own):
			return name + ", for ever"
		}
		return name + ", while they are there"
	}
	if isLookup(x.Kind) {
		return side(x.R, x.L, x.FreeR, "the right rows")
	}
	var parts []string
	if s := side(x.L, x.R, x.FreeL, "the left rows"); s != "" {
		parts = append(parts, s)
	}
	right := "the right rows"
	if !keepsRight(x) {
		right = "a count of the right rows of each key"
	}
	if s := side(x.R, x.L, x.FreeR, right); s != "" {
		parts = append(parts, s)
	}
	return strings.Join(parts, "; ")
}
