package view

import (
	"bytes"
	"slices"
	"sync/atomic"
	"unsafe"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/kit/fault"
)

// kidsMax is how many children a branch has at most.
const kidsMax = 64

// tree is the rows of one relation, ordered by key: pages of rows (leaves) under a directory of branches. A snapshot is its root. Every node remembers the
// generation in which it was made; each snapshot begins a new one, and a node of an older generation is copied before it is changed. So what a snapshot
// reaches never changes, and without snapshots everything is changed in place.
//
// Whoever applies changes has the tree for himself; roots of snapshots are read concurrently.
type tree struct {
	cache *cache
	gen   uint64
	root  *branch // never nil; without children when there are no rows
	rows  int
	make  pageMaker // scratch

	forgotten bool
	kept      numbers
	frozen    uint64   // nodes up to this generation may be in the checkpoint that is being written; 0: none is
	unsure    []*place // of those, nodes that the tree does not have any more
}

// branch is a list of children: leaves at level 1, else branches of the level below.
type branch struct {
	gen   uint64
	level int
	kids  []kid
	place
}

// place is where a node is in checkpoints: its page's number in the relation's object, as the checkpoint of mark has it. Who writes a checkpoint sets it,
// mark last; unless mark is committed nobody else looks at the rest.
type place struct {
	mark   atomic.Pointer[mark]
	number uint32
}

// mark is one checkpoint.
type mark struct{ committed atomic.Bool }

// stored reports whether the node is in the newest checkpoint as it is, or was when its tree still had it.
func (p *place) stored() bool {
	m := p.mark.Load()
	return m != nil && m.committed.Load()
}

// kid is a child of a branch, a leaf or another branch. All its keys are at or after from and before the next one's. What the first child's from is does not
// matter: its keys begin where those of the branch do.
type kid struct {
	head   uint64 // of from, so that a search mostly looks nowhere else
	from   string
	leaf   *leaf
	branch *branch
}

// leaf is one page of rows, which may be on disk only.
type leaf struct {
	gen  uint64
	data atomic.Pointer[byte] // the page; nil: it is read from ref
	size int32                // bytes of the page
	room int32                // bytes of memory behind data; for the owner
	rows int32
	place
	ref    pageRef // of the page, when it is stored: belongs to place
	source pageRef // where the page can be read until then, when it is not in memory: another relation has it too

	gone    atomic.Bool // the tree does not have it any more; snapshots may
	counted atomic.Bool // its memory is in cache.resident
	used    atomic.Bool // since the clock's hand passed it
}

// numbers are those of a tree's pages in checkpoints.
type numbers struct {
	object checkpoint.ObjectID // 0: it was never part of one
	next   uint32              // no page had this number or a larger one
	free   []uint32            // smaller numbers that the newest checkpoint does not use
	dead   []uint32            // those that it uses for nodes that the tree does not have any more
}

func newTree(c *cache) *tree {
	t := &tree{cache: c, gen: 1}
	t.root = &branch{level: 1}
	return t
}

// share begins a new generation and returns the tree as it is, for ever.
func (t *tree) share() shared {
	t.gen++
	return shared{t.cache, t.root, t.rows}
}

// page returns the page of a leaf, nil when it is on disk only.
func (l *leaf) page() page {
	if p := l.data.Load(); p != nil {
		return unsafe.Slice(p, l.size)
	}
	return nil
}

// whole returns the page with the room behind it. For the leaf's owner.
func (l *leaf) whole() page { return unsafe.Slice(l.data.Load(), l.room)[:l.size] }

// set gives a leaf that nobody else has its page.
func (l *leaf) set(p page) {
	l.data.Store(unsafe.SliceData(p))
	l.size, l.room = int32(len(p)), int32(cap(p))
	l.rows = int32(p[l.size-2]) | int32(p[l.size-1])<<8
}

// leaf returns a new leaf of this generation.
func (t *tree) leaf(p page) *leaf {
	l := &leaf{gen: t.gen}
	l.set(p)
	l.used.Store(true)
	t.cache.leaves.Add(1)
	t.cache.count(l)
	return l
}

// dropLeaf notes that the tree does not have l any more.
func (t *tree) dropLeaf(l *leaf) {
	l.gone.Store(true)
	t.cache.discount(l)
	t.cache.leaves.Add(-1)
	if t.unplace(l.gen, &l.place) {
		t.cache.stored.Add(-1)
	}
}

func (t *tree) dropBranch(b *branch) { t.unplace(b.gen, &b.place) }

// unplace notes that the tree does not have a node any more, and reports whether it is stored. Of those that a checkpoint which is being written
// may have, that is not known yet.
func (t *tree) unplace(gen uint64, p *place) bool {
	if p.stored() {
		t.kept.dead = append(t.kept.dead, p.number)
		return true
	}
	if gen <= t.frozen {
		t.unsure = append(t.unsure, p)
	}
	return false
}

// own returns b, or the copy of it that this generation may change.
func (t *tree) own(b *branch) *branch {
	if b.gen == t.gen {
		return b
	}
	t.dropBranch(b)
	return &branch{gen: t.gen, level: b.level, kids: append(make([]kid, 0, len(b.kids)+4), b.kids...)}
}

// head returns the first eight bytes of a key as a number, in their order.
func head[K string | []byte](key K) uint64 {
	if len(key) >= 8 {
		return uint64(key[0])<<56 | uint64(key[1])<<48 | uint64(key[2])<<40 | uint64(key[3])<<32 | uint64(key[4])<<24 | uint64(key[5])<<16 | uint64(key[6])<<8 | uint64(key[7])
	}
	var n uint64
	for i := range len(key) {
		n |= uint64(key[i]) << (56 - 8*i)
	}
	return n
}

// begin sets where the keys of a child begin.
func (k *kid) begin(from string) { k.from, k.head = from, head(from) }

// find returns the child that has key, if any has.
func (b *branch) find(key []byte) int {
	i, j := 1, len(b.kids) // the first child is not asked where it begins
	for h := head(key); i < j; {
		mid := int(uint(i+j) >> 1)
		if k := &b.kids[mid]; k.head < h || k.head == h && k.from <= string(key) {
			i = mid + 1
		} else {
			j = mid
		}
	}
	return i - 1
}

// bounds are what the keys of a node lie between: at or after from and, unless end is set, before until.
type bounds struct {
	from, until string
	end         bool
}

// bounds returns those of child i when in are those of b.
func (b *branch) bounds(i int, in bounds) bounds {
	if i > 0 {
		in.from = b.kids[i].from
	}
	if i+1 < len(b.kids) {
		in.until, in.end = b.kids[i+1].from, false
	}
	return in
}

// until returns how many of changes, at least one, belong to child i.
func (b *branch) until(changes []change.RowChange, i int) int {
	if i+1 >= len(b.kids) {
		return len(changes)
	}
	n := 1
	for n < len(changes) && string(changes[n].Key) < b.kids[i+1].from {
		n++
	}
	return n
}

// apply makes changes, which are ascending by key, each key once.
func (t *tree) apply(changes []change.RowChange) {
	root := t.applyBranch(t.root, bounds{end: true}, changes)
	for len(root.kids) > kidsMax {
		top := &branch{gen: t.gen, level: root.level + 1, kids: []kid{{branch: root}}}
		t.cut(top, 0)
		root = top
	}
	for root.level > 1 && len(root.kids) == 1 {
		t.dropBranch(root)
		root = root.kids[0].branch
	}
	if root.level > 1 && len(root.kids) == 0 {
		t.dropBranch(root)
		root = &branch{gen: t.gen, level: 1}
	}
	t.root = root
}

// applyBranch returns b after changes; it may have any number of children then.
func (t *tree) applyBranch(b *branch, in bounds, changes []change.RowChange) *branch {
	b = t.own(b)
	for len(changes) > 0 {
		i := b.find(changes[0].Key)
		n := b.until(changes, i)
		if b.level == 1 {
			t.applyLeaf(b, i, in, changes[:n])
		} else {
			b.kids[i].branch = t.applyBranch(b.kids[i].branch, b.bounds(i, in), changes[:n])
			t.balance(b, i)
		}
		changes = changes[n:]
	}
	return b
}

// balance cuts child i, a branch, when it has too many children, and joins it with a neighbour when it has few.
func (t *tree) balance(b *branch, i int) {
	k := b.kids[i].branch
	switch {
	case len(k.kids) == 0:
		t.dropBranch(k)
		b.kids = slices.Delete(b.kids, i, i+1)
	case len(k.kids) > kidsMax:
		t.cut(b, i)
	case len(k.kids) < kidsMax/4 && i > 0 && len(b.kids[i-1].branch.kids)+len(k.kids) <= kidsMax*3/4:
		t.join(b, i-1)
	case len(k.kids) < kidsMax/4 && i+1 < len(b.kids) && len(b.kids[i+1].branch.kids)+len(k.kids) <= kidsMax*3/4:
		t.join(b, i)
	}
}

// join makes one branch of the children i and i+1 of b.
func (t *tree) join(b *branch, i int) {
	left, right := t.own(b.kids[i].branch), b.kids[i+1].branch
	at := len(left.kids)
	left.kids = append(left.kids, right.kids...)
	left.kids[at].begin(b.kids[i+1].from)
	t.dropBranch(right)
	b.kids[i].branch = left
	b.kids = slices.Delete(b.kids, i+1, i+2)
}

// cut makes several branches of child i of b, which is of this generation. At the end, where rows are added in order, all but the last are full.
func (t *tree) cut(b *branch, i int) {
	k := b.kids[i].branch
	pieces := (len(k.kids) + kidsMax - 1) / kidsMax
	size := (len(k.kids) + pieces - 1) / pieces
	if i == len(b.kids)-1 {
		size = kidsMax
	}
	var more []kid
	for at := size; at < len(k.kids); at += size {
		part := k.kids[at:min(at+size, len(k.kids))]
		more = append(more, kid{from: part[0].from, head: part[0].head, branch: &branch{gen: t.gen, level: k.level, kids: slices.Clone(part)}})
	}
	clear(k.kids[size:])
	k.kids = k.kids[:size]
	b.kids = slices.Insert(b.kids, i+1, more...)
}

// applyLeaf makes changes to child i of b, a leaf.
func (t *tree) applyLeaf(b *branch, i int, in bounds, changes []change.RowChange) {
	if len(b.kids) == 0 {
		b.kids = append(b.kids, kid{leaf: t.leaf(emptyPage())})
	}
	l := b.kids[i].leaf
	p := l.page()
	if p == nil {
		p = t.cache.load(l, b.bounds(i, in), true)
	}
	r := p.rows()
	if at, ok := replaces(&r, &changes[0], 0); ok {
		if l.gen != t.gen {
			old := l
			l = t.leaf(append(room(len(p)), p...))
			b.kids[i].leaf = l
			if fault.Bug("view-skip-leaf") && old.stored() {
				l.number, l.ref = old.number, old.ref
				l.mark.Store(old.mark.Load())
				t.cache.discount(old)
			} else {
				t.dropLeaf(old)
			}
			p = l.page()
			r = p.rows()
		}
		if changes = replace(&r, changes, at); len(changes) == 0 {
			l.used.Store(true)
			return
		}
	}
	atEnd := r.n == 0 || bytes.Compare(changes[len(changes)-1].Key, r.key(r.n-1)) > 0
	if atEnd && len(changes) == 1 && l.gen == t.gen && t.extend(l, &changes[0]) {
		return
	}
	m := &t.make
	m.reset()
	m.merge(&r, changes)
	t.rows += len(m.starts) - r.n
	t.put(b, i, atEnd)
}

// extend adds the row of c at the end of l, which is of this generation, if it is one and there is room for it.
func (t *tree) extend(l *leaf, c *change.RowChange) bool {
	p := l.whole()
	size := len(p) + uvarintLen(len(c.Key)) + len(c.Key) + len(c.New) + 2
	if c.New == nil || size > min(cap(p), pageMax) {
		return false
	}
	t.cache.discount(l)
	l.set(p.extended(size, c.Key, c.New))
	l.used.Store(true)
	t.cache.count(l)
	t.rows++
	return true
}

// replaces reports whether c only replaces a row of r, from row i on, by one that is as long, and which.
func replaces(r *rows, c *change.RowChange, i int) (int, bool) {
	if c.New == nil {
		return 0, false
	}
	at, there := r.search(c.Key, i)
	return at, there && r.begin(at+1)-r.begin(at) == uvarintLen(len(c.Key))+len(c.Key)+len(c.New)
}

func uvarintLen(n int) int {
	w := 1
	for ; n >= 0x80; n >>= 7 {
		w++
	}
	return w
}

// replace makes changes in place, of which the first replaces row at, as far as they only replace rows by such that are as long. It returns those that are left.
func replace(r *rows, changes []change.RowChange, at int) []change.RowChange {
	for ok := true; ok; {
		row := changes[0].New
		copy(r.all[r.begin(at+1)-len(row):], row)
		if changes = changes[1:]; len(changes) == 0 {
			break
		}
		at, ok = replaces(r, &changes[0], at+1)
	}
	return changes
}

// room returns memory for a page of n bytes, and what the allocator would leave unused behind it.
func room(n int) page { return slices.Grow(page(nil), n) }

// put makes the rows in t.make the place of child i of b, a leaf: one page, several, or none. full says to fill pages, since more is expected behind.
func (t *tree) put(b *branch, i int, full bool) {
	m, l := &t.make, b.kids[i].leaf
	n := len(m.starts)
	if n == 0 {
		t.dropLeaf(l)
		b.kids = slices.Delete(b.kids, i, i+1)
		return
	}
	var cuts []int
	if m.size() > pageMax && n > 1 {
		cuts = m.cuts(full)
	}
	first := n
	if len(cuts) > 0 {
		first = cuts[0]
	}
	t.putFirst(b, i, first, full && first == n)
	if len(cuts) == 0 {
		t.joinLeaf(b, i)
		return
	}
	more := make([]kid, len(cuts))
	for k, at := range cuts {
		end := n
		if k+1 < len(cuts) {
			end = cuts[k+1]
		}
		more[k].leaf = t.leaf(m.appendPage(room(m.pageSize(at, end)), at, end))
		more[k].begin(separator(m.key(at-1), m.key(at)))
	}
	b.kids = slices.Insert(b.kids, i+1, more...)
}

// putFirst gives child i of b the first n rows in t.make. With grows it gets room for more.
func (t *tree) putFirst(b *branch, i, n int, grows bool) {
	l, size := b.kids[i].leaf, t.make.pageSize(0, n)
	want := size
	if grows {
		want = max(size, min(size+size/4, pageMax))
	}
	if l.gen != t.gen {
		t.dropLeaf(l)
		b.kids[i].leaf = t.leaf(t.make.appendPage(room(want), 0, n))
		return
	}
	t.cache.discount(l)
	p := l.whole()
	if cap(p) < size || cap(p) > max(size+size/4, want)+64 {
		p = room(want)
	}
	l.set(t.make.appendPage(p[:0], 0, n))
	l.used.Store(true)
	t.cache.count(l)
}

// joinLeaf makes one leaf of child i of b and a neighbour when both are small and in memory.
func (t *tree) joinLeaf(b *branch, i int) {
	if b.kids[i].leaf.size >= pageMax/4 {
		return
	}
	for _, left := range [2]int{i - 1, i} {
		if left < 0 || left+1 >= len(b.kids) {
			continue
		}
		x, y := b.kids[left].leaf, b.kids[left+1].leaf
		p, q := x.page(), y.page()
		if p == nil || q == nil || len(p)+len(q) > pageMax*3/4 {
			continue
		}
		m := &t.make
		m.reset()
		a, z := p.rows(), q.rows()
		m.copy(&a, 0, a.n)
		m.copy(&z, 0, z.n)
		t.putFirst(b, left, len(m.starts), false)
		t.dropLeaf(y)
		b.kids = slices.Delete(b.kids, left+1, left+2)
		return
	}
}

// each calls fn for every leaf.
func (b *branch) each(fn func(*leaf)) {
	for i := range b.kids {
		if b.level > 1 {
			b.kids[i].branch.each(fn)
		} else {
			fn(b.kids[i].leaf)
		}
	}
}

// walk calls fn for every leaf, in order, with the bounds of its keys, until it fails.
func (b *branch) walk(in bounds, fn func(*leaf, bounds) error) error {
	for i := range b.kids {
		var err error
		if in := b.bounds(i, in); b.level > 1 {
			err = b.kids[i].branch.walk(in, fn)
		} else {
			err = fn(b.kids[i].leaf, in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forget is called when nobody has the tree any more, but for snapshots.
func (t *tree) forget() {
	t.forgotten = true
	t.root.each(func(l *leaf) {
		l.gone.Store(true)
		t.cache.discount(l)
		t.cache.without(l)
	})
}

// without takes a leaf out of the counts.
func (c *cache) without(l *leaf) {
	c.leaves.Add(-1)
	if l.stored() {
		c.stored.Add(-1)
	}
	if l.page() == nil {
		c.cold.Add(-1)
	}
}

// with adds a leaf to the counts.
func (c *cache) with(l *leaf) {
	c.leaves.Add(1)
	if l.stored() {
		c.stored.Add(1)
	}
	if l.page() == nil {
		c.cold.Add(1)
	} else {
		c.count(l)
	}
}

// move returns the tree for another store. The one that it came from, whose snapshots stay valid, has it no more.
func (t *tree) move(to *cache) *tree {
	t.gen++
	t.root.each(func(l *leaf) {
		t.cache.discount(l)
		t.cache.without(l)
		to.with(l)
	})
	return &tree{cache: to, gen: t.gen, root: t.root, rows: t.rows, kept: t.kept}
}

// alias returns a tree with the same rows that goes its own way. Nodes are its own, pages are shared.
func (t *tree) alias() *tree {
	t.gen++
	u := &tree{cache: t.cache, gen: t.gen, rows: t.rows}
	u.root = u.twin(t.root)
	return u
}

func (t *tree) twin(b *branch) *branch {
	c := &branch{gen: t.gen, level: b.level, kids: make([]kid, len(b.kids))}
	for i, k := range b.kids {
		c.kids[i].begin(k.from)
		if b.level > 1 {
			c.kids[i].branch = t.twin(k.branch)
			continue
		}
		l := &leaf{size: k.leaf.size, rows: k.leaf.rows} // of no generation: the page is not its own
		if l.source = k.leaf.source; k.leaf.stored() {
			l.source = k.leaf.ref
		}
		l.data.Store(k.leaf.data.Load())
		t.cache.with(l)
		c.kids[i].leaf = l
	}
	return c
}
