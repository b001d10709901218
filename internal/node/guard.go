package node

import (
	"bufio"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// hosts decides which Host headers a listener answers to. On loopback without a proxy in front only loopback's own names and
// the hosts of listed origins: a foreign page whose name was made to resolve to 127.0.0.1 (DNS rebinding) has the server's own
// origin for its browser, and only the name in Host tells it apart.
type hosts struct {
	any   bool
	names []string // allowed besides loopback
}

// newHosts returns the hosts of a listener at addr.
func newHosts(addr string, proxied bool, origins []string) hosts {
	h := hosts{any: proxied || !loopback(hostOnly(addr))}
	for _, o := range origins {
		if u, err := url.Parse(o); err == nil {
			h.names = append(h.names, strings.ToLower(u.Hostname()))
		}
	}
	return h
}

// refuse returns the problem of a request for a host that is not ours, nil when it is. A request without Host (HTTP/1.0) comes from
// no browser.
func (h hosts) refuse(q *http.Request) *wire.Problem {
	name := strings.ToLower(hostOnly(q.Host))
	if h.any || name == "" || loopback(name) || slices.Contains(h.names, name) {
		return nil
	}
	p := wire.NewProblem(wire.Forbidden, "this server listens on loopback and is not known by the name in Host").
		WithField("Host", "use localhost or 127.0.0.1; behind a proxy set plain_http: true, or list the site under origins in laaster.yaml")
	p.Status = http.StatusMisdirectedRequest
	return p
}

// guarded answers only requests for hosts that are ours: the admin listener.
type guarded struct {
	next    http.Handler
	hosts   hosts
	problem func(http.ResponseWriter, *http.Request, *wire.Problem)
	// identify puts who calls into the request's context.
	identify func(*http.Request) *http.Request
}

// ServeHTTP implements http.Handler.
func (g *guarded) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if p := g.hosts.refuse(q); p != nil {
		g.problem(w, q, p)
		return
	}
	if all := q.Header["Origin"]; len(all) > 1 || len(all) == 1 && all[0] != own(q) {
		g.problem(w, q, wire.NewProblem(wire.Forbidden, "only its own pages may talk to the admin listener").WithField("Origin", "programs leave this header out"))
		return
	}
	g.next.ServeHTTP(w, g.identify(q))
}

// own returns the origin of pages that the server itself serves under the name that the request has.
func own(q *http.Request) string {
	if q.TLS != nil {
		return "https://" + q.Host
	}
	return "http://" + q.Host
}

// tokenInURL returns the problem of a request whose address carries a token: addresses end up in histories, logs and Referer headers. A column of such a name
// can be filtered by all the same, since a filter begins with its operator.
func tokenInURL(q *http.Request) *wire.Problem {
	if !strings.HasPrefix(q.URL.Path, "/v1/") {
		return nil
	}
	for part := range strings.SplitSeq(q.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(part, "=")
		if strings.Contains(name, "%") {
			name, _ = url.QueryUnescape(name) // what cannot be read is refused where it is read
		}
		if strings.HasPrefix(value, "eyJ") || namesToken(name) && !strings.Contains(value, ".") { // the beginning of every JWT; no filter
			return wire.NewProblem(wire.InvalidRequest, "a token must not be part of an address").
				WithField(name, "send Authorization: Bearer …, or the hello frame's token; for an EventSource get a ticket (POST /v1/ticket)")
		}
	}
	return nil
}

// namesToken reports whether other services take tokens under this name.
func namesToken(name string) bool {
	switch strings.ToLower(name) {
	case "access_token", "token", "id_token", "jwt", "bearer", "authorization", "auth_token", "api_key":
		return true
	}
	return false
}

// patience is how long the public listener waits for a client within a request.
type patience struct {
	clock run.Clock
	body  time.Duration // for a request's body
	stall time.Duration // for the client to take a part of the answer
}

// response is the http.ResponseWriter of one request. It knows whether the answer has begun, and gives each write a deadline: a
// client that does not read must not hold the rows of its answer, and with them old versions of the views, for ever.
type response struct {
	http.ResponseWriter
	wait     patience
	control  *http.ResponseController
	begun    bool
	hijacked bool
	stream   bool      // the hub watches over it
	set      time.Time // when the write deadline was set last
}

func newResponse(w http.ResponseWriter, q *http.Request, wait patience) *response {
	r := &response{ResponseWriter: w, wait: wait, control: http.NewResponseController(w)}
	// Also for requests whose body nobody reads: the server reads the rest away before the next request.
	if q.Body != nil && q.Body != http.NoBody {
		_ = r.control.SetReadDeadline(wait.clock.Now().Add(wait.body)) // every connection of ours has deadlines
	}
	return r
}

// renew gives the next write its time. Setting a deadline costs as much as a small write: once a second is enough.
func (r *response) renew() {
	if r.stream || r.hijacked {
		return
	}
	if now := r.wait.clock.Now(); now.Sub(r.set) > time.Second {
		r.set = now
		_ = r.control.SetWriteDeadline(now.Add(r.wait.stall))
	}
}

// WriteHeader implements http.ResponseWriter.
func (r *response) WriteHeader(status int) {
	r.begun = true
	r.stream = r.Header().Get("Content-Type") == "text/event-stream"
	r.renew()
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *response) Write(b []byte) (int, error) {
	r.begun = true
	r.renew()
	return r.ResponseWriter.Write(b)
}

// Hijack implements http.Hijacker; the WebSocket upgrade asks for it.
func (r *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := r.control.Hijack()
	r.hijacked = r.hijacked || err == nil
	return c, rw, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// finish gives what is still buffered its time.
func (r *response) finish() {
	r.stream = false
	r.renew()
}
