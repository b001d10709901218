package flow

import (
	"bytes"
	"encoding/binary"
)

// has reports whether the tree has a key that begins with prefix.
func (t *tree) has(prefix []byte) bool {
	c := t.seek(prefix)
	return c.valid() && bytes.HasPrefix(c.key(), prefix)
}

// set gives the cursor's entry another value. Cursors on the tree stay valid, slices of the old value do not.
func (c *cursor) set(val []byte) {
	s := &c.t.slab
	old := c.leaf.block[c.i]
	b := s.edit(old)
	k, v := int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:]))
	c.t.size += blockBytes(8+k+len(val)) - blockBytes(8+k+v)
	if fits(8+k+v, 8+k+len(val)) {
		binary.LittleEndian.PutUint32(b[4:], uint32(len(val)))
		copy(b[8+k:], val)
		return
	}
	to := s.alloc(8 + k + len(val))
	d := s.at(to)
	copy(d, b[:8+k])
	binary.LittleEndian.PutUint32(d[4:], uint32(len(val)))
	copy(d[8+k:], val)
	c.t.change(c.at).block[c.i] = to
	s.release(old)
}

// appendSuccessor appends the least key that is above every key that begins with prefix, which must have a byte below 255.
func appendSuccessor(dst, prefix []byte) []byte {
	n := len(prefix)
	for n > 0 && prefix[n-1] == 0xff {
		n--
	}
	dst = append(dst, prefix[:n]...)
	dst[len(dst)-1]++
	return dst
}
