package change

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// FormatVersion is the newest version of the batch format that this program reads. It writes version 1 where that says everything: a batch is of version 2
// when one of its entries has rules or rows that were refused.
const FormatVersion = 2

// Versions of the batch.
const (
	versionPlain = 1
	versionRules = 2
)

// Limits of the format. Whoever makes entries keeps to them; [Builder] refuses what does not.
const (
	MaxBatch   = 1 << 20                   // bytes of one encoded batch, header included
	MaxField   = math.MaxUint16            // bytes of each of an entry's Subject, Role, Request, Key and Trace
	HeaderSize = 96                        // bytes of a batch's header
	MaxEntry   = MaxBatch - HeaderSize     // bytes of one encoded entry
	MaxBody    = MaxEntry - entryFixed - 4 // bytes of an entry's Body when its five fields are empty
)

// Where the fields of a batch's header are; docs/formats.md has the drawing. The first ten bytes mean the same in every
// version, so that an older reader can tell damage from a newer format.
const (
	atMagic    = 0
	atChecksum = 4
	atVersion  = 8
	atFlags    = 10
	atShard    = 12
	atLog      = 16
	atSeq      = 32
	atStamp    = 40
	atPrev     = 48
	atEntries  = 80
	atRecords  = 84
	atBytes    = 88
	atReserved = 92
)

const magic = 0x4241414c // "LAAB" in little-endian order

// Errors of ParseBatch, for errors.Is. A batch of a newer version is a [*NewerError].
var (
	ErrMagic    = errors.New("not a record batch: it does not begin with LAAB")
	ErrChecksum = errors.New("record batch with a wrong checksum: its bytes changed after they were written")
	ErrBatch    = errors.New("malformed record batch")
	ErrRecord   = errors.New("malformed record")
)

// NewerError says that something was written in a format that this program does not know.
type NewerError struct {
	What    string // what was read, such as "record batch"
	Version int    // its version
	Known   int    // the newest version that this program reads
}

// Error implements error.
func (e *NewerError) Error() string {
	return fmt.Sprintf("%s in format version %d, but this program reads only up to version %d: use the newer program that wrote it",
		e.What, e.Version, e.Known)
}

// Batch is one encoded batch that was verified: its checksum, version and counts are right and its entries can be walked.
// It aliases the bytes that it was parsed from. The zero value is an empty batch. Copy it freely; safe for concurrent
// reading.
type Batch struct {
	head Header
	raw  []byte
}

// ParseBatch verifies raw and returns it as a batch that aliases it. It allocates nothing unless it fails. The link to
// the predecessor is the reader's to check: see backbone.Shard.
func ParseBatch(raw []byte) (Batch, error) {
	if len(raw) < atFlags || binary.LittleEndian.Uint32(raw[atMagic:]) != magic {
		return Batch{}, ErrMagic
	}
	if binary.LittleEndian.Uint32(raw[atChecksum:]) != checksum(raw) {
		return Batch{}, ErrChecksum
	}
	version := binary.LittleEndian.Uint16(raw[atVersion:])
	if v := version; v < versionPlain || v > FormatVersion {
		return Batch{}, &NewerError{What: "record batch", Version: int(v), Known: FormatVersion}
	}
	if len(raw) < HeaderSize || len(raw) > MaxBatch {
		return Batch{}, fmt.Errorf("%w: it has %d bytes, not %d to %d", ErrBatch, len(raw), HeaderSize, MaxBatch)
	}
	if binary.LittleEndian.Uint16(raw[atFlags:]) != 0 || binary.LittleEndian.Uint32(raw[atReserved:]) != 0 {
		return Batch{}, fmt.Errorf("%w: a reserved field is not zero", ErrBatch)
	}
	if n := binary.LittleEndian.Uint32(raw[atBytes:]); uint64(n) != uint64(len(raw)-HeaderSize) {
		return Batch{}, fmt.Errorf("%w: %d bytes of entries where its header says %d", ErrBatch, len(raw)-HeaderSize, n)
	}
	b := Batch{raw: raw}
	readHeader(&b.head, raw)
	return b, b.checkEntries(version)
}

// checksum returns the CRC-32C of everything after the checksum itself.
func checksum(raw []byte) uint32 {
	return crc32.Checksum(raw[atVersion:], crc32.MakeTable(crc32.Castagnoli))
}

func readHeader(h *Header, raw []byte) {
	h.Shard = binary.LittleEndian.Uint32(raw[atShard:])
	h.Log = LogID(raw[atLog:])
	h.Seq = binary.LittleEndian.Uint64(raw[atSeq:])
	h.Stamp = int64(binary.LittleEndian.Uint64(raw[atStamp:]))
	h.Prev = Digest(raw[atPrev:])
	h.Entries = binary.LittleEndian.Uint32(raw[atEntries:])
	h.Records = binary.LittleEndian.Uint32(raw[atRecords:])
}

// checkEntries walks the entries once, so that an EntryIter need not check.
func (b *Batch) checkEntries(version uint16) error {
	var entries, records uint64
	var e Entry
	needs := uint16(versionPlain)
	for rest := b.raw[HeaderSize:]; len(rest) > 0; entries++ {
		n, err := parseEntry(&e, rest)
		if err != nil {
			return fmt.Errorf("%w: entry %d: %w", ErrBatch, entries, err)
		}
		rest = rest[n:]
		records += uint64(e.Count)
		if e.newer() {
			needs = versionRules
		}
	}
	if needs != version {
		return fmt.Errorf("%w: its version is %d, what it holds is of version %d", ErrBatch, version, needs)
	}
	if entries != uint64(b.head.Entries) || records != uint64(b.head.Records) {
		return fmt.Errorf("%w: %d entries and %d records where its header says %d and %d",
			ErrBatch, entries, records, b.head.Entries, b.head.Records)
	}
	return nil
}

// Header returns the batch's header. Read-only.
func (b *Batch) Header() *Header { return &b.head }

// Raw returns the encoded batch. Read-only.
func (b *Batch) Raw() []byte { return b.raw }

// Digest returns what the next batch carries as its Prev.
func (b *Batch) Digest() Digest { return sha256.Sum256(b.raw) }

// Clone returns a copy that aliases nothing.
func (b *Batch) Clone() Batch { return Batch{head: b.head, raw: bytes.Clone(b.raw)} }

// Entries returns an iterator over the entries, in order.
func (b *Batch) Entries() EntryIter {
	if len(b.raw) < HeaderSize {
		return EntryIter{}
	}
	return EntryIter{rest: b.raw[HeaderSize:]}
}

// EntryIter walks the entries of a batch:
//
//	for it, e := b.Entries(), (change.Entry{}); it.Next(&e); {
type EntryIter struct{ rest []byte }

// Next reads the next entry into e and reports whether there was one. e aliases the batch.
func (it *EntryIter) Next(e *Entry) bool {
	if len(it.rest) == 0 {
		return false
	}
	n, err := parseEntry(e, it.rest)
	if err != nil { // ParseBatch walked these bytes
		panic("change: batch changed while it was read: " + err.Error())
	}
	it.rest = it.rest[n:]
	return true
}

// Builder collects the entries of one batch in one buffer, which it keeps for the next batch. The zero value is ready.
// Not for concurrent use.
type Builder struct {
	buf     []byte // header and entries; empty until the first entry
	entries uint32
	records uint32
	newer   bool // an entry has what version 1 does not have
}

// Reset forgets all entries. Batches that Seal returned are invalid from now on.
func (b *Builder) Reset() { b.buf, b.entries, b.records, b.newer = b.buf[:0], 0, 0, false }

// Entries returns how many entries were added.
func (b *Builder) Entries() int { return int(b.entries) }

// Records returns how many records were added.
func (b *Builder) Records() int { return int(b.records) }

// Len returns the bytes that the batch takes so far, header included.
func (b *Builder) Len() int { return max(len(b.buf), HeaderSize) }

// Fits reports whether an entry of this size (see [Entry.Size]) still goes into the batch.
func (b *Builder) Fits(size int) bool { return b.Len()+size <= MaxBatch }

// Add appends a copy of e. It fails, and changes nothing, when the batch would pass MaxBatch or a field of e is longer
// than MaxField.
func (b *Builder) Add(e *Entry) error {
	if !b.Fits(e.Size()) {
		return fmt.Errorf("an entry of %d bytes does not fit a batch of %d bytes that may hold %d", e.Size(), b.Len(), MaxBatch)
	}
	for _, f := range [...][]byte{e.Subject, e.Role, e.Request, e.Key, e.Trace} {
		if len(f) > MaxField {
			return fmt.Errorf("an entry with a field of %d bytes; it may have %d", len(f), MaxField)
		}
	}
	if len(e.Rules) > 0 && e.Kind != EntryWrite {
		return errors.New("rules in an entry that is no write")
	}
	if e.Refused && !e.Op.rows() {
		return errors.New("refused rows in an entry without rows")
	}
	if b.entries == 0 {
		b.buf = append(b.buf[:0], make([]byte, HeaderSize)...)
	}
	b.newer = b.newer || e.newer()
	b.buf = AppendEntry(b.buf, e)
	b.entries++
	b.records += e.Count
	return nil
}

// Seal completes the batch: it sets h's counts, writes h and the checksum before the entries and returns the batch, which
// aliases the builder until Reset. Seal may be called again with another header.
func (b *Builder) Seal(h Header) Batch {
	if b.entries == 0 {
		b.buf = append(b.buf[:0], make([]byte, HeaderSize)...)
	}
	h.Entries, h.Records = b.entries, b.records
	raw := b.buf
	le := binary.LittleEndian
	le.PutUint32(raw[atMagic:], magic)
	le.PutUint16(raw[atVersion:], versionPlain)
	if b.newer {
		le.PutUint16(raw[atVersion:], versionRules)
	}
	le.PutUint16(raw[atFlags:], 0)
	le.PutUint32(raw[atShard:], h.Shard)
	copy(raw[atLog:], h.Log[:])
	le.PutUint64(raw[atSeq:], h.Seq)
	le.PutUint64(raw[atStamp:], uint64(h.Stamp))
	copy(raw[atPrev:], h.Prev[:])
	le.PutUint32(raw[atEntries:], h.Entries)
	le.PutUint32(raw[atRecords:], h.Records)
	le.PutUint32(raw[atBytes:], uint32(len(raw)-HeaderSize))
	le.PutUint32(raw[atReserved:], 0)
	le.PutUint32(raw[atChecksum:], checksum(raw))
	return Batch{head: h, raw: raw}
}
