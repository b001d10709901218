package push

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// Waits over HTTP.
const (
	defaultWait = time.Second
	longestWait = 30 * time.Second
)

// format is how rows are sent.
type format uint8

const (
	asJSON format = iota
	asLines
	asCSV
	asEvents
	noFormat
)

// read is one GET or HEAD of a view, checked.
type read struct {
	who     auth.Principal
	rel     *expr.Relation
	query   *query
	format  format
	after   uint64
	expired <-chan time.Time // nil: `_wait` was not given
}

// ServeView is GET and HEAD /v1/views/{view}: the rows of a view or of a readable table, or its live rows as events.
func (h *Hub) ServeView(w http.ResponseWriter, r *http.Request) {
	var rd *read
	var p *wire.Problem
	for range 3 { // the view may become another one while the caller waits
		var expired <-chan time.Time
		if rd != nil {
			expired = rd.expired // it waits no longer than it said
		}
		if rd, p = h.parseRead(r, expired); p == nil {
			p = h.awaitAfter(r.Context(), rd)
		}
		if p != nil {
			break
		}
		if rd.format == asEvents {
			h.serveEvents(w, r, rd.who, rd.query)
			return
		}
		if h.serveRows(w, r, rd) {
			return
		}
	}
	if p == nil {
		p = retryLater(wire.Busy, "the view keeps changing", 100*time.Millisecond)
	}
	h.metrics.Refused.WithLabelValues(string(p.Code)).Inc()
	h.opt.Answer(w, r, p)
}

// parseRead reads a request. expired is when its wait ends when that is known already.
func (h *Hub) parseRead(r *http.Request, expired <-chan time.Time) (*read, *wire.Problem) {
	who, p := h.opt.Principal(r)
	if p != nil {
		return nil, p
	}
	rel, p := h.access(who, r.PathValue("view"))
	if p != nil {
		return nil, p
	}
	rd := &read{who: who, rel: rel, format: pickFormat(r), expired: expired}
	if rd.format == noFormat {
		return nil, wire.NewProblem(wire.InvalidRequest, "rows come as none of the accepted types").
			WithField("Accept", "application/json, application/x-ndjson, text/csv and text/event-stream are spoken")
	}
	raw, exact, p := h.ownParameters(r.URL.RawQuery, rd)
	if p != nil {
		return nil, p
	}
	rd.query, p = newQuery(rd.rel, raw, exact, rd.format == asEvents)
	if p == nil && rd.format == asEvents && (rd.query.filter.Limit >= 0 || rd.query.filter.Offset > 0) {
		p = noLiveLimit()
	}
	return rd, p
}

// ownParameters takes the parameters that begin with '_' out of a query string and returns the rest.
func (h *Hub) ownParameters(query string, rd *read) (rest string, exact bool, p *wire.Problem) {
	bad := func(name, detail, hint string) (string, bool, *wire.Problem) {
		return "", false, wire.NewProblem(wire.InvalidRequest, detail).WithField(name, hint)
	}
	var others []string
	wait := time.Duration(-1)
	for _, pair := range strings.Split(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "_") || name == "_n" {
			others = append(others, pair)
			continue
		}
		switch name {
		case "_after":
			seq, p := h.parseAfter(value)
			if p != nil {
				return "", false, p
			}
			rd.after = seq
		case "_wait":
			ms, err := strconv.Atoi(value)
			if wait = time.Duration(ms) * time.Millisecond; err != nil || wait < 0 || wait > longestWait {
				return bad(name, "_wait is a number of milliseconds up to 30000", "")
			}
		case "_exact":
			if exact = value == "true"; !exact && value != "false" {
				return bad(name, "_exact is true or false", "")
			}
		case "_at":
			return "", false, wire.NewProblem(wire.NotSupported, "views of the past cannot be read yet").WithField(name, "")
		default:
			return bad(name, "there is no such parameter", "_after, _wait and _exact are the server's own; columns do not begin with _")
		}
	}
	switch {
	case rd.expired != nil:
	case wait >= 0:
		rd.expired = h.clock.After(wait)
	case rd.after > 0:
		rd.expired = h.clock.After(defaultWait)
	}
	return strings.Join(others, "&"), exact, nil
}

func (h *Hub) parseAfter(value string) (uint64, *wire.Problem) {
	pos, err := change.ParsePosition(value)
	switch {
	case err != nil:
		return 0, wire.NewProblem(wire.InvalidRequest, err.Error()).WithField("_after", "send a position as the server named it")
	case pos.Log != h.opt.Log || pos.Shard != h.opt.Shard:
		return 0, wire.NewProblem(wire.Gap, "the position belongs to another log").WithField("_after", "read without _after")
	}
	return pos.Seq, nil
}

// awaitAfter waits for the position that the caller wants to see.
func (h *Hub) awaitAfter(ctx context.Context, rd *read) *wire.Problem {
	if rd.after == 0 {
		return nil
	}
	switch err := h.wait(ctx, func(ctx context.Context) error { return h.store.Await(ctx, rd.after, rd.expired) }); {
	case err == nil:
		return nil
	case errors.Is(err, view.ErrExpired):
		p := retryLater(wire.NotYet, "the position is not applied yet", 100*time.Millisecond)
		return p.WithField("_after", "wait longer with _wait, or ask again")
	}
	return retryLater(wire.Draining, "the server is shutting down", time.Second)
}

// wait runs f with a context that ends with the request or when the hub drains.
func (h *Hub) wait(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.leaving, cancel)()
	return f(ctx)
}

// pickFormat reads the Accept header: the first of the most wanted types that we speak.
func pickFormat(r *http.Request) format {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return asJSON
	}
	best, bestQ := noFormat, 0.0
	for _, item := range strings.Split(accept, ",") {
		name, params, err := mime.ParseMediaType(strings.TrimSpace(item))
		if err != nil {
			continue
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				continue
			}
		}
		if f := formatOf(name); f != noFormat && q > bestQ {
			best, bestQ = f, q
		}
	}
	return best
}

func formatOf(mediaType string) format {
	switch mediaType {
	case "application/json", "application/*", "*/*":
		return asJSON
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return asLines
	case "text/csv":
		return asCSV
	case "text/event-stream":
		return asEvents
	}
	return noFormat
}

// serveRows answers with the rows at one position, or with 304 when the caller has them. It reports false, having answered nothing, when the
// view has become another one, or another's, since the request was read.
func (h *Hub) serveRows(w http.ResponseWriter, r *http.Request, rd *read) bool {
	rel := rd.rel.ID
	snap := h.store.Snapshot(rel)
	tag := h.entityTag(rd, snap.LastChange(rel))
	if matches(r, tag) && rd.expired != nil { // a long poll
		err := h.wait(r.Context(), func(ctx context.Context) error {
			return h.store.AwaitChange(ctx, rel, snap.LastChange(rel)+1, rd.expired)
		})
		switch {
		case err == nil:
			snap = h.store.Snapshot(rel)
			tag = h.entityTag(rd, snap.LastChange(rel))
		case errors.Is(err, view.ErrExpired):
			rd.expired = past()
		}
	}
	if is, p := h.readable(rd.who, rd.rel.Name); is != rd.rel || p != nil {
		return false
	}
	head := w.Header()
	if why := h.stale(rd.rel); why != "" {
		head.Set("Laaster-Stale", why)
	}
	head.Set("ETag", tag)
	head.Set("Laaster-Position", string(h.position(nil, snap.Seq())))
	head.Set("Cache-Control", "no-cache")
	head.Add("Vary", "Accept, Authorization")
	if matches(r, tag) {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	out := &rowWriter{w: bufio.NewWriterSize(w, 32<<10), reader: reader{query: rd.query}, format: rd.format, budget: &h.sorting}
	defer out.release()
	if r.Method != http.MethodHead {
		if problem := out.prepare(snap); problem != nil {
			head.Del("ETag")
			h.opt.Answer(w, r, problem)
			return true
		}
	}
	head.Set("Content-Type", [...]string{"application/json", "application/x-ndjson", "text/csv; charset=utf-8"}[rd.format])
	if r.Method == http.MethodHead {
		return true
	}
	out.all(snap)
	return true
}

// past is a time that is over for everybody who waits for it.
func past() <-chan time.Time {
	ch := make(chan time.Time)
	close(ch)
	return ch
}

// entityTag names an answer: query, role and format, and the position at which the relation last changed.
func (h *Hub) entityTag(rd *read, last uint64) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(int(rd.format)) + " " + rd.who.Role + " " + rd.query.canon))
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:9]) + "-" + string(h.position(nil, last)) + `"`
}

// matches reports whether the caller has the answer named by tag.
func matches(r *http.Request, tag string) bool {
	for _, list := range r.Header.Values("If-None-Match") {
		for _, have := range strings.Split(list, ",") {
			have = strings.TrimSpace(have)
			if have == "*" || strings.TrimPrefix(have, "W/") == tag {
				return true
			}
		}
	}
	return false
}
