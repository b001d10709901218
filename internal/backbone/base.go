package backbone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
)

// base says where a trimmed log begins, so that a log without its beginning is told from one that lost it. A log without a base begins at 1.
type base struct {
	Log    change.LogID
	Shard  uint32
	First  uint64        // the first sequence that is kept; at least 2
	Stamp  int64         // of batch First-1
	Digest change.Digest // of batch First-1
}

// The base file is replaced as a whole; docs/formats.md has the drawing.
const (
	baseSize    = 80
	baseMagic   = 0x5441414c // "LAAT" in little-endian order
	baseVersion = 1
)

// basePath returns the name of a shard's file in a folder.
func basePath(dir string, shard uint32) string {
	return filepath.Join(dir, fmt.Sprintf("base-%d", shard))
}

func encodeBase(b *base) []byte {
	out := make([]byte, baseSize)
	le := binary.LittleEndian
	le.PutUint32(out, baseMagic)
	le.PutUint16(out[8:], baseVersion)
	le.PutUint32(out[12:], b.Shard)
	copy(out[16:], b.Log[:])
	le.PutUint64(out[32:], b.First)
	le.PutUint64(out[40:], uint64(b.Stamp))
	copy(out[48:], b.Digest[:])
	le.PutUint32(out[4:], crc32.Checksum(out[8:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}

// BaseError says that the file which tells where the log begins cannot be used. The log itself may be whole.
type BaseError struct {
	File string
	Err  error
}

// Error implements error.
func (e *BaseError) Error() string {
	return fmt.Sprintf("the base file %s: %v. `laaster repair` makes it anew from the log and the checkpoints", e.File, e.Err)
}

// Unwrap returns the cause.
func (e *BaseError) Unwrap() error { return e.Err }

var errBase = errors.New("its bytes changed after they were written")

// decodeBase reads what encodeBase wrote. Errors are errBase or a *change.NewerError.
func decodeBase(b []byte) (*base, error) {
	le := binary.LittleEndian
	if len(b) != baseSize || le.Uint32(b) != baseMagic || le.Uint32(b[4:]) != crc32.Checksum(b[8:], crc32.MakeTable(crc32.Castagnoli)) {
		return nil, errBase
	}
	if v := le.Uint16(b[8:]); v != baseVersion {
		return nil, &change.NewerError{What: "base file", Version: int(v), Known: baseVersion}
	}
	out := &base{Log: change.LogID(b[16:]), Shard: le.Uint32(b[12:]), First: le.Uint64(b[32:]), Stamp: int64(le.Uint64(b[40:])), Digest: change.Digest(b[48:])}
	if out.First < 2 || le.Uint16(b[10:]) != 0 {
		return nil, errBase
	}
	return out, nil
}

// readBase returns a shard's base in a folder; nil when there is no file. Errors are *BaseError.
func readBase(dir string, shard uint32) (*base, error) {
	file := basePath(dir, shard)
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &BaseError{file, err}
	}
	b, err := decodeBase(raw)
	if err == nil && b.Shard != shard {
		err = fmt.Errorf("it is of shard %d", b.Shard)
	}
	if err != nil {
		return nil, &BaseError{file, err}
	}
	return b, nil
}

// writeBase makes b the base in a folder, durably.
func writeBase(dir string, b *base) error {
	if err := disk.Replace(basePath(dir, b.Shard), encodeBase(b), 0o600); err != nil {
		return fmt.Errorf("write the base file: %w", err)
	}
	return nil
}

// openBase reads the base of the shard, when it keeps one.
func (s *Shard) openBase(dir string) error {
	if dir == "" {
		return nil
	}
	b, err := readBase(dir, s.shard)
	if err == nil && b != nil && s.mark != nil && b.Log != s.mark.Log {
		err = &BaseError{basePath(dir, s.shard), fmt.Errorf("it is of log %s, and the high-water file of log %s", b.Log, s.mark.Log)}
	}
	s.mu.base, s.trims.dir = b, dir
	return err
}

// first returns where a log with this base, or none, begins.
func (b *base) first() uint64 {
	if b == nil {
		return 1
	}
	return b.First
}

// begin makes v a verifier whose first batch is the base's.
func (b *base) begin(v *verifier) {
	v.next = b.first()
	if b != nil {
		v.prev, v.stamp, v.linked = b.Digest, b.Stamp, true
	}
}

// fits returns a *Damage when a store of these bounds lacks something that the base says is kept. It tells v the log.
func (b *base) fits(v *verifier, first, last uint64) error {
	if b != nil && v.log == (change.LogID{}) {
		v.log = b.Log
	}
	if kept := b.first(); first > kept {
		return v.damage(Hole, kept, first-1, fmt.Sprintf("the store begins at %d", first))
	} else if last < kept-1 {
		return v.damage(Shortened, last+1, kept-1, fmt.Sprintf("the log ends at %d and was trimmed up to %d", last, kept-1))
	}
	return nil
}

// Begins returns the first sequence that a shard's base file in dir says is kept; 1 when there is no file.
func Begins(dir string, shard uint32) (uint64, error) {
	b, err := readBase(dir, shard)
	if err != nil || b == nil {
		return 1, err
	}
	return b.First, nil
}
