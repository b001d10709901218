package view

import (
	"encoding/binary"
	"errors"
	"fmt"

	"laaster/internal/change"
)

// errEpoch is what decodeEpoch's errors are.
var errEpoch = errors.New("malformed epoch")

// appendEpoch appends e as the ring's pages have it:
//
//	sequence, stamp, memory that its maker counts
//	deltas     number of them, then each: relation, number of changes, then each: key, old row, new row
//	outcomes   number of them, then each: accepted, duplicates, replayed, number of refusals, then each: index, code, field, detail
//	stopped    number of them, then each: relation, reason, stack
//
// Numbers are unsigned varints (the stamp a signed one), keys and texts have their length before them, rows their length and one, 0 for no row.
func appendEpoch(dst []byte, e *change.Epoch) []byte {
	dst = binary.AppendUvarint(dst, e.Seq)
	dst = binary.AppendVarint(dst, e.Stamp)
	dst = appendInt(dst, max(e.Bytes, 0))
	dst = appendInt(dst, len(e.Deltas))
	for i := range e.Deltas {
		d := &e.Deltas[i]
		dst = appendInt(dst, d.Relation)
		dst = appendInt(dst, len(d.Changes))
		for k := range d.Changes {
			c := &d.Changes[k]
			dst = append(appendInt(dst, len(c.Key)), c.Key...)
			dst = appendRow(appendRow(dst, c.Old), c.New)
		}
	}
	dst = appendInt(dst, len(e.Outcomes))
	for i := range e.Outcomes {
		o := &e.Outcomes[i]
		dst = binary.AppendUvarint(dst, uint64(o.Accepted))
		dst = binary.AppendUvarint(dst, uint64(o.Duplicates))
		dst = binary.AppendUvarint(dst, o.Replayed)
		dst = appendInt(dst, len(o.Rejected))
		for k := range o.Rejected {
			r := &o.Rejected[k]
			dst = binary.AppendUvarint(dst, uint64(r.Index))
			dst = appendText(appendText(appendText(dst, r.Code), r.Field), r.Detail)
		}
	}
	dst = appendInt(dst, len(e.Stopped))
	for i := range e.Stopped {
		s := &e.Stopped[i]
		dst = appendText(appendText(appendInt(dst, s.Relation), s.Reason), s.Stack)
	}
	return dst
}

func appendInt(dst []byte, n int) []byte { return binary.AppendUvarint(dst, uint64(n)) }

func appendText(dst []byte, s string) []byte { return append(appendInt(dst, len(s)), s...) }

func appendRow(dst []byte, row change.Row) []byte {
	if row == nil {
		return append(dst, 0)
	}
	return append(appendInt(dst, len(row)+1), row...)
}

// epochReader takes an epoch apart. The first thing that is wrong ends it: everything is zero after that.
type epochReader struct {
	rest []byte
	bad  bool
}

func (r *epochReader) number() uint64 {
	n, w := binary.Uvarint(r.rest)
	if w <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[w:]
	return n
}

func (r *epochReader) fail() { r.rest, r.bad = nil, true }

// number32 reads a number that fits 32 bits.
func (r *epochReader) number32() uint32 {
	n := r.number()
	if n > 1<<32-1 {
		r.fail()
		return 0
	}
	return uint32(n)
}

// small reads a number that fits 31 bits.
func (r *epochReader) small() int {
	n := r.number()
	if n > 1<<31-1 {
		r.fail()
		return 0
	}
	return int(n)
}

// count reads how many things of at least size bytes each follow.
func (r *epochReader) count(size int) int {
	n := r.number()
	if n > uint64(len(r.rest)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *epochReader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *epochReader) text() string { return string(r.bytes(r.number())) }

func (r *epochReader) row() change.Row {
	n := r.number()
	if n == 0 {
		return nil
	}
	return change.Row(r.bytes(n - 1))
}

// decodeEpoch reads the epoch at the beginning of b, which it aliases, and returns what follows.
func decodeEpoch(b []byte) (*change.Epoch, []byte, error) {
	r := epochReader{rest: b}
	e := &change.Epoch{Seq: r.number()}
	stamp, w := binary.Varint(r.rest)
	if w <= 0 {
		return nil, nil, fmt.Errorf("%w: no stamp", errEpoch)
	}
	e.Stamp, r.rest = stamp, r.rest[w:]
	e.Bytes = r.small()
	r.deltas(e)
	r.outcomes(e)
	if n := r.count(3); n > 0 {
		e.Stopped = make([]change.Stopped, n)
		for i := range e.Stopped {
			e.Stopped[i] = change.Stopped{Relation: r.small(), Reason: r.text(), Stack: r.text()}
		}
	}
	if r.bad {
		return nil, nil, fmt.Errorf("%w: it ends early, or a number in it is too large", errEpoch)
	}
	return e, r.rest, nil
}

func (r *epochReader) deltas(e *change.Epoch) {
	if n := r.count(2); n > 0 {
		e.Deltas = make([]change.Delta, n)
	}
	for i := range e.Deltas {
		d := &e.Deltas[i]
		d.Relation = r.small()
		if n := r.count(3); n > 0 {
			d.Changes = make([]change.RowChange, n)
		}
		for k := range d.Changes {
			d.Changes[k] = change.RowChange{Key: r.bytes(r.number()), Old: r.row(), New: r.row()}
		}
		if r.bad {
			return
		}
	}
}

func (r *epochReader) outcomes(e *change.Epoch) {
	if n := r.count(4); n > 0 {
		e.Outcomes = make([]change.Outcome, n)
	}
	for i := range e.Outcomes {
		o := &e.Outcomes[i]
		o.Accepted, o.Duplicates, o.Replayed = r.number32(), r.number32(), r.number()
		if n := r.count(4); n > 0 {
			o.Rejected = make([]change.Reject, n)
		}
		for k := range o.Rejected {
			o.Rejected[k] = change.Reject{Index: r.number32(), Code: r.text(), Field: r.text(), Detail: r.text()}
		}
		if r.bad {
			return
		}
	}
}
