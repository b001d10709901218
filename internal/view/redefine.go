package view

import (
	"slices"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// Added is a relation that joins a store, with its rows.
type Added struct {
	Relation *expr.Relation // as its program has it
	From     *Store         // where its rows are, at the same position: this store, or one that is not used any more. Nil: it has none
	Index    int            // in From
	Birth    uint64         // see SetBirth
}

// Redefine adds relations, between two epochs, and returns them as this store knows them, their ID being the index by which epochs and
// readers name them from now on. The caller is Apply's.
func (s *Store) Redefine(added []Added) []*expr.Relation {
	rels := append([]*expr.Relation{}, s.Relations()...)
	states := make([]relation, len(added))
	out := make([]*expr.Relation, len(added))
	for i, a := range added {
		r := *a.Relation
		r.ID = len(rels)
		out[i] = &r
		rels = append(rels, &r)
		states[i] = relation{tree: newTree(&s.cache), birth: a.Birth}
		if a.From != nil {
			states[i].tree, states[i].last = s.take(a)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.state = append(s.mu.state, states...)
	s.rels.Store(&rels)
	return out
}

// Drop frees the rows of relations that nobody is given any more, and ends the waits for their changes. Snapshots that were taken before
// keep their rows; later ones have none, so who takes one must see afterwards whether the relation is still the one that was meant.
func (s *Store) Drop(gone []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range gone {
		r := &s.mu.state[id]
		r.tree.forget()
		r.tree, r.gone = newTree(&s.cache), true
	}
	s.wakeLocked()
}

// take returns the rows of a relation of another store, which has none of it then, or a copy of one of its own, and when they changed last.
func (s *Store) take(a Added) (*tree, uint64) {
	a.From.mu.Lock()
	defer a.From.mu.Unlock()
	r := &a.From.mu.state[a.Index]
	if a.From == s {
		return r.tree.alias(), r.last
	}
	t := r.tree
	r.tree = newTree(&a.From.cache)
	return t.move(&s.cache), r.last
}

// Translate renames the relations of e, which nobody else has yet: to[i] is the index in the store of the program's relation i. Its deltas
// are in the order of the new names.
func Translate(e *change.Epoch, to []int) {
	for i := range e.Deltas {
		e.Deltas[i].Relation = to[e.Deltas[i].Relation]
	}
	slices.SortFunc(e.Deltas, func(a, b change.Delta) int { return a.Relation - b.Relation })
}
