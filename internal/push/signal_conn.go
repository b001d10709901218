package push

import (
	"slices"
	"time"

	"laaster/internal/signal"
	"laaster/internal/wire"
)

// talker is what a connection has to do with channels. Most connections have none.
type talker struct {
	name string // in the column connection

	// Guarded by conn.mu.
	sender *signal.Sender // nil before the first signal
	subs   []*listening   // a new slice for each change

	rests time.Time // with a rate, or on a slow line: nothing is told before; the owner of conn.out has it
}

// listening is one subscription of a channel.
type listening struct {
	id    string
	topic *topic
	at    signal.Cursor // the owner of conn.out has it
}

// talk returns the connection's talker, made when there is none yet.
func (c *conn) talk(instance string) *talker {
	if t := c.talks.Load(); t != nil {
		return t
	}
	c.talks.CompareAndSwap(nil, &talker{name: c.h.signals.connectionName(c.asks(), instance)})
	return c.talks.Load()
}

// greetChannels fills in what a welcome says of channels.
func (c *conn) greetChannels(hello *wire.HelloFrame, welcome *wire.WelcomeFrame) {
	s := c.h.signals.state
	if hello.Instance == "" && s.Stats().Channels == 0 {
		return
	}
	welcome.Connection = c.talk(hello.Instance).name
	welcome.Limits.SignalBytes, welcome.Limits.SignalsPerSecond = s.Options().MaxRowBytes, s.Options().Rate
}

// listen begins a subscription of a channel. The caller holds c.arranging.
func (c *conn) listen(ch *signal.Channel, s *wire.Subscription) *wire.Problem {
	if s.Limit != nil || s.Offset != nil {
		return wire.NewProblem(wire.NotSupported, "limit and offset do not work on channels").WithField("limit", "filter by the key, such as room=eq.a")
	}
	return c.tuneTo(ch, s.ID, func(ch *signal.Channel) (*query, *wire.Problem) {
		return subscriptionQuery(c.h.sightOf(c.asks(), ch), s, c.exact())
	})
}

// tuneTo is tuneIn for a channel that may be replaced meanwhile: it looks its name up again then.
func (c *conn) tuneTo(ch *signal.Channel, id string, ask func(*signal.Channel) (*query, *wire.Problem)) *wire.Problem {
	for {
		q, p := ask(ch)
		if p == nil {
			p = c.tuneIn(ch, id, q)
		}
		if p == nil || c.h.signals.state.Current(ch) {
			return p
		}
		if ch, p = c.h.channel(c.asks(), ch.Name()); p != nil {
			return p
		}
		if ch == nil {
			return noSuchView()
		}
	}
}

// keepTuned moves the connection's subscriptions of channels when the app has changed since they were looked up: Hub.Settle moves only those that
// it sees.
func (c *conn) keepTuned() {
	t := c.talks.Load()
	if t == nil {
		return
	}
	c.mu.Lock()
	subs := t.subs
	c.mu.Unlock()
	if slices.ContainsFunc(subs, func(l *listening) bool { return c.outOfTune(l.topic) }) {
		c.retune()
	}
}

// outOfTune reports whether a channel is not what its name stands for any more, or the client may not follow it now or sees other columns.
func (c *conn) outOfTune(t *topic) bool {
	is, p := c.h.channel(c.asks(), t.feed.Channel().Name())
	return p != nil || is != t.feed.Channel() || !slices.Equal(t.q.columns, c.h.sightOf(c.asks(), is).columns)
}

// tuneIn follows a channel. The caller looks afterwards whether the channel has moved.
func (c *conn) tuneIn(ch *signal.Channel, id string, q *query) *wire.Problem {
	topic, p := c.h.signals.follow(c, ch, q)
	if p != nil {
		return p
	}
	t := c.talk("")
	c.mu.Lock()
	if p = c.placeLocked(id); p == nil {
		t.subs = append(slices.Clip(t.subs), &listening{id: id, topic: topic})
	}
	c.mu.Unlock()
	if p != nil {
		c.h.signals.leave(c, topic)
	}
	return p
}

// placeLocked says why a subscription of this id cannot be added.
func (c *conn) placeLocked(id string) *wire.Problem {
	var subs []*listening
	if t := c.talks.Load(); t != nil {
		subs = t.subs
	}
	switch {
	case c.mu.over:
		return wire.NewProblem(wire.Internal, "the connection has ended")
	case c.mu.subs[id] != nil, slices.ContainsFunc(subs, func(l *listening) bool { return l.id == id }):
		return wire.NewProblem(wire.InvalidRequest, "this id is in use").WithField("id", "unsubscribe first, or choose another")
	case len(c.mu.subs)+len(subs) >= c.h.opt.Limits.Subscriptions:
		return wire.NewProblem(wire.TooMany, "as many subscriptions as a connection may have").
			WithField("subscribe", "subscribe to more rows at once with a wider filter")
	}
	return nil
}

// tuneOut ends a subscription of a channel, if the id is one, and reports whether it is.
func (c *conn) tuneOut(id string) bool {
	t := c.talks.Load()
	if t == nil {
		return false
	}
	c.mu.Lock()
	var gone *listening
	if i := slices.IndexFunc(t.subs, func(l *listening) bool { return l.id == id }); i >= 0 {
		gone = t.subs[i]
		t.subs = slices.Delete(slices.Clone(t.subs), i, i+1)
	}
	c.mu.Unlock()
	if gone != nil {
		c.h.signals.leave(c, gone.topic)
	}
	return gone != nil
}

// hush ends everything that a closed connection had to do with channels.
func (c *conn) hush() {
	t := c.talks.Load()
	if t == nil {
		return
	}
	c.mu.Lock()
	sender, subs := t.sender, t.subs
	t.sender, t.subs = nil, nil
	c.mu.Unlock()
	s := c.h.signals
	for _, l := range subs {
		s.leave(c, l.topic)
	}
	if sender != nil {
		sender.Leave(c.h.clock.Now())
	}
	s.mu.Lock()
	delete(s.mu.later, c)
	s.mu.Unlock()
}

// signal carries out a signal frame. Only a problem is answered.
func (c *conn) signal(f *wire.SignalFrame) {
	ch, p := c.h.maySend(c.asks(), f.Table)
	if p == nil {
		p = c.send(ch, f)
	}
	if p != nil {
		c.refuse(f.ID, p)
	}
}

func (c *conn) send(ch *signal.Channel, f *wire.SignalFrame) *wire.Problem {
	t := c.talk("")
	now := c.h.clock.Now()
	c.mu.Lock()
	if t.sender == nil && !c.mu.over {
		t.sender = c.h.signals.state.Join(now, signal.Caller{Subject: c.asks().Subject, Connection: t.name}, c)
	}
	sender := t.sender
	c.mu.Unlock()
	if sender == nil {
		return nil // the connection has ended
	}
	return sender.Set(now, c.asks().Role, ch, f.ID, f.Key, f.Value)
}

// signalFrames returns what the connection's subscriptions of channels are told next, about a page of it. The caller owns out.
func (c *conn) signalFrames() (bufs [][]byte) {
	t := c.talks.Load()
	if t == nil {
		return nil
	}
	c.mu.Lock()
	subs, every := t.subs, max(c.mu.every, c.out.pacing.slower) // as often as it wants, and as its line allows
	c.mu.Unlock()
	page := c.h.opt.PageBytes
	for _, l := range subs {
		for room := page; l.topic.feed.Behind(l.at); {
			if every > 0 && c.resting(t) {
				return bufs
			}
			f := l.topic.next(c.enc, l.id, l.at, page)
			l.at = f.next
			if len(f.bytes) == 0 {
				continue
			}
			bufs = append(bufs, f.bytes)
			if room -= len(f.bytes); room <= 0 {
				return bufs // more at the next time
			}
		}
	}
	if every > 0 && len(bufs) > 0 {
		t.rests = c.h.clock.Now().Add(every)
	}
	return bufs
}

// resting reports whether a connection with a rate is not due yet, and has it looked after then.
func (c *conn) resting(t *talker) bool {
	if !c.h.clock.Now().Before(t.rests) {
		return false
	}
	s := c.h.signals
	s.mu.Lock()
	s.mu.later[c] = t.rests
	s.mu.Unlock()
	s.wake()
	return true
}

// retune moves the connection's subscriptions of channels to what these are now. What cannot be moved ends with an error.
func (c *conn) retune() {
	c.arranging.Lock()
	defer c.arranging.Unlock()
	if t := c.talks.Load(); t != nil {
		for c.retuneOnce(t) { // until the app did not change meanwhile
		}
		c.kick(true)
	}
}

// retuneOnce is one look at all of them; it reports whether one was moved.
func (c *conn) retuneOnce(t *talker) (moved bool) {
	c.mu.Lock()
	subs := t.subs
	c.mu.Unlock()
	for _, l := range subs {
		name := l.topic.feed.Channel().Name()
		ch, p := c.h.channel(c.asks(), name)
		if !c.outOfTune(l.topic) || !c.tuneOut(l.id) { // the client has ended it meanwhile
			continue
		}
		switch {
		case p != nil:
		case ch == nil: // gone, or a view now
			p = noSuchView()
		default:
			p = c.tuneTo(ch, l.id, func(ch *signal.Channel) (*query, *wire.Problem) {
				return newQuery(c.h.sightOf(c.asks(), ch), l.topic.q.raw, l.topic.q.exact, true)
			})
		}
		if p == nil {
			moved = true
			continue
		}
		c.refuse(l.id, p)
		if c.enc == eventStream { // nothing else is on it
			c.goodbye(p.Code, p.Detail, 0, 0)
		}
	}
	return moved
}
