package view

import (
	"github.com/tidwall/btree"

	"laaster/internal/change"
)

// Snapshot is some relations at one position. It never changes, needs no closing, may be read concurrently and keeps the
// memory of its rows alive. Keys and rows that it hands out are read-only.
type Snapshot struct {
	seq   uint64
	stamp int64
	rels  []snapshotRelation
}

type snapshotRelation struct {
	id   int
	tree *btree.BTreeG[item]
	last uint64
}

// Snapshot returns the named relations as they are now. Its cost does not depend on their size.
func (s *Store) Snapshot(rels ...int) *Snapshot {
	snap := &Snapshot{rels: make([]snapshotRelation, len(rels))}
	s.mu.Lock()
	defer s.mu.Unlock()
	snap.seq, snap.stamp = s.mu.head, s.mu.stamp
	for i, id := range rels {
		r := &s.mu.state[id]
		if r.view == nil {
			r.view = r.tree.Copy()
		}
		snap.rels[i] = snapshotRelation{id, r.view, max(r.last, r.birth)}
	}
	return snap
}

// Seq returns the position.
func (s *Snapshot) Seq() uint64 { return s.seq }

// Stamp returns the log's time at the position, microseconds since 1970 UTC; 0 at position 0.
func (s *Snapshot) Stamp() int64 { return s.stamp }

// find returns the relation; asking for one that the snapshot was not taken of is a bug and panics.
func (s *Snapshot) find(rel int) *snapshotRelation {
	for i := range s.rels {
		if s.rels[i].id == rel {
			return &s.rels[i]
		}
	}
	panic("view: relation is not part of the snapshot")
}

// LastChange returns the position at which rel last changed, as of the snapshot.
func (s *Snapshot) LastChange(rel int) uint64 { return s.find(rel).last }

// Len returns the number of rows of rel.
func (s *Snapshot) Len(rel int) int { return s.find(rel).tree.Len() }

// Get returns the row of rel with this key.
func (s *Snapshot) Get(rel int, key []byte) (change.Row, bool) {
	it, ok := s.find(rel).tree.Get(appendItemKey(make(item, 0, itemHeader+len(key)), key))
	if !ok {
		return nil, false
	}
	return it.row(), true
}

// Ascend calls fn for each row of rel whose key is at or after from, in the order of keys, until fn returns false. A nil from
// is the beginning; to go on after a key, append a zero byte to it.
func (s *Snapshot) Ascend(rel int, from []byte, fn func(key []byte, row change.Row) bool) {
	tree := s.find(rel).tree
	each := func(it item) bool { return fn(it.key(), it.row()) }
	if len(from) == 0 {
		tree.Scan(each)
		return
	}
	tree.Ascend(appendItemKey(make(item, 0, itemHeader+len(from)), from), each)
}
