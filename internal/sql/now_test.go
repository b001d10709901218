package sql

import (
	"math/rand/v2"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/sql/syntax"
)

// TestGates holds the bounds that are made of conditions on now() against the conditions themselves, at many times.
func TestGates(t *testing.T) {
	conditions := []string{
		"at > now()", "at >= now()", "now() > at", "at <= now()", "at = now()", "NOT at > now()",
		"at > now() - interval '30 seconds'", "at + interval '1 month' >= now()", "now() + interval '1 day' < at", "interval '1 hour' + now() >= at",
		"now() - at < interval '1 hour'", "at - now() >= interval '-1 month'", "now() - at = interval '0'", "interval '2 days' > now() - at",
		"now() BETWEEN at AND at + interval '1 minute'", "at BETWEEN now() - interval '2 days' AND now()",
		"at >= date_trunc('day', now())", "at > date_trunc('hour', now())", "at < date_trunc('month', now())", "at <= date_trunc('week', now())", "at = date_trunc('minute', now())",
		"date_trunc('year', at) = date_trunc('year', now())", "date_trunc('quarter', now() - interval '1 day') < at", "date_trunc('day', now()) + interval '1 hour' <= at",
		"d = current_date", "d < current_date", "d >= current_date - 3", "at::date > current_date - 1", "current_date - d <= 2", "d - current_date = 1", "current_date + 1 > at",
		"l > localtimestamp", "l <= localtimestamp - interval '5 minutes'", "now()::timestamp >= l", "now() AT TIME ZONE 'utc' < l",
		"extract(epoch FROM now() - at) < 90.5", "extract(epoch FROM at - now()) > 0", "NOT (at < now() OR d > current_date)", "at > now() - interval '1 day' AND d <= current_date AND at < now()",
	}
	table := &app.Table{Name: "t", Columns: []app.Column{{Name: "at", Type: app.Timestamptz}, {Name: "d", Type: app.Date}, {Name: "l", Type: app.Timestamp}}}
	layout := change.ColumnLayout(table.Columns)
	r := rand.New(rand.NewPCG(1, 4))
	for _, text := range conditions {
		cond, from, until := boundsOf(t, text, table)
		want, lower, upper := compiled(t, cond, layout), compiled(t, from, layout), compiled(t, until, layout)
		passed := 0
		for range 4000 {
			at := moment(r)
			ctx := &expr.Ctx{Now: near(r, at)}
			ctx.Row = layout.Append(nil, []change.Value{change.Int(at), change.Int(floorDay(near(r, at))), change.Int(near(r, at))})
			w, err := want(ctx)
			if err != nil {
				t.Fatal(text, err)
			}
			got := within(t, lower, upper, ctx)
			if got != w.True() {
				t.Fatalf("%s: at %d now %d: the gate says %v\n from  %v\n until %v", text, at, ctx.Now, got, from, until)
			}
			if got {
				passed++
			}
		}
		if passed == 0 || passed == 4000 {
			t.Errorf("%s: %d of 4000 rows passed", text, passed)
		}
	}
}

func boundsOf(t *testing.T, text string, table *app.Table) (cond, from, until *expr.Node) {
	t.Helper()
	src := "SELECT 1 WHERE " + text
	list, errs := syntax.Parse(src)
	if len(errs) > 0 {
		t.Fatal(text, errs[0])
	}
	c := &compiler{file: "app.sql", src: src}
	b := &binder{c: c, clause: "WHERE", scope: tableScope(table), view: true}
	g := &gateBuilder{c: c}
	if !c.try(func() {
		cond = b.condition(list[0].(*syntax.Select).Where, "WHERE")
		g.condition(cond, false)
	}) {
		t.Fatal(Render(c.diags))
	}
	return cond, g.both(g.from, expr.Greatest), g.both(g.until, expr.Least)
}

func compiled(t *testing.T, n *expr.Node, in *change.Layout) expr.Func {
	if n == nil {
		return nil
	}
	f, err := expr.Compile(n, in)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func within(t *testing.T, lower, upper expr.Func, ctx *expr.Ctx) bool {
	for i, f := range []expr.Func{lower, upper} {
		if f == nil {
			continue
		}
		v, err := f(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if v.Null || i == 0 && v.N > ctx.Now || i == 1 && v.N <= ctx.Now {
			return false
		}
	}
	return true
}

// moment is some time, often at the edge of a unit.
func moment(r *rand.Rand) int64 {
	us := r.Int64N(3*365*dayMicros) + 19_000*dayMicros
	switch r.IntN(4) {
	case 0:
		us -= us % dayMicros
	case 1:
		us -= us % 3_600_000_000
	case 2:
		us -= us % 60_000_000
	}
	return us + r.Int64N(3) - 1
}

// near is a time at a distance of any order of magnitude, also none.
func near(r *rand.Rand, us int64) int64 {
	steps := []int64{0, 1, 30_000_000, 60_000_000, 90_500_000, 3_600_000_000, dayMicros, 2 * dayMicros, 30 * dayMicros, 365 * dayMicros}
	us += steps[r.IntN(len(steps))] * (r.Int64N(3) - 1)
	return us + r.Int64N(3) - 1
}

func floorDay(us int64) int64 { return us / dayMicros }
