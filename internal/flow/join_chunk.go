package flow

import (
	"encoding/binary"
	"math"

	"laaster/internal/change"
)

const (
	bucketRows  = 32      // of a bucket that is searched row by row
	chunkBytes  = 2 << 10 // a chunk of a side that only grows, unless one row needs more
	chunkCopied = 512     // up to here such a chunk is made larger, beyond this another one begins
	chunkHead   = 24
	rowHead     = 12
	bucketSize  = 20
	inTree      = 1 << 63
)

// A bucket is one side's part of an entry: head (8 bytes: ref of the first chunk, or inTree), entries (4 bytes) and their weight (8
// bytes). A side that is not stored has the weight alone.
type bucket []byte

func (b bucket) head() uint64      { return binary.LittleEndian.Uint64(b) }
func (b bucket) setHead(h uint64)  { binary.LittleEndian.PutUint64(b, h) }
func (b bucket) rows() uint32      { return binary.LittleEndian.Uint32(b[8:]) }
func (b bucket) addRows(n int)     { binary.LittleEndian.PutUint32(b[8:], uint32(int(b.rows())+n)) }
func (b bucket) weight() int64     { return int64(binary.LittleEndian.Uint64(b[12:])) }
func (b bucket) setWeight(w int64) { binary.LittleEndian.PutUint64(b[12:], uint64(w)) }
func (b bucket) isTree() bool      { return b.head()&inTree != 0 }

// A chunk is: the next chunk (8 bytes), bytes used and held behind the head (4 and 4), a time that no row's until is below (8 bytes). A
// row in it is its length (4 bytes), its weight (8 bytes), meta, and its bytes.
type chunk []byte

func (c chunk) next() ref        { return ref(binary.LittleEndian.Uint64(c)) }
func (c chunk) setNext(r ref)    { binary.LittleEndian.PutUint64(c, uint64(r)) }
func (c chunk) used() int        { return int(binary.LittleEndian.Uint32(c[8:])) }
func (c chunk) setUsed(n int)    { binary.LittleEndian.PutUint32(c[8:], uint32(n)) }
func (c chunk) held() int        { return int(binary.LittleEndian.Uint32(c[12:])) }
func (c chunk) least() int64     { return int64(binary.LittleEndian.Uint64(c[16:])) }
func (c chunk) setLeast(t int64) { binary.LittleEndian.PutUint64(c[16:], uint64(t)) }
func (c chunk) length(at int) int {
	return int(binary.LittleEndian.Uint32(c[at:]))
}
func (c chunk) weight(at int) int64 { return int64(binary.LittleEndian.Uint64(c[at+4:])) }

// find returns the place of a row in a bucket's chunks.
func (s *joinSide) find(b bucket, row change.Row) joinPlace {
	for r := ref(b.head()); r != 0; {
		c := chunk(s.slab.at(r))
		for at, end := chunkHead, chunkHead+c.used(); at < end; {
			n := c.length(at)
			if from := at + rowHead + s.meta; n == len(row) && string(c[from:from+n]) == string(row) {
				return joinPlace{block: r, off: at, w: c.weight(at)}
			}
			at += rowHead + s.meta + n
		}
		r = c.next()
	}
	return joinPlace{}
}

// add appends a row to the bucket's chunks.
func (s *joinSide) add(x *exec, r ref, b bucket, d delta, matches int64) {
	n := rowHead + s.meta + len(d.row)
	c := s.room(b, n)
	at := chunkHead + c.used()
	c.setUsed(c.used() + n)
	dst := c[at:at:len(c)]
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(d.row)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(d.w))
	dst = s.appendMeta(dst, x, d.row, matches)
	until := s.untilOf(dst[rowHead:])
	_ = append(dst, d.row...)
	b.addRows(1)
	if s.until != nil {
		c.setLeast(min(c.least(), until))
		s.dueBucket(until, r, 1)
	}
	if !s.appends && b.rows() > bucketRows {
		s.convert(x, r, b)
	}
}

// room returns the bucket's first chunk, made to have room for n bytes: it grows, or another one goes before it.
func (s *joinSide) room(b bucket, n int) chunk {
	r := ref(b.head())
	if r == 0 {
		return s.newChunk(b, n, 0)
	}
	c := chunk(s.slab.edit(r))
	switch used := c.used(); {
	case used+n <= c.held():
		return c
	case s.appends && used+n > chunkCopied:
		return s.newChunk(b, max(n, min(used*3/2, chunkBytes)), r)
	default:
		d := s.newChunk(b, used+max(n, used/2), c.next())
		d.setUsed(used)
		d.setLeast(c.least())
		copy(d[chunkHead:], c[chunkHead:chunkHead+used])
		s.slab.release(r)
		return d
	}
}

// newChunk puts an empty chunk for n bytes or more before next as the bucket's first.
func (s *joinSide) newChunk(b bucket, n int, next ref) chunk {
	if n += chunkHead; n <= maxBlock {
		n = classSize(classOf(n))
	}
	r := s.slab.alloc(n)
	c := chunk(s.slab.edit(r))
	c.setNext(next)
	c.setUsed(0)
	binary.LittleEndian.PutUint32(c[12:], uint32(n-chunkHead))
	c.setLeast(math.MaxInt64)
	b.setHead(uint64(r))
	return c
}

// cut removes the row at p from the bucket's chunks.
func (s *joinSide) cut(r ref, b bucket, p joinPlace) {
	c := chunk(s.slab.edit(p.block))
	size, end := rowHead+s.meta+c.length(p.off), chunkHead+c.used()
	if s.until != nil {
		s.dueBucket(s.untilOf(c[p.off+rowHead:][:s.meta]), r, -1)
	}
	copy(c[p.off:end], c[p.off+size:end])
	c.setUsed(c.used() - size)
	b.addRows(-1)
	switch used := c.used(); {
	case used == 0:
		s.unlink(b, p.block)
	case used < c.held()/4 && p.block == ref(b.head()) && c.next() == 0:
		d := s.newChunk(b, used, 0)
		d.setUsed(used)
		d.setLeast(c.least())
		copy(d[chunkHead:], c[chunkHead:chunkHead+used])
		s.slab.release(p.block)
	}
}

// unlink releases one of the bucket's chunks.
func (s *joinSide) unlink(b bucket, r ref) {
	next := chunk(s.slab.at(r)).next()
	if ref(b.head()) == r {
		b.setHead(uint64(next))
	} else {
		at := ref(b.head())
		for chunk(s.slab.at(at)).next() != r {
			at = chunk(s.slab.at(at)).next()
		}
		chunk(s.slab.edit(at)).setNext(next)
	}
	s.slab.release(r)
}

// convert moves a bucket's rows from chunks into the tree.
func (s *joinSide) convert(x *exec, r ref, b bucket) {
	if s.tree == nil {
		t := newTree()
		s.tree = &t
	}
	rows := uint32(0)
	for at := ref(b.head()); at != 0; {
		c := chunk(s.slab.at(at))
		for i, end := chunkHead, chunkHead+c.used(); i < end; {
			meta := c[i+rowHead:][:s.meta]
			row := change.Row(c[i+rowHead+s.meta:][:c.length(i)])
			if s.until != nil {
				s.dueBucket(s.untilOf(meta), r, -1)
			}
			s.treeKey(x, r, row)
			s.val = binary.LittleEndian.AppendUint32(append(s.val[:0], meta...), uint32(len(s.key)-len(row)))
			if s.tree.add(s.key, s.val, c.weight(i)) == 0 {
				rows++
				s.entered(1)
			}
			i += rowHead + s.meta + len(row)
		}
		next := c.next()
		s.slab.release(at)
		at = next
	}
	b.setHead(inTree)
	b.addRows(int(rows) - int(b.rows()))
}
