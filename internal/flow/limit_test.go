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

// limited is an app in which one view grows with every row, another reads it, a third shares its steps below, and a fourth is apart.
func limited(t *testing.T) *flow.Program {
	p := newProgram()
	in := p.table("t", nil, true, false, "v bigint", "w bigint")
	shared := &flow.Aggregate{In: in, Keys: []*expr.Node{call(t, "%", col(0), num(10)), col(1)}, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}}
	big := p.view("big", []int{0}, countBy(&flow.Project{In: in, Exprs: []*expr.Node{call(t, "+", col(0), call(t, "/", num(1), col(1)))}}, 0))
	p.view("reader", []int{}, &flow.Aggregate{In: big, Aggs: []flow.Agg{{Func: flow.Sum, Arg: col(1), Type: app.Numeric}}})
	p.view("small", []int{0, 1}, shared)
	p.view("apart", []int{}, &flow.Aggregate{In: shared, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}})
	return system(&p.p)
}

func limitedRows(t *testing.T, d *driver, from, to int) *change.Epoch {
	var recs []change.Record
	for i := from; i < to; i++ {
		recs = append(recs, change.Record{Row: row(t, change.NewLayout(int8s(2)), fmt.Sprintf("%d|%d", i, i%2))})
	}
	return d.apply(records(1, change.OpInsert, recs...))
}

func viewNamed(t *testing.T, e *flow.Engine, name string) flow.ViewStats {
	t.Helper()
	for _, v := range e.Stats().Views {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no view %s", name)
	return flow.ViewStats{}
}

// A view whose operator panics stops together with its readers, and so it does in every replay; the others go on.
func TestFault(t *testing.T) {
	d := newDriver(t, limited(t), flow.Options{})
	limitedRows(t, d, 0, 40)
	d.twin = nil // a checkpoint has no broken operators
	d.e.Break(0)
	epoch := limitedRows(t, d, 40, 400)
	stopped := d.e.Stopped()
	if len(stopped) != 2 || stopped[0].Relation != 1 || stopped[0].Reason != "fault: index out of range in broken" || stopped[1].Reason != "it reads big, which stopped" {
		t.Fatalf("stopped %+v", stopped)
	}
	if len(epoch.Stopped) != 2 || !strings.Contains(epoch.Stopped[0].Stack, "flow.broken.apply") {
		t.Errorf("the epoch says %+v", epoch.Stopped)
	}
	before := d.e.Stats().Views
	limitedRows(t, d, 400, 420)
	after := d.e.Stats().Views
	if before[0].Rows != after[0].Rows || len(before) < 3 || before[2].Rows == after[2].Rows && after[2].Stopped != "" {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// A view above its limit stops together with its readers; its rows stay, its state goes, and the others go on.
func TestViewBytes(t *testing.T) {
	p := limited(t)
	d := newDriver(t, p, flow.Options{MaxViewBytes: 4000})
	limitedRows(t, d, 0, 40)
	before := d.table(p.Errors)
	if len(d.e.Stopped()) != 0 || strings.Count(before, "big|") != 20 {
		t.Fatalf("stopped %+v, errors\n%s", d.e.Stopped(), before)
	}
	epoch := limitedRows(t, d, 40, 400)
	stopped := d.e.Stopped()
	if len(stopped) != 2 || stopped[0].Relation != 1 || stopped[0].Seq != 2 || !strings.HasSuffix(stopped[0].Reason, "bytes of state, the limit is 4000 (limits.view_state)") ||
		stopped[1].Relation != 2 || stopped[1].Reason != "it reads big, which stopped" {
		t.Fatalf("stopped %+v", stopped)
	}
	if len(epoch.Stopped) != 2 || epoch.Stopped[0] != (change.Stopped{Relation: 1, Reason: stopped[0].Reason}) || epoch.Stopped[1].Relation != 2 {
		t.Errorf("the epoch says %+v", epoch.Stopped)
	}
	if big := viewNamed(t, d.e, "big"); big.Bytes != 0 || len(big.Operators) != 0 || big.Rows != 200 || big.Stopped == "" {
		t.Errorf("%+v", big)
	}
	if got := d.table(p.Errors); strings.Contains(got, "big|") {
		t.Errorf("errors of a view that stopped:\n%s", got)
	}
	if got := strings.Count(d.table(1), "\n"); got != 200 || d.table(2) != "200\n" {
		t.Errorf("%d rows, sum %s", got, d.table(2))
	}
	epoch = limitedRows(t, d, 400, 500)
	if len(epoch.Stopped) != 0 || d.table(2) != "200\n" || !strings.Contains(d.table(3), "0|0|50\n") || d.table(4) != "10\n" {
		t.Errorf("after the stop: %s%s", d.table(3), d.table(4))
	}
	if d.e.Stats().Bytes > 4000 {
		t.Errorf("%d bytes are held", d.e.Stats().Bytes)
	}
}

// With too much in all, the largest view stops, then the next, until the rest has room.
func TestAllBytes(t *testing.T) {
	p := limited(t)
	d := newDriver(t, p, flow.Options{MaxBytes: 6000})
	for i := range 10 {
		limitedRows(t, d, 50*i, 50*i+50)
	}
	stopped := d.e.Stopped()
	if len(stopped) != 2 || stopped[0].Relation != 1 || !strings.Contains(stopped[0].Reason, "the largest view while there are") {
		t.Fatalf("stopped %+v", stopped)
	}
	again := newDriver(t, p, flow.Options{MaxBytes: 6000})
	for i := range 10 {
		limitedRows(t, again, 50*i, 50*i+50)
	}
	if !slices.Equal(stopped, again.e.Stopped()) || d.e.Fingerprint() != again.e.Fingerprint() {
		t.Errorf("a second run: %+v", again.e.Stopped())
	}
}

// A join that meets a key with too many rows stops its view before the batch; who shares the join stops too, who shares what is below
// goes on.
func TestJoinRows(t *testing.T) {
	p := newProgram()
	a := p.table("a", nil, true, false, "v bigint", "w bigint")
	b := p.table("b", nil, true, false, "w bigint")
	join := &flow.Join{Kind: flow.InnerJoin, L: a, R: b, LKeys: []*expr.Node{col(1)}, RKeys: []*expr.Node{col(0)}}
	p.view("pairs", []int{0}, countBy(join, 0))
	p.view("others", []int{0}, countBy(join, 1))
	p.view("apart", []int{0}, countBy(a, 1))
	d := newDriver(t, &p.p, flow.Options{MaxJoinRows: 30})
	d.apply(records(2, change.OpInsert, change.Record{Row: row(t, change.NewLayout(int8s(1)), "0")}, change.Record{Row: row(t, change.NewLayout(int8s(1)), "1")}))
	limitedRows(t, d, 0, 40)
	pairs := d.table(2)
	if strings.Count(pairs, "\n") != 40 || len(d.e.Stopped()) != 0 {
		t.Fatalf("stopped %+v, pairs\n%s", d.e.Stopped(), pairs)
	}
	epoch := limitedRows(t, d, 40, 80)
	if len(epoch.Stopped) != 2 || len(d.e.Stopped()) != 2 || !strings.Contains(epoch.Stopped[0].Reason, "(limits.join_rows)") {
		t.Fatalf("stopped %+v", epoch.Stopped)
	}
	for _, delta := range epoch.Deltas {
		if delta.Relation != 4 {
			t.Errorf("relation %d changed", delta.Relation)
		}
	}
	limitedRows(t, d, 80, 100)
	if d.table(2) != pairs || d.table(4) != "0|50\n1|50\n" {
		t.Errorf("pairs\n%s\napart\n%s", d.table(2), d.table(4))
	}
	if v := viewNamed(t, d.e, "apart"); len(v.Operators) != 2 || len(v.Operators[0].Views) != 1 {
		t.Errorf("%+v", v)
	}
}

// Of very many failing rows the newest are kept; each goes when its row does.
func TestErrorsKept(t *testing.T) {
	p := newProgram()
	in := p.table("t", []int{0}, false, true, "id bigint not null", "note text")
	p.view("v", []int{0}, &flow.Project{In: in, Exprs: []*expr.Node{call(t, "/", num(1), call(t, "%", col(0), num(2)))}})
	d := newDriver(t, system(&p.p), flow.Options{})
	l := change.NewLayout([]app.Type{app.Int8, app.Text})
	for i := range 5 {
		var recs []change.Record
		for j := range 500 {
			recs = append(recs, change.Record{Row: row(t, l, fmt.Sprintf("%d|%s", 2*(500*i+j), strings.Repeat("n", 10*(j%20))))})
		}
		d.apply(records(1, change.OpInsert, recs...))
	}
	errors := d.table(p.p.Errors)
	if got := strings.Count(errors, "division by zero"); got != 1000 || viewNamed(t, d.e, "v").Errors != 2500 {
		t.Fatalf("%d errors are kept of %d", got, viewNamed(t, d.e, "v").Errors)
	}
	if !strings.Contains(errors, `|{"id": 4002, "note": "nnnnnnnnnn"}|1|5|`) || strings.Contains(errors, `"id": 2998,`) {
		t.Errorf("errors:\n%.2000s", errors)
	}
	d.apply(records(1, change.OpDelete, change.Record{Filter: []byte("id=gte.10")}))
	if got := d.table(p.p.Errors); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
	if got := viewNamed(t, d.e, "v").Errors; got != 5 {
		t.Errorf("%d rows are missing", got)
	}
}

// A view that stopped stays so in the engine of the next program, unless it was built beside.
func TestTakeStopped(t *testing.T) {
	p := limited(t)
	opt := flow.Options{MaxViewBytes: 4000}
	d := newDriver(t, p, opt)
	limitedRows(t, d, 0, 400)
	stopped := d.e.Stopped()
	missing := flow.Missing(p, d.e)
	if len(stopped) != 2 || !slices.Equal(missing, []int{1, 2}) {
		t.Fatalf("stopped %+v, missing %v", stopped, missing)
	}
	e, err := flow.Take(p, d.e, nil)
	if err != nil || !slices.Equal(e.Stopped(), stopped) || e.Fingerprint() != d.e.Fingerprint() {
		t.Fatalf("%v: %+v", err, e.Stopped())
	}
	d.e = e
	if limitedRows(t, d, 400, 500); d.table(2) != "200\n" || d.table(4) != "10\n" {
		t.Errorf("got %s%s", d.table(2), d.table(4))
	}
	beside := newDriver(t, flow.Restrict(p, missing), flow.Options{})
	limitedRows(t, beside, 0, 400)
	limitedRows(t, beside, 400, 500)
	if e, err = flow.Take(p, d.e, beside.e); err != nil || len(e.Stopped()) != 0 || viewNamed(t, e, "reader").Stopped != "" {
		t.Errorf("%v: %+v", err, e.Stopped())
	}
}
