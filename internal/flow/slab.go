package flow

import "math/bits"

// ref names a block of a slab: page<<16 | offset/8. The zero ref is no block. It fits 40 bits, which is what an index slot
// has for it.
type ref uint64

const (
	maxRef       = 1<<40 - 1
	maxBlock     = 16 << 10 // larger blocks get a page of their own
	pageMax      = 64 << 10
	pageMin      = 4 << 10
	freeListEnd  = 0xffff
	refPageShift = 16
)

// slab hands out blocks of bytes that the garbage collector never walks: pages of bytes, each cut into blocks of one size.
// A page whose last block was freed goes back to the collector unless it is the only one of its size with room. Blocks
// do not move.
type slab struct {
	pages []page   // page 0 is never used
	open  []uint32 // by class: the first page with a free block, 0 when none
	holes []uint32 // indexes in pages that hold nothing
	held  int      // memory of the pages
	bytes int      // of the blocks in use: a function of what is stored, not of what came and went before
}

type page struct {
	data       []byte
	size       uint32 // of each block; a page of a large block is one block
	class      int16  // -1: a large block
	free       uint16 // first block of the free list, as offset/8; freeListEnd when none
	live       uint16 // blocks in use
	bump       uint32 // offset of the first byte never handed out
	prev, next uint32 // pages of the class that have a free block
}

func newSlab() slab { return slab{pages: make([]page, 1, 8), open: make([]uint32, classes())} }

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

// at returns the block from its first byte to the end of its page: callers know how long it is.
func (s *slab) at(r ref) []byte { return s.pages[r>>refPageShift].data[(r&0xffff)<<3:] }

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
	p := &s.pages[pi]
	var off uint32
	if p.free != freeListEnd {
		off = uint32(p.free) << 3
		p.free = uint16(p.data[off]) | uint16(p.data[off+1])<<8
	} else {
		off = p.bump
		p.bump += p.size
	}
	p.live++
	s.bytes += int(p.size)
	if p.free == freeListEnd && int(p.bump+p.size) > len(p.data) {
		s.unlink(pi)
	}
	return ref(pi)<<refPageShift | ref(off>>3)
}

func (s *slab) release(r ref) {
	pi := uint32(r >> refPageShift)
	p := &s.pages[pi]
	p.live--
	s.bytes -= int(p.size)
	if p.class < 0 {
		s.drop(pi)
		return
	}
	full := p.free == freeListEnd && int(p.bump+p.size) > len(p.data)
	off := uint32(r&0xffff) << 3
	p.data[off], p.data[off+1] = byte(p.free), byte(p.free>>8)
	p.free = uint16(off >> 3)
	if full {
		s.link(pi)
	}
	if p.live == 0 && (p.prev != 0 || p.next != 0) {
		s.unlink(pi)
		s.drop(pi)
	}
}

func (s *slab) allocLarge(n int) ref {
	pi := s.hole()
	s.pages[pi] = page{data: make([]byte, n), size: uint32(n), class: -1, live: 1}
	s.held += n
	s.bytes += n
	return ref(pi) << refPageShift
}

// newPage makes pages larger as the slab grows, so that the many small states of an idle app stay small.
func (s *slab) newPage(c int) uint32 {
	size := classSize(c)
	n := min(max(s.held/8, pageMin), pageMax) / size * size
	if n == 0 {
		n = size
	}
	pi := s.hole()
	s.pages[pi] = page{data: make([]byte, n), size: uint32(size), class: int16(c), free: freeListEnd}
	s.held += n
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
	return uint32(len(s.pages) - 1)
}

func (s *slab) drop(pi uint32) {
	s.held -= len(s.pages[pi].data)
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
