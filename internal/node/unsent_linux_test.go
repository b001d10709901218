package node

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// TestUnsent: the kernel does not take megabytes for a client that does not read.
func TestUnsent(t *testing.T) {
	l, err := listenTCP(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	taken, piece := 0, make([]byte, 32<<10)
	for taken < 64<<20 {
		_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Write(piece)
		if taken += n; errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if taken < mostUnsent || taken > 1<<20 { // without the bound 3.9 MB
		t.Errorf("%d bytes were taken for one who takes 128 KiB at a time", taken)
	}
}
