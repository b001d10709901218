package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/seal"
)

// file is one file of a checkpoint that was opened. It stays open, and so readable, until nothing points to it any more, also when its name is gone.
// What is set when it is opened or written does not change afterwards.
type file struct {
	*identity
	path   string
	copied bool // it is in the folder of the second copy
	keys   *seal.Ring
	h      *handle
	pool   *sync.Pool // of *[]byte, for reading
	size   int64
	foot   footer

	header  Header // of the checkpoint that this file completes
	made    int64
	objects uint64 // the highest object id that had been given out
	needs   []need
	err     error // why the checkpoint of this file cannot be used, by itself: without looking at needs

	hurt     atomic.Pointer[Damage] // the first damage that was found in it later
	verified int64                  // when scrub was last through with it: in the order of scrub's own count; guarded by scrub's lock
}

// handle is an open file of the system. It is apart from file so that a cleanup of the file can close it.
type handle struct{ f disk.File }

// handles counts what is open and closes it in the end.
type handles struct {
	mu struct {
		sync.Mutex
		open map[*handle]struct{}
	}
}

func (s *handles) add(f disk.File) *handle {
	h := &handle{f}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.open == nil {
		s.mu.open = map[*handle]struct{}{}
	}
	s.mu.open[h] = struct{}{}
	return h
}

// close closes h once. A file that is only read has nothing to say when it is closed.
func (s *handles) close(h *handle) {
	s.mu.Lock()
	_, open := s.mu.open[h]
	delete(s.mu.open, h)
	s.mu.Unlock()
	if open {
		_ = h.f.Close()
	}
}

func (s *handles) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.open)
}

func (s *handles) closeAll() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.mu.open {
		err = errors.Join(err, h.f.Close())
	}
	s.mu.open = nil
	return err
}

// newFile wraps an open file; it is closed when nothing points to the result any more.
func (s *Store) newFile(path string, copied bool, d *identity, f disk.File) *file {
	out := &file{identity: d, path: path, copied: copied, keys: s.o.Keys, h: s.open.add(f), pool: &s.pool}
	runtime.AddCleanup(out, s.open.close, out.h)
	return out
}

// openFile opens a file of a folder and reads all but its pages. Only errors that say nothing of the file itself are returned; what is wrong with
// the file is in its err, and then it has no tail.
func (s *Store) openFile(folder, name string, copied bool) (*file, error) {
	seq, _, _ := parseName(name)
	path := filepath.Join(folder, name)
	h, err := s.fs.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	f := s.newFile(path, copied, &identity{seq: seq}, h)
	if f.err = f.readEnds(); f.err != nil {
		return f, nil
	}
	if f.seq != seq {
		f.err = f.damage(0, fmt.Sprintf("it was renamed: its own name is %s", fileName(f.seq)))
		f.seq = seq
		return f, nil
	}
	t, err := f.readTail()
	if err != nil {
		f.err = err
		return f, nil
	}
	f.take(t)
	return f, nil
}

// take keeps of a tail what is small.
func (f *file) take(t *tail) {
	f.header, f.made, f.objects, f.needs = t.header, t.made, t.objects, t.needs
	f.header.Catalog = slices.Clone(t.header.Catalog)
	f.header.Log, f.header.Shard = f.log, f.shard
}

// readEnds reads header and footer.
func (f *file) readEnds() error {
	size, err := f.h.f.Size()
	if err != nil {
		return &fileError{f.path, err}
	}
	f.size = size
	head, err := f.bytes(0, min(headerSize, size))
	if err != nil {
		return err
	}
	d, err := parseHeader(head, f.keys)
	if d != nil {
		f.identity = d
	}
	if err != nil {
		return f.wrong(0, err)
	}
	end := max(0, size-footerSize)
	foot, err := f.bytes(end, size-end)
	if err != nil {
		return err
	}
	if f.foot, err = parseFooter(foot, size); err != nil {
		return f.wrong(end, err)
	}
	return nil
}

// readTail reads, verifies and decodes what stands behind the pages.
func (f *file) readTail() (*tail, error) {
	stored, err := f.bytes(f.foot.at, f.foot.size)
	if err != nil {
		return nil, err
	}
	if tailSum(f.identity, stored) != f.foot.sum {
		return nil, f.damage(f.foot.at, "its index has a wrong SHA-256")
	}
	plain, err := f.openTail(stored, f.keys)
	if err != nil {
		return nil, f.wrong(f.foot.at, err)
	}
	t, err := parseTail(plain)
	if err != nil {
		return nil, f.damage(f.foot.at, "its index has a right SHA-256 but cannot be read: "+err.Error())
	}
	return t, nil
}

// bytes reads a range that must be there.
func (f *file) bytes(off, n int64) ([]byte, error) {
	b := make([]byte, n)
	return b, f.readAt(b, off)
}

func (f *file) readAt(b []byte, off int64) error {
	n, err := f.h.f.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == io.EOF:
		return f.damage(off, "it ends too early: it was cut")
	}
	return &fileError{f.path, err}
}

// wrong turns what a parser says into an error that names the file.
func (f *file) wrong(off int64, err error) error {
	if p := problem(""); errors.As(err, &p) {
		return f.damage(off, string(p))
	}
	if errors.Is(err, seal.ErrForged) { // its checksum was right
		err = fmt.Errorf("its checksums are right, so most likely the key file has another key than the one that sealed it, under the same id: %w", err)
	}
	if newer := (*change.NewerError)(nil); errors.As(err, &newer) {
		err = fmt.Errorf("%w; this program falls back to an older one if there is one", err)
	}
	return &fileError{f.path, err}
}

func (f *file) damage(off int64, what string) *Damage {
	return &Damage{File: f.path, Offset: off, Problem: what, Copied: f.copied}
}

// injured notes damage that was found, so that List says it and the next checkpoint does not build on it.
func (f *file) injured(err error) {
	if d := (*Damage)(nil); errors.As(err, &d) {
		f.hurt.CompareAndSwap(nil, d)
	}
}

// place is where a stored page is.
type place struct {
	f  *file
	at int64  // of the frame
	n  uint32 // bytes behind the frame's header
}

func (p *place) size() int64 { return frameSize + int64(p.n) }

// within reports whether the place is among the pages of its file.
func (p *place) within() bool {
	return p.at >= headerSize && p.at+p.size() <= p.f.foot.at
}

// stored is a page that is in some file. It is shared by the index and by everybody who holds a Ref; only its place changes, when the page is
// carried over into a newer file.
type stored struct {
	object ObjectID
	page   uint32
	length uint32 // of the data
	metaN  uint8
	meta   [MaxMeta]byte
	at     atomic.Pointer[place]
}

func newStored(o ObjectID, page uint32, meta []byte, length int, at *place) *stored {
	s := &stored{object: o, page: page, length: uint32(length), metaN: uint8(len(meta))}
	copy(s.meta[:], meta)
	s.at.Store(at)
	return s
}

// read reads and verifies the page at p into a buffer of the pool, and calls f with data and meta that are valid during the call.
func (s *stored) read(p *place, f func(data, meta []byte)) error {
	buf := getBuffer(p.f.pool, int(p.size()))
	defer putBuffer(p.f.pool, buf)
	err := s.check(p, *buf, f)
	if err != nil {
		p.f.injured(err)
	}
	return err
}

func (s *stored) check(p *place, b []byte, f func(data, meta []byte)) error {
	fail := func(err error) error {
		err = p.f.wrong(p.at, err)
		if d := (*Damage)(nil); errors.As(err, &d) {
			d.Object, d.Page = s.object, s.page
		}
		return err
	}
	if err := p.f.readAt(b, p.at); err != nil {
		if d := (*Damage)(nil); errors.As(err, &d) {
			d.Object, d.Page = s.object, s.page
		}
		return err
	}
	fr, err := parseFrame(b, p.f.identity)
	if err != nil {
		return fail(err)
	}
	if fr.object != s.object || fr.page != s.page || len(fr.stored) != int(p.n) {
		return fail(problem(fmt.Sprintf("another page (%d of object %d) is stored here", fr.page, fr.object)))
	}
	data, meta, err := fr.open(p.f.identity, p.f.keys)
	if err != nil {
		return fail(err)
	}
	if len(data) != int(s.length) || string(meta) != string(s.meta[:s.metaN]) {
		return fail(problem("the page is not the one that the index names"))
	}
	f(data, meta)
	return nil
}

// keptBuffer is the largest buffer that is kept for the next read, in bytes.
const keptBuffer = 128 << 10

func getBuffer(pool *sync.Pool, n int) *[]byte {
	b, ok := pool.Get().(*[]byte)
	if !ok || cap(*b) < n {
		b = new([]byte)
		*b = make([]byte, n, max(n, 18<<10))
	}
	*b = (*b)[:n]
	return b
}

func putBuffer(pool *sync.Pool, b *[]byte) {
	if cap(*b) <= keptBuffer {
		pool.Put(b)
	}
}

// Ref is a stored page. It stays readable as long as somebody holds it, also when its file was replaced by newer ones. The zero Ref is no page.
// It may be compared with ==.
type Ref struct{ p *stored }

// Zero reports whether r is no page.
func (r Ref) Zero() bool { return r.p == nil }

// Len returns the bytes of the page.
func (r Ref) Len() int { return int(r.p.length) }

// Read returns the page's bytes, verified, in the memory of dst from its beginning, or in new memory of just the size when that is too small. The error is a
// *Damage, one of a missing key, or one of reading. Safe for concurrent use.
func (r Ref) Read(dst []byte) ([]byte, error) {
	n := int(r.p.length)
	if cap(dst) < n {
		dst = make([]byte, n)
	}
	dst = dst[:n]
	err := r.p.read(r.p.at.Load(), func(data, _ []byte) { copy(dst, data) })
	if err != nil {
		return dst[:0], err
	}
	return dst, nil
}

// overhead is by how much a page is longer in this file than data and meta.
func (f *file) overhead() int {
	if f.sealed {
		return seal.Overhead
	}
	return 0
}
