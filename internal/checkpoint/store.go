package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/kit/run"
)

// Store is the checkpoints of one shard in one folder, and their second copy in another. Safe for concurrent use.
type Store struct {
	o       Options
	fs      disk.FS
	objects atomic.Uint64 // the highest id given out
	open    *handles
	pool    sync.Pool // buffers to read into
	closed  chan struct{}

	writing sync.Mutex // held from Begin to Commit or Abort, and by Load: one checkpoint is written at a time
	copying sync.Mutex // held by Copy
	scrub   struct {
		sync.Mutex
		file  *file // being verified
		at    int64
		count int64
	}
	paces [2]pace     // of checkpoints, guarded by writing, and of copies, guarded by copying
	hurry atomic.Bool // the rate does not count any more
	spare chan []byte // a buffer to write from, when nobody does

	mu struct {
		sync.Mutex
		base   *checkpoint // what the next one builds on; nil: nothing
		files  []*file     // in the folder, ascending by sequence number
		copies []*file     // in the folder of the second copy, likewise
		next   uint64      // sequence number of the next file
		copy   uint64      // and of the next copy
		closed bool
	}
}

// checkpoint is one with its index in memory. It does not change.
type checkpoint struct {
	file    *file
	parts   []part
	index   *index
	chain   []*file // the files whose tails make the index, this one first, one with a full index last
	changes int     // pages that the tails but the last of the chain list
}

// Open opens the store of a folder: it reads headers and indexes, not the pages, and removes what a crash left unfinished. A file that cannot be used is no error: List
// says so. Errors are those of the folder.
func Open(o Options) (*Store, error) {
	s := &Store{o: o, fs: o.FS, open: &handles{}, closed: make(chan struct{}), spare: make(chan []byte, 1)}
	if s.fs == nil {
		s.fs = disk.OS{}
	}
	if s.o.Clock == nil {
		s.o.Clock = run.System{}
	}
	if s.o.Slog == nil {
		s.o.Slog = slog.New(slog.DiscardHandler)
	}
	if !o.ReadOnly {
		if err := s.fs.MkdirAll(o.Dir); err != nil {
			return nil, fmt.Errorf("folder of checkpoints: %w", err)
		}
	}
	err := s.scan()
	if err != nil {
		return nil, errors.Join(err, s.open.closeAll())
	}
	return s, nil
}

// scan reads what is in both folders.
func (s *Store) scan() (err error) {
	if s.mu.files, s.mu.next, err = s.scanFolder(s.o.Dir, false); err != nil {
		return err
	}
	if s.o.Copy != "" {
		s.mu.copies, s.mu.copy, err = s.scanFolder(s.o.Copy, true)
	}
	return err
}

func (s *Store) scanFolder(folder string, copied bool) (files []*file, next uint64, err error) {
	names, err := s.fs.List(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 1, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("folder of checkpoints: %w", err)
	}
	if !s.o.ReadOnly {
		if err := removeTemps(s.fs, folder, names); err != nil {
			return nil, 0, err
		}
	}
	for _, n := range names {
		seq, temp, ok := parseName(n)
		if !ok || temp {
			continue
		}
		f, err := s.openFile(folder, n, copied)
		if err != nil {
			return nil, 0, err
		}
		if f.err == nil && s.o.Log != (change.LogID{}) && (f.log != s.o.Log || f.shard != s.o.Shard) {
			f.err = f.damage(0, fmt.Sprintf("it is of shard %d of log %s, not of shard %d of log %s", f.shard, f.log, s.o.Shard, s.o.Log))
		}
		s.had(f.objects)
		files = append(files, f)
		next = max(next, seq)
	}
	return files, next + 1, nil
}

// Hurry has checkpoints and copies written as fast as the disk takes them from now on: somebody waits for them. Safe for concurrent use.
func (s *Store) Hurry() { s.hurry.Store(true) }

// NewObject returns an id that no object ever had. Safe for concurrent use.
func (s *Store) NewObject() ObjectID { return ObjectID(s.objects.Add(1)) }

// had raises the highest object id to what a checkpoint says.
func (s *Store) had(id uint64) {
	for {
		now := s.objects.Load()
		if now >= id || s.objects.CompareAndSwap(now, id) {
			return
		}
	}
}

// Skip has NewObject give out no id up to and with o, of which pages come from another store.
func (s *Store) Skip(o ObjectID) { s.had(uint64(o)) }

// List returns the checkpoints that are there, the newest first, first copies before second ones of the same position. There are two first copies, unless
// fewer were made; of those that cannot be used Err says why, and older ones that can are then listed too.
func (s *Store) List() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Info
	good := 0
	for i, f := range slices.Backward(s.mu.files) {
		info := s.info(f, s.mu.files)
		if info.Err == nil {
			good++
		} else if len(s.mu.files)-i > 2 { // it was kept for its pages only, and what it needed may be gone
			continue
		}
		out = append(out, info)
		if good == 2 {
			break
		}
	}
	for _, f := range slices.Backward(s.mu.copies) {
		info := s.info(f, s.mu.copies)
		at := slices.IndexFunc(out, func(i Info) bool { return i.Err == nil && i.Header.Seq < info.Header.Seq })
		if at < 0 || info.Err != nil {
			at = len(out)
		}
		out = slices.Insert(out, at, info)
	}
	return out
}

func (s *Store) info(f *file, folder []*file) Info {
	i := Info{Header: f.header, Copy: f.copied, Bytes: f.size, File: f.path, Sealed: f.sealed, Made: f.made, Err: f.unusable(), file: f}
	i.Header.Log, i.Header.Shard = f.log, f.shard
	i.Header.Catalog = slices.Clone(f.header.Catalog)
	needs, err := resolve(f, folder)
	if i.Err == nil {
		i.Err = err
	}
	for _, n := range needs {
		i.Bytes += n.size
		if i.Err == nil && n.hurt.Load() != nil {
			i.Err = n.hurt.Load()
		}
	}
	return i
}

// unusable says what is known to be wrong with a file by itself.
func (f *file) unusable() error {
	if f.err != nil {
		return f.err
	}
	if d := f.hurt.Load(); d != nil {
		return d
	}
	return nil
}

// resolve returns the files that a checkpoint names, in its order. One that is missing or not the right one is damage, and in the result a stand-in
// whose err says so.
func resolve(f *file, folder []*file) (out []*file, damage error) {
	for _, n := range f.needs {
		o, err := find(f, n, folder)
		if err != nil {
			o = &file{identity: &identity{seq: n.seq, id: n.id}, err: err, foot: footer{at: math.MaxInt64}}
			damage = cmp.Or(damage, err)
		}
		out = append(out, o)
	}
	return out, damage
}

func find(f *file, n need, folder []*file) (*file, error) {
	i, ok := slices.BinarySearchFunc(folder, n.seq, func(f *file, seq uint64) int { return cmp.Compare(f.seq, seq) })
	path := filepath.Join(filepath.Dir(f.path), fileName(n.seq))
	if !ok {
		return nil, f.damage(0, fmt.Sprintf("the file %s, which has pages of it, is missing", path))
	}
	o := folder[i]
	if o.err != nil {
		return nil, o.err
	}
	if o.id != n.id || o.size != n.size || o.foot.sum != n.sum {
		return nil, f.damage(0, fmt.Sprintf("the file %s is not the one that has pages of it", path))
	}
	return o, nil
}

// Load opens a checkpoint of List: index and root are read and verified, pages when they are asked for. verify reads and checks every page now.
// What is begun afterwards builds on it (one from the second copy is first copied back). The error is why it cannot be used: see Info.Err.
func (s *Store) Load(i Info, verify bool) (*State, error) {
	if !s.writing.TryLock() {
		return nil, errBusy
	}
	defer s.writing.Unlock()
	c, t, err := s.assemble(i.file)
	if err == nil && verify {
		err = c.verify()
	}
	if err != nil {
		return nil, err
	}
	s.had(t.objects)
	if s.o.ReadOnly {
		return &State{c}, nil
	}
	if i.file.copied {
		if c, err = s.copyBack(c); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.base = c
	return &State{c}, nil
}

// Peek opens a checkpoint of List as Load does, but the next one does not build on it: to look at the past while the store goes on.
func (s *Store) Peek(i Info) (*State, error) {
	c, t, err := s.assemble(i.file)
	if err != nil {
		return nil, err
	}
	s.had(t.objects)
	return &State{c}, nil
}

// newest returns the file of the newest good first copy, nil when there is none.
func (s *Store) newest() *file {
	for _, i := range s.List() {
		if i.Err == nil && !i.Copy {
			return i.file
		}
	}
	return nil
}

// assemble reads the tails that make the index of a file's checkpoint.
func (s *Store) assemble(f *file) (*checkpoint, *tail, error) {
	if f == nil {
		return nil, nil, errors.New("a checkpoint that List did not return")
	}
	if err := f.unusable(); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	folder := slices.Clone(s.mu.files)
	if f.copied {
		folder = slices.Clone(s.mu.copies)
	}
	s.mu.Unlock()
	if _, err := resolve(f, folder); err != nil { // all that its pages and its index are in
		return nil, nil, err
	}
	var links []link
	for at := f; ; {
		t, err := at.readTail()
		if err != nil {
			at.injured(err)
			return nil, nil, err
		}
		needs, _ := resolve(at, folder) // what an older one needed besides may be gone
		links = append(links, link{at, t, needs})
		if t.full {
			break
		}
		at = needs[t.parent]
		if at.err != nil {
			return nil, nil, at.err
		}
		if len(links) > len(folder) {
			return nil, nil, f.damage(f.foot.at, "its index goes in a circle")
		}
	}
	c, err := join(links)
	return c, links[0].tail, err
}

// link is a file of a chain of indexes.
type link struct {
	file  *file
	tail  *tail
	needs []*file
}

// join makes the index of the first link's checkpoint.
func join(links []link) (*checkpoint, error) {
	c := &checkpoint{file: links[0].file, parts: links[0].tail.parts, index: newIndex()}
	for _, l := range slices.Backward(links) {
		if err := c.index.apply(l.tail, l.file, l.needs); err != nil {
			return nil, err
		}
	}
	for f := range c.index.use {
		if f.err != nil {
			return nil, c.file.damage(c.file.foot.at, "its index has pages in a file that it does not name")
		}
	}
	for _, l := range links {
		c.chain = append(c.chain, l.file)
		if !l.tail.full {
			c.changes += l.tail.pages()
		}
	}
	return c, nil
}

// verify reads every page.
func (c *checkpoint) verify() error {
	for _, o := range c.index.sorted() {
		var err error
		c.index.objects[o].Scan(func(_ uint32, s *stored) bool {
			err = s.read(s.at.Load(), func(_, _ []byte) {})
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// State is an opened checkpoint. Safe for concurrent use. Its pages stay readable as long as somebody holds it.
type State struct{ c *checkpoint }

// Header returns what the checkpoint is of. It must not be changed.
func (s *State) Header() *Header { return &s.c.file.header }

// Part returns the root part of a room: "flow", "view", "node"; nil: none. It must not be changed.
func (s *State) Part(name string) []byte {
	for _, p := range s.c.parts {
		if p.name == name {
			return p.root
		}
	}
	return nil
}

// Parts returns the names of the root parts, in the order in which they were written.
func (s *State) Parts() []string {
	out := make([]string, len(s.c.parts))
	for i, p := range s.c.parts {
		out[i] = p.name
	}
	return out
}

// Objects returns the objects that have pages, ascending.
func (s *State) Objects() []ObjectID { return s.c.index.sorted() }

// LastObject returns the highest id that had been given out, also to objects without pages.
func (s *State) LastObject() ObjectID { return ObjectID(s.c.file.objects) }

// Size returns how many pages there are and their bytes as stored.
func (s *State) Size() (pages int, bytes int64) { return s.c.index.pages, s.c.index.bytes }

// Pages returns the pages of an object, ascending by number.
func (s *State) Pages(o ObjectID) iter.Seq2[uint32, Page] {
	return func(yield func(uint32, Page) bool) {
		if tree := s.c.index.objects[o]; tree != nil {
			tree.Scan(func(n uint32, p *stored) bool { return yield(n, Page{p.meta[:p.metaN:p.metaN], Ref{p}}) })
		}
	}
}

// WriteTo puts every page and part into w, which may belong to another store: what a restore under a new log id does.
func (s *State) WriteTo(w *Writer) error {
	w.s.Skip(s.LastObject())
	for _, o := range s.Objects() {
		var err error
		s.c.index.objects[o].Scan(func(n uint32, p *stored) bool {
			if e := p.read(p.at.Load(), func(data, meta []byte) { _, err = w.Put(o, n, meta, data) }); e != nil {
				err = e
			}
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	for _, p := range s.c.parts {
		w.Part(p.name, p.root)
	}
	return nil
}

// Stats is what a store holds and did.
type Stats struct {
	Pages     int   // of the checkpoint that the next one builds on
	Live      int64 // bytes of its pages as stored
	Files     int   // in the folder
	Disk      int64 // bytes of these
	CopyDisk  int64 // bytes in the folder of the second copy
	OpenFiles int   // among them removed ones that somebody still reads
}

// Stats returns what the store holds now.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stats{Files: len(s.mu.files), OpenFiles: s.open.count()}
	for _, f := range s.mu.files {
		out.Disk += f.size
	}
	for _, f := range s.mu.copies {
		out.CopyDisk += f.size
	}
	if c := s.mu.base; c != nil {
		out.Pages, out.Live = c.index.pages, c.index.bytes
	}
	return out
}

var errBusy = errors.New("a checkpoint is being written")

// Close closes all files: a Ref that is read afterwards is an error. What writes must have ended; a Copy or Scrub under way ends early, and
// Close waits for it. Calling it again has no effect.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.mu.closed
	s.mu.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	close(s.closed)
	s.copying.Lock()
	defer s.copying.Unlock()
	s.scrub.Lock()
	defer s.scrub.Unlock()
	if !s.writing.TryLock() {
		return errors.Join(errBusy, s.open.closeAll())
	}
	defer s.writing.Unlock()
	return s.open.closeAll()
}

// writeBuffer returns an empty buffer to write from; recycle takes it back.
func (s *Store) writeBuffer() []byte {
	select {
	case b := <-s.spare:
		return b[:0]
	default:
		return make([]byte, 0, writeSize+64<<10)
	}
}

func (s *Store) recycle(b []byte) {
	if cap(b) == 0 || cap(b) > 4*writeSize {
		return
	}
	select {
	case s.spare <- b:
	default:
	}
}
