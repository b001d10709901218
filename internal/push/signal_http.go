package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/signal"
	"laaster/internal/wire"
)

// instanceHeader carries the secret of hello.instance for clients without a WebSocket.
const instanceHeader = "Laaster-Instance"

// connectionHeader tells such a client what others see of it in the column connection.
const connectionHeader = "Laaster-Connection"

// Bounds of a request that sets rows of a channel.
const (
	mostPosted      = 1000
	mostPostedBytes = 1 << 20
)

// serveSignals answers GET and HEAD of a channel.
func (h *Hub) serveSignals(w http.ResponseWriter, r *http.Request) {
	who, p := h.opt.Principal(r)
	var ch *signal.Channel
	if p == nil {
		p = h.question(r.Context(), who, pickFormat(r))
	}
	if p == nil {
		ch, p = h.accessChannel(who, r.PathValue("view"))
	}
	if p == nil && ch == nil { // it is gone
		p = noSuchView()
	}
	if p == nil {
		p = h.serveChannel(w, r, who, ch)
	}
	if p != nil {
		h.metrics.Refused.WithLabelValues(string(p.Code)).Inc()
		h.opt.Answer(w, r, p)
	}
}

// serveChannel is GET and HEAD /v1/views/{channel}: the rows of this moment, or what changes of them as events.
func (h *Hub) serveChannel(w http.ResponseWriter, r *http.Request, who auth.Principal, ch *signal.Channel) *wire.Problem {
	as := pickFormat(r)
	if as == noFormat {
		return wire.NewProblem(wire.InvalidRequest, "rows come as none of the accepted types").
			WithField("Accept", "application/json, application/x-ndjson, text/csv and text/event-stream are spoken")
	}
	raw, exact, p := channelParameters(r.URL.RawQuery)
	if p != nil {
		return p
	}
	q, p := newQuery(h.sightOf(who, ch), raw, exact, as == asEvents)
	switch {
	case p != nil:
		return p
	case as == asEvents && (q.filter.Limit >= 0 || q.filter.Offset > 0):
		return wire.NewProblem(wire.NotSupported, "limit and offset do not work on live channels").WithField("limit", "filter by the key, such as room=eq.a")
	case as == asEvents:
		if instance := r.Header.Get(instanceHeader); fitInstance(instance) {
			w.Header().Set(connectionHeader, h.signals.connectionName(who, instance))
		}
		return h.serveSignalEvents(w, r, who, ch, q)
	}
	h.serveSignalRows(w, r, ch, q, as)
	return nil
}

func fitInstance(s string) bool { return len(s) >= wire.MinInstance && len(s) <= wire.MaxInstance }

// channelParameters takes the server's own parameters out of a query string.
func channelParameters(query string) (rest string, exact bool, p *wire.Problem) {
	var others []string
	for _, pair := range strings.Split(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case !strings.HasPrefix(name, "_"):
			others = append(others, pair)
		case name == "_exact" && (value == "true" || value == "false"):
			exact = value == "true"
		default:
			return "", false, wire.NewProblem(wire.InvalidRequest, "a channel cannot be read with "+name).
				WithField(name, "its rows have no position and no history; _exact=true is understood")
		}
	}
	return strings.Join(others, "&"), exact, nil
}

func (h *Hub) serveSignalRows(w http.ResponseWriter, r *http.Request, ch *signal.Channel, q *query, as format) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Add("Vary", "Accept, Authorization")
	head.Set("Content-Type", [...]string{"application/json", "application/x-ndjson", "text/csv; charset=utf-8"}[as])
	if r.Method == http.MethodHead {
		return
	}
	out := h.newRowWriter(w, reader{query: q}, as)
	out.sorts = true
	defer out.release()
	for _, row := range h.signals.state.Rows(ch, out.match) { // in the order of the key
		var key []byte
		for _, by := range q.order() {
			key = change.AppendKey(key, q.rel.Layout.Type(by.Column), q.rel.Layout.Get(row, by.Column), by.Desc, by.NullsFirst)
		}
		out.ready = append(out.ready, sortedRow{key, row})
	}
	slices.SortStableFunc(out.ready, func(a, b sortedRow) int { return strings.Compare(string(a.key), string(b.key)) })
	out.all(nil)
}

// serveSignalEvents is a channel as a stream of events. It returns a problem only before anything was written.
func (h *Hub) serveSignalEvents(w http.ResponseWriter, r *http.Request, who auth.Principal, ch *signal.Channel, q *query) *wire.Problem {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	sink := &eventSink{w: w, out: http.NewResponseController(w), cancel: cancel}
	c := newConn(eventStream, who)
	c.session, c.sink, c.work = h.opt.RequestID(r), sink, make(chan struct{}, 1)
	if p := h.open(c); p != nil {
		return p
	}
	defer c.close()
	c.arranging.Lock()
	p := c.tuneIn(ch, "", q)
	c.arranging.Unlock()
	switch {
	case p != nil && !h.signals.state.Current(ch):
		return retryLater(wire.Busy, "the app has just changed", time.Second)
	case p != nil:
		return p
	}
	beginEvents(w)
	_ = sink.out.SetWriteDeadline(time.Time{}) // the hub watches for clients that do not read
	c.mu.Lock()
	c.mu.greeted = true
	c.mu.replies = append(c.mu.replies, []byte(retryMS))
	c.mu.Unlock()
	c.keepTuned()
	c.drain()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.work:
			if c.claim() {
				c.drain()
			}
		}
	}
}

// posted answers a request that sets or clears rows of a channel: what a write's answer says, without a position.
type posted struct {
	Final      bool            `json:"final"`
	Ack        string          `json:"ack"`
	Accepted   int             `json:"accepted"`
	Duplicates int             `json:"duplicates"`
	Rejected   []wire.Rejected `json:"rejected"`
}

// ServeSignals is POST and DELETE /v1/tables/{channel}: rows that no connection keeps up and that end after the channel's ttl.
func (h *Hub) ServeSignals(w http.ResponseWriter, r *http.Request) {
	result, p := h.postSignals(w, r)
	if p != nil {
		h.metrics.Refused.WithLabelValues(string(p.Code)).Inc()
		h.opt.Answer(w, r, p)
		return
	}
	status := http.StatusOK
	if result.Accepted == 0 && len(result.Rejected) > 0 {
		status = http.StatusUnprocessableEntity
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(result) // the caller may be gone
}

func (h *Hub) postSignals(w http.ResponseWriter, r *http.Request) (*posted, *wire.Problem) {
	who, p := h.opt.Principal(r)
	if p == nil {
		p = h.opt.Limiter.Ask(who, int(max(r.ContentLength, 0)))
	}
	if p != nil {
		return nil, p
	}
	ch, p := h.maySend(who, r.PathValue("table"))
	if p != nil {
		return nil, p
	}
	key := who.Caller()
	by := poster{key.Subject, key.From}
	if p := h.signals.posts.admit(by, h.clock.Now()); p != nil {
		return nil, p
	}
	caller := &signal.Caller{Subject: who.Subject, Role: who.Role, From: key.From}
	if !ch.Keyed() {
		instance := r.Header.Get(instanceHeader)
		if !fitInstance(instance) {
			return nil, wire.NewProblem(wire.InvalidRequest, "the connection is the key of "+ch.Name()+", and a request has none").
				WithField(instanceHeader, fmt.Sprintf("send a secret of %d to %d bytes that you keep, such as a random UUID", wire.MinInstance, wire.MaxInstance))
		}
		caller.Connection = h.signals.connectionName(who, instance)
	}
	switch r.Method {
	case http.MethodDelete:
		h.signals.posts.spend(by, deleteCost)
		return h.clearRows(r, caller, ch)
	case http.MethodPost:
		return h.postRows(w, r, caller, ch)
	}
	p = wire.NewProblem(wire.InvalidRequest, r.Method+" is not answered here").WithHint("POST sets whole rows of a channel, DELETE clears them")
	p.Status = http.StatusMethodNotAllowed
	w.Header().Set("Allow", "POST, DELETE")
	return nil, p
}

func (h *Hub) postRows(w http.ResponseWriter, r *http.Request, who *signal.Caller, ch *signal.Channel) (*posted, *wire.Problem) {
	if !ch.Lasting() {
		return nil, wire.NewProblem(wire.InvalidRequest, "the rows of "+ch.Name()+" last as long as the connection that sets them, and a request has none").
			WithHint("declare the channel with a ttl, or send signal frames over a WebSocket")
	}
	if r.URL.RawQuery != "" {
		return nil, wire.NewProblem(wire.InvalidRequest, "a channel takes no parameters: its rows are in memory at once").WithField("query", "leave it out")
	}
	body, p := readPosted(w, r)
	if p != nil {
		return nil, p
	}
	now := h.clock.Now()
	if len(body) > 0 && body[0] == '{' {
		if p := h.signals.state.Post(now, who, ch, body); p != nil {
			return nil, p
		}
		return &posted{Final: true, Ack: "memory", Accepted: 1, Rejected: []wire.Rejected{}}, nil
	}
	var rows [][]byte
	if p := wire.Elements(body, func(row []byte) bool {
		rows = append(rows, row)
		return len(rows) <= mostPosted
	}); p != nil {
		return nil, p
	}
	if len(rows) > mostPosted {
		return nil, wire.NewProblem(wire.TooMany, fmt.Sprintf("a request sets at most %d rows of a channel", mostPosted)).WithHint("send several")
	}
	h.signals.posts.spend(poster{who.Subject, who.From}, len(rows)-1)
	result := &posted{Final: true, Ack: "memory", Rejected: []wire.Rejected{}}
	for i, row := range rows {
		if p := h.signals.state.Post(now, who, ch, row); p != nil {
			p.Request = h.opt.RequestID(r)
			result.Rejected = append(result.Rejected, wire.Rejected{Index: i, Error: p})
		} else {
			result.Accepted++
		}
	}
	return result, nil
}

// readPosted reads a body, without the space around it.
func readPosted(w http.ResponseWriter, r *http.Request) ([]byte, *wire.Problem) {
	if text := r.Header.Get("Content-Type"); text != "" {
		kind, _, err := mime.ParseMediaType(text)
		if err != nil || kind != "application/json" && kind != "text/json" && kind != "application/x-www-form-urlencoded" { // curl -d without a header
			p := wire.NewProblem(wire.InvalidRequest, "the content type of this body is not known").WithField("Content-Type", "send application/json")
			p.Status = http.StatusUnsupportedMediaType
			return nil, p
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostPostedBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		w.Header().Set("Connection", "close")
		return nil, wire.NewProblem(wire.TooLarge, fmt.Sprintf("a request to a channel has at most %d bytes", mostPostedBytes)).WithHint("send several")
	case err != nil:
		w.Header().Set("Connection", "close")
		return nil, wire.NewProblem(wire.InvalidRequest, "the body did not arrive whole: "+err.Error()).WithHint("send it again")
	}
	return []byte(strings.TrimSpace(string(body))), nil
}

func (h *Hub) clearRows(r *http.Request, who *signal.Caller, ch *signal.Channel) (*posted, *wire.Problem) {
	raw, _, p := channelParameters(r.URL.RawQuery)
	if p != nil {
		return nil, p
	}
	q, p := newQuery(sight{rel: ch.Relation()}, raw, false, false)
	switch {
	case p != nil:
		return nil, p
	case q.filter.Select != nil || q.filter.Order != nil || q.filter.Limit >= 0 || q.filter.Offset > 0:
		return nil, wire.NewProblem(wire.BadFilter, "a delete has conditions on columns only").WithHint("such as room=eq.a")
	case q.filter.Cond() == nil && ch.Keyed():
		return nil, wire.NewProblem(wire.InvalidRequest, "a delete needs a filter").WithField("filter", "name the rows, such as room=eq.a")
	}
	m := reader{query: q}
	match := m.match
	if !ch.Keyed() { // its own, whatever else
		key := q.rel.Key[0]
		match = func(row change.Row) bool {
			return string(q.rel.Layout.Get(row, key).B) == who.Connection && m.match(row)
		}
	}
	n, denied := h.signals.state.Clear(h.clock.Now(), who, ch, match)
	if n == 0 && denied != nil {
		return nil, denied
	}
	return &posted{Final: true, Ack: "memory", Accepted: n, Rejected: []wire.Rejected{}}, nil
}
