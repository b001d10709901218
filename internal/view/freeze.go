package view

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/kit/fault"
)

// What a checkpoint has of a store.
const (
	part        = "view"   // name of the root part
	partVersion = 1        // of the root part and of the pages
	mostRing    = 64 << 20 // bytes of epochs that a checkpoint has at most, as the ring counts them
	ringPage    = 64 << 10 // bytes at which a page of epochs is full. A larger epoch has a page of its own
)

// rootPart is the root part of a store, as JSON: a line per relation, nothing per row.
type rootPart struct {
	Version   int                 `json:"version"`
	Head      uint64              `json:"head"`
	Stamp     int64               `json:"stamp"`
	Floor     uint64              `json:"floor"` // see Store.Floor
	Ring      checkpoint.ObjectID `json:"ring"`
	Relations []rootRelation      `json:"relations"`
}

type rootRelation struct {
	Name   string              `json:"name"`
	Object checkpoint.ObjectID `json:"object"`
	Root   uint32              `json:"root"` // page of the root of its tree
	Rows   int                 `json:"rows"`
	Last   uint64              `json:"last"`
	Birth  uint64              `json:"birth"`
	Gone   bool                `json:"gone,omitempty"`
}

// Frozen is the rows and the ring as of one position, to be written while the store goes on.
type Frozen struct {
	root   rootPart
	mark   *mark
	trees  []frozenTree // of relations that are not gone
	epochs []*change.Epoch
	ring   storedRing // as the checkpoint before has it; Write makes it what this one has
	bound  int        // of the ring
}

// frozenTree is one relation's rows.
type frozenTree struct {
	relation int // index in root.Relations
	tree     *tree
	rows     shared
	before   numbers // as the checkpoint before has them
	kept     numbers // Write makes of them what this one has
	leaves   int64   // that Write stored
}

// storedRing is the pages of epochs of a checkpoint.
type storedRing struct {
	object checkpoint.ObjectID
	next   uint32 // no page had this number or a larger one
	pages  []storedEpochs
}

// storedEpochs is a page of epochs.
type storedEpochs struct {
	number      uint32
	first, last uint64
}

// Freeze hands over rows and ring at the head, at a cost that does not depend on their size. objects gives ids that no object had. Apply's caller
// calls it. One at a time: Done ends it, whatever became of it.
func (s *Store) Freeze(objects func() checkpoint.ObjectID) *Frozen {
	if s.frozen != nil {
		panic("view: frozen twice")
	}
	rels := s.Relations()
	f := &Frozen{mark: &mark{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored.object == 0 {
		s.stored.object, s.stored.next = objects(), 1
	}
	f.ring, f.bound = s.stored, min(s.mu.ring.limit, mostRing)
	f.epochs, _ = s.mu.ring.since(s.mu.ring.floor)
	f.root = rootPart{Version: partVersion, Head: s.mu.head, Stamp: s.mu.stamp, Ring: f.ring.object, Relations: make([]rootRelation, len(s.mu.state))}
	for i := range s.mu.state {
		r := &s.mu.state[i]
		root := &f.root.Relations[i]
		*root = rootRelation{Name: rels[i].Name, Last: r.last, Birth: r.birth, Gone: r.gone}
		if r.gone {
			continue
		}
		t := r.tree
		if t.kept.object == 0 {
			t.kept.object, t.kept.next = objects(), 1
		}
		root.Object, root.Rows = t.kept.object, t.rows
		t.frozen = t.gen
		f.trees = append(f.trees, frozenTree{relation: i, tree: t, rows: t.share(), before: t.kept})
		t.kept.dead = nil
	}
	s.frozen = f
	return f
}

// Write puts what changed and the root part into w. It may run beside everything else.
func (f *Frozen) Write(w *checkpoint.Writer) error {
	for i := range f.trees {
		t := &f.trees[i]
		root := &f.root.Relations[t.relation]
		t.kept = t.before
		t.kept.free = slices.Clone(t.before.free)
		w.Keep(root.Object)
		number, err := t.write(w, t.rows.root, f.mark)
		if err != nil {
			return fmt.Errorf("rows of %q: %w", root.Name, err)
		}
		for _, n := range t.kept.dead {
			w.Delete(root.Object, n)
		}
		root.Root, t.kept.free, t.kept.dead = number, append(t.kept.free, t.kept.dead...), nil
	}
	if err := f.writeRing(w); err != nil {
		return fmt.Errorf("recent epochs: %w", err)
	}
	raw, err := json.Marshal(&f.root)
	if err != nil {
		return err
	}
	w.Part(part, raw)
	fault.Point("view.part_put")
	return nil
}

// write stores what b and the nodes below it have that is not stored, and returns the number of b's page.
func (t *frozenTree) write(w *checkpoint.Writer, b *branch, m *mark) (uint32, error) {
	if b.stored() {
		return b.number, nil
	}
	raw := []byte{byte(b.level)}
	raw = appendInt(raw, len(b.kids))
	for i := range b.kids {
		k := &b.kids[i]
		from := k.from
		if i == 0 {
			from = ""
		}
		raw = appendText(raw, from)
		if b.level > 1 {
			number, err := t.write(w, k.branch, m)
			if err != nil {
				return 0, err
			}
			raw = binary.AppendUvarint(raw, uint64(number))
			continue
		}
		if err := t.writeLeaf(w, k.leaf, m); err != nil {
			return 0, err
		}
		raw = binary.AppendUvarint(raw, uint64(k.leaf.number))
		raw = binary.AppendUvarint(raw, uint64(k.leaf.rows))
		raw = binary.AppendUvarint(raw, uint64(k.leaf.size))
	}
	b.number = t.kept.take()
	if _, err := w.Put(t.kept.object, b.number, nil, raw); err != nil {
		return 0, err
	}
	b.mark.Store(m)
	fault.Point("view.branch_put")
	return b.number, nil
}

func (t *frozenTree) writeLeaf(w *checkpoint.Writer, l *leaf, m *mark) error {
	if l.stored() {
		return nil
	}
	p := l.page()
	if p == nil { // another relation's, that is not in memory
		raw, err := l.source.Read(make([]byte, 0, l.size))
		if err != nil {
			return err
		}
		p = raw
	}
	number := t.kept.take()
	ref, err := w.Put(t.kept.object, number, nil, p)
	if err != nil {
		return err
	}
	l.number, l.ref = number, ref
	l.mark.Store(m)
	t.leaves++
	fault.Point("view.leaf_put")
	return nil
}

// take returns a number for a page: that of one that is not needed any more, or a new one.
func (k *numbers) take() uint32 {
	for _, list := range [...]*[]uint32{&k.dead, &k.free} {
		if last := len(*list) - 1; last >= 0 {
			number := (*list)[last]
			*list = (*list)[:last]
			return number
		}
	}
	k.next++
	return k.next - 1
}

// writeRing stores the epochs that are not stored, and drops the pages of those that the ring has lost.
func (f *Frozen) writeRing(w *checkpoint.Writer) error {
	w.Keep(f.ring.object)
	epochs := f.tail()
	f.root.Floor = f.root.Head
	if len(epochs) > 0 {
		f.root.Floor = epochs[0].Seq - 1
	}
	pages := f.ring.pages
	for len(pages) > 0 && pages[0].last <= f.root.Floor {
		w.Delete(f.ring.object, pages[0].number)
		pages = pages[1:]
	}
	pages = slices.Clone(pages)
	for len(epochs) > 0 && len(pages) > 0 && epochs[0].Seq <= pages[len(pages)-1].last {
		epochs = epochs[1:]
	}
	var raw []byte
	first := 0
	for i, e := range epochs {
		if fault.Bug("view-ring-gap") && e.Seq%7 == 0 {
			e = &change.Epoch{Seq: e.Seq, Stamp: e.Stamp}
		}
		if raw = appendEpoch(raw, e); len(raw) < ringPage && i+1 < len(epochs) {
			continue
		}
		p := storedEpochs{f.ring.next, epochs[first].Seq, e.Seq}
		if _, err := w.Put(f.ring.object, p.number, nil, raw); err != nil {
			return err
		}
		fault.Point("view.ring_put")
		pages = append(pages, p)
		f.ring.next++
		raw, first = raw[:0], i+1
	}
	f.ring.pages = pages
	return nil
}

// tail returns the newest epochs that a checkpoint can have: without a hole up to the head, within the bound, which the newest alone may pass as long as it
// is within mostRing.
func (f *Frozen) tail() []*change.Epoch {
	bytes, next := 0, f.root.Head
	i := len(f.epochs)
	for ; i > 0; i-- {
		e := f.epochs[i-1]
		bytes += held(e)
		if e.Seq != next || bytes > f.bound && (bytes > mostRing || i < len(f.epochs)) {
			break
		}
		next--
	}
	return f.epochs[i:len(f.epochs):len(f.epochs)]
}

// Done ends a freeze: the checkpoint was committed, or it was not. Apply's caller calls it.
func (s *Store) Done(f *Frozen, committed bool) {
	if s.frozen != f {
		panic("view: the end of a freeze that is none")
	}
	s.frozen = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	f.mark.committed.Store(committed)
	if committed {
		s.stored = f.ring
	}
	for i := range f.trees {
		f.trees[i].done(committed)
	}
}

// done makes the outcome of a checkpoint known to the tree.
func (t *frozenTree) done(committed bool) {
	kept, unsure := &t.tree.kept, t.tree.unsure
	t.tree.frozen, t.tree.unsure = 0, nil
	if t.tree.forgotten {
		return
	}
	if !committed {
		kept.dead = append(t.before.dead, kept.dead...)
		return
	}
	kept.free, kept.next = t.kept.free, t.kept.next
	t.tree.cache.stored.Add(t.leaves)
	for _, p := range unsure {
		if p.stored() {
			kept.dead = append(kept.dead, p.number)
			t.tree.cache.stored.Add(-1)
		}
	}
}
