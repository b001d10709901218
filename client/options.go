package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"laaster/internal/kit/run"
)

// Version is the version of this package, told to servers.
const Version = "0.1.0"

// Transport is how a client speaks with the server.
type Transport string

// The transports.
const (
	Auto      Transport = ""          // a WebSocket; Events when it cannot be opened twice in a row and plain HTTP worked between the two
	WebSocket Transport = "websocket" // one connection for everything
	Events    Transport = "events"    // one event stream per subscription, writes by HTTP; each subscription has a position of its own
)

// Clock tells the time and wakes sleepers.
type Clock interface {
	Now() time.Time
	// After returns a channel that receives once d has passed.
	After(d time.Duration) <-chan time.Time
}

// Options is how to connect. The zero value is good.
type Options struct {
	Name    string // who connects, for the server's log; default "laaster-go"
	Version string // of that program; default [Version]

	// Token gets a bearer token; it is asked anew for each connection, and again when the server says that the last one has expired. Nil
	// or an empty answer: no token. An error counts as a failed attempt to connect.
	Token func(ctx context.Context) (string, error)

	Transport Transport
	Rate      float64 // most frames of changes per second that this client wants, from 0.01; 0: no limit. WebSocket alone
	Every     bool    // a frame for each epoch instead of merged ones, as long as this client keeps up; not with Rate, nor with [Events]
	Exact     bool    // bigint beyond 2^53 and numeric as strings

	// HTTP makes reads, writes and event streams; it must not have a Timeout, which would end streams. Default: a client of its own.
	HTTP *http.Client
	// TLS is for WebSockets, and for HTTP when that is not set.
	TLS *tls.Config
	// Dial opens TCP connections for WebSockets, and for HTTP when that is not set. Default: net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Header is sent with each request and upgrade.
	Header http.Header

	QueueWrites int   // writes that may wait for an answer; default 1,000
	QueueBytes  int   // their bytes as JSON; default 64 MiB
	Store       Store // keeps writes beyond the process; nil: memory alone

	// EventBuffer is how many events one reader of [Subscription.Events] may be behind before epochs are merged for it; default 64.
	EventBuffer int
	// MessageBytes is the largest message that is accepted from the server; default 256 MiB. A larger one ends the connection.
	MessageBytes int

	// ReportDelay tells the server now and then how old a change was when it had been applied here, for its histogram of what screens
	// show. Off by default: most Go programs are no screen.
	ReportDelay bool

	Logger *slog.Logger   // told about lost connections and repeats; nil: nobody
	Clock  Clock          // nil: the system's
	Random func() float64 // from 0 to below 1, for the spread of retries; nil: math/rand/v2
}

// endpoint is the server's address in the forms that are needed.
type endpoint struct {
	http string // without a slash at the end
	ws   string
}

// prepared returns the options with defaults filled in, and where to connect.
func (o Options) prepared(rawURL string) (Options, endpoint, error) {
	var at endpoint
	if !strings.Contains(rawURL, "://") {
		rawURL = "http://" + rawURL
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return o, at, problemf("invalid_request", "the address cannot be read: %v", err)
	}
	bad := func(field, format string, args ...any) (Options, endpoint, error) {
		p := problemf("invalid_request", format, args...)
		p.Field = field
		return o, at, p
	}
	secure := ""
	switch u.Scheme {
	case "http", "ws":
	case "https", "wss":
		secure = "s"
	default:
		return bad("url", "the address %q must begin with http:// or https://", rawURL)
	}
	if u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return bad("url", "the address %q must be http://host:port, without a query, a fragment or a password", rawURL)
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	at = endpoint{http: "http" + secure + "://" + u.Host + path, ws: "ws" + secure + "://" + u.Host + path + "/v1/live"}
	switch o.Transport {
	case Auto, WebSocket, Events:
	default:
		return bad("Transport", "the transport %q is none of Auto, WebSocket and Events", o.Transport)
	}
	if o.Rate != 0 && !(o.Rate >= 0.01 && o.Rate <= 1e6) {
		return bad("Rate", "the rate %v must be 0 (no limit) or 0.01 to 1e6 frames per second", o.Rate)
	}
	if o.Every && o.Rate != 0 {
		return bad("Every", "Every and Rate exclude each other")
	}
	if o.Transport == Events && (o.Every || o.Rate != 0) {
		return bad("Transport", "Every and Rate need a WebSocket")
	}
	for _, n := range []struct {
		name     string
		at       *int
		def, max int
	}{
		{"QueueWrites", &o.QueueWrites, 1000, 1 << 20}, {"QueueBytes", &o.QueueBytes, 64 << 20, 1 << 40},
		{"EventBuffer", &o.EventBuffer, 64, 1 << 20}, {"MessageBytes", &o.MessageBytes, 256 << 20, 1 << 40},
	} {
		if *n.at == 0 {
			*n.at = n.def
		}
		if *n.at < 1 || *n.at > n.max {
			return bad(n.name, "%s is %d: it must be 1 to %d, or 0 for %d", n.name, *n.at, n.max, n.def)
		}
	}
	if o.Name == "" {
		o.Name = "laaster-go"
	}
	if o.Version == "" {
		o.Version = Version
	}
	if o.Clock == nil {
		o.Clock = run.System{}
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Transport: &http.Transport{DialContext: o.Dial, TLSClientConfig: o.TLS, Proxy: http.ProxyFromEnvironment,
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second}}
	} else if o.HTTP.Timeout != 0 {
		return bad("HTTP", "the HTTP client has a Timeout of %v, which would end event streams: bound single calls by their context", o.HTTP.Timeout)
	}
	return o, at, nil
}

func (e endpoint) table(name string) string { return e.http + "/v1/tables/" + url.PathEscape(name) }

func (e endpoint) view(name string) string { return e.http + "/v1/views/" + url.PathEscape(name) }

// Query is what to subscribe to, or to read, of a view. The zero value is all rows by key.
type Query struct {
	Filter string   // conditions as in a URL: "run=eq.7&points=gt.0"; use [Where] for values from outside
	Select []string // columns; key columns always come. Default: all
	Order  string   // "total.desc,country": the order of the rows, and with Limit which rows. Default: by key
	Limit  int      // only the first rows by Order; 0: all
	Offset int      // leave out the first rows by Order

	// Compare sorts the rows here instead of Order.
	Compare func(a, b Row) int
}

// Where makes a filter of pairs of column and condition, escaped: Where("name", "eq."+name, "points", "gt.10").
func Where(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(pairs[i]))
		b.WriteByte('=')
		b.WriteString(strings.ReplaceAll(url.QueryEscape(pairs[i+1]), "+", "%20"))
	}
	return b.String()
}

func (q *Query) check() error {
	if q.Limit < 0 || q.Offset < 0 {
		p := problemf("invalid_request", "limit is %d and offset %d: neither can be below 0", q.Limit, q.Offset)
		p.Field = "limit"
		return p
	}
	for _, c := range q.Select {
		if c == "" || strings.Contains(c, ",") {
			p := problemf("invalid_request", "Select has %q: give one column in each element", c)
			p.Field = "select"
			return p
		}
	}
	return nil
}

// address appends the query to a view's URL; more are further parameters, already escaped.
func (q *Query) address(view string, more ...string) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+url.QueryEscape(value))
		}
	}
	if q.Filter != "" {
		parts = append(parts, strings.ReplaceAll(q.Filter, " ", "%20"))
	}
	add("select", strings.Join(q.Select, ","))
	add("order", q.Order)
	if q.Limit > 0 {
		parts = append(parts, fmt.Sprintf("limit=%d", q.Limit))
	}
	if q.Offset > 0 {
		parts = append(parts, fmt.Sprintf("offset=%d", q.Offset))
	}
	parts = append(parts, more...)
	if len(parts) == 0 {
		return view
	}
	return view + "?" + strings.Join(parts, "&")
}
