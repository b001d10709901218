package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"laaster/internal/wire"
)

const (
	answerMost = 64 << 20        // bytes of the answer to a write
	postWait   = 2 * time.Minute // for the answer to a write; then it is sent again
)

func as[T error](err error, target *T) bool { return errors.As(err, target) }

// writeHTTP sends a write as requests of its own until it is answered or ctx ends.
func (c *Client) writeHTTP(ctx context.Context, w Write) (Result, error) {
	f, err := w.frame()
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	r, p := c.post(ctx, &Pending{client: c, key: f.Key, frame: f, done: make(chan struct{})})
	if p != nil {
		p.Key = f.Key
		return Result{Key: f.Key}, p
	}
	return r, nil
}

// post sends a write by HTTP, again and again while the network or the server says later and the server still knows its key.
func (c *Client) post(ctx context.Context, w *Pending) (Result, *Problem) {
	for attempt := 0; ; attempt++ {
		c.mu.Lock()
		p := c.writes.begin(w, c.opt.Clock.Now())
		c.mu.Unlock()
		if p == nil {
			var r Result
			var sent bool
			if r, sent, p = c.postOnce(ctx, &w.frame); p == nil {
				return r, nil
			}
			c.mu.Lock()
			c.writes.ended(w, !sent || noEffect(p))
			c.mu.Unlock()
		}
		if !p.Retry && !(p.Code == string(wire.TokenExpired) && c.opt.Token != nil && attempt == 0) {
			return Result{}, p
		}
		wait := retryWait(p, c.opt.Random())
		if p.Code == CodeUnreachable {
			wait = time.Duration(c.opt.Random() * math.Min(float64(backoffMost), float64(backoffStep)*math.Pow(2, float64(attempt))))
		}
		select {
		case <-c.opt.Clock.After(wait):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			if c.ctx.Err() != nil {
				return Result{}, problemf(CodeClosed, "the client was closed; whether the write took effect is unknown")
			}
			t := problemf(CodeTimeout, "the write was not answered in time, whether it took effect is unknown: %v", context.Cause(ctx))
			t.Detail += " (" + p.Error() + ")"
			return Result{}, t
		}
	}
}

// postOnce sends a write once. With a problem, sent is false when certainly nothing of it went out.
func (c *Client) postOnce(ctx context.Context, f *writeFrame) (r Result, sent bool, p *Problem) {
	var params []string
	if f.Filter != "" {
		params = append(params, strings.ReplaceAll(f.Filter, " ", "%20"))
	}
	if f.Atomic {
		params = append(params, "_atomic=true")
	}
	if f.OnConflict != "" {
		params = append(params, "on_conflict="+url.QueryEscape(f.OnConflict))
	}
	if f.Ack != "" {
		params = append(params, "_ack="+f.Ack)
	}
	address := c.at.table(f.Table)
	if len(params) > 0 {
		address += "?" + strings.Join(params, "&")
	}
	method, body := http.MethodDelete, []byte(nil)
	switch {
	case f.Rows != nil:
		method, body = http.MethodPost, f.Rows
	case f.Patch != nil:
		method, body = http.MethodPatch, f.Patch
	}
	head := http.Header{}
	if body != nil {
		head.Set("Content-Type", "application/json")
	}
	if f.Key != "" {
		head.Set("Idempotency-Key", f.Key)
	} else {
		head.Set("Laaster-Producer", f.Producer)
		head.Set("Laaster-Sequence", strconv.FormatUint(f.Sequence, 10))
	}
	head.Set("Laaster-Instance", c.signals.instance) // never changes
	ctx, cancel := context.WithTimeout(ctx, postWait)
	defer cancel()
	token, p := c.bearer(ctx)
	if p != nil {
		return Result{}, false, p
	}
	var connected atomic.Bool // a failed dial may be the second try of a request that went out
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	a, p := c.requestAs(ctx, token, method, address, body, head)
	if p != nil {
		var op *net.OpError
		return Result{}, connected.Load() || !as(p, &op) || op.Op != "dial", p
	}
	defer a.Body.Close()
	data, err := io.ReadAll(io.LimitReader(a.Body, answerMost))
	if err != nil {
		return Result{}, true, problemf(CodeUnreachable, "the answer was cut off: %v", err)
	}
	var got wire.WriteResult
	if json.Unmarshal(data, &got) == nil && (got.Position != "" || a.StatusCode == http.StatusOK) { // also when all rows were refused
		return resultOf(&got, f.Key), true, nil
	}
	p, _ = fromResponse(a, data)
	return Result{}, true, p
}

// request sends one request. A problem is about the network, or the token.
func (c *Client) request(ctx context.Context, method, address string, body []byte, head http.Header) (*http.Response, *Problem) {
	token, p := c.bearer(ctx)
	if p != nil {
		return nil, p
	}
	return c.requestAs(ctx, token, method, address, body, head)
}

func (c *Client) requestAs(ctx context.Context, token, method, address string, body []byte, head http.Header) (*http.Response, *Problem) {
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	q, err := http.NewRequestWithContext(ctx, method, address, in)
	if err != nil {
		return nil, problemf("invalid_request", "%v", err)
	}
	q.Header = c.headers(token)
	for name, values := range head {
		q.Header[name] = values
	}
	r, err := c.opt.HTTP.Do(q)
	if err != nil {
		return nil, problemf(CodeUnreachable, "no answer from %s: %v", c.at.http, err)
	}
	return r, nil
}

// postAside sends a write that is too large for a frame by HTTP. The caller holds c.mu.
func (c *Client) postAside(p *Pending) {
	if c.ending {
		c.writes.finish(p, Result{}, problemf(CodeClosed, "the client was closed"))
		return
	}
	c.writes.flight[p.id] = p
	p.aside = true
	ctx := c.posted(p)
	c.group.Go("client post", func(context.Context) error {
		defer p.stop()
		r, err := c.post(ctx, p)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.writes.settle(p, r, err)
		c.changed()
		return nil
	})
}

// posted returns the context of the requests of a write: it ends when the write is settled, by being given up, say. The caller holds c.mu.
func (c *Client) posted(p *Pending) context.Context {
	ctx, stop := context.WithCancel(c.group.Context())
	p.stop = stop
	return ctx
}

// startPosting sends what waits by HTTP, one after the other, while event streams are in use. The caller holds c.mu.
func (c *Client) startPosting() {
	if c.writes.posting || c.ending || len(c.writes.waiting) == 0 {
		return
	}
	c.writes.posting = true
	c.group.Go("client post", func(ctx context.Context) error {
		for {
			c.mu.Lock()
			if len(c.writes.waiting) == 0 || !c.streaming || ctx.Err() != nil {
				c.writes.posting = false
				c.mu.Unlock()
				return nil
			}
			p := c.writes.waiting[0]
			own := c.posted(p)
			c.mu.Unlock()
			r, err := c.post(own, p)
			p.stop()
			c.mu.Lock()
			c.writes.settle(p, r, err)
			c.changed()
			c.mu.Unlock()
		}
	})
}

// Reading is the rows of a view at one position, read over HTTP.
type Reading struct {
	Position string
	ETag     string // for ReadOptions.NoneMatch
	Stale    string // not empty: the view stands still, for this reason
	Same     bool   // the view has not changed since NoneMatch; there are no rows
	Rows     []Row  // in the order that was asked for
}

// ReadOptions is what else may be asked of a read.
type ReadOptions struct {
	After     string        // wait until this position is in: read your own writes
	NoneMatch string        // the ETag of an earlier reading: no rows when nothing has changed
	Wait      time.Duration // how long to wait, for After or (with NoneMatch) for a change; at most 30 s; default 1 s with After
}

// Read reads a view, or a table that may be read, once. It asks again after refusals that pass, until ctx ends.
func (c *Client) Read(ctx context.Context, view string, query Query, options ReadOptions) (Reading, error) {
	if err := query.check(); err != nil {
		return Reading{}, err
	}
	var more []string
	if options.After != "" {
		more = append(more, "_after="+url.QueryEscape(options.After))
	}
	if options.Wait > 0 {
		more = append(more, "_wait="+strconv.FormatInt(options.Wait.Milliseconds(), 10))
	}
	if c.opt.Exact {
		more = append(more, "_exact=true")
	}
	head := http.Header{"Accept": {"application/json"}}
	if options.NoneMatch != "" {
		head.Set("If-None-Match", options.NoneMatch)
	}
	address := query.address(c.at.view(view), more...)
	for attempt := 0; ; attempt++ {
		out, p := c.readOnce(ctx, address, head)
		if p == nil {
			return out, nil
		}
		if !p.Retry || p.Code == string(wire.NotYet) || p.Code == CodeUnreachable && attempt >= sendsMost {
			return Reading{}, p
		}
		select {
		case <-c.opt.Clock.After(retryWait(p, c.opt.Random())):
		case <-ctx.Done():
			return Reading{}, p
		}
	}
}

func (c *Client) readOnce(ctx context.Context, address string, head http.Header) (Reading, *Problem) {
	r, p := c.request(ctx, http.MethodGet, address, nil, head)
	if p != nil {
		if ctx.Err() != nil {
			return Reading{}, problemf(CodeTimeout, "the read was not answered in time: %v", context.Cause(ctx))
		}
		return Reading{}, p
	}
	defer r.Body.Close()
	data, err := io.ReadAll(io.LimitReader(r.Body, int64(c.opt.MessageBytes)+1))
	if err != nil {
		return Reading{}, problemf(CodeUnreachable, "the answer was cut off: %v", err)
	}
	if len(data) > c.opt.MessageBytes {
		return Reading{}, problemf(string(wire.TooLarge), "the answer is larger than %d bytes, the limit in MessageBytes", c.opt.MessageBytes)
	}
	out := Reading{Position: r.Header.Get("Laaster-Position"), ETag: r.Header.Get("ETag"), Stale: r.Header.Get("Laaster-Stale")}
	switch {
	case r.StatusCode == http.StatusNotModified:
		out.Same = true
		return out, nil
	case r.StatusCode != http.StatusOK:
		p, _ := fromResponse(r, data)
		return Reading{}, p
	}
	if err := json.Unmarshal(data, &out.Rows); err != nil {
		return Reading{}, problemf(string(wire.InvalidJSON), "the answer is not an array of rows: %v", err)
	}
	return out, nil
}
