package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"laaster/internal/checkpoint"
)

// keeper visits the state of an engine, either to freeze it for a checkpoint or to load it from one. One function per holder of state
// (stateful.state) does both, so that what is written and what is read cannot part ways: it names every part in a fixed order.
// Paged structures (table, tree, slab, queue) go by pages: freezing one hands over the pages that changed since the last checkpoint, loading it
// gives it pages that are read when they are needed. Everything else goes into the root blob, which is written whole each time, so it must be small: a few
// bytes per structure, never something per row.
type keeper struct {
	loading bool
	buf     []byte // the root blob: written to, or what is left to be read
	err     error  // the first; later calls do nothing
	place   string // the section at hand

	// Of freezing.
	frozen  *Frozen
	objects func() checkpoint.ObjectID
	guard   bool // pages that changed and were not marked are found: for tests

	// Of loading.
	from   *checkpoint.State
	budget int64 // bytes of pages that may still be read at once

	visit func(p *pages) // called for every structure, instead of freezing or loading
}

// stateful is what holds state across batches: every operator, accumulator, table, sink, window.
type stateful interface {
	// state names every part of the state to k, in the same order whether k freezes or loads. Scratch is left out: loading starts from
	// a new engine's structures. It must not depend on anything but the plan and the state itself.
	state(k *keeper)
}

// byteOrder is at the begin of the root blob in the byte order of the machine, which is that of the pages.
const byteOrder = 0x0807060504030201

// freezing returns a keeper that freezes; objects gives ids to structures that were never stored. What it froze is k.done().
func freezing(objects func() checkpoint.ObjectID) *keeper {
	return &keeper{objects: objects, frozen: &Frozen{}, buf: binary.NativeEndian.AppendUint64(nil, byteOrder)}
}

// done returns what was frozen.
func (k *keeper) done() *Frozen {
	k.frozen.root = k.buf
	return k.frozen
}

// loadingFrom returns a keeper that loads the root blob and pages of a checkpoint. Up to resident bytes of pages are read at once, the others when they
// are needed. The caller calls k.loaded() at the end.
func loadingFrom(from *checkpoint.State, root []byte, resident int64) *keeper {
	k := &keeper{loading: true, from: from, buf: root, budget: resident, place: "the root"}
	if b := k.take(8); k.err == nil && binary.NativeEndian.Uint64(b) != byteOrder {
		k.fail(errors.New("it was written by a machine of another byte order"))
	}
	return k
}

// visiting returns a keeper that calls f for the pages of every structure and leaves everything as it is.
func visiting(f func(p *pages)) *keeper { return &keeper{visit: f} }

// loaded ends loading: the error is the first of all, or that the blob is longer than what was asked for.
func (k *keeper) loaded() error {
	if k.err == nil && len(k.buf) > 0 {
		k.fail(fmt.Errorf("%d bytes too many", len(k.buf)))
	}
	return k.err
}

var errShort = errors.New("it ends early")

// fail notes an error of loading; nil is none.
func (k *keeper) fail(err error) {
	if k.err == nil && err != nil {
		k.err = fmt.Errorf("flow: the state in %s: %w", k.place, err)
	}
}

// section marks a place in the blob. Loading checks it, so that state of something else is not taken for one's own.
func (k *keeper) section(name string) {
	if k.place = name; k.visit != nil {
		return
	}
	sum := uint32(hash128(domainState, []byte(name)).lo)
	got := sum
	if k.u32(&got); got != sum {
		k.fail(errors.New("something else is stored in its place"))
	}
}

// take returns the next n bytes of the blob that is loaded; nil after an error.
func (k *keeper) take(n int) []byte {
	if k.err == nil && len(k.buf) < n {
		k.fail(errShort)
	}
	if k.err != nil {
		return nil
	}
	b := k.buf[:n:n]
	k.buf = k.buf[n:]
	return b
}

func (k *keeper) u64(p *uint64) {
	if k.visit != nil {
		return
	}
	if !k.loading {
		k.buf = binary.LittleEndian.AppendUint64(k.buf, *p)
	} else if b := k.take(8); b != nil {
		*p = binary.LittleEndian.Uint64(b)
	}
}

func (k *keeper) u32(p *uint32) {
	if k.visit != nil {
		return
	}
	if !k.loading {
		k.buf = binary.LittleEndian.AppendUint32(k.buf, *p)
	} else if b := k.take(4); b != nil {
		*p = binary.LittleEndian.Uint32(b)
	}
}

func (k *keeper) u8(p *uint8) {
	if k.visit != nil {
		return
	}
	if !k.loading {
		k.buf = append(k.buf, *p)
	} else if b := k.take(1); b != nil {
		*p = b[0]
	}
}

func (k *keeper) i64(p *int64) {
	v := uint64(*p)
	k.u64(&v)
	*p = int64(v)
}

func (k *keeper) num(p *int) {
	v := uint64(*p)
	k.u64(&v)
	*p = int(v)
}

func (k *keeper) flag(p *bool) {
	v := uint8(0)
	if *p {
		v = 1
	}
	if k.u8(&v); v > 1 {
		k.fail(fmt.Errorf("a flag of %d", v))
	}
	*p = v == 1
}

func (k *keeper) sum(p *sum128) {
	k.u64(&p.lo)
	k.u64(&p.hi)
}

// length freezes the length of a list or returns the one that is stored, of which every entry takes at least a byte of the blob.
func (k *keeper) length(n int) int {
	v := uint32(n)
	if n > math.MaxInt32 {
		panic("flow: a list that is too long for the root of a checkpoint")
	}
	if k.u32(&v); k.loading && int64(v) > int64(len(k.buf)) {
		k.fail(errShort)
	}
	if k.err != nil {
		return 0
	}
	return int(v)
}

// bytes keeps a nil slice nil. What it loads is the caller's.
func (k *keeper) bytes(p *[]byte) {
	if k.visit != nil {
		return
	}
	there := *p != nil
	if k.flag(&there); !there {
		*p = nil
		return
	}
	n := k.length(len(*p))
	if !k.loading {
		k.buf = append(k.buf, *p...)
	} else if b := k.take(n); k.err == nil {
		*p = append(make([]byte, 0, n), b...)
	}
}

func (k *keeper) text(p *string) {
	b := []byte(*p)
	if k.bytes(&b); k.loading {
		*p = string(b)
	}
}

// optional freezes whether something is present, or returns whether it was. The caller makes it when it loads.
func (k *keeper) optional(present bool) bool {
	k.flag(&present)
	return present && k.err == nil
}
