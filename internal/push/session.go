package push

import (
	"context"
	"crypto/rand"
	"math"
	"slices"
	"time"

	"laaster/internal/change"
	"laaster/internal/observe"
	"laaster/internal/wire"
)

// appender is a frame of package wire.
type appender interface{ Append(dst []byte) []byte }

// frame encodes a frame for the connection. Events of a stream have the type as their name and no id, since there is one
// subscription only: the frame's own must be empty.
func (c *conn) frame(kind string, f appender) []byte {
	if c.enc == webSocket {
		return sealText(f.Append(make([]byte, frameHeader, 192)))
	}
	b := append(make([]byte, 0, 192), "event: "...)
	b = append(append(b, kind...), "\ndata: {"...)
	b = append(b, f.Append(nil)[len(`{"type":"",`)+len(kind):]...)
	return append(b, "\n\n"...)
}

// open registers a connection, or says why there cannot be another one. The caller owns out until it calls release: the sink need
// not be there yet. A WebSocket is in h.opening until its reader runs.
func (h *Hub) open(c *conn) (problem *wire.Problem) {
	c.h = h
	defer func() {
		if problem == nil { // Settle sees it from now on
			c.renewed()
		}
	}()
	if c.session == "" {
		c.session = rand.Text()
	}
	now := h.now()
	if c.enc == eventStream { // who asks is known, and so is the one subscription
		p := h.opt.Limiter.Subscribe(c.asks())
		if p == nil {
			p = c.letIn()
		}
		if p != nil {
			h.metrics.Refused.WithLabelValues(string(p.Code)).Inc()
			return p
		}
		defer func() {
			if problem != nil {
				c.left()
			}
		}()
	}
	c.mu.opened = now
	c.mu.subs = map[string]*feed{}
	c.mu.busy = true
	c.moved.Store(now)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.mu.draining:
		return retryLater(wire.Draining, "the server is shutting down", time.Second)
	case len(h.mu.conns) >= h.opt.MaxConnections:
		return retryLater(wire.Busy, "as many live connections as the server is set to serve", 5*time.Second)
	case c.enc == webSocket && !h.strangers.add(c):
		return retryLater(wire.Busy, "as many connections that have not said hello as one address may have", 5*time.Second)
	}
	h.mu.conns[c] = struct{}{}
	h.mu.lastConn++
	c.number = h.mu.lastConn
	if c.enc == webSocket {
		h.opening.Add(1)
	}
	return nil
}

func retryLater(code wire.Code, detail string, after time.Duration) *wire.Problem {
	p := wire.NewProblem(code, detail)
	p.Retry, p.RetryAfterMS = wire.RetryAfter, int(after/time.Millisecond)
	return p
}

// refuse answers a frame with a problem.
func (c *conn) refuse(id string, p *wire.Problem) {
	c.h.metrics.Refused.WithLabelValues(string(p.Code)).Inc()
	c.fail(id, p)
}

// refuseLater is refuse for a goroutine that serves others too: what takes long for the connection is left to a goroutine of its own.
func (c *conn) refuseLater(id string, p *wire.Problem) {
	c.h.metrics.Refused.WithLabelValues(string(p.Code)).Inc()
	c.queue(c.failure(id, p))
	c.kick(true)
}

// fail is refuse for problems that are counted elsewhere.
func (c *conn) fail(id string, p *wire.Problem) { c.reply(c.failure(id, p)) }

func (c *conn) failure(id string, p *wire.Problem) []byte {
	if p.Request == "" {
		own := *p // one problem may be the answer to many, as when the log closes
		own.Request = c.session
		p = &own
	}
	return c.frame("error", &wire.ErrorFrame{ID: id, Error: p})
}

// receive handles one text message of a client. It reports false when the connection is to end.
func (c *conn) receive(data []byte) bool {
	f, id, p := wire.DecodeClient(data, c.h.opt.Limits)
	c.mu.Lock()
	greeted := c.mu.greeted
	c.mu.Unlock()
	if hello, ok := f.(*wire.HelloFrame); !greeted {
		if p == nil && !ok {
			p = wire.NewProblem(wire.InvalidRequest, "the first frame is hello").WithField("type", "")
		}
		if p == nil {
			p = c.introduced(hello.Token)
		}
		if p != nil {
			c.h.opt.Limiter.Misread(c.asks(), p.Code)
			c.dismiss(p)
			return false
		}
		if p := c.letIn(); p != nil {
			c.turnedAway(p)
			return false
		}
		c.hello(hello)
		return true
	} else if ok && p == nil {
		p = wire.NewProblem(wire.InvalidRequest, "hello was said already").WithField("type", "use subscribe")
	}
	if p != nil {
		c.refuse(id, p)
		c.h.opt.Limiter.Misread(c.asks(), p.Code)
		if p = c.h.opt.Limiter.Cut(c.asks()); p != nil {
			c.turnedAway(p)
		}
		return p == nil
	}
	if p := c.lapsed(); p != nil {
		c.dismiss(p)
		return false
	}
	carryOut, goOn := c.paced(f, id, len(data))
	if carryOut {
		c.handle(f)
	}
	return goOn
}

func (c *conn) handle(f wire.ClientFrame) {
	switch f := f.(type) {
	case *wire.SubscribeFrame:
		c.subscribe([]wire.Subscription{f.Subscription}, wire.Cursor{})
	case *wire.UnsubscribeFrame:
		c.unsubscribe(f.ID)
	case *wire.PingFrame:
		c.reply(c.frame("pong", &wire.PongFrame{T: f.T, Now: c.h.millis()}))
	case *wire.SeenFrame:
		c.seen(f)
	case *wire.WriteFrame:
		if c.h.Channel(f.Table) {
			c.refuse(f.ID, wire.NewProblem(wire.InvalidRequest, f.Table+" is a channel: its rows are not in the log").WithField("table", "send a signal frame"))
			return
		}
		c.write(f)
	case *wire.CallFrame:
		c.refuse(f.ID, wire.NewProblem(wire.NotSupported, "commands do not work yet").WithField("type", ""))
	case *wire.SignalFrame:
		c.signal(f)
	case *wire.TokenFrame:
		c.refresh(f.Token)
	}
}

func (c *conn) hello(f *wire.HelloFrame) {
	c.h.strangers.remove(c)
	c.mu.Lock()
	c.mu.greeted = true
	c.mu.exact, c.mu.each = f.Exact, f.Every
	if f.Rate > 0 {
		c.mu.every = time.Duration(float64(time.Second) / f.Rate)
	}
	c.mu.Unlock()
	w := &wire.WelcomeFrame{Session: c.session, Now: c.h.millis(), Log: c.h.opt.Log.String(), Limits: c.h.opt.Limits}
	c.greetChannels(f, w)
	welcome := c.frame("welcome", w)
	c.mu.Lock()
	c.mu.replies = append(c.mu.replies, welcome)
	if fresh := c.h.freshness(); fresh.State != wire.FreshLive {
		c.mu.replies = append(c.mu.replies, c.frame("freshness", &fresh))
	}
	c.mu.Unlock()
	c.subscribe(f.Subscribe, wire.Cursor{Given: f.Resume != "", Position: f.Resume})
}

// subscribe begins subscriptions that start at one position. resume is where those go on that do not say it themselves.
func (c *conn) subscribe(list []wire.Subscription, resume wire.Cursor) {
	ops := c.enlist(list, resume)
	c.keepTuned()
	c.kick(slices.ContainsFunc(ops, func(o op) bool { return o.long }))
	for _, o := range ops {
		if why := c.h.stale(o.feed.q.rel); why != "" {
			c.tellStale(o.id, why)
		}
	}
	if slices.ContainsFunc(ops, func(o op) bool { return c.h.unlike(c.asks(), o.feed.q) }) {
		c.redefine(false) // the app changed while these began
	}
}

// enlist queues the subscriptions of list that can be had and refuses the others.
func (c *conn) enlist(list []wire.Subscription, resume wire.Cursor) []op {
	c.arranging.Lock()
	defer c.arranging.Unlock()
	ops := make([]op, 0, len(list))
	for i := range list {
		s := &list[i]
		if p := c.h.opt.Limiter.Subscribe(c.asks()); p != nil {
			c.refuse(s.ID, p)
			continue
		}
		if ch, p := c.h.accessChannel(c.asks(), s.View); ch != nil || p != nil {
			if p == nil {
				p = c.listen(ch, s)
			}
			if p != nil {
				c.refuse(s.ID, p)
			}
			continue
		}
		o := op{id: s.ID, from: resume}
		if s.From.Given {
			o.from = s.From
		}
		seen, p := c.h.access(c.asks(), s.View)
		if p == nil {
			p = checkCursor(o.from)
		}
		var q *query
		if p == nil {
			q, p = subscriptionQuery(seen, s, c.exact())
		}
		if p == nil {
			o.feed, p = c.h.acquireFeed(q)
		}
		if p == nil {
			p = c.register(o)
		}
		if p != nil {
			c.refuse(s.ID, p)
			continue
		}
		o.long = c.h.long(&o)
		ops = append(ops, o)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ops = append(c.mu.ops, ops...)
	return ops
}

func (c *conn) exact() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.exact
}

func checkCursor(from wire.Cursor) *wire.Problem {
	if from.Position == "" {
		return nil
	}
	if _, err := change.ParsePosition(from.Position); err != nil {
		return wire.NewProblem(wire.InvalidRequest, err.Error()).WithField("from", "send a position as the server named it, or null")
	}
	return nil
}

// register takes a subscription's place, or says why there is none and releases its feed.
func (c *conn) register(o op) (p *wire.Problem) {
	c.mu.Lock()
	if p = c.placeLocked(o.id); p == nil {
		c.mu.subs[o.id] = o.feed
	}
	c.mu.Unlock()
	if p != nil {
		c.h.releaseFeed(o.feed)
	}
	return p
}

func (c *conn) unsubscribe(id string) {
	c.h.opt.Limiter.Unsubscribed(c.asks())
	c.mu.Lock()
	f := c.mu.subs[id]
	if f != nil {
		delete(c.mu.subs, id)
		c.mu.ops = append(c.mu.ops, op{id: id, feed: f, end: true})
	}
	c.mu.Unlock()
	if f != nil {
		c.kick(false)
	} else {
		c.tuneOut(id)
	}
}

// seen counts a client's report of how long an epoch took to its screen. What cannot be is left out.
func (c *conn) seen(f *wire.SeenFrame) {
	const day = 24 * 60 * 60 * 1000
	if f.ShownMS >= 0 && f.ShownMS < day && !math.IsNaN(f.ShownMS) {
		c.h.metrics.Stamp(observe.Shown, f.ShownMS/1000)
	}
}

// write queues a write frame. The frame's bytes are copied: the reader goes on.
func (c *conn) write(f *wire.WriteFrame) {
	if c.h.opt.Writer == nil {
		c.refuse(f.ID, wire.NewProblem(wire.NotSupported, "writes do not work here"))
		return
	}
	f.Rows, f.Patch = cloneRaw(f.Rows), cloneRaw(f.Patch)
	c.mu.Lock()
	full, first := len(c.mu.writes) >= c.h.opt.Limits.WritesInFlight, len(c.mu.writes) == 0
	if !full && !c.mu.over {
		c.mu.writes = append(c.mu.writes, f)
	}
	over := c.mu.over
	c.mu.Unlock()
	switch {
	case over:
	case full:
		c.refuse(f.ID, retryLater(wire.Busy, "as many writes without an answer as a connection may have", 100*time.Millisecond))
	case first:
		c.h.group.Go("push write", func(ctx context.Context) error { c.carryOut(ctx); return nil })
	}
}

func cloneRaw(r wire.RawJSON) wire.RawJSON {
	if r == nil {
		return nil
	}
	return append(wire.RawJSON{}, r...)
}

// carryOut does the queued writes in order and answers each. It ends when none is left. A connection that is gone changes
// nothing: what it sent may be in the log already, so its writes are finished.
func (c *conn) carryOut(ctx context.Context) {
	for {
		c.mu.Lock()
		f := c.mu.writes[0]
		c.mu.Unlock()
		var result *wire.WriteResult
		p := c.lapsed() // it may have waited
		if p == nil {
			result, p = c.h.opt.Writer.Write(ctx, c.asks(), f)
		}
		if p != nil {
			c.fail(f.ID, p)
		} else {
			c.reply(c.frame("result", &wire.ResultFrame{ID: f.ID, WriteResult: *result}))
		}
		c.mu.Lock()
		c.mu.writes = c.mu.writes[1:]
		rest := len(c.mu.writes)
		if rest == 0 {
			c.mu.writes = nil
		}
		c.mu.Unlock()
		if rest == 0 {
			return
		}
	}
}
