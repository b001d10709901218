package node

import (
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/wire"
)

// spareFiles is how many file descriptors connections leave to the log, the pages and the admin listener: a log that
// cannot open its next file stops.
const spareFiles = 256

// sockets bounds the open connections of a listener: one more is told that the server is busy, and closed. Waiting instead
// would let idle ones keep everybody out.
type sockets struct {
	net.Listener
	limit   int64        // HTTP connections
	files   int64        // HTTP and live connections together; 0: as many as there are
	open    atomic.Int64 // HTTP connections, without those that became WebSockets
	live    atomic.Pointer[func() int]
	clock   run.Clock
	metrics *observe.Metrics
}

// newSockets returns a listener on l that has at most limit HTTP connections open.
func newSockets(l net.Listener, limit int, clock run.Clock, metrics *observe.Metrics) *sockets {
	s := &sockets{Listener: l, limit: int64(limit), clock: clock, metrics: metrics}
	if n := openFiles(); n > 0 {
		s.files = max(n-spareFiles, n/2)
	}
	return s
}

// Accept implements net.Listener.
func (s *sockets) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil || !s.full() {
			return c, err
		}
		s.metrics.Refused.WithLabelValues(string(wire.Busy)).Inc()
		_ = c.SetWriteDeadline(s.clock.Now().Add(100 * time.Millisecond))
		_, _ = c.Write([]byte(tooManySockets)) // who does not read it is turned away all the same
		_ = c.Close()
	}
}

func (s *sockets) full() bool {
	open, live := s.open.Load(), int64(0)
	if f := s.live.Load(); f != nil {
		live = int64((*f)())
	}
	return open >= s.limit || s.files > 0 && open+live >= s.files
}

// count is the server's ConnState: it is called for a new connection before the next Accept.
func (s *sockets) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	}
}

// tooManySockets is the whole answer to a connection too many.
const tooManySockets = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 5\r\nConnection: close\r\n\r\n" +
	`{"type":"/errors/busy","title":"the server is at a limit","status":503,"code":"busy",` +
	`"detail":"as many connections as the server is set to hold","hint":"come again; raise limits.sockets in laaster.yaml, or the limit of open files",` +
	`"retry":"after","retry_after_ms":5000}` + "\n"
