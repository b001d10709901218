//go:build !unix

package push

import (
	"net"
	"syscall"
)

// newSink returns the sink for a connection.
func (h *Hub) newSink(nc net.Conn) (sink, syscall.RawConn) { return &streamSink{nc}, nil }

func newSending() any { return nil }
