package flow

import (
	"encoding/binary"
	"fmt"

	"laaster/internal/change"
)

// producers remembers of each producer the last sequence and what became of it, which is all that it takes to tell a repeat: 100 bytes per
// producer instead of as many per request. A producer that wrote nothing for the window is forgotten.
type producers struct {
	t     table  // table id, subject, key of the entry → remembered, its hash being the sequence
	order tree   // stamp of the last request, then the key
	sum   sum128 // of all entries
	key   []byte
	buf   []byte
}

// producerKey is the first byte of the Key of an entry that is number BodyHash of a producer; the others name the producer. A key that a client
// gave never begins with it.
const producerKey = 0

// sequenceField is the field of a Reject that concerns the whole request: its sequence does not follow the producer's last one.
const sequenceField = "Producer-Sequence"

func newProducers() producers { return producers{t: newTable(), order: newTree()} }

// writeInSequence applies an entry of a producer: the one behind its last request, of a producer that is not known any one. The last request may be
// repeated, and is cut off and gone on with, as one with an idempotency key is; what is before it is a duplicate, without details; what
// leaves numbers out is refused, since what it follows may be lost.
func (e *Engine) writeInSequence(t *tableState, en *change.Entry, key []byte) (change.Outcome, error) {
	p := &e.producers
	h := p.t.hash(key)
	r := p.t.find(h, key)
	m := remembered{hash: en.BodyHash}
	if r != 0 {
		m = decodeRemembered(p.t.value(r))
	}
	switch last := m.hash; {
	case en.BodyHash == 0:
		return refuseAll(en, sequenceField, "sequences begin with 1"), nil
	case en.BodyHash < last:
		return change.Outcome{Duplicates: en.Count, Replayed: m.seq}, nil
	case en.BodyHash == last && m.done:
		return m.repeat(en), nil
	case en.BodyHash > last && !m.done:
		return refuseAll(en, sequenceField, fmt.Sprintf("sequence gap: %d is expected again, since its end is missing, not %d", last, en.BodyHash)), nil
	case en.BodyHash > last+1:
		return refuseAll(en, sequenceField, fmt.Sprintf("sequence gap: %d is expected, not %d", last+1, en.BodyHash)), nil
	case en.BodyHash > last:
		m = remembered{hash: en.BodyHash}
	}
	m.stamp = e.x.stamp
	out, err := e.writePart(t, en, &m)
	if err == nil {
		p.remember(h, r, key, &m)
	}
	return out, err
}

// remember stores m under key; r is the key's entry, 0 when there is none.
func (p *producers) remember(h uint64, r ref, key []byte, m *remembered) {
	if r != 0 {
		p.note(r, -1)
	}
	if p.buf = m.append(p.buf[:0]); r == 0 {
		r = p.t.insert(h, key, len(p.buf))
	} else {
		r = p.t.resize(h, r, len(p.buf))
	}
	copy(p.t.edit(r), p.buf)
	p.note(r, 1)
}

// note takes an entry into order and sum (w is 1), or out of them (-1).
func (p *producers) note(r ref, w int64) {
	key, val := p.t.key(r), p.t.value(r)
	p.key = append(appendTime(p.key[:0], int64(binary.LittleEndian.Uint64(val[rememberedSkip:]))), key...)
	p.order.add(p.key, nil, w)
	p.buf = append(append(p.buf[:0], key...), val[rememberedSkip:]...)
	p.sum.addTimes(hash128(domainProducer, p.buf), w)
}

// expire forgets the producers whose last request came at until or before.
func (p *producers) expire(until int64) {
	for c := p.order.first(); c.valid() && timeOfKey(c.key()) <= until; c = p.order.first() {
		key := c.key()[8:]
		h := p.t.hash(key)
		r := p.t.find(h, key)
		p.note(r, -1)
		p.t.remove(h, r)
	}
}

// each calls f for every producer, the longest quiet first.
func (p *producers) each(f func(key []byte, m *remembered)) {
	for c := p.order.first(); c.valid(); c.next() {
		key := c.key()[8:]
		m := decodeRemembered(p.t.value(p.t.find(p.t.hash(key), key)))
		f(key, &m)
	}
}

func (p *producers) bytes() int { return p.t.bytes() + p.order.bytes() }

func (p *producers) state(k *keeper) {
	k.table(&p.t)
	k.tree(&p.order)
	k.sum(&p.sum)
}
