package flow

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
)

// system makes the rows of laaster.errors, laaster.late and laaster.audit, which are readers' relations as views are.
type system struct {
	errors, late     *sink   // nil: the program has no such relation
	shown            *sink   // laaster.audit; nil: the program has none
	errorsIn, lateIn []delta // of this batch
	// What the first batch after Take brings beside, in memory of its own.
	errorsNext, lateNext []delta
	sinks                []*sink // those that there are, ascending by relation
	vals                 []change.Value
	lateViews            []*view // with late rows in this batch
}

// ErrorsRelation returns laaster.errors, as relation number id of a program: the rows that are missing from views because an expression
// failed on them, as far as they are kept (see errorsKept).
func ErrorsRelation(id int) *expr.Relation {
	return systemRelation(id, "laaster.errors", []int{0, 1}, app.Column{Name: "view", Type: app.Text}, app.Column{Name: "error", Type: app.Text},
		app.Column{Name: "reason", Type: app.Text}, app.Column{Name: "row", Type: app.JSONB}, app.Column{Name: "copies", Type: app.Int8},
		app.Column{Name: "sequence", Type: app.Int8}, app.Column{Name: "at", Type: app.Timestamptz})
}

// LateRelation returns laaster.late, as relation number id of a program: for each view the newest rows that came too late for it (see
// lateKept). Its key is the view, the table and the number, which counts the table's late rows from 1, whoever left them out.
func LateRelation(id int) *expr.Relation {
	return systemRelation(id, "laaster.late", []int{1, 2, 0}, app.Column{Name: "number", Type: app.Int8}, app.Column{Name: "view", Type: app.Text},
		app.Column{Name: "table", Type: app.Text}, app.Column{Name: "sequence", Type: app.Int8}, app.Column{Name: "event_time", Type: app.Timestamptz},
		app.Column{Name: "watermark", Type: app.Timestamptz}, app.Column{Name: "row", Type: app.JSONB})
}

func systemRelation(id int, name string, key []int, cols ...app.Column) *expr.Relation {
	for i := range cols {
		cols[i].NotNull = cols[i].Name != "event_time"
	}
	return &expr.Relation{ID: id, Name: name, Columns: cols, Layout: change.ColumnLayout(cols), Key: key}
}

func newSystem(p *Program) system {
	s := system{vals: make([]change.Value, 7)}
	if p.Errors > 0 {
		k := newSink(p.Relations[p.Errors], "errors")
		s.errors = &k
	}
	if p.Late > 0 {
		k := newSink(p.Relations[p.Late], "late")
		s.late = &k
	}
	if p.Audit > 0 {
		k := newSink(p.Relations[p.Audit], "audit")
		s.shown = &k
	}
	for _, k := range []*sink{s.errors, s.late, s.shown} {
		if k != nil {
			s.sinks = append(s.sinks, k)
		}
	}
	slices.SortFunc(s.sinks, func(a, b *sink) int { return a.rel.ID - b.rel.ID })
	return s
}

// finishSystem turns what the batch noted into rows.
func (e *Engine) finishSystem() error {
	x, s := &e.x, &e.system
	for _, l := range x.failed {
		owner := e.steps[l.step]
		l.settle(x, func(r ref, w int64) {
			if owner == nil { // freed in this batch
				return
			}
			for _, v := range owner.users {
				s.addError(x, v.rel.Name, l.kept.row(r), w)
			}
		})
	}
	x.failed = x.failed[:0]
	e.settleLate()
	s.errorsIn, s.lateIn = append(s.errorsIn, s.errorsNext...), append(s.lateIn, s.lateNext...)
	s.errorsNext, s.lateNext = nil, nil
	for _, p := range []struct {
		sink *sink
		in   *[]delta
	}{{s.errors, &s.errorsIn}, {s.late, &s.lateIn}, {s.shown, &e.audit.in}} {
		if p.sink != nil {
			if _, err := p.sink.take(x, *p.in); err != nil {
				return err
			}
		}
		*p.in = (*p.in)[:0]
	}
	return nil
}

func (s *system) addError(x *exec, view string, r errorRow, w int64) {
	if s.errors == nil {
		return
	}
	id := hex.AppendEncode(nil, r.id)
	copy(s.vals, []change.Value{change.Bytes([]byte(view)), change.Bytes(id), change.Bytes(r.reason), change.Bytes(r.row), change.Int(r.copies),
		change.Int(int64(r.seq)), change.Int(r.stamp)})
	s.errorsIn = append(s.errorsIn, delta{x.scratch.row(s.errors.base, s.vals), w})
}

// lateRow is a row that a step diverted in this batch.
type lateRow struct {
	table  int // catalog id
	number uint64
	row    change.Row
	mark   int64 // the watermark when it came
}

// lateLog counts the rows that came too late for a view and keeps the newest lateKept.
type lateLog struct {
	count int64
	rows  tree // count → table, number, sequence, mark, time (8 bytes each), the row as jsonb
}

// lateKept is how many late rows of a view are kept.
const lateKept = 1000

func newLateLog() lateLog { return lateLog{rows: newTree()} }

func (l *lateLog) state(k *keeper) {
	k.i64(&l.count)
	k.tree(&l.rows)
}

// divert puts a row of a table (its catalog id) that came too late for the step that is running into laaster.late.
func (x *exec) divert(table int, row change.Row, b behind) {
	n := x.step
	if len(n.late) == 0 {
		x.diverted = append(x.diverted, n)
	}
	n.late = append(n.late, lateRow{table, b.number, row, b.mark})
}

// settleLate takes the batch's late rows into the logs of the views that need them.
func (e *Engine) settleLate() {
	x, s := &e.x, &e.system
	for _, n := range x.diverted {
		for _, v := range n.users {
			if len(v.lateBatch) == 0 {
				s.lateViews = append(s.lateViews, v)
			}
			v.lateBatch = append(v.lateBatch, n.late...)
		}
		clear(n.late)
		n.late = n.late[:0]
	}
	x.diverted = x.diverted[:0]
	for _, v := range s.lateViews {
		e.takeLate(v)
		clear(v.lateBatch)
		v.lateBatch = v.lateBatch[:0]
	}
	s.lateViews = s.lateViews[:0]
}

// takeLate takes the batch's late rows of a view: by table, so that the order of its steps, which other views have a part in, decides
// nothing. Several of its steps may have left the same row out.
func (e *Engine) takeLate(v *view) {
	l := &v.late
	slices.SortFunc(v.lateBatch, func(a, b lateRow) int { return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.number, b.number)) })
	rows := slices.CompactFunc(v.lateBatch, func(a, b lateRow) bool { return a.table == b.table && a.number == b.number })
	for i := range rows {
		l.count++
		if len(rows)-i <= lateKept { // else it would have to make room at once
			e.addLate(v, l.keep(&e.x, &rows[i]), 1)
		}
	}
	for l.rows.n > lateKept {
		c := l.rows.first()
		e.addLate(v, c, -1)
		l.rows.add(e.x.scratch.copy(c.key()), nil, -1)
	}
}

// keep stores a late row under the log's count and returns where.
func (l *lateLog) keep(x *exec, r *lateRow) cursor {
	t := x.tables[uint32(r.table)]
	names := make([]string, len(t.rules.Table.Columns))
	for i, c := range t.rules.Table.Columns {
		names[i] = c.Name
	}
	at, _ := t.wm.time.get(r.row)
	var val []byte
	for _, n := range []uint64{uint64(r.table), r.number, x.seq, uint64(r.mark), uint64(at)} {
		val = binary.LittleEndian.AppendUint64(val, n)
	}
	key := binary.BigEndian.AppendUint64(nil, uint64(l.count))
	l.rows.add(key, append(val, rowJSON(x, t.rules.Layout, names, r.row)...), 1)
	return l.rows.seek(key)
}

// addLate adds the row of an entry of the view's log to what laaster.late gets, or takes it back.
func (e *Engine) addLate(v *view, c cursor, w int64) {
	s, b := &e.system, c.value()
	if s.late == nil {
		return
	}
	num := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[8*i:])) }
	table := ""
	if t := e.x.tables[uint32(num(0))]; t != nil {
		table = t.rel.Name
	}
	copy(s.vals, []change.Value{change.Int(num(1)), change.Bytes([]byte(v.rel.Name)), change.Bytes([]byte(table)), change.Int(num(2)),
		change.Int(num(4)), change.Int(num(3)), change.Bytes(b[40:])})
	s.lateIn = append(s.lateIn, delta{e.x.scratch.row(s.late.base, s.vals), w})
}

// addAll adds every row of laaster.errors and laaster.late that is about the view, w times each.
func (e *Engine) addAll(v *view, w int64) {
	for _, n := range v.steps {
		if k := n.errors.kept; k != nil {
			k.byID.each(func(r ref) { e.system.addError(&e.x, v.rel.Name, k.row(r), w) })
		}
	}
	for c := v.late.rows.first(); c.valid(); c.next() {
		e.addLate(v, c, w)
	}
}
