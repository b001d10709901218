// Package fair keeps one connection from taking more than an eighth of the processors for itself while others are there: who made a server with two of them
// work is read from again after three times as long. What a connection sends meanwhile waits in the kernel, and then at the sender.
//
// Without it two connections that always have something to read keep two processors busy, and the Go runtime then looks for readiness of other sockets only
// every 10 ms (sysmon): that is what everybody else waits. A processor that is idle looks at once.
package fair

import (
	"errors"
	"io"
	"math"
	"net"
	"sync/atomic"
	"time"

	"laaster/internal/kit/run"
)

const (
	part    = 8                      // what one peer may take of the processors: the reciprocal
	least   = time.Millisecond       // shorter pauses are put off
	longest = 100 * time.Millisecond // that a peer may owe for work
	alone   = time.Second            // who was the only one for so long is not paced
	most    = 5 * time.Millisecond   // what counts of one piece of work: some of it may have been waiting
	noisy   = 64 << 10               // bytes that came and were no part of a request: frames that ask for nothing, or bodies that nobody has read yet
	costly  = 50 * time.Nanosecond   // of work for a byte: bodies take a twentieth of it, 16 KiB of the smallest frames milliseconds, in which nobody else is heard
	quiet   = 2 * time.Second        // what who sends noise that is costly rests for each read
	taken   = 16                     // bytes of answers that one of noise is allowed for
	tooMuch = 2 << 20                // of noise, and the connection is over; HTTP/2 lets a client send 1 MiB of bodies that nobody reads yet
)

// Floor is what peers share. Its methods can be called by several goroutines.
type Floor struct {
	clock    run.Clock
	rest     int64                // how long a peer rests, in times of what it made work
	last     atomic.Pointer[Peer] // who worked last
	switched atomic.Int64         // since when it is the only one, unix nanoseconds
}

// NewFloor returns a floor without peers, for a process that has so many processors. With eight or more nobody rests: one connection cannot take more than its part.
func NewFloor(clock run.Clock, processors int) *Floor {
	return &Floor{clock: clock, rest: int64(max(0, part/max(1, processors)-1))}
}

// Now returns the time, for Worked.
func (f *Floor) Now() time.Time { return f.clock.Now() }

// After is time.After for a pause.
func (f *Floor) After(pause time.Duration) <-chan time.Time { return f.clock.After(pause) }

// Peer is one of those who make a server work. The zero value is one that has done nothing. Its methods can be called by several goroutines.
type Peer struct {
	due atomic.Int64 // when it has rested enough, unix nanoseconds
}

// Worked says that a peer made the server work from began until now, and returns the time.
func (f *Floor) Worked(p *Peer, began time.Time) time.Time {
	now := f.clock.Now()
	f.add(p, now, now.Sub(began))
	return now
}

// add says that a peer made so much work until now.
func (f *Floor) add(p *Peer, now time.Time, took time.Duration) {
	at := now.UnixNano()
	if f.last.Load() != p {
		f.last.Store(p)
		f.switched.Store(at)
	} else if at-f.switched.Load() > int64(alone) {
		return
	}
	for {
		due := p.due.Load()
		next := max(due, at) + f.rest*int64(min(took, most))
		if p.due.CompareAndSwap(due, max(due, min(next, at+int64(longest)))) {
			return
		}
	}
}

// Pause returns how long a peer is not to be read from, 0 when it may be.
func (f *Floor) Pause(p *Peer) time.Duration {
	due := p.due.Load()
	if due == 0 {
		return 0
	}
	owes := time.Duration(due - f.clock.Now().UnixNano())
	if owes < least {
		return 0
	}
	return owes
}

// Listener paces the connections that it accepts.
type Listener struct {
	net.Listener
	Floor *Floor
	// Encrypted says that all that comes is TLS: decrypting and reading frames is work as well, and only the time between two reads tells of it. And what
	// comes may be frames that ask for nothing.
	Encrypted bool
	// Late says for how long a new connection is not to be read from. Default: nobody is late.
	Late func(net.Conn) time.Duration
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	p := &Conn{Conn: c, floor: l.Floor, between: l.Encrypted}
	if l.Late != nil {
		if late := l.Late(c); late > 0 {
			p.due.Store(l.Floor.Now().Add(late).UnixNano())
		}
	}
	return p, nil
}

// Conn is a connection that is paced when it is read from. One goroutine at a time reads, as package net's users do.
type Conn struct {
	net.Conn
	Peer
	floor   *Floor
	between bool
	ended   time.Time    // the last read, if it found something there
	last    int          // bytes of it
	noise   atomic.Int64 // bytes since a part of a request came
}

// ErrNoise says that a connection sent too much that is no part of a request.
var ErrNoise = errors.New("frames that ask for nothing")

// there is how long a read takes at most that did not wait.
const there = 20 * time.Microsecond

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	began := c.floor.clock.Now()
	if c.between {
		noise := c.noise.Load()
		if noise > tooMuch {
			return 0, ErrNoise
		}
		if !c.ended.IsZero() {
			took := began.Sub(c.ended)
			c.floor.add(&c.Peer, began, took)
			if noise > noisy && took > time.Duration(c.last)*costly {
				c.due.Store(began.Add(quiet).UnixNano())
			}
		}
	}
	if pause := c.floor.Pause(&c.Peer); pause > 0 {
		<-c.floor.clock.After(pause)
		began = c.floor.clock.Now()
	}
	n, err := c.Conn.Read(b)
	c.last = n
	c.noise.Add(int64(n))
	c.ended = c.floor.clock.Now()
	if waited := c.ended.Sub(began); waited > there {
		c.ended = time.Time{}
		c.forgive(waited.Milliseconds()) // pings of a quiet connection are no noise
	}
	return n, err
}

// Begin returns the time, for Worked.
func (c *Conn) Begin() time.Time { return c.floor.Now() }

// Worked says that the connection made the server work since began.
func (c *Conn) Worked(began time.Time) { c.floor.Worked(&c.Peer, began) }

// Write implements net.Conn. Who takes much says so, now and then (HTTP/2's windows): that is no noise.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.forgive(int64(n / taken))
	return n, err
}

func (c *Conn) forgive(bytes int64) {
	if noise := c.noise.Load(); noise > 0 {
		c.noise.Add(-min(noise, bytes))
	}
}

// Asked says that a part of a request has come.
func (c *Conn) Asked() { c.noise.Store(0) }

// Free says that what comes from now on is no HTTP: nothing of it is noise.
func (c *Conn) Free() { c.noise.Store(math.MinInt64) }

// Body is a request's body whose bytes are parts of the request.
type Body struct {
	io.ReadCloser
	Conn *Conn
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.Conn.Asked()
	}
	return n, err
}

// CloseWrite closes the writing half where there is one: package http does so before it closes, so that its last answer is read.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Of returns the paced connection below c, nil when there is none.
func Of(c net.Conn) *Conn {
	for {
		if p, ok := c.(*Conn); ok {
			return p
		}
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = over.NetConn()
	}
}
