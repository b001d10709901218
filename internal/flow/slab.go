package flow

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// ref names a block of a slab: page<<16 | offset/8. The zero ref is no block. It fits 40 bits, which is what an index slot
// has for it.
type ref uint64

const (
	maxRef       = 1<<40 - 1
	maxBlock     = 4 << 10 // larger blocks get a page of their own
	pageMin      = 4 << 10
	freeListEnd  = 0xffff
	refPageShift = 16
)

// slab hands out blocks of bytes that the garbage collector never walks: pages of bytes, each cut into blocks of one size.
// A page whose last block was freed goes back to the collector unless it is the only one of its size with room. Blocks
// do not move.
//
// A block is read through at. It may be written through edit, and through at until the batch ends in which it was handed out or edited.
type slab struct {
	store pages    // page 0 is never used
	pages []page   // the same pages
	open  []uint32 // by class: the first page with a free block, 0 when none
	holes []uint32 // indexes in pages that hold nothing
	bytes int      // of the blocks in use: a function of what is stored, not of what came and went before
}

// page is what a slab knows of a page. The bytes of its blocks are used as far as a block was ever handed out.
type page struct {
	size       uint32 // of each block; a page of a large block is one block
	class      int16  // -1: a large block
	free       uint16 // first block of the free list, as offset/8; freeListEnd when none. A free block begins with the next one
	live       uint16 // blocks in use
	prev, next uint32 // pages of the class that have a free block
}

func newSlab() slab {
	s := slab{pages: make([]page, 1, 8), open: make([]uint32, classes())}
	s.store.grow()
	return s
}

// Sizes are 16, 24 … 64, then four steps per doubling, so that a block wastes at most a fifth.
func classOf(n int) int {
	if n <= 64 {
		return max(0, (n+7)/8-2)
	}
	b := bits.Len(uint(n-1)) - 1
	return 7 + (b-6)*4 + ((n-1)-1<<b)*4>>b
}

func classSize(c int) int {
	if c < 7 {
		return 16 + 8*c
	}
	base := 64 << ((c - 7) / 4)
	return base + ((c-7)%4+1)*base/4
}

func classes() int { return classOf(maxBlock) + 1 }

func (r ref) page() uint32   { return uint32(r >> refPageShift) }
func (r ref) offset() uint32 { return uint32(r&0xffff) << 3 }

// at returns the block from its first byte to the end of its page: callers know how long it is.
func (s *slab) at(r ref) []byte { return s.store.bytes(r.page())[r.offset():] }

// edit is at for writing.
func (s *slab) edit(r ref) []byte { return s.store.edit(r.page())[r.offset():] }

// blockBytes returns what a block for n bytes takes.
func blockBytes(n int) int {
	if n > maxBlock {
		return n
	}
	return classSize(classOf(n))
}

// alloc returns a block of at least n bytes. Its contents are arbitrary.
func (s *slab) alloc(n int) ref {
	if n > maxBlock {
		return s.allocLarge(n)
	}
	c := classOf(n)
	pi := s.open[c]
	if pi == 0 {
		pi = s.newPage(c)
	}
	p, l := &s.pages[pi], &s.store.list[pi]
	if !l.dirty {
		s.store.touch(pi)
	}
	var off uint32
	if p.free != freeListEnd {
		off = uint32(p.free) << 3
		p.free = binary.LittleEndian.Uint16(l.data[off:])
	} else {
		off = l.used
		l.used += p.size
	}
	p.live++
	s.bytes += int(p.size)
	if p.full(l) {
		s.unlink(pi)
	}
	return ref(pi)<<refPageShift | ref(off>>3)
}

func (p *page) full(l *leaf) bool { return p.free == freeListEnd && l.used+p.size > l.size }

func (s *slab) release(r ref) {
	pi := uint32(r >> refPageShift)
	p, l := &s.pages[pi], &s.store.list[pi]
	p.live--
	s.bytes -= int(p.size)
	if p.class < 0 {
		s.drop(pi)
		return
	}
	full := p.full(l)
	if p.live == 0 && (full && s.open[p.class] != 0 || p.prev != 0 || p.next != 0) { // there is another one with room
		if !full {
			s.unlink(pi)
		}
		s.drop(pi)
		return
	}
	if !l.dirty {
		s.store.touch(pi)
	}
	off := uint32(r&0xffff) << 3
	binary.LittleEndian.PutUint16(l.data[off:], p.free)
	p.free = uint16(off >> 3)
	if full {
		s.link(pi)
	}
}

func (s *slab) allocLarge(n int) ref {
	pi := s.hole()
	s.pages[pi] = page{size: uint32(n), class: -1, free: freeListEnd, live: 1}
	s.store.put(pi, make([]byte, n), n)
	s.bytes += n
	return ref(pi) << refPageShift
}

// newPage makes pages larger as the slab grows, so that the many small states of an idle app stay small.
func (s *slab) newPage(c int) uint32 {
	size := classSize(c)
	n := min(max(s.store.held/8, pageMin), pageBytes) / size * size
	if n == 0 {
		n = size
	}
	pi := s.hole()
	s.pages[pi] = page{size: uint32(size), class: int16(c), free: freeListEnd}
	s.store.put(pi, make([]byte, n), 0)
	s.link(pi)
	return pi
}

func (s *slab) hole() uint32 {
	if n := len(s.holes); n > 0 {
		pi := s.holes[n-1]
		s.holes = s.holes[:n-1]
		return pi
	}
	s.pages = append(s.pages, page{})
	return s.store.grow()
}

func (s *slab) drop(pi uint32) {
	s.store.drop(pi)
	s.pages[pi] = page{}
	s.holes = append(s.holes, pi)
}

func (s *slab) link(pi uint32) {
	p := &s.pages[pi]
	p.prev, p.next = 0, s.open[p.class]
	if p.next != 0 {
		s.pages[p.next].prev = pi
	}
	s.open[p.class] = pi
}

func (s *slab) unlink(pi uint32) {
	p := &s.pages[pi]
	if p.prev != 0 {
		s.pages[p.prev].next = p.next
	} else {
		s.open[p.class] = p.next
	}
	if p.next != 0 {
		s.pages[p.next].prev = p.prev
	}
	p.prev, p.next = 0, 0
}

// meta implements [paged].
func (s *slab) meta(i uint32, dst []byte) []byte {
	p := &s.pages[i]
	dst = binary.LittleEndian.AppendUint32(dst, p.size)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(p.class))
	dst = binary.LittleEndian.AppendUint16(dst, p.free)
	return binary.LittleEndian.AppendUint16(dst, p.live)
}

var errMeta = errors.New("its meta bytes make no sense")

// adopt implements [paged].
func (s *slab) adopt(i uint32, meta []byte) error {
	if i == 0 || len(meta) != 10 {
		return errMeta
	}
	p := page{size: binary.LittleEndian.Uint32(meta), class: int16(binary.LittleEndian.Uint16(meta[4:])),
		free: binary.LittleEndian.Uint16(meta[6:]), live: binary.LittleEndian.Uint16(meta[8:])}
	l := &s.store.list[i]
	switch {
	case p.class < 0:
		if p.live != 1 || p.size != l.size || p.size != l.used {
			return errMeta
		}
	case int(p.class) >= classes() || int(p.size) != classSize(int(p.class)) || l.used%p.size != 0 || uint32(p.live) > l.used/p.size,
		p.free != freeListEnd && uint32(p.free)<<3 >= l.used:
		return errMeta
	}
	for len(s.pages) <= int(i) {
		s.pages = append(s.pages, page{})
	}
	s.pages[i] = p
	s.bytes += int(p.size) * int(p.live)
	return nil
}

// adopted finds out what follows from the pages.
func (s *slab) adopted() {
	if len(s.store.list) == 0 {
		s.store.grow()
	}
	for i := len(s.pages) - 1; i > 0; i-- {
		switch p := &s.pages[i]; {
		case p.size == 0:
			s.holes = append(s.holes, uint32(i))
		case p.class >= 0 && !p.full(&s.store.list[i]):
			s.link(uint32(i))
		}
	}
}
