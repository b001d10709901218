package flow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"
)

// tree is an ordered multiset of byte keys, each with a value and a weight: a B+tree whose nodes have no pointers and whose
// keys are blocks of a slab. It also counts: the weight of everything before a key, and the entry at a weight, are one
// descent away. Leaves and inner nodes look alike:
//
//	leaf entry    a block (klen 4 bytes, vlen 4 bytes, key, value) and its weight
//	inner entry   a block with a lower bound of the child's keys (0: none), the child and the weight of all it holds
//
// A node but the root has at least nodeMin entries. An entry whose weight becomes 0 is removed.
//
// A node knows how many bytes all its keys share at their beginning and has the eight bytes behind them at hand, so that most
// comparisons do not go to the keys: before that, two thirds of the time of a grouped max were cache misses on keys of
// which the first eight bytes, the group's ref, were equal throughout.
//
// Nodes are read through node and written through change, as blocks of a slab are; a cursor's value is written through set.
type tree struct {
	slab  slab
	nodes pages  // of nodeChunk nodes
	spare uint32 // the first free node, 0 when there is none; next leads to the others
	made  uint32 // nodes handed out so far, spare ones included
	root  uint32
	depth int // 0: the root is a leaf
	n     int // entries
	size  int // of their blocks, without those of the bounds in inner nodes
}

const (
	nodeMax   = 32
	nodeMin   = 8
	nodeChunk = 8
	nodeHead  = 16
	nodeBytes = 32 + nodeMax*(8+8+8+4) // the size of a node
)

type node struct {
	n      uint32
	next   uint32          // leaves: the following leaf, 0 at the end; spare nodes: the following one
	skip   uint32          // how many bytes all keys share at their beginning, at least
	length uint32          // of every key; 0 when they differ or nobody has looked
	head   [nodeHead]byte  // the first of these bytes: mostly all of them, and then no key need be fetched to compare them
	prefix [nodeMax]uint64 // the eight bytes behind them, big-endian
	block  [nodeMax]ref
	weight [nodeMax]int64
	child  [nodeMax]uint32
}

func newTree() tree {
	t := tree{slab: newSlab()}
	t.take() // node 0 is never used
	t.root = t.take()
	return t
}

// absent reports whether nobody made the tree.
func (t *tree) absent() bool { return len(t.nodes.list) == 0 }

func (t *tree) node(i uint32) *node {
	d := t.nodes.list[i/nodeChunk].data
	if len(d) == 0 {
		d = t.nodes.load(i / nodeChunk)
	}
	return nodeOf(d, i)
}

// change returns a node to be written.
func (t *tree) change(i uint32) *node {
	l := &t.nodes.list[i/nodeChunk]
	if !l.dirty {
		t.nodes.touch(i / nodeChunk)
	}
	return nodeOf(l.data, i)
}

// nodeOf returns node i, which is in the page d. Nodes have no pointers and no gaps, so a page is as good as an array of them.
func nodeOf(d []byte, i uint32) *node {
	return (*node)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(d)), i%nodeChunk*nodeBytes))
}

func (t *tree) take() uint32 {
	if i := t.spare; i != 0 {
		n := t.change(i)
		t.spare = n.next
		*n = node{}
		return i
	}
	if t.made%nodeChunk == 0 {
		t.nodes.put(t.nodes.grow(), make([]byte, nodeChunk*nodeBytes), nodeChunk*nodeBytes)
	}
	t.made++
	t.change(t.made - 1)
	return t.made - 1
}

// give makes a node spare.
func (t *tree) give(i uint32) {
	t.change(i).next = t.spare
	t.spare = i
}

// meta implements [paged].
func (t *tree) meta(_ uint32, dst []byte) []byte { return dst }

// adopt implements [paged].
func (t *tree) adopt(i uint32, meta []byte) error {
	if l := &t.nodes.list[i]; len(meta) != 0 || l.size != nodeChunk*nodeBytes || l.used != l.size {
		return errMeta
	}
	return nil
}

// adopted checks that all nodes are there.
func (t *tree) adopted() error {
	if t.root == 0 || t.root >= t.made || t.spare >= t.made || t.depth < 0 || t.depth > 40 {
		return fmt.Errorf("a tree with node %d of %d as its root and depth %d", t.root, t.made, t.depth)
	}
	return t.nodes.complete((uint64(t.made) + nodeChunk - 1) / nodeChunk)
}

// bytes is what the entries take: a function of what is stored, as [operator.bytes] must be. Inner nodes and free room are
// not in it, two thirds of each leaf being in use are.
func (t *tree) bytes() int { return t.size + t.n*(nodeBytes/nodeMax)*3/2 }

// total is the weight of all entries.
func (t *tree) total() int64 {
	n, sum := t.node(t.root), int64(0)
	for i := range n.n {
		sum += n.weight[i]
	}
	return sum
}

func prefixOf(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

func (t *tree) key(r ref) []byte {
	b := t.slab.store.bytes(r.page())[r.offset():]
	n := binary.LittleEndian.Uint32(b)
	return b[8 : 8+n : 8+n]
}

func (t *tree) value(r ref) []byte {
	b := t.slab.store.bytes(r.page())[r.offset():]
	k, v := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	return b[8+k : 8+k+v : 8+k+v]
}

// edit is value to be written in place.
func (t *tree) edit(r ref) []byte {
	b := t.slab.edit(r)
	k, v := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	return b[8+k : 8+k+v : 8+k+v]
}

func (t *tree) newBlock(key, val []byte) ref {
	r := t.slab.alloc(8 + len(key) + len(val))
	b := t.slab.at(r)
	binary.LittleEndian.PutUint32(b, uint32(len(key)))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(val)))
	copy(b[8:], key)
	copy(b[8+len(key):], val)
	return r
}

// shared returns the bytes that all keys of n begin with, of which there are n.skip.
func (t *tree) shared(n *node, except uint32) []byte {
	if n.skip <= nodeHead {
		return n.head[:n.skip]
	}
	i := n.n - 1
	if i == except {
		i--
	}
	return t.key(n.block[i])[:n.skip]
}

// search returns the first entry of n whose key is not below key, and whether it is key itself.
func (t *tree) search(n *node, key []byte) (uint32, bool) {
	if n.n == 0 {
		return 0, false
	}
	if all := t.shared(n, nodeMax); len(key) < len(all) || string(key[:len(all)]) != string(all) {
		if bytes.Compare(key, all) > 0 {
			return n.n, false
		}
		if n.block[0] == 0 { // the lower bound of everything
			return 1, false
		}
		return 0, false
	}
	rest := key[n.skip:]
	prefix := prefixOf(rest)
	whole := len(rest) <= 8 && n.length == uint32(len(key)) // equal prefixes are equal keys
	lo, hi := uint32(0), n.n
	for lo < hi {
		mid := (lo + hi) / 2
		c := 0
		switch p := n.prefix[mid]; {
		case p < prefix, mid == 0 && n.block[0] == 0:
			c = -1
		case p > prefix:
			c = 1
		case whole:
		default:
			c = bytes.Compare(t.key(n.block[mid])[n.skip:], rest)
		}
		if c == 0 {
			return mid, true
		}
		if c < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, false
}

// put makes block the key of entry i, which was opened for it.
func (t *tree) put(n *node, i uint32, block ref) {
	n.block[i] = block
	key := t.key(block)
	if n.n == 1 || n.n == 2 && n.block[0] == 0 || !bytes.HasPrefix(key, t.shared(n, i)) { // else another key says what is shared
		t.reskip(n)
		return
	}
	n.prefix[i] = prefixOf(key[n.skip:])
	if n.length != uint32(len(key)) {
		n.length = 0
	}
}

// reskip finds out what the keys of n share and takes the bytes behind it.
func (t *tree) reskip(n *node) {
	first := uint32(0)
	if n.n > 0 && n.block[0] == 0 {
		first, n.prefix[0] = 1, 0
	}
	n.skip, n.length = 0, 0
	if first >= n.n {
		return
	}
	a, b := t.key(n.block[first]), t.key(n.block[n.n-1])
	for int(n.skip) < min(len(a), len(b)) && a[n.skip] == b[n.skip] {
		n.skip++
	}
	copy(n.head[:], a[:n.skip])
	n.length = uint32(len(a))
	for i := first; i < n.n; i++ {
		key := t.key(n.block[i])
		n.prefix[i] = prefixOf(key[n.skip:])
		if n.length != uint32(len(key)) {
			n.length = 0
		}
	}
}

// descend returns the entry of the inner node n whose child may hold key.
func (t *tree) descend(n *node, key []byte) uint32 {
	i, exact := t.search(n, key)
	if !exact && i > 0 {
		i--
	}
	return i
}

// add changes the weight of key by w and returns the weight it had. A key that is not there enters with val; one whose
// weight becomes 0 leaves.
func (t *tree) add(key, val []byte, w int64) (before int64) {
	if w == 0 {
		return 0
	}
	before = t.addAt(t.root, t.depth, key, val, w)
	root := t.node(t.root)
	switch {
	case root.n == nodeMax:
		t.growRoot()
	case t.depth > 0 && root.n == 1:
		old := t.root
		t.root = root.child[0]
		t.freeBlock(root.block[0])
		t.give(old)
		t.depth--
	}
	return before
}

// leaf returns the leaf that may hold key.
func (t *tree) leaf(key []byte) (uint32, *node) {
	i := t.root
	for range t.depth {
		n := nodeOf(t.nodes.bytes(i/nodeChunk), i) // t.node would be a call
		i = n.child[t.descend(n, key)]
	}
	return i, nodeOf(t.nodes.bytes(i/nodeChunk), i)
}

// weight returns the weight of key, 0 when it is not there.
func (t *tree) weight(key []byte) int64 {
	_, n := t.leaf(key)
	if at, ok := t.search(n, key); ok {
		return n.weight[at]
	}
	return 0
}

func (t *tree) addAt(ni uint32, depth int, key, val []byte, w int64) (before int64) {
	n := nodeOf(t.nodes.edit(ni/nodeChunk), ni) // t.change would be a call
	if depth == 0 {
		return t.addLeaf(n, key, val, w)
	}
	i := t.descend(n, key)
	before = t.addAt(n.child[i], depth-1, key, val, w)
	n.weight[i] += w
	switch c := t.node(n.child[i]); {
	case c.n == nodeMax:
		t.splitChild(n, i, depth-1)
	case c.n < nodeMin && n.n > 1:
		if i > 0 {
			i--
		}
		t.level(n, i, depth-1)
	}
	return before
}

func (t *tree) addLeaf(n *node, key, val []byte, w int64) int64 {
	i, ok := t.search(n, key)
	if !ok {
		n.open(i)
		n.weight[i] = w
		t.put(n, i, t.newBlock(key, val))
		t.n++
		t.size += blockBytes(8 + len(key) + len(val))
		return 0
	}
	before := n.weight[i]
	n.weight[i] += w
	if n.weight[i] == 0 {
		t.size -= blockBytes(8 + len(t.key(n.block[i])) + len(t.value(n.block[i])))
		t.slab.release(n.block[i])
		n.close(i)
		t.n--
	}
	return before
}

// open makes room for an entry at i.
func (n *node) open(i uint32) {
	copy(n.prefix[i+1:n.n+1], n.prefix[i:n.n])
	copy(n.block[i+1:n.n+1], n.block[i:n.n])
	copy(n.weight[i+1:n.n+1], n.weight[i:n.n])
	copy(n.child[i+1:n.n+1], n.child[i:n.n])
	n.n++
}

func (n *node) close(i uint32) {
	n.n--
	copy(n.prefix[i:n.n], n.prefix[i+1:])
	copy(n.block[i:n.n], n.block[i+1:])
	copy(n.weight[i:n.n], n.weight[i+1:])
	copy(n.child[i:n.n], n.child[i+1:])
}

// move appends the entries of m from i on to n and leaves m with i.
func (n *node) move(m *node, i uint32) {
	copy(n.prefix[n.n:], m.prefix[i:m.n])
	copy(n.block[n.n:], m.block[i:m.n])
	copy(n.weight[n.n:], m.weight[i:m.n])
	copy(n.child[n.n:], m.child[i:m.n])
	n.n += m.n - i
	m.n = i
}

func (n *node) sum() (s int64) {
	for i := range n.n {
		s += n.weight[i]
	}
	return s
}

func (t *tree) freeBlock(r ref) {
	if r != 0 {
		t.slab.release(r)
	}
}

func (t *tree) growRoot() {
	old := t.root
	t.root = t.take()
	r := t.change(t.root)
	r.n, r.child[0], r.weight[0] = 1, old, t.node(old).sum()
	t.depth++
	t.splitChild(r, 0, t.depth-1)
}

// splitChild moves the upper half of n's child i into a new sibling.
func (t *tree) splitChild(n *node, i uint32, depth int) {
	ci := n.child[i]
	di := t.take()
	c, d := t.change(ci), t.change(di)
	d.move(c, c.n/2)
	t.reskip(c)
	t.reskip(d)
	n.open(i + 1)
	n.child[i+1] = di
	t.bound(n, i+1, d)
	n.weight[i+1] = d.sum()
	n.weight[i] -= n.weight[i+1]
	if depth == 0 {
		d.next, c.next = c.next, di
	}
}

// bound makes a copy of d's first key the lower bound of n's entry i.
func (t *tree) bound(n *node, i uint32, d *node) {
	t.put(n, i, t.newBlock(t.key(d.block[0]), nil))
}

// level merges n's children i and i+1 when they fit one node, else shares their entries evenly.
func (t *tree) level(n *node, i uint32, depth int) {
	ci, di := n.child[i], n.child[i+1]
	c, d := t.change(ci), t.change(di)
	if depth > 0 {
		// The bound in n is the true lower bound of d's first child; d's own may be higher than keys that came later.
		t.freeBlock(d.block[0])
		d.block[0] = n.block[i+1]
	} else {
		t.freeBlock(n.block[i+1])
	}
	if c.n+d.n <= nodeMax*3/4 {
		c.move(d, 0)
		t.reskip(c)
		c.next = d.next
		n.weight[i] += n.weight[i+1]
		n.close(i + 1)
		t.give(di)
		return
	}
	var all node
	half := (c.n + d.n) / 2
	if c.n > half {
		all.move(c, half)
		all.move(d, 0)
		d.move(&all, 0)
	} else {
		take := half - c.n
		all.move(d, take)
		c.move(d, 0)
		d.move(&all, 0)
	}
	t.reskip(c)
	t.reskip(d)
	t.bound(n, i+1, d)
	n.weight[i], n.weight[i+1] = c.sum(), d.sum()
}

// cursor stands on an entry of a leaf. It is valid until the tree changes.
type cursor struct {
	t    *tree
	leaf *node
	at   uint32 // the leaf's index
	i    uint32
}

// seek returns a cursor on the first entry whose key is not below key.
func (t *tree) seek(key []byte) cursor {
	i, n := t.leaf(key)
	at, _ := t.search(n, key)
	c := cursor{t, n, i, at}
	c.settle()
	return c
}

// first returns a cursor on the first entry.
func (t *tree) first() cursor {
	i := t.root
	for range t.depth {
		i = t.node(i).child[0]
	}
	c := cursor{t, t.node(i), i, 0}
	c.settle()
	return c
}

func (c *cursor) settle() {
	for c.i >= c.leaf.n && c.leaf.next != 0 {
		c.leaf, c.at, c.i = c.t.node(c.leaf.next), c.leaf.next, 0
	}
}

func (c *cursor) valid() bool   { return c.i < c.leaf.n }
func (c *cursor) key() []byte   { return c.t.key(c.leaf.block[c.i]) }
func (c *cursor) value() []byte { return c.t.value(c.leaf.block[c.i]) }
func (c *cursor) weight() int64 { return c.leaf.weight[c.i] }

func (c *cursor) next() {
	c.i++
	c.settle()
}

// at returns a cursor on the entry that holds the unit of weight number rank, counted from 0, and the weight before that
// entry; an invalid cursor when the tree weighs no more than rank. All weights must be positive.
func (t *tree) at(rank int64) (cursor, int64) {
	i, before := t.root, int64(0)
	for d := t.depth; ; d-- {
		n := t.node(i)
		k := uint32(0)
		for k < n.n && before+n.weight[k] <= rank {
			before += n.weight[k]
			k++
		}
		if d == 0 || k == n.n {
			return cursor{t, n, i, k}.end(k == n.n), before
		}
		i = n.child[k]
	}
}

// end returns an invalid cursor when past is true.
func (c cursor) end(past bool) cursor {
	if past {
		c.leaf, c.i = &node{}, 0
	}
	return c
}
