package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// The times of docs/sdk.md.
const (
	pingQuiet   = 10 * time.Second // a ping goes this often
	deadQuiet   = 25 * time.Second // nothing heard for this long, and
	pongWait    = 5 * time.Second  // a ping not answered for this long: the connection is given up
	welcomeWait = 10 * time.Second
	calm        = 5 * time.Second // a spell this long makes the next attempt the first again
	beat        = 2500 * time.Millisecond
	backoffMost = 10 * time.Second
	backoffStep = 250 * time.Millisecond
)

// outMost bounds the frames that wait for the socket: subscriptions that come and go while it takes nothing.
const outMost = 10_000

// helloMost bounds the subscriptions in the first hello, in bytes, while the server's limit is not known. The others follow its welcome.
const helloMost = 64 << 10

// session is one WebSocket. Its fields are under client.mu.
type session struct {
	c          *Client
	sock       *socket
	out        [][]byte
	wake       chan struct{} // capacity 1: out has something, or a write may go again
	open       bool          // welcomed
	openedAt   time.Time
	heard      time.Time
	helloAt    time.Time
	pinged     time.Time // when the oldest ping without an answer went; zero: none
	lastPing   time.Time
	pings      int
	first      bool   // no epoch with changes yet
	last       string // position of the last epoch
	limits     wire.Limits
	asked      []*Subscription
	retryAfter time.Duration // what the server asked for; below 0: nothing
	reason     *Problem      // why it ends
	fatal      *Problem
}

// loop connects again and again until the client is closed.
func (c *Client) loop(ctx context.Context) error {
	defer func() { c.over(recover()) }()
	failed := 0    // WebSockets in a row that did not open
	plain := false // plain HTTP got through before the last of them
	for ctx.Err() == nil {
		var end ending
		if c.opt.Transport == Events || failed >= 2 && plain {
			if failed = 0; c.opt.Transport == Auto {
				c.opt.Logger.Warn("no WebSocket gets through, and plain HTTP does: event streams are used", "server", c.at.http)
			}
			end = c.stream(ctx)
		} else {
			// Asked before the attempt that decides: a server that is back since the last one answers this, and takes the next WebSocket, too.
			plain = c.opt.Transport == Auto && failed >= 1 && c.reachable(ctx) == nil
			end = c.connect(ctx)
			switch {
			case end.opened || end.ours:
				failed = 0
			case end.dialed: // without a token nothing was tried
				failed++
			}
		}
		if ctx.Err() != nil || !c.pause(ctx, end) {
			break
		}
	}
	return nil
}

// over is the end of the client: it waits for everything that runs. panicked is what the loop, or a callback on its goroutine, panicked with.
func (c *Client) over(panicked any) {
	own := c.group
	err := own.Err() // of another goroutine, such as that of a callback
	if panicked != nil {
		err = fmt.Errorf("client: panic: %v\n%s", panicked, debug.Stack())
	}
	var reason error
	if err != nil {
		what, _, _ := strings.Cut(err.Error(), "\n")
		p := problemf("internal", "the client has failed: %s", what)
		p.cause, reason = err, p
		c.opt.Logger.Error("the client has failed, and is closed", "server", c.at.http, "err", err)
	}
	c.mu.Lock()
	c.shut(reason)
	c.ending = true
	c.mu.Unlock()
	watch := run.New(context.Background())
	watch.Go("client end", func(context.Context) error { // waits for the loop itself, too, and so cannot be it
		if late := own.Wait(); late != nil && err == nil {
			c.opt.Logger.Error("the client has failed while it was closed", "server", c.at.http, "err", late)
		}
		close(c.done)
		return nil
	})
}

// ending is how a connection ended.
type ending struct {
	dialed     bool // a connection was tried
	opened     bool // the server said welcome
	ours       bool // it was Laaster that answered
	lasted     time.Duration
	retryAfter time.Duration // below 0: the server did not say
	reason     *Problem
	fatal      *Problem
}

// pause waits before the next attempt. It reports false when there shall be none.
func (c *Client) pause(ctx context.Context, end ending) bool {
	if end.fatal != nil && !(end.fatal.Code == string(wire.TokenExpired) && c.opt.Token != nil) {
		c.mu.Lock()
		c.shut(end.fatal)
		c.mu.Unlock()
		return false
	}
	c.mu.Lock()
	if end.opened && end.lasted >= calm {
		c.away.attempt = 0
	}
	wait := end.retryAfter
	if wait < 0 {
		most := math.Min(float64(backoffMost), float64(backoffStep)*math.Pow(2, float64(c.away.attempt)))
		wait = time.Duration(c.opt.Random() * most)
	}
	timer := c.opt.Clock.After(wait) // before the state says so
	c.away.attempt++
	c.away.retryAt, c.away.reason = c.opt.Clock.Now().Add(wait), nil
	if end.reason != nil {
		c.away.reason = end.reason
	}
	c.refresh()
	attempt := c.away.attempt
	c.mu.Unlock()
	c.opt.Logger.Warn("connection to Laaster lost or not made", "server", c.at.http, "reason", end.reason, "attempt", attempt, "retry_in", wait)
	select {
	case <-timer:
	case <-ctx.Done():
		return false
	}
	c.mu.Lock()
	c.away.retryAt = time.Time{}
	c.refresh()
	c.mu.Unlock()
	return true
}

// bearer gets a token.
func (c *Client) bearer(ctx context.Context) (string, *Problem) {
	if c.opt.Token == nil {
		return "", nil
	}
	t, err := c.opt.Token(ctx)
	if err != nil {
		return "", problemf(CodeUnreachable, "no token: %v", err)
	}
	return t, nil
}

// holder is what of a JWT decides what may be seen: all of its claims but those that differ from one to the next of the same login. Empty for what is
// no JWT.
func holder(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]json.RawMessage
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return ""
	}
	for _, name := range []string{"exp", "iat", "nbf", "jti"} {
		delete(claims, name)
	}
	text, _ = json.Marshal(claims) // they were read
	return string(text)
}

// connect is one WebSocket from the first byte to the last.
func (c *Client) connect(ctx context.Context) ending {
	end := ending{retryAfter: -1}
	token, p := c.bearer(ctx)
	if p != nil {
		end.reason = p
		return end
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{c: c, wake: make(chan struct{}, 1), retryAfter: -1, first: true}
	group := run.New(ctx)
	group.Go("client welcome", func(ctx context.Context) error { // bounds the dial and the wait for welcome
		select {
		case <-c.opt.Clock.After(welcomeWait):
			c.mu.Lock()
			late := !s.open
			if late {
				s.drop("no welcome within %v", welcomeWait)
			}
			c.mu.Unlock()
			if late {
				cancel()
			}
		case <-ctx.Done():
		}
		return nil
	})
	sock, p, ours := c.dial(ctx)
	end.dialed, end.ours = true, ours
	if p == nil {
		stop := context.AfterFunc(ctx, func() { c.farewell(s, sock) })
		c.begin(s, sock, token)
		group.Go("client writer", func(context.Context) error { s.write(); cancel(); return nil })
		group.Go("client heartbeat", s.heartbeat)
		p = s.read()
		if stop() {
			_ = sock.conn.Close()
		}
	}
	cancel()
	_ = group.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s {
		c.session = nil
	}
	end.opened, end.retryAfter, end.fatal = s.open, s.retryAfter, s.fatal
	end.ours = end.ours && (s.open || s.reason != nil || sock == nil)
	if s.open {
		end.lasted = c.opt.Clock.Now().Sub(s.openedAt)
	}
	if end.reason = s.reason; end.reason == nil {
		end.reason = p
	}
	if sock == nil && p != nil { // refused at the door
		if p.RetryAfter > 0 {
			end.retryAfter = p.RetryAfter
		}
		if ours && isFatal(p) {
			end.fatal = p
		}
	}
	s.open = false
	c.writes.cut()
	c.changed()
	return end
}

// farewell ends the socket: politely when its owner wants so, with what is still to be said.
func (c *Client) farewell(s *session, sock *socket) {
	if c.ctx.Err() != nil {
		var last []byte
		c.mu.Lock()
		if s.open {
			for _, f := range s.out {
				last = appendFrame(last, ws.OpText, f)
			}
		}
		s.out = nil
		c.mu.Unlock()
		_ = sock.conn.SetWriteDeadline(c.opt.Clock.Now().Add(time.Second))
		_, _ = sock.conn.Write(appendFrame(last, ws.OpClose, []byte{3, 232})) // 1000
	}
	_ = sock.conn.Close()
}

// drop ends the session, for a reason of ours. The caller holds c.mu.
func (s *session) drop(format string, args ...any) {
	if s.reason == nil {
		s.reason = problemf(CodeUnreachable, format, args...)
	}
	if s.sock != nil {
		_ = s.sock.conn.Close()
	}
}

// broken ends the connection since the server did what it must not. The caller holds c.mu.
func (c *Client) broken(what string) {
	c.opt.Logger.Error("the server broke the protocol", "what", what)
	if c.session != nil {
		c.session.drop("the server broke the protocol: %s", what)
	}
}

// begin sends hello.
func (c *Client) begin(s *session, sock *socket, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.sock = sock
	h := helloFrame{Type: "hello", Token: token, Client: wire.Client{Name: c.opt.Name, Version: c.opt.Version}, Resume: c.cursor,
		Rate: c.opt.Rate, Every: c.opt.Every, Exact: c.opt.Exact, Instance: c.signals.instance}
	room := c.frameBytes
	if room <= 0 {
		room = helloMost
	}
	room -= len(encode(h)) + len(`,"subscribe":[]`)
	was := c.holder
	c.holder = holder(token)
	for _, sub := range c.ordered() {
		sub.state.complete = sub.state.complete && was == c.holder // somebody else's rows do not go on
		sub.state.pages, sub.state.reported, sub.state.reason, sub.state.again = nil, "", "", time.Time{}
		f := sub.request(c.cursor)
		size := len(encode(f)) + 1
		if size > room { // after the welcome, from its own position
			sub.state.behind = sub.state.complete
			continue
		}
		room -= size
		h.Subscribe = append(h.Subscribe, f)
		s.asked = append(s.asked, sub)
	}
	now := c.opt.Clock.Now()
	c.session, s.helloAt, s.heard = s, now, now
	s.send(h)
}

// ordered returns the subscriptions in the order in which they were made.
func (c *Client) ordered() []*Subscription {
	all := make([]*Subscription, 0, len(c.subs))
	for _, s := range c.subs {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Subscription) int {
		if len(a.id) != len(b.id) {
			return len(a.id) - len(b.id)
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}

// send queues a frame. The caller holds c.mu.
func (s *session) send(frame any) { s.sendText(encode(frame)) }

func (s *session) sendText(text []byte) {
	if len(s.out) >= outMost {
		s.drop("%d frames wait and the connection takes none", outMost)
		return
	}
	s.out = append(s.out, text)
	s.kick()
}

// subscribe asks for a subscription. One that is larger than the server's frames may be is refused here: the server would end the connection, again
// and again.
func (s *session) subscribe(sub *Subscription, resume string) {
	f := sub.request(resume)
	f.Type = "subscribe"
	sub.state.again = time.Time{}
	text := encode(f)
	if most := s.limits.FrameBytes; most > 0 && len(text) > most {
		p := problemf(string(wire.TooLarge), "the subscription to %s has %d bytes, and the server takes frames of at most %d", sub.view, len(text), most)
		p.Field, p.Hint = "filter", "make several subscriptions with shorter filters"
		delete(s.c.subs, sub.id)
		sub.end(p, Refused)
		s.c.refresh()
		return
	}
	s.sendText(text)
}

func (s *session) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// write brings what is queued to the socket, several frames at once, until it ends.
func (s *session) write() {
	c := s.c
	var buf []byte
	for {
		c.mu.Lock()
		if s.open {
			c.writes.pump(c, s)
			c.changed()
		}
		frames := s.out
		s.out = nil
		due := c.writes.due()
		over := c.session != s
		c.mu.Unlock()
		if over {
			return
		}
		if len(frames) == 0 {
			var timer <-chan time.Time
			if !due.IsZero() {
				timer = c.opt.Clock.After(due.Sub(c.opt.Clock.Now()))
			}
			select {
			case <-s.wake:
			case <-timer:
			case <-s.ended():
				return
			}
			continue
		}
		buf = buf[:0]
		for _, f := range frames {
			buf = appendFrame(buf, ws.OpText, f)
		}
		if _, err := s.sock.conn.Write(buf); err != nil {
			_ = s.sock.conn.Close()
			return
		}
		if cap(buf) > 1<<20 {
			buf = nil
		}
	}
}

// ended is closed when the session's reader has ended or the client is closed.
func (s *session) ended() <-chan struct{} { return s.sock.over }

// heartbeat pings, finds half-open connections, and asks again for what was refused for a while. It looks at the clock, so that a machine that
// slept does no harm.
func (s *session) heartbeat(ctx context.Context) error {
	c := s.c
	for {
		select {
		case <-c.opt.Clock.After(beat):
		case <-ctx.Done():
			return nil
		}
		c.mu.Lock()
		now := c.opt.Clock.Now()
		switch {
		case !s.open:
		case now.Sub(s.heard) >= deadQuiet && !s.pinged.IsZero() && now.Sub(s.pinged) >= pongWait:
			s.drop("nothing was heard for %v", now.Sub(s.heard).Round(time.Second))
		default:
			if now.Sub(s.lastPing) >= pingQuiet {
				s.ping(now)
			}
			for _, sub := range c.subs {
				if !sub.state.again.IsZero() && !now.Before(sub.state.again) {
					s.subscribe(sub, "")
				}
			}
		}
		c.mu.Unlock()
	}
}

func (s *session) ping(now time.Time) {
	s.pings++
	s.lastPing = now
	if s.pinged.IsZero() {
		s.pinged = now
	}
	s.send(pingFrame{"ping", toMillis(now)})
}

// read applies what the server sends until the connection ends, and returns why.
func (s *session) read() *Problem {
	defer close(s.sock.over)
	c := s.c
	for {
		message, err := s.sock.next(func(payload []byte) {
			_, _ = s.sock.conn.Write(appendFrame(nil, ws.OpPong, payload)) // servers of ours send none
		})
		if err != nil {
			var ce *closeError
			if errors.As(err, &ce) && ce.code == 1009 {
				return problemf(string(wire.TooLarge), "%v", err)
			}
			return problemf(CodeUnreachable, "%v", err)
		}
		f, err := readFrame(message)
		if err != nil {
			return problemf(CodeUnreachable, "%v", err)
		}
		c.mu.Lock()
		s.heard = c.opt.Clock.Now()
		done, tell := s.frame(&f, message)
		c.changed()
		observe := c.observe
		c.mu.Unlock()
		if tell && observe != nil {
			observe(done)
		}
	}
}

// frame handles one frame. The caller holds c.mu.
func (s *session) frame(f *received, message []byte) (done Applied, tell bool) {
	c := s.c
	switch f.kind {
	case "welcome":
		var w welcomeFrame
		if json.Unmarshal(message, &w) == nil {
			s.welcome(&w)
		}
		return done, false
	case "epoch":
		return s.epoch(f)
	case "snapshot":
		return s.snapshot(f)
	case "resumed":
		if sub := c.subs[f.id]; sub != nil {
			sub.state.behind, sub.state.complete = false, true
			if f.key != nil {
				sub.setKey(names(f.key))
			}
			c.refresh()
		}
	case "gap":
		if sub := c.subs[f.id]; sub != nil {
			sub.state.gap, sub.state.complete = true, false
			c.refresh()
		}
	case "pong":
		var p wire.PongFrame
		if json.Unmarshal(message, &p) == nil {
			c.clock.add(fromMillis(p.T), s.heard, fromMillis(p.Now))
			s.pinged = time.Time{}
			if s.pings < 4 {
				s.ping(s.heard)
			}
		}
	case "result":
		var r wire.ResultFrame
		if json.Unmarshal(message, &r) == nil {
			c.writes.answered(r.ID, &r.WriteResult)
			s.kick()
		}
	case "freshness":
		s.freshness(message)
	case "error":
		s.refused(message)
	case "goodbye":
		var g wire.GoodbyeFrame
		if json.Unmarshal(message, &g) == nil {
			after := fromRetry(g.RetryAfterMS)
			if after > 0 { // 0 is not said: the attempts keep their back-off
				s.retryAfter = after
			}
			if s.reason == nil {
				s.reason = &Problem{Code: string(g.Code), Detail: g.Reason, Retry: true, RetryAfter: after}
			}
		}
	case "signals":
		return s.signal(f, message)
	}
	return done, false
}

func (s *session) welcome(w *welcomeFrame) {
	c := s.c
	if s.open {
		c.broken("a second welcome")
		return
	}
	now := s.heard
	s.open, s.openedAt, s.limits, c.frameBytes = true, now, w.Limits, w.Limits.FrameBytes
	if n := w.Limits.DedupeSeconds; n > 0 {
		c.writes.remembered = time.Duration(n) * time.Second
	}
	c.away.reason, c.away.retryAt = nil, time.Time{}
	c.reported = ""
	c.signals.connection = w.Connection
	c.clock.restart()
	c.clock.add(s.helloAt, now, fromMillis(w.Now))
	asked := map[*Subscription]bool{}
	for _, sub := range s.asked {
		asked[sub] = true
		if c.subs[sub.id] == sub {
			sub.state.behind = true
		} else {
			s.send(unsubscribeFrame{"unsubscribe", sub.id}) // closed meanwhile
		}
	}
	for _, sub := range c.ordered() {
		if !asked[sub] {
			s.subscribe(sub, "") // made meanwhile
		}
	}
	s.asked = nil
	s.ping(now)
	c.signals.again(s, "")
	c.refresh()
	c.changed()
	s.kick()
}

func (s *session) epoch(f *received) (done Applied, tell bool) {
	c := s.c
	if before(f.position, s.last) { // of another connection it may be: the server may have lost its end
		c.broken("position " + f.position + " came after " + s.last)
		return done, false
	}
	s.last = f.position
	at := fromMillis(f.millis())
	done = Applied{Position: f.position, From: f.from, At: at}
	members(f.changes, func(id, value []byte) {
		sub := c.subs[string(id)]
		if sub == nil {
			return
		}
		ch := change{position: f.position, from: f.from, at: at}
		members(value, func(name, v []byte) {
			switch string(name) {
			case "put":
				ch.put = v
			case "del":
				ch.del = v
			}
		})
		done.Rows += sub.apply(&ch)
	})
	c.cursor = f.position
	for _, sub := range c.subs {
		if st := &sub.state; st.complete && !st.behind && st.pages == nil && st.position != "" {
			st.position = f.position
		}
	}
	now := s.heard
	if c.state.Name == StateLive {
		c.freshAt = now
		if done.Rows > 0 && !s.first {
			d := max(0, now.Add(c.clock.best.offset).Sub(at))
			c.meter.delay(now, f.position, d, c.opt.Random())
			if r, ok := c.meter.report(now); ok && c.opt.ReportDelay {
				s.send(seenFrame{"seen", r.position, float64(r.delay.Microseconds()) / 1000})
			}
		}
	}
	if done.Rows > 0 {
		s.first = false
		c.meter.count(now, done.Rows)
	}
	c.changed()
	return done, true
}

func (s *session) snapshot(f *received) (done Applied, tell bool) {
	c := s.c
	sub := c.subs[f.id]
	if sub == nil || !sub.page(f.position, names(f.key), f.rows, isTrue(f.more)) {
		return done, false
	}
	if c.cursor == "" {
		c.cursor = f.position
	}
	c.refresh()
	c.changed()
	return Applied{Position: f.position, Rows: len(sub.state.rows), Only: sub}, true
}

func (s *session) freshness(message []byte) {
	var f wire.FreshnessFrame
	if json.Unmarshal(message, &f) != nil {
		return
	}
	if sub := s.c.subs[f.ID]; sub != nil {
		sub.state.reported, sub.state.reason = f.State, f.Reason
	} else if f.ID == "" {
		s.c.reported = f.State
	}
	s.c.refresh()
}

// refused handles an error frame.
func (s *session) refused(message []byte) {
	c := s.c
	var f wire.ErrorFrame
	if json.Unmarshal(message, &f) != nil {
		return
	}
	p := fromWire(f.Error)
	if f.ID == "" {
		s.reason = p
		if p.RetryAfter > 0 {
			s.retryAfter = p.RetryAfter
		}
		if isFatal(p) {
			s.fatal = p
		}
		return
	}
	if c.writes.refused(f.ID, p, c) {
		s.kick()
		return
	}
	if c.signals.refused(f.ID, p) {
		return
	}
	sub := c.subs[f.ID]
	if sub == nil {
		return
	}
	if p.Retry {
		wait := p.RetryAfter
		if wait == 0 {
			wait = time.Second
		}
		sub.state.again, sub.state.behind = s.heard.Add(wait), true
		c.refresh()
		return
	}
	delete(c.subs, f.ID)
	sub.end(p, Refused)
	c.refresh()
}

// isFatal reports whether another attempt cannot change a refusal of the whole connection. One that says when to come again is not meant so.
func isFatal(p *Problem) bool {
	if p.RetryAfter > 0 {
		return false
	}
	switch wire.Code(p.Code) {
	case wire.Unauthenticated, wire.TokenExpired, wire.Forbidden, wire.InvalidRequest:
		return true
	}
	return false
}
