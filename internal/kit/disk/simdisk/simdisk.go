// Package simdisk is a disk in memory for tests: a power cut loses, tears or keeps what was not synced, by a seeded choice.
//
// [Disk] is a [disk.FS]. What a program does goes to a volatile state that it reads back; a Sync of a file makes its bytes durable, a SyncFolder the
// names in a folder. At a power cut each write since the last Sync is kept, lost, or kept in part (by sectors of 512 bytes, also with nothing where something
// was to be), and each new, changed or removed name since the last SyncFolder is kept or lost: sometimes in order, as a journal does, sometimes each
// by itself. From then on every operation fails with [ErrPower] until Restart. Files that are open at the cut stay dead.
//
// A hook sees each operation before it happens and may fail it, cut the power at it, or only count it. After a failed Sync the bytes
// look written and are not durable, and a later Sync does not make them so: that is what Linux does.
package simdisk

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"laaster/internal/kit/disk"
)

// ErrPower is the error of every operation after a power cut, and, returned by the hook, what cuts the power.
var ErrPower = errors.New("simdisk: the power is off")

const sector = 512

// Op is an operation that changes something, before it happens. Reading is no operation.
type Op struct {
	N    int    // counted from 1 since the disk was made
	Kind string // create, write, sync, rename, remove, mkdir, syncfolder
	Name string // of the file or folder
	Size int    // bytes of a write
}

// Disk is the disk. Safe for concurrent use.
type Disk struct {
	mu struct {
		sync.Mutex
		rng      *rand.Rand
		off      bool
		life     int // counts restarts: a file opened in another life is dead
		ops      int
		written  int64
		hook     func(Op) error
		capacity int64
		folders  map[string]*folder
	}
}

// folder is what names mean: now, and what is sure to be left after a power cut.
type folder struct {
	now     map[string]*inode
	durable map[string]*inode
	pending []entryChange // since the last SyncFolder, in order
}

// entryChange is a name that came (node) or went (gone).
type entryChange struct {
	name string
	node *inode // nil: the name went away
	from string // of a rename: the name that went away with it
}

type inode struct {
	now     []byte
	durable []byte
	pending []piece // writes since the last Sync, in order
}

type piece struct {
	off  int
	data []byte
}

// New returns an empty disk. Everything that is left to chance follows from seed and from the order of the operations.
func New(seed uint64) *Disk {
	d := &Disk{}
	d.mu.rng = rand.New(rand.NewPCG(seed, 0x5eed))
	d.mu.folders = map[string]*folder{}
	return d
}

// Hook sets what sees each operation before it happens: an error fails it without effect (a sync: with the bytes not durable), ErrPower cuts the power
// at it. nil: nothing. It is called with the disk locked and must not use it.
func (d *Disk) Hook(h func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.hook = h
}

// CutAt cuts the power at operation n, in place of a hook.
func (d *Disk) CutAt(n int) {
	d.Hook(func(op Op) error {
		if op.N == n {
			return ErrPower
		}
		return nil
	})
}

// Limit sets how many bytes of files fit; what is beyond is syscall.ENOSPC. 0: no limit.
func (d *Disk) Limit(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.capacity = bytes
}

// Ops returns how many operations there were.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.ops
}

// Written returns how many bytes were written, to all files together.
func (d *Disk) Written() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.written
}

// Used returns the bytes of all files that have a name.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used()
}

func (d *Disk) used() (n int64) {
	seen := map[*inode]bool{}
	for _, f := range d.mu.folders {
		for _, i := range f.now {
			if !seen[i] {
				seen[i] = true
				n += int64(len(i.now))
			}
		}
	}
	return n
}

// Cut cuts the power now.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut()
}

// Restart brings the power back, without a hook: the disk has what was left.
func (d *Disk) Restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.mu.off {
		d.cut()
	}
	d.mu.off, d.mu.hook = false, nil
}

// Damage changes the bytes of a file by f, which gets them and returns what they become: behind everybody's back and durable.
func (d *Disk) Damage(name string, f func([]byte) []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, err := d.find("damage", name)
	if err != nil {
		return err
	}
	i.now = f(slices.Clone(i.now))
	i.durable, i.pending = slices.Clone(i.now), nil
	return nil
}

// cut decides what is left.
func (d *Disk) cut() {
	d.mu.off = true
	d.mu.life++
	names := make([]string, 0, len(d.mu.folders))
	for n := range d.mu.folders {
		names = append(names, n)
	}
	slices.Sort(names) // one order of choices for one seed
	for _, n := range names {
		d.mu.folders[n].cut(d.mu.rng)
	}
	done := map[*inode]bool{}
	for _, n := range names {
		f := d.mu.folders[n]
		files := make([]string, 0, len(f.now))
		for name := range f.now {
			files = append(files, name)
		}
		slices.Sort(files)
		for _, name := range files {
			if i := f.now[name]; !done[i] {
				done[i] = true
				i.cut(d.mu.rng)
			}
		}
	}
}

// cut leaves of the names what was synced and some of what was not.
func (f *folder) cut(rng *rand.Rand) {
	kept := f.pending
	if rng.IntN(2) == 0 { // as a journal: up to a point
		kept = kept[:rng.IntN(len(kept)+1)]
	} else {
		kept = slices.DeleteFunc(slices.Clone(kept), func(entryChange) bool { return rng.IntN(2) == 0 })
	}
	for _, c := range kept {
		switch {
		case c.node == nil:
			delete(f.durable, c.name)
		default:
			f.durable[c.name] = c.node
			if c.from != "" && f.durable[c.from] == c.node {
				delete(f.durable, c.from)
			}
		}
	}
	f.pending = nil
	f.now = map[string]*inode{}
	for n, i := range f.durable {
		f.now[n] = i
	}
}

// cut leaves of the bytes what was synced and some of what was not.
func (i *inode) cut(rng *rand.Rand) {
	mode := rng.IntN(4) // all lost, all kept, each by itself, up to a point
	stop := rng.IntN(len(i.pending) + 1)
	for n, p := range i.pending {
		switch {
		case mode == 0, mode == 3 && n > stop:
		case mode == 1, mode == 3 && n < stop:
			i.durable = put(i.durable, p.off, p.data)
		default:
			i.tear(p, rng)
		}
	}
	i.pending = nil
	i.now = slices.Clone(i.durable)
}

// tear keeps some sectors of a write; of the others the length may come without the bytes.
func (i *inode) tear(p piece, rng *rand.Rand) {
	for at := 0; at < len(p.data); {
		n := min(sector-(p.off+at)%sector, len(p.data)-at)
		switch rng.IntN(3) {
		case 0:
			i.durable = put(i.durable, p.off+at, p.data[at:at+n])
		case 1: // the file grows, and has nothing there
			i.durable = put(i.durable, p.off+at+n, nil)
		}
		at += n
	}
}

// put writes data at off, with zeros in between.
func put(b []byte, off int, data []byte) []byte {
	if grow := off + len(data) - len(b); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	copy(b[off:], data)
	return b
}

// step counts an operation and asks the hook. The lock is held.
func (d *Disk) step(kind, name string, size int) error {
	if d.mu.off {
		return &fs.PathError{Op: kind, Path: name, Err: ErrPower}
	}
	d.mu.ops++
	if d.mu.hook == nil {
		return nil
	}
	err := d.mu.hook(Op{N: d.mu.ops, Kind: kind, Name: name, Size: size})
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: kind, Path: name, Err: err}
}

// finish cuts the power when err asks for it: after the operation has had its chance to be among what is kept.
func (d *Disk) finish(err error) error {
	if errors.Is(err, ErrPower) && !d.mu.off {
		d.cut()
	}
	return err
}

// effect reports whether an operation with this outcome of step happens: it does not when it failed, but one at which the power is cut may.
func (d *Disk) effect(err error) bool {
	return err == nil || errors.Is(err, ErrPower) && !d.mu.off
}

func (d *Disk) folder(kind, name string) (*folder, error) {
	if d.mu.off {
		return nil, &fs.PathError{Op: kind, Path: name, Err: ErrPower}
	}
	f := d.mu.folders[filepath.Clean(name)]
	if f == nil {
		return nil, &fs.PathError{Op: kind, Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

func (d *Disk) find(kind, name string) (*inode, error) {
	f, err := d.folder(kind, filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	i := f.now[filepath.Base(name)]
	if i == nil {
		return nil, &fs.PathError{Op: kind, Path: name, Err: fs.ErrNotExist}
	}
	return i, nil
}

// Create implements [disk.FS].
func (d *Disk) Create(name string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.create(name)
}

func (d *Disk) create(name string) (disk.File, error) {
	f, err := d.folder("create", filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	base := filepath.Base(name)
	if f.now[base] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	err = d.step("create", name, 0)
	i := &inode{}
	if d.effect(err) {
		f.now[base] = i
		f.pending = append(f.pending, entryChange{name: base, node: i})
	}
	if err := d.finish(err); err != nil {
		return nil, err
	}
	return &file{d: d, i: i, name: name, life: d.mu.life, writes: true}, nil
}

// Open implements [disk.FS].
func (d *Disk) Open(name string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, err := d.find("open", name)
	if err != nil {
		return nil, err
	}
	return &file{d: d, i: i, name: name, life: d.mu.life}, nil
}

// Edit implements [disk.FS].
func (d *Disk) Edit(name string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, err := d.find("edit", name)
	if errors.Is(err, fs.ErrNotExist) {
		return d.create(name)
	}
	if err != nil {
		return nil, err
	}
	return &file{d: d, i: i, name: name, life: d.mu.life, writes: true}, nil
}

// Rename implements [disk.FS].
func (d *Disk) Rename(old, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if filepath.Dir(old) != filepath.Dir(to) {
		return &fs.PathError{Op: "rename", Path: old, Err: syscall.EXDEV}
	}
	i, err := d.find("rename", old)
	if err != nil {
		return err
	}
	err = d.step("rename", to, 0)
	if d.effect(err) {
		f := d.mu.folders[filepath.Dir(filepath.Clean(old))]
		delete(f.now, filepath.Base(old))
		f.now[filepath.Base(to)] = i
		f.pending = append(f.pending, entryChange{name: filepath.Base(to), node: i, from: filepath.Base(old)})
	}
	return d.finish(err)
}

// Remove implements [disk.FS].
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.find("remove", name); err != nil {
		return err
	}
	err := d.step("remove", name, 0)
	if d.effect(err) {
		f := d.mu.folders[filepath.Dir(filepath.Clean(name))]
		delete(f.now, filepath.Base(name))
		f.pending = append(f.pending, entryChange{name: filepath.Base(name)})
	}
	return d.finish(err)
}

// List implements [disk.FS].
func (d *Disk) List(name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.folder("list", name)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(f.now))
	for n := range f.now {
		out = append(out, n)
	}
	slices.Sort(out)
	return out, nil
}

// MkdirAll implements [disk.FS].
func (d *Disk) MkdirAll(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = filepath.Clean(name)
	if d.mu.folders[name] != nil && !d.mu.off {
		return nil
	}
	err := d.step("mkdir", name, 0)
	if d.effect(err) {
		for at := name; d.mu.folders[at] == nil; at = filepath.Dir(at) {
			d.mu.folders[at] = &folder{now: map[string]*inode{}, durable: map[string]*inode{}}
			if strings.Trim(at, "/.") == "" {
				break
			}
		}
	}
	return d.finish(err)
}

// SyncFolder implements [disk.FS].
func (d *Disk) SyncFolder(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.folder("syncfolder", name)
	if err != nil {
		return err
	}
	if err := d.finish(d.step("syncfolder", name, 0)); err != nil {
		return err
	}
	f.pending = nil
	f.durable = map[string]*inode{}
	for n, i := range f.now {
		f.durable[n] = i
	}
	return nil
}

// file is an open file.
type file struct {
	d      *Disk
	i      *inode
	name   string
	life   int
	at     int // of Write
	writes bool
	closed bool
}

// usable returns the error of an operation on a file that is closed, dead or only to be read. The disk's lock is held.
func (f *file) usable(kind string, writes bool) error {
	var err error
	switch {
	case f.closed:
		err = fs.ErrClosed
	case f.d.mu.off || f.life != f.d.mu.life:
		err = ErrPower
	case writes && !f.writes:
		err = syscall.EBADF
	default:
		return nil
	}
	return &fs.PathError{Op: kind, Path: f.name, Err: err}
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: syscall.EINVAL}
	}
	if off >= int64(len(f.i.now)) {
		return 0, io.EOF
	}
	n := copy(p, f.i.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements io.Writer.
func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, int64(f.at))
	f.at += n
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("write", true); err != nil {
		return 0, err
	}
	err := f.d.step("write", f.name, len(p))
	if err == nil && f.d.mu.capacity > 0 {
		if room := f.d.mu.capacity - f.d.used(); int64(len(p)) > room+max(0, int64(len(f.i.now))-off) {
			p = p[:max(0, min(int64(len(p)), room))] // what fits is written, as on a real disk
			f.write(p, int(off))
			return len(p), &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
		}
	}
	if f.d.effect(err) {
		f.write(p, int(off))
	}
	if err := f.d.finish(err); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *file) write(p []byte, off int) {
	f.i.now = put(f.i.now, off, p)
	f.i.pending = append(f.i.pending, piece{off, slices.Clone(p)})
	f.d.mu.written += int64(len(p))
}

// Sync implements [disk.File].
func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("sync", false); err != nil {
		return err
	}
	err := f.d.step("sync", f.name, 0)
	if err != nil && !errors.Is(err, ErrPower) { // some of it may have got there; none of it will be tried again
		now := f.i.now
		f.i.cut(f.d.mu.rng)
		f.i.now = now
	}
	if err := f.d.finish(err); err != nil {
		return err
	}
	for _, p := range f.i.pending {
		f.i.durable = put(f.i.durable, p.off, p.data)
	}
	f.i.pending = nil
	return nil
}

// SyncData implements [disk.File].
func (f *file) SyncData() error { return f.Sync() }

// Size implements [disk.File].
func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("size", false); err != nil {
		return 0, err
	}
	return int64(len(f.i.now)), nil
}

// Forget implements [disk.File]: nothing is cached.
func (f *file) Forget(int64, int64) {}

// Close implements io.Closer.
func (f *file) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}
