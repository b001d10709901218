package jetstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/minio/highwayhash"

	"laaster/internal/backbone"
	"laaster/internal/kit/fault"
)

// The server writes index.db when it ends well, and every few minutes: what is in each of its block files, and the last record's checksum. When it
// finds that the files end with that record, it trusts the index and reads no block; otherwise it reads, and repairs, all of them. Here the index
// serves two purposes. Blocks that an earlier start found sound need not be read by this one before the server opens them; they are inspected
// before their first batch is read. And after a kill, the inspection, which has read what is newer, brings the index up to date, so that the server
// need not read it all again. Whatever is not as expected means that all blocks are inspected, and that the server finds no index.

const (
	indexMagic   = 11
	indexVersion = 4 // of the server that go.mod names; another one means that every start reads everything
)

// blockRange is a block file and the messages in it.
type blockRange struct {
	n               int
	bytes           uint64 // of its messages, at most the file's size
	first, last     uint64
	firstAt, lastAt int64 // when they were stored, in nanoseconds since 1970
}

// index is what index.db says.
type index struct {
	msgs, bytes uint64
	first, last uint64
	subject     []byte // the one that all messages have
	blocks      []blockRange
	lastBlock   int
	lastSum     [8]byte
}

var errIndex = errors.New("an index that cannot be used")

// indexReader reads the numbers of the server's index; after an error it reads zeros.
type indexReader struct {
	b   []byte
	bad bool
}

func (r *indexReader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *indexReader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *indexReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// parseIndex reads the server's index of a stream. Anything that is not as expected is errIndex.
func parseIndex(b []byte, stream string) (*index, error) {
	key := sha256.Sum256([]byte(stream))
	sum, err := highwayhash.NewDigest64(key[:])
	if err != nil || len(b) < 32 {
		return nil, errors.Join(errIndex, err)
	}
	body := b[:len(b)-8]
	sum.Write(body)
	if !bytes.Equal(sum.Sum(nil), b[len(body):]) || body[0] != indexMagic || body[1] != indexVersion {
		return nil, errIndex
	}
	r := indexReader{b: body[2:]}
	x := &index{msgs: r.uint(), bytes: r.uint(), first: r.uint()}
	base := r.int()
	x.last = r.uint()
	r.int()
	if r.uint() != 1 { // subjects
		return nil, errIndex
	}
	x.subject = r.take(r.uint())
	r.uint()
	r.uint()
	r.uint()
	for blocks := r.uint(); blocks > 0 && !r.bad; blocks-- {
		b := blockRange{n: int(r.uint()), bytes: r.uint(), first: r.uint()}
		b.firstAt = base + r.int()
		b.last = r.uint()
		b.lastAt = base + r.int()
		if deleted, expiries, schedules := r.uint(), r.uint(), r.uint(); deleted != 0 || expiries != 0 || schedules != 0 {
			return nil, errIndex
		}
		x.blocks = append(x.blocks, b)
	}
	x.lastBlock = int(r.uint())
	if r.bad || len(r.b) != len(x.lastSum) {
		return nil, errIndex
	}
	copy(x.lastSum[:], r.b)
	return x, nil
}

// sound reports whether the index agrees with itself, as the server checks it, and its blocks follow each other without a hole.
func (x *index) sound() bool {
	var msgs, size uint64
	for i, b := range x.blocks {
		if b.last < b.first || i > 0 && b.first != x.blocks[i-1].last+1 {
			return false
		}
		msgs, size = msgs+b.last-b.first+1, size+b.bytes
	}
	n := len(x.blocks)
	return n > 0 && msgs == x.msgs && size == x.bytes && x.first == x.blocks[0].first && x.last == x.blocks[n-1].last && x.lastBlock == x.blocks[n-1].n
}

// encode returns the index as the server writes it.
func (x *index) encode(stream string) ([]byte, error) {
	base, end := x.blocks[0].firstAt, &x.blocks[len(x.blocks)-1]
	b := []byte{indexMagic, indexVersion}
	b = binary.AppendUvarint(b, x.msgs)
	b = binary.AppendUvarint(b, x.bytes)
	b = binary.AppendUvarint(b, x.first)
	b = binary.AppendVarint(b, base)
	b = binary.AppendUvarint(b, x.last)
	b = binary.AppendVarint(b, end.lastAt)
	b = binary.AppendUvarint(b, 1)
	b = binary.AppendUvarint(b, uint64(len(x.subject)))
	b = append(b, x.subject...)
	b = binary.AppendUvarint(b, x.msgs)
	b = binary.AppendUvarint(b, uint64(x.blocks[0].n))
	b = binary.AppendUvarint(b, uint64(end.n))
	b = binary.AppendUvarint(b, uint64(len(x.blocks)))
	for _, k := range x.blocks {
		b = binary.AppendUvarint(b, uint64(k.n))
		b = binary.AppendUvarint(b, k.bytes)
		b = binary.AppendUvarint(b, k.first)
		b = binary.AppendVarint(b, k.firstAt-base)
		b = binary.AppendUvarint(b, k.last)
		b = binary.AppendVarint(b, k.lastAt-base)
		b = append(b, 0, 0, 0)
	}
	b = binary.AppendUvarint(b, uint64(x.lastBlock))
	b = append(b, x.lastSum[:]...)
	key := sha256.Sum256([]byte(stream))
	sum, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return nil, err
	}
	sum.Write(b)
	return sum.Sum(b), nil
}

// indexPath is the index's file.
func (in *inspector) indexPath() string { return filepath.Join(in.dir, "index.db") }

// readIndex returns the server's index when it fits the block files that are there, which may have more at their end, else nil. current says that
// they have not: the server will trust it.
func (in *inspector) readIndex(blocks []int) (x *index, current bool) {
	b, err := os.ReadFile(in.indexPath())
	if err != nil {
		return nil, false
	}
	x, err = parseIndex(b, in.stream)
	if err != nil || !x.sound() || len(x.blocks) > len(blocks) {
		return nil, false
	}
	for i, b := range x.blocks {
		info, err := os.Stat(in.path(b.n))
		if err != nil || b.n != blocks[i] || uint64(info.Size()) < b.bytes {
			return nil, false
		}
	}
	sum, err := in.lastSum(x.lastBlock)
	return x, err == nil && len(x.blocks) == len(blocks) && sum == x.lastSum
}

// settled returns the blocks that hold nothing behind clean, without the last one, which may have grown.
func (x *index) settled(clean uint64) []blockRange {
	if x == nil {
		return nil
	}
	blocks := x.blocks[:len(x.blocks)-1]
	n, _ := slices.BinarySearchFunc(blocks, clean+1, func(b blockRange, behind uint64) int {
		if b.last < behind {
			return -1
		}
		return 1
	})
	return blocks[:n]
}

// lastSum returns the checksum of the last record of a block file.
func (in *inspector) lastSum(n int) (sum [8]byte, err error) {
	f, err := os.Open(in.path(n))
	if err != nil {
		return sum, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < int64(len(sum)) {
		err = errIndex
	}
	if err == nil {
		err = binary.Read(io.NewSectionReader(f, info.Size()-8, 8), binary.LittleEndian, &sum)
	}
	return sum, errors.Join(err, f.Close())
}

// renew writes the index of these blocks, which are all that there are and were found sound. The server reads it, or, if it does not like it, the
// blocks.
func (in *inspector) renew(blocks []blockRange) error {
	x := &index{subject: in.subject, blocks: blocks, first: blocks[0].first, last: blocks[len(blocks)-1].last, lastBlock: blocks[len(blocks)-1].n}
	for _, b := range blocks {
		x.msgs, x.bytes = x.msgs+b.last-b.first+1, x.bytes+b.bytes
	}
	var err error
	if x.lastSum, err = in.lastSum(x.lastBlock); err != nil {
		return err
	}
	b, err := x.encode(in.stream)
	if err != nil || !x.sound() {
		return errors.Join(errIndex, err)
	}
	tmp := in.indexPath() + ".tmp" // without a sync: what a power cut leaves of it does not pass its checksum, and the server reads the blocks
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	fault.Point("log.index_written")
	return os.Rename(tmp, in.indexPath())
}

// unread are the blocks that were not inspected at the start. Safe for concurrent use.
type unread struct {
	in inspector
	mu struct {
		sync.Mutex
		blocks []blockRange // ascending
	}
}

// inspect inspects those of the blocks that hold something from from to to, before the server reads them: it would cut a damaged one off at the
// first bad record. A block is inspected once; the error of a damaged one is returned each time.
func (u *unread) inspect(from, to uint64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := 0; i < len(u.mu.blocks); {
		b := u.mu.blocks[i]
		if b.last < from || b.first > to {
			i++
			continue
		}
		err := u.in.whole(b)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // one that was trimmed is not there
			return err
		}
		u.mu.blocks = slices.Delete(u.mu.blocks, i, i+1)
	}
	return nil
}

// whole inspects a block that holds a known range, of whose beginning a part may have been trimmed since.
func (in *inspector) whole(b blockRange) error {
	in.begun, in.late, in.next, in.found = false, true, b.first, in.found[:0]
	if err := in.block(b.n, false); err != nil {
		return err
	}
	if in.begun && in.next <= b.last {
		return in.damage(backbone.Hole, in.next, b.last, in.path(b.n)+" ends before them")
	}
	return nil
}
