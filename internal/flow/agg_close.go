package flow

import (
	"encoding/binary"

	"laaster/app"
	"laaster/internal/change"
)

// closeIndex finds the groups of an aggregate that a watermark closes. The tree has each value of the groups' closing key, big-endian with
// the sign turned, with the ref of the first of its groups and, as weight, their number; the groups of one value are a list that goes
// through their states: the refs of the one before and the one behind, then the value, 8 bytes each. NULL, as infinity, closes never.
type closeIndex struct {
	bound *Bound
	unit  int64 // microseconds per unit of the key
	at    int   // of the refs in a group's state
	mark  int64 // in this batch
	tree  tree
	key   []byte
	val   []byte
	gone  []ref
}

const closeRefs = 24

func newCloseIndex(b *Bound, t app.Type, at int) *closeIndex {
	c := &closeIndex{bound: b, unit: 1, at: at, tree: newTree()}
	if t == app.Date {
		c.unit = 24 * 3600 * 1_000_000
	}
	return c
}

func (c *closeIndex) encode(n int64) {
	c.key = binary.BigEndian.AppendUint64(c.key[:0], uint64(n)^1<<63)
}

// add lists a new group whose closing key is v.
func (c *closeIndex) add(groups *table, r ref, v change.Value) {
	if v.Null {
		v.N = never
	}
	c.encode(v.N)
	putInt(groups.edit(r)[c.at+16:], v.N)
	c.val = binary.LittleEndian.AppendUint64(c.val[:0], uint64(r))
	if c.tree.add(c.key, c.val, 1) == 0 {
		return
	}
	first := c.tree.seek(c.key)
	next := getInt(first.value())
	putInt(first.edit(), int64(r))
	putInt(groups.edit(r)[c.at+8:], next)
	putInt(groups.edit(ref(next))[c.at:], int64(r))
}

// remove takes a group off the list.
func (c *closeIndex) remove(groups *table, r ref) {
	state := groups.value(r)[c.at:]
	prev, next := getInt(state), getInt(state[8:])
	c.encode(getInt(state[16:]))
	if prev != 0 {
		putInt(groups.edit(ref(prev))[c.at+8:], next)
	} else {
		first := c.tree.seek(c.key)
		putInt(first.edit(), next)
	}
	if next != 0 {
		putInt(groups.edit(ref(next))[c.at:], prev)
	}
	c.tree.add(c.key, nil, -1)
}

// due reports whether the mark closes a group.
func (c *closeIndex) due(mark int64) bool {
	first := c.tree.first()
	return first.valid() && c.closed(first.key(), mark)
}

func (c *closeIndex) closed(key []byte, mark int64) bool {
	return c.closedAt(int64(binary.BigEndian.Uint64(key)^1<<63), mark)
}

// shut reports whether a group with the closing key v is closed: a quiet table may come back with rows for it.
func (c *closeIndex) shut(v change.Value) bool { return !v.Null && c.closedAt(v.N, c.mark) }

func (c *closeIndex) closedAt(n, mark int64) bool {
	if n > never/c.unit {
		return false
	}
	return n < never && (n*c.unit < mark || c.bound.Ends && n*c.unit == mark)
}

// take returns the groups that the mark closes and forgets them. The list lives until the next call.
func (c *closeIndex) take(groups *table, mark int64) []ref {
	c.gone = c.gone[:0]
	for c.due(mark) {
		first := c.tree.first()
		for r := ref(getInt(first.value())); r != 0; r = ref(getInt(groups.value(r)[c.at+8:])) {
			c.gone = append(c.gone, r)
		}
		c.key = append(c.key[:0], first.key()...)
		c.tree.add(c.key, nil, -first.weight())
	}
	return c.gone
}
