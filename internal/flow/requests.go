package flow

import (
	"encoding/binary"
	"slices"

	"laaster/internal/change"
)

// remembered is what a request's idempotency key stands for. In the window's value it is laid out as the fields below
// follow each other; seq is left out of the fingerprint, since it depends on where batches were cut.
type remembered struct {
	seq     uint64 // of the batch with its last part so far: what the stored answer names
	stamp   int64  // of that batch
	hash    uint64 // of its body
	applied uint32 // records seen so far, from the first one
	done    bool   // its last part was seen
	outcome change.Outcome
}

const rememberedSkip = 8 // bytes of seq

// writeOnce applies an entry that has an idempotency key. The outcomes of the parts of one request add up to the request's:
// a whole repeat gives the stored outcome with its first part and nothing with the others, all with Replayed; a repeat of a
// request that was cut off gives with its first part what was stored, then goes on behind the records already applied. Which rows are refused before they are
// logged can be others at a repeat; therefore they are records, too: a record's number is its row's, and what is answered is what was decided at first.
func (e *Engine) writeOnce(t *tableState, en *change.Entry) (change.Outcome, error) {
	e.key = binary.LittleEndian.AppendUint32(e.key[:0], en.Table)
	e.key = binary.AppendUvarint(e.key, uint64(len(en.Subject)))
	e.key = append(e.key, en.Subject...)
	e.key = append(e.key, en.Key...)
	key := e.x.scratch.copy(e.key) // records need e.key
	if en.Key[0] == producerKey {
		return e.writeInSequence(t, en, key)
	}
	h := e.requests.t.hash(key)
	r := e.requests.t.find(h, key)
	var m remembered
	if r == 0 {
		m = remembered{stamp: e.x.stamp, hash: en.BodyHash}
	} else {
		m = decodeRemembered(e.requests.t.value(r))
	}
	switch {
	case m.hash != en.BodyHash:
		return refuseAll(en, keyField, "the idempotency key was used for another request"), nil
	case m.done:
		return m.repeat(en), nil
	}
	out, err := e.writePart(t, en, &m)
	if err == nil && (r != 0 || !refusedWhole(en)) {
		e.remember(h, r, key, &m)
	}
	return out, err
}

// refusedWhole reports whether en is a whole request of which every row was refused before it was logged: that does not use up its key, so that it may be
// mended and sent again under it.
func refusedWhole(en *change.Entry) bool {
	return en.Refused && en.First == 0 && en.Last && en.Rows() == 0
}

// writePart applies the records of a request's part that are not applied yet, and notes in m that they are.
func (e *Engine) writePart(t *tableState, en *change.Entry, m *remembered) (change.Outcome, error) {
	skip := min(max(m.applied, en.First)-en.First, en.Count)
	out, err := e.writeRecords(t, en, skip)
	if err != nil {
		return out, err
	}
	m.outcome = sumOutcomes(m.outcome, out)
	m.seq = e.x.seq
	m.applied = max(m.applied, en.First+en.Count)
	m.done = en.Last && m.applied == en.First+en.Count
	if en.First == 0 {
		return m.outcome, nil
	}
	return out, nil
}

// repeat is the outcome of a part of a request that was completely applied.
func (m *remembered) repeat(en *change.Entry) change.Outcome {
	out := change.Outcome{Replayed: m.seq}
	if en.First == 0 {
		out.Accepted, out.Duplicates, out.Rejected = m.outcome.Accepted, m.outcome.Duplicates, m.outcome.Rejected
	}
	return out
}

// remember stores m under key; r is the key's entry, 0 when there is none.
func (e *Engine) remember(h uint64, r ref, key []byte, m *remembered) {
	w := &e.requests
	e.buf = m.append(e.buf[:0])
	if r == 0 {
		r = w.insert(h, key, len(e.buf), m.stamp)
	} else {
		w.sum.sub(w.digest(r, m.stamp))
		r = w.resize(h, r, len(e.buf))
	}
	copy(w.t.edit(r), e.buf)
	w.sum.add(w.digest(r, m.stamp))
}

// keyField is the field of a Reject that concerns the whole request: its key was used for another one.
const keyField = "Idempotency-Key"

// refuseAll rejects each row of a request, or the request as a whole when it has none: an update that is only a filter.
func refuseAll(en *change.Entry, field, detail string) change.Outcome {
	out := change.Outcome{Rejected: make([]change.Reject, max(1, en.Count))}
	for i := range out.Rejected {
		out.Rejected[i] = change.Reject{Index: en.First + uint32(i), Code: codeConflict, Field: field, Detail: detail}
	}
	return out
}

func sumOutcomes(a, b change.Outcome) change.Outcome {
	rejected := b.Rejected
	if len(a.Rejected) > 0 {
		rejected = append(slices.Clone(a.Rejected), b.Rejected...)
	}
	return change.Outcome{Accepted: a.Accepted + b.Accepted, Duplicates: a.Duplicates + b.Duplicates, Rejected: rejected}
}

func (m *remembered) append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, m.seq)
	dst = le.AppendUint64(dst, uint64(m.stamp))
	dst = le.AppendUint64(dst, m.hash)
	dst = le.AppendUint32(dst, m.applied)
	done := byte(0)
	if m.done {
		done = 1
	}
	dst = append(dst, done)
	dst = le.AppendUint32(dst, m.outcome.Accepted)
	dst = le.AppendUint32(dst, m.outcome.Duplicates)
	dst = le.AppendUint32(dst, uint32(len(m.outcome.Rejected)))
	for i := range m.outcome.Rejected {
		r := &m.outcome.Rejected[i]
		dst = le.AppendUint32(dst, r.Index)
		for _, s := range [...]string{r.Code, r.Field, r.Detail} {
			dst = binary.AppendUvarint(dst, uint64(len(s)))
			dst = append(dst, s...)
		}
	}
	return dst
}

// decodeRemembered reads what append wrote; it trusts the bytes, which never left the engine.
func decodeRemembered(b []byte) remembered {
	le := binary.LittleEndian
	m := remembered{seq: le.Uint64(b), stamp: int64(le.Uint64(b[8:])), hash: le.Uint64(b[16:]), applied: le.Uint32(b[24:]), done: b[28] != 0}
	m.outcome.Accepted, m.outcome.Duplicates = le.Uint32(b[29:]), le.Uint32(b[33:])
	n := le.Uint32(b[37:])
	if n > 0 {
		m.outcome.Rejected = make([]change.Reject, n)
	}
	b = b[41:]
	for i := range m.outcome.Rejected {
		r := &m.outcome.Rejected[i]
		r.Index = le.Uint32(b)
		b = b[4:]
		for _, s := range [...]*string{&r.Code, &r.Field, &r.Detail} {
			n, w := binary.Uvarint(b)
			*s = string(b[w : w+int(n)])
			b = b[w+int(n):]
		}
	}
	return m
}
