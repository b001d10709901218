package oracle

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
	"laaster/internal/kit/testkit"
)

// rowsOf is an engine that is fed with random rows, whatever its tables are.
type rowsOf struct {
	prog  *flow.Program
	e     *flow.Engine
	c     caseRun
	r     *rand.Rand
	seq   uint64
	stamp int64
	rows  []map[string]change.Row
}

func newRows(p *flow.Program, seed uint64) (*rowsOf, error) {
	e, err := flow.New(p, flow.Options{MaxViewBytes: 16 << 20, MaxBytes: 64 << 20, MaxJoinRows: 5000})
	if err != nil {
		return nil, err
	}
	d := &rowsOf{prog: p, e: e, r: rand.New(rand.NewPCG(seed, 8)), stamp: base().UnixMicro()}
	for range p.Relations {
		d.rows = append(d.rows, map[string]change.Row{})
	}
	return d, d.apply(change.Entry{Kind: change.EntryDefinition, Last: true, Body: p.Catalog})
}

// apply applies one batch and checks that every change is one of a row that is there.
func (d *rowsOf) apply(entries ...change.Entry) error {
	d.seq++
	epoch, err := d.c.feed(d.e, d.seq, cut{d.stamp, entries})
	if err != nil {
		return err
	}
	for _, delta := range epoch.Deltas {
		rows := d.rows[delta.Relation]
		for _, c := range delta.Changes {
			if !bytes.Equal(rows[string(c.Key)], c.Old) {
				return fmt.Errorf("%s: a change from a row that is not there", d.prog.Relations[delta.Relation].Name)
			}
			if c.New == nil {
				delete(rows, string(c.Key))
			} else {
				rows[string(c.Key)] = c.New
			}
		}
	}
	for _, s := range epoch.Stopped {
		if !strings.Contains(s.Reason, "the limit is") && !strings.Contains(s.Reason, "which stopped") {
			return fmt.Errorf("%s stopped: %s", d.prog.Relations[s.Relation].Name, s.Reason)
		}
	}
	return nil
}

// entry makes a write of n random rows into a table.
func (d *rowsOf) entry(rules *expr.TableRules, n int) change.Entry {
	op := change.OpInsert
	if rules.Table.Keyed() {
		op = change.OpMerge
	}
	e := change.Entry{Kind: change.EntryWrite, Op: op, Last: true, Table: rules.Catalog, Version: rules.Version}
	cols := rules.Table.Columns
	given := make([]byte, (len(cols)+7)/8)
	for i := range cols {
		given[i/8] |= 1 << (i % 8)
	}
	for range n {
		vals := make([]change.Value, len(cols))
		for i, c := range cols {
			v, _, err := expr.ParseText(c.Type, []byte(sample(d.r, c.Type)), nil)
			if vals[i] = v; err != nil || !c.NotNull && d.r.IntN(5) == 0 {
				vals[i] = change.Null()
			}
			if c.Name == rules.Table.Options["event_time"] && d.r.IntN(10) > 0 {
				vals[i] = change.Int(d.stamp - d.r.Int64N(20_000_000))
			}
		}
		rec := change.Record{Row: rules.Layout.Append(nil, vals)}
		if op == change.OpMerge {
			rec.Given = given
		}
		e.Body = change.AppendRecord(e.Body, op, &rec)
		e.Count++
	}
	return e
}

// clear makes the deletion of all rows of a keyed table.
func (d *rowsOf) clear(rules *expr.TableRules) change.Entry {
	key := rules.Table.Columns[rules.Table.PrimaryKey[0]].Name
	return change.Entry{Kind: change.EntryWrite, Op: change.OpDelete, Last: true, Table: rules.Catalog, Version: rules.Version, Count: 1,
		Body: change.AppendRecord(nil, change.OpDelete, &change.Record{Filter: []byte(key + "=not.is.null")})}
}

func (d *rowsOf) tables(f func(rules *expr.TableRules) error) error {
	for _, rel := range d.prog.Relations {
		if rel.Table != nil {
			if err := f(rel.Table); err != nil {
				return err
			}
		}
	}
	return nil
}

// play feeds some rounds of rows into all tables, then deletes those that can be deleted.
func (d *rowsOf) play(rounds int) error {
	for range rounds {
		d.stamp += d.r.Int64N(15_000_000)
		if err := d.tables(func(t *expr.TableRules) error { return d.apply(d.entry(t, 1+d.r.IntN(4))) }); err != nil {
			return err
		}
	}
	d.stamp += 1000
	return d.tables(func(t *expr.TableRules) error {
		if !t.Table.Keyed() {
			return nil
		}
		return d.apply(d.clear(t))
	})
}

// TestNothingStays fills random views over tables with keys, by merges, updates and deletes, and then deletes all rows: every operator's state must
// be what it was over empty tables, and so must the views' rows.
func TestNothingStays(t *testing.T) {
	first, last := uint64(0), uint64(250)
	if testing.Short() || testkit.Race() {
		last = 60
	}
	if s := os.Getenv("LAASTER_SEEDS"); s != "" {
		last, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("LAASTER_FIRST"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
	}
	if s := os.Getenv("LAASTER_SEED"); s != "" {
		first, _ = strconv.ParseUint(s, 10, 64)
		last = first + 1
	}
	views := 0
	for seed := first; seed < last; seed++ {
		r := newCase(t, nil, &choices{rnd: rand.New(rand.NewPCG(seed, 78)), keyed: true}, map[string]int{})
		if r == nil {
			continue
		}
		views += len(r.views)
		if err := nothingStays(r.prog, seed); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, r.app(r.views))
		}
	}
	if last-first > 50 && views < 50 {
		t.Errorf("%d views only", views)
	}
}

func nothingStays(p *flow.Program, seed uint64) (err error) {
	defer caught(&err)
	full, err := newRows(p, seed)
	if err != nil {
		return err
	}
	empty, err := newRows(p, seed)
	if err != nil {
		return err
	}
	if err := full.play(6); err != nil {
		return err
	}
	if empty.stamp = full.stamp; err == nil {
		err = empty.play(0)
	}
	if err != nil {
		return err
	}
	a, b := full.e.Stats(), empty.e.Stats()
	if slices.ContainsFunc(a.Views, func(v flow.ViewStats) bool { return v.Stopped != "" }) {
		return nil // too many rows
	}
	for i := range a.Views {
		x, y := &a.Views[i], &b.Views[i]
		if x.Errors != y.Errors || x.Rows != y.Rows {
			return fmt.Errorf("%s has %d rows and %d errors, want %d and %d", x.Name, x.Rows, x.Errors, y.Rows, y.Errors)
		}
		for j := range x.Operators {
			x, y := &x.Operators[j], &y.Operators[j]
			if strings.HasPrefix(x.Name, "aggregate") && y.In > 0 {
				continue // a group that is there over empty tables keeps the room that sums took
			}
			if x.Bytes != y.Bytes {
				return fmt.Errorf("%s of %s keeps %d bytes, %d over tables that were always empty", x.Name, a.Views[i].Name, x.Bytes, y.Bytes)
			}
		}
	}
	for i, rel := range p.Relations {
		if rel.Table == nil && len(full.rows[i]) != len(empty.rows[i]) {
			return fmt.Errorf("%s has %d rows, want %d", rel.Name, len(full.rows[i]), len(empty.rows[i]))
		}
	}
	return nil
}

// caught makes an error of a panic.
func caught(err *error) {
	if p := recover(); p != nil {
		buf := make([]byte, 4<<10)
		*err = fmt.Errorf("panic: %v\n%s", p, buf[:runtime.Stack(buf, false)])
	}
}
