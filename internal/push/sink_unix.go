//go:build unix

package push

import (
	"net"
	"syscall"
)

// tcpSink writes to a socket without going through a goroutine as long as the kernel takes the bytes.
type tcpSink struct {
	conn net.Conn
	raw  syscall.RawConn
	// The arguments and results of once and wait, which are made once so that a write allocates nothing.
	buf        []byte
	n          int
	err        error
	once, wait func(fd uintptr) bool
}

// newSink returns the sink for a connection, with the socket tuned for frames that should not grow old in its buffer.
func newSink(conn net.Conn, unsent int) sink {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return &streamSink{conn}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return &streamSink{conn}
	}
	tuneSocket(raw, unsent)
	s := &tcpSink{conn: conn, raw: raw}
	s.once = func(fd uintptr) bool { s.send(fd); return true }
	s.wait = func(fd uintptr) bool { s.send(fd); return s.n > 0 || s.err != nil }
	return s
}

// send writes buf once. n is 0 without an error when the socket is full.
func (s *tcpSink) send(fd uintptr) {
	for {
		n, err := syscall.Write(int(fd), s.buf)
		switch err {
		case nil:
			s.n, s.err = n, nil
			return
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			s.n, s.err = 0, nil
			return
		}
		s.n, s.err = 0, err
		return
	}
}

func (s *tcpSink) try(bufs [][]byte) ([][]byte, error) {
	bufs = gather(bufs)
	for i, b := range bufs {
		s.buf = b
		err := s.raw.Write(s.once)
		s.buf = nil
		if err == nil {
			err = s.err
		}
		if err != nil {
			return nil, err
		}
		if s.n < len(b) {
			rest := append([][]byte{b[s.n:]}, bufs[i+1:]...)
			return rest, nil
		}
	}
	return nil, nil
}

func (s *tcpSink) write(bufs [][]byte, moved func()) error {
	for _, b := range gather(bufs) {
		for len(b) > 0 {
			s.buf = b
			err := s.raw.Write(s.wait)
			s.buf = nil
			if err == nil {
				err = s.err
			}
			if err != nil {
				return err
			}
			b = b[s.n:]
			moved()
		}
	}
	return nil
}

func (s *tcpSink) close() { s.conn.Close() }
