package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"laaster/internal/wire"
)

// socket is the client's end of a WebSocket: messages in, masked frames out.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
	most int           // bytes of a message
	over chan struct{} // closed when the reader has ended
}

// closeError is the close frame of the server.
type closeError struct {
	code   int
	reason string
}

func (e *closeError) Error() string {
	if e.reason == "" {
		return fmt.Sprintf("the server closed the connection (%d)", e.code)
	}
	return fmt.Sprintf("the server closed the connection (%d: %s)", e.code, e.reason)
}

// dial opens a WebSocket. A refusal by the server is its problem; ours says that it came from Laaster.
func (c *Client) dial(ctx context.Context) (s *socket, p *Problem, ours bool) {
	head := c.headers("") // the token is in the first frame
	d := ws.Dialer{Protocols: []string{wire.Subprotocol}, Header: ws.HandshakeHeaderHTTP(head), NetDial: c.opt.Dial, TLSConfig: c.opt.TLS}
	d.OnStatusError = func(status int, reason []byte, resp io.Reader) {
		r, err := http.ReadResponse(bufio.NewReader(io.LimitReader(resp, 64<<10)), nil)
		if err != nil {
			p = problemf(CodeUnreachable, "the answer to the upgrade was %d %s", status, reason)
			return
		}
		body, _ := io.ReadAll(r.Body) // what is there
		p, ours = fromResponse(r, body)
	}
	conn, in, _, err := d.Dial(ctx, c.at.ws)
	if err != nil {
		if p == nil {
			p = problemf(CodeUnreachable, "no connection to %s: %v", c.at.http, err)
		}
		return nil, p, ours
	}
	if in == nil {
		in = bufio.NewReaderSize(conn, 4096)
	}
	return &socket{conn: conn, in: in, most: c.opt.MessageBytes, over: make(chan struct{})}, nil, true
}

// headers are those of every request. A token is never in a URL.
func (c *Client) headers(token string) http.Header {
	h := c.opt.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", c.opt.Name+"/"+c.opt.Version)
	}
	return h
}

// next returns the next text message. pong answers a ping of the server.
func (s *socket) next(pong func(payload []byte)) ([]byte, error) {
	var message []byte
	started := false
	for {
		h, err := ws.ReadHeader(s.in)
		if err != nil {
			return nil, err
		}
		control := h.OpCode.IsControl()
		switch {
		case h.Masked, h.Rsv != 0, h.OpCode > ws.OpBinary && h.OpCode < ws.OpClose, h.OpCode > ws.OpPong,
			control && (!h.Fin || h.Length > 125), h.OpCode == ws.OpContinuation && !started,
			!control && h.OpCode != ws.OpContinuation && started:
			return nil, errors.New("the server broke the rules of RFC 6455")
		case h.OpCode == ws.OpBinary:
			return nil, errors.New("the server sent a binary message")
		case h.Length > int64(s.most-len(message)):
			return nil, fmt.Errorf("a message larger than %d bytes, the limit in MessageBytes", s.most)
		}
		if control {
			payload := make([]byte, h.Length)
			if _, err := io.ReadFull(s.in, payload); err != nil {
				return nil, err
			}
			switch h.OpCode {
			case ws.OpPing:
				pong(payload)
			case ws.OpClose:
				e := &closeError{code: 1005}
				if len(payload) >= 2 {
					e.code, e.reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
				}
				return nil, e
			}
			continue
		}
		if message, err = s.read(message, int(h.Length)); err != nil {
			return nil, err
		}
		if h.Fin {
			if !utf8.Valid(message) {
				return nil, errors.New("a message that is not UTF-8")
			}
			return message, nil
		}
		started = true
	}
}

// read appends n bytes to dst. It grows with what has really come, not with what a header announces.
func (s *socket) read(dst []byte, n int) ([]byte, error) {
	const step = 1 << 20
	for n > 0 {
		part := min(n, step)
		at := len(dst)
		if cap(dst)-at < part {
			dst = append(make([]byte, 0, max(2*cap(dst), at+part)), dst...)
		}
		dst = dst[:at+part]
		if _, err := io.ReadFull(s.in, dst[at:]); err != nil {
			return nil, err
		}
		n -= part
	}
	return dst, nil
}

// appendFrame appends a whole masked frame.
func appendFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	mask := ws.NewMask()
	dst = append(dst, 0x80|byte(op))
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	dst = append(dst, mask[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	ws.Cipher(dst[at:], mask, 0)
	return dst
}
