package change

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// An entry: its length (of what follows it), the fixed fields, the lengths of the five byte fields, these fields, the rules with their length in front when
// it has any, the body.
const (
	entryFixed = 38 // bytes from behind the length to the first byte field

	flagAtomic = 1 << 0
	flagLast   = 1 << 1
	flagRules  = 1 << 2
	flagRefuse = 1 << 3
)

// Size returns the bytes that the entry takes in a batch.
func (e *Entry) Size() int {
	n := 4 + entryFixed + len(e.Subject) + len(e.Role) + len(e.Request) + len(e.Key) + len(e.Trace) + len(e.Body)
	if len(e.Rules) > 0 {
		n += 4 + len(e.Rules)
	}
	return n
}

// AppendEntry appends the encoding of e to dst. Its fields must keep to MaxField and MaxEntry, see [Builder.Add].
func AppendEntry(dst []byte, e *Entry) []byte {
	le := binary.LittleEndian
	var flags byte
	if e.Atomic {
		flags |= flagAtomic
	}
	if e.Last {
		flags |= flagLast
	}
	if len(e.Rules) > 0 {
		flags |= flagRules
	}
	if e.Refused {
		flags |= flagRefuse
	}
	dst = le.AppendUint32(dst, uint32(e.Size()-4))
	dst = append(dst, byte(e.Kind), byte(e.Op), flags, 0)
	dst = le.AppendUint32(dst, e.Table)
	dst = le.AppendUint32(dst, e.Version)
	dst = le.AppendUint32(dst, e.First)
	dst = le.AppendUint32(dst, e.Count)
	dst = le.AppendUint64(dst, e.BodyHash)
	fields := [...][]byte{e.Subject, e.Role, e.Request, e.Key, e.Trace}
	for _, f := range fields {
		dst = le.AppendUint16(dst, uint16(len(f)))
	}
	for _, f := range fields {
		dst = append(dst, f...)
	}
	if len(e.Rules) > 0 {
		dst = le.AppendUint32(dst, uint32(len(e.Rules)))
		dst = append(dst, e.Rules...)
	}
	return append(dst, e.Body...)
}

var (
	errShort    = errors.New("shorter than it says")
	errReserved = errors.New("a reserved bit is set")
)

// parseEntry reads the entry at the start of b into e, which then aliases b, and returns how many bytes it took.
func parseEntry(e *Entry, b []byte) (int, error) {
	if len(b) < 4+entryFixed {
		return 0, errShort
	}
	le := binary.LittleEndian
	n := uint64(le.Uint32(b))
	if n < entryFixed || n > uint64(len(b)-4) {
		return 0, errShort
	}
	size := 4 + int(n)
	p := b[4:size:size]
	e.Kind, e.Op = EntryKind(p[0]), Op(p[1])
	if p[2]&^(flagAtomic|flagLast|flagRules|flagRefuse) != 0 || p[3] != 0 {
		return 0, errReserved
	}
	if err := checkKind(e.Kind, e.Op); err != nil {
		return 0, err
	}
	e.Atomic, e.Last, e.Refused = p[2]&flagAtomic != 0, p[2]&flagLast != 0, p[2]&flagRefuse != 0
	if e.Refused && !e.Op.rows() {
		return 0, errReserved
	}
	e.Table, e.Version = le.Uint32(p[4:]), le.Uint32(p[8:])
	e.First, e.Count = le.Uint32(p[12:]), le.Uint32(p[16:])
	e.BodyHash = le.Uint64(p[20:])
	at := entryFixed
	for i, f := range [...]*[]byte{&e.Subject, &e.Role, &e.Request, &e.Key, &e.Trace} {
		end := at + int(le.Uint16(p[28+2*i:]))
		if end > len(p) {
			return 0, errShort
		}
		*f = p[at:end:end]
		at = end
	}
	if e.Rules = nil; p[2]&flagRules != 0 {
		n, ok := uint64(0), len(p)-at >= 4
		if ok {
			n = uint64(le.Uint32(p[at:]))
			at += 4
		}
		if !ok || n == 0 || n > uint64(len(p)-at) || e.Kind != EntryWrite {
			return 0, errShort
		}
		e.Rules = p[at : at+int(n) : at+int(n)]
		at += int(n)
	}
	e.Body = p[at:]
	return size, nil
}

// rows reports whether the records of a write with this operation have rows that the caller gave.
func (op Op) rows() bool { return op >= OpInsert && op <= OpIgnore }

// newer reports whether the entry has something that version 1 of the batch does not have.
func (e *Entry) newer() bool { return len(e.Rules) > 0 || e.Refused }

// checkKind refuses kinds and operations that this version of the format does not have: a reader that cannot apply an
// entry must not pass it over.
func checkKind(k EntryKind, op Op) error {
	switch {
	case k == EntryWrite && op >= OpInsert && op <= OpDelete:
	case k >= EntryDefinition && k <= EntryLost && op == 0:
	default:
		return fmt.Errorf("unknown kind %d or operation %d", k, op)
	}
	return nil
}

// AppendRecord appends the encoding of r, as a record of a write with this operation, to dst. What the operation does not
// use (Given of an insert, the Filter of a merge) is left out.
func AppendRecord(dst []byte, op Op, r *Record) []byte {
	if len(r.Refused) > 0 {
		dst = binary.AppendUvarint(append(dst, 0), uint64(len(r.Refused)))
		return append(dst, r.Refused...)
	}
	n := uint64(len(r.Row)) << 1
	if r.ServerID {
		n |= 1
	}
	dst = binary.AppendUvarint(dst, n)
	dst = append(dst, r.Row...)
	if op == OpMerge || op == OpUpdate {
		dst = binary.AppendUvarint(dst, uint64(len(r.Given)))
		dst = append(dst, r.Given...)
	}
	if op == OpUpdate || op == OpDelete {
		dst = binary.AppendUvarint(dst, uint64(len(r.Filter)))
		dst = append(dst, r.Filter...)
	}
	return dst
}

// Records returns an iterator over the records of a write entry. An entry of another kind has none.
func (e *Entry) Records() RecordIter {
	if e.Kind != EntryWrite {
		return RecordIter{}
	}
	return RecordIter{rest: e.Body, op: e.Op, left: e.Count, refused: e.Refused}
}

// Rows returns how many records are not refused rows; all of them when the records cannot be read.
func (e *Entry) Rows() uint32 {
	if !e.Refused {
		return e.Count
	}
	n, it, r := uint32(0), e.Records(), Record{}
	for it.Next(&r) {
		if len(r.Refused) == 0 {
			n++
		}
	}
	if it.Err() != nil {
		return e.Count
	}
	return n
}

// RecordIter walks the records of an entry:
//
//	it, r := e.Records(), change.Record{}
//	for it.Next(&r) { … }
//	if err := it.Err(); err != nil { … }
type RecordIter struct {
	rest []byte
	op   Op
	left uint32
	err  error
	// refused: an empty row, which no table has, is one that was refused.
	refused bool
}

// Next reads the next record into r and reports whether there was one; false at the end or at an error. r aliases the
// entry. Rows are not checked against their layout here: see Layout.Valid.
func (it *RecordIter) Next(r *Record) bool {
	if it.left == 0 || it.err != nil {
		if it.err == nil && len(it.rest) > 0 {
			it.err = fmt.Errorf("%w: %d bytes behind the last one", ErrRecord, len(it.rest))
		}
		return false
	}
	it.left--
	n, ok := it.uvarint()
	if !ok {
		return false
	}
	*r = Record{ServerID: n&1 != 0}
	if n == 0 && it.refused {
		if r.Refused, ok = it.field(); ok && len(r.Refused) == 0 {
			it.err = fmt.Errorf("%w: a refused row without a reason", ErrRecord)
		}
		return it.err == nil
	}
	if r.Row, ok = it.take(n >> 1); !ok {
		return false
	}
	if it.op == OpMerge || it.op == OpUpdate {
		if r.Given, ok = it.field(); !ok {
			return false
		}
	}
	if it.op == OpUpdate || it.op == OpDelete {
		if r.Filter, ok = it.field(); !ok {
			return false
		}
	}
	return true
}

// Err returns what ended the walk early; nil when every record was read.
func (it *RecordIter) Err() error { return it.err }

// field reads a length and that many bytes.
func (it *RecordIter) field() ([]byte, bool) {
	n, ok := it.uvarint()
	if !ok {
		return nil, false
	}
	return it.take(n)
}

// uvarint reads one number; only its shortest form is valid, so that equal records are equal bytes.
func (it *RecordIter) uvarint() (uint64, bool) {
	v, n := binary.Uvarint(it.rest)
	if n <= 0 || n != max(1, (bits.Len64(v)+6)/7) {
		it.err = fmt.Errorf("%w: a length that cannot be read", ErrRecord)
		return 0, false
	}
	it.rest = it.rest[n:]
	return v, true
}

func (it *RecordIter) take(n uint64) ([]byte, bool) {
	if n > uint64(len(it.rest)) {
		it.err = fmt.Errorf("%w: %d bytes where %d are left", ErrRecord, n, len(it.rest))
		return nil, false
	}
	b := it.rest[:n:n]
	it.rest = it.rest[n:]
	return b, true
}

// AppendReject appends what a Record has as Refused: the code, the field and the detail of r.
func AppendReject(dst []byte, r *Reject) []byte {
	for _, s := range [...]string{r.Code, r.Field, r.Detail} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	return dst
}

// ReadReject reads what AppendReject wrote.
func ReadReject(b []byte) (*Reject, error) {
	r, it := &Reject{}, RecordIter{rest: b}
	for _, s := range [...]*string{&r.Code, &r.Field, &r.Detail} {
		text, ok := it.field()
		if !ok {
			return nil, it.err
		}
		*s = string(text)
	}
	if len(it.rest) > 0 || r.Code == "" {
		return nil, fmt.Errorf("%w: the reason of a refused row that cannot be read", ErrRecord)
	}
	return r, nil
}
