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

	"laaster/internal/auth"
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
	wait    patience
	log     *problemLog
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	id := newID()
	q = q.WithContext(context.WithValue(q.Context(), requestKey{}, id))
	h := w.Header()
	h.Set("Laaster-Request", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	r := newResponse(w, q, f.wait)
	defer r.finish()
	defer f.recovered(r, q)
	if p := f.foreign(q); p != nil {
		f.log.answer(r, q, p)
		return
	}
	if origin := q.Header.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
		h.Set("Access-Control-Expose-Headers", "ETag, Laaster-Position, Laaster-Request, Laaster-Stale, Retry-After")
		if q.Method == http.MethodOptions && q.Header.Get("Access-Control-Request-Method") != "" {
			preflight(h)
			r.WriteHeader(http.StatusNoContent)
			return
		}
	}
	f.next.ServeHTTP(r, q)
}

// foreign returns the problem of a request that a page of somebody else makes, nil for others.
func (f *front) foreign(q *http.Request) *wire.Problem {
	if p := f.hosts.refuse(q); p != nil {
		return p
	}
	if origin := q.Header.Get("Origin"); origin != "" && !f.allowed(origin, q.Host) {
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
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, If-None-Match, Laaster-Instance, Laaster-Producer, Laaster-Sequence, Last-Event-ID, traceparent")
	h.Set("Access-Control-Max-Age", "600")
}

// allowed compares whole origins, never prefixes: the server's own, a listed one, or loopback talking to loopback.
func (f *front) allowed(origin, host string) bool {
	if slices.Contains(f.origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	return u.Host == host || loopback(u.Hostname()) && loopback(hostOnly(host))
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
		w.Header().Set("WWW-Authenticate", `Bearer realm="laaster"`)
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

// principal says who calls. Tokens are not verified yet, so one that is sent is refused instead of ignored.
func principal(q *http.Request) (auth.Principal, *wire.Problem) {
	if q.Header.Get("Authorization") != "" {
		return auth.Principal{}, wire.NewProblem(wire.Unauthenticated, "this server has no token issuer, so no token can be verified").
			WithField("Authorization", "leave the header out to be anon")
	}
	return auth.Anonymous().At(q.RemoteAddr), nil
}

// maxHeader bounds a request's header, in bytes (the HTTP server adds 4 KiB to it). A filter takes up to 8 KiB of it.
const maxHeader = 16 << 10

// newServer returns a server with the limits that both listeners share.
func newServer(h http.Handler, header time.Duration, logger *slog.Logger) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: header, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug)}
}
