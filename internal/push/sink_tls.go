//go:build unix

package push

import (
	"net"
	"syscall"

	"laaster/internal/kit/fair"
)

// encryptedSink writes to TLS over TCP. The socket below is tuned and looked at as one without TLS is.
type encryptedSink struct {
	streamSink
	below *net.TCPConn
	raw   syscall.RawConn
}

// sinkOver returns the sink of a connection that is no TCP itself.
func (h *Hub) sinkOver(nc net.Conn) sink {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		under := t.NetConn()
		if p, ok := under.(*fair.Conn); ok {
			p.Free()
			under = p.Conn
		}
		if below, ok := under.(*net.TCPConn); ok {
			if raw, err := below.SyscallConn(); err == nil {
				tuneSocket(raw, h.opt.UnsentBytes)
				return &encryptedSink{streamSink{nc}, below, raw}
			}
		}
	}
	return &streamSink{nc}
}

func (s *encryptedSink) narrow(bytes, unsent int) { narrowSocket(s.raw, bytes, unsent) }

func (s *encryptedSink) queued() int { return queuedBytes(s.raw) }

func (s *encryptedSink) away() int64 { return roundTrip(s.raw) }

// close leaves TLS's own goodbye out: it would wait up to five seconds for a client that reads nothing, and the protocol's has been said.
func (s *encryptedSink) close() { s.below.Close() }
