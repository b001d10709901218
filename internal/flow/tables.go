package flow

import (
	"bytes"
	"fmt"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/fault"
)

// tableState is one table: what its writes do, and its rows when it is kept.
//
// A kept table with a primary key holds its rows by key (the bytes of change.AppendKey over the primary key). A row that a
// batch deletes stays as an entry with an empty value until the batch ends, so that the entry keeps its place in touched.
// Every other table is a feed: rows pass through as deltas. (The rows of a readable table without a key are kept by its
// sink.)
type tableState struct {
	rel    *expr.Relation
	rules  *expr.TableRules
	pk     []int
	pkName string // the column to blame for a conflict; empty when the key has several
	kept   bool
	checks []expr.Func

	rows    table
	partial bool // rows that came before are gone, and their keys may be remembered: see LoadTables
	touched []touch
	dom     uint64 // of sum
	sum     sum128
	count   int64

	wm   *watermark // nil: it has no event time
	ttl  *expiry    // nil: rows stay
	seen *window    // keys of rows that are not kept, when the table says for how long; nil: the engine's

	out []delta // what changed in this batch
	in  uint64  // records so far

	key  []byte // scratch
	vals []change.Value
}

// touch is one row that the batch changed, as it was before the batch.
type touch struct {
	r   ref
	h   uint64
	old change.Row // nil: there was none
}

func newTableState(rel *expr.Relation) (*tableState, error) {
	t := &tableState{rel: rel, rules: rel.Table, pk: rel.Table.Table.PrimaryKey, dom: domainOf(tableIdentity(rel.Table))}
	t.kept = t.rules.Table.Kept && len(t.pk) > 0
	if len(t.pk) == 1 {
		t.pkName = t.rules.Table.Columns[t.pk[0]].Name
	}
	t.vals = make([]change.Value, t.rules.Layout.Columns())
	for i := range t.rules.Checks {
		f, err := expr.Compile(t.rules.Checks[i].Cond, t.rules.Layout)
		if err != nil {
			return nil, fmt.Errorf("flow: table %s, check %s: %w", rel.Name, t.rules.Checks[i].Name, err)
		}
		t.checks = append(t.checks, f)
	}
	if t.kept {
		t.rows = newTable()
	}
	t.timed()
	return t, nil
}

// keyOf returns the primary key of row. Valid until the next call.
func (t *tableState) keyOf(row change.Row) []byte {
	t.key = t.key[:0]
	for _, c := range t.pk {
		t.key = change.AppendKey(t.key, t.rules.Layout.Type(c), t.rules.Layout.Get(row, c), false, false)
	}
	return t.key
}

// lookup returns the entry of key and its row, which is nil when there is none now (the entry may still be there).
func (t *tableState) lookup(h uint64, key []byte) (ref, change.Row) {
	r := t.rows.find(h, key)
	if r == 0 {
		return 0, nil
	}
	if row := t.rows.value(r); len(row) > 0 {
		return r, row
	}
	return r, nil
}

// set makes row the row of key, or removes it when row is nil. r is the key's entry, 0 when there is none.
func (t *tableState) set(x *exec, h uint64, r ref, key []byte, row change.Row) {
	var old change.Row
	if r == 0 {
		r = t.rows.insert(h, key, len(row))
		t.rows.setMark(r, uint32(len(t.touched)))
		t.touched = append(t.touched, touch{r: r, h: h})
	} else if old = t.rows.value(r); x.journaling || !t.isTouched(r) {
		old = x.scratch.copy(old)
	}
	if !t.isTouched(r) {
		t.rows.setMark(r, uint32(len(t.touched)))
		t.touched = append(t.touched, touch{r, h, old})
	}
	m := t.rows.mark(r)
	if x.journaling {
		x.journal = append(x.journal, undo{t, m, old})
	}
	t.write(m, row)
}

func (t *tableState) isTouched(r ref) bool {
	m := t.rows.mark(r)
	return int(m) < len(t.touched) && t.touched[m].r == r
}

func (t *tableState) write(m uint32, row change.Row) {
	to := &t.touched[m]
	to.r = t.rows.resize(to.h, to.r, len(row))
	copy(t.rows.edit(to.r), row)
}

// finish ends the batch: out becomes the difference between the rows before and after it.
func (t *tableState) finish() {
	if !t.kept {
		return
	}
	late := t.lateByTouch()
	for i := range t.touched {
		to := &t.touched[i]
		row := change.Row(t.rows.value(to.r))
		if bytes.Equal(to.old, row) {
			if len(row) == 0 {
				t.rows.remove(to.h, to.r)
			}
			continue
		}
		if len(to.old) > 0 {
			t.out = append(t.out, delta{to.old, -1})
			t.sum.sub(hash128(t.dom, to.old))
			t.count--
		}
		if len(row) > 0 {
			late = placed(late, i, len(t.out))
			t.out = append(t.out, delta{row, 1})
			t.sum.add(hash128(t.dom, row))
			t.count++
		} else {
			t.rows.remove(to.h, to.r)
		}
	}
}

func (t *tableState) reset() {
	t.touched = t.touched[:0]
	t.out = t.out[:0]
}

func (t *tableState) state(k *keeper) {
	if t.kept {
		k.table(&t.rows)
	}
	k.flag(&t.partial)
	if fault.Bug("flow-forgets-sums") && k.loading {
		defer func() { t.sum = sum128{} }()
	}
	k.sum(&t.sum)
	k.i64(&t.count)
	k.u64(&t.in)
	if t.wm != nil {
		t.wm.state(k)
	}
	if t.ttl != nil {
		t.ttl.state(k, t.kept)
	}
	if t.seen != nil {
		k.window(t.seen)
	}
}

// current returns the row of a record under today's layout: rows of older versions get the columns that were added since.
func (t *tableState) current(x *exec, version uint32, row change.Row) (change.Row, error) {
	if version == t.rules.Version {
		return row, t.rules.Layout.Valid(row)
	}
	v := t.version(version)
	if v == nil {
		return nil, fmt.Errorf("table %s has no version %d", t.rel.Name, version)
	}
	if err := v.Layout.Valid(row); err != nil {
		return nil, err
	}
	for i := range t.vals {
		if i < v.Columns {
			t.vals[i] = v.Layout.Get(row, i)
		} else {
			t.vals[i] = t.rules.Fill[i]
		}
	}
	return x.scratch.row(t.rules.Layout, t.vals), nil
}

func (t *tableState) version(n uint32) *expr.TableVersion {
	for i := range t.rules.Versions {
		if t.rules.Versions[i].Version == n {
			return &t.rules.Versions[i]
		}
	}
	return nil
}

func given(bitmap []byte, col int) bool {
	return col>>3 < len(bitmap) && bitmap[col>>3]&(1<<(col&7)) != 0
}

// merged returns old with the given columns of row in place of its own. The result is old itself when nothing differs.
// keepKey leaves the columns of the primary key as they are: a merge found old by an equal key, which may be written
// differently (numeric 1.0 and 1.00).
func (t *tableState) merged(x *exec, old, row change.Row, bitmap []byte, keepKey bool) change.Row {
	for i := range t.vals {
		from := old
		if given(bitmap, i) {
			from = row
		}
		t.vals[i] = t.rules.Layout.Get(from, i)
	}
	if keepKey {
		for _, c := range t.pk {
			t.vals[c] = t.rules.Layout.Get(old, c)
		}
	}
	out := x.scratch.row(t.rules.Layout, t.vals)
	if bytes.Equal(out, old) {
		return old
	}
	return out
}

// verify reports why row may not be in the table: a NULL where none may be, or a CHECK that is false.
func (t *tableState) verify(x *exec, row change.Row) *change.Reject {
	cols := t.rules.Table.Columns
	for i := range cols {
		if cols[i].NotNull && t.rules.Layout.Get(row, i).Null {
			return &change.Reject{Code: codeInvalidRow, Field: cols[i].Name, Detail: cols[i].Name + " may not be null"}
		}
	}
	x.ctx.Row = row
	for i, f := range t.checks {
		x.ctx.Reset()
		name := t.rules.Checks[i].Name
		v, err := f(&x.ctx)
		if err != nil {
			return &change.Reject{Code: codeConstraint, Field: name, Detail: "check " + name + ": " + err.Error()}
		}
		if !v.Null && v.N == 0 {
			return &change.Reject{Code: codeConstraint, Field: name, Detail: "the row violates check " + name}
		}
	}
	return nil
}

// columnsOf returns the types of a relation's columns without _n.
func columnsOf(rel *expr.Relation) []app.Type {
	n := len(rel.Columns)
	if rel.Copies {
		n--
	}
	types := make([]app.Type, n)
	for i := range types {
		types[i] = rel.Columns[i].Type
	}
	return types
}
