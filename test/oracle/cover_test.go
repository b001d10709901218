package oracle

import (
	"fmt"
	"strings"
	"testing"

	"laaster/internal/flow"
)

// walk calls f for a plan and everything below.
func walk(p flow.Plan, f func(p flow.Plan)) {
	f(p)
	for _, in := range p.Inputs() {
		walk(in, f)
	}
}

// planForms are the operators of a plan and what they come with, as countPlan counts them.
func planForms() []string {
	out := []string{"scan", "scan on time", "values", "filter", "project", "expand", "expand with ordinality", "outer expand", "tumble", "hop", "window that closes",
		"session", "session by partition", "session that closes", "gate by now", "gate by watermark", "inner join", "left join", "full join", "semi join",
		"anti join", "join without keys", "join with a condition", "null-safe join", "join that frees", "union", "intersect", "intersect all", "except", "except all",
		"aggregate without keys", "aggregate that closes", "distinct aggregate", "aggregate with a filter", "aggregate with an order", "distinct rows", "top by row_number", "top by rank", "top by dense_rank",
		"top with numbers", "top with an offset", "top by partition", "over by partition", "frame of range", "frame of rows", "frame of groups", "frame with an exclusion", "frame by offset in range"}
	for f := flow.CountRows; f <= flow.Only; f++ {
		out = append(out, "aggregate "+f.String())
	}
	for _, f := range overNames() {
		out = append(out, "over "+f)
	}
	for i := range out {
		out[i] = "plan: " + out[i]
	}
	return out
}

func overNames() []string {
	return []string{"", "aggregate", "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value", "nth_value"}[1:]
}

// countPlan counts an operator and what it comes with.
func countPlan(cover map[string]int, p flow.Plan) {
	see := func(what string, is bool) {
		if is {
			cover["plan: "+what]++
		}
	}
	switch p := p.(type) {
	case *flow.Scan:
		see("scan", true)
		see("scan on time", p.OnTime)
	case *flow.Values:
		see("values", true)
	case *flow.Filter:
		see("filter", true)
	case *flow.Project:
		see("project", true)
	case *flow.Expand:
		see("expand", true)
		see("expand with ordinality", p.Ordinality)
		see("outer expand", p.Outer)
	case *flow.Window:
		see("tumble", p.Slide == p.Width)
		see("hop", p.Slide != p.Width)
		see("window that closes", p.Closes)
	case *flow.Session:
		see("session", true)
		see("session by partition", len(p.Partition) > 0)
		see("session that closes", p.Closes)
	case *flow.Gate:
		see("gate by now", p.Tables == nil)
		see("gate by watermark", p.Tables != nil)
	case *flow.Union:
		see("union", true)
	case *flow.SetOp:
		see([]string{"intersect", "except"}[p.Op]+map[bool]string{true: " all"}[p.All], true)
	case *flow.Join:
		see([]string{"inner", "left", "right", "full", "semi", "anti"}[p.Kind]+" join", true)
		see("join without keys", len(p.LKeys) == 0)
		see("join with a condition", p.Cond != nil)
		see("join that frees", p.FreeL != nil || p.FreeR != nil)
		for _, n := range p.NullSafe {
			see("null-safe join", n)
		}
	case *flow.Aggregate:
		see("aggregate without keys", len(p.Keys) == 0)
		see("aggregate that closes", p.Closes != nil)
		see("distinct rows", len(p.Aggs) == 0)
		for i := range p.Aggs {
			a := &p.Aggs[i]
			see("aggregate "+a.Func.String(), true)
			see("distinct aggregate", a.Distinct)
			see("aggregate with a filter", a.Filter != nil)
			see("aggregate with an order", len(a.Sort) > 0)
		}
	case *flow.TopN:
		see("top by "+[]string{"row_number", "rank", "dense_rank"}[p.Rank], true)
		see("top with numbers", p.Number)
		see("top with an offset", p.Offset > 0)
		see("top by partition", len(p.Partition) > 0)
	case *flow.Over:
		see("over by partition", len(p.Partition) > 0)
		for i := range p.Calls {
			c := &p.Calls[i]
			see("over "+overNames()[c.Func-1], true)
			see("frame of "+[]string{"range", "rows", "groups"}[c.Frame.Mode], c.Func == flow.OverAggregate || c.Func >= flow.OverFirstValue)
			see("frame with an exclusion", c.Frame.Exclude != flow.ExcludeNone)
			see("frame by offset in range", c.Frame.Lo.By != nil || c.Frame.Hi.By != nil)
		}
	}
}

// wanted lists what every run must reach.
func wanted() []string {
	out := planForms()
	for k := integer; k < kinds; k++ {
		for _, f := range forms(k) {
			name, _, _ := strings.Cut(f, "\t")
			out = append(out, name)
		}
	}
	return append(out, "keyed table", "append-only table", "keyed table with ttl", "append-only table with ttl", "NaN, infinity and large numbers", "late rows",
		"time ahead of the log", "pause", "duplicate row", "update by a filter", "several rows by a filter", "rows by a filter on NULL", "all rows by a filter",
		"hand over", "restart", "emit final", "view on a view", "diamond", "with", "values", "unnest", "generate_series", "outer unnest", "with ordinality", "with ties", "limit", "offset",
		"distinct", "distinct on", "where", "now()", "having", "grouping sets", "group by expression", "case", "coalesce", "scalar sub-query", "correlated scalar",
		"in (query)", "not in (query)", "exists", "not exists", "exists or something", "comparison with a sub-query", "correlated sub-query", "lateral aggregate",
		"lateral top-n", "interval join", "join", "left join", "right join", "full join", "cross join", "join with a residual", "union all", "union", "intersect", "except")
}

// report checks that the generator reached everything and says what was refused.
func report(t *testing.T, played int, cover, refused map[string]int) {
	t.Helper()
	for _, m := range byCount(refused) {
		t.Logf("refused %4d: %s", refused[m], m)
	}
	if testing.Verbose() {
		for _, k := range byCount(cover) {
			t.Logf("reached %5d: %s", cover[k], k)
		}
	}
	if cover["PostgreSQL fails"]+cover["rows that fail"] > 2*played {
		t.Errorf("%d comparisons left out because PostgreSQL fails and %d because rows fail, in %d cases", cover["PostgreSQL fails"], cover["rows that fail"], played)
	}
	if played < 400 {
		return
	}
	least := 1 + played/500
	var missed []string
	for _, w := range wanted() {
		if cover[w] < least {
			missed = append(missed, fmt.Sprintf("%s (%d)", w, cover[w]))
		}
	}
	if len(missed) > 0 {
		t.Errorf("reached less than %d times in %d cases: %s", least, played, strings.Join(missed, ", "))
	}
}
