package node

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/kit/fair"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/wire"
)

// spareFiles is how many file descriptors connections leave to the log, the pages and the admin listener: a log that
// cannot open its next file stops.
const spareFiles = 256

// sockets bounds the open connections of a listener, all of them and those of one address: one more is told that the server is busy, and closed. Waiting
// instead would let idle ones keep everybody out.
type sockets struct {
	net.Listener
	limit     int64       // HTTP connections
	each      int         // of these from one address; 0: as many
	files     int64       // HTTP and live connections together; 0: as many as there are
	encrypted bool        // by TLS: a refusal in words could not be read
	floor     *fair.Floor // that its connections share; nil: they are not paced
	late      func(net.Conn) time.Duration
	rate      func(netip.Addr) time.Duration // how long an address has to wait for one more; nil: nobody has. Asked once live is known
	shun      *shun                          // of the addresses that have; nil: there is none
	open      atomic.Int64                   // HTTP connections, without those that became WebSockets
	live      atomic.Pointer[func() int]
	clock     run.Clock
	metrics   *observe.Metrics
	mu        struct {
		sync.Mutex
		by map[netip.Addr]int // open connections; no entry: none. It has as many entries as there are connections at most
	}
}

// newSockets returns a listener on l that has at most limit HTTP connections open.
func newSockets(l net.Listener, limit int, clock run.Clock, metrics *observe.Metrics) *sockets {
	s := &sockets{Listener: l, limit: int64(limit), clock: clock, metrics: metrics}
	s.mu.by = map[netip.Addr]int{}
	if n := openFiles(); n > 0 {
		s.files = max(n-spareFiles, n/2)
	}
	return s
}

// serve has server take the connections until it is shut down.
func (s *sockets) serve(server *http.Server) error {
	l := net.Listener(s)
	if s.floor != nil {
		l = &fair.Listener{Listener: s, Floor: s.floor, Encrypted: s.encrypted, Late: s.late}
		server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, pacedKey{}, fair.Of(c))
		}
	}
	if s.encrypted {
		return served(server.ServeTLS(l, "", ""))
	}
	return served(server.Serve(l))
}

// pacedKey is where a request's context has its connection, a *fair.Conn, if that is paced.
type pacedKey struct{}

// Accept implements net.Listener.
func (s *sockets) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressOf(c)
		code, answer := wire.Busy, ""
		if wait := s.wait(from); wait > 0 { // first, so that who is refused for something else pays, too
			s.shun.add(from)
			code, answer = wire.RateLimited, fmt.Sprintf(tooFast, (wait+time.Second-1)/time.Second, (wait+time.Millisecond-1)/time.Millisecond)
		} else if answer = s.refuse(from); answer == "" {
			return c, nil
		}
		s.metrics.Refused.WithLabelValues(string(code)).Inc()
		if !s.encrypted {
			_ = c.SetWriteDeadline(s.clock.Now().Add(100 * time.Millisecond))
			_, _ = c.Write([]byte(answer)) // who does not read it is turned away all the same
		}
		_ = c.Close()
	}
}

// wait returns how long an address has to wait before it may have another connection. While the log is read nobody has: there is no trail to record it in.
func (s *sockets) wait(from netip.Addr) time.Duration {
	if s.rate == nil || s.live.Load() == nil {
		return 0
	}
	return s.rate(from)
}

// refuse returns the whole answer to another connection from an address, "" when it can be had.
func (s *sockets) refuse(from netip.Addr) string {
	switch {
	case s.full():
		return tooManySockets
	case s.each > 0 && !from.IsLoopback() && s.tally(from, 0) >= s.each:
		return tooManyOfAddress
	}
	return ""
}

func (s *sockets) full() bool {
	open, live := s.open.Load(), int64(0)
	if f := s.live.Load(); f != nil {
		live = int64((*f)())
	}
	return open >= s.limit || s.files > 0 && open+live >= s.files
}

// count is the server's ConnState: it is called for a new connection before the next Accept.
func (s *sockets) count(c net.Conn, state http.ConnState) {
	by := 0
	switch state {
	case http.StateNew:
		by = 1
	case http.StateClosed, http.StateHijacked:
		by = -1
	default:
		return
	}
	s.open.Add(int64(by))
	if s.each > 0 {
		s.tally(addressOf(c), by)
	}
}

// tally adds to the connections of an address and returns how many there are.
func (s *sockets) tally(from netip.Addr, by int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.mu.by[from] + by
	if n <= 0 {
		delete(s.mu.by, from)
	} else if by != 0 {
		s.mu.by[from] = n
	}
	return n
}

// addressOf returns whom a connection is counted for: its address, IPv6 by its /64, which one caller has. The zero value is one caller, too.
func addressOf(c net.Conn) netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	if a.Is6() && !a.IsLoopback() {
		if block, err := a.Prefix(64); err == nil {
			return block.Addr()
		}
	}
	return a
}

// mostUnsent is how many bytes of answers wait in the kernel for one connection, beyond those that are on the way. Live connections have less (push).
const mostUnsent = 128 << 10

// listenTCP takes an address for the public surface. Sockets of multipath TCP take neither filters (shun) nor all that live connections ask for (push).
func listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{Control: keepUnsent}
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, "tcp", addr)
}

// The whole answers to connections that are not served.
const (
	refusedKind    = "Content-Type: application/problem+json\r\nConnection: close\r\n"
	refusedHead    = "HTTP/1.1 503 Service Unavailable\r\n" + refusedKind + "Retry-After: 5\r\n\r\n"
	tooManySockets = refusedHead + `{"type":"/errors/busy","title":"the server is at a limit","status":503,"code":"busy",` +
		`"detail":"as many connections as the server is set to hold","hint":"come again; raise limits.sockets in laaster.yaml, or the limit of open files",` +
		`"retry":"after","retry_after_ms":5000}` + "\n"
	tooManyOfAddress = refusedHead + `{"type":"/errors/busy","title":"the server is at a limit","status":503,"code":"busy",` +
		`"detail":"as many connections as one address may have","hint":"close some, or use them for more requests; limits.address_sockets in laaster.yaml is the limit",` +
		`"retry":"after","retry_after_ms":5000}` + "\n"
	tooFast = "HTTP/1.1 429 Too Many Requests\r\n" + refusedKind + "Retry-After: %d\r\n\r\n" +
		`{"type":"/errors/rate_limited","title":"too much at a time","status":429,"code":"rate_limited",` +
		`"detail":"more new sockets than this address may have","hint":"use one connection for many requests; limits.rates.address.sockets in laaster.yaml is the bound",` +
		`"retry":"after","retry_after_ms":%d}` + "\n"
)
