package flow_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// eventTicks is a history of an append-only table: times run with the stamps, some far behind, and now and then nothing comes for a while.
func eventTicks(rnd *rand.Rand, s *flow.Scan, l *change.Layout, n int, unit int64) (ticks []tick, rows []timedRow) {
	stamp := 1000 * unit
	for i := range n {
		if rnd.IntN(3) == 0 {
			stamp += rnd.Int64N(4 * unit)
		}
		if rnd.IntN(25) == 0 {
			stamp += 20_000_000
		}
		if rnd.IntN(8) == 0 {
			ticks, rows = append(ticks, tick{stamp, nil}), append(rows, timedRow{id: -1, stamp: stamp})
			continue
		}
		r := timedRow{id: int64(i), g: rnd.Int64N(2), t: stamp - rnd.Int64N(6*unit), u: nullTime, v: rnd.Int64N(5), stamp: stamp}
		switch rnd.IntN(10) {
		case 0:
			r.t -= rnd.Int64N(40 * unit)
		case 1:
			r.t += rnd.Int64N(8 * unit)
		}
		en := records(uint32(s.Relation+1), change.OpInsert, change.Record{Row: r.encode(l)})
		ticks, rows = append(ticks, tick{stamp, &en}), append(rows, r)
	}
	return ticks, rows
}

// modelMark is a watermark written down as it is described.
type modelMark struct {
	lateness, idle       int64
	mark, max, last, now int64
	any                  bool
}

// pass moves the model on to a stamp; false when it is there already.
func (m *modelMark) pass(stamp int64) bool {
	if m.now == 0 {
		m.last = stamp
	}
	if stamp == m.now {
		return false
	}
	m.now = stamp
	if stamp-m.last >= m.idle && m.any && m.max >= m.last-60_000_000 {
		m.mark = max(m.mark, stamp-m.idle-m.lateness)
	}
	return true
}

// arrive returns the mark that the row met.
func (m *modelMark) arrive(r timedRow) int64 {
	met := m.mark
	m.max = max(m.max, min(r.t, r.stamp+60_000_000))
	m.mark, m.last, m.any = max(m.mark, m.max-m.lateness), r.stamp, true
	return met
}

// putIn is a row in one of its windows.
type putIn struct {
	row   timedRow
	start int64
}

func TestLateWindows(t *testing.T) {
	const unit = 1000
	for _, c := range []struct {
		kept bool
		ttl  int64
	}{{false, 0}, {true, 0}, {false, 15 * unit}, {true, 15 * unit}} {
		p := newProgram()
		s := timedTable(p, true, c.kept)
		rules := rulesOf(p, s)
		rules.EventTime, rules.Lateness, rules.TTL = 2, 5*unit, c.ttl
		onTime := &flow.Scan{Relation: s.Relation, Types: s.Types, OnTime: true}
		w := &flow.Window{In: s, Keep: []int{0}, Time: 2, Width: 12 * unit, Slide: 4 * unit, Closes: true}
		views := []*flow.Scan{p.view("ontime", nil, onTime), p.view("windows", nil, w)}
		for seed := range timeSeeds(t, 4) {
			ticks, rows := eventTicks(rand.New(rand.NewPCG(seed, 4)), s, rules.Layout, 100, unit)
			var in []timedRow
			var windows []putIn
			m := modelMark{lateness: 5 * unit, idle: 10_000_000, mark: math.MinInt64, max: math.MinInt64}
			followTicks(t, &p.p, seed, ticks, func(d *driver, done []tick) {
				r := rows[len(done)-1]
				if m.pass(r.stamp) && c.ttl > 0 { // what is closed stays
					old := r.stamp - c.ttl
					in = slices.DeleteFunc(in, func(r timedRow) bool { return r.stamp <= old && r.t >= m.mark })
					windows = slices.DeleteFunc(windows, func(p putIn) bool { return p.row.stamp <= old && p.start+w.Width > m.mark })
				}
				if r.id >= 0 {
					mark := m.arrive(r)
					if r.t >= mark {
						in = append(in, r)
					}
					for at := floorTo(r.t, w.Slide, 0); at > r.t-w.Width; at -= w.Slide {
						if at+w.Width > mark {
							windows = append(windows, putIn{r, at})
						}
					}
				}
				var wantRows, wantWindows []string
				for _, r := range in {
					wantRows = append(wantRows, line(s.Types, r.id, r.g, r.t, r.u, r.v))
				}
				for _, p := range windows {
					wantWindows = append(wantWindows, line(w.Columns(), p.row.id, p.start, p.start+w.Width))
				}
				expect(t, d, views[0], wantRows)
				expect(t, d, views[1], wantWindows)
			})
		}
	}
}

// closedSessions is a model of sessions that a watermark closes: all rows that were taken.
type closedSessions struct {
	gap  int64
	rows map[int64][]timedRow // by group
}

// take takes the row unless it is late for good; mark is what it met.
func (m *closedSessions) take(r timedRow, mark int64) {
	own := r.t+m.gap > mark
	var times []int64
	for _, o := range m.rows[r.g] {
		times = append(times, o.t)
	}
	for _, in := range sessionsOf(times, m.gap) {
		if r.t < mark && in[0] <= r.t && r.t < in[1] {
			own = in[1] > mark
		}
	}
	if own {
		m.rows[r.g] = append(m.rows[r.g], r)
	}
}

// expire takes out, one after the other, what came at old or before and is in no closed session.
func (m *closedSessions) expire(old, mark int64) {
	for g := range m.rows {
		for {
			in := m.sessions(g)
			i := slices.IndexFunc(m.rows[g], func(r timedRow) bool { return r.stamp <= old && in[r.t][1] > mark })
			if i < 0 {
				break
			}
			was := in[m.rows[g][i].t]
			m.rows[g] = slices.Delete(m.rows[g], i, i+1)
			in = m.sessions(g) // what remains of the session goes as well when it would be over
			m.rows[g] = slices.DeleteFunc(m.rows[g], func(r timedRow) bool { return r.t >= was[0] && r.t < was[1] && in[r.t][1] <= mark })
		}
	}
}

func (m *closedSessions) sessions(g int64) map[int64][2]int64 {
	var times []int64
	for _, o := range m.rows[g] {
		times = append(times, o.t)
	}
	return sessionsOf(times, m.gap)
}

// want lists what the sessions' rows and their groups are.
func (m *closedSessions) want(rowTypes, keyTypes []app.Type) (rows, groups []string) {
	type sum struct{ n, ids, low, high, big int64 }
	for g, list := range m.rows {
		in := m.sessions(g)
		totals := map[[2]int64]sum{}
		for _, o := range list {
			k := in[o.t]
			rows = append(rows, line(rowTypes, o.id, g, o.v, k[0], k[1]))
			q, ok := totals[k]
			if !ok {
				q.low, q.high = o.v, o.v
			}
			if o.v > 2 {
				q.big++
			}
			totals[k] = sum{q.n + 1, q.ids + o.id, min(q.low, o.v), max(q.high, o.v), q.big}
		}
		for k, q := range totals {
			groups = append(groups, fmt.Sprintf("%s|%d|%d|%d|%d|%d", line(keyTypes, g, k[0], k[1]), q.n, q.ids, q.low, q.high, q.big))
		}
	}
	return rows, groups
}

func TestLateSessions(t *testing.T) {
	const unit, gap = 1000, 7000
	for _, c := range []struct {
		ttl    int64
		closes bool
	}{{0, true}, {0, false}, {30 * unit, true}} {
		ttl := c.ttl
		p := newProgram()
		s := timedTable(p, true, false)
		rules := rulesOf(p, s)
		rules.EventTime, rules.Lateness, rules.TTL = 2, 5*unit, ttl
		w := &flow.Session{In: s, Keep: []int{0, 1, 4}, Time: 2, Gap: gap, Partition: []int{1}, Closes: c.closes}
		v := expr.Column(2, app.Int8, -1)
		text := must(t)(expr.Cast(v, app.Text, -1))
		big := must(t)(expr.Operator(">", []*expr.Node{v, expr.Const(app.Int8, change.Int(2), -1)}, -1))
		sums := &flow.Aggregate{In: w, Keys: []*expr.Node{expr.Column(1, app.Int4, -1), expr.Column(3, app.Timestamptz, -1), expr.Column(4, app.Timestamptz, -1)},
			Aggs: []flow.Agg{{Func: flow.CountRows, Type: app.Int8}, {Func: flow.Sum, Arg: expr.Column(0, app.Int8, -1), Type: app.Numeric},
				{Func: flow.Min, Arg: v, Type: app.Int8}, {Func: flow.Max, Arg: text, Type: app.Text}, {Func: flow.CountRows, Filter: big, Type: app.Int8}}}
		if c.closes {
			sums.Closes = &flow.Bound{Col: 2, Tables: []int{s.Relation}, Ends: true}
		}
		rows, groups := p.view("rows_in", nil, w), p.view("groups", nil, sums)
		for seed := range timeSeeds(t, 6) {
			ticks, history := eventTicks(rand.New(rand.NewPCG(seed, 5)), s, rules.Layout, 100, unit)
			m := modelMark{lateness: 5 * unit, idle: 10_000_000, mark: math.MinInt64, max: math.MinInt64}
			model := closedSessions{gap, map[int64][]timedRow{}}
			followTicks(t, &p.p, seed, ticks, func(d *driver, done []tick) {
				r := history[len(done)-1]
				if m.pass(r.stamp) && ttl > 0 {
					model.expire(r.stamp-ttl, m.mark)
				}
				if r.id >= 0 {
					mark := m.arrive(r)
					if !c.closes {
						mark = math.MinInt64
					}
					model.take(r, mark)
				}
				wantRows, wantGroups := model.want(w.Columns(), sums.Columns())
				expect(t, d, rows, wantRows)
				expect(t, d, groups, wantGroups)
			})
		}
		// Over rows that never go the aggregate is one step with its session, which the other view has for itself.
		d := newDriver(t, &p.p, flow.Options{})
		fused := false
		for _, v := range d.e.Stats().Views {
			for _, o := range v.Operators {
				fused = fused || o.Name == "sessions"
			}
		}
		if fused != (ttl == 0) {
			t.Errorf("with a ttl of %d one step is %v", ttl, fused)
		}
	}
}

// Two inputs together: the lesser of two marks counts, a quiet table does not, and what was let out is never taken back by a clock.
func TestFinal(t *testing.T) {
	p := newProgram()
	a, b := p.table("a", nil, true, false, "t timestamptz not null"), p.table("b", nil, true, false, "t timestamptz not null")
	for _, s := range []*flow.Scan{a, b} {
		rules := rulesOf(p, s)
		rules.EventTime, rules.Lateness = 0, 1_000_000
	}
	both := &flow.Union{Ins: []flow.Plan{a, b}}
	end := expr.Column(0, app.Timestamptz, -1)
	view := p.view("final", nil, &flow.Gate{In: both, From: end, Tables: []int{a.Relation, b.Relation}})
	d := newDriver(t, &p.p, flow.Options{})
	const s = 1_000_000
	step := func(stamp int64, rows map[*flow.Scan]int64, want, due int64) {
		t.Helper()
		var list []change.Entry
		for _, scan := range []*flow.Scan{a, b} {
			if at, ok := rows[scan]; ok {
				list = append(list, records(uint32(scan.Relation+1), change.OpInsert, change.Record{Row: rulesOf(p, scan).Layout.Append(nil, []change.Value{change.Int(at)})}))
			}
		}
		d.applyAt(stamp, list...)
		if n := int64(len(d.rows[view.Relation])); n != want {
			t.Errorf("at %d: %d rows, want %d", stamp, n, want)
		}
		if got := d.e.NextDue(); got != due {
			t.Errorf("at %d: due %d, want %d", stamp, got, due)
		}
	}
	const never = math.MaxInt64
	// Both fall quiet 10 s after their last row; then a mark is the clock's, 11 s behind.
	step(100*s, map[*flow.Scan]int64{a: 100 * s}, 0, 111*s)
	step(101*s, map[*flow.Scan]int64{b: 90 * s}, 0, 111*s)             // the marks are 99 s and 89 s: 90 s waits for b
	step(102*s, map[*flow.Scan]int64{b: 101 * s}, 1, 110*s)            // 99 s: 90 s is out; from 110 s on a holds nothing back
	step(110*s, nil, 2, 112*s)                                         // b alone: 100 s
	step(112*s, map[*flow.Scan]int64{a: 112 * s}, 3, 123*s)            // 101 s, as both move with the clock
	step(130*s, map[*flow.Scan]int64{a: 125 * s, b: 20 * s}, 5, 140*s) // 119 s for both when the stamp began; what is late is there at once
	step(200*s, nil, 6, never)
}

func TestTTL(t *testing.T) {
	for _, kind := range []string{"keyed", "facts", "kept facts"} {
		p := newProgram()
		s := timedTable(p, kind != "keyed", kind != "facts")
		rules := rulesOf(p, s)
		rules.TTL = 50
		view := p.view("all", nil, s)
		for seed := range timeSeeds(t, 8) {
			rnd := rand.New(rand.NewPCG(seed, 6))
			var ticks []tick
			var rows []timedRow
			if kind == "keyed" {
				ticks, rows = keyedTicks(rnd, s, rules.Layout, 120, 40)
			} else {
				ticks, rows = eventTicks(rnd, s, rules.Layout, 120, 5)
			}
			followTicks(t, &p.p, seed, ticks, func(d *driver, done []tick) {
				now := done[len(done)-1].stamp
				live := map[int64]timedRow{}
				due := int64(math.MaxInt64)
				for _, r := range rows[:len(done)] {
					switch {
					case r.id < 0:
					case r.v < 0:
						delete(live, r.id)
					default:
						live[r.id] = r
					}
				}
				var want []string
				for _, r := range live {
					if r.stamp+rules.TTL > now {
						want = append(want, line(s.Types, r.id, r.g, r.t, r.u, r.v))
						due = min(due, r.stamp+rules.TTL)
					}
				}
				expect(t, d, view, want)
				if got := d.e.NextDue(); got != due {
					t.Errorf("due at %d, want %d", got, due)
				}
			})
		}
	}
}

// After a long pause rows leave in steps: the engine's time lags and says that it has more to do.
func TestDueInSteps(t *testing.T) {
	p := newProgram()
	s := p.table("rows", nil, true, false, "id bigint not null", "t timestamptz not null")
	rulesOf(p, s).TTL = 10_000_000
	p.view("recent", nil, &flow.Gate{In: s, Until: expr.Column(1, app.Timestamptz, -1)})
	d := newDriver(t, &p.p, flow.Options{})
	const rows = 110_000
	l := rulesOf(p, s).Layout
	for at := 0; at < rows; at += 10_000 {
		recs := make([]change.Record, 10_000)
		for i := range recs {
			recs[i].Row = l.Append(nil, []change.Value{change.Int(int64(at + i)), change.Int(2_000_000 + int64(at+i)/3)})
		}
		d.apply(records(uint32(s.Relation+1), change.OpInsert, recs...))
	}
	view := s.Relation + 1
	if n := len(d.rows[view]); n != rows {
		t.Fatalf("%d rows", n)
	}
	stamp := int64(3_000_000)
	for left, steps := rows, 0; left > 0; steps++ {
		d.applyAt(stamp)
		d.applyAt(stamp) // changes nothing
		n := len(d.rows[view])
		if left-n > 50_010 || left-n < 40_000 && n > 0 || steps > 3 {
			t.Fatalf("%d of %d rows left in step %d", left-n, left, steps)
		}
		if left = n; left > 0 && d.e.NextDue() != stamp+1 {
			t.Fatalf("due at %d after %d", d.e.NextDue(), stamp)
		}
		stamp++
	}
	d.applyAt(stamp + 20_000_000)
	if d.e.NextDue() <= stamp {
		t.Error("it is due in the past")
	}
}
