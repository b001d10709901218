package push

import (
	"bufio"
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
	c := newConn(webSocket, who)
	c.session = strings.Clone(h.opt.RequestID(r))
	if p == nil {
		p = h.door.enter(r.Context())
	}
	if p == nil {
		defer h.door.leave()
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
	c := newConn(webSocket, who)
	if p := h.open(c); p != nil {
		return p
	}
	defer h.opening.Done()
	h.attach(c, nc, nil)
	return nil
}

// door lets in a few new connections at a time: a thousand that come back at once are served one after the other, as fast as that goes, instead of all
// of them getting slower together and everybody who is connected with them.
type door struct {
	turns   chan struct{}
	waiting atomic.Int64
	most    int64 // that wait
}

func newDoor(most int) *door {
	return &door{turns: make(chan struct{}, 2*pollers()+2), most: int64(most)}
}

// enter waits for a turn. When it returns nothing, leave has to follow. Who finds too many waiting is told to come again, at a time of its own.
func (d *door) enter(ctx context.Context) *wire.Problem {
	defer d.waiting.Add(-1)
	if n := d.waiting.Add(1); n > d.most {
		return retryLater(wire.Busy, "too many new connections at a time", time.Second+rand.N(4*time.Second))
	}
	select {
	case d.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return wire.NewProblem(wire.Busy, "the client has left")
	}
}

func (d *door) leave() { <-d.turns }

// strangers counts the WebSockets of each address that have not said hello: the HTTP server does not know them any more, and no rate before they have said
// who they are. It has as many entries as there are such connections at most.
type strangers struct {
	each int // of one address; 0: any number
	mu   struct {
		sync.Mutex
		conns map[*conn]netip.Addr
		by    map[netip.Addr]int
	}
}

func (s *strangers) begin(each int) {
	s.each, s.mu.conns, s.mu.by = each, map[*conn]netip.Addr{}, map[netip.Addr]int{}
}

// add counts a new connection and reports whether it may be.
func (s *strangers) add(c *conn) bool {
	from := c.asks().From
	if s.each == 0 || !from.IsValid() || from.IsLoopback() || from.IsUnspecified() { // ::1 by its network, see auth.Principal.At
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.by[from] >= s.each {
		return false
	}
	s.mu.conns[c] = from
	s.mu.by[from]++
	return true
}

// remove is told that a connection has said hello, or is gone.
func (s *strangers) remove(c *conn) {
	if s.each == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from, here := s.mu.conns[c]
	if !here {
		return
	}
	delete(s.mu.conns, c)
	if s.mu.by[from]--; s.mu.by[from] == 0 {
		delete(s.mu.by, from)
	}
}
