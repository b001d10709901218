package flow

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"laaster/internal/change"
	"laaster/internal/checkpoint"
	"laaster/internal/kit/disk/simdisk"
	kitrun "laaster/internal/kit/run"
)

// kept is one structure of each kind, with a model of it, under random operations.
type kept struct {
	rnd   *rand.Rand
	wide  int // how many keys there may be
	slab  slab
	table table
	tree  tree
	queue rowQueue
	seen  window
	stamp int64
	cache cache

	blocks  map[ref]string
	values  map[string]string
	weights map[string]int64
	rows    []keptRow
	keys    []keptRow
}

type keptRow struct {
	text  string
	stamp int64
}

func newKept(seed uint64) *kept {
	k := &kept{rnd: rand.New(rand.NewPCG(seed, 7)), slab: newSlab(), table: newTable(), tree: newTree(), seen: newWindow(domainSeen, 0),
		blocks: map[ref]string{}, values: map[string]string{}, weights: map[string]int64{}}
	k.wide = []int{20, 400, 3000, 20000}[k.rnd.IntN(4)]
	return k
}

func (k *kept) state(s *keeper) {
	s.section("slab")
	s.slab(&k.slab)
	s.section("table")
	s.table(&k.table)
	s.section("tree")
	s.tree(&k.tree)
	s.section("queue")
	s.queue(&k.queue)
	s.section("seen")
	s.window(&k.seen)
	s.i64(&k.stamp)
}

// copy returns a kept with the model of k and no structures.
func (k *kept) copy() *kept {
	return &kept{rnd: k.rnd, wide: k.wide, stamp: k.stamp, blocks: maps.Clone(k.blocks), values: maps.Clone(k.values), weights: maps.Clone(k.weights),
		rows: slices.Clone(k.rows), keys: slices.Clone(k.keys)}
}

func (k *kept) text(most int) string {
	b := make([]byte, 1+k.rnd.IntN(most))
	for i := range b {
		b[i] = byte(k.rnd.Uint32())
	}
	return string(b)
}

func (k *kept) size() int {
	switch k.rnd.IntN(300) {
	case 0:
		return 40_000
	case 1, 2:
		return 4000
	default:
		return 60
	}
}

// batch changes everything a little.
func (k *kept) batch() {
	k.stamp += k.rnd.Int64N(3)
	grow := k.rnd.IntN(10) < 6
	for range 1 + k.rnd.IntN(200) {
		switch k.rnd.IntN(5) {
		case 0:
			k.changeSlab(grow)
		case 1:
			k.changeTable(grow)
		case 2:
			k.changeTree(grow)
		case 3:
			k.changeQueue(grow)
		case 4:
			k.changeSeen()
		}
	}
	if k.rnd.IntN(10) == 0 {
		until := k.stamp - k.rnd.Int64N(30)
		k.seen.expire(until)
		for len(k.keys) > 0 && k.keys[0].stamp <= until {
			k.keys = k.keys[1:]
		}
	}
}

func (k *kept) changeSlab(grow bool) {
	for r, text := range k.blocks { // any one
		switch {
		case k.rnd.IntN(3) == 0:
			text = k.text(1) + text[1:]
			copy(k.slab.edit(r), text)
			k.blocks[r] = text
		case !grow:
			k.slab.release(r)
			delete(k.blocks, r)
		}
		break
	}
	if grow {
		text := k.text(k.size())
		r := k.slab.alloc(len(text))
		copy(k.slab.at(r), text)
		k.blocks[r] = text
	}
}

func (k *kept) changeTable(grow bool) {
	key := binary.BigEndian.AppendUint32(nil, uint32(k.rnd.IntN(k.wide)))
	h := k.table.hash(key)
	r := k.table.find(h, key)
	switch {
	case r != 0 && !grow:
		k.table.remove(h, r)
		delete(k.values, string(key))
		return
	case r == 0 && !grow:
		return
	case r != 0 && k.rnd.IntN(2) == 0:
		v := k.table.edit(r)
		v[0]++
		k.values[string(key)] = string(v)
		return
	}
	text := k.text(k.size())
	if r == 0 {
		r = k.table.insert(h, key, len(text))
	} else {
		r = k.table.resize(h, r, len(text))
	}
	copy(k.table.value(r), text)
	k.values[string(key)] = text
}

func (k *kept) changeTree(grow bool) {
	key := binary.BigEndian.AppendUint32([]byte("a key "), uint32(k.rnd.IntN(k.wide)))
	w := int64(1)
	if had := k.weights[string(key)]; had > 0 && !grow {
		w = -had
	} else if !grow {
		return
	}
	k.tree.add(key, key, w)
	if k.weights[string(key)] += w; k.weights[string(key)] == 0 {
		delete(k.weights, string(key))
	} else if k.rnd.IntN(4) == 0 {
		c := k.tree.seek(key)
		c.set(key) // another value would have to be in the model, the same one marks as well
	}
}

func (k *kept) changeQueue(grow bool) {
	if len(k.rows) > 0 && (!grow || k.rnd.IntN(2) == 0) {
		k.queue.pop()
		k.rows = k.rows[1:]
	}
	if grow {
		text := k.text(k.size())
		k.queue.push(change.Row(text), k.stamp)
		k.rows = append(k.rows, keptRow{text, k.stamp})
	}
}

func (k *kept) changeSeen() {
	if len(k.keys) > 0 && k.rnd.IntN(4) == 0 {
		key := []byte(k.keys[k.rnd.IntN(len(k.keys))].text)
		h := k.seen.t.hash(key)
		r := k.seen.t.find(h, key)
		k.seen.resize(h, r, k.rnd.IntN(2)*40)
		return
	}
	key := []byte(k.text(20))
	if h := k.seen.t.hash(key); k.seen.t.find(h, key) == 0 {
		k.seen.insert(h, key, 0, k.stamp)
		k.keys = append(k.keys, keptRow{string(key), k.stamp})
	}
}

// equal holds the structures against the model.
func (k *kept) equal(t *testing.T) {
	t.Helper()
	for r, text := range k.blocks {
		if string(k.slab.at(r)[:len(text)]) != text {
			t.Fatalf("block %x is not what it was", r)
		}
	}
	if k.table.n != len(k.values) {
		t.Fatalf("the table has %d entries, want %d", k.table.n, len(k.values))
	}
	for key, text := range k.values {
		if r := k.table.find(k.table.hash([]byte(key)), []byte(key)); r == 0 || string(k.table.value(r)) != text {
			t.Fatalf("key %x is not what it was", key)
		}
	}
	if k.tree.n != len(k.weights) {
		t.Fatalf("the tree has %d entries, want %d", k.tree.n, len(k.weights))
	}
	checkTree(t, &k.tree)
	for c := k.tree.first(); c.valid(); c.next() {
		if k.weights[string(c.key())] != c.weight() || !bytes.Equal(c.key(), c.value()) {
			t.Fatalf("key %x of the tree has weight %d", c.key(), c.weight())
		}
	}
	k.equalQueues(t)
}

func (k *kept) equalQueues(t *testing.T) {
	t.Helper()
	if k.queue.n != int64(len(k.rows)) || k.seen.t.n != len(k.keys) || len(k.rows) > 0 && k.queue.first() != k.rows[0].stamp {
		t.Fatalf("the queue has %d rows, want %d, the window %d keys, want %d", k.queue.n, len(k.rows), k.seen.t.n, len(k.keys))
	}
	if got, want := k.queue.waiting(k.stamp-1, 1<<40), int64(0); got > 0 || want > 0 {
		for _, r := range k.rows {
			if r.stamp < k.stamp {
				want++
			}
		}
		if got != want {
			t.Fatalf("%d rows wait, want %d", got, want)
		}
	}
	w := k.seen.walk()
	for _, key := range k.keys {
		if w.next(); w.r == 0 || string(k.seen.t.key(w.r)) != key.text || w.stamp != key.stamp {
			t.Fatal("the window is not what it was")
		}
	}
}

// drain takes everything out of the queues, comparing it.
func (k *kept) drain(t *testing.T) {
	for _, r := range k.rows {
		if !k.queue.due(r.stamp) || k.queue.due(r.stamp-1) || string(k.queue.pop()) != r.text {
			t.Fatal("a row is not what it was")
		}
	}
	k.seen.expire(k.stamp)
	if k.queue.n != 0 || k.queue.sum != (sum128{}) || k.queue.size != 0 || k.seen.t.n != 0 || k.seen.queue.len() != 0 {
		t.Fatal("something is left")
	}
	k.rows, k.keys = nil, nil
}

// image is what a freeze is to store: by object and page, meta and bytes.
func image(f *Frozen, before map[string]string) map[string]string {
	out := map[string]string{}
	objects := map[string]bool{}
	name := func(o checkpoint.ObjectID, page uint32) string { return fmt.Sprintf("%d/%d", o, page) }
	for _, g := range f.flocks {
		objects[strconv.Itoa(int(g.object))] = true
	}
	for n, data := range before {
		if o, _, _ := bytes.Cut([]byte(n), []byte("/")); objects[string(o)] {
			out[n] = data
		}
	}
	for _, g := range f.flocks {
		for _, n := range g.gone {
			delete(out, name(g.object, n))
		}
		for i := range g.flights {
			x := &g.flights[i]
			out[name(g.object, x.number)] = string(x.meta[:x.metaLen]) + string(x.data)
		}
	}
	return out
}

func seeds(short int) int {
	if n, err := strconv.Atoi(os.Getenv("LAASTER_SEEDS")); err == nil {
		return n
	}
	return short
}

var errGivenUp = errors.New("given up")

// Structures under random changes, with checkpoints that are written beside, fail or are committed, with evictions and with starts from the last
// checkpoint: what is stored is what was there at the freeze, byte for byte, and what is loaded is that.
func TestPages(t *testing.T) {
	for seed := range uint64(seeds(12)) {
		t.Run(strconv.Itoa(int(seed)), func(t *testing.T) { testPages(t, seed) })
	}
}

// pagesWorld is one seed of TestPages.
type pagesWorld struct {
	t       *testing.T
	store   *checkpoint.Store
	group   *kitrun.Group
	k       *kept
	stored  map[string]string // of the last checkpoint
	at      *kept             // the model at that one
	frozen  *Frozen           // under way; nil: none
	next    map[string]string // what it is to store
	then    *kept
	written chan error
	seq     uint64
	commits int
	started int
}

func testPages(t *testing.T, seed uint64) {
	store, err := checkpoint.Open(checkpoint.Options{Dir: "c", Log: change.LogID{1}, FS: simdisk.New(seed)})
	if err != nil {
		t.Fatal(err)
	}
	w := &pagesWorld{t: t, store: store, group: kitrun.New(t.Context()), k: newKept(seed), written: make(chan error, 1)}
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		w.k.batch()
		switch {
		case w.frozen != nil && rnd.IntN(4) == 0:
			w.done(<-w.written)
		case w.frozen == nil && rnd.IntN(8) == 0:
			w.freeze(rnd.IntN(5), rnd.Uint64())
		case w.frozen == nil && w.at != nil && rnd.IntN(40) == 0:
			w.start(rnd.IntN(3))
		}
		if rnd.IntN(6) == 0 {
			w.trim(int64(rnd.IntN(1 << rnd.IntN(22))))
		}
		if rnd.IntN(20) == 0 {
			w.k.equal(t)
		}
		if rnd.IntN(20) == 0 { // as Take does
			moved := *w.k
			w.k = &moved
		}
	}
	if w.frozen != nil {
		w.done(<-w.written)
	}
	w.k.equal(t)
	w.k.drain(t)
	w.k.equal(t)
	if err := errors.Join(w.group.Wait(), store.Close()); err != nil {
		t.Fatal(err)
	}
	if w.commits == 0 || w.started == 0 && seeds(12) > 4 && seed == 0 {
		t.Errorf("%d checkpoints were committed and %d loaded", w.commits, w.started)
	}
}

func (w *pagesWorld) freeze(how int, seed uint64) {
	k := freezing(w.store.NewObject)
	k.guard = true
	w.k.state(k)
	w.frozen, w.then = k.done(), w.k.copy()
	w.next = image(w.frozen, w.stored)
	w.seq++
	cp, err := w.store.Begin(checkpoint.Header{Log: change.LogID{1}, Seq: w.seq})
	if err != nil {
		w.t.Fatal(err)
	}
	frozen, written := w.frozen, w.written
	w.group.Go("writer", func(context.Context) error {
		slow := &slowWriter{Writer: cp, rnd: rand.New(rand.NewPCG(seed, 2)), fails: -1}
		if how == 0 {
			slow.fails = slow.rnd.IntN(40)
		}
		err := frozen.writeTo(slow)
		if err == nil && how == 1 {
			err = errGivenUp
		}
		if err == nil {
			err = cp.Commit()
		}
		if err != nil {
			cp.Abort()
		}
		written <- err
		return nil
	})
}

// slowWriter lets the engine's goroutine go on between pages.
type slowWriter struct {
	*checkpoint.Writer
	rnd   *rand.Rand
	fails int
}

func (s *slowWriter) Put(o checkpoint.ObjectID, page uint32, meta, data []byte) (checkpoint.Ref, error) {
	for range s.rnd.IntN(4) {
		runtime.Gosched()
	}
	if s.fails == 0 {
		return checkpoint.Ref{}, errGivenUp
	}
	s.fails--
	return s.Writer.Put(o, page, meta, data)
}

func (w *pagesWorld) done(err error) {
	w.t.Helper()
	if err != nil && !errors.Is(err, errGivenUp) {
		w.t.Fatal(err)
	}
	w.frozen.done(err == nil)
	w.frozen = nil
	if err != nil {
		return
	}
	w.commits++
	w.stored, w.at = w.next, w.then
	w.compare(w.load())
}

func (w *pagesWorld) load() *checkpoint.State {
	w.t.Helper()
	list := w.store.List()
	if len(list) == 0 || list[0].Err != nil {
		w.t.Fatalf("no checkpoint: %+v", list)
	}
	from, err := w.store.Load(list[0], true)
	if err != nil {
		w.t.Fatal(err)
	}
	return from
}

// compare holds what is stored against what was there at the freeze.
func (w *pagesWorld) compare(from *checkpoint.State) {
	w.t.Helper()
	pages := 0
	objects := map[string]bool{}
	for n := range w.stored {
		o, _, _ := bytes.Cut([]byte(n), []byte("/"))
		objects[string(o)] = true
	}
	for o := range objects {
		id, _ := strconv.Atoi(o)
		for n, page := range from.Pages(checkpoint.ObjectID(id)) {
			pages++
			data, err := page.Ref.Read(nil)
			if name := fmt.Sprintf("%d/%d", id, n); err != nil || w.stored[name] != string(page.Meta)+string(data) {
				w.t.Fatalf("page %s of %d bytes is not what it was (%v)", name, len(data), err)
			}
		}
	}
	if pages != len(w.stored) {
		w.t.Fatalf("%d pages are stored, want %d", pages, len(w.stored))
	}
}

// start goes on with the state of the last checkpoint.
func (w *pagesWorld) start(how int) {
	w.t.Helper()
	w.started++
	from := w.load()
	k := w.at.copy()
	k.seen = newWindow(domainSeen, 0)
	s := loadingFrom(from, from.Part("flow"), []int64{0, 100_000, 1 << 40}[how])
	k.state(s)
	if err := s.loaded(); err != nil {
		w.t.Fatal(err)
	}
	k.equal(w.t)
	w.k = k
}

// trim holds the counts against the pages.
func (w *pagesWorld) trim(limit int64) {
	w.t.Helper()
	s := w.k.cache.trim(limit, w.k.state)
	resident, out, may := int64(0), int64(0), int64(0)
	w.k.state(visiting(func(p *pages) {
		held := 0
		for i := range p.list {
			switch l := &p.list[i]; {
			case l.size > 0 && cap(l.data) == 0:
				out += int64(l.size)
				held += int(l.size)
			case l.size > 0:
				resident += int64(l.size)
				held += int(l.size)
				if l.evictable() {
					may += int64(l.size)
				}
			}
		}
		if held != p.held {
			w.t.Fatalf("%d bytes are held, %d are counted", held, p.held)
		}
	}))
	if s.Resident != resident || s.Stored != out || resident > limit && may > 0 {
		w.t.Fatalf("%d bytes are in memory, of which %d may go, and %d are not; %+v with a limit of %d", resident, may, out, s, limit)
	}
}
