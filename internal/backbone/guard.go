package backbone

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"laaster/internal/kit/disk"
	"laaster/internal/kit/fault"
)

// GuardOptions sets up a [Guard]. Sizes are bytes.
type GuardOptions struct {
	Dir      string                           // the data folder
	LowWater int64                            // less free space than this is low; 0 is never
	Reserve  int64                            // size of the reserve file; 0 keeps none
	Free     func(dir string) (uint64, error) // how much an unprivileged process can still write below dir; nil asks the system
	Log      *slog.Logger                     // nil logs nothing
}

// Guard watches the free space of a data folder and keeps a reserve in it: a file, allocated for real, which is given up when an append meets a
// full disk, so that what must still be written (a checkpoint that lets the log be trimmed, the high-water mark) finds room. It has no
// goroutine of its own: whoever owns it asks regularly. Safe for concurrent use.
type Guard struct {
	o    GuardOptions
	path string
	mu   struct {
		sync.Mutex
		low  bool
		free uint64
		held bool   // the reserve is there
		err  string // the last one that was logged, so that each is logged once
	}
}

// NewGuard returns the guard of a data folder. The reserve of the process before this one is taken over when it has the size, and removed
// when it has not; Restore makes it.
func NewGuard(o GuardOptions) *Guard {
	if o.Free == nil {
		o.Free = disk.Free
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Guard{o: o, path: filepath.Join(o.Dir, "RESERVE")}
	if info, err := os.Stat(g.path); err == nil {
		if g.mu.held = o.Reserve > 0 && info.Size() == o.Reserve; !g.mu.held {
			g.failed("remove the reserve", os.Remove(g.path))
		}
	}
	return g
}

// Check asks for the free space and says whether it is low: under the low-water mark, and once it was, until a tenth more than the mark is free,
// so that it does not flutter. When the system does not say, it stays as it was. Writes that are refused while it is low leave room for
// what serves to end it.
func (g *Guard) Check() (low bool, free uint64) {
	free, err := g.o.Free(g.o.Dir)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.fail("ask for the free space", err)
		return g.mu.low, g.mu.free
	}
	g.mu.free = free
	was, mark := g.mu.low, uint64(g.o.LowWater)
	if was {
		mark += mark / 10
	}
	g.mu.low = free < mark
	switch {
	case g.mu.low && !was:
		g.o.Log.Error("the disk is almost full: writes are refused until there is room", "folder", g.o.Dir, "free", free, "low_water", g.o.LowWater)
	case was && !g.mu.low:
		g.o.Log.Info("the disk has room again", "folder", g.o.Dir, "free", free)
	}
	return g.mu.low, free
}

// GiveUp removes the reserve, if it is there, and reports whether that made room: for when an append met a full disk.
func (g *Guard) GiveUp() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.mu.held {
		return false
	}
	if err := os.Remove(g.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.fail("remove the reserve", err)
		return false
	}
	g.mu.held = false
	fault.Point("reserve.given_up")
	g.o.Log.Warn("the disk is full: its reserve was given up", "folder", g.o.Dir, "bytes", g.o.Reserve)
	return true
}

// Restore makes the reserve when it is missing and the free space, less the reserve, is not low. It reports whether the reserve is there; what
// keeps it from being made is logged, and the next call tries again.
func (g *Guard) Restore() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.held || g.o.Reserve <= 0 {
		return g.mu.held
	}
	free, err := g.o.Free(g.o.Dir)
	if err != nil {
		g.fail("ask for the free space", err)
		return false
	}
	if low := uint64(g.o.LowWater); g.mu.low || free < low+low/10+uint64(g.o.Reserve) {
		return false
	}
	if err := g.make(); err != nil {
		g.fail("make the reserve", err)
		return false
	}
	g.mu.held, g.mu.err = true, ""
	fault.Point("reserve.made")
	return true
}

// Held reports whether the reserve is there.
func (g *Guard) Held() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.held
}

// make writes the reserve file; half a one is removed.
func (g *Guard) make() error {
	f, err := os.OpenFile(g.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(disk.Allocate(f, g.o.Reserve), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(g.path))
	}
	return nil
}

func (g *Guard) failed(what string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail(what, err)
}

// fail logs an error, once as long as it is the same. The lock is held.
func (g *Guard) fail(what string, err error) {
	if err == nil || g.mu.err == err.Error() {
		return
	}
	g.mu.err = err.Error()
	g.o.Log.Warn("cannot "+what, "folder", g.o.Dir, "error", err)
}
