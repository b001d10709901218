package sim

import (
	"context"
	"errors"
	"slices"
	"sync"

	"laaster/internal/backbone"
)

// store is the simulated store of a log: what is in it outlives every process. Appends wait until the scheduler decides them.
type store struct {
	mu      sync.Mutex
	batches [][]byte // sequence 1 first
	first   uint64   // the lowest that is kept; 1 at the beginning
	queue   []*call  // undecided, in the order of their arrival
}

// call is an append under way.
type call struct {
	driver *driver
	data   []byte
	after  uint64
	answer chan result // capacity 1
}

type result struct {
	seq uint64
	err error
}

// driver is one process's way to the store.
type driver struct {
	s      *store
	closed chan struct{}
	once   sync.Once
	dead   chan struct{} // closed when the process died
}

func newStore() *store { return &store{first: 1} }

func (s *store) open(dead chan struct{}) *driver {
	return &driver{s: s, closed: make(chan struct{}), dead: dead}
}

var (
	errClosed = errors.New("the driver is closed")
	errDead   = errors.New("the process is dead")
	errLost   = errors.New("the answer was lost")
	errBusy   = errors.New("the store is busy")
)

// Append implements backbone.Driver.
func (d *driver) Append(ctx context.Context, data []byte, after uint64) (uint64, error) {
	select {
	case <-d.dead:
		return 0, errDead // certainly not stored
	default:
	}
	c := &call{driver: d, data: slices.Clone(data), after: after, answer: make(chan result, 1)}
	d.s.mu.Lock()
	d.s.queue = append(d.s.queue, c)
	d.s.mu.Unlock()
	select {
	case r := <-c.answer:
		return r.seq, r.err
	case <-d.closed:
		return 0, &backbone.Unknown{Err: errClosed}
	case <-ctx.Done():
		return 0, &backbone.Unknown{Err: ctx.Err()}
	}
}

// put stores a call's data when it fits, and returns what its writer would be told.
func (s *store) put(c *call) result {
	last := uint64(len(s.batches))
	if c.after != last {
		return result{err: &backbone.Fenced{After: c.after, Last: last}}
	}
	s.batches = append(s.batches, c.data)
	return result{seq: last + 1}
}

// Read implements backbone.Driver.
func (d *driver) Read(_ context.Context, from uint64, fn func(seq uint64, data []byte) error) error {
	d.s.mu.Lock()
	first, all := max(from, d.s.first), slices.Clone(d.s.batches)
	d.s.mu.Unlock()
	for seq := first; seq <= uint64(len(all)); seq++ {
		if err := fn(seq, slices.Clone(all[seq-1])); err != nil {
			return err
		}
	}
	return nil
}

// Bounds implements backbone.Driver.
func (d *driver) Bounds(context.Context) (first, last uint64, err error) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if len(d.s.batches) == 0 {
		return 0, 0, nil
	}
	return d.s.first, uint64(len(d.s.batches)), nil
}

// Trim implements backbone.Driver.
func (d *driver) Trim(_ context.Context, before uint64) error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.s.first = max(d.s.first, before)
	return nil
}

// Size implements backbone.Driver.
func (d *driver) Size(context.Context) (n int64, err error) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	for seq := d.s.first; seq <= uint64(len(d.s.batches)); seq++ {
		n += int64(len(d.s.batches[seq-1]))
	}
	return n, nil
}

// Level implements backbone.Driver.
func (d *driver) Level() backbone.Level { return backbone.Durable }

// Close implements backbone.Driver.
func (d *driver) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}
