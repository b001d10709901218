package flow

import (
	"encoding/binary"
)

// expiry takes the rows of one table away when their time to live is over, by the engine's time.
//
// Rows of a table that is not kept wait in a queue as they came. Keys of a kept table wait in the order of the stamps of their rows' last
// writes; a write moves its key to the end.
type expiry struct {
	ttl     int64
	queue   rowQueue
	stamps  table  // kept: primary key → stamp of the row's last write
	order   tree   // kept: that stamp, then the primary key
	sum     sum128 // of order
	written []writtenKey
	saved   int // of written, when an entry began that may be taken back
	key     []byte
	buf     []byte
}

// writtenKey is a key that the batch wrote; the key lives until the batch ends.
type writtenKey struct {
	h   uint64 // in the table's rows
	key []byte
}

func newExpiry(ttl int64, kept bool) *expiry {
	e := &expiry{ttl: ttl}
	if kept {
		e.stamps, e.order = newTable(), newTree()
	}
	return e
}

// wrote takes note of a write to a kept table, one that changes nothing or deletes the row included.
func (t *tableState) wrote(x *exec, h uint64, key []byte) {
	if t.ttl != nil {
		t.ttl.written = append(t.ttl.written, writtenKey{h, x.scratch.copy(key)})
	}
}

// expire makes the deltas of what has to go at the engine's time, ahead of the batch's own.
func (t *tableState) expire(x *exec) {
	e := t.ttl
	if !t.kept {
		for e.queue.due(x.now - e.ttl) {
			t.out = append(t.out, delta{x.scratch.copy(e.queue.pop()), -1})
		}
		return
	}
	for c := e.order.first(); c.valid(); c = e.order.first() {
		if timeOfKey(c.key()) > x.now-e.ttl {
			return
		}
		e.key = append(e.key[:0], c.key()...)
		key := e.key[8:]
		e.move(timeOfKey(e.key), key, -1)
		h := e.stamps.hash(key)
		e.stamps.remove(h, e.stamps.find(h, key))
		h = t.rows.hash(key)
		if r, row := t.lookup(h, key); row != nil {
			t.set(x, h, r, key, nil)
		}
	}
}

// settle gives the rows that the batch wrote its stamp. It runs behind the last record, before the table's finish.
func (e *expiry) settle(t *tableState, x *exec) {
	for _, w := range e.written {
		h := e.stamps.hash(w.key)
		r := e.stamps.find(h, w.key)
		if r != 0 {
			if old := getInt(e.stamps.value(r)); old != x.stamp {
				e.move(old, w.key, -1)
				e.stamps.remove(h, r)
				r = 0
			}
		}
		_, row := t.lookup(w.h, w.key)
		switch {
		case row == nil && r != 0:
			e.move(x.stamp, w.key, -1)
			e.stamps.remove(h, r)
		case row != nil && r == 0:
			putInt(e.stamps.edit(e.stamps.insert(h, w.key, 8)), x.stamp)
			e.move(x.stamp, w.key, 1)
		}
	}
	e.written = e.written[:0]
}

// move puts a key into the order of expiry, or takes it out.
func (e *expiry) move(stamp int64, key []byte, w int64) {
	e.buf = append(appendTime(e.buf[:0], stamp), key...)
	e.order.add(e.buf, nil, w)
	e.sum.addTimes(hash128(domainQueue, e.buf), w)
}

// waiting implements [clocked].
func (e *expiry) waiting(until, limit int64) int64 {
	if e.order.absent() {
		return e.queue.waiting(until-e.ttl, limit)
	}
	return e.order.before(appendTime(nil, until-e.ttl+1))
}

// next implements [clocked].
func (e *expiry) next() int64 {
	if e.order.absent() {
		if s := e.queue.first(); s != never {
			return s + e.ttl
		}
		return never
	}
	if c := e.order.first(); c.valid() {
		return timeOfKey(c.key()) + e.ttl
	}
	return never
}

func (e *expiry) bytes() int {
	n := e.queue.bytes()
	if !e.order.absent() {
		n += e.stamps.bytes() + e.order.bytes()
	}
	return n
}

func (e *expiry) state(k *keeper, kept bool) {
	if !kept {
		k.queue(&e.queue)
		return
	}
	k.table(&e.stamps)
	k.tree(&e.order)
	k.sum(&e.sum)
}

// appendTime appends a time so that the order of the bytes is that of the times.
func appendTime(dst []byte, t int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(t)^1<<63)
}

// timeOfKey reads what appendTime wrote.
func timeOfKey(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ 1<<63) }
