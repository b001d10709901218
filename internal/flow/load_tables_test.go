package flow_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/disk/simdisk"
	"laaster/internal/kit/run"
	"laaster/internal/kit/testkit"
)

// TestLoadTables changes random apps in the middle of random histories when the log before a checkpoint is gone: views of the new app are computed from
// the tables of the checkpoint and the log behind it. Whatever reads only tables that keep their rows must be as if the whole log had been
// read, and so must be the outcome of every request. It goes through an engine of the new app alone, and through Take.
func TestLoadTables(t *testing.T) {
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		(&trimmed{deploy: deploy{t: t, seed: seed, cover: map[string]int{}}}).run()
		return
	}
	seeds := uint64(250)
	if testing.Short() || testkit.Race() {
		seeds = 60
	}
	cover := map[string]int{}
	for seed := range seeds {
		(&trimmed{deploy: deploy{t: t, seed: seed, cover: cover}}).run()
		if t.Failed() {
			return
		}
	}
	for _, what := range []string{"complete", "partial", "column", "reader", "built", "stored rows"} {
		if cover[what] < 5 {
			t.Errorf("%s was met %d times: %v", what, cover[what], cover)
		}
	}
}

// trimmed is one change of an app whose log begins at a checkpoint.
type trimmed struct {
	deploy
	old, next *flow.Program
	running   *driver
	state     *checkpoint.State
	stored    map[string][]change.Row // rows of readable tables at the checkpoint
	behind    []stamped               // the log behind it
}

func (d *trimmed) run() {
	t := d.t
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d (LAASTER_SEED=%d runs it alone)\n%s", d.seed, d.seed, d.app.source())
		}
	}()
	d.app = newApp(d.seed)
	d.stamp = 2_000_000
	d.old = d.compile(d.app.subset(), nil)
	d.running = newDriver(t, d.old, flow.Options{Definition: definition})
	d.running.twin = nil
	d.feed(change.Entry{Kind: change.EntryDefinition, Body: d.old.Catalog}, d.running)
	d.feed(change.Entry{Kind: change.EntryAudit, Body: []byte(`{"act":"begin"}`)}, d.running)
	for range 12 {
		d.feed(d.app.op(t, d.old).entry, d.running)
	}
	d.state = d.checkpoint(d.running)
	d.store()
	from := len(d.log)
	for range 3 {
		d.feed(d.app.op(t, d.old).entry, d.running)
	}
	d.alter()
	d.next = d.compile(d.app.subset(), d.old.Catalog)
	d.feed(change.Entry{Kind: change.EntryDefinition, Body: d.next.Catalog}, d.running)
	d.behind = d.log[from:]

	fresh := d.replay(d.next)
	alone := d.load(d.next)
	taken := d.take(fresh)
	for i := range 12 {
		d.compare(alone, fresh)
		d.compare(taken, fresh)
		o := d.app.op(t, d.next)
		d.stamp++
		want := fresh.applyAt(d.stamp, o.entry)
		for _, w := range []*driver{alone, taken} {
			got := w.applyAt(d.stamp, o.entry)
			if !reflect.DeepEqual(got.Outcomes, want.Outcomes) {
				t.Fatalf("step %d: the outcome is %+v, want %+v", i, got.Outcomes, want.Outcomes)
			}
		}
	}
}

// checkpoint makes one of a driver's engine and opens it.
func (d *trimmed) checkpoint(w *driver) *checkpoint.State {
	d.t.Helper()
	store, err := checkpoint.Open(checkpoint.Options{Dir: "/checkpoints", Log: change.LogID{1}, Clock: run.System{}, FS: simdisk.New(1)})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = store.Close() })
	return save(d.t, store, w.p, w.e)
}

// save makes a checkpoint of an engine and opens it.
func save(t testing.TB, store *checkpoint.Store, p *flow.Program, e *flow.Engine) *checkpoint.State {
	t.Helper()
	w, err := store.Begin(checkpoint.Header{Log: change.LogID{1}, Seq: e.Seq(), Stamp: e.Stats().Stamp, Fingerprint: e.Fingerprint(), Plan: p.PlanHash(), Catalog: p.Catalog})
	if err != nil {
		t.Fatal(err)
	}
	f := e.Freeze(store.NewObject)
	if err := f.Write(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	e.Done(f, true)
	state, err := store.Load(store.List()[0], false)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// store notes the rows that readers have of tables.
func (d *trimmed) store() {
	d.stored = map[string][]change.Row{}
	for i, rel := range d.old.Relations {
		if rel.Table == nil {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(d.running.rows[i])) {
			vals := []change.Value{}
			for c := range typesOf(rel) {
				vals = append(vals, rel.Layout.Get(d.running.rows[i][key], c))
			}
			d.stored[rel.Name] = append(d.stored[rel.Name], rel.Table.Layout.Append(nil, vals))
		}
	}
}

// load returns an engine of p that was given the tables of the checkpoint and the log behind it.
func (d *trimmed) load(p *flow.Program) *driver {
	d.t.Helper()
	opt := flow.Options{Definition: definition, Rows: func(table string, yield func(change.Row) bool) error {
		for _, row := range d.stored[table] {
			d.cover["stored rows"]++
			if !yield(row) {
				break
			}
		}
		return nil
	}}
	w := newDriver(d.t, p, opt)
	e, epoch, err := flow.LoadTables(p, opt, d.state)
	if err != nil {
		d.t.Fatal(err)
	}
	if epoch.Seq != d.state.Header().Seq || epoch.Stamp != d.state.Header().Stamp {
		d.t.Fatalf("an epoch of batch %d", epoch.Seq)
	}
	w.e, w.seq = e, epoch.Seq
	w.follow(epoch)
	for _, b := range d.behind {
		w.applyAt(b.stamp, b.entries...)
	}
	return w
}

// take makes the engine of the next program out of the running one and of one that was loaded beside.
func (d *trimmed) take(fresh *driver) *driver {
	d.t.Helper()
	missing := flow.Dependents(d.next, flow.Missing(d.next, d.running.e))
	after := &driver{t: d.t, p: d.next, stamp: d.stamp, seq: d.running.seq, rows: make([]map[string]change.Row, len(d.next.Relations))}
	var beside *driver
	var e *flow.Engine
	if len(missing) > 0 {
		d.cover["built"]++
		beside = d.load(flow.Restrict(d.next, missing))
		e = beside.e
	}
	var err error
	if after.e, err = flow.Take(d.next, d.running.e, e); err != nil {
		d.t.Fatal(err)
	}
	for i, rel := range d.next.Relations { // as the readers' store would
		after.rows[i] = map[string]change.Row{}
		switch was := slices.IndexFunc(d.old.Relations, func(o *expr.Relation) bool { return o.Name == rel.Name }); {
		case slices.Contains(missing, i):
			after.rows[i] = maps.Clone(beside.rows[i])
		case rel.Table != nil && was >= 0: // it may have got columns
			after.rows[i] = maps.Clone(fresh.rows[i])
		case was >= 0:
			after.rows[i] = maps.Clone(d.running.rows[was])
		}
	}
	after.rows[d.next.Errors], after.rows[d.next.Late] = d.running.rows[d.old.Errors], d.running.rows[d.old.Late]
	return after
}

// complete reports whether a relation, and all that it reads, kept its rows when the checkpoint was made.
func (d *trimmed) complete(relation int) bool {
	only := flow.Restrict(d.next, []int{relation}).Only
	for i, rel := range d.next.Relations {
		if !only[i] || rel.Table == nil {
			continue
		}
		if was := relationNamed(d.t, d.old, rel.Name); !was.Table.Table.Kept || len(was.Table.Table.PrimaryKey) == 0 && !readableTable(d.old, rel.Name) {
			return false
		}
	}
	return true
}

func readableTable(p *flow.Program, name string) bool {
	for _, g := range p.Definition.Grants {
		if g.Relation == name {
			return true
		}
	}
	return false
}

// compare holds what is complete against an engine that read the whole log.
func (d *trimmed) compare(got, want *driver) {
	d.t.Helper()
	for i, rel := range d.next.Relations {
		switch {
		case i == d.next.Errors: // with the batch that brought the row
			continue
		case rel.Table == nil && i != d.next.Late && i != d.next.Audit && !d.complete(i):
			d.cover["partial"]++
			continue
		case rel.Table != nil && !d.complete(i):
			continue
		}
		a, b := got.table(i), want.table(i)
		if rel.Numbered {
			a, b = unnumbered(a), unnumbered(b)
		}
		if a != b {
			d.t.Fatalf("%s is\n%swant\n%s", rel.Name, a, b)
		}
		d.cover["complete"]++
	}
	for i, rel := range d.next.Relations {
		if a, b := got.e.Birth(i), want.e.Birth(i); a != b && !strings.HasPrefix(rel.Name, "laaster.") {
			d.t.Fatalf("%s was born at %d, want %d", rel.Name, a, b)
		}
	}
}

// TestLoadTablesTime is TestLoadTables for what goes by time: windows, sessions, watermarks, now(), rows that leave by themselves, as_of. The rows that
// came before the checkpoint were in time, and what was looked up had not changed: for others the two differ, as LoadTables says.
func TestLoadTablesTime(t *testing.T) {
	p := system(compile(t, `
		CREATE TABLE ev (id integer PRIMARY KEY, g text, at timestamptz NOT NULL) WITH (append_only, event_time = 'at', lateness = '5 seconds');
		CREATE TABLE other (id integer PRIMARY KEY, at timestamptz NOT NULL) WITH (append_only, event_time = 'at', lateness = '3 seconds');
		CREATE TABLE live (id integer PRIMARY KEY, v integer) WITH (ttl = '20 seconds');
		CREATE TABLE once (id integer PRIMARY KEY, v integer) WITH (append_only, ttl = '10 seconds', dedupe = '1 minute');
		CREATE TABLE prices (item text PRIMARY KEY, price numeric);
		CREATE TABLE sales (id integer PRIMARY KEY, item text NOT NULL, n integer NOT NULL) WITH (append_only);
		CREATE MATERIALIZED VIEW tens AS SELECT g, window_start, count(*) AS n, count(DISTINCT id) AS d FROM tumble(ev, at, interval '10 seconds') GROUP BY g, window_start, window_end;
		CREATE MATERIALIZED VIEW done WITH (emit = 'final') AS SELECT window_start, window_end, count(*) AS n FROM hop(ev, at, interval '5 seconds', interval '10 seconds') GROUP BY window_start, window_end;
		CREATE MATERIALIZED VIEW visits AS SELECT g, window_start, window_end, count(*) AS n FROM session(ev, at, interval '3 seconds', partition_by => g) GROUP BY g, window_start, window_end;
		CREATE MATERIALIZED VIEW lists AS SELECT g, window_start, array_agg(id) AS ids FROM session(ev, at, interval '3 seconds', partition_by => g) GROUP BY g, window_start, window_end;
		CREATE MATERIALIZED VIEW recent AS SELECT id, at FROM ev WHERE at > now() - interval '5 seconds';
		CREATE MATERIALIZED VIEW pairs AS SELECT e.id, o.id AS o FROM ev e JOIN other o ON o.at BETWEEN e.at - interval '2 seconds' AND e.at + interval '2 seconds';
		CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n, sum(v) AS v FROM live;
		CREATE MATERIALIZED VIEW seen AS SELECT count(*) AS n, sum(v) AS v FROM once;
		CREATE MATERIALIZED VIEW sold AS SELECT s.id, s.n, p.price FROM sales s LEFT JOIN as_of(prices) p USING (item);
		CREATE MATERIALIZED VIEW every AS SELECT 1 AS one, count(*) AS n FROM tens;
		GRANT SELECT ON ev, other, live, prices, sales, laaster.late TO anon;`, nil))
	for seed := range timeSeeds(t, 12) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		d := &trimmed{deploy: deploy{t: t, seed: seed, cover: map[string]int{}}, old: p, next: p}
		d.running = newDriver(t, p, flow.Options{})
		d.running.twin = nil
		at := func(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02 15:04:05.999999") }
		stamp, id := int64(1_000_000_000), 0
		write := func(table string, op change.Op, given byte, row string) {
			d.feedAt(stamp, inserts(t, p, table, op, given, row), d.running)
		}
		write("prices", change.OpMerge, 3, "tea|2.50")
		step := func(early int64) { // at most so much behind the log's time
			stamp += rnd.Int64N(1_500_000)
			id++
			switch rnd.IntN(7) {
			case 0, 1:
				write("ev", change.OpInsert, 7, fmt.Sprintf("%d|%c|%s", id, 'a'+rune(rnd.IntN(3)), at(stamp-rnd.Int64N(early))))
			case 2:
				write("other", change.OpInsert, 3, fmt.Sprintf("%d|%s", id, at(stamp-rnd.Int64N(min(early, 3_000_000)))))
			case 3:
				write("live", change.OpMerge, 3, fmt.Sprintf("%d|%d", rnd.IntN(8), id))
			case 4:
				write("once", change.OpInsert, 3, fmt.Sprintf("%d|%d", rnd.IntN(20), id))
			case 5:
				write("sales", change.OpInsert, 7, fmt.Sprintf("%d|%s|1", id, pickOne(rnd, "tea", "rye")))
			case 6:
				d.feedAt(stamp, change.Entry{}, d.running)
			}
		}
		for range 60 + rnd.IntN(60) {
			step(4_000_000)
		}
		before := d.running.table(p.Late)
		d.state = d.checkpoint(d.running)
		loaded := d.load(p)
		for n := range 80 {
			for i, rel := range p.Relations {
				if i == p.Errors || i == p.Late && before != "" {
					continue
				}
				if a, b := loaded.table(i), d.running.table(i); a != b {
					t.Fatalf("seed %d, step %d: %s is\n%swant\n%s", seed, n, rel.Name, a, b)
				}
			}
			from := len(d.log)
			if step(20_000_000); rnd.IntN(6) == 0 {
				write("prices", change.OpMerge, 3, fmt.Sprintf("%s|%d", pickOne(rnd, "tea", "rye"), n))
			}
			for _, b := range d.log[from:] {
				loaded.applyAt(b.stamp, b.entries...)
			}
			if a, b := loaded.e.NextDue(), d.running.e.NextDue(); a != b {
				t.Fatalf("seed %d, step %d: due at %d, want %d", seed, n, a, b)
			}
		}
		if d.running.table(p.Late) == before {
			t.Errorf("seed %d: no row was late", seed)
		}
	}
}

func pickOne(rnd *rand.Rand, from ...string) string { return from[rnd.IntN(len(from))] }

// feedAt applies an entry, or none when it is empty, to a driver at a stamp and notes it in the log.
func (d *trimmed) feedAt(stamp int64, en change.Entry, to *driver) {
	d.t.Helper()
	b := stamped{stamp: stamp}
	if en.Kind != 0 {
		b.entries = append(b.entries, en)
	}
	d.log = append(d.log, b)
	to.applyAt(b.stamp, b.entries...)
}
