// Package memory is a backbone driver that keeps the log in memory: for tests and for apps whose data need not outlive the
// process. It is quick and keeps every promise of the contract but durability.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"laaster/internal/backbone"
)

// Store holds the batches of one shard. Drivers opened on it share them, as processes share a server. Safe for concurrent
// use.
type Store struct {
	limit int64
	mu    struct {
		sync.Mutex
		batches [][]byte // the batch at sequence trimmed+i+1; never changed once it is here
		bytes   int64
		trimmed uint64 // how many are gone
	}
}

// NewStore returns an empty store that takes up to limit bytes of batches; 0 is no limit.
func NewStore(limit int64) *Store { return &Store{limit: limit} }

// Open returns a driver on the store. Closing it leaves the store as it is.
func (s *Store) Open() *Driver { return &Driver{store: s} }

// New returns a driver on a store of its own, without a limit.
func New() *Driver { return NewStore(0).Open() }

// Driver implements [backbone.Driver].
type Driver struct {
	store *Store
	mu    struct {
		sync.Mutex
		closed bool
	}
}

var _ backbone.Driver = (*Driver)(nil)

var (
	errClosed = errors.New("the memory log was closed")
	errFull   = errors.New("the memory log has reached its limit")
)

func (d *Driver) open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed {
		return errClosed
	}
	return nil
}

// Append implements [backbone.Driver]. It keeps a copy of data.
func (d *Driver) Append(ctx context.Context, data []byte, after uint64) (uint64, error) {
	if err := errors.Join(d.open(), ctx.Err()); err != nil {
		return 0, err
	}
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.mu.trimmed + uint64(len(s.mu.batches))
	if last != after {
		return 0, &backbone.Fenced{After: after, Last: last}
	}
	if s.limit > 0 && s.mu.bytes+int64(len(data)) > s.limit {
		return 0, &backbone.WriteError{Full: true, Err: fmt.Errorf("%w of %d bytes", errFull, s.limit)}
	}
	s.mu.batches = append(s.mu.batches, append(make([]byte, 0, len(data)), data...))
	s.mu.bytes += int64(len(data))
	return last + 1, nil
}

// Read implements [backbone.Driver].
func (d *Driver) Read(ctx context.Context, from uint64, fn func(uint64, []byte) error) error {
	d.store.mu.Lock()
	batches, trimmed := d.store.mu.batches, d.store.mu.trimmed
	d.store.mu.Unlock()
	for seq := max(from, trimmed+1); seq <= trimmed+uint64(len(batches)); seq++ {
		if err := errors.Join(d.open(), ctx.Err()); err != nil {
			return err
		}
		if err := fn(seq, batches[seq-trimmed-1]); err != nil {
			return err
		}
	}
	return d.open()
}

// Bounds implements [backbone.Driver].
func (d *Driver) Bounds(context.Context) (first, last uint64, err error) {
	if err := d.open(); err != nil {
		return 0, 0, err
	}
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	trimmed := d.store.mu.trimmed
	last = trimmed + uint64(len(d.store.mu.batches))
	if last == 0 {
		return 0, 0, nil
	}
	return trimmed + 1, last, nil
}

// Trim implements [backbone.Driver].
func (d *Driver) Trim(_ context.Context, before uint64) error {
	if err := d.open(); err != nil {
		return err
	}
	m := &d.store.mu
	m.Lock()
	defer m.Unlock()
	last := m.trimmed + uint64(len(m.batches))
	switch {
	case before <= m.trimmed+1:
		return nil
	case before > last+1 && last > 0:
		return fmt.Errorf("trim up to %d: the log ends at %d", before, last)
	case last == 0:
		m.trimmed = before - 1
		return nil
	}
	gone := before - 1 - m.trimmed
	for _, b := range m.batches[:gone] {
		m.bytes -= int64(len(b))
	}
	m.batches = append([][]byte(nil), m.batches[gone:]...) // readers keep theirs
	m.trimmed += gone
	return nil
}

// Size implements [backbone.Driver].
func (d *Driver) Size(context.Context) (int64, error) {
	if err := d.open(); err != nil {
		return 0, err
	}
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	return d.store.mu.bytes, nil
}

// Level implements [backbone.Driver].
func (d *Driver) Level() backbone.Level { return backbone.Memory }

// Close implements [backbone.Driver].
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.closed = true
	return nil
}
