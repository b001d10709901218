package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"laaster/app"
	"laaster/internal/kit/fair"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// requestKey is the context key of the request id.
type requestKey struct{}

// requestID returns the id of a request that came through [front].
func requestID(q *http.Request) string {
	id, _ := q.Context().Value(requestKey{}).(string)
	return id
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, as documented
	return hex.EncodeToString(b[:])
}

// front is what every request of the public listener passes first: an id, the checks of host and origin, the time that a client
// has, headers that every answer has, and a recovery that turns a panic into one failed request.
type front struct {
	next    http.Handler
	hosts   hosts
	origins []string // allowed besides the server's own and loopback
	proxied bool     // TLS may have ended elsewhere, so the server's own origin may be https
	hsts    string   // told over TLS; "": nothing
	wait    patience
	log     *problemLog
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.ProtoMajor == 2 && q.Context().Err() != nil {
		return // taken back before it began: nobody reads an answer. Over HTTP/1 a client that has said all it will may still read
	}
	if c, ok := q.Context().Value(pacedKey{}).(*fair.Conn); ok {
		defer func() {
			if q.Context().Err() == nil { // else it was taken back, and asked for nothing
				c.Asked()
			}
		}()
		if !waits(q) {
			defer c.Worked(c.Begin())
		}
		if q.Body != nil && q.Body != http.NoBody {
			q = q.WithContext(q.Context()) // the server looks at the body of its own request
			q.Body = &fair.Body{ReadCloser: q.Body, Conn: c}
		}
	}
	id := newID()
	q = q.WithContext(context.WithValue(q.Context(), requestKey{}, id))
	h := w.Header()
	h.Set("Laaster-Request", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if f.hsts != "" && q.TLS != nil && !loopback(hostOnly(q.Host)) { // other servers on this machine's loopback are not ours to speak for
		h.Set("Strict-Transport-Security", f.hsts)
	}
	if len(q.TransferEncoding) > 0 || !q.ProtoAtLeast(1, 1) {
		h.Set("Connection", "close") // a proxy may have seen another end of this request, and what follows would be one of somebody else's
	}
	r := newResponse(w, q, f.wait)
	defer r.finish()
	defer f.recovered(r, q)
	p := f.foreign(q)
	if p == nil && q.URL.RawQuery != "" {
		p = tokenInURL(q)
	}
	if p != nil {
		f.log.answer(r, q, p)
		return
	}
	if origin := q.Header.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
		h.Set("Access-Control-Expose-Headers", "ETag, Laaster-Connection, Laaster-Position, Laaster-Request, Laaster-Stale, Retry-After")
		if q.Method == http.MethodOptions && q.Header.Get("Access-Control-Request-Method") != "" {
			preflight(h)
			r.WriteHeader(http.StatusNoContent)
			return
		}
	}
	f.next.ServeHTTP(r, q)
}

// waits reports whether the time that a request takes says little of the work that it makes: it waits for the log, or for something to happen.
func waits(q *http.Request) bool {
	return q.Method != http.MethodGet && q.Method != http.MethodHead || strings.Contains(q.URL.RawQuery, "_wait") || strings.Contains(q.Header.Get("Accept"), "event-stream") ||
		q.Header.Get("Upgrade") != ""
}

// foreign returns the problem of a request that a page of somebody else makes, nil for others.
func (f *front) foreign(q *http.Request) *wire.Problem {
	if p := f.hosts.refuse(q); p != nil {
		return p
	}
	if all := q.Header["Origin"]; len(all) > 1 || len(all) == 1 && all[0] != "" && !f.allowed(all[0], q) {
		return wire.NewProblem(wire.Forbidden, "pages of this origin may not talk to this server").
			WithField("Origin", "list it under origins in laaster.yaml")
	}
	return nil
}

// recovered turns a panic into one failed request: a problem, or, when the answer has begun, a cut connection, so that nobody takes
// half an answer for a whole one.
func (f *front) recovered(r *response, q *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler {
		f.log.logger.Error("panic in a request", "request", requestID(q), "path", q.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
	if r.begun || r.hijacked || p == http.ErrAbortHandler {
		panic(http.ErrAbortHandler)
	}
	f.log.answer(r, q, wire.NewProblem(wire.Internal, "the request met an error of ours").WithHint("report it with the request id"))
}

func preflight(h http.Header) {
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, ce-id, ce-source, ce-specversion, ce-subject, ce-time, ce-type, Content-Type, Idempotency-Key, If-None-Match, Laaster-Instance, Laaster-Producer, Laaster-Sequence, Last-Event-ID, traceparent")
	h.Set("Access-Control-Max-Age", "600")
}

// allowed compares whole origins, never parts of them: the server's own, a listed one, or loopback talking to loopback. The origin of a page without one
// ("null") is none of these.
func (f *front) allowed(origin string, q *http.Request) bool {
	if origin == own(q) || f.proxied && origin == "https://"+q.Host || slices.Contains(f.origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || origin != u.Scheme+"://"+u.Host || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	return loopback(u.Hostname()) && loopback(hostOnly(q.Host))
}

func hostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// problemLog answers with problems and logs each with its request id, at most so many lines a second: a flood of bad requests
// must not become a flood of log.
type problemLog struct {
	logger *slog.Logger
	clock  run.Clock
	mu     struct {
		sync.Mutex
		second  int64
		lines   int
		skipped int
	}
}

// linesPerSecond bounds the log lines about refused requests.
const linesPerSecond = 50

func (l *problemLog) answer(w http.ResponseWriter, q *http.Request, p *wire.Problem) {
	out := *p
	out.Request = requestID(q)
	if out.RetryAfterMS > 0 {
		w.Header().Set("Retry-After", strconv.Itoa((out.RetryAfterMS+999)/1000))
	}
	if out.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", challenge(q, &out))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(out.Status)
	_ = json.NewEncoder(w).Encode(&out) // the caller may be gone
	l.record(q, &out)
}

func (l *problemLog) record(q *http.Request, p *wire.Problem) {
	now := l.clock.Now().Unix()
	l.mu.Lock()
	skipped := 0
	if l.mu.second != now {
		skipped = l.mu.skipped
		l.mu.second, l.mu.lines, l.mu.skipped = now, 0, 0
	}
	l.mu.lines++
	quiet := l.mu.lines > linesPerSecond
	if quiet {
		l.mu.skipped++
	}
	l.mu.Unlock()
	if skipped > 0 {
		l.logger.Warn("refused requests not logged one by one", "count", skipped)
	}
	if quiet {
		return
	}
	level := slog.LevelInfo
	if p.Code == wire.Internal || p.Code == wire.StorageDamaged {
		level = slog.LevelError
	}
	l.logger.Log(q.Context(), level, "refused", "request", p.Request, "method", q.Method, "path", q.URL.Path, "status", p.Status,
		"code", p.Code, "detail", p.Detail)
}

// maxHeader bounds a request's header, in bytes (the HTTP server adds 4 KiB to it). A filter takes up to 8 KiB of it.
const maxHeader = 16 << 10

// newServer returns a server with the limits that both listeners share. A TLS handshake has as long as a request's header.
func newServer(h http.Handler, s *app.Settings, logger *slog.Logger) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: time.Duration(s.Limits.RequestHeader), IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
		HTTP2: http2(time.Duration(s.Limits.Stall)), DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug)}
}
