//go:build unix

package push

import (
	"net"
	"sync"
	"syscall"

	"laaster/internal/kit/fair"
)

// tcpSink writes to a socket without going through a goroutine as long as the kernel takes the bytes.
type tcpSink struct {
	conn *net.TCPConn
	raw  syscall.RawConn
	kept *sync.Pool // of *sending
}

// sending is a write under way, with functions that are made once so that a write allocates nothing.
type sending struct {
	buf        []byte // what is written
	room       []byte // where small buffers are put together
	n          int
	err        error
	once, wait func(fd uintptr) bool
}

func newSending() *sending {
	o := &sending{}
	o.once = func(fd uintptr) bool { o.send(fd); return true }
	o.wait = func(fd uintptr) bool { o.send(fd); return o.n > 0 || o.err != nil }
	return o
}

// newSink returns the sink for a connection, with the socket tuned for frames that should not grow old in its buffer. raw is nil when the
// poller cannot watch it.
func (h *Hub) newSink(nc net.Conn) (s sink, raw syscall.RawConn) {
	below := nc
	if p, ok := nc.(*fair.Conn); ok { // the poller paces by itself
		below = p.Conn
	}
	tcp, ok := below.(*net.TCPConn)
	if !ok {
		return h.sinkOver(nc), nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return &streamSink{nc}, nil
	}
	tuneSocket(raw, h.opt.UnsentBytes)
	return &tcpSink{tcp, raw, &h.sendings}, raw
}

// send writes buf once. n is 0 without an error when the socket is full.
func (o *sending) send(fd uintptr) {
	for {
		n, err := syscall.Write(int(fd), o.buf)
		switch err {
		case nil:
			o.n, o.err = n, nil
			return
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			o.n, o.err = 0, nil
			return
		}
		o.n, o.err = 0, err
		return
	}
}

// join makes the first buffers of bufs, which is not empty, the next to be written: one alone, or several small ones put together.
func (o *sending) join(bufs [][]byte) {
	o.buf = bufs[0]
	if len(bufs) == 1 || len(bufs[0])+len(bufs[1]) > joinLimit {
		return
	}
	o.room = o.room[:0]
	for _, b := range bufs {
		if len(o.room)+len(b) > joinLimit {
			break
		}
		o.room = append(o.room, b...)
	}
	o.buf = o.room
}

// skip returns what follows the first n bytes of bufs.
func skip(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	switch {
	case len(bufs) == 0:
		return nil
	case n == 0:
		return bufs
	}
	return append([][]byte{bufs[0][n:]}, bufs[1:]...)
}

// run writes the first buffers of bufs by how, and returns what is left and whether the socket took all that it was given.
func (s *tcpSink) run(bufs [][]byte, block bool) (rest [][]byte, all bool, err error) {
	o := s.kept.Get().(*sending)
	how := o.once
	if block { // it may take long: it should not hold memory of its own
		o.buf, o.room, how = bufs[0], nil, o.wait
	} else {
		o.join(bufs)
	}
	o.n, o.err = 0, nil
	err = s.raw.Write(how)
	if err == nil {
		err = o.err
	}
	n, size := o.n, len(o.buf)
	o.buf = nil
	s.kept.Put(o)
	if err != nil {
		return nil, false, err
	}
	return skip(bufs, n), n == size, nil
}

func (s *tcpSink) try(bufs [][]byte) ([][]byte, error) {
	for len(bufs) > 0 {
		rest, all, err := s.run(bufs, false)
		if err != nil || !all {
			return rest, err
		}
		bufs = rest
	}
	return nil, nil
}

func (s *tcpSink) write(bufs [][]byte, moved func()) error {
	for block := false; len(bufs) > 0; block = true {
		rest, _, err := s.run(bufs, block)
		if err != nil {
			return err
		}
		bufs = rest
		moved()
	}
	return nil
}

func (s *tcpSink) narrow(bytes, unsent int) { narrowSocket(s.raw, bytes, unsent) }

func (s *tcpSink) queued() int { return queuedBytes(s.raw) }

func (s *tcpSink) away() int64 { return roundTrip(s.raw) }

func (s *tcpSink) close() { s.conn.Close() }
