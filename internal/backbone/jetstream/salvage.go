package jetstream

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strconv"

	"github.com/minio/highwayhash"

	"laaster/internal/backbone"
)

// Salvage reads the files of the embedded store in dir, which nobody has open, and passes on whatever may be a batch, in the order of the files. It
// changes nothing and takes nothing for granted: damaged files are searched. fn says whether data holds a whole batch; data is valid
// during fn. sound says that the store's own checksum holds: then data is as it was written; else it may begin right and have too much at its
// end, and fn says how many bytes of it the batch takes. Errors are those of fn and of reading files; files that are missing or cut are not.
func Salvage(dir string, shard uint32, fn func(data []byte, sound bool) (size int, err error)) error {
	stream := fmt.Sprintf("%s-%d", defaultName, shard)
	in := inspector{o: &Options{}, stream: stream, dir: filepath.Join(streamDir(dir, stream), "msgs")}
	blocks, err := in.blocks()
	if err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	subject := fmt.Appendf(nil, "laaster.log.%s.%d", defaultName, shard)
	for _, n := range blocks {
		buf, err := os.ReadFile(in.path(n))
		if err != nil && buf == nil && !errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("read the store: %w", err)
			if _, serr := os.Stat(in.path(n)); serr != nil {
				return errors.Join(err, serr)
			}
			continue // the disk does not give it: what was in it shows as missing
		}
		key := sha256.Sum256([]byte(stream + "-" + strconv.Itoa(n)))
		sum, err := highwayhash.NewDigest64(key[:])
		if err != nil {
			return err
		}
		s := salvager{buf: buf, subject: subject, sum: sum, fn: fn}
		if err := s.block(); err != nil {
			return err
		}
	}
	return nil
}

// Sound returns a *backbone.Damage when the files of the embedded store in dir, which nobody has open, are not as its server wrote them, also where the batches
// in them are whole: such a store is not to be opened. acknowledged and first are as in Options. It changes nothing.
func Sound(dir string, shard uint32, acknowledged, first uint64) error {
	o := &Options{Dir: dir, Shard: shard, Acknowledged: acknowledged, First: first}
	stream := fmt.Sprintf("%s-%d", defaultName, shard)
	in := inspector{o: o, stream: stream, next: max(1, first), dir: filepath.Join(streamDir(dir, stream), "msgs")}
	blocks, err := in.blocks()
	if err != nil {
		return fmt.Errorf("inspect the store: %w", err)
	}
	for i, n := range blocks {
		if err := in.block(n, i == len(blocks)-1); err != nil {
			return err
		}
	}
	if gone, err := in.trimmed(blocks); err != nil || gone >= max(1, first) {
		return cmp.Or(err, in.damage(backbone.Hole, max(1, first), gone, fmt.Sprintf("the store was trimmed up to %d", gone)))
	}
	folder := streamDir(dir, stream)
	if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	meta, err := os.ReadFile(filepath.Join(folder, "meta.inf"))
	sum, serr := os.ReadFile(filepath.Join(folder, "meta.sum"))
	key := sha256.Sum256([]byte(stream))
	h, herr := highwayhash.NewDigest64(key[:])
	if herr != nil {
		return herr
	}
	h.Write(meta)
	if errors.Join(err, serr) != nil || hex.EncodeToString(h.Sum(nil)) != string(sum) {
		return &backbone.Damage{Kind: backbone.Unreadable, Shard: shard, From: 1, To: 0, Detail: "the settings of the stream in " + folder + " are damaged or missing",
			Remedy: backbone.Unreadable.Remedy()}
	}
	return nil
}

// tombstone is on the sequence of a record that says that the message of this sequence is gone.
const tombstone = 1 << 62

// trimmed returns the last sequence of which a record says that it is gone, 0 when there is none. The blocks are sound.
func (in *inspector) trimmed(blocks []int) (last uint64, err error) {
	for _, n := range blocks {
		buf, err := os.ReadFile(in.path(n))
		if err != nil {
			return 0, fmt.Errorf("inspect the store: %w", err)
		}
		for at := 0; at+recordHeader <= len(buf); {
			if seq := sequence(buf[at:]); seq&tombstone != 0 {
				last = max(last, seq&^notMessage)
			}
			at += max(recordHeader, int(binary.LittleEndian.Uint32(buf[at:])&^hasHeaders))
		}
	}
	return last, nil
}

// salvager searches one block file.
type salvager struct {
	buf     []byte
	subject []byte
	sum     hash.Hash64
	fn      func(data []byte, sound bool) (int, error)
}

func (s *salvager) block() error {
	for at := 0; at < len(s.buf); {
		size, seq, ok := record(s.buf[at:], s.sum)
		if ok && seq&notMessage != 0 {
			at += size
			continue
		}
		if ok {
			if _, err := s.fn(message(s.buf[at:at+size]), true); err != nil {
				return err
			}
			at += size
			continue
		}
		next, err := s.bad(at)
		if err != nil {
			return err
		}
		at = next
	}
	return nil
}

// message returns what a sound record holds besides its headers.
func message(rec []byte) []byte {
	le := binary.LittleEndian
	from, to := recordHeader+int(le.Uint16(rec[20:])), len(rec)-recordSum
	if le.Uint32(rec)&hasHeaders != 0 {
		from += 4 + int(min(uint32(to), le.Uint32(rec[from:])))
	}
	return rec[min(from, to):to]
}

// maxAnchors is how many places where the next record may begin are tried for the end of an encrypted batch, which does not say its length.
const maxAnchors = 8

// bad looks for a batch in the record at a place, of which anything may be wrong, and returns where to go on: behind the batch, or at the next
// record, which is where the stream's subject is again.
func (s *salvager) bad(at int) (int, error) {
	next := s.anchor(at)
	for _, magic := range []string{"LAAB", "LAAE"} {
		for from := at; from < next; from += len(magic) {
			i := bytes.Index(s.buf[from:next], []byte(magic))
			if i < 0 {
				break
			}
			from += i
			for end, tries := next, 0; tries < maxAnchors && end-recordSum > from; tries++ {
				if magic == "LAAB" { // it says its length
					end, tries = len(s.buf), maxAnchors
				}
				size, err := s.fn(s.buf[from:end-recordSum], false)
				if err != nil {
					return 0, err
				}
				if size > 0 {
					return from + size + recordSum, nil
				}
				if end == len(s.buf) {
					break
				}
				end = s.anchor(end)
			}
		}
	}
	return next, nil
}

// anchor returns where the record behind the one at a place begins, as its subject tells; the end of the file when there is none.
func (s *salvager) anchor(at int) int {
	if from := at + recordHeader + 1; from < len(s.buf) {
		if i := bytes.Index(s.buf[from:], s.subject); i >= 0 {
			return max(from+i-recordHeader, at+1)
		}
	}
	return len(s.buf)
}
