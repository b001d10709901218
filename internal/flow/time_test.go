package flow_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// The tests of operators of time hold each against a model that computes its rows anew from all rows of the table, after every record;
// and engines that got the same records in other batches must have the same fingerprint whenever a stamp is over.

// timeSeeds is how many histories a test runs: LAASTER_SEEDS of them, or n.
func timeSeeds(t *testing.T, n uint64) uint64 {
	if s := os.Getenv("LAASTER_SEEDS"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// tick is one entry of a history, or time that passes when it has none.
type tick struct {
	stamp int64
	entry *change.Entry
}

// timedRow is a row of the tables of these tests.
type timedRow struct {
	id, g, v int64
	t, u     int64 // nullTime: NULL
	stamp    int64 // of the last write
}

const nullTime = math.MinInt64 + 1

func timeValue(t int64) change.Value {
	if t == nullTime {
		return change.Null()
	}
	return change.Int(t)
}

func (r timedRow) encode(l *change.Layout) change.Row {
	return l.Append(nil, []change.Value{change.Int(r.id), change.Int(r.g), timeValue(r.t), timeValue(r.u), change.Int(r.v)})
}

// timedTable adds a table with an id, a group, two times and a number.
func timedTable(p *programOf, appendOnly, kept bool) *flow.Scan {
	var pk []int
	if !appendOnly || kept {
		pk = []int{0}
	}
	return p.table("rows", pk, appendOnly, kept, "id bigint not null", "g integer not null", "t timestamptz", "u timestamptz", "v bigint")
}

func rulesOf(p *programOf, s *flow.Scan) *expr.TableRules { return p.p.Relations[s.Relation].Table }

// follow runs a history through three engines and calls check after each of its entries, all of which the first engine has.
func followTicks(t *testing.T, p *flow.Program, seed uint64, ticks []tick, check func(d *driver, done []tick)) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 99))
	single, whole, cut := newDriver(t, p, flow.Options{}), newDriver(t, p, flow.Options{}), newDriver(t, p, flow.Options{})
	entriesOf := func(list []tick) (out []change.Entry) {
		for _, k := range list {
			if k.entry != nil {
				out = append(out, *k.entry)
			}
		}
		return out
	}
	for i := 0; i < len(ticks); {
		j := i
		for j < len(ticks) && ticks[j].stamp == ticks[i].stamp {
			single.applyAt(ticks[j].stamp, entriesOf(ticks[j:j+1])...)
			j++
			check(single, ticks[:j])
			if t.Failed() {
				t.Fatalf("seed %d, entry %d", seed, j)
			}
		}
		whole.applyAt(ticks[i].stamp, entriesOf(ticks[i:j])...)
		for k := i; k < j; {
			n := k + 1 + rnd.IntN(j-k)
			cut.applyAt(ticks[i].stamp, entriesOf(ticks[k:n])...)
			k = n
		}
		a, b, c := single.e.Fingerprint(), whole.e.Fingerprint(), cut.e.Fingerprint()
		if a != b || a != c {
			for r := range p.Relations {
				if whole.table(r) != single.table(r) {
					t.Errorf("%s\none by one\n%s\nas a whole\n%s", p.Relations[r].Name, single.table(r), whole.table(r))
				}
			}
			t.Fatalf("seed %d: fingerprints differ at stamp %d, entry %d", seed, ticks[i].stamp, j)
		}
		if single.e.NextDue() <= ticks[i].stamp {
			t.Fatalf("seed %d: something is due at %d after stamp %d", seed, single.e.NextDue(), ticks[i].stamp)
		}
		i = j
	}
}

// shown lists the rows of a view that has copies, without their numbers, one per line, sorted.
func shown(d *driver, view *flow.Scan) string {
	var lines []string
	for _, line := range strings.Split(strings.TrimSuffix(d.table(view.Relation), "\n"), "\n") {
		if i := strings.LastIndexByte(line, '|'); i >= 0 {
			lines = append(lines, line[:i])
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func expect(t *testing.T, d *driver, view *flow.Scan, want []string) {
	t.Helper()
	sort.Strings(want)
	if got := shown(d, view); got != strings.Join(want, "\n") {
		t.Errorf("%s has\n%s\nwant\n%s", d.p.Relations[view.Relation].Name, got, strings.Join(want, "\n"))
	}
}

// line prints values of types as the driver does.
func line(types []app.Type, vals ...int64) string {
	cells := make([]string, len(vals))
	for i, v := range vals {
		cells[i] = showValue(types[i], timeValue(v))
	}
	return strings.Join(cells, "|")
}

// keyedTicks is a history of a keyed table: inserts, changes and deletes, times anywhere in a small span.
func keyedTicks(rnd *rand.Rand, s *flow.Scan, l *change.Layout, n int, span int64) (ticks []tick, rows []timedRow) {
	stamp := int64(1000)
	for range n {
		if rnd.IntN(3) == 0 {
			stamp += rnd.Int64N(span/4 + 1)
		}
		r := timedRow{id: rnd.Int64N(14), g: rnd.Int64N(3), t: stamp + rnd.Int64N(2*span) - span, v: rnd.Int64N(5), stamp: stamp}
		r.u = r.t + rnd.Int64N(span) - span/8
		if rnd.IntN(12) == 0 {
			r.t = nullTime
		}
		if rnd.IntN(12) == 0 {
			r.u = nullTime
		}
		var en change.Entry
		switch rnd.IntN(5) {
		case 0:
			en = records(uint32(s.Relation+1), change.OpDelete, change.Record{Filter: fmt.Appendf(nil, "id=eq.%d", r.id)})
			r.v = -1
		case 1:
			ticks, rows = append(ticks, tick{stamp, nil}), append(rows, timedRow{id: -1})
			continue
		default:
			en = records(uint32(s.Relation+1), change.OpMerge, change.Record{Row: r.encode(l), Given: []byte{31}})
		}
		ticks, rows = append(ticks, tick{stamp, &en}), append(rows, r)
	}
	return ticks, rows
}

// content is what a keyed table holds after the first n of the changes.
func content(rows []timedRow, n int) map[int64]timedRow {
	out := map[int64]timedRow{}
	for _, r := range rows[:n] {
		switch {
		case r.id < 0:
		case r.v < 0:
			delete(out, r.id)
		default:
			out[r.id] = r
		}
	}
	return out
}

func floorTo(t, slide, offset int64) int64 {
	s := offset
	for s > t {
		s -= slide
	}
	for s+slide <= t {
		s += slide
	}
	return s
}

func TestTimeWindow(t *testing.T) {
	p := newProgram()
	s := timedTable(p, false, true)
	l := rulesOf(p, s).Layout
	number := func(n int64) *expr.Node { return expr.Const(app.Int8, change.Int(n), -1) }
	rest := must(t)(expr.Operator("%", []*expr.Node{expr.Column(4, app.Int8, -1), number(2)}, -1))
	odd := must(t)(expr.Operator("=", []*expr.Node{rest, number(1)}, -1))
	tumble := &flow.Window{In: s, Keep: []int{4, 1}, Time: 2, Width: 10, Slide: 10, Offset: -1_003}
	hop := &flow.Window{In: s, Where: odd, Keep: []int{0}, Time: 2, Width: 25, Slide: 10, Offset: 7}
	gaps := &flow.Window{In: s, Keep: []int{}, Time: 2, Width: 3, Slide: 10}
	views := []*flow.Scan{p.view("tumble", nil, tumble), p.view("hop", nil, hop), p.view("gaps", nil, gaps)}
	for seed := range timeSeeds(t, 10) {
		ticks, rows := keyedTicks(rand.New(rand.NewPCG(seed, 1)), s, l, 60, 100)
		followTicks(t, &p.p, seed, ticks, func(d *driver, done []tick) {
			for i, w := range []*flow.Window{tumble, hop, gaps} {
				var want []string
				for _, r := range content(rows, len(done)) {
					if r.t == nullTime || w == hop && r.v%2 != 1 {
						continue
					}
					for at := floorTo(r.t, w.Slide, w.Offset); at > r.t-w.Width; at -= w.Slide {
						var vals []int64
						for _, k := range w.Keep {
							vals = append(vals, []int64{r.id, r.g, r.t, r.u, r.v}[k])
						}
						want = append(want, line(w.Columns(), append(vals, at, at+w.Width)...))
					}
				}
				expect(t, d, views[i], want)
			}
		})
	}
}

// sessionsOf returns for each time the session that it is in.
func sessionsOf(times []int64, gap int64) map[int64][2]int64 {
	slices.Sort(times)
	out := map[int64][2]int64{}
	for i := 0; i < len(times); {
		j := i + 1
		for j < len(times) && times[j]-times[j-1] < gap {
			j++
		}
		for _, t := range times[i:j] {
			out[t] = [2]int64{times[i], times[j-1] + gap}
		}
		i = j
	}
	return out
}

func TestSession(t *testing.T) {
	p := newProgram()
	s := timedTable(p, false, true)
	l := rulesOf(p, s).Layout
	by := &flow.Session{In: s, Keep: []int{4, 1}, Time: 2, Gap: 9, Partition: []int{1}}
	all := &flow.Session{In: s, Keep: []int{0}, Time: 2, Gap: 5}
	views := []*flow.Scan{p.view("by", nil, by), p.view("everything", nil, all)}
	for seed := range timeSeeds(t, 15) {
		ticks, rows := keyedTicks(rand.New(rand.NewPCG(seed, 2)), s, l, 80, 40)
		followTicks(t, &p.p, seed, ticks, func(d *driver, done []tick) {
			now := content(rows, len(done))
			for i, w := range []*flow.Session{by, all} {
				times := map[int64][]int64{}
				for _, r := range now {
					if r.t != nullTime {
						times[r.g*int64(len(w.Partition))] = append(times[r.g*int64(len(w.Partition))], r.t)
					}
				}
				var want []string
				for _, r := range now {
					if r.t == nullTime {
						continue
					}
					in := sessionsOf(times[r.g*int64(len(w.Partition))], w.Gap)[r.t]
					vals := []int64{r.id}
					if w == by {
						vals = []int64{r.v, r.g}
					}
					want = append(want, line(w.Columns(), append(vals, in[0], in[1])...))
				}
				expect(t, d, views[i], want)
			}
		})
	}
}

func TestGate(t *testing.T) {
	p := newProgram()
	s := timedTable(p, false, true)
	l := rulesOf(p, s).Layout
	from, until := expr.Column(2, app.Timestamptz, -1), expr.Column(3, app.Timestamptz, -1)
	gates := []*flow.Gate{{In: s, From: from, Until: until}, {In: s, Until: until}, {In: s, From: from}}
	var views []*flow.Scan
	for i, g := range gates {
		views = append(views, p.view(fmt.Sprint("gate", i), nil, g))
	}
	for seed := range timeSeeds(t, 15) {
		ticks, rows := keyedTicks(rand.New(rand.NewPCG(seed, 3)), s, l, 80, 60)
		followTicks(t, &p.p, seed, ticks, func(d *driver, done []tick) {
			now, content := done[len(done)-1].stamp, content(rows, len(done))
			due := int64(math.MaxInt64)
			for i, g := range gates {
				var want []string
				for _, r := range content {
					f, u := r.t, r.u
					if g.From == nil {
						f = math.MinInt64
					}
					if g.Until == nil {
						u = math.MaxInt64
					}
					if f == nullTime || u == nullTime || f >= u {
						continue
					}
					if f > now {
						due = min(due, f)
					} else if u > now {
						due = min(due, u)
					}
					if f <= now && now < u {
						want = append(want, line(s.Types, r.id, r.g, r.t, r.u, r.v))
					}
				}
				expect(t, d, views[i], want)
			}
			if got := d.e.NextDue(); got != due {
				t.Errorf("due at %d, want %d", got, due)
			}
		})
	}
}

func must(t *testing.T) func(*expr.Node, error) *expr.Node {
	return func(n *expr.Node, err error) *expr.Node {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}
