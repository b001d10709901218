//go:build !unix

package push

import "net"

// newSink returns the sink for a connection.
func newSink(conn net.Conn, _ int) sink { return &streamSink{conn} }
