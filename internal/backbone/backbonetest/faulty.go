package backbonetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"laaster/internal/backbone"
)

// Faulty is a driver whose next appends go wrong as a test says; the others pass through.
type Faulty struct {
	backbone.Driver
	NoTrim error // of every trim; nil lets them pass
	mu     struct {
		sync.Mutex
		next []Fault
	}
}

// Fault does an append in place of the driver.
type Fault func(ctx context.Context, d backbone.Driver, data []byte, after uint64) (uint64, error)

// Next makes the next appends go wrong, one after the other.
func (f *Faulty) Next(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.next = append(f.mu.next, faults...)
}

// Append implements [backbone.Driver].
func (f *Faulty) Append(ctx context.Context, data []byte, after uint64) (uint64, error) {
	f.mu.Lock()
	fault := Fault(nil)
	if len(f.mu.next) > 0 {
		fault, f.mu.next = f.mu.next[0], f.mu.next[1:]
	}
	f.mu.Unlock()
	if fault == nil {
		return f.Driver.Append(ctx, data, after)
	}
	return fault(ctx, f.Driver, data, after)
}

// Trim implements [backbone.Driver].
func (f *Faulty) Trim(ctx context.Context, before uint64) error {
	if f.NoTrim != nil {
		return f.NoTrim
	}
	return f.Driver.Trim(ctx, before)
}

// ErrLost is the cause of the *backbone.Unknown of a lost append.
var ErrLost = errors.New("lost by the test")

// LoseAnswer stores the batch and loses the answer.
func LoseAnswer(ctx context.Context, d backbone.Driver, data []byte, after uint64) (uint64, error) {
	if _, err := d.Append(ctx, data, after); err != nil {
		return 0, err
	}
	return 0, &backbone.Unknown{Err: ErrLost}
}

// LoseRequest stores nothing and gives no answer.
func LoseRequest(context.Context, backbone.Driver, []byte, uint64) (uint64, error) {
	return 0, &backbone.Unknown{Err: ErrLost}
}

// Fail returns err and stores nothing.
func Fail(err error) Fault {
	return func(context.Context, backbone.Driver, []byte, uint64) (uint64, error) { return 0, err }
}

// Clock is a clock for tests of what retries: its waits are over at once, and each Now is a microsecond after the one
// before. Safe for concurrent use.
type Clock struct {
	mu struct {
		sync.Mutex
		now time.Time
	}
	longest time.Duration
}

// NewClock returns a clock that stands at start. Waits longer than longest never end.
func NewClock(start time.Time, longest time.Duration) *Clock {
	c := &Clock{longest: longest}
	c.mu.now = start
	return c
}

// Now implements run.Clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = c.mu.now.Add(time.Microsecond)
	return c.mu.now
}

// Set moves the clock, backwards if a test wants so.
func (c *Clock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = now
}

// After implements run.Clock.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	if d > c.longest {
		return nil
	}
	ch := make(chan time.Time, 1)
	ch <- c.Now()
	return ch
}
