package push

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket options that package syscall does not name.
const (
	tcpUserTimeout  = 18
	tcpNotSentLowat = 25
)

// deadPeerMS is how long sent bytes may stay without an acknowledgement before the kernel gives the connection up: this
// finds peers that vanished, since heartbeats are written every 15 s.
const deadPeerMS = 60_000

// tuneSocket keeps at most unsent bytes waiting in the kernel: what is not sent yet can still be replaced by newer state. Failing
// changes nothing but how old a slow client's rows are.
func tuneSocket(raw syscall.RawConn, unsent int) {
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, unsent)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, deadPeerMS)
	})
}

// roundTrip returns the least ms that TCP has seen from a byte to its acknowledgement, 0: it has not yet.
func roundTrip(raw syscall.RawConn) int64 {
	const unknown = 1<<32 - 1
	ms := int64(0)
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.Min_rtt != unknown {
			ms = int64(info.Min_rtt) / 1000
		}
	})
	return ms
}

// queuedBytes returns what was written and is not acknowledged, 0 when that cannot be told.
func queuedBytes(raw syscall.RawConn) int {
	var n int32
	_ = raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	})
	return int(n)
}

// narrowSocket bounds what the kernel holds, unsent and under way. The kernel doubles what it is told, for its own bookkeeping, and has a least
// value of its own.
func narrowSocket(raw syscall.RawConn, bytes, unsent int) {
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, bytes)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, unsent)
	})
}
