package archive

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"

	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/seal"
)

// A set begins with the magic and the version, 16 bytes in all; then come frames. docs/formats.md has the drawing.
const (
	magic     = "LAASTER BACKUP"
	version   = 1
	prelude   = len(magic) + 2
	frameHead = 24
	maxFrame  = checkpoint.MaxPage + 1<<16 + seal.Overhead
	partChunk = 1 << 20 // bytes of a root part in one frame
)

// kind says what a frame holds.
type kind uint8

const (
	kindHeader     kind = 1 // [Header] as JSON; first
	kindCheckpoint kind = 2 // [CheckpointHeader] as JSON: its pages and parts follow
	kindPage       kind = 3
	kindPart       kind = 4
	kindEnd        kind = 5 // of the checkpoint: its counts
	kindBatch      kind = 6 // one record batch
	kindFile       kind = 7 // a part of a file that goes along
	kindManifest   kind = 8 // [Manifest] as JSON; last
)

// SetID names one set: random, so that no frame of another fits.
type SetID [16]byte

// String returns it in hexadecimal.
func (id SetID) String() string { return hex.EncodeToString(id[:]) }

func newSetID() (id SetID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// Header says what a set is of. It is not encrypted.
type Header struct {
	Set    string `json:"set"` // its SetID
	Log    string `json:"log"`
	Shard  uint32 `json:"shard"`
	First  uint64 `json:"first"`  // where the log begins
	Digest string `json:"digest"` // of batch First-1, in hexadecimal; zeros when First is 1
	Stamp  int64  `json:"stamp"`  // of batch First-1, microseconds since 1970
	Until  uint64 `json:"until"`  // the position of which the set is: its last batch
	Made   string `json:"made"`   // RFC 3339
	Sealed bool   `json:"sealed"` // the other frames are encrypted
	Key    string `json:"key,omitempty"`
	// Lineage says of which log this one was made.
	Lineage *backbone.Lineage `json:"lineage,omitempty"`
}

// Before returns the digest of batch First-1.
func (h *Header) Before() (d change.Digest, err error) {
	err = unhex(d[:], h.Digest)
	return d, err
}

// CheckpointHeader is what a checkpoint of a set is of.
type CheckpointHeader struct {
	Seq         uint64              `json:"seq"`
	Digest      string              `json:"digest"`
	Stamp       int64               `json:"stamp"`
	Fingerprint string              `json:"fingerprint"`
	Plan        string              `json:"plan"`
	Catalog     []byte              `json:"catalog"`
	LastObject  checkpoint.ObjectID `json:"last_object"`
}

func checkpointHeader(h *checkpoint.Header, last checkpoint.ObjectID) *CheckpointHeader {
	return &CheckpointHeader{Seq: h.Seq, Digest: hex.EncodeToString(h.Digest[:]), Stamp: h.Stamp, Fingerprint: hex.EncodeToString(h.Fingerprint[:]),
		Plan: hex.EncodeToString(h.Plan[:]), Catalog: h.Catalog, LastObject: last}
}

// header returns the header as the checkpoint store has it.
func (c *CheckpointHeader) header(log change.LogID, shard uint32) (checkpoint.Header, error) {
	h := checkpoint.Header{Log: log, Shard: shard, Seq: c.Seq, Stamp: c.Stamp, Catalog: c.Catalog}
	err := errors.Join(unhex(h.Digest[:], c.Digest), unhex(h.Fingerprint[:], c.Fingerprint), unhex(h.Plan[:], c.Plan))
	return h, err
}

func unhex(dst []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err == nil && len(b) != len(dst) {
		err = fmt.Errorf("%q has %d bytes, not %d", s, len(b), len(dst))
	}
	copy(dst, b)
	return err
}

// CheckpointInfo is what the manifest says about a checkpoint.
type CheckpointInfo struct {
	Seq   uint64 `json:"seq"`
	Stamp int64  `json:"stamp"`
	Pages uint64 `json:"pages"`
	Bytes uint64 `json:"bytes"` // of pages and parts
}

// Manifest is what a whole set has in it.
type Manifest struct {
	Log         string           `json:"log"`
	Shard       uint32           `json:"shard"`
	First       uint64           `json:"first"`
	Until       uint64           `json:"until"`
	FirstStamp  int64            `json:"first_stamp"` // of the first and of the last batch, microseconds since 1970; 0 without batches
	LastStamp   int64            `json:"last_stamp"`
	Batches     uint64           `json:"batches"`
	BatchBytes  uint64           `json:"batch_bytes"`
	Checkpoints []CheckpointInfo `json:"checkpoints"` // ascending
	Files       []string         `json:"files,omitempty"`
	Frames      uint64           `json:"frames"` // before the manifest
	Root        string           `json:"root"`   // of the tree over them
}

// SetError says that a set is not as it was made, or cannot be read, and where.
type SetError struct {
	Offset int64  // byte at which the frame begins; of the file as a whole 0
	Frame  uint64 // its number; 0 is the header
	Err    error
}

// Error implements error.
func (e *SetError) Error() string {
	return fmt.Sprintf("the backup cannot be used: at byte %d (frame %d): %v", e.Offset, e.Frame, e.Err)
}

// Unwrap returns the cause.
func (e *SetError) Unwrap() error { return e.Err }

var (
	errCut      = errors.New("it ends here: the file was cut, or the backup was not finished")
	errChecksum = errors.New("its bytes changed after they were written")
	errOrder    = errors.New("it is out of place: frames were dropped, moved or added")
	errTrailing = errors.New("something follows the end of the backup")
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// putFrameHead writes the head of a frame: kind, three zeros, length of the payload, number, checksum of head and payload, and four zeros.
func putFrameHead(dst []byte, k kind, number uint64, payload []byte) {
	clear(dst[:frameHead])
	dst[0] = byte(k)
	binary.LittleEndian.PutUint32(dst[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(dst[8:], number)
	binary.LittleEndian.PutUint32(dst[16:], crc32.Update(crc32.Checksum(dst[:16], castagnoli()), castagnoli(), payload))
}

// bound is what the seal of a frame is bound to.
func bound(set SetID, k kind, number uint64) []byte {
	b := append([]byte("laaster backup frame"), set[:]...)
	b = append(b, byte(k))
	return binary.LittleEndian.AppendUint64(b, number)
}

// tree computes the root of a SHA-256 tree over frames as they come: leaves are hashed with a zero before them, pairs with a one; an odd one at
// the end of a level goes up as it is.
type tree struct {
	levels []*[32]byte // the subtree of 2^i leaves that waits for its sibling
}

func (t *tree) add(parts ...[]byte) {
	h := sha256.New()
	h.Write([]byte{0})
	for _, p := range parts {
		h.Write(p)
	}
	sum := [32]byte(h.Sum(nil))
	for i := 0; ; i++ {
		if i == len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		if t.levels[i] == nil {
			t.levels[i] = &sum
			return
		}
		sum = pair(t.levels[i], &sum)
		t.levels[i] = nil
	}
}

func pair(a, b *[32]byte) [32]byte { return sha256.Sum256(bytes.Join([][]byte{{1}, a[:], b[:]}, nil)) }

// root returns the root so far, in hexadecimal.
func (t *tree) root() string {
	var sum *[32]byte
	for _, l := range t.levels {
		switch {
		case l == nil:
		case sum == nil:
			sum = l
		default:
			s := pair(l, sum)
			sum = &s
		}
	}
	if sum == nil {
		sum = &[32]byte{}
	}
	return hex.EncodeToString(sum[:])
}

// page is the payload of a page frame: object, number, length of the meta, meta, data.
func appendPage(dst []byte, o checkpoint.ObjectID, n uint32, meta, data []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o))
	dst = binary.LittleEndian.AppendUint32(dst, n)
	dst = append(dst, byte(len(meta)))
	return append(append(dst, meta...), data...)
}

func parsePage(b []byte) (o checkpoint.ObjectID, n uint32, meta, data []byte, err error) {
	if len(b) < 13 || len(b) < 13+int(b[12]) || b[12] > checkpoint.MaxMeta {
		return 0, 0, nil, nil, errors.New("a page that cannot be read")
	}
	m := 13 + int(b[12])
	return checkpoint.ObjectID(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint32(b[8:]), b[13:m], b[m:], nil
}

// appendChunk is the payload of a part or a file frame: length of the name, name, whether it is the last of it, bytes.
func appendChunk(dst []byte, name string, last bool, data []byte) []byte {
	dst = append(dst, byte(len(name)))
	dst = append(dst, name...)
	end := byte(0)
	if last {
		end = 1
	}
	return append(append(dst, end), data...)
}

func parseChunk(b []byte) (name string, last bool, data []byte, err error) {
	if len(b) < 2 || len(b) < 2+int(b[0]) || b[0] == 0 || b[1+int(b[0])] > 1 {
		return "", false, nil, errors.New("a part that cannot be read")
	}
	n := 1 + int(b[0])
	return string(b[1:n]), b[n] == 1, b[n+1:], nil
}
