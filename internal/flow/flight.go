package flow

import (
	"sync"

	"laaster/internal/checkpoint"
)

// Frozen is the state of an engine between two batches, to be written while the engine goes on.
//
// It copies nothing: it has the buffers of the pages that changed since the freeze before. Engine and writer meet at each page at most once: the writer
// copies a page before it stores it, or the engine does so before it changes the page, whoever comes first. So what the copies take is at most what changed
// before the freeze and again while it is written.
type Frozen struct {
	root   []byte
	flocks []*flock
	bytes  int64

	// Of the engine's goroutine.
	over, committed bool

	// spare are buffers for copies that the engine makes; the writer gives them back.
	mu    sync.Mutex
	spare [][]byte
}

// flock is what a freeze takes of one structure.
type flock struct {
	object  checkpoint.ObjectID
	frozen  *Frozen
	flights []flight
	gone    []uint32
}

// flight is one page, as it was at the freeze.
type flight struct {
	number  uint32
	metaLen uint8
	meta    [metaHead + metaMax]byte
	frozen  *Frozen
	ref     checkpoint.Ref // set by the writer, read by the engine when the checkpoint is over

	mu   sync.Mutex
	own  bool   // data is not the engine's any more: a copy of it, or nothing because the page is written
	data []byte // until then the engine's buffer
}

// preserve is called by the engine before it changes the page.
func (f *flight) preserve() {
	if f.frozen.over {
		return
	}
	f.mu.Lock()
	if !f.own {
		f.own, f.data = true, append(f.frozen.buffer(), f.data...)
	}
	f.mu.Unlock()
}

func (f *Frozen) buffer() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.spare); n > 0 {
		b := f.spare[n-1]
		f.spare = f.spare[:n-1]
		return b[:0]
	}
	return nil
}

func (f *Frozen) giveBack(b []byte) {
	if cap(b) >= pageBytes/2 {
		f.mu.Lock()
		f.spare = append(f.spare, b)
		f.mu.Unlock()
	}
}

// Bytes returns how many bytes of pages changed since the freeze before, without the root.
func (f *Frozen) Bytes() int64 { return f.bytes }

// Write puts the changed pages and the root part "flow" into w. It may run beside the engine, once.
func (f *Frozen) Write(w *checkpoint.Writer) error { return f.writeTo(w) }

// pageWriter is a checkpoint.Writer.
type pageWriter interface {
	Put(o checkpoint.ObjectID, page uint32, meta, data []byte) (checkpoint.Ref, error)
	Delete(o checkpoint.ObjectID, page uint32)
	Keep(o checkpoint.ObjectID)
	Part(name string, root []byte)
}

func (f *Frozen) writeTo(w pageWriter) error {
	var scratch []byte
	for _, g := range f.flocks {
		w.Keep(g.object)
		for _, n := range g.gone {
			w.Delete(g.object, n)
		}
		for i := range g.flights {
			x := &g.flights[i]
			data, copied := x.take(&scratch)
			ref, err := w.Put(g.object, x.number, x.meta[:x.metaLen], data)
			if copied {
				f.giveBack(data)
			}
			if err != nil {
				return err
			}
			x.ref = ref
		}
	}
	w.Part("flow", f.root)
	return nil
}

// take returns the page's bytes, as a copy that the engine made or in scratch. From then on the engine may change the page.
func (f *flight) take(scratch *[]byte) (data []byte, copied bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if data, copied = f.data, f.own; !copied {
		*scratch = append((*scratch)[:0], data...)
		data = *scratch
	}
	f.own, f.data = true, nil
	return data, copied
}

// done says how the checkpoint ended, on the engine's goroutine. The structures hear of it when they are visited the next time.
func (f *Frozen) done(committed bool) {
	f.over, f.committed = true, committed
	f.flocks, f.spare = nil, nil
}
