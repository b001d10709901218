package jetstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/highwayhash"

	"laaster/internal/backbone"
)

// The embedded server repairs its files when it opens them: at a record that does not match its checksum it cuts the file
// off, however much that is sound comes after. So the files are read here first, and what is damaged is not opened.
//
// A block file, <n>.blk, is a run of records: their length (top bit: has headers), sequence, time, length of the subject,
// subject, [length of the headers, headers], message, checksum. This is the server's own format; a server that changes it
// fails TestInspect.
const (
	recordHeader = 22
	recordSum    = 8
	hasHeaders   = 1 << 31
	notMessage   = 3 << 62 // on a sequence: an erased message or a tombstone
)

// inspector walks the block files of a stream.
type inspector struct {
	o      *Options
	dir    string // of the block files
	stream string
	next   uint64 // the sequence that must come next; before the first message the last one that may
	begun  bool   // a message was met
	late   bool   // the first message may also be a later one: what was before it was trimmed
	buf    bytes.Buffer

	subject []byte       // of all messages
	found   []blockRange // what was inspected
	odd     bool         // there is something in the blocks that is not a message of this stream
}

// inspect returns a *backbone.Damage when the store's files lack a batch, or hold one that changed, other than an append
// that never was acknowledged at their very end. It changes nothing but the server's index. What it left to later, because the server does not read it
// now, is in rest.
func inspect(o *Options, stream string) (rest *unread, err error) {
	in := inspector{o: o, stream: stream, next: max(1, o.First), dir: filepath.Join(streamDir(o.Dir, stream), "msgs")}
	rest = &unread{in: in}
	blocks, err := in.blocks()
	if err != nil {
		return nil, fmt.Errorf("inspect the store: %w", err)
	}
	x, current := in.readIndex(blocks)
	if later := x.settled(o.CleanBefore); len(later) > 0 && later[0].first <= in.next {
		in.begun, in.next, in.subject, in.found = true, later[len(later)-1].last+1, x.subject, slices.Clone(later)
		rest.mu.blocks, blocks = later, blocks[len(later):]
	}
	for i, n := range blocks {
		if err := in.block(n, i == len(blocks)-1); err != nil {
			return nil, err
		}
	}
	if current || len(in.found) == 0 {
		return rest, nil
	}
	if in.odd {
		err = errors.New("there is something in the files that only the server can put right")
	} else {
		err = in.renew(in.found)
	}
	if err != nil && len(rest.mu.blocks) > 0 { // the server will read all blocks, and may change them
		all := *o
		all.CleanBefore = 0
		return inspect(&all, stream)
	}
	if err != nil && o.Log != nil {
		o.Log.Debug("the store is read twice", "reason", err)
	}
	return rest, nil
}

// blocks returns the numbers of the block files, ascending.
func (in *inspector) blocks() ([]int, error) {
	names, err := os.ReadDir(in.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []int
	for _, name := range names {
		digits, ok := strings.CutSuffix(name.Name(), ".blk")
		if n, err := strconv.Atoi(digits); ok && err == nil {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, err
}

func (in *inspector) path(n int) string { return filepath.Join(in.dir, strconv.Itoa(n)+".blk") }

// block checks one file. In the last one, records from the first bad one on are the server's to cut off when none of them
// was acknowledged.
func (in *inspector) block(n int, last bool) error {
	f, err := os.Open(in.path(n))
	if err != nil {
		return fmt.Errorf("inspect the store: %w", err)
	}
	in.buf.Reset()
	if info, err := f.Stat(); err == nil {
		in.buf.Grow(int(info.Size()) + bytes.MinRead) // one buffer of a file's size for all of them
	}
	_, rerr := in.buf.ReadFrom(f)
	if err := errors.Join(rerr, f.Close()); err != nil {
		return fmt.Errorf("inspect the store: %w", err)
	}
	key := sha256.Sum256([]byte(in.stream + "-" + strconv.Itoa(n)))
	sum, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return err
	}
	buf := in.buf.Bytes()
	in.found = append(in.found, blockRange{n: n})
	in.odd = in.odd || len(buf) == 0
	for at := 0; at < len(buf); {
		size, seq, ok := record(buf[at:], sum)
		switch {
		case !ok && last && in.next > in.o.Acknowledged:
			in.odd = true
			return nil
		case !ok:
			return in.bad(n, buf, at)
		case seq&notMessage != 0:
			in.odd = true
		case !in.begun && (seq <= in.next || in.late): // what was trimmed may still be there
			in.begun, in.next = true, seq+1
		case seq != in.next:
			return in.damage(backbone.Hole, in.next, max(in.next, seq-1), fmt.Sprintf("%s goes on at %d", in.path(n), seq))
		default:
			in.next++
		}
		in.note(buf[at:at+size], seq)
		at += size
	}
	return nil
}

// note takes a sound record into what is known of its block.
func (in *inspector) note(rec []byte, seq uint64) {
	le := binary.LittleEndian
	subject, at := rec[recordHeader:recordHeader+int(le.Uint16(rec[20:]))], int64(le.Uint64(rec[12:]))
	if in.subject == nil {
		in.subject = bytes.Clone(subject)
	}
	in.odd = in.odd || !bytes.Equal(subject, in.subject)
	b := &in.found[len(in.found)-1]
	if b.bytes == 0 {
		b.first, b.firstAt = seq, at
	}
	b.last, b.lastAt, b.bytes = seq, at, b.bytes+uint64(len(rec))
}

// record returns the size and the sequence of the record at the start of b, and whether it is sound.
func record(b []byte, sum hash.Hash64) (size int, seq uint64, ok bool) {
	if len(b) < recordHeader {
		return 0, 0, false
	}
	le := binary.LittleEndian
	length, subject := le.Uint32(b), int(le.Uint16(b[20:]))
	fixed := recordHeader + subject
	if length&hasHeaders != 0 {
		fixed += 4
	}
	size = int(length &^ hasHeaders)
	if size > len(b) || size < fixed+recordSum {
		return 0, 0, false
	}
	sum.Reset()
	sum.Write(b[4:20])
	sum.Write(b[recordHeader : recordHeader+subject])
	sum.Write(b[fixed : size-recordSum])
	return size, sequence(b), sum.Sum64() == le.Uint64(b[size-recordSum:size])
}

// bad describes the bad record at a place of a block. How many batches are concerned is what the sound ones after it say.
func (in *inspector) bad(n int, buf []byte, at int) error {
	to := max(in.next, in.o.Acknowledged)
	if f, err := os.Open(in.path(n + 1)); err == nil {
		var head [recordHeader]byte
		_, err := io.ReadFull(f, head[:])
		if errors.Join(err, f.Close()) == nil {
			to = max(in.next, sequence(head[:])-1)
		}
	}
	if rest := buf[at:]; len(rest) > 4 {
		after := uint64(binary.LittleEndian.Uint32(rest) &^ hasHeaders) // of this block, if at least its length is sound
		if after > 0 && after+recordHeader <= uint64(len(rest)) && sequence(rest[after:]) == in.next+1 {
			to = in.next
		}
	}
	return in.damage(backbone.Checksum, in.next, to, fmt.Sprintf("the record at byte %d of %s does not match its checksum", at, in.path(n)))
}

// sequence returns the sequence in a record's header.
func sequence(head []byte) uint64 { return binary.LittleEndian.Uint64(head[4:]) }

func (in *inspector) damage(k backbone.Kind, from, to uint64, detail string) error {
	return &backbone.Damage{Kind: k, Shard: in.o.Shard, From: from, To: to, Detail: detail, Remedy: k.Remedy()}
}
