package flow

import (
	"encoding/binary"
	"fmt"
	"slices"

	"laaster/internal/checkpoint"
	"laaster/internal/kit/fault"
)

// planSemantics counts the versions of what operators compute and of how their state is laid out. A change of either must raise it: then no checkpoint
// from before is continued, views are computed anew (see [LoadTables]), and canaries from before say nothing.
const planSemantics = 1

// stateFormat is the version of the part of the root that [LoadTables] reads, whatever the program: tables, keys, births. A change must be read by
// what comes later.
const stateFormat = 1

// PlanError says that a checkpoint is of another program, or of the same one under other semantics.
type PlanError struct{ Has, Wants [16]byte }

// Error implements error.
func (e *PlanError) Error() string {
	return fmt.Sprintf("flow: the checkpoint is of plan %x, the program's is %x", e.Has, e.Wants)
}

// StateError says that what was loaded is not the state that the checkpoint names.
type StateError struct{ Has, Wants [16]byte }

// Error implements error.
func (e *StateError) Error() string {
	return fmt.Sprintf("flow: the state that was loaded has fingerprint %x, the checkpoint was made at %x", e.Has, e.Wants)
}

// PlanHash names what the state of an engine of this program means: semantics, tables, views and their steps, in their order. Engines of two
// programs with one hash can go on with each other's state, and have one fingerprint after the same batches as long as their Options agree.
func (p *Program) PlanHash() [16]byte {
	b := fmt.Appendf(nil, "semantics %d\n", planSemantics)
	for i, r := range p.Relations {
		only := p.Only == nil || p.Only[i]
		b = fmt.Appendf(b, "relation %q key %v copies %t numbered %t only %t", r.Name, r.Key, r.Copies, r.Numbered, only)
		if t := r.Table; t != nil {
			b = fmt.Appendf(b, " %s kept %t version %d primary key %v readable %t columns", tableIdentity(t), t.Table.Kept, t.Version, t.Table.PrimaryKey,
				readable(p.Definition, r.Name))
			for _, c := range t.Table.Columns {
				b = fmt.Appendf(b, " %s", c.Type)
			}
		}
		b = append(b, '\n')
	}
	for _, v := range p.Views {
		b = fmt.Appendf(b, "view %d %q %s\n", v.Relation, v.Hash, p.planIdentity(v.Root))
	}
	b = fmt.Appendf(b, "system %d %d %d", p.Errors, p.Late, p.Audit)
	return hash16(domainIdentity, b)
}

// Identity names what decides the engine's fingerprint beside the log: its program, its Options, and since when it has seen the log. Engines of one
// identity have one fingerprint after the same batch; of others, fingerprints say nothing. It changes with Take.
func (e *Engine) Identity() [16]byte {
	plan := e.prog.PlanHash()
	b := fmt.Appendf(plan[:], "window %d matches %d limits %d %d %d base %d", e.opt.Window, e.opt.MaxMatches, e.opt.MaxViewBytes, e.opt.MaxBytes, e.opt.MaxJoinRows, e.base)
	for _, v := range e.views {
		b = fmt.Appendf(b, " %q", v.scope)
	}
	return hash16(domainIdentity, b)
}

// hash16 is hash128 as bytes.
func hash16(domain uint64, b []byte) (out [16]byte) {
	sum := hash128(domain, b)
	binary.LittleEndian.PutUint64(out[:], sum.lo)
	binary.LittleEndian.PutUint64(out[8:], sum.hi)
	return out
}

// Freeze hands over the state as it is now. Its cost is that of the number of structures and of pages that changed since the last one, not of the
// state. One at a time: the one before must be Done.
func (e *Engine) Freeze(objects func() checkpoint.ObjectID) *Frozen {
	k := freezing(objects)
	k.guard = e.opt.guard
	scopes := make([]string, len(e.views))
	for i, v := range e.views {
		scopes[i] = v.scope
	}
	formState(k, scopes)
	e.state(k)
	return k.done()
}

// Done tells the engine, on its goroutine, whether the checkpoint was committed. When it was not, the pages count as changed again.
func (e *Engine) Done(f *Frozen, committed bool) {
	f.done(committed)
	e.state(visiting(func(*pages) {})) // now rather than within the pause of the next freeze
}

// Load returns the engine as it was in a checkpoint of the same PlanHash: a [PlanError] says that it is of another one, a [StateError] that the
// state is not what the checkpoint's fingerprint says (which is not compared when it is zero).
func Load(p *Program, opt Options, from *checkpoint.State) (*Engine, error) {
	h := from.Header()
	if want := p.PlanHash(); h.Plan != want {
		return nil, &PlanError{h.Plan, want}
	}
	k := loadingFrom(from, from.Part("flow"), opt.Resident)
	scopes := formState(k, nil)
	if len(scopes) != len(p.Views) {
		k.fail(fmt.Errorf("%d views, the program has %d", len(scopes), len(p.Views)))
	}
	if k.err != nil {
		return nil, k.err
	}
	e, err := newEngine(p, opt, scopes)
	if err != nil {
		return nil, err
	}
	e.state(k)
	if err := k.loaded(); err != nil {
		return nil, err
	}
	if e.seq != h.Seq || e.stamp != h.Stamp {
		return nil, fmt.Errorf("flow: the state is of batch %d (stamp %d), the checkpoint of batch %d (stamp %d)", e.seq, e.stamp, h.Seq, h.Stamp)
	}
	if fault.Bug("flow-forgets-keys") {
		e.seen, e.requests, e.producers = newWindow(domainSeen, 0), newWindow(domainRequest, rememberedSkip), newProducers()
		return e, nil
	}
	if got := e.Fingerprint(); h.Fingerprint != [16]byte{} && got != h.Fingerprint {
		return nil, &StateError{got, h.Fingerprint}
	}
	return e, nil
}

// formState is what has to be known ahead of all else: the format, and the scopes of the views, by which the graph is made.
func formState(k *keeper, scopes []string) []string {
	k.section("flow")
	format := uint32(stateFormat)
	if k.u32(&format); format != stateFormat {
		k.fail(fmt.Errorf("its format is %d, this version reads %d", format, stateFormat))
	}
	n := k.length(len(scopes))
	if k.loading {
		scopes = make([]string, n)
	}
	for i := range scopes {
		k.text(&scopes[i])
	}
	return scopes
}

// state is all that lives from one batch to the next. What comes first is read by any program, see [LoadTables].
func (e *Engine) state(k *keeper) {
	e.logState(k)
	e.tableStates(k)
	k.section("views")
	e.stoppedState(k)
	for i := range e.order {
		if u := &e.order[i]; u.step != nil {
			u.step.state(k)
		} else {
			k.section("view " + u.view.plan.Hash)
			u.view.late.state(k)
			u.view.sink.state(k)
		}
	}
	k.section("system")
	deltasState(k, &e.system.errorsNext)
	deltasState(k, &e.system.lateNext)
	if k.loading && k.err == nil {
		e.settled()
	}
}

// logState is what belongs to the log as a whole.
func (e *Engine) logState(k *keeper) {
	k.section("log")
	k.u64(&e.seq)
	k.i64(&e.stamp)
	k.u64(&e.began)
	k.u64(&e.base)
	e.clock.state(k)
	e.births.state(k)
	k.section("remembered")
	k.window(&e.seen)
	k.window(&e.requests)
	e.producers.state(k)
	k.section("audit")
	e.audit.state(k)
}

// tableStates are the tables by their catalog ids, then what readers see of those that have sinks, then the combined watermarks.
func (e *Engine) tableStates(k *keeper) {
	k.section("tables")
	tables := slices.SortedFunc(slices.Values(e.tables), func(a, b *tableState) int { return int(a.rules.Catalog) - int(b.rules.Catalog) })
	if n := k.length(len(tables)); n != len(tables) {
		k.fail(fmt.Errorf("%d tables, the program has %d", n, len(tables)))
		return
	}
	for _, t := range tables {
		was := t.shape()
		shape := was
		if shape.state(k); shape != was {
			k.fail(fmt.Errorf("table %s is stored in another form", t.rel.Name))
			return
		}
		t.state(k)
	}
	k.section("watermarks")
	e.marks.state(k)
	k.section("readable tables")
	for _, t := range tables {
		if s := e.tableSink(t); s != nil {
			s.state(k)
		}
	}
}

// tableShape says of a table what it has, for those who load it without the program that it was of.
type tableShape struct {
	catalog, version          uint32 // version: of the rows
	kept, timed, expires, own bool   // rows; a watermark; a ttl; remembered keys of its own
}

func (t *tableState) shape() tableShape {
	return tableShape{t.rules.Catalog, t.rules.Version, t.kept, t.wm != nil, t.ttl != nil, t.seen != nil}
}

func (s *tableShape) state(k *keeper) {
	k.u32(&s.catalog)
	k.u32(&s.version)
	for _, f := range []*bool{&s.kept, &s.timed, &s.expires, &s.own} {
		k.flag(f)
	}
}

// stoppedState is which views have stopped. Their steps are nowhere.
func (e *Engine) stoppedState(k *keeper) {
	for _, v := range e.views {
		if !k.optional(v.stopped != nil) {
			continue
		}
		if v.stopped == nil {
			v.stopped = &Stopped{Relation: v.rel.ID}
			e.release(v)
		}
		k.u64(&v.stopped.Seq)
		k.text(&v.stopped.Reason)
		k.i64(&v.sink.rows)
	}
	if k.loading {
		e.link()
	}
}

func (n *step) state(k *keeper) {
	k.section(n.id)
	k.flag(&n.ran)
	k.i64(&n.size)
	k.u64(&n.inRows)
	k.u64(&n.outRows)
	n.errors.state(k)
	switch {
	case n.one != nil:
		n.one.state(k)
	case n.many != nil:
		n.many.state(k)
	}
}

// deltasState keeps rows that the next batch will bring.
func deltasState(k *keeper, list *[]delta) {
	n := k.length(len(*list))
	if k.loading {
		*list = make([]delta, n)
	}
	for i := range *list {
		d := &(*list)[i]
		row := []byte(d.row)
		k.bytes(&row)
		d.row = row
		k.i64(&d.w)
	}
}

// measure adds up the state of all operators.
func (e *Engine) measure() {
	e.size = 0
	for _, n := range e.steps {
		e.size += n.size
	}
	for _, v := range e.views {
		e.size += v.sink.size
	}
}

// settled brings what follows from the state up to date once that is loaded.
func (e *Engine) settled() {
	e.x.seq, e.x.stamp = e.seq, e.stamp
	e.measure()
	e.link()
	e.findTimed()
	e.countSeen()
}

// countSeen tells SeenBytes what remembering takes.
func (e *Engine) countSeen() {
	_, own := e.remembered()
	e.seenMemory.Store(int64(e.seen.bytes() + e.requests.bytes() + e.producers.bytes() + own))
}
