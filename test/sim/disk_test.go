package sim

import (
	"sync/atomic"

	"laaster/internal/kit/disk"
	"laaster/internal/kit/disk/simdisk"
)

// paced is a disk as one process sees it: while a checkpoint is written, each operation that changes something waits for the scheduler. A dead
// process's operations fail.
type paced struct {
	disk.FS
	turn   chan struct{}
	dead   chan struct{}
	pacing atomic.Bool
}

func newPaced(d disk.FS) *paced {
	return &paced{FS: d, turn: make(chan struct{}), dead: make(chan struct{})}
}

// step waits for its turn.
func (p *paced) step() error {
	select {
	case <-p.dead:
		return simdisk.ErrPower
	default:
	}
	if !p.pacing.Load() {
		return nil
	}
	select {
	case <-p.turn:
		return nil
	case <-p.dead:
		return simdisk.ErrPower
	}
}

// Create implements disk.FS.
func (p *paced) Create(name string) (disk.File, error) {
	if err := p.step(); err != nil {
		return nil, err
	}
	return p.wrap(p.FS.Create(name))
}

// Open implements disk.FS.
func (p *paced) Open(name string) (disk.File, error) { return p.wrap(p.FS.Open(name)) }

// Edit implements disk.FS.
func (p *paced) Edit(name string) (disk.File, error) {
	if err := p.step(); err != nil {
		return nil, err
	}
	return p.wrap(p.FS.Edit(name))
}

func (p *paced) wrap(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return &pacedFile{f, p}, nil
}

// Rename implements disk.FS.
func (p *paced) Rename(old, to string) error {
	if err := p.step(); err != nil {
		return err
	}
	return p.FS.Rename(old, to)
}

// Remove implements disk.FS.
func (p *paced) Remove(name string) error {
	if err := p.step(); err != nil {
		return err
	}
	return p.FS.Remove(name)
}

// SyncFolder implements disk.FS.
func (p *paced) SyncFolder(folder string) error {
	if err := p.step(); err != nil {
		return err
	}
	return p.FS.SyncFolder(folder)
}

type pacedFile struct {
	disk.File
	p *paced
}

// Write implements disk.File.
func (f *pacedFile) Write(b []byte) (int, error) {
	if err := f.p.step(); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

// WriteAt implements disk.File.
func (f *pacedFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.p.step(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

// Sync implements disk.File.
func (f *pacedFile) Sync() error {
	if err := f.p.step(); err != nil {
		return err
	}
	return f.File.Sync()
}

// SyncData implements disk.File.
func (f *pacedFile) SyncData() error {
	if err := f.p.step(); err != nil {
		return err
	}
	return f.File.SyncData()
}
