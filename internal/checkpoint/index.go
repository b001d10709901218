package checkpoint

import (
	"maps"
	"slices"

	"github.com/tidwall/btree"
)

// index says where every page of a checkpoint is. It does not change once its checkpoint is there: the next one works on a clone that shares what
// stays the same.
type index struct {
	objects map[ObjectID]*pages
	use     map[*file]use
	pages   int
	bytes   int64 // of the frames of all live pages
}

type pages = btree.Map[uint32, *stored]

// use is what of a file is live.
type use struct {
	pages int
	bytes int64 // of their frames
}

func newIndex() *index {
	return &index{objects: map[ObjectID]*pages{}, use: map[*file]use{}}
}

// clone returns an index to change; owned objects of it may be changed in place, see edit.
func (x *index) clone() *index {
	return &index{objects: maps.Clone(x.objects), use: maps.Clone(x.use), pages: x.pages, bytes: x.bytes}
}

// count adjusts what is live: by is 1 or -1.
func (x *index) count(p *place, by int) {
	u := x.use[p.f]
	u.pages += by
	u.bytes += int64(by) * p.size()
	x.pages += by
	x.bytes += int64(by) * p.size()
	if u.pages == 0 {
		delete(x.use, p.f)
		return
	}
	x.use[p.f] = u
}

// put and delete change the pages of an object that the caller owns; place is where what is replaced counted, nil: where it says.
func (x *index) put(tree *pages, s *stored, at *place) {
	if old, had := tree.Set(s.page, s); had {
		x.count(old.at.Load(), -1)
	}
	x.count(at, +1)
}

func (x *index) delete(tree *pages, page uint32) {
	if old, had := tree.Delete(page); had {
		x.count(old.at.Load(), -1)
	}
}

// drop removes an object.
func (x *index) drop(o ObjectID) {
	if tree := x.objects[o]; tree != nil {
		tree.Scan(func(_ uint32, s *stored) bool { x.count(s.at.Load(), -1); return true })
		delete(x.objects, o)
	}
}

// sorted returns the objects, ascending.
func (x *index) sorted() []ObjectID { return slices.Sorted(maps.Keys(x.objects)) }

// apply makes of the index of a checkpoint that of the one whose tail this is. f is the tail's file; needs are the files that it names, in its order.
func (x *index) apply(t *tail, f *file, needs []*file) error {
	for i := range t.changes {
		c := &t.changes[i]
		if c.dropped {
			x.drop(c.object)
			continue
		}
		tree := x.objects[c.object]
		if tree == nil {
			tree = &pages{}
			x.objects[c.object] = tree
		}
		for j := range c.puts {
			p := &c.puts[j]
			at := &place{f: f, at: p.at, n: p.n}
			if p.file > 0 {
				at.f = needs[p.file-1]
			}
			length := int(p.n) - len(p.meta) - at.f.overhead()
			if !at.within() || length < 0 {
				return f.damage(f.foot.at, "its index names a page that is not in its file")
			}
			x.put(tree, newStored(c.object, p.page, p.meta, length, at), at)
		}
		for _, page := range c.deleted {
			x.delete(tree, page)
		}
		if tree.Len() == 0 {
			delete(x.objects, c.object)
		}
	}
	return nil
}
