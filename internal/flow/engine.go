package flow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/kit/fault"
)

// Engine is a running program. One goroutine calls its methods; SeenBytes alone may be called by any.
type Engine struct {
	prog  *Program
	opt   Options
	x     exec
	seq   uint64 // of the last batch; 0: none yet
	stamp int64
	began uint64 // the first batch
	base  uint64 // the batch of the checkpoint whose tables it was made of, see LoadTables; 0: it has seen the log from its beginning

	tables []*tableState // in the order of Relations; those that the program leaves out are not among them
	byID   map[uint32]*tableState
	sinks  []*sink // by table: nil unless it is kept and somebody may read it
	*graph
	system system
	audit  audit
	deltas [][]delta        // by relation: what the batch changed
	stops  []change.Stopped // of this batch
	clock  clock
	marks  *marks

	seen       window // client-made keys of tables that are not kept
	requests   window // idempotency keys
	producers  producers
	seenMemory atomic.Int64

	births  births
	cache   cache
	rules   ruleCache
	noRules entryRules // lets every row pass
	matches []match    // scratch
	key     []byte     // scratch
	buf     []byte
}

// New returns an engine at the start of a log. It reads p and opt.Definition's results for ever and changes neither.
func New(p *Program, opt Options) (*Engine, error) { return newEngine(p, opt, nil) }

// newEngine is New for views with scopes, see graph.build.
func newEngine(p *Program, opt Options, scopes []string) (*Engine, error) {
	if err := opt.defaults(); err != nil {
		return nil, err
	}
	e := &Engine{prog: p, opt: opt, byID: map[uint32]*tableState{}, deltas: make([][]delta, len(p.Relations)),
		seen: newWindow(domainSeen, 0), requests: newWindow(domainRequest, rememberedSkip), producers: newProducers()}
	for i, rel := range p.Relations {
		if rel.Table == nil || p.Only != nil && !p.Only[i] {
			continue
		}
		t, err := newTableState(rel)
		if err != nil {
			return nil, err
		}
		if e.byID[rel.Table.Catalog] != nil {
			return nil, fmt.Errorf("flow: two tables have the catalog id %d", rel.Table.Catalog)
		}
		e.tables = append(e.tables, t)
		e.byID[rel.Table.Catalog] = t
		e.sinks = append(e.sinks, tableSink(p.Definition, t))
	}
	var err error
	if e.graph, err = newGraph(p, scopes); err != nil {
		return nil, err
	}
	e.system, e.audit = newSystem(p), newAudit()
	e.x.tables, e.x.maxJoinRows, e.x.maxStep = e.byID, opt.MaxJoinRows, int(min(max(opt.MaxViewBytes, stepBytes>>4), stepBytes))
	e.keepTime()
	if err := e.births.init(p, &opt); err != nil {
		return nil, err
	}
	return e, nil
}

// tableSink returns the sink of a table whose rows are kept for readers, else nil.
func tableSink(def *app.Definition, t *tableState) *sink {
	if !t.rules.Table.Kept || !readable(def, t.rel.Name) {
		return nil
	}
	s := newSink(t.rel, tableIdentity(t.rules))
	s.quiet = t.kept
	return &s
}

func readable(def *app.Definition, table string) bool {
	return def.Readable(table)
}

// Apply applies one batch and returns what changed. The epoch aliases neither the batch nor the engine. An error means that
// the log does not fit the program or is damaged: nothing more may be asked of the engine.
func (e *Engine) Apply(b *change.Batch) (*change.Epoch, error) {
	h := b.Header()
	if (h.Seq <= e.seq || h.Stamp < e.stamp) && !fault.Bug("flow-apply-twice") {
		return nil, fmt.Errorf("batch %d (stamp %d) after batch %d (stamp %d)", h.Seq, h.Stamp, e.seq, e.stamp)
	}
	e.x.begin(h.Seq, h.Stamp)
	if e.seq == 0 {
		e.began = h.Seq
	}
	e.seq, e.stamp = h.Seq, h.Stamp
	limit := h.Stamp - e.opt.Window.Microseconds()
	if fault.Bug("dedupe-window-off-by-one") {
		limit = h.Stamp - 1
	}
	e.seen.expire(limit)
	e.requests.expire(limit)
	e.producers.expire(limit)
	e.beginTime()

	epoch := &change.Epoch{Seq: h.Seq, Stamp: h.Stamp, Outcomes: make([]change.Outcome, 0, h.Entries)}
	it, en := b.Entries(), change.Entry{}
	for it.Next(&en) {
		out, err := e.entry(&en)
		if err != nil {
			return nil, fmt.Errorf("batch %d, entry %d: %w", h.Seq, len(epoch.Outcomes), err)
		}
		epoch.Outcomes = append(epoch.Outcomes, out)
	}
	e.settleTime()
	for _, t := range e.tables {
		t.finish()
	}
	if err := e.carry(); err != nil {
		return nil, fmt.Errorf("batch %d: %w", h.Seq, err)
	}
	e.collect(epoch)
	e.countSeen()
	return epoch, nil
}

func (e *Engine) entry(en *change.Entry) (change.Outcome, error) {
	switch en.Kind {
	case change.EntryDefinition:
		return change.Outcome{}, e.births.define(e.seq, en.Body, &e.opt)
	case change.EntryWrite:
		return e.write(en)
	case change.EntryAudit:
		if e.prog.Only == nil {
			e.audit.add(&e.x, en.Body)
		}
	}
	return change.Outcome{}, nil // what is said of the log, not of the app's rows
}

// carry takes the tables' changes through the views.
func (e *Engine) carry() error {
	for i, t := range e.tables {
		e.changed(t.rel.ID, t.out)
		if s := e.sinks[i]; s != nil {
			if _, err := s.take(&e.x, t.out); err != nil {
				return err
			}
		}
	}
	e.run()
	e.checkSizes()
	if err := e.finishSystem(); err != nil {
		return err
	}
	e.endRun()
	return nil
}

// collect copies what the sinks hold into the epoch and forgets the batch.
func (e *Engine) collect(epoch *change.Epoch) {
	relations, changes, size := 0, 0, 0
	e.eachSink(func(s *sink) {
		relations++
		changes += len(s.moved)
		for i := range s.moved {
			size += len(s.moved[i].key) + len(s.moved[i].old) + len(s.moved[i].new)
		}
	})
	if relations > 0 {
		epoch.Deltas = make([]change.Delta, 0, relations)
		rows := make([]change.RowChange, 0, changes)
		arena := make([]byte, 0, size)
		keep := func(b []byte) []byte {
			if b == nil {
				return nil
			}
			at := len(arena)
			arena = append(arena, b...)
			return arena[at:len(arena):len(arena)]
		}
		e.eachSink(func(s *sink) {
			first := len(rows)
			for i := range s.moved {
				m := &s.moved[i]
				rows = append(rows, change.RowChange{Key: keep(m.key), Old: keep(m.old), New: keep(m.new)})
			}
			epoch.Deltas = append(epoch.Deltas, change.Delta{Relation: s.rel.ID, Changes: rows[first:len(rows):len(rows)]})
			s.moved = s.moved[:0]
		})
	}
	slices.SortFunc(e.stops, func(a, b change.Stopped) int { return a.Relation - b.Relation })
	epoch.Stopped, e.stops = e.stops, nil
	epoch.Bytes = size + changes*rowChangeSize + relations*deltaSize + len(epoch.Outcomes)*outcomeSize + epochSize
	for _, t := range e.tables {
		t.reset()
	}
	e.marks.end()
	clear(e.deltas)
}

// What the parts of an epoch take in memory, in bytes.
const (
	epochSize     = 80
	deltaSize     = 32
	rowChangeSize = 72
	outcomeSize   = 40
)

// eachSink calls f for every relation that changed, ascending.
func (e *Engine) eachSink(f func(s *sink)) {
	for _, s := range e.sinks {
		if s != nil && len(s.moved) > 0 {
			f(s)
		}
	}
	for _, v := range e.views {
		if len(v.sink.moved) > 0 {
			f(&v.sink)
		}
	}
	for _, s := range e.system.sinks {
		if len(s.moved) > 0 {
			f(s)
		}
	}
}

// Seq returns the sequence of the last batch applied; 0 when there was none.
func (e *Engine) Seq() uint64 { return e.seq }

// Fingerprint returns a hash of the whole state: rows of tables and views, what is remembered, counts. It does not depend
// on how records were cut into batches (with the same stamps), on the process or on the machine. It costs a few
// microseconds: the sums behind it are kept up to date.
func (e *Engine) Fingerprint() [16]byte {
	var b []byte
	put := func(s sum128, n int64) {
		b = binary.LittleEndian.AppendUint64(b, s.lo)
		b = binary.LittleEndian.AppendUint64(b, s.hi)
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for i, t := range e.tables {
		put(t.sum, t.count)
		if s := e.sinks[i]; s != nil {
			put(s.sum, s.rows)
		}
	}
	for _, v := range e.views {
		put(v.sink.sum, v.sink.rows)
		put(sum128{uint64(v.late.count), 0}, v.failing())
	}
	put(e.seen.sum, int64(e.seen.t.n))
	put(e.requests.sum, int64(e.requests.t.n))
	put(e.producers.sum, int64(e.producers.t.n))
	put(e.audit.sum, e.audit.last)
	b = e.timeFingerprint(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.stamp))
	return hash16(domainState, b)
}
