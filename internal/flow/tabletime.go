package flow

import (
	"cmp"
	"encoding/binary"
	"slices"

	"laaster/internal/change"
)

// timed gives a table what its rules about time ask for.
func (t *tableState) timed() {
	r := t.rules
	if r.EventTime >= 0 && !r.Table.Keyed() {
		t.wm = newWatermark(r.Layout, r.EventTime, r.Lateness, r.Idle)
	}
	if r.TTL > 0 {
		t.ttl = newExpiry(r.TTL, t.kept)
	}
	if r.Dedupe > 0 && !t.kept && len(t.pk) > 0 {
		w := newWindow(domainSeen, 0)
		t.seen = &w
	}
}

// arrived takes note of a row of a table that is not kept, ahead of its delta.
func (t *tableState) arrived(e *Engine, row change.Row) {
	if t.wm != nil {
		t.wm.arrive(row, len(t.out), e.x.stamp)
	}
	if t.ttl != nil {
		t.ttl.queue.push(row, e.x.stamp)
	}
}

// put takes note of a row that is new in a kept table.
func (t *tableState) put(e *Engine, h uint64, key []byte, row change.Row) {
	t.wrote(&e.x, h, key)
	if t.wm != nil {
		t.wm.arrive(row, int(t.rows.mark(t.rows.find(h, key))), e.x.stamp)
	}
}

// lateByTouch returns the late rows of a kept table, which so far are known by their place in touched, in that order.
func (t *tableState) lateByTouch() []behind {
	if t.wm == nil {
		return nil
	}
	slices.SortFunc(t.wm.late, func(a, b behind) int { return cmp.Compare(a.index, b.index) })
	return t.wm.late
}

// placed tells the first of late, if it is row i of touched, its place in the deltas, and returns the others.
func placed(late []behind, i, place int) []behind {
	if len(late) > 0 && late[0].index == i {
		late[0].index = place
		late = late[1:]
	}
	return late
}

// saveTime and restoreTime take back what an entry that is refused as a whole did.
func (t *tableState) saveTime() {
	if t.wm != nil {
		t.wm.save()
	}
	if t.ttl != nil {
		t.ttl.saved = len(t.ttl.written)
	}
}

func (t *tableState) restoreTime() {
	if t.wm != nil {
		t.wm.restore()
	}
	if t.ttl != nil {
		t.ttl.written = t.ttl.written[:t.ttl.saved]
	}
}

// keepTime readies the engine's clock once tables and views are there.
func (e *Engine) keepTime() {
	e.marks = newMarks(e.prog, e.tables)
	e.x.marks = e.marks
	e.findTimed()
}

// findTimed finds out what has something due when time passes: once views are there, and again when one went.
func (e *Engine) findTimed() {
	c := &e.clock
	c.clocked, c.marked, c.expiring = nil, nil, nil
	for _, t := range e.tables {
		if t.ttl != nil {
			c.add(t.ttl)
			c.expiring = append(c.expiring, t)
		}
	}
	for _, u := range e.order {
		if u.step != nil {
			c.add(u.step.one)
			c.add(u.step.many)
		}
	}
}

// beginTime moves clock and watermarks on to the batch's stamp, ahead of its records.
func (e *Engine) beginTime() {
	if e.clock.begin(e.x.stamp) {
		e.marks.begin(e.x.stamp)
	}
	e.x.now = e.clock.now
	for _, t := range e.clock.expiring {
		t.expire(&e.x)
	}
	for _, t := range e.tables {
		if t.seen != nil {
			t.seen.expire(e.x.stamp - t.rules.Dedupe)
		}
	}
}

// settleTime ends the batch's records, before the views see them.
func (e *Engine) settleTime() {
	for _, t := range e.clock.expiring {
		t.ttl.settle(t, &e.x)
	}
	e.marks.settle(e.x.stamp)
}

// timeFingerprint appends the state that is about time.
func (e *Engine) timeFingerprint(b []byte) []byte {
	put := func(s sum128, n int64) {
		b = binary.LittleEndian.AppendUint64(b, s.lo)
		b = binary.LittleEndian.AppendUint64(b, s.hi)
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, t := range e.tables {
		if t.ttl != nil {
			put(t.ttl.queue.sum, t.ttl.queue.n)
			put(t.ttl.sum, int64(t.ttl.order.n))
		}
		if t.seen != nil {
			put(t.seen.sum, int64(t.seen.t.n))
		}
	}
	return e.marks.fingerprint(binary.LittleEndian.AppendUint64(b, uint64(e.clock.now)))
}

// remembered returns how many primary keys tables remember for a time of their own, and the bytes that takes.
func (e *Engine) remembered() (keys, bytes int) {
	for _, t := range e.tables {
		if t.seen != nil {
			keys, bytes = keys+t.seen.t.n, bytes+t.seen.bytes()
		}
	}
	return keys, bytes
}
