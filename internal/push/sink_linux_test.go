package push

import (
	"net"
	"syscall"
	"testing"
)

// TestNarrowSocket: the kernel is told how much may be unsent, whatever may be under way.
func TestNarrowSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, unsent := range []int{1 << 10, 8 << 10} {
		narrowSocket(raw, behindLimit, unsent)
		got := 0
		if e := raw.Control(func(fd uintptr) { got, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat) }); e != nil || err != nil {
			t.Fatal(e, err)
		}
		if got != unsent {
			t.Errorf("%d bytes may be unsent, not %d", got, unsent)
		}
	}
}
