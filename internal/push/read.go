package push

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// Waits over HTTP.
const (
	defaultWait = time.Second
	longestWait = 30 * time.Second
	longestAge  = 60 * time.Second // of rows out of a cache: their positions should still be continued
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
	query   *query
	guard   *guard // of a rule that has members: query is what it makes of the position
	format  format
	after   uint64
	expired <-chan time.Time // nil: `_wait` was not given
	waits   bool             // `_wait` was given
	maxAge  time.Duration    // `_max_age`: how old the rows of a cache may be; 0: caches ask
	from    wire.Cursor      // `_from`: where events go on
	every   time.Duration    // `_rate`: least time between two events; 0: none
	each    bool             // `_every`
}

// ServeView is GET and HEAD /v1/views/{view}: the rows of a view or of a readable table, or its live rows as events.
func (h *Hub) ServeView(w http.ResponseWriter, r *http.Request) {
	var rd *read
	var p *wire.Problem
	if h.Channel(r.PathValue("view")) {
		h.serveSignals(w, r)
		return
	}
	defer func() { h.letGo(rd) }()
	for range 3 { // the view may become another one while the caller waits
		var expired <-chan time.Time
		if rd != nil {
			expired = rd.expired // it waits no longer than it said
			h.letGo(rd)
		}
		if rd, p = h.parseRead(r, expired); p == nil {
			p = h.awaitAfter(r.Context(), rd)
		}
		if p != nil {
			break
		}
		if rd.format == asEvents {
			h.serveEvents(w, r, rd)
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
	rd := &read{who: who, format: pickFormat(r), expired: expired}
	if p := h.question(r.Context(), who, rd.format); p != nil {
		return nil, p
	}
	seen, p := h.access(who, r.PathValue("view"))
	if p != nil {
		return nil, p
	}
	if rd.format == noFormat {
		return nil, wire.NewProblem(wire.InvalidRequest, "rows come as none of the accepted types").
			WithField("Accept", "application/json, application/x-ndjson, text/csv and text/event-stream are spoken")
	}
	raw, exact, p := h.ownParameters(r.URL.RawQuery, rd)
	if p == nil {
		rd.query, p = newQuery(seen, raw, exact, rd.format == asEvents)
	}
	if p != nil {
		h.opt.Limiter.Misread(who, p.Code)
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
			rd.waits = true
			if wait = time.Duration(ms) * time.Millisecond; err != nil || wait < 0 || wait > longestWait {
				return bad(name, "_wait is a number of milliseconds up to 30000", "")
			}
		case "_exact":
			if exact = value == "true"; !exact && value != "false" {
				return bad(name, "_exact is true or false", "")
			}
		case "_max_age":
			seconds, err := strconv.Atoi(value)
			if rd.maxAge = time.Duration(seconds) * time.Second; err != nil || rd.maxAge < 0 || rd.maxAge > longestAge {
				return bad(name, "_max_age is a number of seconds up to 60", "")
			}
		case "_from", "_rate", "_every":
			if p := rd.liveParameter(name, value); p != nil {
				return "", false, p
			}
		case "_at":
			return "", false, wire.NewProblem(wire.NotSupported, "views of the past cannot be read yet").WithField(name, "")
		default:
			return bad(name, "there is no such parameter",
				"_after, _wait, _max_age and _exact, and for events _from, _rate and _every, are the server's own; columns do not begin with _")
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

// liveParameter takes a parameter of a stream of events.
func (rd *read) liveParameter(name, value string) *wire.Problem {
	bad := func(detail, hint string) *wire.Problem {
		return wire.NewProblem(wire.InvalidRequest, detail).WithField(name, hint)
	}
	if rd.format != asEvents {
		return bad(name+" is for streams of events", "ask with Accept: text/event-stream")
	}
	switch name {
	case "_from":
		rd.from = wire.Cursor{Given: true, Position: value}
		if p := checkCursor(rd.from); p != nil {
			return p.WithField(name, "send a position as the server named it")
		}
	case "_rate":
		rate, err := strconv.ParseFloat(value, 64)
		if err != nil || !(rate >= 0.01 && rate <= 1e6) {
			return bad("_rate is a number of events per second from 0.01 to 1000000", "leave it out for no limit")
		}
		rd.every = time.Duration(float64(time.Second) / rate)
	case "_every":
		if rd.each = value == "true"; !rd.each && value != "false" {
			return bad("_every is true or false", "")
		}
	}
	if rd.each && rd.every > 0 {
		return bad("every event and a rate exclude each other", "leave one of _every and _rate out")
	}
	return nil
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
	refuse := func(p *wire.Problem) {
		w.Header().Del("ETag")
		w.Header().Set("Cache-Control", "no-store")
		h.metrics.Refused.WithLabelValues(string(p.Code)).Inc()
		h.opt.Answer(w, r, p)
	}
	snap, tag, same, problem := h.await(r, rd)
	if problem != nil {
		refuse(problem)
		return true
	}
	if h.unlike(rd.who, rd.query) {
		return false
	}
	head := w.Header()
	if why := h.stale(rd.query.rel); why != "" {
		head.Set("Laaster-Stale", why)
	}
	head.Set("ETag", tag)
	head.Set("Laaster-Position", string(h.position(nil, snap.Seq())))
	head.Set("Cache-Control", h.caching(r, rd))
	head.Add("Vary", "Accept, Authorization")
	if same {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	cost := rd.query.cost(snap)
	h.opt.Limiter.Queried(rd.who, int(min(cost, math.MaxInt32)))
	m, problem := h.newMeter(r.Context(), rd.who, cost)
	defer m.close()
	if problem != nil {
		refuse(problem)
		return true
	}
	body := &meteredWriter{w: w, m: m}
	out := h.newRowWriter(body, reader{query: rd.query, meter: m}, rd.format)
	defer out.release()
	if r.Method != http.MethodHead {
		if problem := out.prepare(snap); problem != nil {
			refuse(problem)
			return true
		}
	}
	head.Set("Content-Type", [...]string{"application/json", "application/x-ndjson", "text/csv; charset=utf-8"}[rd.format])
	if r.Method == http.MethodHead {
		return true
	}
	out.all(snap)
	switch p := m.ended(); {
	case p == nil:
	case body.written > 0:
		panic(http.ErrAbortHandler) // nobody takes a part of the rows for all
	default:
		refuse(p)
	}
	return true
}

// await takes the rows to answer with, and says whether the caller has them. A long poll waits until it has not, or its time is over: changes of the view
// that are none of its query do not end it.
func (h *Hub) await(r *http.Request, rd *read) (snap *view.Snapshot, tag string, same bool, p *wire.Problem) {
	snap, last, p := h.moment(rd)
	if p != nil {
		return nil, "", false, p
	}
	have, ok := h.known(r, rd, last)
	asked := rd.query.canon
	for known := have; ; {
		if !ok || rd.query.canon != asked || !h.unchanged(rd.query, known, last) {
			return snap, h.entityTag(rd, last), false, nil
		}
		if rd.expired == nil {
			break
		}
		if err := h.awaitNext(r.Context(), rd, snap, last); err != nil {
			if errors.Is(err, view.ErrExpired) {
				rd.expired = past()
			}
			break
		}
		known = last
		if snap, last, p = h.moment(rd); p != nil {
			return nil, "", false, p
		}
		if last == known && (rd.guard == nil || !h.current(rd.query.rel)) { // the relation is gone: see Store.AwaitChange
			return snap, h.entityTag(rd, last), false, nil
		}
	}
	return snap, h.entityTag(rd, have), true, nil // the tag that the caller has: caches find their answer by it
}

// moment takes the rows of now, and the position at which what the answer is made of last changed. With a guard it makes rd ask what the caller sees there.
func (h *Hub) moment(rd *read) (*view.Snapshot, uint64, *wire.Problem) {
	q := rd.query
	if !q.dependent() {
		snap := h.store.Snapshot(q.rel.ID)
		return snap, snap.LastChange(q.rel.ID), nil
	}
	if rd.guard == nil {
		h.mu.Lock()
		rd.guard = h.newGuardLocked(q, nil)
		h.mu.Unlock()
	}
	rels := []int{q.rel.ID}
	for _, r := range q.over {
		rels = append(rels, r.ID)
	}
	slices.Sort(rels)
	rels = slices.Compact(rels)
	for range mostRestarts {
		if p := h.buildGuard(rd.guard); p != nil {
			return nil, 0, p
		}
		snap := h.store.Snapshot(rels...)
		g, ok := rd.guard.at(snap.Seq())
		if !ok {
			continue
		}
		own := *g.q
		own.canon = rd.guard.base.canon + g.q.filter.Canonical()
		rd.query = &own
		last := uint64(0)
		for _, rel := range rels {
			last = max(last, snap.LastChange(rel))
		}
		return snap, last, nil
	}
	return nil, 0, tooFast()
}

// letGo gives back what a read held.
func (h *Hub) letGo(rd *read) {
	if rd == nil || rd.guard == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.freeLocked(rd.guard)
	rd.guard = nil
}

// awaitNext waits until there may be another answer than that of snap.
func (h *Hub) awaitNext(ctx context.Context, rd *read, snap *view.Snapshot, last uint64) error {
	return h.wait(ctx, func(ctx context.Context) error {
		if rd.guard != nil {
			return h.store.Await(ctx, snap.Seq()+1, rd.expired)
		}
		return h.store.AwaitChange(ctx, rd.query.rel.ID, last+1, rd.expired)
	})
}

// mostCompared is how many changes a read looks through to find that they do not concern it.
const mostCompared = 10_000

// unchanged reports whether the answer to q is the same at the position to as at from, as far as the ring can tell.
func (h *Hub) unchanged(q *query, from, to uint64) bool {
	if from == to {
		return true
	}
	if from > to || from < h.store.Birth(q.rel.ID) {
		return false
	}
	epochs, ok := h.store.Since(from)
	if !ok {
		return false
	}
	sp := history(epochs).span(from, to)
	most := mostCompared
	for _, e := range sp.epochs {
		for i := range e.Deltas {
			if e.Deltas[i].Relation == q.rel.ID {
				most -= len(e.Deltas[i].Changes)
			}
		}
	}
	if most < 0 {
		return false
	}
	changes := sp.changes(q.rel.ID)
	if q.point {
		changes = only(changes, q.lead)
	}
	r, work := reader{query: q}, 0
	for i := range changes {
		c := &changes[i]
		was, is := c.Old != nil && r.match(c.Old), c.New != nil && r.match(c.New)
		if work += r.ctx.Spent(); work > compareWork {
			return false
		}
		if was != is || is && !(q.looksSame(c.Old, c.New) && q.ranksSame(c.Old, c.New)) {
			return false
		}
	}
	return true
}

// caching says who may keep the answer and use it again. What everybody may read can be kept by caches on the way; they ask each time whether it is
// still right, unless the caller takes older rows. A wait must reach the server, and so must reads that are recorded.
func (h *Hub) caching(r *http.Request, rd *read) string {
	switch {
	case rd.waits || h.opt.Recorded != nil && h.opt.Recorded(rd.query.rel.Name):
		return "no-store"
	case rd.who.Token != nil || rd.who.Role != auth.Anonymous().Role || r.Header.Get("Authorization") != "" || rd.query.rule != nil:
		return "private, no-cache"
	case rd.maxAge > 0:
		return "public, max-age=" + strconv.Itoa(int(rd.maxAge/time.Second))
	}
	return "public, no-cache"
}

// past is a time that is over for everybody who waits for it.
func past() <-chan time.Time {
	ch := make(chan time.Time)
	close(ch)
	return ch
}

// entityTag names an answer: query, role, what the caller sees, format, and a position at which the rows were these.
func (h *Hub) entityTag(rd *read, last uint64) string {
	return h.tagOf(rd) + string(h.position(nil, last)) + `"`
}

// tagOf is what the tags of all answers to the same question have in common.
func (h *Hub) tagOf(rd *read) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(int(rd.format)) + " " + rd.who.Role + " " + rd.query.canon))
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:9]) + "-"
}

// known returns the newest position at which the caller has the answer, which is last when whatever he has will do. It is false when he has none.
func (h *Hub) known(r *http.Request, rd *read, last uint64) (newest uint64, ok bool) {
	own := h.tagOf(rd)
	for _, list := range r.Header.Values("If-None-Match") {
		for _, have := range strings.Split(list, ",") {
			have = strings.TrimPrefix(strings.TrimSpace(have), "W/")
			if have == "*" {
				return last, true
			}
			position, ours := strings.CutPrefix(have, own)
			if pos, err := change.ParsePosition(strings.TrimSuffix(position, `"`)); ours && err == nil && pos.Log == h.opt.Log && pos.Shard == h.opt.Shard {
				newest, ok = max(newest, pos.Seq), true
			}
		}
	}
	return newest, ok
}
