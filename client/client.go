package client

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"sync"
	"time"

	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// State is the state of a connection.
type State struct {
	Name  StateName
	Since time.Time // catching_up and live: since when. stale: the last moment at which the rows were known to be right

	Attempt int       // connecting and stale: attempts that failed since the last good spell
	RetryAt time.Time // connecting and stale: when the next attempt starts; zero while one is under way
	Reason  error     // why the last connection ended or the last attempt failed; of closed: why, nil after [Client.Close]
}

// StateName names a state of a connection.
type StateName string

// The states: docs/sdk.md has the transitions.
const (
	StateConnecting StateName = "connecting"  // no server has answered yet
	StateCatchingUp StateName = "catching_up" // the server answered; a subscription has no complete state yet
	StateLive       StateName = "live"        // every subscription has a complete state and follows
	StateStale      StateName = "stale"       // contact lost, or the server says that its views stand still
	StateClosed     StateName = "closed"      // the end: by Close, or by a refusal that another attempt cannot change
)

// Applied is one frame of the server after it was applied: an epoch, several merged ones, or the last page of a snapshot.
type Applied struct {
	Position string
	From     string    // of merged epochs; else empty
	At       time.Time // the log's time of Position, by the server's clock; zero for a snapshot
	Rows     int       // rows that changed
	Only     *Subscription
}

// Client is a connection to one server: live rows and writes. Make it by [New] or [Dial].
type Client struct {
	opt  Options
	at   endpoint
	ctx  context.Context // ends by Close
	stop context.CancelFunc
	done chan struct{}

	group *run.Group // everything that runs

	mu         sync.Mutex
	subs       map[string]*Subscription
	n          int    // subscriptions made
	cursor     string // position of the last epoch
	holder     string // of the token that the last connection began with, see holder
	state      State
	session    *session        // the WebSocket; nil between two
	streaming  bool            // event streams are in use
	streams    context.Context // of the event streams
	streamOK   bool            // the server answered since they are in use
	lost       chan *Problem   // capacity 1: no event stream can be had any more
	reported   string          // what the server said of everything
	freshAt    time.Time
	away       awayness
	clock      alignment
	meter      meter
	waiters    chan struct{} // closed at the next change, when somebody waits
	states     map[chan State]bool
	writes     queue
	signals    signals
	observe    func(Applied)
	frameBytes int  // the server's limit, as of the last welcome; 0: not known
	ending     bool // the group takes no more
}

// awayness is what is known between two connections.
type awayness struct {
	attempt int
	retryAt time.Time
	reason  error
}

// New returns a client that connects to the server at url, such as http://127.0.0.1:8080, now and whenever the connection was lost, until
// [Client.Close]. An error is about url or options alone.
func New(url string, options Options) (*Client, error) {
	opt, at, err := options.prepared(url)
	if err != nil {
		return nil, err
	}
	c := &Client{opt: opt, at: at, done: make(chan struct{}), subs: map[string]*Subscription{}, states: map[chan State]bool{}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.group = run.New(c.ctx)
	c.state = State{Name: StateConnecting}
	if err := c.writes.open(&c.opt); err != nil {
		c.stop()
		return nil, err
	}
	c.signals.open()
	c.group.Go("client", c.loop)
	return c, nil
}

// Dial is [New], and waits until the server has answered. It tries again until ctx ends; a refusal that another attempt cannot change ends it
// at once. On an error the client is closed.
func Dial(ctx context.Context, url string, options Options) (*Client, error) {
	c, err := New(url, options)
	if err != nil {
		return nil, err
	}
	err = c.await(ctx, "connecting to "+c.at.http, func() (bool, error) {
		if c.state.Name == StateClosed {
			return true, c.state.Reason
		}
		return c.connected(), nil
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends everything: subscriptions keep their rows, writes that wait end with a problem. It does not wait for loops and callbacks that are
// under way; see [Client.Done]. Again: no effect.
func (c *Client) Close() {
	c.mu.Lock()
	c.shut(nil)
	c.mu.Unlock()
}

// Done is closed when the client has ended and nothing of it runs any more.
func (c *Client) Done() <-chan struct{} { return c.done }

// shut ends the client for a reason; nil: its owner wants so. The caller holds c.mu.
func (c *Client) shut(reason error) {
	if c.state.Name == StateClosed {
		return
	}
	c.setState(State{Name: StateClosed, Reason: reason})
	for id, s := range c.subs {
		delete(c.subs, id)
		if reason != nil {
			s.end(reason, Refused)
		} else {
			s.end(problemf(CodeClosed, "the client was closed"), Ended)
		}
	}
	c.writes.fail(problemf(CodeClosed, "the client was closed; whether the write took effect is unknown"))
	c.signals.close(c.session)
	for ch := range c.states {
		delete(c.states, ch)
		close(ch)
	}
	c.changed()
	c.stop()
}

// background starts a goroutine of the client. It reports false when the client has ended.
func (c *Client) background(name string, f func(context.Context) error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return false
	}
	c.group.Go(name, f)
	return true
}

// Subscribe returns a live copy of a view, or of a table that may be read, at once; its rows come later. Only the server can tell whether
// names and filters are right: a refusal shows in [Subscription.Ready] and [Subscription.Err].
func (c *Client) Subscribe(view string, query Query) *Subscription {
	s := &Subscription{client: c, view: view, query: query, ready: make(chan struct{})}
	s.state.rows = map[string]*entry{}
	s.state.fresh = Freshness{State: Loading}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	s.id = "s" + strconv.Itoa(c.n)
	if err := query.check(); err != nil {
		s.end(err, Refused)
		return s
	}
	if c.state.Name == StateClosed {
		why := c.state.Reason
		if why == nil {
			why = problemf(CodeClosed, "the client is closed")
		}
		s.end(why, Refused)
		return s
	}
	c.subs[s.id] = s
	c.ask(s)
	return s
}

// ask sends the request of a new subscription, or of one that was refused for a while. The caller holds c.mu.
func (c *Client) ask(s *Subscription) {
	switch {
	case c.session != nil && c.session.open:
		c.session.subscribe(s, "")
	case c.streaming:
		c.startFeed(s)
	}
}

// left ends the server's part of a subscription that is over. The caller holds c.mu.
func (c *Client) left(s *Subscription) {
	if c.subs[s.id] != s {
		return
	}
	delete(c.subs, s.id)
	if c.session != nil && c.session.open {
		c.session.send(unsubscribeFrame{"unsubscribe", s.id})
	}
	if s.state.feed != nil {
		s.state.feed.stop()
	}
	c.refresh()
}

// State returns the state of the connection.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// States returns the state of the connection now and after each change of it, until the client ends or ctx does. Who is slow misses states
// between, and never the last one.
func (c *Client) States(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		ch := make(chan State, 1)
		c.mu.Lock()
		ch <- c.state
		if c.state.Name == StateClosed {
			close(ch)
		} else {
			c.states[ch] = true
		}
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			delete(c.states, ch)
			c.mu.Unlock()
		}()
		for {
			select {
			case s, ok := <-ch:
				if !ok || !yield(s) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Moment is several subscriptions at one position.
type Moment struct {
	Position string
	Rows     [][]Row // by subscription, in the order in which they were given; sorted by the order of each
}

// Together waits until the subscriptions are complete and at one position, and returns their rows. With the transport [Events] subscriptions
// have positions of their own, and the wait may be long. It ends with the problem of a subscription that ended, or with ctx.
func (c *Client) Together(ctx context.Context, subs ...*Subscription) (Moment, error) {
	var m Moment
	err := c.await(ctx, "a common position", func() (bool, error) {
		for _, s := range subs {
			if s.state.err != nil {
				return true, s.state.err
			}
			if !s.state.complete || s.state.pages != nil || s.state.position != subs[0].state.position {
				return false, nil
			}
		}
		m = Moment{}
		for _, s := range subs {
			m.Position = s.state.position
			m.Rows = append(m.Rows, s.sortedRows())
		}
		return true, nil
	})
	return m, err
}

// Reach waits until the rows of the subscriptions, without any of all of them, are those of position or of a later one of the same log: after
// a write, until its effect is in the live rows. A server does not tell at once of positions at which nothing changed for a connection: where
// the write concerns no row of them, the wait may last until the next heartbeat (15 s).
func (c *Client) Reach(ctx context.Context, position string, subs ...*Subscription) error {
	want, ok := parsePosition(position)
	if !ok {
		return problemf("invalid_request", "the position %q cannot be read", position)
	}
	there := func(s *Subscription) bool {
		at, ok := parsePosition(s.state.position)
		return s.state.channel || s.state.complete && ok && at.log == want.log && at.seq >= want.seq
	}
	return c.await(ctx, "position "+position, func() (bool, error) {
		if c.state.Name == StateClosed {
			return true, problemf(CodeClosed, "the client is closed")
		}
		for _, s := range subs {
			if s.state.err != nil {
				return true, s.state.err
			}
			if !there(s) {
				return false, nil
			}
		}
		if len(subs) == 0 {
			for _, s := range c.subs {
				if !there(s) {
					return false, nil
				}
			}
		}
		return true, nil
	})
}

// Cursor returns the position of the last frame of changes; empty before the first. With the transport [Events] there is none.
func (c *Client) Cursor() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cursor
}

// Observe calls f on the client's own goroutine after each frame that was applied, before the next one is read: f must be quick, must not
// wait, and may read rows. It replaces an earlier one; nil ends it. It is for programs that check or measure every frame; others use events.
func (c *Client) Observe(f func(Applied)) {
	c.mu.Lock()
	c.observe = f
	c.mu.Unlock()
}

// Now returns the server's time, as far as it is known.
func (c *Client) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opt.Clock.Now().Add(c.clock.best.offset)
}

// Pulse returns delays, rate and the alignment of the clocks.
func (c *Client) Pulse() Pulse {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.meter.read(c.opt.Clock.Now())
	p.Offset, p.RTT = c.clock.best.offset, c.clock.best.rtt
	return p
}

// await calls f, under c.mu, until it says that it is done or fails, whenever something changed.
func (c *Client) await(ctx context.Context, what string, f func() (bool, error)) error {
	for {
		c.mu.Lock()
		done, err := f()
		if c.waiters == nil {
			c.waiters = make(chan struct{})
		}
		changed := c.waiters
		c.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return c.timeout(ctx, what)
		}
	}
}

// changed wakes whoever waits in await. The caller holds c.mu.
func (c *Client) changed() {
	if c.waiters != nil {
		close(c.waiters)
		c.waiters = nil
	}
}

// timeout is the problem of a call whose context has ended.
func (c *Client) timeout(ctx context.Context, what string) *Problem {
	c.mu.Lock()
	reason := c.state.Reason
	c.mu.Unlock()
	p := problemf(CodeTimeout, "%s: %v", what, context.Cause(ctx))
	if reason != nil {
		p.Detail += fmt.Sprintf(" (%v)", reason)
	}
	return p
}

// refresh derives the states from what is known. The caller holds c.mu.
func (c *Client) refresh() {
	if c.state.Name == StateClosed {
		return
	}
	now := c.opt.Clock.Now()
	open := c.connected()
	if c.state.Name == StateLive && c.session != nil && c.session.open {
		c.freshAt = c.session.heard
	}
	since := c.freshSince()
	switch {
	case !open && c.freshAt.IsZero():
		c.setState(State{Name: StateConnecting, Attempt: c.away.attempt, RetryAt: c.away.retryAt, Reason: c.away.reason})
	case !open:
		c.setState(State{Name: StateStale, Since: since, Attempt: c.away.attempt, RetryAt: c.away.retryAt, Reason: c.away.reason})
	case c.reported == wire.FreshStale:
		c.setState(State{Name: StateStale, Since: since})
	default:
		name := StateLive
		if c.reported == wire.FreshCatchingUp || c.behind() {
			name = StateCatchingUp
		} else {
			c.freshAt = now
		}
		if c.state.Name != name {
			c.setState(State{Name: name, Since: now})
		}
	}
	for _, s := range c.subs {
		s.refreshWith(open, since)
	}
}

// connected reports whether a server answers.
func (c *Client) connected() bool {
	if c.session != nil {
		return c.session.open
	}
	return c.streaming && c.feedsConnected()
}

// behind reports whether a subscription of the last hello has no answer yet.
func (c *Client) behind() bool {
	for _, s := range c.subs {
		if s.state.behind {
			return true
		}
	}
	return false
}

func (c *Client) setState(s State) {
	if c.state == s {
		return
	}
	c.state = s
	for ch := range c.states {
		select {
		case <-ch: // the one before was not read
		default:
		}
		ch <- s
	}
	c.changed()
}

// refreshOne derives the freshness of one subscription after its own state changed.
func (s *Subscription) refreshOne() { s.refreshWith(s.client.connected(), s.client.freshSince()) }

// freshSince is when the rows were last known to be right; now, when they never were.
func (c *Client) freshSince() time.Time {
	if c.freshAt.IsZero() {
		return c.opt.Clock.Now()
	}
	return c.freshAt
}

func (s *Subscription) refreshWith(open bool, since time.Time) {
	was := s.state.fresh
	if s.state.fresh = s.freshness(open, since); s.state.fresh != was {
		s.tell(s.event(FreshnessChanged))
		s.client.changed()
	}
}

// freshness is what the freshness is by what is known now.
func (s *Subscription) freshness(open bool, since time.Time) Freshness {
	st, c := &s.state, s.client
	if st.over {
		return st.fresh
	}
	if !st.fresh.Since.IsZero() {
		since = st.fresh.Since // the spell goes on
	}
	if st.feed != nil {
		open = open && st.feed.open
	}
	switch {
	case !st.had:
		return Freshness{State: Loading}
	case !open || c.reported == wire.FreshStale || st.reported == wire.FreshStale:
		return Freshness{State: Stale, Since: since, Reason: st.reason}
	case !st.complete || st.behind || st.reported == wire.FreshCatchingUp || c.reported == wire.FreshCatchingUp:
		return Freshness{State: CatchingUp, Since: since}
	}
	return Freshness{State: Live}
}
