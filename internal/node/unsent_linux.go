package node

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// keepUnsent bounds what waits in the kernel for a client to take it, beyond what its window lets through; the connections that a socket accepts have the bound
// of the socket. Without it each holds up to 4 MB (tcp_wmem) of an answer that may never be read, and rows are made for nobody as fast as the kernel takes
// them. Failing changes nothing else.
func keepUnsent(_, _ string, socket syscall.RawConn) error {
	return socket.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, mostUnsent)
	})
}
