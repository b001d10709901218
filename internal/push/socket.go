package push

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/gobwas/ws"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// ServeLive is GET /v1/live: it upgrades to a WebSocket and lets go of the HTTP server's goroutine and buffers. Whose page may
// connect is decided before, as for every request.
func (h *Hub) ServeLive(w http.ResponseWriter, r *http.Request) {
	who, p := h.opt.Principal(r)
	if p == nil && !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		p = wire.NewProblem(wire.InvalidRequest, "this path speaks WebSocket").
			WithField("Upgrade", "connect with a WebSocket client, or read /v1/views/{view} with Accept: text/event-stream")
	}
	if p == nil && r.ProtoMajor != 1 {
		p = wire.NewProblem(wire.InvalidRequest, "a WebSocket needs HTTP/1.1 here").WithField("Upgrade", "connect with HTTP/1.1")
	}
	c := &conn{enc: webSocket, who: who, session: h.opt.RequestID(r)}
	if p == nil {
		p = h.open(c)
	}
	if p != nil {
		h.opt.Answer(w, r, p)
		return
	}
	defer h.opening.Done()
	up := ws.HTTPUpgrader{Protocol: func(name string) bool { return name == wire.Subprotocol }}
	netConn, rw, _, err := up.Upgrade(r, w)
	if err != nil {
		if netConn != nil {
			netConn.Close()
		}
		c.close()
		return
	}
	h.attach(c, netConn, leftover(rw))
}

// leftover returns what the client sent behind its request, out of a buffer that is about to be given up.
func leftover(rw *bufio.ReadWriter) []byte {
	if rw == nil || rw.Reader.Buffered() == 0 {
		return nil
	}
	b, _ := rw.Reader.Peek(rw.Reader.Buffered()) // it is there
	return bytes.Clone(b)
}

// ServeConn speaks the protocol on a connection whose upgrade is done elsewhere. It returns at once; the connection belongs to
// the hub. A problem means that it was not accepted, and nothing was done with it.
func (h *Hub) ServeConn(nc net.Conn, who auth.Principal) *wire.Problem {
	c := &conn{enc: webSocket, who: who}
	if p := h.open(c); p != nil {
		return p
	}
	defer h.opening.Done()
	h.attach(c, nc, nil)
	return nil
}

func (h *Hub) attach(c *conn, nc net.Conn, before []byte) {
	c.mu.Lock()
	c.sink = newSink(nc, h.opt.UnsentBytes)
	over := c.mu.over
	c.mu.Unlock()
	if over { // the hub was closed meanwhile
		nc.Close()
		return
	}
	c.drain()
	in := &frameReader{src: nc, limit: h.opt.Limits.FrameBytes, buf: before}
	h.group.Go("push reader", func(context.Context) error { c.read(in); return nil })
}

// read handles what the client sends until it leaves or breaks the rules.
func (c *conn) read(in *frameReader) {
	for {
		op, payload, err := in.next()
		if err != nil {
			c.broken(in, err)
			return
		}
		switch op {
		case opText:
			if !c.receive(payload) {
				c.discard(in)
				return
			}
		case opBinary:
			c.refuse("", wire.NewProblem(wire.InvalidRequest, "frames are text").WithField("opcode", "send JSON in text messages"))
			c.goodbye(wire.InvalidRequest, "frames are text", 0, closeUnsupported)
			c.discard(in)
			return
		case opPing:
			c.makeRoom()
			c.reply(sealFrame(append(make([]byte, frameHeader, frameHeader+len(payload)), payload...), opPong))
		case opClose:
			if !c.end(closeFrame(closeCode(payload), ""), true) {
				c.close() // the client's answer to our goodbye
			}
			return
		}
	}
}

// discard reads on after goodbye until the client closes: unread data would turn our close into a reset that overtakes it.
func (c *conn) discard(in *frameReader) {
	for {
		op, _, err := in.next()
		if err != nil || op == opClose {
			c.close()
			return
		}
	}
}

// broken ends a connection that broke the rules or is gone.
func (c *conn) broken(in *frameReader, err error) {
	var pe *protocolError
	if !errors.As(err, &pe) {
		c.close()
		return
	}
	code := wire.InvalidRequest
	if pe.code == closeTooBig {
		code = wire.TooLarge
	}
	c.refuse("", wire.NewProblem(code, pe.reason))
	c.goodbye(code, pe.reason, 0, pe.code)
	_, _ = io.Copy(io.Discard, in.src) // until the connection ends: see discard
	c.close()
}
