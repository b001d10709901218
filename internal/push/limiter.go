package push

import (
	"context"
	"time"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// Limiter bounds how much each caller may ask for. Its methods are called concurrently and do not wait; a nil problem lets things go on.
type Limiter interface {
	// Ask says why a request of so many bytes may not come now.
	Ask(p auth.Principal, bytes int) *wire.Problem
	// Frame is Ask for a frame that is not a write, and says whether its connection is to end.
	Frame(p auth.Principal, bytes int) (problem *wire.Problem, end bool)
	// Cut returns the problem of a caller who is not answered for a while.
	Cut(p auth.Principal) *wire.Problem
	// Connect says why there may be no further live connection. It is asked once a connection has said who it is. Its place is given back with Left, also 0.
	Connect(p auth.Principal) (place uint64, problem *wire.Problem)
	// Left is told how long a connection lasted that Connect let in, and how many subscriptions it had in the end.
	Left(p auth.Principal, place uint64, lived time.Duration, subscribed int)
	// Subscribe says why there may be no further subscription.
	Subscribe(p auth.Principal) *wire.Problem
	// Unsubscribed is told of a subscription that its client ended.
	Unsubscribed(p auth.Principal)
	// Replayed is told of rows and history that a subscription begins with.
	Replayed(p auth.Principal, bytes int)
	// Query says why a caller may not read now, and Queried is told what that costs, in rows that are looked at.
	Query(p auth.Principal) *wire.Problem
	Queried(p auth.Principal, rows int)
	// Misread is told of the problem of a frame or a read.
	Misread(p auth.Principal, code wire.Code)
}

// noLimiter is what a hub has that is given none.
type noLimiter struct{}

func (noLimiter) Ask(auth.Principal, int) *wire.Problem           { return nil }
func (noLimiter) Frame(auth.Principal, int) (*wire.Problem, bool) { return nil, false }
func (noLimiter) Cut(auth.Principal) *wire.Problem                { return nil }
func (noLimiter) Connect(auth.Principal) (uint64, *wire.Problem)  { return 0, nil }
func (noLimiter) Left(auth.Principal, uint64, time.Duration, int) {}
func (noLimiter) Subscribe(auth.Principal) *wire.Problem          { return nil }
func (noLimiter) Unsubscribed(auth.Principal)                     {}
func (noLimiter) Replayed(auth.Principal, int)                    {}
func (noLimiter) Query(auth.Principal) *wire.Problem              { return nil }
func (noLimiter) Queried(auth.Principal, int)                     {}
func (noLimiter) Misread(auth.Principal, wire.Code)               {}

// letIn takes the connection's place once it is known whom it speaks for, or says why there is none.
func (c *conn) letIn() *wire.Problem {
	place, p := c.h.opt.Limiter.Connect(c.asks())
	if p != nil {
		return p
	}
	c.mu.Lock()
	over := c.mu.over
	if !over {
		c.mu.place, c.mu.letIn = place, true
	}
	c.mu.Unlock()
	if over {
		c.h.opt.Limiter.Left(c.asks(), place, 0, 0)
	}
	return nil
}

// leftLocked returns what to call once the connection's lock is given back.
func (c *conn) leftLocked() func() {
	if !c.mu.letIn {
		return func() {}
	}
	c.mu.letIn = false
	who, place, lived, subs := c.asks(), c.mu.place, time.Duration(c.h.now()-c.mu.opened)*time.Millisecond, len(c.mu.subs)
	return func() { c.h.opt.Limiter.Left(who, place, lived, subs) }
}

// left gives the place of a connection back that did not come to be.
func (c *conn) left() {
	c.mu.Lock()
	give := c.leftLocked()
	c.mu.Unlock()
	give()
}

// turnedAway ends a connection of somebody who is not answered now.
func (c *conn) turnedAway(p *wire.Problem) {
	c.refuse("", p)
	c.goodbye(p.Code, p.Detail, time.Duration(p.RetryAfterMS)*time.Millisecond, closeTryLater)
}

// question says why a read may not come now, whatever it asks for. A stream of events is a connection besides. A refusal takes a part of the time that its
// caller is told to wait: who asks again and again, without looking at the answers, gets few of them on a connection.
func (h *Hub) question(ctx context.Context, who auth.Principal, as format) (p *wire.Problem) {
	if as == asEvents {
		p = h.opt.Limiter.Ask(who, 0)
	} else {
		p = h.opt.Limiter.Query(who)
	}
	if p == nil {
		return nil
	}
	if wait := min(p.RetryAfterMS/10, mostLinger); wait > 0 {
		select {
		case <-h.clock.After(time.Duration(wait) * time.Millisecond):
		case <-ctx.Done():
		case <-h.leaving.Done():
		}
	}
	return p
}

// mostLinger is the longest that an answer to somebody beyond a rate takes, in milliseconds.
const mostLinger = 100

// paced decides whether a frame is carried out. What only tells the server something, or frees something, always is, unless its sender did so much else
// that the connection ends; so it does with a token too many. Writes are counted at their door.
func (c *conn) paced(f wire.ClientFrame, id string, size int) (carryOut, goOn bool) {
	var p *wire.Problem
	end := false
	if _, write := f.(*wire.WriteFrame); write {
		p = c.h.opt.Limiter.Cut(c.asks())
		end = p != nil
	} else {
		p, end = c.h.opt.Limiter.Frame(c.asks(), size)
	}
	switch {
	case end:
		c.turnedAway(p)
		return false, false
	}
	switch f.(type) {
	case *wire.SubscribeFrame, *wire.CallFrame:
		if p != nil {
			c.refuse(id, p)
			return false, true
		}
	case *wire.TokenFrame:
		if p == nil {
			p = c.renewable()
		}
		if p != nil { // it comes back with its newest token: going on it would see what the one before saw
			c.turnedAway(p)
			return false, false
		}
	}
	return true, true
}
