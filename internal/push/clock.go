package push

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
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
	if h.poll != nil {
		defer h.poll.close()
	}
	var reported [6]int64
	var crowd crowd
	var looks looks
	ticks := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.clock.After(tick):
		}
		now := h.now()
		n := h.lookThrough(&looks, now)
		if n == 0 {
			h.forgetPages()
		}
		if ticks++; ticks%sharedFor == 0 || n == 0 { // who came back together has what was made for all of them
			h.kept.clear()
			h.merged.clear()
		}
		h.report(&reported)
		if crowd.over(h.arrived(), now) {
			h.group.Go("push give back", func(context.Context) error { debug.FreeOSMemory(); return nil })
		}
	}
}

// looks is what the clock keeps from one look to the next.
type looks struct {
	all     []*conn
	revised uint64 // Options.Revised when the last one began
}

// lookThrough looks at the connections that are not quiet; at all of them when Options.Revised is not what it was. It returns how many there are.
func (h *Hub) lookThrough(l *looks, now int64) int {
	l.all = h.appendConnections(l.all[:0])
	revised := h.opt.Revised()
	for _, c := range l.all {
		if revised != l.revised || !c.quiet(now) {
			c.look(now)
		}
	}
	l.revised = revised
	n := len(l.all)
	clear(l.all) // they may close
	return n
}

// sharedFor is how many ticks what was encoded for some connections is kept for others at most.
const sharedFor = 4

// crowd watches arrivals. When many came at once, what their requests took is garbage that an idle process would keep for long, since nothing
// makes it collect: some KB for each.
type crowd struct {
	seen, settled uint64 // arrivals so far, and those of crowds that are over
	last          int64  // when memory was given back, unix ms
}

const (
	crowdOf    = 512       // arrivals
	crowdPause = 60 * 1000 // ms
)

// over reports whether a crowd has come and nobody came since the last look.
func (c *crowd) over(arrived uint64, now int64) bool {
	quiet := arrived == c.seen
	c.seen = arrived
	if !quiet || arrived-c.settled < crowdOf || now-c.last < crowdPause {
		return false
	}
	c.settled, c.last = arrived, now
	return true
}

// arrived counts the connections since the start.
func (h *Hub) arrived() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.lastConn
}

func (h *Hub) connections() []*conn { return h.appendConnections(nil) }

// appendConnections appends all connections to a list, which grows by as many at once.
func (h *Hub) appendConnections(all []*conn) []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	all = slices.Grow(all, len(h.mu.conns))
	for c := range h.mu.conns {
		all = append(all, c)
	}
	return all
}

// quiet reports whether a look would find nothing to do: so it is of most connections most of the time, and a look at one that was not used for a while
// takes a microsecond of waiting for memory. Few bytes behind an empty queue of the kernel's cannot be late.
func (c *conn) quiet(now int64) bool {
	return now < c.calm && c.written.Load() < lateBytes && !c.blocked.Load() && !c.stirred.Load()
}

// look does what is due for a connection. The caller is the clock.
func (c *conn) look(now int64) {
	c.stirred.Store(false) // before anything is read
	o := &c.h.opt
	idle := time.Duration(now-c.moved.Load()) * time.Millisecond
	late := c.late()
	ping, gone := c.silent(now)
	lapse := c.marks.lapse(now)
	c.mu.Lock()
	age := time.Duration(now-c.mu.opened) * time.Millisecond
	if late > 0 {
		c.mu.late = late
	}
	greeted, ending, endBy := c.mu.greeted, c.mu.ending != nil, c.mu.endBy
	beat := greeted && !ending && idle >= time.Duration(o.Limits.HeartbeatSeconds)*time.Second && !c.blocked.Load()
	if beat {
		c.mu.beat = true
	}
	ping = ping && greeted && !ending
	if ping {
		c.mu.ping = true
	}
	c.mu.Unlock()
	var lapsed *wire.Problem
	if !ending {
		lapsed = c.lapsed()
	}
	c.calm = 0
	if greeted && !ending && !c.blocked.Load() && c.queued == 0 && c.read.since.Load() == 0 && c.marks.at.Load() == 0 {
		c.calm = c.due()
	}
	switch {
	case ending:
		if now >= endBy {
			c.close()
		}
	case lapsed != nil:
		c.h.opt.Logger.Info("client closed: its token is not good any more", "session", c.session, "subject", c.asks().Subject, "code", lapsed.Code)
		c.dismiss(lapsed)
	case c.blocked.Load() && idle >= o.StallTimeout:
		c.slow()
	case gone && greeted:
		c.h.total.vanished.Add(1)
		c.h.opt.Logger.Info("client closed: it answers no pings", "session", c.session, "subject", c.asks().Subject)
		c.goodbye(wire.SlowConsumer, "you do not answer pings", time.Second, closeTryLater)
	case !greeted && age+tick > o.HelloTimeout: // the next look would be too late
		p := retryLater(wire.InvalidRequest, "no hello came", time.Second).WithField("type", "send hello first") // the line may be slow
		c.refuseLater("", p)
		c.h.opt.Limiter.Misread(c.asks(), p.Code)
		c.goodbye(p.Code, p.Detail, time.Second, closePolicy)
	case c.read.since.Load() != 0 && now-c.read.since.Load() >= o.PartialTimeout.Milliseconds():
		p := retryLater(wire.InvalidRequest, "a message took too long to come", time.Second).WithHint("send it at once, or in smaller ones")
		c.refuseLater("", p)
		c.goodbye(p.Code, p.Detail, time.Second, closePolicy)
	case beat, late > 0, ping, lapse:
		c.kick(true)
	}
}

// silentBeats is how many heartbeats a client may say nothing before it is sent a ping, and again and again; vanishedBeats is how many a client that
// has answered pings may leave them unanswered. A browser answers them itself, so a page in a throttled tab need not be awake.
const (
	silentBeats   = 2
	vanishedBeats = 8
)

// silent looks whether the client has said anything. ping is true when it should be asked for a sign of life, and gone when it has always answered and
// does not any more: what is between us may still take our bytes. Clients that never answer are left to TCP, whose bytes must be acknowledged
// within a minute (deadPeerMS). The caller is the clock.
func (c *conn) silent(now int64) (ping, gone bool) {
	if c.enc != webSocket {
		return false, false
	}
	beat := int64(c.h.opt.Limits.HeartbeatSeconds) * 1000
	if c.ponged.Swap(false) && c.pinged != 0 {
		c.answers = true
	}
	if c.read.heard.Swap(false) || c.heard == 0 || c.blocked.Load() { // blocked: a ping would wait with the rest, and Options.StallTimeout watches
		c.heard = now
	}
	switch {
	case c.answers && now-c.heard >= vanishedBeats*beat:
		return false, true
	case now-max(c.heard, c.pinged) < silentBeats*beat:
		return false, false
	}
	c.pinged = now
	return true, false
}

// due returns when the next look is due for a connection on which nothing happens: for a heartbeat, a ping, the end of an old silence, or of its token. The
// caller is the clock.
func (c *conn) due() int64 {
	beat := int64(c.h.opt.Limits.HeartbeatSeconds) * 1000
	at := c.moved.Load() + beat
	if c.enc == webSocket {
		at = min(at, max(c.heard, c.pinged)+silentBeats*beat)
		if c.answers {
			at = min(at, c.heard+vanishedBeats*beat)
		}
	}
	if t := c.who.Load().Token; t != nil {
		at = min(at, t.Ends().UnixMilli())
	}
	return at
}

// slow ends a connection that cannot be kept up to date.
func (c *conn) slow() {
	c.h.total.slow.Add(1)
	c.h.opt.Logger.Info("client closed: it does not read", "session", c.session, "subject", c.asks().Subject)
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
	c.stirred.Store(true)
	c.kick(true) // whoever ends it may serve others too
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
	if c.out.shape == nil && len(c.out.pages)+len(c.out.behind) == 0 && h.mu.pos > c.cursor.Load() {
		c.advance(h.mu.pos, h.mu.stamp)
	}
	h.mu.Unlock()
	cursor := c.cursor.Load()
	c.out.told = cursor
	if c.enc == eventStream && c.talks.Load() != nil { // a channel has no positions
		return [][]byte{[]byte(": heartbeat\n\n")}
	}
	return h.beats.frame(beatKey{c.enc, cursor, c.out.stamp}, func() []byte {
		if c.enc == eventStream {
			b := append([]byte(": heartbeat\nid: "), h.position(nil, cursor)...)
			return append(b, "\n\n"...)
		}
		return h.epochFrame(c.enc, nil, cursor, cursor, c.out.stamp)
	})
}

// beats is the last heartbeat: most connections get the same bytes. Safe for concurrent use.
type beats struct {
	mu struct {
		sync.Mutex
		key  beatKey
		last []byte
	}
}

type beatKey struct {
	enc    encoding
	cursor uint64
	stamp  int64
}

func (b *beats) frame(key beatKey, build func() []byte) [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.key != key || b.mu.last == nil {
		b.mu.key, b.mu.last = key, build()
	}
	return [][]byte{b.mu.last}
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
