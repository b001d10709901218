package flow

import "laaster/internal/change"

// sessionEnds decides for sessions that a watermark closes what a late row may still change, and which session can be forgotten.
//
// A late row is taken when it falls into an open session, or when a session of its own would be open and it touches no closed one. So a closed
// session is looked at until the watermark is a gap beyond its end, and not after that.
type sessionEnds struct {
	on     bool
	table  int   // catalog id
	tables []int // table alone
	gap    int64
	order  tree // when a session can be forgotten at the earliest, partition, first time. A session that grew since is put back when its turn comes
	key    []byte
}

func newSessionEnds(table int, gap int64) sessionEnds {
	return sessionEnds{on: true, table: table, tables: []int{table}, gap: gap, order: newTree()}
}

func (e *sessionEnds) late(x *exec) []behind {
	if !e.on {
		return nil
	}
	return x.late(e.table)
}

// opened takes note of a session with a new first time.
func (e *sessionEnds) opened(part []byte, s sessionSpan) {
	if !e.on {
		return
	}
	e.key = appendTime(e.key[:0], s.last+2*e.gap)
	e.key = appendTime(append(e.key, part...), s.first)
	if e.order.weight(e.key) == 0 {
		e.order.add(e.key, nil, 1)
	}
}

// admits decides about a late row of a partition at t; spans are the sessions as they are. A row that is not admitted is diverted.
func (e *sessionEnds) admits(x *exec, spans *tree, part []byte, t int64, row change.Row, b behind) bool {
	e.key = appendTime(append(e.key[:0], part...), t)
	c := spans.floor(e.key)
	inside, open := false, false
	if c.valid() && samePartition(c.key(), part) {
		end := spanAt(&c).last + e.gap
		inside, open = t < end, end > b.mark
	}
	if inside && open || !inside && t+e.gap > b.mark {
		return true
	}
	x.divert(e.table, row, b)
	return false
}

// over reports whether a session is closed.
func (e *sessionEnds) over(x *exec, s sessionSpan) bool {
	return e.on && s.last+e.gap <= x.markBefore(e.table)
}

func (e *sessionEnds) due(x *exec) bool {
	if !e.on {
		return false
	}
	c := e.order.first()
	return c.valid() && timeOfKey(c.key()) <= x.mark(e.tables)
}

// next returns a session that is to be forgotten, its partition valid until the next call.
func (e *sessionEnds) next(x *exec, spans *tree) ([]byte, sessionSpan, bool) {
	if !e.on {
		return nil, sessionSpan{}, false
	}
	mark := x.mark(e.tables)
	for c := e.order.first(); c.valid() && timeOfKey(c.key()) <= mark; c = e.order.first() {
		e.key = append(e.key[:0], c.key()...)
		e.order.add(e.key, nil, -c.weight())
		id := x.scratch.copy(e.key[8:])
		s := spans.seek(id)
		if !s.valid() || string(s.key()) != string(id) {
			continue // it is another's now
		}
		o := spanAt(&s)
		part := id[:len(id)-8]
		if o.last+2*e.gap <= mark {
			return part, o, true
		}
		e.opened(part, o)
	}
	return nil, sessionSpan{}, false
}

func (e *sessionEnds) bytes() int {
	if !e.on {
		return 0
	}
	return e.order.bytes()
}

func (e *sessionEnds) state(k *keeper) {
	if e.on {
		k.tree(&e.order)
	}
}
