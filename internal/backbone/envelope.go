package backbone

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"laaster/internal/change"
	"laaster/internal/seal"
)

// An envelope is how the store holds a batch of an encrypted log: a clear head of 40 bytes, whose fields are where those of a batch are, and
// the sealed batch. The seal binds the batch to the head, so that an envelope opens only at its own place of its own log. Digests and the
// chain are of the plain batch: encrypting a log, or changing its key, does not change its chain. docs/formats.md has the drawing.
const (
	envelopeMagic   = 0x4541414c // "LAAE" in little-endian order
	envelopeVersion = 1
	envelopeHead    = 40
	atEnvelopeSum   = 4 // CRC-32C of everything after it
	atEnvelopeVer   = 8
	atEnvelopeFlags = 10
	atEnvelopeShard = 12
	atEnvelopeLog   = 16
	atEnvelopeSeq   = 32

	// MaxStored is the most bytes that a store is given for one batch.
	MaxStored = change.MaxBatch + envelopeHead + seal.Overhead
)

// Errors of openEnvelope besides those of package seal, for errors.Is.
var (
	errEnvelopeSum   = errors.New("an encrypted batch with a wrong checksum: its bytes changed after they were written")
	errEnvelope      = errors.New("malformed envelope of an encrypted batch")
	errEnvelopePlace = errors.New("an encrypted batch that was written for another place")
)

// envelopeBound is what the seal is bound to: the magic and the head behind the checksum.
type envelopeBound [4 + envelopeHead - atEnvelopeVer]byte

func (b *envelopeBound) of(head []byte) []byte {
	copy(b[:4], head)
	copy(b[4:], head[atEnvelopeVer:envelopeHead])
	return b[:]
}

// sealer puts batches into envelopes. Not for concurrent use. The zero value has no keys: batches stay as they are.
type sealer struct {
	keys  *seal.Ring
	buf   []byte // of the newest envelope
	bound envelopeBound
}

// wrap returns what the store is given for a batch: its bytes, or with keys its envelope, which is valid until the next call.
func (s *sealer) wrap(b *change.Batch) []byte {
	if s.keys == nil {
		return b.Raw()
	}
	h := b.Header()
	if s.buf == nil {
		s.buf = make([]byte, 0, MaxStored)
	}
	head := s.buf[:envelopeHead]
	le := binary.LittleEndian
	le.PutUint32(head, envelopeMagic)
	le.PutUint16(head[atEnvelopeVer:], envelopeVersion)
	le.PutUint16(head[atEnvelopeFlags:], 0)
	le.PutUint32(head[atEnvelopeShard:], h.Shard)
	copy(head[atEnvelopeLog:], h.Log[:])
	le.PutUint64(head[atEnvelopeSeq:], h.Seq)
	s.buf = s.keys.Seal(head, b.Raw(), s.bound.of(head))
	le.PutUint32(s.buf[atEnvelopeSum:], envelopeSum(s.buf))
	return s.buf
}

func envelopeSum(b []byte) uint32 {
	return crc32.Checksum(b[atEnvelopeVer:], crc32.MakeTable(crc32.Castagnoli))
}

// isEnvelope reports whether what a store has begins like an envelope.
func isEnvelope(raw []byte) bool {
	return len(raw) >= 4 && binary.LittleEndian.Uint32(raw) == envelopeMagic
}

// opener takes batches out of their envelopes. Not for concurrent use. The zero value has no keys and opens only what is plain.
type opener struct {
	keys   *seal.Ring
	buf    []byte // of the newest plain batch
	bound  envelopeBound
	sealed bool // the newest batch was in an envelope
}

// errUnsealed says that a plain batch follows an encrypted one: encryption may be switched on in the middle of a log, never off.
var errUnsealed = errors.New("it is not encrypted, and the batch before it is")

// open returns the plain batch in what the store has: raw itself, or the content of the envelope, which is valid until the next call.
// Errors: of package seal, the ones above, a *change.NewerError.
func (o *opener) open(raw []byte) ([]byte, error) {
	if !isEnvelope(raw) {
		if o.sealed {
			if _, err := change.ParseBatch(raw); err == nil {
				return nil, errUnsealed
			}
		}
		return raw, nil // or damage, as parsing finds
	}
	plain, err := openEnvelope(o.keys, o.buf[:0], raw, &o.bound)
	if err != nil {
		return nil, err
	}
	o.buf, o.sealed = plain, true
	return plain, nil
}

// openEnvelope appends the batch of an envelope to dst.
func openEnvelope(keys *seal.Ring, dst, raw []byte, bound *envelopeBound) ([]byte, error) {
	le := binary.LittleEndian
	if len(raw) < envelopeHead || le.Uint32(raw[atEnvelopeSum:]) != envelopeSum(raw) {
		return dst, errEnvelopeSum
	}
	if v := le.Uint16(raw[atEnvelopeVer:]); v != envelopeVersion {
		return dst, &change.NewerError{What: "encrypted batch", Version: int(v), Known: envelopeVersion}
	}
	if len(raw) > MaxStored || le.Uint16(raw[atEnvelopeFlags:]) != 0 {
		return dst, fmt.Errorf("%w: %d bytes, flags %d", errEnvelope, len(raw), le.Uint16(raw[atEnvelopeFlags:]))
	}
	plain, err := keys.Open(dst, raw[envelopeHead:], bound.of(raw))
	if err != nil {
		return dst, err
	}
	// The clear head is there to be read without the key; who holds the key could still have written one that lies.
	if b := plain[len(dst):]; len(b) < change.HeaderSize || !bytes.Equal(b[atEnvelopeShard:envelopeHead], raw[atEnvelopeShard:envelopeHead]) {
		return dst, errEnvelopePlace
	}
	return plain, nil
}
