package push

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/auth"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// conn is one live client: a cursor over the epochs and what it follows. Nothing waits in it but answers to its own
// requests, of which there are few.
//
// Whoever sets mu.busy owns out and the sink until it clears it again: a fan-out goroutine, the connection's reader, or
// a writer goroutine that exists only while the socket is full or there is much to do.
type conn struct {
	h       *Hub
	enc     encoding
	who     atomic.Pointer[auth.Principal] // see asks and authorized
	session string
	number  uint64        // in the order of arrival
	sink    sink          // set before the first owner of out is done
	polled  bool          // the poller says when there is something to read; guarded by mu
	work    chan struct{} // of a connection with a goroutine of its own for writing (SSE); nil for others

	read      reading
	talks     atomic.Pointer[talker] // what it has to do with channels; nil: nothing
	renewals  int64                  // until when its token frames are paid for, unix ms; whoever reads has it
	arranging sync.Mutex             // held from the look-up of a view until its subscription is queued, so that Hub.Settle sees it whole

	cursor  atomic.Uint64 // every change up to here is written or on its way
	moved   atomic.Int64  // when something last went through to the socket, unix ms
	blocked atomic.Bool   // a write is waiting for the socket, or for the line of a slow client
	written atomic.Int64  // bytes since the clock last looked
	calm    int64         // until when a look finds nothing to do unless something changes, unix ms; the clock's
	stirred atomic.Bool   // something has changed since the clock last looked that written and blocked do not show
	line    atomic.Int64  // bytes a second that went through while the kernel had more; 0: it never had
	heard   int64         // when the clock last saw that something had come, unix ms; the clock's, as are the next two
	pinged  int64         // when it last had a ping sent
	answers bool          // it has answered one
	ponged  atomic.Bool   // a pong came since the clock last looked
	queued  int           // by the kernel when the clock last looked; the clock's
	marks   marks

	mu struct {
		sync.Mutex
		busy, again bool  // somebody owns out; and has to look again
		light       bool  // the owner must not take long
		ping        bool  // a ping is due
		late        int64 // bytes a second that the line carries, while older ones wait: found by the clock; 0: nothing was found
		slowed      bool  // it gets frames less often than it wants, since its line does not carry them
		over        bool  // nothing is written any more
		greeted     bool  // hello is done
		letIn       bool  // the limiter counts it, at place
		place       uint64
		exact       bool
		every       time.Duration      // least time between two epoch frames
		each        bool               // a frame for each epoch
		opened      int64              // unix ms
		subs        map[string]*feed   // by id, live or on the way there
		replies     [][]byte           // framed, to be written first
		waiting     int                // bytes of replies
		room        chan struct{}      // closed when replies were taken; nil when nobody waits
		ops         []op               // subscribes and unsubscribes, in order
		unused      []*feed            // of unsubscribes that the end came before
		beat        bool               // a heartbeat is due
		ending      []byte             // the last bytes; non-nil: goodbye is said
		endBy       int64              // when the connection is cut if it has not ended by itself, unix ms
		hangUp      bool               // cut it as soon as ending is written
		catchUps    []*catchUp         // what is read from the log for it
		reading     int32              // pages of the log that are on their way, see history.go
		writes      []*wire.WriteFrame // not answered; the first is being carried out
	}

	out struct {
		pending [][]byte // the socket did not take these yet
		stamp   int64    // of the cursor
		told    uint64   // the client knows that what is live stands here: at most the cursor, since silence moves that too
		live    []member
		shape   *shape    // of live; nil when nothing is live; written under Hub.mu
		one     [1][]byte // scratch of follow
		pacing  pacing
		inside  bool // the cursor lies inside a run of the shape's: the rest of it must be computed for this connection
		pages   []*paging
		behind  []*catchUp // being brought up from the log
		done    bool       // ending is written
	}
}

// newConn returns a connection of who that has no sink yet.
func newConn(enc encoding, who auth.Principal) *conn {
	c := &conn{enc: enc}
	if enc == webSocket {
		c.marks.trial.Store(true)
	}
	c.who.Store(&who)
	return c
}

// asks returns whom the connection speaks for now.
func (c *conn) asks() auth.Principal { return *c.who.Load() }

// op is a change of what a connection follows.
type op struct {
	id   string
	feed *feed
	from wire.Cursor // where to go on
	end  bool        // unsubscribe
	long bool        // see Hub.long
}

// paging is a subscription whose rows are being sent.
type paging struct {
	member
	q     *query // what the feed asks at the position of snap
	snap  *view.Snapshot
	rows  []*windowRow // of a window
	after []byte       // where the rows go on that were not sent yet
	again int          // how often it had to begin again, since it took longer than the ring reaches back
}

// mostReplies bounds the answers that wait for a client, in bytes: beyond it its requests are not read.
const mostReplies = 64 << 10

// kick makes sure that what there is to write gets written. It returns when the socket takes no more or nothing is left. With
// light it leaves long work to a goroutine: for those who have other connections to serve.
func (c *conn) kick(light bool) {
	if c.work != nil {
		c.mu.Lock()
		c.mu.again = true
		c.mu.Unlock()
		select {
		case c.work <- struct{}{}:
		default:
		}
		return
	}
	if !c.claim() {
		return
	}
	for {
		var bufs [][]byte
		heavy := c.full()
		if !heavy {
			bufs, heavy = c.produce(light)
		}
		if len(bufs) > 0 {
			size := length(bufs)
			c.out.pacing.frame = (c.out.pacing.frame + size) / 2
			c.count(bufs)
			rest, err := c.sink.try(bufs)
			if err != nil {
				c.close()
				return
			}
			c.out.pending = rest
			c.written.Add(int64(size - length(rest)))
			if len(rest) == 0 {
				c.smooth()
				c.wrote()
			}
		}
		if heavy || len(c.out.pending) > 0 {
			c.h.group.Go("push writer", func(context.Context) error { c.drain(); return nil })
			return
		}
		if len(bufs) == 0 && c.release() {
			return
		}
		light = true // further pages, for one, are left to a goroutine of the connection's own
	}
}

// claim takes ownership of out, or tells the owner to look again.
func (c *conn) claim() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.over {
		return false
	}
	if c.mu.busy {
		c.mu.again = true
		return false
	}
	c.mu.busy = true
	return true
}

// release gives ownership back unless there is something new to look at.
func (c *conn) release() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.again && !c.mu.over {
		c.mu.again = false
		return false
	}
	c.mu.busy = false
	return true
}

// drain writes until nothing is left, waiting for the socket. The caller owns out; drain gives it back.
func (c *conn) drain() {
	for {
		for len(c.out.pending) > 0 {
			bufs := own(c.out.pending)
			c.out.pending = nil
			c.blocked.Store(true)
			began, n := c.h.now(), length(bufs)
			c.moved.Store(began)
			err := c.sink.write(bufs, func() { c.moved.Store(c.h.now()) })
			c.blocked.Store(false)
			if err != nil {
				c.close()
				return
			}
			c.written.Add(int64(n))
			c.drained(n, c.moved.Load()-began)
			c.wrote()
		}
		c.awaitLine()
		c.out.pending, _ = c.produce(false)
		if n := length(c.out.pending); n > 0 {
			c.out.pacing.frame = (c.out.pacing.frame + n) / 2
		}
		c.count(c.out.pending)
		if len(c.out.pending) == 0 && c.release() {
			return
		}
	}
}

// count counts what goes out.
func (c *conn) count(bufs [][]byte) {
	c.h.total.frames.Add(int64(len(bufs)))
	c.h.total.bytes.Add(int64(length(bufs)))
}

func length(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// wrote notes that the socket took everything.
func (c *conn) wrote() {
	c.moved.Store(c.h.now())
	if c.out.done {
		c.ended()
	}
}

// produce returns what to write next, nothing when the connection is up to date. With light it may leave work to somebody
// with more time.
func (c *conn) produce(light bool) (bufs [][]byte, heavy bool) {
	if c.out.done {
		return nil, false
	}
	c.mu.Lock()
	if light && len(c.mu.ops) > 0 {
		c.mu.Unlock()
		return nil, true
	}
	bufs, ops, ending, beat, late, ping := c.mu.replies, c.mu.ops, c.mu.ending, c.mu.beat, c.mu.late, c.mu.ping
	c.mu.replies, c.mu.waiting, c.mu.ops, c.mu.beat, c.mu.late, c.mu.ping = nil, 0, nil, false, 0, false
	if c.mu.room != nil {
		close(c.mu.room)
		c.mu.room = nil
	}
	for _, o := range ops {
		if ending != nil && o.end {
			c.mu.unused = append(c.mu.unused, o.feed)
		}
	}
	c.mu.Unlock()
	if ending != nil {
		c.out.done = true
		return append(bufs, ending), false
	}
	if slices.ContainsFunc(ops, func(o op) bool { return o.long }) {
		c.h.scans <- struct{}{}
		defer func() { <-c.h.scans }()
	}
	if late > 0 && c.out.pacing.slower == 0 {
		c.drained(int(late), tick.Milliseconds())
	}
	c.out.pacing.bulk = len(ops)+len(c.out.pages) > 0
	if len(ops) > 0 {
		bufs = append(bufs, c.rearrange(ops)...)
	}
	hold := c.marks.hold(c.out.pacing.since)
	frames, heavy := c.follow(light, hold)
	if len(bufs) == 0 {
		bufs = frames
	} else {
		bufs = append(bufs, frames...)
	}
	if len(bufs) == 0 && len(c.out.behind) > 0 {
		bufs = c.history()
		c.out.pacing.bulk = true
	}
	switch {
	case hold:
	case len(bufs) == 0:
		bufs = c.signalFrames()
	default:
		bufs = append(slices.Clip(bufs), c.signalFrames()...)
	}
	switch {
	case len(c.out.pages) > 0 && light:
		heavy = true
	case len(c.out.pages) > 0 && len(bufs) == 0 || len(ops) > 0:
		bufs = append(bufs, c.page()...)
	}
	if beat && len(bufs) == 0 && !heavy {
		bufs = c.h.heartbeat(c)
	}
	if ping {
		bufs = append(slices.Clip(bufs), []byte{0x80 | opPing, 0})
	}
	return c.mark(bufs), heavy
}

// mark puts a mark behind what is to be written if the connection is to have one there. The caller owns out.
func (c *conn) mark(bufs [][]byte) [][]byte {
	p, n := &c.out.pacing, length(bufs)
	if n > 0 && c.marks.lapsed.Load() {
		c.marks.trial.Store(false) // what was held until now is in bufs, merged
	}
	switch {
	case n == 0 || c.enc != webSocket || c.h.deaf || c.out.done || !c.marks.used():
		return bufs
	case p.slower > 0 && !p.bulk:
	case c.trialMark(n):
		n += p.since // with the rows of a snapshot, for one
	default:
		p.since += n
		return bufs
	}
	p.since = 0
	return append(slices.Clip(bufs), c.marks.send(n, c.h.now(), c.sink.away()))
}

// trialMark reports whether a client on trial is to have a mark behind n bytes more. The caller owns out.
func (c *conn) trialMark(n int) bool {
	return c.marks.trial.Load() && c.out.pacing.since+n >= trialWindow/2 && !c.marks.due() && len(c.out.pages)+len(c.out.behind) == 0 &&
		(len(c.out.live) > 0 || c.talks.Load() != nil)
}

// reply queues an answer to be written before anything else. It does not wait.
func (c *conn) reply(frame []byte) {
	c.queue(frame)
	c.kick(false)
}

// queue is reply without writing.
func (c *conn) queue(frame []byte) {
	c.mu.Lock()
	if !c.mu.over && c.mu.ending == nil {
		c.mu.replies = append(c.mu.replies, frame)
		c.mu.waiting += len(frame)
	}
	c.mu.Unlock()
}

// crowded reports whether the client has to take answers before it is listened to.
func (c *conn) crowded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.crowdedLocked()
}

// crowdedLocked counts answers, and what is still to be answered: as many subscribes and unsubscribes as replace all that a connection may have.
func (c *conn) crowdedLocked() bool {
	return !c.mu.over && (c.mu.waiting >= mostReplies || len(c.mu.ops) >= 2*c.h.opt.Limits.Subscriptions)
}

// makeRoom waits until the client has taken most of its answers.
func (c *conn) makeRoom() {
	for {
		c.mu.Lock()
		if !c.crowdedLocked() {
			c.mu.Unlock()
			return
		}
		if c.mu.room == nil {
			c.mu.room = make(chan struct{})
		}
		room := c.mu.room
		c.mu.Unlock()
		<-room
	}
}

// close cuts the connection and forgets it. It may be called by anybody and again.
func (c *conn) close() {
	c.mu.Lock()
	if c.mu.over {
		c.mu.Unlock()
		return
	}
	c.mu.over = true
	defer c.leftLocked()()
	c.countSlow(false)
	held := make([]*feed, 0, len(c.mu.subs))
	for _, f := range c.mu.subs {
		held = append(held, f)
	}
	for _, o := range c.mu.ops {
		if o.end {
			held = append(held, o.feed)
		}
	}
	held = append(held, c.mu.unused...)
	c.mu.replies, c.mu.ops, c.mu.subs = nil, nil, nil
	if c.mu.room != nil {
		close(c.mu.room)
		c.mu.room = nil
	}
	sink, catchUps, polled := c.sink, c.mu.catchUps, c.polled
	c.mu.Unlock()
	for _, u := range catchUps {
		u.stop()
	}
	if polled {
		c.h.poll.remove(c, sink)
	}
	if sink != nil {
		sink.close()
	}
	if polled && c.read.claim(true) {
		c.uncount()
	}
	c.hush()
	c.h.forget(c, held)
}
