package flow

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"laaster/internal/checkpoint"
	"laaster/internal/kit/fault"
)

// pages is what a slab, the segments of a table, the nodes of a tree and a queue are made of: numbered pages of bytes without pointers, which
// checkpoints store one by one and which may be evicted while they are stored as they are.
//
// A page is read through its data. Before it is written, edit (or touch) must have marked it since the last freeze; so what changes is known, and
// the page as it was is kept for a checkpoint that is being written. Marking never moves a page's bytes: slices into them stay valid until the batch ends.
//
// The owner has to check that data is not empty before it reads, and call load otherwise: one comparison, in place of that of the bounds.
type pages struct {
	list   []leaf
	first  uint32              // number of list[0]: 0 but for queues
	object checkpoint.ObjectID // 0: never stored
	dirty  []uint32            // numbers of pages that changed since the last freeze, each once; some may be gone
	gone   []uint32            // numbers of pages that the last checkpoint has and that were dropped
	flock  *flock              // what the last freeze took; nil once it is known what became of it
	held   int                 // bytes of all pages
	out    int                 // of these, bytes that are not resident
	loads  int64               // pages read because they were needed, since the last time that somebody asked
	guard  map[uint32]uint64   // by number: hash of a page at the last freeze, in tests; nil otherwise
}

// leaf is one page. A size of 0 is a hole, which has no page.
type leaf struct {
	data   []byte         // of size bytes; empty with a capacity: parked, nobody has read it since [pages.park]; without: it is stored only
	ref    checkpoint.Ref // where the page is stored as it is; zero: nowhere
	flight *flight        // of the last freeze; nil when there is none or the page changed since
	size   uint32
	used   uint32 // how many of the bytes, from the first, have something in them and are stored
	dirty  bool   // its number is in pages.dirty
	kept   bool   // the last checkpoint that was begun has a page of this number
	_      uint64 // to 64 bytes: the index is a shift, and a page a line of the cache
}

// pageBytes is the size of full pages. A larger one has a single block or row that is as large.
const pageBytes = 16 << 10

// bytes returns the data of page i, resident or not.
func (p *pages) bytes(i uint32) []byte {
	if d := p.list[i].data; len(d) > 0 {
		return d
	}
	return p.load(i)
}

// edit returns the data of page i to be written.
func (p *pages) edit(i uint32) []byte {
	l := &p.list[i]
	if !l.dirty {
		p.touch(i)
	}
	return l.data
}

// touch marks page i as changed, before it changes.
//
//go:noinline
func (p *pages) touch(i uint32) {
	l := &p.list[i]
	if len(l.data) == 0 {
		p.load(i)
	}
	if l.flight != nil && !fault.Bug("flow-lost-preimage") {
		l.flight.preserve()
	}
	p.changed(i)
}

// changed puts page i on the list of dirty ones, whatever was stored of it.
func (p *pages) changed(i uint32) {
	l := &p.list[i]
	l.ref, l.flight = checkpoint.Ref{}, nil
	if !l.dirty {
		l.dirty = true
		p.dirty = append(p.dirty, p.first+i)
	}
}

// load makes page i resident. It panics with the error when the page cannot be read: a *checkpoint.Damage when it is not what was stored.
//
//go:noinline
func (p *pages) load(i uint32) []byte {
	l := &p.list[i]
	if l.size == 0 {
		panic("flow: there is no such page")
	}
	if cap(l.data) == 0 {
		if err := p.read(i); err != nil {
			panic(err)
		}
		p.loads++
	}
	l.data = l.data[:l.size]
	return l.data
}

// read brings in a page that is stored only.
func (p *pages) read(i uint32) error {
	l := &p.list[i]
	data := make([]byte, l.size)
	b, err := l.ref.Read(data[:0])
	if err != nil {
		return err
	}
	if len(b) != int(l.used) {
		return fmt.Errorf("flow: a stored page has %d bytes where %d were expected", len(b), l.used)
	}
	if &b[0] != &data[0] {
		copy(data, b)
	}
	l.data = data
	p.out -= int(l.size)
	return nil
}

// grow makes the list longer by a hole and returns its index.
func (p *pages) grow() uint32 {
	p.list = append(p.list, leaf{})
	return uint32(len(p.list) - 1)
}

// put makes page i, a hole, a page of these bytes.
func (p *pages) put(i uint32, data []byte, used int) {
	l := &p.list[i]
	l.data, l.size, l.used = data, uint32(len(data)), uint32(used)
	p.held += len(data)
	p.changed(i)
}

// renew gives page i another buffer, of zeros. The old one may be read; a checkpoint that is being written has it from now on.
func (p *pages) renew(i uint32, data []byte) {
	l := &p.list[i]
	p.held += len(data) - int(l.size)
	l.data, l.size, l.used = data, uint32(len(data)), uint32(len(data))
	p.changed(i)
}

// drop makes page i a hole. A checkpoint that is being written gets the page as it is.
func (p *pages) drop(i uint32) {
	l := &p.list[i]
	if l.kept {
		p.gone = append(p.gone, p.first+i)
	}
	p.held -= int(l.size)
	if cap(l.data) == 0 {
		p.out -= int(l.size)
	}
	*l = leaf{dirty: l.dirty}
}

// shift drops the first page for good: numbers go up from there.
func (p *pages) shift() {
	p.drop(0)
	if p.list[0].dirty { // its number must not stay on the list when there is never a freeze
		if at := slices.Index(p.dirty, p.first); at >= 0 {
			p.dirty = slices.Delete(p.dirty, at, at+1)
		}
	}
	p.list = p.list[1:]
	p.first++
}

// paged is the owner of pages.
type paged interface {
	// meta appends what the owner knows of page i, up to metaMax bytes.
	meta(i uint32, dst []byte) []byte
	// adopt takes over page i, whose size and used are known, with its meta. It does not look at its bytes.
	adopt(i uint32, meta []byte) error
}

const metaMax = 32 - metaHead // of which the page's size takes the first 4
const metaHead = 4

// freeze hands over what changed since the last freeze to f.
func (p *pages) freeze(owner paged, f *Frozen) {
	g := &flock{object: p.object, frozen: f, flights: make([]flight, 0, len(p.dirty))}
	for _, n := range p.gone {
		if i := n - p.first; i >= uint32(len(p.list)) || p.list[i].size == 0 {
			g.gone = append(g.gone, n)
		}
	}
	for _, n := range p.dirty {
		i := n - p.first
		if i >= uint32(len(p.list)) {
			continue
		}
		l := &p.list[i]
		if l.dirty = false; l.size == 0 {
			continue
		}
		g.flights = append(g.flights, flight{number: n, data: l.data[:l.used], frozen: f})
		x := &g.flights[len(g.flights)-1]
		binary.LittleEndian.PutUint32(x.meta[:], l.size)
		x.metaLen = uint8(len(owner.meta(i, x.meta[:metaHead])))
		l.flight, l.kept = x, true
		f.bytes += int64(l.used)
	}
	p.dirty, p.gone, p.flock = p.dirty[:0], p.gone[:0], g
	f.flocks = append(f.flocks, g)
}

// settle takes into account what became of the last freeze, once that is known.
func (p *pages) settle() {
	g := p.flock
	if g == nil || !g.frozen.over {
		return
	}
	p.flock = nil
	for x := range g.flights {
		f := &g.flights[x]
		i := f.number - p.first
		if i >= uint32(len(p.list)) || p.list[i].flight != f {
			continue // it changed since, or is no more
		}
		if l := &p.list[i]; g.frozen.committed {
			l.ref, l.flight = f.ref, nil
		} else {
			p.changed(i)
		}
	}
	if !g.frozen.committed {
		p.gone = append(p.gone, g.gone...)
	}
}

// restore takes over the pages that a checkpoint has of the object.
func (p *pages) restore(owner paged, from *checkpoint.State, object checkpoint.ObjectID) error {
	p.object, p.list, p.dirty, p.gone, p.held, p.out = object, p.list[:0], nil, nil, 0, 0
	if object == 0 {
		return nil
	}
	for n, page := range from.Pages(object) {
		i := n - p.first
		if n < p.first || i > maxRef>>refPageShift {
			return fmt.Errorf("page %d is out of range", n)
		}
		for uint32(len(p.list)) <= i {
			p.grow()
		}
		if len(page.Meta) < metaHead {
			return fmt.Errorf("page %d has a meta of %d bytes", n, len(page.Meta))
		}
		l := &p.list[i]
		l.size, l.used = binary.LittleEndian.Uint32(page.Meta), uint32(page.Ref.Len())
		l.ref, l.kept = page.Ref, true
		if l.used == 0 || l.used > l.size {
			return fmt.Errorf("page %d has %d bytes of %d", n, l.used, l.size)
		}
		p.held += int(l.size)
		p.out += int(l.size)
		if err := owner.adopt(i, page.Meta[metaHead:]); err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
	}
	return nil
}

// readAll reads pages as long as budget, in bytes, allows it, and returns what is left of it.
func (p *pages) readAll(budget int64) (int64, error) {
	for i := range p.list {
		l := &p.list[i]
		if cap(l.data) > 0 || l.size == 0 {
			continue
		}
		if budget -= int64(l.size); budget < 0 {
			return 0, nil
		}
		if err := p.read(uint32(i)); err != nil {
			return 0, err
		}
		l.data = l.data[:l.size]
	}
	return budget, nil
}

// check panics when a page changed that nobody marked. It runs in tests, at each freeze, before it.
func (p *pages) check(owner paged, place string) {
	var meta [metaMax]byte
	for i := range p.list {
		l := &p.list[i]
		n := p.first + uint32(i)
		if l.size == 0 || cap(l.data) == 0 {
			continue
		}
		m := owner.meta(uint32(i), meta[:0])
		sum := hash128(hash128(uint64(l.used)<<32|uint64(l.size), m).lo, l.data[:l.size][:l.used]).lo
		if old, ok := p.guard[n]; ok && !l.dirty && old != sum {
			panic(fmt.Sprintf("flow: %s: page %d of a %T changed and was not marked", place, n, owner))
		}
		p.guard[n] = sum
	}
}

// evictable reports whether a page's bytes may be let go.
func (l *leaf) evictable() bool {
	return !l.ref.Zero() && !l.dirty && l.flight == nil && cap(l.data) > 0
}

// clock moves the hand over the pages from i on until it let go of need bytes: it parks a page at the first pass and lets go of it at the next one, unless it
// was read in between. It returns the bytes and the index that it reached.
func (p *pages) clock(i int, need int64) (freed, pages int64, at int) {
	for ; i < len(p.list) && freed < need; i++ {
		l := &p.list[i]
		switch {
		case !l.evictable():
		case len(l.data) > 0:
			l.data = l.data[:0]
		default:
			l.data = nil
			p.out += int(l.size)
			freed += int64(l.size)
			pages++
		}
	}
	return freed, pages, i
}

// words are the bytes of a page as words. Pages have the byte order of the machine; [loadingFrom] checks it.
func words(b []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}
