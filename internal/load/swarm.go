package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"laaster/internal/kit/run"
)

// SwarmOptions of a Swarm. URL and Hello are needed.
type SwarmOptions struct {
	URL string // of the server: http://host:port or https://…
	// Hello returns what a client subscribes to: the members of its hello frame behind "type", as JSON without braces. resume is the
	// position that it was told last; empty: none.
	Hello func(id int, resume string) string
	// Path is what a client reads as an event stream, in place of a WebSocket and its hello: /v1/views/… with its parameters. Default: WebSockets.
	Path func(id int) string
	// Token returns the bearer token that a client brings. Default: none does.
	Token func(id int) string
	// TLS is used towards https:// with the server's name and the protocol set. Default: the system's authorities are trusted.
	TLS *tls.Config
	// Frame is called for each text frame, on the client's loop. The frame is only good until it returns. at is the time since Start. Default: nothing.
	Frame func(c *Client, kind Kind, frame []byte, at time.Duration)
	// Live is called when a client has its rows, or was told that it missed nothing. Default: nothing.
	Live func(c *Client, at time.Duration)

	Clock  run.Clock // default run.System
	Start  time.Time // what times are counted from; default: now
	Loops  int       // event loops on Linux; default 1, at most 16
	Window int       // clients that connect at one time; default 256
	Rate   int       // bytes a second that each client reads once it is live; default 0: as fast as they come
	Plain  bool      // a goroutine for each client also where an event loop could serve them
}

// perAddress is how many clients connect from one loopback address: the kernel has 28,000 ports for each as a rule.
const perAddress = 20_000

// Swarm is many live connections in one process. Safe for concurrent use.
type Swarm struct {
	opt     SwarmOptions
	host    string // host:port
	secure  bool
	addr    *net.TCPAddr
	group   *run.Group
	engine  engine
	clients []*Client
	changed chan struct{} // capacity 1: a client became live or was lost

	live, opened, refused, lost, gaps, pings, problems atomic.Int64
	frames, bytes                                      atomic.Int64
	unfit                                              atomic.Pointer[string] // the first error frame that a client got instead of its rows
	mu                                                 struct {
		sync.Mutex
		errs  []string // the first few, in words
		codes map[string]int
	}
}

// engine moves bytes between clients and the server.
type engine interface {
	// open connects clients that are down; it returns at once.
	open([]*Client)
	// cut ends their connections with a reset, as a broken line would; it returns when all are down.
	cut([]*Client)
	// still calls f while no client is being called.
	still(f func())
	close()
}

// Client is one live connection. Its fields belong to its loop.
type Client struct {
	ID int
	// Position is what the client was told last, Sequence its number.
	Position []byte
	Sequence uint64
	// LiveAt is when it became live the last time, since the Start of the swarm.
	LiveAt time.Duration

	swarm  *Swarm
	state  state
	line   line
	part   []byte  // of a fragmented message
	events *stream // of an event stream; nil: a WebSocket
	retry  time.Duration
}

// line sends bytes to the server; what it cannot send at once it keeps.
type line interface{ send(b []byte) }

type state uint8

const (
	stateDown state = iota
	stateConnecting
	stateUpgrading
	stateJoining // hello is sent
	stateLive
)

// NewSwarm returns a swarm of n clients, all of them down. Close ends it.
func NewSwarm(ctx context.Context, n int, opt SwarmOptions) (*Swarm, error) {
	u, err := url.Parse(opt.URL)
	if err != nil {
		return nil, err
	}
	if opt.Clock == nil {
		opt.Clock = run.System{}
	}
	if opt.Start.IsZero() {
		opt.Start = opt.Clock.Now()
	}
	opt.Loops, opt.Window = min(max(opt.Loops, 1), 16), max(opt.Window, 0)
	if opt.Window == 0 {
		opt.Window = 256
	}
	s := &Swarm{opt: opt, host: u.Host, secure: u.Scheme == "https", group: run.New(ctx), changed: make(chan struct{}, 1)}
	s.mu.codes = map[string]int{}
	if u.Port() == "" {
		s.host = net.JoinHostPort(u.Hostname(), map[bool]string{false: "80", true: "443"}[s.secure])
	}
	if s.addr, err = net.ResolveTCPAddr("tcp", s.host); err != nil {
		return nil, err
	}
	for i := range n {
		s.clients = append(s.clients, &Client{ID: i, swarm: s})
	}
	if s.engine, err = newEngine(s); err != nil {
		return nil, err
	}
	return s, nil
}

// Open connects the clients [from, to) and returns when all are live, or the context ends. Clients that the server sends away come back when
// it says so, which is counted.
func (s *Swarm) Open(ctx context.Context, from, to int) error {
	s.Connect(from, to)
	return s.Await(ctx, to-from)
}

// Connect connects the clients [from, to) that are down. It returns at once.
func (s *Swarm) Connect(from, to int) { s.engine.open(s.clients[from:to]) }

// Await returns when n clients are live.
func (s *Swarm) Await(ctx context.Context, n int) error {
	for s.live.Load() < int64(n) {
		if why := s.unfit.Load(); why != nil {
			return fmt.Errorf("the server refuses what the clients ask for: %s", *why)
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d clients are live: %w%s", s.live.Load(), n, ctx.Err(), s.because())
		case <-s.group.Context().Done():
			return errors.Join(s.group.Err(), s.group.Context().Err())
		}
	}
	return nil
}

// Cut ends the connections of the clients [from, to) with a reset, as a broken line would.
func (s *Swarm) Cut(from, to int) { s.engine.cut(s.clients[from:to]) }

// Still calls f while no client gets anything: what Frame keeps may be read there.
func (s *Swarm) Still(f func()) { s.engine.still(f) }

// Close ends all connections and waits for the loops.
func (s *Swarm) Close() error {
	s.group.Stop()
	s.engine.close()
	return s.group.Wait()
}

// Count is what a swarm has seen.
type Count struct {
	Live   int64 `json:"live"`   // now
	Opened int64 `json:"opened"` // upgrades that were accepted
	// Refused are connections that the server sent away with a time to come back, Lost those that ended unasked, Gaps the subscriptions that were
	// told of a gap,
	// Problems the error frames.
	Refused  int64 `json:"refused"`
	Lost     int64 `json:"lost"`
	Gaps     int64 `json:"gaps"`
	Problems int64 `json:"problems"`
	Pings    int64 `json:"pings"`
	Frames   int64 `json:"frames"`
	Bytes    int64 `json:"bytes"`
}

// Count counts.
func (s *Swarm) Count() Count {
	return Count{Live: s.live.Load(), Opened: s.opened.Load(), Refused: s.refused.Load(), Lost: s.lost.Load(), Gaps: s.gaps.Load(),
		Problems: s.problems.Load(), Pings: s.pings.Load(), Frames: s.frames.Load(), Bytes: s.bytes.Load()}
}

// Errors returns the first few things that went wrong, and how often goodbyes and refusals came, by code.
func (s *Swarm) Errors() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.mu.errs)
	for code, n := range s.mu.codes {
		out = append(out, fmt.Sprintf("%s: %d times", code, n))
	}
	slices.Sort(out)
	return out
}

func (s *Swarm) because() string {
	if e := s.Errors(); len(e) > 0 {
		return "\n  " + e[0]
	}
	return ""
}

func (s *Swarm) failed(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.errs) < 8 {
		s.mu.errs = append(s.mu.errs, fmt.Sprintf(format, args...))
	}
}

func (s *Swarm) code(code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.codes) < 32 || s.mu.codes[code] > 0 {
		s.mu.codes[code]++
	}
}

func (s *Swarm) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Swarm) now() time.Duration { return s.opt.Clock.Now().Sub(s.opt.Start) }

// source returns the address that client id connects from, nil for any: beyond perAddress clients the next of 127.0.0.0/8.
func (s *Swarm) source(id int) net.IP {
	if ip := s.addr.IP.To4(); ip == nil || !ip.IsLoopback() || id < perAddress {
		return nil
	}
	return net.IPv4(127, 0, 0, byte(1+id/perAddress%250)).To4()
}

// Of the opening handshake: one nonce for all, since nothing between caches, so that one answer is right.
const (
	nonce  = "bGFhc3Rlci1sb2FkLWtleQ=="
	accept = "5C8tqye8H2ph9O1YAp69w9pGXcc="
)

// connected sends the upgrade request, or that for a stream.
func (c *Client) connected() {
	if path := c.swarm.opt.Path; path != nil {
		c.connectedEvents(path(c.ID))
		return
	}
	c.state = stateUpgrading
	b := make([]byte, 0, 256)
	b = append(append(append(b, "GET /v1/live HTTP/1.1\r\nHost: "...), c.swarm.host...), c.bearing()...)
	b = append(b, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"...)
	b = append(append(append(b, "Sec-WebSocket-Key: "...), nonce...), "\r\nSec-WebSocket-Protocol: laaster.v1\r\n\r\n"...)
	c.line.send(b)
}

// bearing is the header line of the client's token.
func (c *Client) bearing() string {
	if c.swarm.opt.Token == nil {
		return ""
	}
	return bearing(c.swarm.opt.Token(c.ID))
}

// errAway ends a connection that the server does not want now: it comes back after Client.retry.
var errAway = errors.New("sent away")

// feed takes what came from the server and returns what is left of it: the beginning of a frame, and how long that frame is (0: unknown).
func (c *Client) feed(b []byte, at time.Duration) (rest []byte, need int, err error) {
	if c.state == stateUpgrading {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			if len(b) > 64<<10 {
				return nil, 0, errors.New("an answer without an end")
			}
			return b, 0, nil
		}
		if err := c.upgraded(b[:end+4], b[end+4:]); err != nil {
			return nil, 0, err
		}
		b = b[end+4:]
	}
	if c.events != nil {
		rest, err := c.feedEvents(b, at)
		return rest, 0, err
	}
	for {
		op, fin, payload, left, n, err := nextFrame(b)
		if err != nil || n == 0 || len(b) < n {
			return b, n, err
		}
		c.swarm.bytes.Add(int64(n))
		b = left
		if err := c.message(op, fin, payload, at); err != nil {
			return nil, 0, err
		}
	}
}

// upgraded reads the answer to the upgrade and says hello.
func (c *Client) upgraded(head, rest []byte) error {
	want := "HTTP/1.1 101 "
	if c.events != nil {
		want = "HTTP/1.1 200 "
	}
	if !bytes.HasPrefix(head, []byte(want)) {
		status, _, _ := bytes.Cut(head, []byte("\r\n"))
		after, ok := header(head, "Retry-After")
		seconds, err := strconv.Atoi(after)
		if !ok || err != nil {
			why := fmt.Sprintf("%s %.300s", status, rest)
			c.swarm.unfit.CompareAndSwap(nil, &why)
			return fmt.Errorf("the server refused a client: %s", why)
		}
		c.retry = time.Duration(max(seconds, 0)) * time.Second
		c.swarm.code(fmt.Sprintf("refused with %s", bytes.TrimPrefix(status, []byte("HTTP/1.1 "))))
		return errAway
	}
	if c.events != nil {
		if coding, _ := header(head, "Transfer-Encoding"); coding != "chunked" {
			return fmt.Errorf("a stream with the transfer coding %q", coding)
		}
		c.swarm.opened.Add(1)
		c.state = stateJoining
		return nil
	}
	if got, _ := header(head, "Sec-WebSocket-Accept"); got != accept {
		return fmt.Errorf("the server accepted with %q, not with %q", got, accept)
	}
	c.swarm.opened.Add(1)
	c.state = stateJoining
	hello := append([]byte(`{"type":"hello",`), c.swarm.opt.Hello(c.ID, string(c.Position))...)
	c.line.send(appendFrame(nil, opText, append(hello, '}')))
	return nil
}

// header returns a header of an answer, by its name in the usual spelling or in lower case.
func header(head []byte, name string) (string, bool) {
	for _, line := range bytes.Split(head, []byte("\r\n")) {
		k, v, ok := bytes.Cut(line, []byte(":"))
		if ok && bytes.EqualFold(k, []byte(name)) {
			return string(bytes.TrimSpace(v)), true
		}
	}
	return "", false
}

// message takes one frame, of which a message may have several.
func (c *Client) message(op byte, fin bool, payload []byte, at time.Duration) error {
	switch op {
	case opPing: // may come between any two frames
		c.swarm.pings.Add(1)
		c.line.send(appendFrame(nil, opPong, payload))
		return nil
	case opPong:
		return nil
	case opClose:
		code := 0
		if len(payload) >= 2 {
			code = int(payload[0])<<8 | int(payload[1])
		}
		return fmt.Errorf("the server closed with %d", code)
	case opText, opContinuation:
		if op == opText && fin {
			return c.received(payload, at)
		}
		if len(c.part)+len(payload) > maxFrame {
			return errFrame
		}
		if c.part = append(c.part, payload...); !fin {
			return nil
		}
		whole := c.part
		c.part = nil
		return c.received(whole, at)
	}
	return errFrame
}

// received takes one text frame.
func (c *Client) received(frame []byte, at time.Duration) error {
	return c.frame(kindOf(frame), frame, at)
}

func (c *Client) frame(kind Kind, frame []byte, at time.Duration) error {
	s := c.swarm
	s.frames.Add(1)
	switch kind {
	case "epoch", "snapshot", "resumed":
		if err := c.told(kind, frame); err != nil {
			return err
		}
	case "gap":
		s.gaps.Add(1)
	case "error":
		s.problems.Add(1)
		s.failed("client %d: %.300s", c.ID, frame)
		if c.state == stateJoining {
			why := string(frame)
			s.unfit.CompareAndSwap(nil, &why)
			s.notify()
		}
	case "goodbye":
		s.code("goodbye " + text(frame, "code"))
		var bye struct {
			After int `json:"retry_after_ms"`
		}
		if err := json.Unmarshal(frame, &bye); err != nil {
			return err
		}
		c.retry = max(time.Duration(bye.After)*time.Millisecond, time.Millisecond)
	case "":
		return fmt.Errorf("a frame without a type: %.80q", frame)
	}
	if s.opt.Frame != nil {
		s.opt.Frame(c, kind, frame, at)
	}
	if c.state == stateJoining && (kind == "resumed" || kind == "snapshot" && last(frame)) {
		c.state, c.LiveAt, c.retry = stateLive, at, 0
		if s.opt.Live != nil {
			s.opt.Live(c, at)
		}
		s.live.Add(1)
		s.notify()
	}
	return nil
}

// last says whether a snapshot frame is the last page: its member more stands behind the rows.
func last(frame []byte) bool {
	return bytes.Contains(frame[max(0, len(frame)-40):], []byte(`"more":false`))
}

// told notes the position of a frame.
func (c *Client) told(kind Kind, frame []byte) error {
	head := frame[:min(len(frame), 256)]
	seq, ok := sequence(head)
	if !ok {
		return fmt.Errorf("a frame without a position: %.80q", frame)
	}
	switch {
	case kind == "snapshot" && !last(frame):
		return nil // not complete at this position yet
	case kind != "snapshot" && seq < c.Sequence: // pages may be older than what other subscriptions were told meanwhile
		return fmt.Errorf("the position fell from %d to %d", c.Sequence, seq)
	}
	position, _ := member(head, "position")
	c.Sequence, c.Position = seq, append(c.Position[:0], position...)
	return nil
}

// down notes that the connection is over. It says how long to wait before coming back; negative: not at all.
func (c *Client) down(err error) time.Duration {
	was := c.state
	c.state, c.part, c.events = stateDown, nil, nil
	s := c.swarm
	if was == stateLive {
		s.live.Add(-1)
	}
	defer s.notify()
	switch {
	case err == nil: // we wanted it
		return -1
	case errors.Is(err, errAway) || c.retry > 0:
		s.refused.Add(1)
		return max(c.retry, 10*time.Millisecond)
	}
	if s.group.Context().Err() == nil {
		s.lost.Add(1)
		s.failed("client %d: %v", c.ID, err)
	}
	if was != stateLive {
		return 100 * time.Millisecond // it is still to come in
	}
	return -1
}
