// Package run starts goroutines and tells the time.
//
// Every goroutine of Laaster starts through [Group.Go], has a name that says what it is for, and ends before
// [Group.Wait] returns: nothing outlives its owner. A panic in one is a bug of ours: it is reported to the group's owner as an
// error with the stack, and the group stops. Tests move the clock by hand ([Manual]) instead of waiting.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Group owns goroutines. The zero value is not usable; see New. Methods may be called concurrently.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		err     error          // the first failure
		running map[string]int // by name
	}
}

// New returns a group whose goroutines' context ends with parent, with Stop, or when one of them fails.
func New(parent context.Context) *Group {
	g := &Group{}
	g.ctx, g.cancel = context.WithCancelCause(parent)
	g.mu.running = map[string]int{}
	return g
}

// Context is what the group's goroutines run under.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f on a goroutine of its own. An error other than the context's own stops the whole group. It must not be called
// after Wait returned.
func (g *Group) Go(name string, f func(ctx context.Context) error) {
	g.wg.Add(1)
	g.count(name, +1)
	go func() {
		defer g.wg.Done()
		defer g.count(name, -1)
		defer func() {
			if p := recover(); p != nil {
				g.fail(fmt.Errorf("%s: panic: %v\n%s", name, p, debug.Stack()))
			}
		}()
		if err := f(g.ctx); err != nil && !errors.Is(err, context.Canceled) {
			g.fail(fmt.Errorf("%s: %w", name, err))
		}
	}()
}

func (g *Group) count(name string, by int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.running[name] += by; g.mu.running[name] == 0 {
		delete(g.mu.running, name)
	}
}

func (g *Group) fail(err error) {
	g.mu.Lock()
	if g.mu.err == nil {
		g.mu.err = err
	}
	g.mu.Unlock()
	g.cancel(err)
}

// Stop ends the group's context. It does not wait. Calling it again has no effect.
func (g *Group) Stop() { g.cancel(context.Canceled) }

// Wait returns when every goroutine has ended, with the first failure or nil.
func (g *Group) Wait() error {
	g.wg.Wait()
	g.cancel(context.Canceled)
	return g.Err()
}

// Err returns the first failure so far, or nil.
func (g *Group) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.err
}

// Running returns how many goroutines of each name are alive: the census.
func (g *Group) Running() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[string]int, len(g.mu.running))
	for name, n := range g.mu.running {
		out[name] = n
	}
	return out
}

// Clock tells the time and wakes sleepers. Rooms get one from node; nothing else calls time.Now.
type Clock interface {
	Now() time.Time
	// After returns a channel that receives once d has passed; like time.After it needs no stop.
	After(d time.Duration) <-chan time.Time
}

// System is the machine's clock.
type System struct{}

// Now implements [Clock].
func (System) Now() time.Time { return time.Now() }

// After implements [Clock].
func (System) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Manual is a clock that moves only by Advance. Safe for concurrent use.
type Manual struct {
	mu struct {
		sync.Mutex
		now      time.Time
		sleepers []sleeper
		changed  chan struct{} // closed and renewed when a sleeper arrives
	}
}

type sleeper struct {
	at time.Time
	ch chan time.Time
}

// NewManual returns a clock that stands at start.
func NewManual(start time.Time) *Manual {
	m := &Manual{}
	m.mu.now = start
	m.mu.changed = make(chan struct{})
	return m
}

// Now implements [Clock].
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.now
}

// After implements [Clock].
func (m *Manual) After(d time.Duration) <-chan time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := sleeper{m.mu.now.Add(d), make(chan time.Time, 1)}
	if d <= 0 {
		s.ch <- m.mu.now
		return s.ch
	}
	m.mu.sleepers = append(m.mu.sleepers, s)
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
	return s.ch
}

// Advance moves the clock and wakes whoever is due.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.now = m.mu.now.Add(d)
	kept := m.mu.sleepers[:0]
	for _, s := range m.mu.sleepers {
		if s.at.After(m.mu.now) {
			kept = append(kept, s)
			continue
		}
		s.ch <- m.mu.now
	}
	m.mu.sleepers = kept
}

// AwaitSleepers returns when at least n sleepers wait, so that a test knows that Advance will reach them.
func (m *Manual) AwaitSleepers(n int) {
	for {
		m.mu.Lock()
		have, changed := len(m.mu.sleepers), m.mu.changed
		m.mu.Unlock()
		if have >= n {
			return
		}
		<-changed
	}
}
