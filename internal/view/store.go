package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
)

// DefaultRingBytes bounds the ring of recent epochs when Options names no other size.
const DefaultRingBytes = 16 << 20

// Options of a Store. The zero value is ready to use.
type Options struct {
	RingBytes int // memory for recent epochs, at least one epoch is kept; default DefaultRingBytes
	// Memory is how many bytes of rows Load reads at once; the others are read when they are needed, and then not kept beyond it, until Trim says
	// another limit. Default 0: Load reads none, and what is read is kept.
	Memory int64

	// Damaged is told why rows could not be read from a checkpoint before whoever needed them panics with that error (a *checkpoint.Damage, or one of reading).
	// The store cannot go on: nothing more than it may be read from it. It is called from any goroutine. Nil: nobody is told.
	Damaged func(error)
}

// Store is the state of all relations at one position. Apply has one caller; every other method may be called
// concurrently with it and with each other.
type Store struct {
	rels  atomic.Pointer[[]*expr.Relation]
	cache cache
	trim  struct {
		sync.Mutex
		at turn
	}
	frozen *Frozen    // being written; Apply's caller alone has it
	stored storedRing // of the newest checkpoint; Apply's caller alone has it

	mu struct {
		sync.Mutex
		head    uint64 // position of everything below
		stamp   int64  // of the epoch at head
		state   []relation
		ring    ring
		failed  error             // rows that an epoch changes could not be read: what is here is of no position
		waiting []waiter          // in no order
		tell    []chan<- struct{} // told of each epoch, never blocking
	}
}

// relation is one table or view.
type relation struct {
	tree  *tree
	last  uint64 // position of the last change
	birth uint64 // cursors below it belong to another definition
	gone  bool   // it was dropped: nobody need wait for it
}

type waiter struct {
	rel int // -1: any epoch
	seq uint64
	ch  chan struct{}
}

// New returns an empty store for relations, indexed as in their program. The position is 0.
func New(rels []*expr.Relation, opt Options) *Store {
	if opt.RingBytes <= 0 {
		opt.RingBytes = DefaultRingBytes
	}
	s := &Store{}
	s.cache.damaged = opt.Damaged
	s.rels.Store(&rels)
	s.mu.ring.limit = opt.RingBytes
	s.mu.state = make([]relation, len(rels))
	for i := range s.mu.state {
		s.mu.state[i].tree = newTree(&s.cache)
	}
	return s
}

// Relations returns the relations by their index in this store: those that New was given, then those that Redefine added. One that is
// gone keeps its place. Read-only.
func (s *Store) Relations() []*expr.Relation { return *s.rels.Load() }

// Apply moves the store to e's position. Epochs come in ascending order; one at or below the head is a bug of the
// caller and panics. e stays in the ring and must never change. It may have to read rows from a checkpoint, without holding up readers; if they
// cannot be read it panics as readers do, see Options.
func (s *Store) Apply(e *change.Epoch) {
	if s.cache.cold.Load() > 0 {
		s.warm(e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Seq <= s.mu.head {
		panic(fmt.Sprintf("view: epoch %d applied at position %d", e.Seq, s.mu.head))
	}
	whole := false
	defer func() {
		if !whole {
			s.mu.failed = errors.New("view: the rows are not whole, since an epoch could not be applied")
		}
	}()
	for i := range e.Deltas {
		s.applyLocked(&e.Deltas[i], e.Seq)
	}
	s.mu.head, s.mu.stamp = e.Seq, e.Stamp
	s.mu.ring.push(e)
	whole = true
	s.wakeLocked()
}

func (s *Store) applyLocked(d *change.Delta, seq uint64) {
	r := &s.mu.state[d.Relation]
	if len(d.Changes) == 0 {
		return
	}
	r.last = seq
	r.tree.apply(ascending(d.Changes))
}

// ascending returns changes in the order of keys, the last of each key: as they are, unless their maker did not keep to it.
func ascending(changes []change.RowChange) []change.RowChange {
	byKey := func(a, b change.RowChange) int { return bytes.Compare(a.Key, b.Key) }
	for i := 1; i < len(changes); i++ {
		if byKey(changes[i-1], changes[i]) < 0 {
			continue
		}
		changes = slices.Clone(changes)
		slices.Reverse(changes)
		slices.SortStableFunc(changes, byKey)
		return slices.CompactFunc(changes, func(a, b change.RowChange) bool { return bytes.Equal(a.Key, b.Key) })
	}
	return changes
}

// wakeLocked ends the waits that are over and tells the listeners.
func (s *Store) wakeLocked() {
	kept := s.mu.waiting[:0]
	for _, w := range s.mu.waiting {
		if s.reachedLocked(w.rel, w.seq) {
			close(w.ch)
			continue
		}
		kept = append(kept, w)
	}
	clear(s.mu.waiting[len(kept):])
	s.mu.waiting = kept
	for _, ch := range s.mu.tell {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (s *Store) reachedLocked(rel int, seq uint64) bool {
	if rel < 0 {
		return s.mu.head >= seq
	}
	return s.mu.state[rel].gone || s.mu.state[rel].last >= seq
}

// Start sets the position of an empty store that does not begin at 0, such as one loaded from a checkpoint: cursors
// below seq are not continued.
func (s *Store) Start(seq uint64, stamp int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.head, s.mu.stamp, s.mu.ring.floor = seq, stamp, seq
}

// SetBirth says that rel has its present definition since seq: what a client held of it before means something else.
func (s *Store) SetBirth(rel int, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.state[rel].birth = seq
}

// Birth returns the position that SetBirth set, 0 when it was never called.
func (s *Store) Birth(rel int) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.state[rel].birth
}

// Head returns the position of the last applied epoch and its stamp.
func (s *Store) Head() (seq uint64, stamp int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.head, s.mu.stamp
}

// Floor returns the oldest cursor from which Since can continue.
func (s *Store) Floor() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.ring.floor
}

// LastChange returns the position at which rel last changed: its rows' last change or its birth, whichever is later.
func (s *Store) LastChange(rel int) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.mu.state[rel].last, s.mu.state[rel].birth)
}

// Len returns how many rows rel has.
func (s *Store) Len(rel int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.state[rel].tree.rows
}

// Since returns every epoch after the cursor from, oldest first, or false when the ring no longer reaches back to it or it
// lies beyond the head. The slice is shared: read only.
func (s *Store) Since(from uint64) ([]*change.Epoch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from > s.mu.head {
		return nil, false
	}
	return s.mu.ring.since(from)
}

// Notify makes ch receive a value after each epoch, unless it is full: give it a capacity of one and look at Head. There is
// no way back: for listeners that live as long as the store.
func (s *Store) Notify(ch chan<- struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.tell = append(s.mu.tell, ch)
}

// ErrExpired is what Await and AwaitChange return when their time is over.
var ErrExpired = errors.New("view: the wait is over")

// Await returns nil once the head is at or beyond seq, ErrExpired when expired receives (nil: never), or ctx's error.
func (s *Store) Await(ctx context.Context, seq uint64, expired <-chan time.Time) error {
	return s.await(ctx, -1, seq, expired)
}

// AwaitChange is Await for a change of rel at a position at or beyond seq. A relation that is dropped counts as changed.
func (s *Store) AwaitChange(ctx context.Context, rel int, seq uint64, expired <-chan time.Time) error {
	return s.await(ctx, rel, seq, expired)
}

func (s *Store) await(ctx context.Context, rel int, seq uint64, expired <-chan time.Time) error {
	s.mu.Lock()
	if s.reachedLocked(rel, seq) {
		s.mu.Unlock()
		return nil
	}
	w := waiter{rel, seq, make(chan struct{})}
	s.mu.waiting = append(s.mu.waiting, w)
	s.mu.Unlock()
	select {
	case <-w.ch:
		return nil
	case <-expired:
		s.forget(w.ch)
		return ErrExpired
	case <-ctx.Done():
		s.forget(w.ch)
		return ctx.Err()
	}
}

func (s *Store) forget(ch chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.mu.waiting {
		if w.ch == ch {
			last := len(s.mu.waiting) - 1
			s.mu.waiting[i] = s.mu.waiting[last]
			s.mu.waiting[last] = waiter{}
			s.mu.waiting = s.mu.waiting[:last]
			return
		}
	}
}

// Waiting returns how many callers wait in Await and AwaitChange.
func (s *Store) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.waiting)
}

// Stats is what the store holds.
type Stats struct {
	Rows      int // of all relations
	Epochs    int // in the ring
	RingBytes int

	Leaves    int64 // pages of rows
	Stored    int64 // of these: in the newest checkpoint as they are
	Cold      int64 // of these: not in memory, about
	Resident  int64 // bytes of the pages in memory
	Loads     int64 // pages that were read from checkpoints
	Waits     int64 // of these: that Apply, and so the engine, waited for
	Evictions int64 // pages whose memory was freed
}

// Stats counts what the store holds.
func (s *Store) Stats() Stats {
	c := &s.cache
	st := Stats{Leaves: c.leaves.Load(), Stored: c.stored.Load(), Cold: c.cold.Load(), Resident: c.resident.Load(), Loads: c.loads.Load(), Waits: c.waits.Load(),
		Evictions: c.evictions.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Epochs, st.RingBytes = len(s.mu.ring.epochs)-s.mu.ring.start, s.mu.ring.bytes
	for i := range s.mu.state {
		st.Rows += s.mu.state[i].tree.rows
	}
	return st
}
