package checkpoint

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"laaster/internal/change"
	"laaster/internal/seal"
)

// FormatVersion is the version of the files that this program writes, and the newest that it reads.
const FormatVersion = 1

// A file is a header, frames with a page each, the tail (tail.go), and a footer; docs/formats.md has the drawings. Header and footer have these
// sizes in every version, and their first ten bytes mean the same, so that an older reader can tell damage from a newer format.
const (
	headerSize = 128
	frameSize  = 24
	footerSize = 64

	headerMagic = 0x4341414c // "LAAC" in little-endian order
	footerMagic = 0x4641414c // "LAAF"

	flagSealed = 1

	maxStored = MaxPage + MaxMeta + seal.Overhead // bytes of a frame behind its header
)

// fileID is made at random with a file, so that two files of one sequence number are told apart.
type fileID [16]byte

// identity is what a file's header says: what everything in it is bound to.
type identity struct {
	log    change.LogID
	shard  uint32
	seq    uint64 // of the file in its folder: its name
	id     fileID
	sealed bool

	raw   [headerSize]byte // as it is in the file
	begin uint32           // CRC-32C of what names the file, with which those of its frames begin
}

// newIdentity makes the header of a new file; with keys it is sealed.
func newIdentity(log change.LogID, shard uint32, seq uint64, keys *seal.Ring) *identity {
	d := &identity{log: log, shard: shard, seq: seq, sealed: keys != nil}
	_, _ = rand.Read(d.id[:]) // never fails: it ends the process instead
	le, b := binary.LittleEndian, d.raw[:]
	le.PutUint32(b[0:], headerMagic)
	le.PutUint16(b[8:], FormatVersion)
	le.PutUint32(b[12:], shard)
	copy(b[16:], log[:])
	le.PutUint64(b[32:], seq)
	copy(b[40:], d.id[:])
	if keys != nil {
		le.PutUint16(b[10:], flagSealed)
		keys.Seal(b[56:56], nil, b[8:56]) // seal.Overhead bytes, in place: whoever opens them has the right key
	}
	le.PutUint32(b[4:], checksum(0, b[8:]))
	d.begin = checksum(0, b[8:56])
	return d
}

// problem is why bytes cannot be used; whoever read them makes a *Damage of it.
type problem string

func (p problem) Error() string { return string(p) }

// parseHeader reads the header of a file. Errors: problem, *change.NewerError, and of package seal: the key is missing or another one.
func parseHeader(b []byte, keys *seal.Ring) (*identity, error) {
	le := binary.LittleEndian
	if len(b) < headerSize {
		return nil, problem("it is shorter than its header: it was cut")
	}
	b = b[:headerSize]
	if le.Uint32(b) != headerMagic {
		return nil, problem("it does not begin with LAAC, so it is no checkpoint, or its beginning was overwritten")
	}
	if le.Uint32(b[4:]) != checksum(0, b[8:]) {
		return nil, problem("its header has a wrong checksum")
	}
	if v := le.Uint16(b[8:]); v != FormatVersion {
		return nil, &change.NewerError{What: "checkpoint", Version: int(v), Known: FormatVersion}
	}
	flags := le.Uint16(b[10:])
	if flags&^flagSealed != 0 || !zero(b[104:]) || flags == 0 && !zero(b[56:]) {
		return nil, problem("a reserved field of its header is not zero")
	}
	d := &identity{log: change.LogID(b[16:32]), shard: le.Uint32(b[12:]), seq: le.Uint64(b[32:]), id: fileID(b[40:56]), sealed: flags&flagSealed != 0}
	copy(d.raw[:], b)
	d.begin = checksum(0, b[8:56])
	if d.sealed {
		if _, err := keys.Open(nil, b[56:104], b[8:56]); err != nil {
			return d, err
		}
	}
	return d, nil
}

// footer says where a file's tail is and what it must be.
type footer struct {
	at, size int64 // of the tail
	sum      [sha256.Size]byte
}

func appendFooter(b []byte, f *footer) []byte {
	le, at := binary.LittleEndian, len(b)
	b = append(b, make([]byte, footerSize)...)
	o := b[at:]
	le.PutUint32(o, footerMagic)
	le.PutUint16(o[8:], FormatVersion)
	le.PutUint64(o[16:], uint64(f.at))
	le.PutUint64(o[24:], uint64(f.size))
	copy(o[32:], f.sum[:])
	le.PutUint32(o[4:], checksum(0, o[8:]))
	return b
}

// parseFooter reads the footer of a file of size bytes.
func parseFooter(b []byte, size int64) (footer, error) {
	le, f := binary.LittleEndian, footer{}
	if len(b) != footerSize || size < headerSize+footerSize {
		return f, problem("it is shorter than header and footer: it was cut")
	}
	if le.Uint32(b) != footerMagic || le.Uint32(b[4:]) != checksum(0, b[8:]) {
		return f, problem("its end is not a valid footer: it was cut, or its end was overwritten")
	}
	if v := le.Uint16(b[8:]); v != FormatVersion {
		return f, &change.NewerError{What: "checkpoint", Version: int(v), Known: FormatVersion}
	}
	at, n := le.Uint64(b[16:]), le.Uint64(b[24:])
	if !zero(b[10:16]) || at < headerSize || at > uint64(size) || n != uint64(size)-footerSize-at {
		return f, problem("its footer does not fit its length")
	}
	f.at, f.size = int64(at), int64(n)
	copy(f.sum[:], b[32:])
	return f, nil
}

// tailSum is what the footer says of header and tail.
func tailSum(d *identity, stored []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write(d.raw[:])
	h.Write(stored)
	h.Sum(sum[:0])
	return sum
}

// appendFrame appends a page's frame: its header, and the data followed by the meta, sealed when the file is. scratch is for the plain text of a
// sealed one.
func appendFrame(b []byte, d *identity, keys *seal.Ring, o ObjectID, page uint32, meta, data []byte, scratch *[]byte) []byte {
	le, at := binary.LittleEndian, len(b)
	n := len(data) + len(meta)
	if d.sealed {
		n += seal.Overhead
	}
	b = append(b, make([]byte, frameSize)...)
	le.PutUint64(b[at:], uint64(o))
	le.PutUint32(b[at+8:], page)
	le.PutUint32(b[at+12:], uint32(n))
	b[at+16] = byte(len(meta))
	if d.sealed {
		aad := d.aad(b[at : at+20])
		*scratch = append(append((*scratch)[:0], data...), meta...)
		b = keys.Seal(b, *scratch, aad[:])
	} else {
		b = append(append(b, data...), meta...)
	}
	le.PutUint32(b[at+20:], checksum(checksum(d.begin, b[at:at+20]), b[at+frameSize:]))
	return b
}

// frame is a page's frame that was read and whose checksum is right.
type frame struct {
	object ObjectID
	page   uint32
	meta   int    // bytes
	stored []byte // what follows the header, aliasing what was parsed
	head   []byte // the first 20 bytes
}

// storedLength returns how many bytes a frame says that it has behind its header.
func storedLength(b []byte) int { return int(binary.LittleEndian.Uint32(b[12:])) }

// parseFrame reads a frame at the beginning of b. With a frame whose length is beyond b, the error is a problem, as with every other damage.
func parseFrame(b []byte, d *identity) (frame, error) {
	le, f := binary.LittleEndian, frame{}
	if len(b) < frameSize {
		return f, problem("there is no page: the file was cut")
	}
	n := storedLength(b)
	if n > maxStored || n > len(b)-frameSize {
		return f, problem("the page's length is wrong")
	}
	f = frame{object: ObjectID(le.Uint64(b)), page: le.Uint32(b[8:]), meta: int(b[16]), stored: b[frameSize : frameSize+n], head: b[:20]}
	if le.Uint32(b[20:]) != checksum(checksum(d.begin, f.head), f.stored) {
		return f, problem("the page has a wrong checksum: its bytes changed after they were written, or belong somewhere else")
	}
	overhead := f.meta
	if d.sealed {
		overhead += seal.Overhead
	}
	if b[17] != 0 || b[18] != 0 || b[19] != 0 || f.object == 0 || f.meta > MaxMeta || overhead > n {
		return f, problem("the page's header is wrong")
	}
	return f, nil
}

// open returns data and meta of a frame, decrypted in place when it is sealed.
func (f *frame) open(d *identity, keys *seal.Ring) (data, meta []byte, err error) {
	plain := f.stored
	if d.sealed {
		aad := d.aad(f.head)
		if plain, err = keys.OpenInPlace(f.stored, aad[:]); err != nil {
			return nil, nil, err
		}
	}
	at := len(plain) - f.meta
	return plain[:at:at], plain[at:], nil
}

// aad is what a sealed page is bound to: the identity of its file and the frame's header.
func (d *identity) aad(head []byte) (out [48 + 20]byte) {
	copy(out[:], d.raw[8:56])
	copy(out[48:], head)
	return out
}

// sealTail and openTail bind the tail to the whole header.
func (d *identity) sealTail(plain []byte, keys *seal.Ring) []byte {
	if !d.sealed {
		return plain
	}
	return keys.Seal(nil, plain, d.raw[:])
}

func (d *identity) openTail(stored []byte, keys *seal.Ring) ([]byte, error) {
	if !d.sealed {
		return stored, nil
	}
	return keys.OpenInPlace(stored, d.raw[:])
}

func checksum(crc uint32, b []byte) uint32 {
	return crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), b)
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// name returns the name of the file with a sequence number, and back.
func fileName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, fileSuffix) }

const (
	fileSuffix = ".ckpt"
	tempSuffix = ".ckpt.tmp"
)

// parseName returns the sequence number that a name says; ok is false when it is not one of ours.
func parseName(name string) (seq uint64, temp, ok bool) {
	if len(name) != 16+len(fileSuffix) && len(name) != 16+len(tempSuffix) {
		return 0, false, false
	}
	if _, err := fmt.Sscanf(name[:16], "%016x", &seq); err != nil {
		return 0, false, false
	}
	temp = name == fileName(seq)[:16]+tempSuffix
	return seq, temp, temp || name == fileName(seq)
}
