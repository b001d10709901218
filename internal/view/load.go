package view

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/expr"
)

// Load returns the store as it was in a checkpoint. rels are the relations by index, as when it was frozen; those without a name are not wanted any
// more. The directory of the rows is read and checked, and rows up to Options.Memory; the others are read, and checked, when they are needed. The
// error for what is not as it was written is a *checkpoint.Damage.
func Load(rels []*expr.Relation, opt Options, from *checkpoint.State) (*Store, error) {
	var root rootPart
	if err := json.Unmarshal(from.Part(part), &root); err != nil {
		return nil, damage(0, 0, "the root of the rows is not readable: "+err.Error())
	}
	switch {
	case root.Version > partVersion:
		return nil, &change.NewerError{What: "rows in a checkpoint", Version: root.Version, Known: partVersion}
	case root.Version < 1:
		return nil, damage(0, 0, "the root of the rows has no version")
	}
	if len(rels) != len(root.Relations) {
		return nil, fmt.Errorf("view: a checkpoint of %d relations is loaded for %d", len(root.Relations), len(rels))
	}
	s := New(rels, opt)
	s.cache.limit.Store(opt.Memory)
	for i := range root.Relations {
		r, state := &root.Relations[i], &s.mu.state[i]
		state.last, state.birth, state.gone = r.Last, r.Birth, r.Gone || rels[i].Name == ""
		if state.gone {
			continue
		}
		if r.Name != rels[i].Name {
			return nil, fmt.Errorf("view: relation %d of the checkpoint is %q, not %q", i, r.Name, rels[i].Name)
		}
		l := loader{from: from, cache: &s.cache, object: r.Object, mark: &mark{}}
		var err error
		if state.tree, err = l.tree(r); err != nil {
			return nil, err
		}
	}
	if err := s.loadRing(from, &root); err != nil {
		return nil, err
	}
	return s, s.preload(opt.Memory)
}

// mostPages is how many pages the rows of one relation may have. Numbers are used again, so this is also how large they are.
const mostPages = 1 << 28

// damage makes the error for what fits its checksum and makes no sense all the same.
func damage(o checkpoint.ObjectID, page uint32, problem string) error {
	return &checkpoint.Damage{Object: o, Page: page, Problem: problem}
}

// loader reads the tree of one relation.
type loader struct {
	from   *checkpoint.State
	cache  *cache
	object checkpoint.ObjectID
	mark   *mark
	pages  []checkpoint.Ref // by number
	used   []bool           // by number
	rows   int
}

func (l *loader) damage(page uint32, format string, args ...any) error {
	return damage(l.object, page, fmt.Sprintf(format, args...))
}

func (l *loader) tree(r *rootRelation) (*tree, error) {
	l.mark.committed.Store(true)
	for number, p := range l.from.Pages(l.object) {
		if number >= mostPages {
			return nil, l.damage(number, "rows have no page of this number")
		}
		l.pages = append(l.pages, make([]checkpoint.Ref, int(number)+1-len(l.pages))...)
		l.pages[number] = p.Ref
	}
	l.used = make([]bool, len(l.pages))
	t := newTree(l.cache)
	root, err := l.branch(r.Root, 0, bounds{end: true})
	if err != nil {
		return nil, err
	}
	if l.rows != r.Rows {
		return nil, l.damage(r.Root, "the directory of %q has %d rows, not %d", r.Name, l.rows, r.Rows)
	}
	t.root, t.rows = root, r.Rows
	t.kept = numbers{object: l.object, next: max(uint32(len(l.pages)), 1)}
	for number := uint32(1); number < t.kept.next; number++ {
		switch {
		case l.pages[number].Zero():
			t.kept.free = append(t.kept.free, number)
		case !l.used[number]:
			return nil, l.damage(number, "no part of the directory of %q has the page", r.Name)
		}
	}
	return t, nil
}

// take returns the page of a number, once.
func (l *loader) take(number uint32) (checkpoint.Ref, error) {
	switch {
	case int(number) >= len(l.pages) || l.pages[number].Zero():
		return checkpoint.Ref{}, l.damage(number, "the page is missing")
	case l.used[number]:
		return checkpoint.Ref{}, l.damage(number, "the page is in the directory twice")
	}
	l.used[number] = true
	return l.pages[number], nil
}

// branch reads the branch of a page and what is below it. Its level must be level, unless that is 0.
func (l *loader) branch(number uint32, level int, in bounds) (*branch, error) {
	ref, err := l.take(number)
	if err != nil {
		return nil, err
	}
	raw, err := ref.Read(nil)
	if err != nil {
		return nil, err
	}
	bad := l.damage(number, "a branch of the directory is malformed")
	if len(raw) == 0 || raw[0] == 0 || level != 0 && int(raw[0]) != level {
		return nil, bad
	}
	r := epochReader{rest: raw[1:]}
	b := &branch{level: int(raw[0]), kids: make([]kid, r.count(2))}
	b.number = number
	b.mark.Store(l.mark)
	last := in.from
	for i := range b.kids {
		k := &b.kids[i]
		if k.begin(r.text()); i > 0 && (k.from <= last || !in.end && k.from >= in.until) {
			return nil, bad
		}
		if i > 0 {
			last = k.from
		}
		if number := r.number32(); b.level > 1 {
			k.branch = &branch{}
			k.branch.number = number
		} else if k.leaf, err = l.leaf(number, r.number32(), r.number32()); err != nil {
			return nil, err
		}
	}
	if r.bad || len(r.rest) > 0 || b.level > 1 && len(b.kids) == 0 {
		return nil, bad
	}
	for i := range b.kids {
		if k := &b.kids[i]; b.level > 1 {
			if k.branch, err = l.branch(k.branch.number, b.level-1, b.bounds(i, in)); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

func (l *loader) leaf(number, rows, size uint32) (*leaf, error) {
	ref, err := l.take(number)
	if err != nil {
		return nil, err
	}
	if int(size) != ref.Len() || rows == 0 {
		return nil, l.damage(number, "a page of rows has %d bytes, its directory says %d and %d rows", ref.Len(), size, rows)
	}
	out := &leaf{size: int32(size), rows: int32(rows), ref: ref}
	out.number = number
	out.mark.Store(l.mark)
	l.cache.with(out)
	l.rows += int(rows)
	return out, nil
}

// loadRing reads the recent epochs.
func (s *Store) loadRing(from *checkpoint.State, root *rootPart) error {
	s.mu.head, s.mu.stamp, s.mu.ring.floor = root.Head, root.Stamp, root.Floor
	s.stored = storedRing{object: root.Ring, next: 1}
	var epochs []*change.Epoch
	for number, p := range from.Pages(root.Ring) {
		raw, err := p.Ref.Read(nil)
		if err != nil {
			return err
		}
		page := storedEpochs{number: number}
		for len(raw) > 0 {
			var e *change.Epoch
			if e, raw, err = decodeEpoch(raw); err != nil {
				return damage(root.Ring, number, "a page of recent epochs: "+err.Error())
			}
			if page.first == 0 {
				page.first = e.Seq
			}
			page.last = e.Seq
			epochs = append(epochs, e)
		}
		s.stored.pages = append(s.stored.pages, page)
		s.stored.next = max(s.stored.next, number+1)
	}
	slices.SortFunc(s.stored.pages, func(a, b storedEpochs) int { return cmp.Compare(a.first, b.first) })
	slices.SortStableFunc(epochs, func(a, b *change.Epoch) int { return cmp.Compare(a.Seq, b.Seq) })
	next := root.Floor + 1
	for _, e := range epochs {
		if e.Seq <= root.Floor {
			continue
		}
		if e.Seq != next {
			return damage(root.Ring, 0, fmt.Sprintf("among the recent epochs %d follows %d", e.Seq, next-1))
		}
		for i := range e.Deltas {
			if e.Deltas[i].Relation >= len(s.mu.state) {
				return damage(root.Ring, 0, fmt.Sprintf("recent epoch %d has an unknown relation", e.Seq))
			}
		}
		s.mu.ring.push(e)
		next++
	}
	if next != root.Head+1 {
		return damage(root.Ring, 0, fmt.Sprintf("the recent epochs end at %d, not at %d", next-1, root.Head))
	}
	return nil
}

// errFull ends the reading of rows at the start.
var errFull = errors.New("view: enough rows are in memory")

// preload reads rows until so many bytes are in memory.
func (s *Store) preload(limit int64) error {
	for i := range s.mu.state {
		t := s.mu.state[i].tree
		err := t.root.walk(bounds{end: true}, func(l *leaf, in bounds) error {
			if s.cache.resident.Load()+int64(l.size) > limit {
				return errFull
			}
			raw, err := l.ref.Read(make([]byte, 0, l.size))
			if err == nil {
				err = l.verify(raw, in)
			}
			if err != nil {
				return err
			}
			l.data.Store(unsafe.SliceData(raw))
			s.cache.count(l)
			s.cache.cold.Add(-1)
			return nil
		})
		if errors.Is(err, errFull) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
