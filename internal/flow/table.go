package flow

import (
	"encoding/binary"
	"hash/maphash"
)

// table is a hash table from byte keys to byte values without a pointer per entry. Entries are blocks of a slab:
//
//	mark   4 bytes  free for the user: an index into a list of what a batch touched
//	klen   4 bytes
//	vlen   4 bytes
//	key, value
//
// They are found through segments of at most 512 slots under a directory that doubles (extendible hashing), so that growing
// moves one segment at a time: a table of ten million rows never stops the engine to rehash itself. A slot is the low 24
// bits of the hash and the 40 bits of the ref. The hash is seeded per table by the process, against keys made to collide;
// nothing may depend on the order of slots.
type table struct {
	slab  slab
	dir   []uint32 // by the top depth bits of the hash: index into segs
	segs  []segment
	depth uint8
	seed  maphash.Seed
	n     int
	slots int // held by segments
}

type segment struct {
	slots []uint64 // 0: free
	used  uint16
	depth uint8 // top bits of the hash that its entries share
}

const (
	itemHeader  = 12
	segmentMax  = 512
	segmentMin  = 16
	slotTagMask = 1<<24 - 1
)

func newTable() table {
	t := table{slab: newSlab(), seed: maphash.MakeSeed(), dir: make([]uint32, 1)}
	t.segs = append(t.segs, segment{slots: make([]uint64, segmentMin)})
	t.slots = segmentMin
	return t
}

func (t *table) hash(key []byte) uint64 { return maphash.Bytes(t.seed, key) }

func (t *table) segment(h uint64) *segment { return &t.segs[t.dir[h>>1>>(63-t.depth)]] }

// find returns the entry of key, 0 when there is none. h is t.hash(key).
func (t *table) find(h uint64, key []byte) ref {
	slots := t.segment(h).slots
	tag := h & slotTagMask
	for i := tag; ; i++ {
		slot := slots[i&uint64(len(slots)-1)]
		if slot == 0 {
			return 0
		}
		if slot>>40 != tag {
			continue
		}
		b := t.slab.at(ref(slot & maxRef))
		if int(binary.LittleEndian.Uint32(b[4:])) == len(key) && string(b[itemHeader:itemHeader+len(key)]) == string(key) {
			return ref(slot & maxRef)
		}
	}
}

// insert adds an entry for a key that is not there, with room for a value of vlen bytes whose contents are arbitrary.
func (t *table) insert(h uint64, key []byte, vlen int) ref {
	r := t.slab.alloc(itemHeader + len(key) + vlen)
	b := t.slab.at(r)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(key)))
	binary.LittleEndian.PutUint32(b[8:], uint32(vlen))
	copy(b[itemHeader:], key)
	s := t.segment(h)
	for int(s.used) >= len(s.slots)*7/8 {
		t.grow(h)
		s = t.segment(h)
	}
	s.put(h&slotTagMask, r)
	t.n++
	return r
}

// resize gives an entry room for a value of vlen bytes whose contents are arbitrary. The entry may move: the caller goes
// on with the ref returned.
func (t *table) resize(h uint64, r ref, vlen int) ref {
	b := t.slab.at(r)
	klen := int(binary.LittleEndian.Uint32(b[4:]))
	old := int(binary.LittleEndian.Uint32(b[8:]))
	if fits(itemHeader+klen+old, itemHeader+klen+vlen) {
		binary.LittleEndian.PutUint32(b[8:], uint32(vlen))
		return r
	}
	to := t.slab.alloc(itemHeader + klen + vlen)
	c := t.slab.at(to)
	copy(c, t.slab.at(r)[:itemHeader+klen])
	binary.LittleEndian.PutUint32(c[8:], uint32(vlen))
	s := t.segment(h)
	s.slots[s.index(h&slotTagMask, r)] = (h&slotTagMask)<<40 | uint64(to)
	t.slab.release(r)
	return to
}

// fits reports whether a block for n bytes is also the one to use for m.
func fits(n, m int) bool {
	if n > maxBlock || m > maxBlock {
		return n == m
	}
	return classOf(n) == classOf(m)
}

func (t *table) remove(h uint64, r ref) {
	s := t.segment(h)
	s.delete(s.index(h&slotTagMask, r))
	t.slab.release(r)
	t.n--
}

func (t *table) key(r ref) []byte {
	b := t.slab.at(r)
	n := binary.LittleEndian.Uint32(b[4:])
	return b[itemHeader : itemHeader+n : itemHeader+n]
}

func (t *table) value(r ref) []byte {
	b := t.slab.at(r)
	k, v := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	return b[itemHeader+k : itemHeader+k+v : itemHeader+k+v]
}

func (t *table) mark(r ref) uint32       { return binary.LittleEndian.Uint32(t.slab.at(r)) }
func (t *table) setMark(r ref, m uint32) { binary.LittleEndian.PutUint32(t.slab.at(r), m) }

// bytes is what the entries take: a function of what is stored, as [operator.bytes] must be. Free room is not in it.
func (t *table) bytes() int { return t.slab.bytes + slotBytes*t.n }

// slotBytes is what an entry takes in the segments: 8 bytes, two thirds of the slots being in use.
const slotBytes = 12

// each calls f for every entry in an order that means nothing. f must not change the table.
func (t *table) each(f func(r ref)) {
	for i := range t.segs {
		for _, slot := range t.segs[i].slots {
			if slot != 0 {
				f(ref(slot & maxRef))
			}
		}
	}
}

// grow makes room in the segment of h: it doubles up to segmentMax and splits beyond.
func (t *table) grow(h uint64) {
	i := t.dir[h>>1>>(63-t.depth)]
	s := &t.segs[i]
	if len(s.slots) < segmentMax {
		old := s.slots
		*s = segment{slots: make([]uint64, 2*len(old)), depth: s.depth}
		t.slots += len(old)
		for _, slot := range old {
			if slot != 0 {
				s.put(slot>>40, ref(slot&maxRef))
			}
		}
		return
	}
	if s.depth == t.depth {
		t.double()
	}
	t.split(i, h)
}

func (t *table) double() {
	dir := make([]uint32, 2*len(t.dir))
	for i, s := range t.dir {
		dir[2*i], dir[2*i+1] = s, s
	}
	t.dir = dir
	t.depth++
}

func (t *table) split(i uint32, h uint64) {
	old := t.segs[i].slots
	depth := t.segs[i].depth + 1
	j := uint32(len(t.segs))
	t.segs = append(t.segs, segment{slots: make([]uint64, segmentMax), depth: depth})
	t.segs[i] = segment{slots: make([]uint64, segmentMax), depth: depth}
	t.slots += segmentMax
	// The directory's entries for the segment are neighbours; the upper half goes to the new one.
	width := uint64(1) << (t.depth - depth)
	first := h >> 1 >> (63 - t.depth) &^ (2*width - 1)
	for k := first + width; k < first+2*width; k++ {
		t.dir[k] = j
	}
	for _, slot := range old {
		if slot != 0 {
			r := ref(slot & maxRef)
			t.segment(t.hash(t.key(r))).put(slot>>40, r)
		}
	}
}

func (s *segment) put(tag uint64, r ref) {
	mask := uint64(len(s.slots) - 1)
	i := tag & mask
	for s.slots[i] != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = tag<<40 | uint64(r)
	s.used++
}

func (s *segment) index(tag uint64, r ref) uint64 {
	mask := uint64(len(s.slots) - 1)
	want := tag<<40 | uint64(r)
	i := tag & mask
	for s.slots[i] != want {
		i = (i + 1) & mask
	}
	return i
}

// delete closes the hole at i by moving back the slots that probed over it.
func (s *segment) delete(i uint64) {
	mask := uint64(len(s.slots) - 1)
	s.used--
	for j := i; ; {
		j = (j + 1) & mask
		slot := s.slots[j]
		if slot == 0 {
			break
		}
		home := slot >> 40 & mask
		if (j-home)&mask >= (j-i)&mask {
			s.slots[i] = slot
			i = j
		}
	}
	s.slots[i] = 0
}
