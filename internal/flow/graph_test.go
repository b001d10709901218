package flow_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

func int8s(n int) (types []app.Type) {
	for range n {
		types = append(types, app.Int8)
	}
	return types
}

// countBy groups by one column and counts.
func countBy(in flow.Plan, col int) *flow.Aggregate {
	return &flow.Aggregate{In: in, Keys: []*expr.Node{expr.Column(col, in.Columns()[col], -1)}, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}}
}

// call is a call of a function or an operator on bound arguments.
func call(t testing.TB, name string, args ...*expr.Node) *expr.Node {
	t.Helper()
	var n *expr.Node
	var err error
	if strings.ContainsAny(name, "+-*/%<>=") {
		n, err = expr.Operator(name, args, -1)
	} else {
		n, err = expr.Call(name, args, -1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func col(i int) *expr.Node { return expr.Column(i, app.Int8, -1) }

func num(n int64) *expr.Node { return expr.Const(app.Int8, change.Int(n), -1) }

// Two views that group the same join of the same filter share everything up to the join, and it is computed once.
func TestSharing(t *testing.T) {
	p := newProgram()
	a := p.table("a", nil, true, false, "id bigint", "v bigint")
	b := p.table("b", nil, true, false, "id bigint", "w bigint")
	join := func() flow.Plan { // two plans of the same text
		return &flow.Join{Kind: flow.InnerJoin, L: &flow.Filter{In: a, Cond: call(t, ">", col(1), num(0))}, R: b,
			LKeys: []*expr.Node{col(0)}, RKeys: []*expr.Node{col(0)}}
	}
	p.view("by_v", []int{0}, countBy(join(), 1))
	p.view("by_w", []int{0}, countBy(join(), 3))
	p.view("alone", []int{0}, countBy(b, 1))
	d := newDriver(t, &p.p, flow.Options{})
	l := change.NewLayout(int8s(2))
	write := func(table *flow.Scan, rows ...string) {
		var recs []change.Record
		for _, r := range rows {
			recs = append(recs, change.Record{Row: row(t, l, r)})
		}
		d.apply(records(uint32(table.Relation+1), change.OpInsert, recs...))
	}
	write(a, "1|10", "2|20", "3|-1")
	write(b, "1|7", "1|8", "2|7")
	if got := d.table(2) + d.table(3) + d.table(4); got != "10|2\n20|1\n7|2\n8|1\n7|2\n8|1\n" {
		t.Errorf("got\n%s", got)
	}
	steps := map[string]string{}
	for _, v := range d.e.Stats().Views {
		for _, o := range v.Operators {
			key := flow.PlanText(o.Plan, func(i int) string { return p.p.Relations[i].Name })
			what := fmt.Sprintf("%d in, %d out, views %v", o.In, o.Out, o.Views)
			if old, ok := steps[key]; ok && old != what {
				t.Errorf("%s: %s and %s", key, old, what)
			}
			steps[key] = what
		}
	}
	want := map[string]string{
		"scan a\n": "0 in, 3 out, views [2 3]",
		"scan b\n": "0 in, 3 out, views [2 3 4]",
	}
	for k, w := range want {
		if steps[k] != w {
			t.Errorf("%s: %s, want %s", k, steps[k], w)
		}
	}
	if len(steps) != 7 {
		t.Errorf("%d steps: %v", len(steps), steps)
	}
	for k, s := range steps {
		if strings.HasPrefix(k, "join") && s != "5 in, 3 out, views [2 3]" {
			t.Errorf("%s: %s", k, s)
		}
	}
}

// A batch runs only what it concerns: the clock is read once per step that ran and once per view that it reached.
func TestIdleSteps(t *testing.T) {
	p := newProgram()
	var tables []*flow.Scan
	for i := range 100 {
		s := p.table(fmt.Sprintf("t%d", i), nil, true, false, "id bigint")
		tables = append(tables, s)
	}
	for i, s := range tables {
		p.view(fmt.Sprintf("v%d", i), []int{0}, countBy(s, 0))
	}
	reads, now := 0, int64(0)
	d := newDriver(t, &p.p, flow.Options{Clock: func() int64 { reads++; now += 10; return now }})
	l := change.NewLayout(int8s(1))
	d.apply()
	for range 3 {
		reads = 0
		d.apply(records(uint32(tables[70].Relation+1), change.OpInsert, change.Record{Row: row(t, l, "1")}))
		if reads > 6 {
			t.Errorf("the clock was read %d times for a scan, an aggregate and a view", reads)
		}
	}
	if o := d.e.Stats().Views[70].Operators[1]; o.Nanos < 30 {
		t.Errorf("%d ns were spent in %s", o.Nanos, o.Name)
	}
	if o := d.e.Stats().Views[71].Operators[1]; o.Nanos > 10 { // its first batch alone
		t.Errorf("%d ns were spent in %s", o.Nanos, o.Name)
	}
}

// Values are there from the first batch on, whatever it brings, and once.
func TestValues(t *testing.T) {
	p := newProgram()
	in := p.table("t", nil, true, false, "id bigint")
	v := &flow.Values{Rows: [][]*expr.Node{{num(1), call(t, "/", num(6), num(2))}, {num(2), call(t, "/", num(6), num(0))}, {num(3), num(4)}}, Types: int8s(2)}
	scan := p.view("v", []int{0}, v)
	p.view("n", []int{}, &flow.Aggregate{In: scan, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}})
	p.view("u", nil, &flow.Union{Ins: []flow.Plan{&flow.Project{In: v, Exprs: []*expr.Node{col(1)}}, in}})
	d := newDriver(t, system(&p.p), flow.Options{})
	d.apply()
	if got := d.table(1) + d.table(2) + d.table(3); got != "1|3\n3|4\n2\n3|1\n4|1\n" {
		t.Errorf("got\n%s", got)
	}
	if got := d.table(p.p.Errors); strings.Count(got, "division by zero") != 2 { // of v and of u, which share the step
		t.Errorf("errors:\n%s", got)
	}
	if e := d.apply(records(1, change.OpInsert, change.Record{Row: row(t, change.NewLayout(int8s(1)), "4")})); len(e.Deltas) != 1 || len(e.Deltas[0].Changes) != 1 {
		t.Errorf("the second batch changed %+v", e.Deltas)
	}
}

// Expand goes through arrays side by side.
func TestExpand(t *testing.T) {
	array := func(cells ...string) *expr.Node {
		var vals []change.Value
		for _, c := range cells {
			v := change.Null()
			if c != "NULL" {
				v = change.Bytes([]byte(c))
			}
			vals = append(vals, v)
		}
		return expr.Const(app.Array(app.Text), change.Bytes(change.AppendArray(nil, app.Text, vals)), -1)
	}
	none := expr.Const(app.Array(app.Text), change.Null(), -1)
	for _, c := range []struct {
		name   string
		expand flow.Expand
		want   string
	}{
		{"one", flow.Expand{Arrays: []*expr.Node{array("a", "NULL", "c")}}, "7|NULL|1\n7|a|1\n7|c|1\n"},
		{"two", flow.Expand{Arrays: []*expr.Node{array("a", "b", "c"), array("x")}, Ordinality: true}, "7|a|x|1|1\n7|b|NULL|2|1\n7|c|NULL|3|1\n"},
		{"twice", flow.Expand{Arrays: []*expr.Node{array("a", "a")}}, "7|a|1\n7|a|2\n"},
		{"empty", flow.Expand{Arrays: []*expr.Node{array(), none}}, ""},
		{"outer", flow.Expand{Arrays: []*expr.Node{array(), none}, Ordinality: true, Outer: true}, "7|NULL|NULL|NULL|1\n"},
		{"outer with elements", flow.Expand{Arrays: []*expr.Node{none, array("z")}, Outer: true}, "7|NULL|z|1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProgram()
			c.expand.In = p.table("t", []int{0}, false, true, "id bigint not null")
			p.view("v", nil, &c.expand)
			d := newDriver(t, &p.p, flow.Options{})
			l := change.NewLayout(int8s(1))
			d.apply(records(1, change.OpInsert, change.Record{Row: row(t, l, "7")}))
			if got := sorted(d.table(1)); got != c.want {
				t.Errorf("got\n%s", got)
			}
			d.apply(records(1, change.OpDelete, change.Record{Filter: []byte("id=eq.7")}))
			if got := d.table(1); got != "" {
				t.Errorf("left behind\n%s", got)
			}
		})
	}
}

// Rows of an append-only pipeline are numbered as they come, wherever batches are cut, and their view keeps no rows.
func TestNumbered(t *testing.T) {
	p := newProgram()
	in := p.table("t", nil, true, false, "v bigint")
	numbered := func(name string, plan flow.Plan) *expr.Relation {
		s := p.view(name, nil, plan)
		r := p.p.Relations[s.Relation]
		r.Key, r.Numbered = []int{len(r.Columns) - 1}, true
		return r
	}
	numbered("v", &flow.Filter{In: in, Cond: call(t, "<>", col(0), num(0))})
	p.view("n", []int{}, &flow.Aggregate{In: &flow.Scan{Relation: 1, Types: int8s(1)}, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}})
	l := change.NewLayout(int8s(1))
	run := func(cut int) (*driver, [16]byte) {
		d := newDriver(t, &p.p, flow.Options{})
		for at := 0; at < 12; at += cut {
			var recs []change.Record
			for i := at; i < at+cut; i++ {
				recs = append(recs, change.Record{Row: row(t, l, fmt.Sprint((12-i)%4))})
			}
			d.applyAt(5, records(1, change.OpInsert, recs...))
		}
		return d, d.e.Fingerprint()
	}
	one, want := run(12)
	if got := one.table(1); got != "3|1\n2|2\n1|3\n3|4\n2|5\n1|6\n3|7\n2|8\n1|9\n" || one.table(2) != "9\n" {
		t.Errorf("got\n%s%s", got, one.table(2))
	}
	if v := one.e.Stats().Views[0]; v.Bytes != 0 || v.Rows != 9 {
		t.Errorf("%+v", v)
	}
	for _, cut := range []int{1, 2, 3, 4, 6} {
		if _, got := run(cut); got != want {
			t.Errorf("batches of %d give another state", cut)
		}
	}
	numbered("w", &flow.Union{Ins: []flow.Plan{in, in}})
	if _, err := flow.New(&p.p, flow.Options{}); err == nil || !strings.Contains(err.Error(), "no order of arrival") {
		t.Error(err)
	}
}

// sorted puts lines in order.
func sorted(lines string) string {
	list := strings.SplitAfter(lines, "\n")
	slices.Sort(list)
	return strings.Join(list, "")
}
