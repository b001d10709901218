package push

import (
	"context"
	"fmt"
	"time"

	"laaster/internal/wire"
)

// tick is how often the connections are looked through.
const tick = time.Second

// now is the clock in ms since 1970.
func (h *Hub) now() int64 { return h.clock.Now().UnixMilli() }

// millis is the clock as frames tell it.
func (h *Hub) millis() float64 { return wire.Millis(h.clock.Now().UnixMicro()) }

// watch looks through the connections now and then: who has heard nothing for a while gets a heartbeat, who reads nothing is
// closed, and so is who does not say hello or does not leave. One goroutine for all of them, no timer for any.
func (h *Hub) watch(ctx context.Context) error {
	var reported [5]int64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.clock.After(tick):
		}
		now := h.now()
		all := h.connections()
		for _, c := range all {
			c.look(now)
		}
		if len(all) == 0 {
			h.kept.clear()
		}
		h.report(&reported)
	}
}

func (h *Hub) connections() []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*conn, 0, len(h.mu.conns))
	for c := range h.mu.conns {
		all = append(all, c)
	}
	return all
}

// look does what is due for a connection.
func (c *conn) look(now int64) {
	o := &c.h.opt
	idle := time.Duration(now-c.moved.Load()) * time.Millisecond
	c.mu.Lock()
	age := time.Duration(now-c.mu.opened) * time.Millisecond
	greeted, ending, endBy := c.mu.greeted, c.mu.ending != nil, c.mu.endBy
	beat := greeted && !ending && idle >= time.Duration(o.Limits.HeartbeatSeconds)*time.Second && !c.blocked.Load()
	if beat {
		c.mu.beat = true
	}
	c.mu.Unlock()
	switch {
	case ending:
		if now >= endBy {
			c.close()
		}
	case c.blocked.Load() && idle >= o.StallTimeout:
		c.slow()
	case !greeted && age >= o.HelloTimeout:
		p := wire.NewProblem(wire.InvalidRequest, "no hello came").WithField("type", "send hello first")
		c.refuse("", p)
		c.goodbye(p.Code, p.Detail, 0, closePolicy)
	case beat:
		c.kick(true)
	}
}

// slow ends a connection that cannot be kept up to date.
func (c *conn) slow() {
	c.h.total.slow.Add(1)
	c.h.opt.Logger.Info("client closed: it does not read", "session", c.session, "subject", c.who.Subject)
	c.goodbye(wire.SlowConsumer, "you do not read fast enough", 5*time.Second, closeTryLater)
}

// goodbye makes the next bytes the last ones. The client has Options.CloseTimeout to take them, then the connection is cut.
func (c *conn) goodbye(code wire.Code, reason string, retry time.Duration, closeCode int) {
	last := c.frame("goodbye", &wire.GoodbyeFrame{Code: code, Reason: reason, RetryAfterMS: int(retry / time.Millisecond)})
	if c.enc == webSocket {
		last = append(last, closeFrame(closeCode, string(code))...)
	} else if retry > 0 { // browsers heed this line
		last = append(fmt.Appendf(nil, "retry: %d\n", retry/time.Millisecond), last...)
	}
	c.end(last, c.enc == eventStream)
}

// end makes last the last bytes. With hangUp the connection is cut when they are written, else the client's close is awaited. It
// reports false when the last bytes are decided already.
func (c *conn) end(last []byte, hangUp bool) bool {
	c.mu.Lock()
	first := !c.mu.over && c.mu.ending == nil
	if first {
		c.mu.ending, c.mu.hangUp = last, hangUp
		c.mu.endBy = c.h.now() + c.h.opt.CloseTimeout.Milliseconds()
	}
	c.mu.Unlock()
	c.kick(false)
	return first
}

// ended is called when the last bytes are written.
func (c *conn) ended() {
	c.mu.Lock()
	hangUp := c.mu.hangUp
	c.mu.Unlock()
	if hangUp {
		c.close()
	}
}

// heartbeat returns an empty epoch for a connection on which nothing happens. The caller owns out.
func (h *Hub) heartbeat(c *conn) [][]byte {
	h.mu.Lock()
	if c.out.shape == nil && len(c.out.pages) == 0 && h.mu.pos > c.cursor.Load() {
		c.advance(h.mu.pos, h.mu.stamp)
	}
	h.mu.Unlock()
	cursor := c.cursor.Load()
	c.out.told = cursor
	if c.enc == eventStream {
		b := append([]byte(": heartbeat\nid: "), h.position(nil, cursor)...)
		return [][]byte{append(b, "\n\n"...)}
	}
	return [][]byte{h.epochFrame(c.enc, nil, cursor, cursor, c.out.stamp)}
}

// SetFreshness tells every client how far what it sees can be trusted to be current: wire.FreshLive, FreshCatchingUp or
// FreshStale. New clients are told after their welcome unless it is live, which is the default.
func (h *Hub) SetFreshness(state string, since time.Time) {
	f := wire.FreshnessFrame{State: state, Since: wire.Millis(since.UnixMicro())}
	h.mu.Lock()
	h.mu.fresh = f
	h.mu.Unlock()
	for _, c := range h.connections() {
		c.mu.Lock()
		greeted := c.mu.greeted
		c.mu.Unlock()
		if greeted {
			c.reply(c.frame("freshness", &f))
		}
	}
}

func (h *Hub) freshness() wire.FreshnessFrame {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.fresh
}
