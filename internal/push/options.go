package push

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/fair"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/signal"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// Options of a Hub. Store is needed; everything else has a default.
type Options struct {
	Store *view.Store
	Log   change.LogID // the log that positions belong to
	Shard uint32

	// Rules say what of the relations and channels callers may see. Default: nobody may see anything.
	Rules Rules
	// Access is told of every read and subscription that is asked for, and what Rules said of it; its own problem is answered instead when that
	// was nil. Default: nobody is told.
	Access func(p auth.Principal, relation string, refused *wire.Problem) *wire.Problem
	// Recorded says that reads of a relation are recorded, so that no cache may answer them in place of the server. Default: none are.
	Recorded func(relation string) bool
	// Principal says who asks. Default: everybody is anonymous, and a request that carries a token is refused.
	Principal func(r *http.Request) (auth.Principal, *wire.Problem)
	// Identify says whom a token in a frame speaks for, on a connection that spoke for was. It does not wait. Default: tokens are refused.
	Identify func(token string, was auth.Principal) (auth.Principal, *wire.Problem)
	// Ended says why the token of p is not good any more; nil: it is. It is asked for each frame of a live connection with a token, and within a second
	// when the token's time is over (auth.Token.Ends) or Revised has changed. Default: tokens stay good.
	Ended func(p auth.Principal) *wire.Problem
	// Revised changes after Ended has begun to refuse what was good and whose time has not come. Default: it never does.
	Revised func() uint64
	// Again returns p as a changed app makes it. Default: as it is.
	Again func(p auth.Principal) auth.Principal
	// Channels are the app's tables whose rows are in memory alone, and Signals the bounds of these. Default: there are none.
	Channels []*expr.Relation
	Signals  signal.Options
	// Signal says whether p may set rows of a channel: nil, or the problem to answer. Default: signals are refused as not supported.
	Signal func(p auth.Principal, channel string) *wire.Problem
	// History brings up clients that come back when the ring has gone on. Default: nobody does, and they get their rows anew.
	History History
	// Writer carries out the write frames of WebSockets. Default: they are refused as not supported.
	Writer Writer
	// Limiter bounds how much each caller may ask for. Default: nobody is bounded.
	Limiter Limiter
	// RequestID returns the id that the request has in the server's log: the session of a live connection. Default: a random one.
	RequestID func(r *http.Request) string
	// Answer answers a request with a problem. Default: writes it, with its Retry-After.
	Answer func(w http.ResponseWriter, r *http.Request, p *wire.Problem)
	// Sent is called after the epochs after from, up to to, were written to the connections that were up to date. Default: nobody is
	// told.
	Sent func(from, to uint64)

	Clock   run.Clock        // default run.System
	Floor   *fair.Floor      // that WebSockets share with other connections; default: they are not paced (Linux)
	Metrics *observe.Metrics // default: instruments that nobody reads
	Logger  *slog.Logger     // default: nothing is logged

	Limits         wire.Limits   // of one connection; zero fields have the defaults of wire.DefaultLimits
	MaxConnections int           // live connections, WebSocket and SSE together; default 10,000; more are refused with busy
	MaxOpening     int           // WebSockets that wait to be let in; default 8,192; more are refused with busy
	EachOpening    int           // WebSockets of one address that have not said hello, loopback not counted; more are refused with busy; default: any number
	MaxFeeds       int           // different queries that are followed live; default 100,000; more are refused with busy
	PageBytes      int           // size of a page of a snapshot; default 256 KiB
	FrameLogBytes  int           // frames kept for connections with the same subscriptions; default 1 MiB
	FrameLogsTotal int           // all of these together; default 64 MiB; beyond it who is behind is given merged changes
	PartialBytes   int           // incomplete messages of all clients; default 64 MiB; beyond it who sends more of one is closed with busy
	UnsentBytes    int           // kept waiting in the kernel for one connection (Linux); default 8 KiB
	WindowBytes    int           // rows and recent changes of live queries with a limit; default 64 MiB; beyond it new ones are told busy
	SortBytes      int           // memory for all reads that sort at one time; default 64 MiB; beyond it a read is told busy
	SortEach       int           // of SortBytes: for one read; default 32 MiB; beyond it that is too_large
	ReadTime       time.Duration // computing the answer to one read; default 10 s; beyond it that is too_large
	Merge          time.Duration // epochs that follow each other faster are merged into one frame; default 10 ms
	MergeFactor    int           // if not 0: and for no longer than so many times what the last pass over the connections took
	HelloTimeout   time.Duration // from the upgrade to the hello frame, at most: connections are looked at once a second, and the last look is before it; default 5 s, more than 1 s
	PartialTimeout time.Duration // from the first byte of a client's message to its last; default 60 s; then it is closed
	StallTimeout   time.Duration // without reading anything, then a client is closed; default 30 s
	CloseTimeout   time.Duration // for the client to take its goodbye; default 5 s
}

// Writer answers write frames. Write returns either a result or a problem, may take as long as a durable write takes, and is
// called for one frame of a connection after the other, concurrently for different connections. It must not keep the frame.
type Writer interface {
	Write(ctx context.Context, p auth.Principal, frame *wire.WriteFrame) (*wire.WriteResult, *wire.Problem)
}

func (o *Options) defaults() error {
	if o.Store == nil {
		return errors.New("push: Options.Store is needed")
	}
	if o.Rules == nil {
		o.Rules = &auth.Rules{}
	}
	if o.Limiter == nil {
		o.Limiter = noLimiter{}
	}
	if o.Principal == nil {
		o.Principal = anonymous
	}
	if o.Identify == nil {
		o.Identify = noIdentify
	}
	if o.Ended == nil {
		o.Ended = func(auth.Principal) *wire.Problem { return nil }
	}
	if o.Revised == nil {
		o.Revised = func() uint64 { return 0 }
	}
	if o.Again == nil {
		o.Again = func(p auth.Principal) auth.Principal { return p }
	}
	if o.RequestID == nil {
		o.RequestID = func(*http.Request) string { return "" }
	}
	if o.Answer == nil {
		o.Answer = answer
	}
	if o.Sent == nil {
		o.Sent = func(uint64, uint64) {}
	}
	if o.Clock == nil {
		o.Clock = run.System{}
	}
	if o.Metrics == nil {
		o.Metrics = observe.NewMetrics()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	lim := wire.DefaultLimits()
	for _, d := range []struct {
		field    *int
		standard int
	}{
		{&o.Limits.FrameBytes, lim.FrameBytes},
		{&o.Limits.Subscriptions, lim.Subscriptions},
		{&o.Limits.WritesInFlight, lim.WritesInFlight},
		{&o.Limits.RowBytes, lim.RowBytes},
		{&o.Limits.HeartbeatSeconds, lim.HeartbeatSeconds},
		{&o.MaxConnections, 10_000},
		{&o.MaxOpening, 8192},
		{&o.MaxFeeds, 100_000},
		{&o.PageBytes, 256 << 10},
		{&o.FrameLogBytes, 1 << 20},
		{&o.FrameLogsTotal, 64 << 20},
		{&o.PartialBytes, 64 << 20},
		{&o.UnsentBytes, 8 << 10},
		{&o.SortBytes, 64 << 20},
		{&o.SortEach, 32 << 20},
		{&o.WindowBytes, 64 << 20},
	} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{
		{&o.Merge, 10 * time.Millisecond},
		{&o.ReadTime, 10 * time.Second},
		{&o.HelloTimeout, 5 * time.Second},
		{&o.StallTimeout, 30 * time.Second},
		{&o.PartialTimeout, time.Minute},
		{&o.CloseTimeout, 5 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	return nil
}

// answer is the standard Answer.
func answer(w http.ResponseWriter, _ *http.Request, p *wire.Problem) {
	if p.RetryAfterMS > 0 {
		w.Header().Set("Retry-After", strconv.Itoa((p.RetryAfterMS+999)/1000))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(p) // the caller may be gone
}

// anonymous is the standard Principal.
func anonymous(r *http.Request) (auth.Principal, *wire.Problem) {
	if r.Header.Get("Authorization") != "" {
		return auth.Principal{}, noTokens()
	}
	return auth.Anonymous(), nil
}

// noTokens refuses a token: nobody should take himself for known when he is not.
func noTokens() *wire.Problem {
	return wire.NewProblem(wire.Unauthenticated, "this server has no token issuer").WithHint("connect without a token: you are anon")
}
