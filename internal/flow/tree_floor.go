package flow

// floor returns a cursor on the last entry whose key is not above key; an invalid one when there is none.
func (t *tree) floor(key []byte) cursor {
	i := t.root
	left, height := uint32(0), 0 // the nearest subtree that lies wholly before the path; height 0: its root is a leaf
	for d := t.depth; d > 0; d-- {
		n := t.node(i)
		k := t.descend(n, key)
		if k > 0 {
			left, height = n.child[k-1], d-1
		}
		i = n.child[k]
	}
	n := t.node(i)
	at, exact := t.search(n, key)
	switch {
	case exact:
		return cursor{t, n, i, at}
	case at > 0:
		return cursor{t, n, i, at - 1}
	case left == 0: // node 0 is never used
		return cursor{t, n, i, 0}.end(true)
	}
	// A lower bound may be lower than every key of its leaf: then the entry is the last one before it.
	for range height {
		n = t.node(left)
		left = n.child[n.n-1]
	}
	n = t.node(left)
	return cursor{t, n, left, n.n - 1}
}
