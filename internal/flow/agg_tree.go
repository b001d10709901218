package flow

import (
	"bytes"
	"encoding/binary"
)

// drop removes every entry whose key begins with the group's ref in eight bytes, big-endian.
func (t *tree) drop(group ref) {
	var prefix [8]byte
	binary.BigEndian.PutUint64(prefix[:], uint64(group))
	var key []byte
	for {
		c := t.seek(prefix[:])
		if !c.valid() || !bytes.HasPrefix(c.key(), prefix[:]) {
			return
		}
		key = append(key[:0], c.key()...)
		t.add(key, nil, -c.weight())
	}
}

// before returns the weight of all entries whose keys are below key.
func (t *tree) before(key []byte) (sum int64) {
	i := t.root
	for d := t.depth; ; d-- {
		n := t.node(i)
		at := uint32(0)
		if d == 0 {
			at, _ = t.search(n, key)
		} else {
			at = t.descend(n, key)
		}
		for k := range at {
			sum += n.weight[k]
		}
		if d == 0 {
			return sum
		}
		i = n.child[at]
	}
}

// edit is value to be written in place.
func (c *cursor) edit() []byte { return c.t.edit(c.leaf.block[c.i]) }

// ofGroup reports whether the cursor stands on an entry of the group.
func (c *cursor) ofGroup(group ref) bool {
	return c.valid() && binary.BigEndian.Uint64(c.key()) == uint64(group)
}
