package flow

import (
	"fmt"

	"laaster/internal/checkpoint"
)

// pages visits the pages of a structure. Their number 0 is first, which is known.
func (k *keeper) pages(p *pages, owner paged) {
	switch {
	case k.err != nil:
	case k.visit != nil:
		p.settle()
		k.visit(p)
	case k.loading:
		k.restore(p, owner)
	default:
		if p.settle(); p.object == 0 {
			p.object = k.objects()
		}
		object := uint64(p.object)
		k.u64(&object)
		if k.guard && p.guard == nil {
			p.guard = map[uint32]uint64{}
		}
		if p.guard != nil {
			p.check(owner, k.place)
		}
		p.freeze(owner, k.frozen)
	}
}

func (k *keeper) restore(p *pages, owner paged) {
	object := uint64(0)
	k.u64(&object)
	if k.err != nil {
		return
	}
	err := p.restore(owner, k.from, checkpoint.ObjectID(object))
	if err == nil {
		k.budget, err = p.readAll(k.budget)
	}
	if err != nil {
		k.fail(err)
	}
}

// slab visits a slab. What points into it has to be visited too.
func (k *keeper) slab(s *slab) {
	if k.loading {
		*s = slab{pages: make([]page, 1), open: make([]uint32, classes())}
	}
	bytes := s.bytes
	if k.pages(&s.store, s); k.loading {
		s.adopted()
	}
	if k.num(&bytes); bytes != s.bytes {
		k.fail(fmt.Errorf("its blocks have %d bytes where %d were expected", s.bytes, bytes))
	}
}

func (k *keeper) table(t *table) {
	if k.loading {
		*t = table{}
	}
	k.slab(&t.slab)
	for i := range t.seed {
		k.u64(&t.seed[i])
	}
	k.num(&t.n)
	if k.pages(&t.segs, t); k.loading && k.err == nil {
		k.fail(t.adopted())
	}
}

func (k *keeper) tree(t *tree) {
	if k.loading {
		*t = tree{}
	}
	k.slab(&t.slab)
	k.u32(&t.spare)
	k.u32(&t.made)
	k.u32(&t.root)
	k.num(&t.depth)
	k.num(&t.n)
	k.num(&t.size)
	if k.pages(&t.nodes, t); k.loading && k.err == nil {
		k.fail(t.adopted())
	}
}

func (k *keeper) fifo(q *fifo) {
	k.u64(&q.head)
	k.u64(&q.tail)
	if k.loading {
		q.store = pages{first: uint32(q.head / fifoPage)}
	}
	if k.pages(&q.store, q); k.loading && k.err == nil {
		k.fail(q.adopted())
	}
}

func (k *keeper) stamps(s *stamps) {
	for _, r := range []*runOf{&s.oldest, &s.newest} {
		k.i64(&r.stamp)
		k.u64(&r.n)
	}
	k.fifo(&s.between)
}

func (k *keeper) queue(q *rowQueue) {
	n := uint64(len(q.store.list))
	first := q.store.first
	k.u32(&first)
	k.u64(&n)
	k.num(&q.at)
	k.i64(&q.n)
	k.num(&q.size)
	k.sum(&q.sum)
	if k.loading {
		q.store = pages{first: first}
	}
	if k.pages(&q.store, q); k.loading && k.err == nil {
		k.fail(q.adopted(n))
	}
	k.stamps(&q.stamps)
}

func (k *keeper) window(w *window) {
	k.table(&w.t)
	k.fifo(&w.queue)
	k.stamps(&w.stamps)
	k.sum(&w.sum)
}
