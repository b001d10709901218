package push

import "syscall"

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
