package push

import (
	"bytes"
	"context"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// poller tells which of many sockets have something to read, and a few goroutines that read it: an idle connection has neither a goroutine nor a
// buffer. It is an epoll instance of its own, edge-triggered, that is itself watched by the runtime, so nobody blocks a thread in
// it. Its events name a slot and the number of the connection that had it, so one that comes late meets nobody else.
type poller struct {
	file *os.File
	raw  syscall.RawConn // of file
	kept sync.Pool       // of *pollReader, for connections that are read beside the poller's goroutines

	mu struct {
		sync.Mutex
		closed bool
		slots  []*conn // by slot - 1
		free   []int32
	}
}

// pollers is how many goroutines read: one waits for events while the others work on theirs. Subscribing is done by them unless it takes long
// (Hub.long), so it is also how many clients are admitted at a time.
func pollers() int { return max(2, min(runtime.GOMAXPROCS(0), 8)) }

const edges = syscall.EPOLLIN | syscall.EPOLLRDHUP | 1<<31 // EPOLLET, which package syscall has as a negative number

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // os.NewFile asks the runtime to watch only such
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	p.raw, err = p.file.SyscallConn()
	if err != nil {
		p.file.Close()
		return nil, err
	}
	p.kept.New = func() any { return newPollReader() }
	return p, nil
}

// control changes what the epoll instance watches. The caller holds p.mu.
func (p *poller) control(raw syscall.RawConn, op int, c *conn) error {
	var err error
	inner := func(epoll uintptr) {
		e := raw.Control(func(fd uintptr) {
			err = syscall.EpollCtl(int(epoll), op, int(fd), &syscall.EpollEvent{Events: edges, Fd: c.read.slot, Pad: int32(c.number)})
		})
		if e != nil {
			err = e
		}
	}
	if e := p.raw.Control(inner); e != nil {
		return e
	}
	return err
}

// add watches a socket. It reports false when that cannot be. The caller has the turn to read.
func (p *poller) add(c *conn, raw syscall.RawConn) bool {
	p.mu.Lock()
	if p.mu.closed {
		p.mu.Unlock()
		return false
	}
	if n := len(p.mu.free); n > 0 {
		c.read.slot, p.mu.free = p.mu.free[n-1], p.mu.free[:n-1]
	} else {
		p.mu.slots = append(p.mu.slots, nil)
		c.read.slot = int32(len(p.mu.slots))
	}
	p.mu.slots[c.read.slot-1] = c
	err := p.control(raw, syscall.EPOLL_CTL_ADD, c)
	p.mu.Unlock()
	c.mu.Lock()
	over := c.mu.over
	c.mu.Unlock()
	if err != nil || over {
		p.remove(c, c.sink)
	}
	return err == nil
}

// remove forgets a connection and the socket that s writes to. Safe to call again.
func (p *poller) remove(c *conn, s sink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := c.read.slot
	if slot == 0 {
		return
	}
	if tcp, ok := s.(*tcpSink); ok && !p.mu.closed {
		_ = p.control(tcp.raw, syscall.EPOLL_CTL_DEL, c) // closing the socket does it as well
	}
	p.mu.slots[slot-1], c.read.slot = nil, 0
	p.mu.free = append(p.mu.free, slot)
}

// watched counts the sockets.
func (p *poller) watched() int {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.slots) - len(p.mu.free)
}

// find returns whom an event is for, or nil when that one has left.
func (p *poller) find(e *syscall.EpollEvent) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := int(e.Fd) - 1; i >= 0 && i < len(p.mu.slots) {
		if c := p.mu.slots[i]; c != nil && int32(c.number) == e.Pad {
			return c
		}
	}
	return nil
}

// close ends the poller's goroutines.
func (p *poller) close() {
	p.mu.Lock()
	p.mu.closed = true
	p.mu.Unlock()
	p.file.Close()
}

// read is one of the goroutines that read.
func (p *poller) read(context.Context) error {
	var batch [32]syscall.EpollEvent
	var n int
	wait := func(epoll uintptr) bool {
		var err error
		for {
			n, err = syscall.EpollWait(int(epoll), batch[:], 0)
			if err != syscall.EINTR {
				return n != 0 // a failure, too
			}
		}
	}
	r := newPollReader()
	for {
		if err := p.raw.Read(wait); err != nil {
			return nil // closed
		}
		if n < 0 {
			return os.ErrInvalid
		}
		for i := range n {
			e := &batch[i]
			c := p.find(e)
			hup := e.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
			if c != nil && c.read.claim(hup) {
				r.serve(c, false)
			}
		}
	}
}

// begin reads from a new connection. The caller has the turn to read.
func (p *poller) begin(c *conn, before []byte) {
	if rest, pause := c.consumePaced(before, false); len(rest) > 0 || pause > 0 {
		c.readAside(bytes.Clone(rest), pause)
		return
	}
	r := p.kept.Get().(*pollReader)
	r.serve(c, false)
	p.kept.Put(r)
}

// pollReader is a buffer, and a read into it that allocates nothing.
type pollReader struct {
	buf  []byte
	n    int
	err  error
	once func(fd uintptr) bool
}

func newPollReader() *pollReader {
	r := &pollReader{buf: make([]byte, readBuffer)}
	r.once = func(fd uintptr) bool {
		for {
			r.n, r.err = syscall.Read(int(fd), r.buf)
			if r.err != syscall.EINTR {
				return true
			}
		}
	}
	return r
}

// read returns how much came, 0 when nothing is there.
func (r *pollReader) read(raw syscall.RawConn) (int, error) {
	err := raw.Read(r.once)
	switch {
	case err != nil:
		return 0, err
	case r.err == syscall.EAGAIN:
		return 0, nil
	case r.err != nil:
		return 0, r.err
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

// serve reads what is there. The caller has the turn to read, which ends here or goes to another goroutine. When the connection is over it is
// kept: nobody reads any more. wait is for a goroutine that serves this connection alone.
func (r *pollReader) serve(c *conn, wait bool) {
	raw := c.sink.(*tcpSink).raw
	for total := 0; ; {
		n, err := r.read(raw)
		if err != nil {
			c.uncount()
			c.close()
			return
		}
		if n > 0 {
			c.read.heard.Store(true)
			c.stirred.Store(true)
			rest, pause := c.consumePaced(r.buf[:n], wait)
			if len(rest) > 0 || pause > 0 && !wait {
				c.readAside(bytes.Clone(rest), pause)
				return
			}
			if pause > 0 {
				c.h.rest(pause)
			}
		}
		switch total += n; {
		case n == 0, n < len(r.buf) && c.read.turn.Load()&turnHup == 0:
			if c.read.release() {
				return
			}
		case !wait && total >= readTurn:
			c.readAside(nil, 0)
			return
		}
	}
}

// readAside goes on reading after a pause on a goroutine of the connection's own: it sends much, makes much work, or does not take its answers.
func (c *conn) readAside(rest []byte, pause time.Duration) {
	c.h.group.Go("push reader", func(context.Context) error {
		c.h.rest(pause)
		r := c.h.poll.kept.Get().(*pollReader)
		c.consume(rest, true)
		r.serve(c, true)
		c.h.poll.kept.Put(r)
		return nil
	})
}
