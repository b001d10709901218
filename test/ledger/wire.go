package ledger

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"laaster/internal/kit/run"
)

// socket is a WebSocket to the server. Frames from the client are masked with zeros.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
	buf  []byte
	stop func() bool
}

// maxFrame is the largest frame that a socket takes, in bytes.
const maxFrame = 64 << 20

// dial opens a WebSocket to the server at url. It is closed when ctx ends.
func dial(ctx context.Context, url string) (*socket, error) {
	addr := strings.TrimPrefix(url, "http://")
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	s.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	s.patience(requestPatience)
	_, err = io.WriteString(conn, "GET /v1/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: laaster.v1\r\n\r\n")
	if err != nil {
		s.close()
		return nil, err
	}
	r, err := http.ReadResponse(s.in, nil)
	if err != nil {
		s.close()
		return nil, err
	}
	if r.StatusCode != http.StatusSwitchingProtocols {
		s.close()
		return nil, fmt.Errorf("no upgrade: %s", r.Status)
	}
	return s, nil
}

func (s *socket) close() {
	s.stop()
	_ = s.conn.Close()
}

// patience bounds everything on the connection from now on.
func (s *socket) patience(d time.Duration) { _ = s.conn.SetDeadline(run.System{}.Now().Add(d)) }

// send sends a text frame.
func (s *socket) send(payload []byte) error {
	b := append(s.buf[:0], 0x81)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(append(b, 0, 0, 0, 0), payload...)
	s.buf = b
	_, err := s.conn.Write(b)
	return err
}

// next returns the payload of the next text frame. A close frame is io.EOF.
func (s *socket) next() ([]byte, error) {
	for {
		var h [2]byte
		if _, err := io.ReadFull(s.in, h[:]); err != nil {
			return nil, err
		}
		n := uint64(h[1] & 127)
		if n >= 126 {
			b := make([]byte, map[uint64]int{126: 2, 127: 8}[n])
			if _, err := io.ReadFull(s.in, b); err != nil {
				return nil, err
			}
			n = 0
			for _, c := range b {
				n = n<<8 | uint64(c)
			}
		}
		if n > maxFrame {
			return nil, fmt.Errorf("a frame of %d bytes", n)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(s.in, b); err != nil {
			return nil, err
		}
		switch h[0] & 15 {
		case 1:
			return b, nil
		case 8:
			return nil, io.EOF
		}
	}
}
