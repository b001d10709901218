package flow

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/kit/check"
)

// loadChunk is how many rows LoadTables gives to the views at once: it bounds what a step makes of them.
const loadChunk = 20_000

// LoadTables returns an engine of p whose tables (kept rows, remembered keys, watermarks, births) are those of the checkpoint, whatever views
// that had, and whose views are computed from these rows as of the checkpoint's position: what a view begins with when the log before is gone. The
// checkpoint's plan hash and semantics may be others. The epoch holds all rows of p's readers' relations as insertions.
//
// Rows of tables that keep none are gone, but for those that wait for the end of their time to live. The rows that are there count as if they had
// come at the position, but in time for everything: what a watermark has closed by then is computed as if it were open, shown, and then closed. Rows
// of tables in which rows change come ahead of those of append-only tables, which find them when they look them up (as_of). Rows of a table
// without a primary key are not in the engine but in the readers' store: see Options.Rows. laaster.errors has the rows that fail now,
// laaster.late is empty.
func LoadTables(p *Program, opt Options, from *checkpoint.State) (*Engine, *change.Epoch, error) {
	var scopes []string
	if p.Only != nil { // views for an engine that has others, which have seen more
		scopes = slices.Repeat([]string{fmt.Sprintf("since %d: ", from.Header().Seq)}, len(p.Views))
	}
	e, err := newEngine(p, opt, scopes)
	if err != nil {
		return nil, nil, err
	}
	l := &tableLoad{e: e, tables: map[uint32]*oldTable{}, rows: make([]map[string]change.Row, len(p.Relations))}
	k := loadingFrom(from, from.Part("flow"), 0)
	l.read(k)
	if k.err != nil {
		return nil, nil, k.err
	}
	if err := l.takeOver(); err != nil {
		return nil, nil, err
	}
	if err := l.fill(); err != nil {
		return nil, nil, err
	}
	return e, l.epoch(), nil
}

// tableLoad is one call of LoadTables.
type tableLoad struct {
	e       *Engine
	was     Engine               // what the checkpoint has of the log as a whole
	tables  map[uint32]*oldTable // what it has of tables
	ids     []uint32             // ascending
	groups  []together           // and of combined watermarks
	batch   uint64               // see exec.batch
	rows    []map[string]change.Row
	stopped []change.Stopped
}

// oldTable is a table as the checkpoint has it.
type oldTable struct {
	tableState
	shape tableShape
}

// read reads what any program can read of a checkpoint.
func (l *tableLoad) read(k *keeper) {
	l.was = Engine{seen: newWindow(domainSeen, 0), requests: newWindow(domainRequest, rememberedSkip), producers: newProducers(), audit: newAudit()}
	formState(k, nil)
	l.was.logState(k)
	k.section("tables")
	for range k.length(0) {
		t := &oldTable{}
		if t.shape.state(k); k.err != nil {
			return
		}
		t.make()
		t.state(k)
		l.tables[t.shape.catalog] = t
	}
	l.ids = slices.Sorted(maps.Keys(l.tables))
	k.section("watermarks")
	for range k.length(0) {
		var g together
		g.state(k)
		l.groups = append(l.groups, g)
	}
}

// make gives the table what its shape says that it has.
func (t *oldTable) make() {
	if t.kept = t.shape.kept; t.kept {
		t.rows = newTable()
	}
	if t.shape.timed {
		t.wm = &watermark{}
	}
	if t.shape.expires {
		t.ttl = newExpiry(0, t.kept)
	}
	if t.shape.own {
		w := newWindow(domainSeen, 0)
		t.seen = &w
	}
}

// takeOver moves what is no view's: all but the rows.
func (l *tableLoad) takeOver() error {
	e, was := l.e, &l.was
	e.seq, e.stamp, e.began, e.births.last = was.seq, was.stamp, was.began, was.births.last
	e.base = e.seq
	e.clock.started, e.clock.stamp, e.clock.now = was.clock.started, was.clock.stamp, was.clock.now
	for _, t := range e.tables {
		old := l.tables[t.rules.Catalog]
		if old == nil {
			continue
		}
		if old.shape.version != t.rules.Version && t.version(old.shape.version) == nil {
			return fmt.Errorf("flow: table %s has no version %d, of which the checkpoint's rows are", t.rel.Name, old.shape.version)
		}
		t.in = old.in
		if t.wm != nil && old.wm != nil {
			w := *old.wm
			w.time, w.lateness, w.idle = t.wm.time, t.wm.lateness, t.wm.idle
			*t.wm = w
		}
	}
	for _, g := range e.marks.groups {
		i := slices.IndexFunc(l.groups, func(o together) bool { return slices.Equal(o.tables, g.tables) })
		if i >= 0 {
			g.before, g.now = l.groups[i].before, l.groups[i].now
		} else if e.clock.started {
			g.begin(e.stamp)
		}
	}
	l.keys()
	l.forgotten()
	w := was.requests.walk()
	for w.next(); w.r != 0; w.next() {
		e.requests.copyValue(&w)
	}
	was.producers.each(func(key []byte, m *remembered) { e.producers.remember(e.producers.t.hash(key), 0, key, m) })
	e.audit.last, e.audit.sum = was.audit.last, was.audit.sum
	for c := was.audit.rows.first(); c.valid(); c.next() {
		e.audit.rows.add(c.key(), c.value(), 1)
	}
	e.countSeen()
	return nil
}

// keys moves the primary keys that are remembered, each to where p remembers it: in the order in which they came.
func (l *tableLoad) keys() {
	walks := []windowWalk{l.was.seen.walk()}
	for _, id := range l.ids {
		if w := l.tables[id].seen; w != nil {
			walks = append(walks, w.walk())
		}
	}
	for i := range walks {
		walks[i].next()
	}
	for {
		var first *windowWalk
		for i := range walks {
			if w := &walks[i]; w.r != 0 && (first == nil || w.stamp < first.stamp) {
				first = w
			}
		}
		if first == nil {
			return
		}
		key := first.w.t.key(first.r)
		if t := l.e.byID[binary.LittleEndian.Uint32(key)]; t != nil { // else it is gone
			t.partial = t.partial || t.kept
			l.e.seenOf(t, key[4:]).copyValue(first)
		}
		first.next()
	}
}

// forgotten remembers the keys of rows that the checkpoint has and p keeps no more, as if they had come now.
func (l *tableLoad) forgotten() {
	for _, t := range l.e.tables {
		old := l.tables[t.rules.Catalog]
		if old == nil || !old.kept || t.kept || len(t.pk) == 0 {
			continue
		}
		old.rows.each(func(r ref) {
			seen := l.e.seenOf(t, old.rows.key(r))
			if h := seen.t.hash(l.e.key); seen.t.find(h, l.e.key) == 0 {
				seen.sum.add(seen.digest(seen.insert(h, l.e.key, 0, l.e.stamp), l.e.stamp))
			}
		})
	}
}

// copyValue remembers what a walk is at.
func (w *window) copyValue(from *windowWalk) {
	key, val := from.w.t.key(from.r), from.w.t.value(from.r)
	r := w.insert(w.t.hash(key), key, len(val), from.stamp)
	copy(w.t.edit(r), val)
	w.sum.add(w.digest(r, from.stamp))
}

// fill brings the rows into tables and views: those of tables in which rows change at a stamp before the others, then the time.
func (l *tableLoad) fill() error {
	e := l.e
	x := &e.x
	marks := x.marks
	x.marks = nil // nothing is late, nothing is closed
	for pass, stamp := range []int64{e.stamp - 1, e.stamp} {
		for _, t := range e.tables {
			if t.rules.Table.Keyed() == (pass == 0) {
				if err := l.fillTable(t, stamp); err != nil {
					return err
				}
			}
		}
		if err := l.flush(stamp); err != nil { // what has no input shows itself in the first
			return err
		}
	}
	x.marks = marks
	l.begin(e.stamp)
	for c := e.audit.rows.first(); c.valid() && e.system.shown != nil; c.next() {
		e.audit.in = append(e.audit.in, delta{x.scratch.copy(c.value()), 1})
	}
	return l.flush(e.stamp)
}

// fillTable brings one table's rows, chunk by chunk.
func (l *tableLoad) fillTable(t *tableState, stamp int64) error {
	old := l.tables[t.rules.Catalog]
	if old == nil {
		return nil
	}
	l.begin(stamp)
	switch {
	case old.kept:
		return l.fillKept(t, old, stamp)
	case old.ttl != nil && t.ttl != nil:
		return l.fillQueue(t, old, stamp)
	case t.rules.Table.Kept && len(t.pk) == 0 && l.e.opt.Rows != nil:
		return l.fillStored(t, old, stamp)
	}
	return nil
}

// fillKept brings the rows of a table that the checkpoint has, in the order of their keys.
func (l *tableLoad) fillKept(t *tableState, old *oldTable, stamp int64) error {
	refs := make([]ref, 0, old.rows.n)
	old.rows.each(func(r ref) { refs = append(refs, r) })
	slices.SortFunc(refs, func(a, b ref) int { return bytes.Compare(old.rows.key(a), old.rows.key(b)) })
	if t.kept {
		l.fillTimes(t, old, refs)
	}
	for _, r := range refs {
		row, err := t.current(&l.e.x, old.shape.version, change.Row(old.rows.value(r)))
		if err != nil {
			return fmt.Errorf("flow: a row of table %s in the checkpoint: %w", t.rel.Name, err)
		}
		if t.kept {
			key := old.rows.key(r)
			to := t.rows.insert(t.rows.hash(key), key, len(row))
			copy(t.rows.edit(to), row)
			row = t.rows.value(to)
			t.sum.add(hash128(t.dom, row))
			t.count++
		}
		if err := l.add(t, row, stamp); err != nil {
			return err
		}
	}
	return l.flush(stamp)
}

// fillTimes gives the rows of a kept table with a ttl the times of their last writes.
func (l *tableLoad) fillTimes(t *tableState, old *oldTable, refs []ref) {
	if t.ttl == nil {
		return
	}
	for _, r := range refs {
		key, stamp := old.rows.key(r), l.e.stamp
		if old.ttl != nil {
			if s := old.ttl.stamps.find(old.ttl.stamps.hash(key), key); s != 0 {
				stamp = getInt(old.ttl.stamps.value(s))
			}
		}
		e := t.ttl
		putInt(e.stamps.edit(e.stamps.insert(e.stamps.hash(key), key, 8)), stamp)
		e.move(stamp, key, 1)
	}
}

// fillQueue brings the rows of a table that keeps none which wait for the end of their time to live.
func (l *tableLoad) fillQueue(t *tableState, old *oldTable, stamp int64) error {
	for old.ttl.queue.n > 0 {
		came := old.ttl.queue.first()
		row, err := t.current(&l.e.x, old.shape.version, old.ttl.queue.pop())
		if err != nil {
			return fmt.Errorf("flow: a row of table %s in the checkpoint: %w", t.rel.Name, err)
		}
		if !t.kept {
			t.ttl.queue.push(row, came)
		} else if !l.keep(t, row, came) {
			continue
		}
		if err := l.add(t, l.e.x.scratch.copy(row), stamp); err != nil {
			return err
		}
	}
	return l.flush(stamp)
}

// keep makes a row that waited for its end one of a table that keeps its rows now. It is false when there is one with its key.
func (l *tableLoad) keep(t *tableState, row change.Row, came int64) bool {
	key := t.keyOf(row)
	h := t.rows.hash(key)
	if t.rows.find(h, key) != 0 {
		return false
	}
	copy(t.rows.edit(t.rows.insert(h, key, len(row))), row)
	t.sum.add(hash128(t.dom, row))
	t.count++
	e := t.ttl
	putInt(e.stamps.edit(e.stamps.insert(e.stamps.hash(key), key, 8)), came)
	e.move(came, key, 1)
	return true
}

// fillStored brings the rows of a table without a key, which the readers' store has.
func (l *tableLoad) fillStored(t *tableState, old *oldTable, stamp int64) error {
	var failed error
	err := l.e.opt.Rows(t.rel.Name, func(row change.Row) bool {
		if row, failed = t.current(&l.e.x, old.shape.version, row); failed == nil {
			failed = l.add(t, l.e.x.scratch.copy(row), stamp)
		}
		return failed == nil
	})
	if err = cmp.Or(failed, err); err != nil {
		return fmt.Errorf("flow: the rows of table %s in the readers' store: %w", t.rel.Name, err)
	}
	return l.flush(stamp)
}

// add gives a row to the views.
func (l *tableLoad) add(t *tableState, row change.Row, stamp int64) error {
	t.out = append(t.out, delta{row, 1})
	if len(t.out) < loadChunk {
		return nil
	}
	return l.flush(stamp)
}

// begin starts a batch that is in no log.
func (l *tableLoad) begin(stamp int64) {
	x := &l.e.x
	x.begin(l.e.seq, stamp)
	l.batch--
	x.batch, x.now = l.batch, l.e.clock.now
}

// flush carries the rows at hand through the views and takes in what comes out.
func (l *tableLoad) flush(stamp int64) error {
	e := l.e
	if err := e.carry(); err != nil {
		return err
	}
	var epoch change.Epoch
	e.collect(&epoch)
	l.stopped = append(l.stopped, epoch.Stopped...)
	for _, d := range epoch.Deltas {
		if l.rows[d.Relation] == nil {
			l.rows[d.Relation] = make(map[string]change.Row, len(d.Changes))
		}
		rows := l.rows[d.Relation]
		for _, c := range d.Changes {
			check.That((rows[string(c.Key)] != nil) == (c.Old != nil), "flow: a change of a row that was not there")
			if c.New == nil {
				delete(rows, string(c.Key))
			} else {
				rows[string(c.Key)] = c.New
			}
		}
	}
	l.begin(stamp)
	return nil
}

// epoch returns all rows as insertions.
func (l *tableLoad) epoch() *change.Epoch {
	slices.SortFunc(l.stopped, func(a, b change.Stopped) int { return a.Relation - b.Relation })
	out := &change.Epoch{Seq: l.e.seq, Stamp: l.e.stamp, Stopped: l.stopped, Bytes: epochSize}
	for i, rows := range l.rows {
		if len(rows) == 0 {
			continue
		}
		d := change.Delta{Relation: i, Changes: make([]change.RowChange, 0, len(rows))}
		for _, key := range slices.Sorted(maps.Keys(rows)) {
			d.Changes = append(d.Changes, change.RowChange{Key: []byte(key), New: rows[key]})
			out.Bytes += rowChangeSize + len(key) + len(rows[key])
		}
		out.Bytes += deltaSize
		out.Deltas = append(out.Deltas, d)
	}
	return out
}
