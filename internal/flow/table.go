package flow

import (
	"encoding/binary"
	"fmt"
	"unsafe"
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
// bits of the hash and the 40 bits of the ref. The hash is keyed by a secret of the table, against keys made to collide;
// nothing may depend on the order of slots.
//
// Values are read through value. They are written through edit, and through value until the end of the batch that inserted or resized the entry.
type table struct {
	slab  slab
	segs  pages     // of slots, 0: free; a page is a segment
	info  []segment // the same segments
	dir   []uint32  // by the top depth bits of the hash: the segment
	depth uint8
	seed  secret
	n     int
}

type segment struct {
	prefix uint32 // top bits of the hash that its entries share: depth of them
	used   uint32
	depth  uint8
}

const (
	itemHeader  = 12
	segmentMax  = 512
	segmentMin  = 16
	slotTagMask = 1<<24 - 1
	depthMax    = 31 // a segment there is not split any more
)

func newTable() table {
	t := table{slab: newSlab(), seed: newSecret(), dir: make([]uint32, 1)}
	t.newSegment(segment{}, segmentMin)
	return t
}

func (t *table) hash(key []byte) uint64 { return t.seed.hash(key) }

func (t *table) segment(h uint64) uint32 { return t.dir[h>>1>>(63-t.depth)] }

// find returns the entry of key, 0 when there is none. h is t.hash(key).
func (t *table) find(h uint64, key []byte) ref {
	slots := t.segs.bytes(t.segment(h))
	first, mask := unsafe.Pointer(unsafe.SliceData(slots)), uint64(len(slots))/8-1 // a power of two: no index needs a check
	tag := h & slotTagMask
	for i := tag; ; i++ {
		slot := *(*uint64)(unsafe.Add(first, i&mask*8))
		if slot == 0 {
			return 0
		}
		if slot>>40 != tag {
			continue
		}
		r := ref(slot & maxRef)
		b := t.slab.store.bytes(r.page())[r.offset():]
		if int(binary.LittleEndian.Uint32(b[4:])) == len(key) && string(b[itemHeader:itemHeader+len(key)]) == string(key) {
			return r
		}
	}
}

// near reads the slot where the search for a hash begins, so that it is at hand soon.
func (t *table) near(h uint64) uint64 {
	slots := words(t.segs.bytes(t.segment(h)))
	return slots[h&slotTagMask&uint64(len(slots)-1)]
}

// insert adds an entry for a key that is not there, with room for a value of vlen bytes whose contents are arbitrary.
func (t *table) insert(h uint64, key []byte, vlen int) ref {
	r := t.slab.alloc(itemHeader + len(key) + vlen)
	b := t.slab.at(r)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(key)))
	binary.LittleEndian.PutUint32(b[8:], uint32(vlen))
	copy(b[itemHeader:], key)
	s := t.segment(h)
	for int(t.info[s].used) >= int(t.segs.list[s].size/8)*7/8 {
		t.grow(h)
		s = t.segment(h)
	}
	t.put(s, h&slotTagMask, r)
	t.n++
	return r
}

// resize gives an entry room for a value of vlen bytes whose contents are arbitrary. The entry may move: the caller goes
// on with the ref returned.
func (t *table) resize(h uint64, r ref, vlen int) ref {
	b := t.slab.edit(r)
	klen := int(binary.LittleEndian.Uint32(b[4:]))
	old := int(binary.LittleEndian.Uint32(b[8:]))
	if fits(itemHeader+klen+old, itemHeader+klen+vlen) {
		binary.LittleEndian.PutUint32(b[8:], uint32(vlen))
		return r
	}
	to := t.slab.alloc(itemHeader + klen + vlen)
	c := t.slab.at(to)
	copy(c, b[:itemHeader+klen])
	binary.LittleEndian.PutUint32(c[8:], uint32(vlen))
	s := t.segment(h)
	slots := words(t.segs.edit(s))
	slots[slotIndex(slots, h&slotTagMask, r)] = (h&slotTagMask)<<40 | uint64(to)
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
	slots := words(t.segs.edit(s))
	deleteSlot(slots, slotIndex(slots, h&slotTagMask, r))
	t.info[s].used--
	t.slab.release(r)
	t.n--
}

func (t *table) key(r ref) []byte {
	b := t.slab.store.bytes(r.page())[r.offset():]
	n := binary.LittleEndian.Uint32(b[4:])
	return b[itemHeader : itemHeader+n : itemHeader+n]
}

func (t *table) value(r ref) []byte {
	b := t.slab.store.bytes(r.page())[r.offset():]
	k, v := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	return b[itemHeader+k : itemHeader+k+v : itemHeader+k+v]
}

// edit is value to be written in place.
func (t *table) edit(r ref) []byte {
	b := t.slab.store.edit(r.page())[r.offset():]
	k, v := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	return b[itemHeader+k : itemHeader+k+v : itemHeader+k+v]
}

func (t *table) mark(r ref) uint32       { return binary.LittleEndian.Uint32(t.slab.at(r)) }
func (t *table) setMark(r ref, m uint32) { binary.LittleEndian.PutUint32(t.slab.edit(r), m) }

// bytes is what the entries take: a function of what is stored, as [operator.bytes] must be. Free room is not in it.
func (t *table) bytes() int { return t.slab.bytes + slotBytes*t.n }

// slotBytes is what an entry takes in the segments: 8 bytes, two thirds of the slots being in use.
const slotBytes = 12

// each calls f for every entry in an order that means nothing. f must not change the table.
func (t *table) each(f func(r ref)) {
	for i := range t.info {
		for _, slot := range words(t.segs.bytes(uint32(i))) {
			if slot != 0 {
				f(ref(slot & maxRef))
			}
		}
	}
}

// newSegment makes an empty segment.
func (t *table) newSegment(info segment, slots int) uint32 {
	i := t.segs.grow()
	t.info = append(t.info, info)
	t.segs.put(i, make([]byte, 8*slots), 8*slots)
	return i
}

// emptied gives segment i other slots, all free, and returns the old ones, which may be read.
func (t *table) emptied(i uint32, info segment, slots int) []uint64 {
	old := words(t.segs.bytes(i))
	t.info[i] = info
	t.segs.renew(i, make([]byte, 8*slots))
	return old
}

// grow makes room in the segment of h: it doubles up to segmentMax and splits beyond.
func (t *table) grow(h uint64) {
	i := t.segment(h)
	info := t.info[i]
	if n := int(t.segs.list[i].size / 8); n < segmentMax || info.depth == depthMax {
		info.used = 0
		for _, slot := range t.emptied(i, info, 2*n) {
			if slot != 0 {
				t.put(i, slot>>40, ref(slot&maxRef))
			}
		}
		return
	}
	if info.depth == t.depth {
		t.double()
	}
	t.split(i)
}

func (t *table) double() {
	dir := make([]uint32, 2*len(t.dir))
	for i, s := range t.dir {
		dir[2*i], dir[2*i+1] = s, s
	}
	t.dir = dir
	t.depth++
}

// split parts segment i by the next bit of the hash.
func (t *table) split(i uint32) {
	info := t.info[i]
	low := segment{prefix: info.prefix << 1, depth: info.depth + 1}
	high := segment{prefix: low.prefix | 1, depth: low.depth}
	old := t.emptied(i, low, segmentMax)
	t.point(t.newSegment(high, segmentMax))
	for _, slot := range old {
		if slot != 0 {
			r := ref(slot & maxRef)
			t.put(t.segment(t.hash(t.key(r))), slot>>40, r)
		}
	}
}

// point sets the directory's entries for segment i, which are neighbours. It returns how many there are.
func (t *table) point(i uint32) int {
	width := 1 << (t.depth - t.info[i].depth)
	first := int(t.info[i].prefix) * width
	for k := range width {
		t.dir[first+k] = i
	}
	return width
}

func (t *table) put(s uint32, tag uint64, r ref) {
	slots := words(t.segs.edit(s))
	mask := uint64(len(slots) - 1)
	i := tag & mask
	for slots[i] != 0 {
		i = (i + 1) & mask
	}
	slots[i] = tag<<40 | uint64(r)
	t.info[s].used++
}

func slotIndex(slots []uint64, tag uint64, r ref) uint64 {
	mask := uint64(len(slots) - 1)
	want := tag<<40 | uint64(r)
	i := tag & mask
	for slots[i] != want {
		i = (i + 1) & mask
	}
	return i
}

// deleteSlot closes the hole at i by moving back the slots that probed over it.
func deleteSlot(slots []uint64, i uint64) {
	mask := uint64(len(slots) - 1)
	for j := i; ; {
		j = (j + 1) & mask
		slot := slots[j]
		if slot == 0 {
			break
		}
		home := slot >> 40 & mask
		if (j-home)&mask >= (j-i)&mask {
			slots[i] = slot
			i = j
		}
	}
	slots[i] = 0
}

// meta implements [paged] for the segments.
func (t *table) meta(i uint32, dst []byte) []byte {
	s := &t.info[i]
	dst = binary.LittleEndian.AppendUint32(dst, s.prefix)
	dst = binary.LittleEndian.AppendUint32(dst, s.used)
	return append(dst, s.depth)
}

// adopt implements [paged] for the segments.
func (t *table) adopt(i uint32, meta []byte) error {
	if len(meta) != 9 || int(i) != len(t.info) {
		return errMeta
	}
	s := segment{binary.LittleEndian.Uint32(meta), binary.LittleEndian.Uint32(meta[4:]), meta[8]}
	l := &t.segs.list[i]
	n := l.size / 8
	if s.depth > depthMax || s.prefix>>s.depth != 0 || n < segmentMin || n&(n-1) != 0 || l.size%8 != 0 || l.used != l.size || s.used >= n {
		return errMeta
	}
	t.info = append(t.info, s)
	t.depth = max(t.depth, s.depth)
	return nil
}

// adopted makes the directory from the segments.
func (t *table) adopted() error {
	if 1<<t.depth > 64*len(t.info) {
		return fmt.Errorf("a directory of %d bits for %d segments", t.depth, len(t.info))
	}
	t.dir = make([]uint32, 1<<t.depth)
	n := 0
	for i := range t.info {
		n += t.point(uint32(i))
	}
	if n != len(t.dir) {
		return fmt.Errorf("segments cover %d entries of a directory of %d", n, len(t.dir))
	}
	return nil
}
