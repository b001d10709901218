package flow_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// lateApp has a table with event times in microseconds, a table beside it, and views that leave late rows out: two that share the scan,
// one that has the windows assigned on time.
func lateApp(t *testing.T, views ...string) *flow.Program {
	p := newProgram()
	in := p.table("events", nil, true, false, "at timestamptz not null", "v bigint")
	other := p.table("others", nil, true, false, "at timestamptz not null", "v bigint")
	for _, s := range []*flow.Scan{in, other} {
		r := p.p.Relations[s.Relation].Table
		r.EventTime, r.Lateness = 0, 10
	}
	scan := func(s *flow.Scan) *flow.Scan { return &flow.Scan{Relation: s.Relation, Types: s.Types, OnTime: true} }
	plans := map[string]flow.Plan{
		"counts": countBy(scan(in), 1),
		"sums": &flow.Aggregate{In: scan(in), Keys: []*expr.Node{expr.Column(0, app.Timestamptz, -1)},
			Aggs: []flow.Agg{{Func: flow.Sum, Arg: col(1), Type: app.Numeric}}},
		"windows": countBy(&flow.Window{In: in, Keep: []int{1}, Time: 0, Width: 20, Slide: 20, Closes: true}, 2),
		"both":    countBy(&flow.Union{Ins: []flow.Plan{scan(other), scan(in)}}, 1),
	}
	for _, v := range views {
		p.view(v, []int{0}, plans[v])
	}
	return system(&p.p)
}

// lateBatches are rows of both tables, of which some come too late, one per entry.
func lateBatches(t *testing.T) (entries []change.Entry) {
	l := change.NewLayout([]app.Type{app.Timestamptz, app.Int8})
	for i, at := range []int{100, 105, 94, 96, 120, 109, 110, 70, 90, 300, 10, 295, 12} {
		r := l.Append(nil, []change.Value{change.Int(int64(at)), change.Int(int64(i % 3))})
		for _, table := range []uint32{1, 2} {
			if table == 1 || i%2 == 0 {
				entries = append(entries, records(table, change.OpInsert, change.Record{Row: r}))
			}
		}
	}
	return entries
}

// Late rows are in laaster.late once for each view that misses them, under a number of their table, wherever batches are cut.
func TestLate(t *testing.T) {
	p := lateApp(t, "counts", "sums", "windows", "both")
	var want string
	for _, cut := range []int{1, 2, 3, 100} {
		d := newDriver(t, p, flow.Options{})
		all := lateBatches(t)
		for i := 0; i < len(all); i += cut {
			d.applyAt(1000, all[i:min(i+cut, len(all))]...)
		}
		got := d.table(p.Late)
		for _, s := range []string{`1|counts|events|`, `{"v": 2, "at": "1970-01-01T00:00:00.000094Z"}`} {
			if !strings.Contains(got, s) {
				t.Errorf("no %s in\n%s", s, got)
			}
		}
		got = withoutSequence(got)
		if want == "" {
			want = got
		} else if got != want {
			t.Errorf("batches of %d entries\n%s\nwant\n%s", cut, got, want)
		}
		for name, n := range map[string]int{"counts": 6, "sums": 6, "windows": 4, "both": 9} {
			if v := viewNamed(t, d.e, name); int(v.Late) != n || strings.Count(got, "|"+name+"|") != n {
				t.Errorf("%d rows were late for %s\n%s", v.Late, name, got)
			}
		}
		if s := d.e.Stats(); s.Tables[0].Late != 6 || s.Tables[1].Late != 3 {
			t.Errorf("late rows of tables: %d and %d", s.Tables[0].Late, s.Tables[1].Late)
		}
	}
}

// withoutSequence drops the fourth cell of every line.
func withoutSequence(lines string) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		cells := strings.Split(line, "|")
		cells[3] = "#"
		b.WriteString(strings.Join(cells, "|"))
	}
	return b.String()
}

// The newest thousand late rows of a view are kept.
func TestLateKept(t *testing.T) {
	p := lateApp(t, "counts")
	d := newDriver(t, p, flow.Options{})
	l := change.NewLayout([]app.Type{app.Timestamptz, app.Int8})
	write := func(n, from, at int) {
		var recs []change.Record
		for i := range n {
			recs = append(recs, change.Record{Row: l.Append(nil, []change.Value{change.Int(int64(at)), change.Int(int64(from + i))})})
		}
		d.applyAt(10_000, records(1, change.OpInsert, recs...))
	}
	write(1, 0, 5000)
	for i := range 5 {
		write(700, 700*i, 10)
	}
	write(2500, 3500, 10)
	rows := d.table(p.Late)
	if n := strings.Count(rows, "\n"); n != 1000 || !strings.HasPrefix(rows, "5001|counts|events|7|") || !strings.Contains(rows, `{"v": 5999, `) {
		t.Errorf("%d rows are kept\n%.300s", n, rows)
	}
	if v := viewNamed(t, d.e, "counts"); v.Late != 6000 {
		t.Errorf("%d rows were late", v.Late)
	}
}

// Watermarks, late rows and their numbers move to another program, whose relations have other indexes.
func TestTakeLate(t *testing.T) {
	for _, names := range [][2][]string{{{"counts", "windows"}, {"both", "counts"}}, {{"windows"}, {"both", "sums", "windows"}}, {{"both", "sums"}, {"sums"}}, {{"both"}, {"windows", "counts"}}} {
		t.Run(fmt.Sprint(names), func(t *testing.T) {
			old, next := lateApp(t, names[0]...), lateApp(t, names[1]...)
			d := &deploy{t: t, stamp: 2000}
			running := newDriver(t, old, flow.Options{})
			all := lateBatches(t)
			for _, en := range all[:len(all)/2] {
				d.feed(en, running)
			}
			e, _ := d.take(next, running)
			fresh := d.replay(next)
			d.compare(e, fresh)
			after := &driver{t: t, p: next, e: e, stamp: d.stamp, seq: running.seq}
			for _, rows := range fresh.rows {
				after.rows = append(after.rows, maps.Clone(rows))
			}
			after.rows[next.Late] = running.rows[old.Late]
			for _, en := range all[len(all)/2:] {
				d.feed(en, after, fresh)
				d.compare(e, fresh)
				if got, want := after.table(next.Late), fresh.table(next.Late); got != want || got == "" {
					t.Fatalf("got\n%s\nwant\n%s", got, want)
				}
			}
		})
	}
}

// While more rows are due than may leave at one stamp, an engine cannot be taken over; when they have left it can.
func TestTakeBehind(t *testing.T) {
	p := newProgram()
	in := p.table("t", nil, true, false, "v bigint")
	p.p.Relations[0].Table.TTL = 1000
	p.view("n", []int{}, &flow.Aggregate{In: in, Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}}})
	d := newDriver(t, &p.p, flow.Options{})
	l := change.NewLayout(int8s(1))
	for stamp := range int64(20) {
		var recs []change.Record
		for i := range 5000 {
			recs = append(recs, change.Record{Row: l.Append(nil, []change.Value{change.Int(int64(i))})})
		}
		d.applyAt(100+stamp, records(1, change.OpInsert, recs...))
	}
	d.applyAt(5000)
	if _, err := flow.Take(&p.p, d.e, nil); !errors.Is(err, flow.ErrBehind) {
		t.Fatalf("%v with %s rows left", err, d.table(1))
	}
	for range 3 {
		d.apply()
	}
	e, err := flow.Take(&p.p, d.e, nil)
	if err != nil || d.table(1) != "0\n" || e.Fingerprint() != d.e.Fingerprint() {
		t.Errorf("%v with %s rows left", err, d.table(1))
	}
}
