package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"

	"laaster/internal/kit/fault"
)

const (
	maxFiles   = 64        // that the pages of one checkpoint may be in; beyond it the smallest are carried over until mergedTo are left
	mergedTo   = 48        //
	roomTenths = 15        // files may take 1.5 times the live bytes before pages are carried over for the sake of room
	carryLeast = 256 << 10 // bytes that a checkpoint may carry over though little in it made anything dead
	entryBytes = 32        // of a page in an index, about
)

// Writer writes one checkpoint. One goroutine uses it. Nothing of it is visible before Commit returned nil.
type Writer struct {
	s       *Store
	out     *output
	base    *checkpoint // nil: none
	prev    *file       // of the checkpoint that is kept besides this one
	header  Header
	parts   []part
	next    *index
	trees   map[ObjectID]*pages          // of next, those that may be changed
	changes map[ObjectID]map[uint32]bool // true: put, false: deleted
	kept    map[ObjectID]bool
	moved   map[*stored]*place // pages that were carried over: they are there once the commit is
	freed   int64              // bytes of frames that this checkpoint makes dead
	err     error              // of the first Put that failed; Commit returns it
	ended   bool
}

// Begin starts the next checkpoint, which builds on the newest one committed or loaded, or on nothing. One at a time.
func (s *Store) Begin(h Header) (*Writer, error) {
	switch {
	case s.o.ReadOnly:
		return nil, errReadOnly
	case h.Log != s.o.Log || h.Shard != s.o.Shard:
		return nil, fmt.Errorf("a checkpoint of shard %d of log %s does not belong into the store of shard %d of log %s", h.Shard, h.Log, s.o.Shard, s.o.Log)
	case len(h.Catalog) > MaxPart:
		return nil, fmt.Errorf("the catalog of %d bytes is larger than %d", len(h.Catalog), MaxPart)
	}
	if !s.writing.TryLock() {
		return nil, errBusy
	}
	s.mu.Lock()
	w := &Writer{s: s, base: s.mu.base, header: h, next: newIndex(), trees: map[ObjectID]*pages{}, changes: map[ObjectID]map[uint32]bool{},
		kept: map[ObjectID]bool{}, moved: map[*stored]*place{}}
	seq := s.mu.next
	s.mu.next++ // no number is used twice, also when this one fails
	s.mu.Unlock()
	if w.base != nil {
		w.next, w.prev = w.base.index.clone(), w.base.file
	} else {
		w.prev = s.newest()
	}
	out, err := s.newOutput(s.o.Dir, seq, false)
	if err != nil {
		s.writing.Unlock()
		return nil, err
	}
	w.out = out
	return w, nil
}

var errReadOnly = errors.New("the store of checkpoints was opened to be read only")

// tree returns the pages of an object, to be changed.
func (w *Writer) tree(o ObjectID) *pages {
	t := w.trees[o]
	if t == nil {
		if t = w.next.objects[o]; t == nil {
			t = &pages{}
		} else {
			t = t.Copy()
		}
		w.trees[o], w.next.objects[o] = t, t
		w.changes[o] = map[uint32]bool{}
	}
	return t
}

// Put stores a page, in place of the one with that number that the checkpoint before had. data is the caller's again on return. The Ref may be read
// after Commit only.
func (w *Writer) Put(o ObjectID, page uint32, meta, data []byte) (Ref, error) {
	if w.err != nil {
		return Ref{}, w.err
	}
	if o == 0 || len(meta) > MaxMeta || len(data) > MaxPage {
		w.err = fmt.Errorf("page %d of object %d has %d bytes and a meta of %d: at most %d and %d, and no object 0", page, o, len(data), len(meta), MaxPage, MaxMeta)
		return Ref{}, w.err
	}
	at, err := w.out.page(o, page, meta, data)
	if err != nil {
		w.err = err
		return Ref{}, err
	}
	s := newStored(o, page, meta, len(data), at)
	before := w.next.bytes
	w.next.put(w.tree(o), s, at)
	w.freed += before + at.size() - w.next.bytes
	w.changes[o][page] = true
	w.kept[o] = true
	w.s.had(uint64(o))
	return Ref{s}, nil
}

// Delete removes a page that the checkpoint before had. It does not keep the object.
func (w *Writer) Delete(o ObjectID, page uint32) {
	before := w.next.bytes
	w.next.delete(w.tree(o), page)
	w.freed += before - w.next.bytes
	w.changes[o][page] = false
}

// Keep keeps the pages of an object that are neither Put nor Deleted. Objects that nobody Keeps or Puts are gone with the commit.
func (w *Writer) Keep(o ObjectID) { w.kept[o] = true }

// Part sets a root part. It is kept until Commit and must not be changed.
func (w *Writer) Part(name string, root []byte) {
	if len(root) > MaxPart {
		w.err = cmp.Or(w.err, fmt.Errorf("the root part %q of %d bytes is larger than %d", name, len(root), MaxPart))
	}
	w.parts = append(slices.DeleteFunc(w.parts, func(p part) bool { return p.name == name }), part{name, root})
}

// Written returns the bytes of the checkpoint's own file so far.
func (w *Writer) Written() int64 { return w.out.at }

// Commit makes the checkpoint durable and visible, and removes the files that neither it nor the one before needs. After an error the store is as before
// Begin; call Abort. A page that is damaged and still needed is such an error (a *Damage): no checkpoint is made that could not be loaded.
func (w *Writer) Commit() error {
	if w.ended {
		return errors.New("this checkpoint has ended")
	}
	if w.err != nil {
		return w.err
	}
	dropped := w.drop()
	if err := w.carry(); err != nil {
		return err
	}
	c := &checkpoint{file: w.out.file, parts: w.parts, index: w.next, chain: []*file{w.out.file}}
	t := w.tail(c, dropped)
	if fault.Bug("checkpoint-early-remove") {
		w.s.keepOnly(nil, nil)
	}
	if err := w.out.finish(t); err != nil {
		return err
	}
	for s, p := range w.moved {
		s.at.Store(p)
	}
	w.s.committed(c, w.prev)
	w.end()
	return nil
}

// Abort ends a checkpoint that is not to be, also after a failed Commit; the store is as before Begin. After a Commit that returned nil it does nothing.
func (w *Writer) Abort() {
	if w.ended {
		return
	}
	w.end()
}

func (w *Writer) end() {
	w.ended = true
	if err := w.out.abandon(); err != nil {
		w.s.o.Slog.Warn("an unfinished checkpoint stays until the next start", "file", w.out.temp, "err", err)
	}
	w.s.writing.Unlock()
}

// drop removes the objects that nobody keeps, and those without pages, and returns which the checkpoint before had.
func (w *Writer) drop() (dropped []ObjectID) {
	before := w.next.bytes
	for o, tree := range w.next.objects {
		if !w.kept[o] || tree.Len() == 0 {
			w.next.drop(o)
			if w.base != nil && w.base.index.objects[o] != nil {
				dropped = append(dropped, o)
			}
			delete(w.changes, o)
		}
	}
	slices.Sort(dropped)
	w.freed += before - w.next.bytes
	return dropped
}

// carry copies live pages out of files that are damaged, mostly dead, or small and too many, so that these go one checkpoint later.
func (w *Writer) carry() error {
	victims := w.victims()
	if len(victims) == 0 {
		return nil
	}
	for _, o := range w.next.sorted() {
		var pages []*stored
		w.next.objects[o].Scan(func(_ uint32, s *stored) bool {
			if at := s.at.Load(); victims[at.f] > 0 {
				victims[at.f] -= at.size()
				pages = append(pages, s)
			}
			return true
		})
		for _, s := range pages {
			if err := w.move(s); err != nil {
				return err
			}
		}
	}
	fault.Point("checkpoint.carried")
	return nil
}

func (w *Writer) move(s *stored) (err error) {
	old := s.at.Load()
	var at *place
	if e := s.read(old, func(data, meta []byte) { at, err = w.out.page(s.object, s.page, meta, data) }); e != nil {
		return fmt.Errorf("a page that is still needed cannot be carried over: start again, so that the state is made from another checkpoint: %w", e)
	}
	if err != nil {
		return err
	}
	w.moved[s] = at
	w.next.count(old, -1)
	w.next.count(at, +1)
	if w.changes[s.object] == nil {
		w.changes[s.object] = map[uint32]bool{}
	}
	w.changes[s.object][s.page] = true
	return nil
}

// victims chooses the files whose live pages are carried over, and how many bytes of each: all of the damaged ones; while the files take more than
// 1.5 times what is live the deadest, up to twice as many bytes as this checkpoint made dead (so that carrying keeps up, a large file being
// emptied over several checkpoints); and the smallest when there are too many.
func (w *Writer) victims() map[*file]int64 {
	out := map[*file]int64{}
	var files []*file
	total := w.out.at
	for f := range w.next.use {
		switch {
		case f == w.out.file:
			continue
		case f.hurt.Load() != nil:
			out[f] = math.MaxInt64
			continue
		}
		total += f.size
		files = append(files, f)
	}
	live := func(f *file) int64 { return w.next.use[f].bytes }
	slices.SortFunc(files, func(a, b *file) int {
		return cmp.Or(cmp.Compare(float64(live(a))/float64(a.size), float64(live(b))/float64(b.size)), cmp.Compare(a.seq, b.seq))
	})
	for budget := max(2*w.freed, carryLeast); len(files) > 0 && budget > 0; files = files[1:] {
		f := files[0]
		if n := live(f); total*10 <= w.next.bytes*roomTenths || n*10 > f.size*9 {
			break
		}
		out[f] = min(live(f), budget)
		budget -= out[f]
		total += out[f] - f.size
	}
	if len(files) > maxFiles {
		slices.SortFunc(files, func(a, b *file) int { return cmp.Or(cmp.Compare(live(a), live(b)), cmp.Compare(a.seq, b.seq)) })
		for _, f := range files[:len(files)-mergedTo] {
			out[f] = math.MaxInt64
		}
	}
	return out
}

// tail makes what stands behind the pages, and completes c with it.
func (w *Writer) tail(c *checkpoint, dropped []ObjectID) *tail {
	t := &tail{header: w.header, made: w.s.o.Clock.Now().UnixMicro(), objects: w.s.objects.Load(), parts: w.parts, full: true, parent: -1}
	changed := len(dropped)
	for _, pages := range w.changes {
		changed += len(pages)
	}
	if w.mayDiffer(changed) {
		t.full = false
		c.chain = append(c.chain, w.base.chain...)
		c.changes = w.base.changes + changed
	}
	files := maps.Clone(w.next.use)
	for _, f := range c.chain {
		files[f] = use{}
	}
	delete(files, w.out.file)
	number := map[*file]int{w.out.file: 0}
	for _, f := range slices.SortedFunc(maps.Keys(files), func(a, b *file) int { return cmp.Compare(a.seq, b.seq) }) {
		t.needs = append(t.needs, need{f.seq, f.id, f.size, f.foot.sum})
		number[f] = len(t.needs)
	}
	if t.full {
		t.changes = w.all(number)
		return t
	}
	t.parent = number[w.base.file] - 1
	t.changes = w.differences(number, dropped)
	return t
}

// mayDiffer decides whether the index lists only what changed. It lists everything when the lists since the last full one have grown to half of it, and when the
// files that are kept for their lists only, or their number, cost more than a full one.
func (w *Writer) mayDiffer(changed int) bool {
	if w.base == nil || w.base.changes+changed > w.next.pages/2 || len(w.base.chain) >= maxFiles {
		return false
	}
	dead := int64(0)
	for _, f := range w.base.chain {
		if f.hurt.Load() != nil {
			return false
		}
		if w.next.use[f].pages == 0 {
			dead += f.size
		}
	}
	return dead <= entryBytes*int64(w.next.pages)
}

func (w *Writer) all(number map[*file]int) []objectTail {
	out := make([]objectTail, 0, len(w.next.objects))
	for _, o := range w.next.sorted() {
		c := objectTail{object: o}
		w.next.objects[o].Scan(func(_ uint32, s *stored) bool { c.puts = append(c.puts, w.put(s, number)); return true })
		out = append(out, c)
	}
	return out
}

func (w *Writer) differences(number map[*file]int, dropped []ObjectID) (out []objectTail) {
	for _, o := range dropped {
		out = append(out, objectTail{object: o, dropped: true})
	}
	for _, o := range slices.Sorted(maps.Keys(w.changes)) {
		c := objectTail{object: o}
		for _, page := range slices.Sorted(maps.Keys(w.changes[o])) {
			if !w.changes[o][page] {
				c.deleted = append(c.deleted, page)
				continue
			}
			s, _ := w.next.objects[o].Get(page)
			c.puts = append(c.puts, w.put(s, number))
		}
		if len(c.puts)+len(c.deleted) > 0 {
			out = append(out, c)
		}
	}
	return out
}

func (w *Writer) put(s *stored, number map[*file]int) putTail {
	at := w.moved[s]
	if at == nil {
		at = s.at.Load()
	}
	return putTail{page: s.page, file: number[at.f], at: at.at, n: at.n, meta: s.meta[:s.metaN]}
}

// committed makes c what the next checkpoint builds on, and removes what is not needed any more.
func (s *Store) committed(c *checkpoint, prev *file) {
	s.mu.Lock()
	s.mu.base = c
	s.mu.files = append(s.mu.files, c.file)
	s.mu.Unlock()
	s.keepOnly(c.file, prev)
}

// keepOnly removes every file of the folder that the checkpoints of neither file need.
func (s *Store) keepOnly(newest, prev *file) {
	keep := map[uint64]bool{}
	for _, f := range []*file{newest, prev} {
		if f != nil {
			keep[f.seq] = true
			for _, n := range f.needs {
				keep[n.seq] = true
			}
		}
	}
	s.mu.Lock()
	files := slices.Clone(s.mu.files)
	s.mu.Unlock()
	s.remove(files, func(f *file) bool { return !keep[f.seq] }, &s.mu.files)
}

// remove takes files away. One that cannot be removed stays and is tried again with the next checkpoint.
func (s *Store) remove(files []*file, gone func(*file) bool, from *[]*file) {
	removed := map[*file]bool{}
	for _, f := range files {
		if !gone(f) {
			continue
		}
		if err := f.unusable(); err != nil {
			s.o.Slog.Warn("a checkpoint that cannot be used is replaced by a newer one", "file", f.path, "err", err)
		}
		if err := s.fs.Remove(f.path); err != nil {
			s.o.Slog.Warn("an old checkpoint stays until the next one", "file", filepath.Base(f.path), "err", err)
			continue
		}
		removed[f] = true
		fault.Point("checkpoint.old_removed")
	}
	s.mu.Lock()
	*from = slices.DeleteFunc(slices.Clone(*from), func(f *file) bool { return removed[f] })
	s.mu.Unlock()
}
