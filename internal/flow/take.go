package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// ErrBehind is the answer of [Take] while an engine's time lags behind the log's, because more rows were due at once than leave at one
// stamp. A later batch will do.
var ErrBehind = errors.New("flow: rows that are due have not left yet")

// Take makes the engine of program next at the batch that running and beside have both applied. What running has, it takes from there:
// rows of tables, keys that are remembered, views of the same query with all their steps. The rest it takes from beside, an engine of
// what [Missing] lists, restricted by [Restrict], that has applied the log from its start; nil when nothing is missing. What next has no
// use for is dropped. Neither engine may be used afterwards, unless there is an error.
//
// The engine is as one that applied the whole log under next, but that views which stopped in running stay so. Its next epoch brings
// laaster.errors and laaster.late from what running showed to what next does.
func Take(next *Program, running, beside *Engine) (*Engine, error) {
	e, err := newEngine(next, running.opt, scopesOf(next, running, beside))
	if err != nil {
		return nil, err
	}
	t := &taking{e: e, running: running, beside: beside, taken: map[*view]bool{}}
	if err := t.check(); err != nil {
		return nil, err
	}
	for i := range e.tables {
		if err := t.table(i); err != nil {
			return nil, err
		}
	}
	if err := t.views(); err != nil {
		return nil, err
	}
	t.rest()
	return e, nil
}

// taking is one call of Take.
type taking struct {
	e, running *Engine
	beside     *Engine        // nil: nothing is missing
	taken      map[*view]bool // views of the other engines
	adopt      []func()       // what moves once it is clear that nothing is missing
	fromBeside []uint32       // catalog ids of the tables that beside has
}

func (t *taking) check() error {
	r, b := t.running, t.beside
	switch {
	case b != nil && (b.seq != r.seq || b.stamp != r.stamp):
		return fmt.Errorf("flow: the engines are at batches %d and %d", r.seq, b.seq)
	case r.clock.lags() || b != nil && b.clock.lags():
		return ErrBehind
	}
	return nil
}

// lags reports whether the engine's time is behind the last stamp.
func (c *clock) lags() bool { return c.started && c.now < c.stamp }

// fits reports whether t can go on with the state of old.
func (old *tableState) fits(t *tableState) bool { return old.kept == t.kept && old.dom == t.dom }

// converts reports whether the rows of old become those of t when the columns that were added since are filled in.
func (old *tableState) converts(t *tableState) bool {
	a, b := *old.rules.Table, old.rules.Table.Columns
	a.Columns = t.rules.Table.Columns
	rules := *old.rules
	rules.Table = &a
	return old.kept == t.kept && old.ttl == nil && len(b) < len(a.Columns) && tableIdentity(&rules) == tableIdentity(t.rules)
}

// tableSink returns the sink of one of the engine's tables, nil when it has none.
func (e *Engine) tableSink(t *tableState) *sink {
	if i := slices.Index(e.tables, t); i >= 0 {
		return e.sinks[i]
	}
	return nil
}

// table finds the state of table i.
func (t *taking) table(i int) error {
	to, sink := t.e.tables[i], t.e.sinks[i]
	var other *tableState
	if t.beside != nil && t.beside.began == t.running.began {
		other = t.beside.byID[to.rules.Catalog]
	}
	old := t.running.byID[to.rules.Catalog]
	rows := sink != nil && !sink.quiet // they are in the sink alone
	switch {
	case old != nil && old.fits(to) && !(rows && t.running.tableSink(old) == nil):
		t.adopt = append(t.adopt, func() { t.adoptTable(to, old, sink, t.running.tableSink(old)) })
	case other != nil && other.fits(to) && !(rows && t.beside.tableSink(other) == nil):
		t.fromBeside = append(t.fromBeside, to.rules.Catalog)
		t.adopt = append(t.adopt, func() { t.adoptTable(to, other, sink, t.beside.tableSink(other)) })
	case old != nil && old.converts(to) && !rows:
		t.adopt = append(t.adopt, func() { t.convert(to, old) })
	case old != nil:
		return fmt.Errorf("flow: nobody has the rows of table %s", to.rel.Name)
	}
	return nil
}

func (t *taking) adoptTable(to, old *tableState, sink, from *sink) {
	moved := *old
	moved.rel, moved.rules, moved.pk, moved.pkName, moved.checks, moved.vals = to.rel, to.rules, to.pk, to.pkName, to.checks, to.vals
	*to = moved
	if sink != nil && from != nil {
		sink.adopt(from)
	}
}

// convert fills in the columns that were added since old's rows were written. It takes some 300 ns per row.
func (t *taking) convert(to, old *tableState) {
	x := &t.e.x
	old.rows.each(func(r ref) {
		x.scratch.reset()
		row, err := to.current(x, old.rules.Version, change.Row(old.rows.value(r)))
		if err != nil {
			panic("flow: a row of the engine's own cannot be read: " + err.Error())
		}
		key := old.rows.key(r)
		copy(to.rows.edit(to.rows.insert(to.rows.hash(key), key, len(row))), row)
		to.sum.add(hash128(to.dom, row))
	})
	to.count, to.in, to.seen = old.count, old.in, old.seen
	if to.wm != nil {
		time := to.wm.time
		*to.wm = *old.wm
		to.wm.time = time
	}
}

// adopt takes the state of a sink of the same rows.
func (s *sink) adopt(from *sink) {
	moved := *from
	moved.rel, moved.base, moved.ids, moved.quiet, moved.pick, moved.last = s.rel, s.base, s.ids, s.quiet, s.pick, s.last
	*s = moved
}

// twin returns the engine's view that has the rows of a view with this hash and root, one of the same name if there is one. It is then
// taken.
func (e *Engine) twin(hash, root string, rel *expr.Relation, taken map[*view]bool) (best *view) {
	score := -1
	for _, v := range e.views {
		same := slices.Equal(v.rel.Key, rel.Key) && v.rel.Copies == rel.Copies && v.rel.Numbered == rel.Numbered
		if v.plan.Hash != hash || taken[v] || v.stopped != nil || v.id != root || !same {
			continue
		}
		if n := len(flag(v.rel.Name == rel.Name, "same")); n > score {
			best, score = v, n
		}
	}
	if best != nil {
		taken[best] = true
	}
	return best
}

// twinOf returns running's view with these rows, or else beside's. What beside was asked to compute in a scope of its own is taken from there in any
// case: it may read what running has of other rows.
func twinOf(hash, root string, rel *expr.Relation, taken map[*view]bool, running, beside *Engine) *view {
	if beside != nil && beside.prog.Asked != nil && beside.prog.Asked[rel.ID] {
		for _, v := range beside.views {
			if v.rel.ID == rel.ID && v.scope != "" && v.stopped == nil {
				taken[v] = true
				return v
			}
		}
	}
	v := running.twin(hash, root, rel, taken)
	if v == nil && beside != nil {
		v = beside.twin(hash, root, rel, taken)
	}
	return v
}

// scopesOf returns the scopes that the views of next have where they come from; nil when none has one.
func scopesOf(next *Program, running, beside *Engine) []string {
	scopes, some, taken := make([]string, len(next.Views)), false, map[*view]bool{}
	for i, vp := range next.Views {
		if v := twinOf(vp.Hash, next.planIdentity(vp.Root), next.Relations[vp.Relation], taken, running, beside); v != nil {
			scopes[i] = v.scope
			some = some || v.scope != ""
		}
	}
	if !some {
		return nil
	}
	return scopes
}

// views moves views and steps.
func (t *taking) views() error {
	var gone []*view
	for _, v := range t.e.views {
		old := twinOf(v.plan.Hash, v.id, v.rel, t.taken, t.running, t.beside)
		if old == nil {
			if old = t.stopped(v); old == nil {
				return fmt.Errorf("flow: nobody has computed view %s", v.rel.Name)
			}
			v.stopped = &Stopped{Relation: v.rel.ID, Seq: old.stopped.Seq, Reason: old.stopped.Reason}
			v.sink.rows = old.sink.rows
			gone = append(gone, v)
			continue
		}
		t.adopt = append(t.adopt, func() {
			v.late = old.late
			v.sink.adopt(&old.sink)
		})
	}
	for _, v := range gone {
		t.e.release(v)
	}
	for _, n := range t.e.steps {
		old := t.running.steps[n.id]
		if old == nil && t.beside != nil {
			old = t.beside.steps[n.id]
		}
		if old == nil {
			return fmt.Errorf("flow: nobody has computed a step of view %s: %s", n.users[0].rel.Name, OperatorText(n.plan, func(int) string { return "" }))
		}
		t.adopt = append(t.adopt, func() {
			n.one, n.many, n.timed, n.ran, n.errors, n.size = old.one, old.many, old.timed, old.ran, old.errors, old.size
			n.inRows, n.outRows, n.nanos = old.inRows, old.outRows, old.nanos
		})
	}
	return nil
}

// stopped returns a view of the same query that stopped, in running or beside; nil when none did.
func (t *taking) stopped(v *view) *view {
	for _, e := range []*Engine{t.running, t.beside} {
		if e == nil {
			continue
		}
		for _, old := range e.views {
			if old.stopped != nil && old.plan.Hash == v.plan.Hash {
				return old
			}
		}
	}
	return nil
}

// rest moves everything once all of it is there, and what belongs to the log as a whole.
func (t *taking) rest() {
	e, r := t.e, t.running
	t.showSystem(r, -1)
	for _, f := range t.adopt {
		f()
	}
	e.seq, e.stamp, e.began, e.base = r.seq, r.stamp, r.began, r.base
	e.x.seq, e.x.stamp = r.seq, r.stamp
	e.seen, e.requests, e.producers, e.audit = r.seen, r.requests, r.producers, r.audit
	if len(t.fromBeside) > 0 {
		e.seen = t.mergeSeen()
	}
	e.seenMemory.Store(r.seenMemory.Load())
	e.measure()
	e.link()
	e.keepTime()
	e.clock.started, e.clock.stamp, e.clock.now = r.clock.started, r.clock.stamp, r.clock.now
	e.marks.adopt(r.marks)
	e.births.last = r.births.last
	if t.beside != nil {
		e.marks.adopt(t.beside.marks)
	}
	t.showSystem(e, 1)
}

// mergeSeen returns the remembered keys of the tables that beside has and of the others. It walks over all of them; it is needed only when
// a table's rows are kept from now on, or not kept any more.
func (t *taking) mergeSeen() window {
	out := newWindow(domainSeen, 0)
	a, b := t.running.seen.walk(), t.beside.seen.walk()
	for a.next(); a.r != 0; a.next() {
		for b.next(); b.r != 0 && b.stamp <= a.stamp; b.next() {
			out.copy(&b, true, t.fromBeside)
		}
		b.back()
		out.copy(&a, false, t.fromBeside)
	}
	for b.next(); b.r != 0; b.next() {
		out.copy(&b, true, t.fromBeside)
	}
	return out
}

// copy remembers the key that the walk is at when it is of one of the tables, or of another one.
func (w *window) copy(from *windowWalk, of bool, tables []uint32) {
	key := from.w.t.key(from.r)
	if slices.Contains(tables, binary.LittleEndian.Uint32(key)) != of {
		return
	}
	r := w.insert(w.t.hash(key), key, 0, from.stamp)
	w.sum.add(w.digest(r, from.stamp))
}

// showSystem adds the rows of laaster.errors and laaster.late that an engine has, w times, to what the new engine's next epoch brings.
func (t *taking) showSystem(from *Engine, w int64) {
	to, s := &t.e.system, &from.system
	s.errorsIn, s.lateIn = s.errorsIn[:0], s.lateIn[:0]
	from.x.scratch.reset()
	for _, v := range from.views {
		from.addAll(v, w)
	}
	keep := func(list *[]delta, in []delta) {
		for _, d := range in {
			*list = append(*list, delta{slices.Clone(d.row), d.w})
		}
	}
	in, late := s.errorsIn, s.lateIn
	s.errorsIn, s.lateIn = nil, nil
	keep(&to.errorsNext, in)
	keep(&to.lateNext, late)
}

// adopt takes the combined watermarks that the other engine kept and this one has no better of.
func (m *marks) adopt(from *marks) {
	for _, g := range m.groups {
		if old := from.find(g.tables); old != nil && g.now == minTime {
			g.now, g.before = old.now, old.before
		}
	}
}
