package push

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"laaster/internal/kit/fair"
	"laaster/internal/wire"
)

// readBuffer is the size of the buffers that readers share.
const readBuffer = 16 << 10

// readTurn is how much is read from one connection before others get their turn.
const readTurn = 4 * readBuffer

// reading is the receiving half of a WebSocket: what its one reader at a time knows.
type reading struct {
	turn  atomic.Uint32 // who reads: see the constants
	heard atomic.Bool   // something came since the clock last looked
	phase phase
	slot  int32        // in the poller, from 1; 0: none; guarded by poller.mu
	since atomic.Int64 // when the incomplete message began, unix ms; 0: there is none
	in    inbound
	held  int // bytes of in that are counted in Hub.partial
	peer  fair.Peer
}

// The bits of reading.turn. Whoever sets turnTaken reads until it clears it; others leave turnAgain.
const (
	turnTaken = 1 << iota
	turnAgain // there may be more to read
	turnHup   // the client has closed its half, or the connection broke: read up to the end
)

// phase is what is done with what the client sends.
type phase uint8

const (
	takesFrames phase = iota
	awaitsClose       // after goodbye: unread data would turn our close into a reset that overtakes it
	dropsBytes        // after a violation: what comes cannot be read as frames
)

// claim takes the turn to read, or tells the one who has it to look again.
func (r *reading) claim(hup bool) bool {
	bits := uint32(turnTaken | turnAgain)
	if hup {
		bits |= turnHup
	}
	if r.turn.Or(bits)&turnTaken != 0 {
		return false
	}
	r.turn.And(^uint32(turnAgain))
	return true
}

// release gives the turn back unless there is something new to read.
func (r *reading) release() bool {
	for {
		t := r.turn.Load()
		if t&turnAgain != 0 {
			r.turn.And(^uint32(turnAgain))
			return false
		}
		if r.turn.CompareAndSwap(t, t&^turnTaken) {
			return true
		}
	}
}

// consume handles what the client sent. With wait it waits while the client has to take answers first; without, it returns what it did not look at
// for that reason. The caller is the connection's only reader and may lose data.
func (c *conn) consume(data []byte, wait bool) (rest []byte) {
	var pongs []byte // answered in one write, which is what an answer costs
	for len(data) > 0 && c.read.phase != dropsBytes {
		if c.read.phase == takesFrames && c.crowded() {
			if !wait {
				rest = data
				break
			}
			c.makeRoom()
		}
		op, payload, after, err := c.read.in.next(data, c.h.opt.Limits.FrameBytes)
		if err == nil {
			err = c.countPartial()
		}
		if err != nil {
			c.broken(err)
			return nil
		}
		data = after
		if op == opPing && c.read.phase == takesFrames {
			pongs = append(pongs, sealFrame(append(make([]byte, frameHeader, frameHeader+len(payload)), payload...), opPong)...)
			continue
		}
		if op != 0 && len(pongs) > 0 {
			c.reply(pongs)
			pongs = nil
		}
		c.message(op, payload)
	}
	if len(pongs) > 0 {
		c.reply(pongs)
	}
	return rest
}

// consumePaced is consume for the poller's readers. pause is for how long the connection is not to be read from.
func (c *conn) consumePaced(data []byte, wait bool) (rest []byte, pause time.Duration) {
	f := c.h.opt.Floor
	if f == nil {
		return c.consume(data, wait), 0
	}
	began := f.Now()
	rest = c.consume(data, wait)
	f.Worked(&c.read.peer, began)
	return rest, f.Pause(&c.read.peer)
}

// rest waits, for the sake of others, or until the hub is closed.
func (h *Hub) rest(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-h.opt.Floor.After(d):
	case <-h.group.Context().Done():
	}
}

// message handles a message or control frame; op 0 is none.
func (c *conn) message(op byte, payload []byte) {
	if c.read.phase == awaitsClose {
		if op == opClose {
			c.close()
		}
		return
	}
	switch op {
	case opText:
		if !c.receive(payload) {
			c.read.phase = awaitsClose
		}
	case opBinary:
		c.refuse("", wire.NewProblem(wire.InvalidRequest, "frames are text").WithField("opcode", "send JSON in text messages"))
		c.goodbye(wire.InvalidRequest, "frames are text", 0, closeUnsupported)
		c.read.phase = awaitsClose
	case opPong:
		c.ponged.Store(true)
		if late := c.marks.answer(payload, c.h.now()); late > 0 || c.marks.held.Swap(false) {
			c.tried(late)
		}
	case opClose:
		c.read.phase = awaitsClose
		if !c.end(closeFrame(closeCode(payload), ""), true) {
			c.close() // the client's answer to our goodbye
		}
	}
}

// countPartial keeps the sum of what incomplete messages hold within Options.PartialBytes.
func (c *conn) countPartial() error {
	holds := c.read.in.holds()
	if c.read.in.part == nil {
		if c.read.since.Load() != 0 {
			c.read.since.Store(0)
		}
	} else if c.read.since.Load() == 0 {
		c.read.since.Store(c.h.now())
		c.stirred.Store(true)
	}
	if holds == c.read.held {
		return nil
	}
	total := c.h.partial.Add(int64(holds - c.read.held))
	grew := holds > c.read.held
	c.read.held = holds
	if grew && total > int64(c.h.opt.PartialBytes) {
		return &protocolError{closeTryLater, "too many incomplete messages at a time on this server"}
	}
	return nil
}

// uncount gives back what the connection's incomplete message held. The caller is its last reader.
func (c *conn) uncount() {
	c.h.partial.Add(int64(-c.read.held))
	c.read.held, c.read.in.part = 0, nil
	c.read.since.Store(0)
}

// broken ends a connection that broke the rules. What else it sends is dropped until it closes.
func (c *conn) broken(err error) {
	c.uncount()
	c.read.phase = dropsBytes
	var pe *protocolError
	if !errors.As(err, &pe) {
		c.close()
		return
	}
	p := wire.NewProblem(wire.InvalidRequest, pe.reason)
	switch pe.code {
	case closeTooBig:
		p = wire.NewProblem(wire.TooLarge, pe.reason)
	case closeTryLater:
		p = retryLater(wire.Busy, pe.reason, 5*time.Second)
	}
	c.refuse("", p)
	c.goodbye(p.Code, pe.reason, time.Duration(p.RetryAfterMS)*time.Millisecond, pe.code)
}

// attach gives an accepted connection its socket, and somebody who reads it: the poller, or a goroutine of its own where that cannot be.
// before is what the client sent already.
func (h *Hub) attach(c *conn, nc net.Conn, before []byte) {
	sink, raw := h.newSink(nc)
	c.mu.Lock()
	c.sink = sink
	c.polled = raw != nil && h.poll != nil
	over := c.mu.over
	c.mu.Unlock()
	if over { // the hub was closed meanwhile
		nc.Close()
		return
	}
	c.drain()
	if c.polled {
		c.read.turn.Store(turnTaken)
		if h.poll.add(c, raw) {
			h.poll.begin(c, before)
			return
		}
		c.mu.Lock()
		c.polled = false
		c.mu.Unlock()
	}
	h.group.Go("push reader", func(context.Context) error { c.readStream(nc, before); return nil })
}

// readStream reads from a connection that the poller cannot watch, on a goroutine of its own. The buffer is small while little comes.
func (c *conn) readStream(src io.Reader, before []byte) {
	defer c.uncount()
	c.consume(before, true)
	buf := make([]byte, idleBuffer)
	for {
		n, err := src.Read(buf)
		c.read.heard.Store(true)
		c.stirred.Store(true)
		c.consume(buf[:n], true)
		if err != nil {
			c.close()
			return
		}
		switch {
		case n == len(buf) && n < readBuffer:
			buf = make([]byte, min(4*n, readBuffer))
		case n < idleBuffer && len(buf) > idleBuffer:
			buf = make([]byte, idleBuffer)
		}
	}
}

// idleBuffer is what a reader with a goroutine of its own holds while nothing comes.
const idleBuffer = 512
