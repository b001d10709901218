package flow

import (
	"bytes"
	"encoding/binary"

	"laaster/internal/change"
)

// overPlace is the row that is computed: a cursor that goes forward, and where its peers are.
type overPlace struct {
	cursor
	i      int64 // position in the partition
	row    change.Row
	gs, ge int64 // its peers are the rows from gs to before ge; only when over.peers
}

// refresh computes again what the spots of the partition at hand can reach.
func (o *over) refresh(x *exec) {
	for i := range o.spots {
		s := &o.spots[i]
		s.start = o.start(s)
	}
	at := overPlace{i: -1}
	for s := 0; s < len(o.spots); {
		i, reach := max(o.spots[s].start, at.i+1), int64(-1)
		o.stand(x, &at, i)
		for {
			for s < len(o.spots) && (reach < 0 || o.spots[s].last() <= at.i || o.spots[s].start <= at.i) {
				reach = max(reach, o.spots[s].last())
				s++
			}
			if at.i >= o.p.n {
				return
			}
			o.frames(x, &at)
			if at.i > reach && o.settled(&at, reach) {
				break
			}
			o.compute(x, &at)
			o.step(x, &at)
		}
		at.i-- // not computed: the next start may be this row
	}
}

// start returns the first position whose results a change at the spot can reach.
func (o *over) start(s *spot) int64 {
	first := s.pos
	for i := range o.calls {
		first = min(first, o.calls[i].start(o, s))
	}
	return max(first, 0)
}

// settled reports whether no function of the row or of those behind it can see a change at or ahead of reach.
func (o *over) settled(at *overPlace, reach int64) bool {
	for i := range o.calls {
		if !o.calls[i].settled(o, at, reach) {
			return false
		}
	}
	return true
}

// stand puts the place on position i.
func (o *over) stand(x *exec, at *overPlace, i int64) {
	at.i = i
	at.cursor, _ = o.rows.at(o.p.base + i)
	if i >= o.p.n {
		return
	}
	v := overRow(at.value())
	at.row = v.row()
	if o.peers {
		key := x.scratch.copy(at.key()[:v.peer()])
		at.gs = o.rows.before(key) - o.p.base
		at.ge = o.groupEnd(&at.cursor, key, i)
	}
}

// step goes on to the next row.
func (o *over) step(x *exec, at *overPlace) {
	at.next()
	at.i++
	if at.i >= o.p.n {
		return
	}
	v := overRow(at.value())
	at.row = v.row()
	if o.peers && at.i == at.ge {
		at.gs = at.i
		at.ge = o.groupEnd(&at.cursor, at.key()[:v.peer()], at.i)
	}
}

// groupEnd returns the position behind the peers of the row at c, which has position i and whose key begins with peers.
func (o *over) groupEnd(c *cursor, peers []byte, i int64) int64 {
	next := *c
	if next.next(); !next.valid() || !bytes.HasPrefix(next.key(), peers) {
		return i + 1
	}
	if len(peers) == 0 { // no partition and no order
		return o.p.n
	}
	o.buf = appendSuccessor(o.buf[:0], peers)
	return o.rows.before(o.buf) - o.p.base
}

// compute brings the row at hand up to date.
func (o *over) compute(x *exec, at *overPlace) {
	n, mark := o.layout.Columns(), len(x.scratch.buf)
	var failed error
	for i := range o.calls {
		v, err := o.calls[i].compute(x, o, at)
		if err != nil {
			failed = err
			break
		}
		o.vals[n+i] = v
	}
	old := overRow(at.value())
	if failed != nil {
		if old[0] != rowFailed {
			row := x.scratch.copy(at.row)
			o.retract(x, old)
			o.errors.add(x, o.layout, row, failed, 1)
			o.store(at, rowFailed, nil)
		}
		return
	}
	from := len(x.scratch.buf)
	x.scratch.buf = o.results.Append(x.scratch.buf, o.vals[n:])
	results := change.Row(x.scratch.buf[from:len(x.scratch.buf):len(x.scratch.buf)])
	if old[0] == rowShown && bytes.Equal(old.results(), results) {
		x.scratch.buf = x.scratch.buf[:mark]
		return
	}
	o.retract(x, old)
	o.out = append(o.out, delta{o.output(x, at.row, results), 1})
	o.store(at, rowShown, results)
}

// store notes what was emitted for the row at hand.
func (o *over) store(at *overPlace, what byte, results change.Row) {
	v := overRow(at.value())
	o.buf = append(o.buf[:0], what)
	o.buf = append(o.buf, v[1:rowHeader+binary.LittleEndian.Uint32(v[5:])]...)
	o.buf = append(o.buf, results...)
	at.set(o.buf)
	at.row = overRow(at.value()).row()
}

// rowAt returns the row at a position of the partition at hand; it lives until that row is stored anew.
func (o *over) rowAt(pos int64) overRow {
	c, _ := o.rows.at(o.p.base + pos)
	return overRow(c.value())
}
