package checkpoint

import (
	"encoding/binary"
	"errors"

	"laaster/internal/change"
)

// tail is what stands behind the pages of a file: what the checkpoint is of, which other files belong to it, and where pages are.
type tail struct {
	header  Header // Log and Shard are in the file's header
	made    int64  // microseconds since 1970
	objects uint64 // the highest object id that was given out
	full    bool   // changes lists every page; else what differs from the checkpoint of needs[parent]
	parent  int
	needs   []need
	parts   []part
	changes []objectTail
}

// need is another file that belongs to the checkpoint, and what proves that it is the right one.
type need struct {
	seq  uint64
	id   fileID
	size int64
	sum  [32]byte // of its header and tail
}

type part struct {
	name string
	root []byte
}

// objectTail is what changed in an object, or all of it in a full index.
type objectTail struct {
	object  ObjectID
	dropped bool
	puts    []putTail // ascending by page
	deleted []uint32  // ascending
}

type putTail struct {
	page uint32
	file int   // 0: this one, else needs[file-1]
	at   int64 // of the frame
	n    uint32
	meta []byte
}

// appendTail encodes a tail. Integers are unsigned varints unless said otherwise.
func appendTail(b []byte, t *tail) []byte {
	uv := binary.AppendUvarint
	h := &t.header
	b = uv(b, h.Seq)
	b = append(b, h.Digest[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Stamp))
	b = append(b, h.Fingerprint[:]...)
	b = append(b, h.Plan[:]...)
	b = append(uv(b, uint64(len(h.Catalog))), h.Catalog...)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.made))
	b = uv(b, t.objects)
	b = uv(b, uint64(len(t.needs)))
	for i := range t.needs {
		n := &t.needs[i]
		b = append(uv(b, n.seq), n.id[:]...)
		b = append(uv(b, uint64(n.size)), n.sum[:]...)
	}
	parent := uint64(0)
	if !t.full {
		parent = uint64(t.parent) + 1
	}
	b = uv(b, parent)
	b = uv(b, uint64(len(t.parts)))
	for _, p := range t.parts {
		b = append(uv(b, uint64(len(p.name))), p.name...)
		b = append(uv(b, uint64(len(p.root))), p.root...)
	}
	b = uv(b, uint64(len(t.changes)))
	for i := range t.changes {
		b = appendObject(b, &t.changes[i])
	}
	return b
}

func appendObject(b []byte, c *objectTail) []byte {
	uv := binary.AppendUvarint
	b = uv(b, uint64(c.object))
	if c.dropped {
		return append(b, 1)
	}
	b = append(b, 0)
	b = uv(b, uint64(len(c.puts)))
	last, at := uint32(0), map[int]int64{}
	for i := range c.puts {
		p := &c.puts[i]
		b = uv(b, uint64(p.page-last)) // pages mostly follow each other, and so do their places
		b = uv(b, uint64(p.file))
		b = binary.AppendVarint(b, p.at-at[p.file])
		b = uv(b, uint64(p.n))
		b = append(append(b, byte(len(p.meta))), p.meta...)
		last, at[p.file] = p.page, p.at+frameSize+int64(p.n)
	}
	b = uv(b, uint64(len(c.deleted)))
	last = 0
	for _, page := range c.deleted {
		b = uv(b, uint64(page-last))
		last = page
	}
	return b
}

var errTail = errors.New("malformed")

// reader decodes a tail. The first thing that is wrong makes everything after it zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// upTo is a number that must not be greater than limit.
func (r *reader) upTo(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.bad = true
		return 0
	}
	return v
}

// count is a number of things that have at least size bytes each, so that a wrong one does not ask for memory.
func (r *reader) count(size int) int { return int(r.upTo(uint64(len(r.b) / size))) }

func (r *reader) bytes(limit uint64) []byte { return r.take(r.upTo(limit)) }

// parseTail decodes a tail; what it returns aliases b. Of files and offsets it checks only that they are numbers: see (*file).place.
func parseTail(b []byte) (*tail, error) {
	r, t := &reader{b: b}, &tail{}
	h := &t.header
	h.Seq = r.uvarint()
	h.Digest = change.Digest(orZero(r.take(32), 32))
	h.Stamp = int64(r.uint64())
	h.Fingerprint = [16]byte(orZero(r.take(16), 16))
	h.Plan = [16]byte(orZero(r.take(16), 16))
	h.Catalog = r.bytes(MaxPart)
	t.made = int64(r.uint64())
	t.objects = r.uvarint()
	t.needs = make([]need, r.count(50))
	for i := range t.needs {
		n := &t.needs[i]
		n.seq = r.uvarint()
		n.id = fileID(orZero(r.take(16), 16))
		n.size = int64(r.upTo(1 << 62))
		n.sum = [32]byte(orZero(r.take(32), 32))
	}
	t.parent = int(r.upTo(uint64(len(t.needs)))) - 1
	t.full = t.parent < 0
	t.parts = make([]part, r.count(2))
	for i := range t.parts {
		t.parts[i] = part{string(r.bytes(1 << 10)), r.bytes(MaxPart)}
	}
	t.changes = make([]objectTail, r.count(2))
	for i := range t.changes {
		r.object(&t.changes[i], len(t.needs))
	}
	if r.bad || len(r.b) > 0 {
		return nil, errTail
	}
	return t, nil
}

func (r *reader) object(c *objectTail, needs int) {
	c.object = ObjectID(r.uvarint())
	c.dropped = r.upTo(1) == 1
	if r.bad = r.bad || c.object == 0; c.dropped || r.bad {
		return
	}
	c.puts = make([]putTail, r.count(5))
	last, at := uint64(0), map[int]int64{}
	for i := range c.puts {
		p := &c.puts[i]
		step := r.uvarint()
		last += step
		r.bad = r.bad || step > 1<<32 || last >= 1<<32 || i > 0 && step == 0
		p.page = uint32(last)
		p.file = int(r.upTo(uint64(needs)))
		p.at = at[p.file] + r.varint()
		p.n = uint32(r.upTo(maxStored))
		p.meta = r.bytes(MaxMeta)
		r.bad = r.bad || p.at < headerSize || p.at > 1<<62
		at[p.file] = p.at + frameSize + int64(p.n)
		if r.bad {
			return
		}
	}
	c.deleted = make([]uint32, r.count(1))
	last = 0
	for i := range c.deleted {
		step := r.uvarint()
		last += step
		r.bad = r.bad || step > 1<<32 || last >= 1<<32 || i > 0 && step == 0
		c.deleted[i] = uint32(last)
		if r.bad {
			return
		}
	}
}

// orZero returns b, or n zeros when it could not be read.
func orZero(b []byte, n int) []byte {
	if b == nil {
		return make([]byte, n)
	}
	return b
}

// pages returns how many pages the changes list.
func (t *tail) pages() (n int) {
	for i := range t.changes {
		n += len(t.changes[i].puts) + len(t.changes[i].deleted)
	}
	return n
}
