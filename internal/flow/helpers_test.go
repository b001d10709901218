package flow_test

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
	"testing"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/flow"
)

// programOf puts tables and views together as sql does. Views are given by their plans; a view without a key has copies.
type programOf struct {
	p flow.Program
}

func newProgram() *programOf {
	return &programOf{flow.Program{Definition: &app.Definition{}}}
}

// table adds a table with columns such as "id bigint" and a primary key; kept ones are readable.
func (p *programOf) table(name string, pk []int, appendOnly, kept bool, cols ...string) *flow.Scan {
	t := &app.Table{Name: name, PrimaryKey: pk, AppendOnly: appendOnly, Kept: kept}
	for _, c := range cols {
		n, typ, _ := strings.Cut(c, " ")
		typ, notNull := strings.CutSuffix(typ, " not null")
		t.Columns = append(t.Columns, app.Column{Name: n, Type: expr.TypeNamed(typ), NotNull: notNull})
	}
	r := &expr.Relation{ID: len(p.p.Relations), Name: name, Columns: t.Columns, Key: pk}
	l := change.ColumnLayout(t.Columns)
	r.Table = &expr.TableRules{Table: t, Catalog: uint32(r.ID + 1), Version: 1, Layout: l,
		Versions: []expr.TableVersion{{Version: 1, Columns: len(t.Columns), Layout: l}}, Fill: make([]change.Value, len(t.Columns)),
		Defaults: make([]*expr.Node, len(t.Columns)), EventTime: -1}
	if len(pk) == 0 {
		p.copies(r)
	}
	r.Layout = change.ColumnLayout(r.Columns)
	p.p.Relations = append(p.p.Relations, r)
	p.p.Definition.Tables = append(p.p.Definition.Tables, t)
	if kept {
		p.p.Definition.Grants = append(p.p.Definition.Grants, app.Grant{Role: "anon", Relation: name, Allow: app.Select})
	}
	return &flow.Scan{Relation: r.ID, Types: typesOf(r)}
}

func (p *programOf) copies(r *expr.Relation) {
	r.Columns = append(append([]app.Column{}, r.Columns...), app.Column{Name: "_n", Type: app.Int8, NotNull: true})
	r.Copies = true
	for i := range r.Columns {
		r.Key = append(r.Key, i)
	}
}

// view adds a view; a nil key means copies.
func (p *programOf) view(name string, key []int, plan flow.Plan) *flow.Scan {
	r := &expr.Relation{ID: len(p.p.Relations), Name: name, Key: key}
	for i, t := range plan.Columns() {
		r.Columns = append(r.Columns, app.Column{Name: fmt.Sprintf("c%d", i), Type: t})
	}
	if key == nil {
		p.copies(r)
	}
	r.Layout = change.ColumnLayout(r.Columns)
	p.p.Relations = append(p.p.Relations, r)
	p.p.Views = append(p.p.Views, &flow.ViewPlan{Relation: r.ID, Root: plan, Hash: name})
	return &flow.Scan{Relation: r.ID, Types: typesOf(r)}
}

// driver feeds an engine and keeps the rows that its epochs describe, checking that they fit what was there.
type driver struct {
	t     testing.TB
	p     *flow.Program
	e     *flow.Engine
	b     change.Builder
	seq   uint64
	stamp int64
	rows  []map[string]change.Row // by relation: key → row
	twin  *shadow                 // nil: nobody checks that checkpoints can be loaded
}

func newDriver(t testing.TB, p *flow.Program, opt flow.Options) *driver {
	t.Helper()
	opt = flow.Guarded(opt)
	e, err := flow.New(p, opt)
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, p: p, e: e, stamp: 1_000_000, rows: make([]map[string]change.Row, len(p.Relations)), twin: newShadow(t, p, opt)}
	for i := range d.rows {
		d.rows[i] = map[string]change.Row{}
	}
	return d
}

// apply seals the entries into one batch, stamped 1 µs after the last one, and applies it.
func (d *driver) apply(entries ...change.Entry) *change.Epoch {
	d.stamp++
	return d.applyAt(d.stamp, entries...)
}

func (d *driver) applyAt(stamp int64, entries ...change.Entry) *change.Epoch {
	d.t.Helper()
	b := d.seal(stamp, entries...)
	epoch, err := d.e.Apply(&b)
	if err != nil {
		d.t.Fatal(err)
	}
	d.follow(epoch)
	if d.twin != nil {
		d.e = d.twin.applied(d.e, b, epoch)
	}
	return epoch
}

func (d *driver) seal(stamp int64, entries ...change.Entry) change.Batch {
	d.t.Helper()
	d.b.Reset()
	for i := range entries {
		if err := d.b.Add(&entries[i]); err != nil {
			d.t.Fatal(err)
		}
	}
	d.seq++
	d.stamp = stamp
	return d.b.Seal(change.Header{Seq: d.seq, Stamp: stamp})
}

func (d *driver) follow(e *change.Epoch) {
	d.t.Helper()
	last := -1
	for _, delta := range e.Deltas {
		if delta.Relation <= last || len(delta.Changes) == 0 {
			d.t.Fatalf("relation %d after %d, or without changes", delta.Relation, last)
		}
		last = delta.Relation
		rel, rows := d.p.Relations[last], d.rows[last]
		var prev []byte
		for _, c := range delta.Changes {
			if prev != nil && bytes.Compare(prev, c.Key) >= 0 {
				d.t.Fatalf("%s: keys are not in order", rel.Name)
			}
			prev = c.Key
			old, ok := rows[string(c.Key)]
			if ok != (c.Old != nil) || !bytes.Equal(old, c.Old) || bytes.Equal(c.Old, c.New) {
				d.t.Fatalf("%s: a change from %s to %s where the row is %s", rel.Name, d.show(rel, c.Old), d.show(rel, c.New), d.show(rel, old))
			}
			if c.New == nil {
				delete(rows, string(c.Key))
				continue
			}
			if key := keyOfRow(rel, c.New); !bytes.Equal(key, c.Key) {
				d.t.Fatalf("%s: key %x does not belong to row %s", rel.Name, c.Key, d.show(rel, c.New))
			}
			rows[string(c.Key)] = c.New
		}
	}
}

func keyOfRow(rel *expr.Relation, row change.Row) (key []byte) {
	for _, i := range rel.Key {
		key = change.AppendKey(key, rel.Layout.Type(i), rel.Layout.Get(row, i), false, false)
	}
	return key
}

func (d *driver) show(rel *expr.Relation, row change.Row) string {
	if row == nil {
		return "nothing"
	}
	return showRow(rel.Layout, row)
}

func showRow(l *change.Layout, row change.Row) string {
	cells := make([]string, l.Columns())
	for i := range cells {
		cells[i] = showValue(l.Type(i), l.Get(row, i))
	}
	return strings.Join(cells, "|")
}

func showValue(t app.Type, v change.Value) string {
	if v.Null {
		return "NULL"
	}
	return string(expr.AppendText(nil, t, v))
}

// table lists a relation's rows in the order of their keys, one per line.
func (d *driver) table(relation int) string {
	keys := make([]string, 0, len(d.rows[relation]))
	for k := range d.rows[relation] {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(d.show(d.p.Relations[relation], d.rows[relation][k]))
		b.WriteByte('\n')
	}
	return b.String()
}

// records makes a write entry.
func records(table uint32, op change.Op, recs ...change.Record) change.Entry {
	en := change.Entry{Kind: change.EntryWrite, Op: op, Last: true, Table: table, Version: 1, Count: uint32(len(recs))}
	for i := range recs {
		en.Body = change.AppendRecord(en.Body, op, &recs[i])
	}
	return en
}

// row reads cells in PostgreSQL's input syntax, separated by |; NULL is NULL.
func row(t testing.TB, l *change.Layout, text string) change.Row {
	t.Helper()
	cells := strings.Split(text, "|")
	vals := make([]change.Value, l.Columns())
	if len(cells) != len(vals) {
		t.Fatalf("%d cells for %d columns: %s", len(cells), len(vals), text)
	}
	for i, c := range cells {
		if vals[i] = change.Null(); c != "NULL" {
			v, _, err := expr.ParseText(l.Type(i), []byte(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			vals[i] = v
		}
	}
	return l.Append(nil, vals)
}

// typesOf returns the types of a relation's columns without _n.
func typesOf(r *expr.Relation) (types []app.Type) {
	for _, c := range r.Columns {
		if c.Name != "_n" {
			types = append(types, c.Type)
		}
	}
	return types
}
