package flow_test

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
)

// TestTake changes random apps in the middle of random histories: views go, views come, tables get columns and readers. The engine that
// goes on from the running one and from one built beside it must be as one that had the new program from the start, in its fingerprint
// and in every epoch that follows.
func TestTake(t *testing.T) {
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		(&deploy{t: t, seed: seed, cover: map[string]int{}}).run()
		return
	}
	seeds := uint64(400)
	if testing.Short() || testkit.Race() {
		seeds = 120
	}
	cover := map[string]int{}
	for seed := range seeds {
		(&deploy{t: t, seed: seed, cover: cover}).run()
		if t.Failed() {
			return
		}
	}
	for _, what := range []string{"moved", "built", "dropped", "nothing beside", "column", "reader"} {
		if cover[what] < 5 {
			t.Errorf("%s was met %d times: %v", what, cover[what], cover)
		}
	}
}

// deploy is one change of a running app.
type deploy struct {
	t     *testing.T
	seed  uint64
	cover map[string]int
	app   *genApp
	log   []stamped
	stamp int64
}

// subset returns some of the views, all that they read included.
func (g *genApp) subset() []*genView {
	in := map[*genView]bool{}
	for i := len(g.views) - 1; i >= 0; i-- {
		v := g.views[i]
		if !in[v] && g.chance(2) {
			continue
		}
		in[v] = true
		for _, w := range g.views[:i] {
			if strings.Contains(v.sql, "FROM "+w.name) {
				in[w] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(g.views), func(v *genView) bool { return !in[v] })
}

func (d *deploy) compile(views []*genView, prev []byte) *flow.Program {
	all := d.app.views
	d.app.views = views
	p := compile(d.t, d.app.source(), prev)
	d.app.views = all
	return system(p)
}

// system adds the relations of the system unless sql has.
func system(p *flow.Program) *flow.Program {
	if p.Errors == 0 {
		p.Errors, p.Late = len(p.Relations), len(p.Relations)+1
		p.Relations = append(p.Relations, flow.ErrorsRelation(p.Errors), flow.LateRelation(p.Late))
	}
	return p
}

func (d *deploy) run() {
	t := d.t
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d (LAASTER_SEED=%d runs it alone)", d.seed, d.seed)
		}
	}()
	d.app = newApp(d.seed)
	d.stamp = 2_000_000
	old := d.compile(d.app.subset(), nil)
	running := newDriver(t, old, flow.Options{Definition: definition})
	d.feed(change.Entry{Kind: change.EntryDefinition, Body: old.Catalog}, running)
	for range 12 {
		o := d.app.op(t, old)
		d.feed(o.entry, running)
	}
	d.alter()
	next := d.compile(d.app.subset(), old.Catalog)
	d.feed(change.Entry{Kind: change.EntryDefinition, Body: next.Catalog}, running)

	merged, missing := d.take(next, running)
	fresh := d.replay(next)
	d.compare(merged, fresh)
	after := &driver{t: t, p: next, e: merged, stamp: d.stamp, seq: running.seq, twin: running.twin.took(next, merged)}
	for _, rows := range fresh.rows {
		after.rows = append(after.rows, maps.Clone(rows))
	}
	after.rows[next.Errors], after.rows[next.Late] = running.rows[old.Errors], running.rows[old.Late]
	for range 12 {
		o := d.app.op(t, next)
		d.feed(o.entry, after, fresh)
		d.compare(after.e, fresh)
	}
	for i, rel := range next.Relations {
		if a, b := after.table(i), fresh.table(i); a != b {
			t.Fatalf("%s\ngot\n%s\nwant\n%s", rel.Name, a, b)
		}
	}
	d.count(old, next, missing)
}

// alter gives tables another column or readers.
func (d *deploy) alter() {
	for _, tab := range d.app.tables {
		if d.app.chance(5) {
			tab.cols = append(tab.cols, genColumn{"extra", app.Int4, false})
			d.cover["column"]++
		}
		if !tab.readable && d.app.chance(4) {
			tab.readable = true
			d.cover["reader"]++
		}
	}
}

// feed applies an entry to every driver and notes it in the log.
func (d *deploy) feed(en change.Entry, to ...*driver) {
	d.t.Helper()
	d.stamp++
	d.log = append(d.log, stamped{d.stamp, []change.Entry{en}})
	for _, w := range to {
		w.applyAt(d.stamp, en)
	}
}

func (d *deploy) replay(p *flow.Program) *driver {
	d.t.Helper()
	opt := flow.Options{}
	if len(p.Catalog) > 0 {
		opt.Definition = definition
	}
	w := newDriver(d.t, p, opt)
	w.twin = nil
	for _, b := range d.log {
		w.applyAt(b.stamp, b.entries...)
	}
	return w
}

func (d *deploy) take(next *flow.Program, running *driver) (*flow.Engine, []int) {
	d.t.Helper()
	missing := flow.Missing(next, running.e)
	var beside *flow.Engine
	if len(missing) > 0 {
		view := slices.ContainsFunc(missing, func(r int) bool { return next.Relations[r].Table == nil })
		if _, err := flow.Take(next, running.e, nil); err == nil && view {
			d.t.Fatalf("relations %v are missing, but nobody misses them", missing)
		}
		beside = d.replay(flow.Restrict(next, missing)).e
	}
	e, err := flow.Take(next, running.e, beside)
	if err != nil {
		d.t.Fatal(err)
	}
	return e, missing
}

func (d *deploy) compare(got *flow.Engine, want *driver) {
	d.t.Helper()
	a, b := got.Stats(), want.e.Stats()
	for i := range b.Tables {
		if x, y := a.Tables[i], b.Tables[i]; x.Rows != y.Rows || x.Bytes != y.Bytes {
			d.t.Fatalf("table %+v, want %+v", x, y)
		}
	}
	for i := range b.Views {
		if x, y := a.Views[i], b.Views[i]; x.Rows != y.Rows || x.Bytes != y.Bytes || x.Errors != y.Errors || len(x.Operators) != len(y.Operators) {
			d.t.Fatalf("view %+v, want %+v", x, y)
		}
	}
	if a.Bytes-a.SeenBytes != b.Bytes-b.SeenBytes || a.Seen != b.Seen || a.Seq != b.Seq {
		d.t.Fatalf("%+v, want %+v", a, b)
	}
	if got.Fingerprint() != want.e.Fingerprint() {
		d.t.Fatal("the fingerprints differ")
	}
	for i, rel := range want.p.Relations {
		if x, y := got.Birth(i), want.e.Birth(i); x != y {
			d.t.Fatalf("%s was born at %d, want %d", rel.Name, x, y)
		}
	}
}

func (d *deploy) count(old, next *flow.Program, missing []int) {
	hashes := map[string]bool{}
	for _, v := range old.Views {
		hashes[v.Hash] = true
	}
	for _, v := range next.Views {
		if hashes[v.Hash] && !slices.Contains(missing, v.Relation) {
			d.cover["moved"]++
			delete(hashes, v.Hash)
		}
	}
	d.cover["dropped"] += len(hashes)
	d.cover["built"] += len(missing)
	if len(missing) == 0 {
		d.cover["nothing beside"]++
	}
}

// Rows that fail move along, and laaster.errors follows the views that are there.
func TestTakeErrors(t *testing.T) {
	const table = `CREATE TABLE t (id bigint PRIMARY KEY, a integer, b integer); `
	old := system(compile(t, table+`CREATE MATERIALIZED VIEW q AS SELECT id, a / b AS q FROM t;
		CREATE MATERIALIZED VIEW gone AS SELECT id, a % b AS r FROM t;`, nil))
	next := system(compile(t, table+`CREATE MATERIALIZED VIEW fresh AS SELECT id, 10 / a AS f FROM t;
		CREATE MATERIALIZED VIEW q AS SELECT id, a / b AS q FROM t;`, old.Catalog))
	d := &deploy{t: t}
	running := newDriver(t, old, flow.Options{})
	d.feed(inserts(t, old, "t", change.OpInsert, 0xff, "1|1|0", "2|0|1", "3|0|0"), running)
	if got := strings.Count(running.table(old.Errors), "division by zero"); got != 4 {
		t.Fatalf("%d errors:\n%s", got, running.table(old.Errors))
	}
	e, _ := d.take(next, running)
	fresh := d.replay(next)
	after := &driver{t: t, p: next, e: e, stamp: d.stamp, seq: running.seq}
	for _, rows := range fresh.rows {
		after.rows = append(after.rows, maps.Clone(rows))
	}
	after.rows[next.Errors] = running.rows[old.Errors]
	d.feed(inserts(t, next, "t", change.OpMerge, 0xff, "3|1|1", "4|0|0"), after, fresh)
	got, want := after.table(next.Errors), fresh.table(next.Errors)
	if got != want || strings.Count(got, "\n") != 4 || strings.Contains(got, "gone|") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if e.Fingerprint() != fresh.e.Fingerprint() {
		t.Error("the fingerprints differ")
	}
}

// What does not fit is refused, and the running engine can go on.
func TestTakeRefused(t *testing.T) {
	old := compile(t, `CREATE TABLE t (id bigint PRIMARY KEY, v integer); CREATE MATERIALIZED VIEW n AS SELECT v, count(*) AS n FROM t GROUP BY v;`, nil)
	next := compile(t, `CREATE TABLE t (id bigint PRIMARY KEY, v integer); CREATE MATERIALIZED VIEW s AS SELECT v, sum(id) AS s FROM t GROUP BY v;`, old.Catalog)
	running, beside := newDriver(t, old, flow.Options{}), newDriver(t, flow.Restrict(next, []int{1}), flow.Options{})
	running.apply(inserts(t, old, "t", change.OpInsert, 0xff, "1|1"))
	if _, err := flow.Take(next, running.e, nil); err == nil || !strings.Contains(err.Error(), "nobody has computed view s") {
		t.Error(err)
	}
	if _, err := flow.Take(next, running.e, beside.e); err == nil || errors.Is(err, flow.ErrBehind) {
		t.Error(err)
	}
	running.apply(inserts(t, old, "t", change.OpInsert, 0xff, "2|1"))
	if got := running.table(1); got != "1|2\n" {
		t.Errorf("the running engine shows %q", got)
	}
}
