package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"time"

	"laaster/internal/wire"
)

// feed is the event stream of one subscription. Its fields are under client.mu.
type feed struct {
	c       *Client
	sub     *Subscription
	stop    context.CancelFunc
	open    bool // the stream is open and was heard of
	failed  bool // the last attempt failed
	attempt int
	heard   time.Time
}

// stream keeps event streams for all subscriptions, until the client is closed or (with Auto) none of them can be had any more.
func (c *Client) stream(ctx context.Context) ending {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.streaming, c.streams, c.lost, c.streamOK = true, ctx, make(chan *Problem, 1), false
	c.cursor = ""
	lost := c.lost
	for _, s := range c.ordered() {
		c.startFeed(s)
	}
	c.startPosting()
	c.mu.Unlock()
	started := c.opt.Clock.Now()
	end := ending{retryAfter: -1}
	if p := c.reachable(ctx); p != nil {
		end.reason, end.retryAfter = p, retryOr(p, -1)
		if isFatal(p) {
			end.fatal = p
		}
	} else {
		c.mu.Lock()
		c.streamOK = true
		c.away.reason, c.away.retryAt = nil, time.Time{}
		c.refresh()
		c.changed()
		c.mu.Unlock()
		end.opened, end.ours = true, true
		select {
		case end.reason = <-lost:
		case <-ctx.Done():
		}
	}
	end.lasted = c.opt.Clock.Now().Sub(started)
	c.mu.Lock()
	c.streaming, c.streamOK = false, false
	for _, s := range c.subs {
		if f := s.state.feed; f != nil {
			f.stop()
			s.state.feed = nil
		}
		s.state.behind = false
	}
	c.refresh()
	c.mu.Unlock()
	return end
}

func retryOr(p *Problem, other time.Duration) time.Duration {
	if p.RetryAfter > 0 {
		return p.RetryAfter
	}
	return other
}

// reachable asks whether the server is there at all.
func (c *Client) reachable(ctx context.Context) *Problem {
	ctx, cancel := context.WithTimeout(ctx, welcomeWait)
	defer cancel()
	r, p := c.request(ctx, http.MethodGet, c.at.http+"/v1/live", nil, http.Header{"Accept": {"application/json"}})
	if p != nil {
		return p
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10)) // what is there decides
	p, ours := fromResponse(r, body)
	if ours && p.Code == string(wire.InvalidRequest) { // this path speaks WebSocket
		return nil
	}
	return p
}

// feedsConnected reports whether the server is known to answer while event streams are in use.
func (c *Client) feedsConnected() bool {
	if !c.streamOK {
		return false
	}
	for _, s := range c.subs {
		if f := s.state.feed; f != nil && f.open {
			return true
		}
	}
	return len(c.subs) == 0 || !c.allFailed()
}

// allFailed reports whether no event stream could be had the last time.
func (c *Client) allFailed() bool {
	for _, s := range c.subs {
		if f := s.state.feed; f == nil || !f.failed {
			return false
		}
	}
	return len(c.subs) > 0
}

// startFeed starts the event stream of a subscription. The caller holds c.mu.
func (c *Client) startFeed(s *Subscription) {
	if c.ending || s.state.over {
		return
	}
	ctx, cancel := context.WithCancel(c.streams)
	f := &feed{c: c, sub: s, stop: cancel}
	s.state.feed, s.state.behind = f, true
	s.state.pages, s.state.reported, s.state.reason = nil, "", ""
	c.group.Go("client stream", func(context.Context) error {
		defer cancel()
		f.follow(ctx)
		return nil
	})
}

// follow keeps one event stream, reconnecting, until ctx ends or the subscription is over.
func (f *feed) follow(ctx context.Context) {
	c := f.c
	for ctx.Err() == nil {
		began := c.opt.Clock.Now()
		wait, p := f.once(ctx)
		c.mu.Lock()
		if f.open && c.opt.Clock.Now().Sub(began) >= calm {
			f.attempt = 0
		}
		f.failed = !f.open
		f.open = false
		f.sub.state.pages = nil
		if ctx.Err() != nil || f.sub.state.over {
			c.mu.Unlock()
			return
		}
		if p != nil && !p.Retry && !(p.Code == string(wire.TokenExpired) && c.opt.Token != nil) {
			delete(c.subs, f.sub.id)
			f.sub.end(p, Refused)
			c.refresh()
			c.mu.Unlock()
			return
		}
		if wait < 0 {
			wait = time.Duration(c.opt.Random() * math.Min(float64(backoffMost), float64(backoffStep)*math.Pow(2, float64(f.attempt))))
		}
		f.attempt++
		f.sub.state.behind = true
		if c.allFailed() && f.attempt > 1 {
			select {
			case c.lost <- p:
			default:
			}
		}
		c.refresh()
		c.mu.Unlock()
		select {
		case <-c.opt.Clock.After(wait):
		case <-ctx.Done():
		}
	}
}

// once is one stream from its request to its end. wait is below 0 when the server did not say when to come back.
func (f *feed) once(ctx context.Context) (wait time.Duration, p *Problem) {
	c, s := f.c, f.sub
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	head := http.Header{"Accept": {"text/event-stream"}}
	c.mu.Lock()
	if s.state.complete && s.state.position != "" {
		head.Set("Last-Event-ID", s.state.position)
	}
	var more []string
	if c.opt.Exact {
		more = append(more, "_exact=true")
	}
	address := s.query.address(c.at.view(s.view), more...)
	f.heard = c.opt.Clock.Now()
	c.mu.Unlock()
	if !c.background("client stream watch", func(context.Context) error { f.watch(ctx, cancel); return nil }) {
		return -1, nil
	}
	r, p := c.request(ctx, http.MethodGet, address, nil, head)
	if p != nil {
		return -1, p
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10)) // what is there decides
		p, ours := fromResponse(r, body)
		if !ours {
			p.Retry = true // a proxy's page: it may pass
		}
		return retryOr(p, -1), p
	}
	return f.read(r.Body)
}

// watch ends a stream of which nothing was heard: the server sends a comment every 15 s.
func (f *feed) watch(ctx context.Context, cancel context.CancelFunc) {
	c := f.c
	for {
		select {
		case <-c.opt.Clock.After(beat):
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		quiet := c.opt.Clock.Now().Sub(f.heard) >= deadQuiet+pongWait
		c.mu.Unlock()
		if quiet {
			cancel()
			return
		}
	}
}

// read applies the events of a stream.
func (f *feed) read(body io.Reader) (wait time.Duration, p *Problem) {
	in := bufio.NewReaderSize(body, 4096)
	var line, data []byte
	kind, id := "", ""
	for {
		var err error
		if line, err = readLine(in, line[:0], f.c.opt.MessageBytes); err != nil {
			return -1, problemf(CodeUnreachable, "the stream of %s ended: %v", f.sub.view, err)
		}
		if len(line) == 0 {
			if kind != "" || id != "" {
				if wait, p, over := f.event(kind, id, data); over {
					return wait, p
				}
			}
			kind, id, data = "", "", data[:0]
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			kind = string(value)
		case "id":
			id = string(value)
		case "data":
			if len(data)+len(value) > f.c.opt.MessageBytes {
				return -1, problemf(string(wire.TooLarge), "an event larger than %d bytes, the limit in MessageBytes", f.c.opt.MessageBytes)
			}
			data = append(data, value...)
		}
		f.c.mu.Lock()
		f.heard = f.c.opt.Clock.Now()
		f.c.mu.Unlock()
	}
}

// readLine appends a line without its end.
func readLine(in *bufio.Reader, dst []byte, most int) ([]byte, error) {
	for {
		part, err := in.ReadSlice('\n')
		dst = append(dst, part...)
		switch {
		case len(dst) > most+16:
			return nil, errors.New("a line beyond the limit in MessageBytes")
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return nil, err
		}
		return bytes.TrimRight(dst, "\r\n"), nil
	}
}

// event handles one event. It reports whether the stream is over, and how.
func (f *feed) event(kind, id string, data []byte) (wait time.Duration, p *Problem, over bool) {
	c, s := f.c, f.sub
	var r received
	if len(data) > 0 {
		if err := checkJSON(data); err != nil {
			return -1, problemf(CodeUnreachable, "%v", err), true
		}
		r.read(data)
	}
	c.mu.Lock()
	if s.state.feed != f || s.state.over {
		c.mu.Unlock()
		return -1, nil, true
	}
	f.open, f.failed, f.heard = true, false, c.opt.Clock.Now()
	done, tell := f.handle(kind, id, &r, data, &wait, &p, &over)
	c.refresh()
	c.changed()
	observe := c.observe
	c.mu.Unlock()
	if tell && observe != nil {
		observe(done)
	}
	return wait, p, over
}

// handle applies an event. The caller holds c.mu.
func (f *feed) handle(kind, id string, r *received, data []byte, wait *time.Duration, p **Problem, over *bool) (done Applied, tell bool) {
	c, s := f.c, f.sub
	st := &s.state
	done.Only = s
	switch kind {
	case "": // a comment with an id: quiet, and the position moves on
		if st.complete && st.pages == nil && !st.behind && !st.channel {
			st.position = id
			return Applied{Position: id, Only: s}, true
		}
	case "snapshot":
		if s.page(r.position, names(r.key), r.rows, isTrue(r.more)) {
			return Applied{Position: r.position, Rows: len(st.rows), Only: s}, true
		}
	case "epoch":
		if before(r.position, st.position) {
			*wait, *p, *over = -1, problemf(CodeUnreachable, "position %s came after %s", r.position, st.position), true
			c.opt.Logger.Error("the server broke the protocol", "what", (*p).Detail)
			return done, false
		}
		at := fromMillis(r.millis())
		n := s.apply(&change{position: r.position, from: r.from, at: at, put: r.put, del: r.del})
		c.meter.count(f.heard, n)
		if n > 0 && c.state.Name == StateLive {
			c.meter.delay(f.heard, r.position, max(0, f.heard.Add(c.clock.best.offset).Sub(at)), c.opt.Random())
		}
		return Applied{Position: r.position, From: r.from, At: at, Rows: n, Only: s}, true
	case "resumed":
		st.behind, st.complete = false, true
		if r.key != nil {
			s.setKey(names(r.key))
		}
	case "gap":
		st.gap, st.complete = true, false
	case "signals":
		done.Rows, tell = s.signal(r)
		return done, tell
	case "freshness":
		var x wire.FreshnessFrame
		if json.Unmarshal(data, &x) == nil {
			st.reported, st.reason = x.State, x.Reason
		}
	case "error":
		var x wire.ErrorFrame
		if json.Unmarshal(data, &x) == nil {
			*wait, *p, *over = -1, fromWire(x.Error), true
		}
	case "goodbye":
		var g wire.GoodbyeFrame
		if json.Unmarshal(data, &g) == nil {
			*p = &Problem{Code: string(g.Code), Detail: g.Reason, Retry: true, RetryAfter: fromRetry(g.RetryAfterMS)}
			*wait, *over = retryOr(*p, -1), true // 0 is not said
		}
	}
	return done, false
}
