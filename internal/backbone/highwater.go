package backbone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
)

// mark is a high-water mark: the log holds at least everything up to Seq, whose batch has this digest.
type mark struct {
	Log    change.LogID
	Shard  uint32
	Seq    uint64
	Digest change.Digest
}

// The high-water file has two slots, each in a sector of its own. Marks go to them in turn, so that a write that a power
// cut tears leaves the one before. docs/formats.md has the drawing.
const (
	slotSize      = 512
	slotUsed      = 80
	slotMagic     = 0x4841414c // "LAAH" in little-endian order
	highVersion   = 1
	highWaterPerm = 0o600
)

// highWater is the open file. Not for concurrent use, except for sync.
type highWater struct {
	f    *os.File
	next int // the slot that the next mark goes to
	slot [slotSize]byte
}

// highWaterPath returns the name of a shard's file in a folder.
func highWaterPath(dir string, shard uint32) string {
	return filepath.Join(dir, fmt.Sprintf("highwater-%d", shard))
}

// encodeMark writes m into a slot.
func encodeMark(slot []byte, m *mark) {
	le := binary.LittleEndian
	le.PutUint32(slot[0:], slotMagic)
	le.PutUint16(slot[8:], highVersion)
	le.PutUint16(slot[10:], 0)
	le.PutUint32(slot[12:], m.Shard)
	copy(slot[16:], m.Log[:])
	le.PutUint64(slot[32:], m.Seq)
	copy(slot[40:], m.Digest[:])
	le.PutUint64(slot[72:], 0)
	le.PutUint32(slot[4:], crc32.Checksum(slot[8:slotUsed], crc32.MakeTable(crc32.Castagnoli)))
}

var errSlot = errors.New("a slot without a valid mark")

// decodeMark reads a slot. A mark of a newer version is a *change.NewerError.
func decodeMark(slot []byte) (mark, error) {
	var m mark
	le := binary.LittleEndian
	if len(slot) < slotUsed || le.Uint32(slot) != slotMagic ||
		le.Uint32(slot[4:]) != crc32.Checksum(slot[8:slotUsed], crc32.MakeTable(crc32.Castagnoli)) {
		return m, errSlot
	}
	if v := le.Uint16(slot[8:]); v != highVersion {
		return m, &change.NewerError{What: "high-water file", Version: int(v), Known: highVersion}
	}
	m.Shard = le.Uint32(slot[12:])
	m.Log = change.LogID(slot[16:])
	m.Seq = le.Uint64(slot[32:])
	m.Digest = change.Digest(slot[40:])
	return m, nil
}

// createHighWater makes the file with a first mark, durably.
func createHighWater(path string, m *mark) (*highWater, error) {
	b := make([]byte, 2*slotSize)
	encodeMark(b, m)
	if err := disk.Replace(path, b, highWaterPerm); err != nil {
		return nil, fmt.Errorf("create the high-water file: %w", err)
	}
	fault.Point("log.mark_made")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the high-water file: %w", err)
	}
	return &highWater{f: f, next: 1}, nil
}

// openHighWater opens the file and returns its newest mark. Without a file both are nil.
func openHighWater(path string) (*highWater, *mark, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open the high-water file: %w", err)
	}
	b := make([]byte, 2*slotSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, nil, errors.Join(fmt.Errorf("read the high-water file: %w", err), f.Close())
	}
	m, slot, err := newestMark(b[:n])
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the high-water file %s: %w", path, err), f.Close())
	}
	return &highWater{f: f, next: 1 - slot}, &m, nil
}

// Acknowledged returns the last sequence that a shard's high-water file in dir says was acknowledged; 0 when there is no
// file.
func Acknowledged(dir string, shard uint32) (uint64, error) {
	hw, m, err := openHighWater(highWaterPath(dir, shard))
	if err != nil || hw == nil {
		return 0, err
	}
	return m.Seq, hw.close()
}

// newestMark returns the newer mark of a file's two slots and which slot holds it.
func newestMark(b []byte) (newest mark, slot int, err error) {
	slot = -1
	for i := range 2 {
		at := min(i*slotSize, len(b))
		m, err := decodeMark(b[at:min(at+slotSize, len(b))])
		if newer := (*change.NewerError)(nil); errors.As(err, &newer) {
			return mark{}, 0, err
		}
		if err == nil && (slot < 0 || m.Seq > newest.Seq) {
			newest, slot = m, i
		}
	}
	if slot < 0 {
		return mark{}, 0, errors.New("neither of its two marks is valid, so a shortened log would go unseen: " +
			"restore the file, or remove it to have it made anew from the log as the log is now")
	}
	return newest, slot, nil
}

// write stores a newer mark; a crash of the process does not lose it, a power cut may until sync.
func (h *highWater) write(m *mark) error {
	encodeMark(h.slot[:], m)
	if _, err := h.f.WriteAt(h.slot[:], int64(h.next)*slotSize); err != nil {
		return fmt.Errorf("write the high-water file: %w", err)
	}
	h.next = 1 - h.next
	return nil
}

// sync makes the marks written so far durable.
func (h *highWater) sync() error {
	if err := disk.SyncData(h.f); err != nil {
		return fmt.Errorf("sync the high-water file: %w", err)
	}
	return nil
}

func (h *highWater) close() error { return h.f.Close() }
