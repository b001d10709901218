package view

import "laaster/internal/change"

// Snapshot is some relations at one position. It never changes, needs no closing, may be read concurrently and keeps the
// memory of its rows alive. Keys and rows that it hands out are read-only.
type Snapshot struct {
	seq   uint64
	stamp int64
	rels  []snapshotRelation
}

type snapshotRelation struct {
	id   int
	rows shared
	last uint64
}

// Snapshot returns the named relations as they are now. Its cost does not depend on their size.
func (s *Store) Snapshot(rels ...int) *Snapshot {
	snap := &Snapshot{rels: make([]snapshotRelation, len(rels))}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.failed != nil {
		panic(s.mu.failed)
	}
	snap.seq, snap.stamp = s.mu.head, s.mu.stamp
	for i, id := range rels {
		r := &s.mu.state[id]
		snap.rels[i] = snapshotRelation{id, r.tree.share(), max(r.last, r.birth)}
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
func (s *Snapshot) Len(rel int) int { return s.find(rel).rows.rows }

// Get returns the row of rel with this key.
func (s *Snapshot) Get(rel int, key []byte) (change.Row, bool) { return s.find(rel).rows.get(key) }

// Ascend calls fn for each row of rel whose key is at or after from, in the order of keys, until fn returns false. A nil from
// is the beginning; to go on after a key, append a zero byte to it.
func (s *Snapshot) Ascend(rel int, from []byte, fn func(key []byte, row change.Row) bool) {
	rows := &s.find(rel).rows
	rows.ascend(rows.root, bounds{end: true}, from, fn)
}
