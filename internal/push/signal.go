package push

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/signal"
	"laaster/internal/wire"
)

// signals joins the state of channels (package signal) to connections. A connection is a cursor here, too: what it has not been told yet is asked for when
// its socket takes it, so nothing waits for anybody.
type signals struct {
	h     *Hub
	state *signal.State
	salt  [32]byte // of connection names: they say nothing about instances and mean nothing after a restart
	woken chan struct{}
	posts postRates
	kept  atomic.Int64 // bytes of frames that all topics keep
	mu    struct {
		sync.Mutex
		topics map[*signal.Feed]*topic
		later  map[*conn]time.Time // connections with a rate, or on a slow line, that are due again then
	}
}

func newSignals(h *Hub) (*signals, error) {
	s := &signals{h: h, woken: make(chan struct{}, 1)}
	opt := h.opt.Signals
	opt.Wake = s.wake
	s.state = signal.New(opt)
	s.posts.begin(s.state.Options())
	_, _ = rand.Read(s.salt[:]) // never fails, as documented
	s.mu.topics, s.mu.later = map[*signal.Feed]*topic{}, map[*conn]time.Time{}
	return s, s.state.Use(h.opt.Channels)
}

func (s *signals) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// run moves the state on and has those who follow what has changed told of it. It sleeps as long as there is nothing to do.
func (s *signals) run(ctx context.Context) error {
	var due <-chan time.Time
	var dueAt time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.woken:
		case <-due:
			due = nil
		}
		now := s.h.clock.Now()
		a := s.state.Advance(now)
		for _, r := range a.Refused {
			r.Sender.Tag.(*conn).refuseLater(r.ID, r.Problem)
		}
		for _, f := range a.Feeds {
			s.tell(f)
		}
		next := a.Next
		if at := s.tellLater(now); next.IsZero() || !at.IsZero() && at.Before(next) {
			next = at
		}
		if !next.IsZero() && (due == nil || next.Before(dueAt)) {
			due, dueAt = s.h.clock.After(max(0, next.Sub(now))), next
		}
	}
}

// tell writes to everybody who follows a feed.
func (s *signals) tell(f *signal.Feed) {
	s.mu.Lock()
	t := s.mu.topics[f]
	s.mu.Unlock()
	if t == nil {
		return // given up meanwhile
	}
	for _, c := range t.followers() {
		c.kick(true)
	}
}

// tellLater writes to the connections with a rate that are due, and returns when the next one is.
func (s *signals) tellLater(now time.Time) (next time.Time) {
	s.mu.Lock()
	var ready []*conn
	for c, at := range s.mu.later {
		switch {
		case !at.After(now):
			ready = append(ready, c)
			delete(s.mu.later, c)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	s.mu.Unlock()
	for _, c := range ready {
		c.kick(true)
	}
	return next
}

// topic is one query over a channel that somebody follows. Its frames are encoded once for all who stand at the same place.
type topic struct {
	s    *signals
	feed *signal.Feed
	q    *query
	mu   struct {
		sync.Mutex
		conns  map[*conn]int // how often each follows it
		shown  uint64        // of feed, as of frames
		frames map[topicPlace]topicFrame
		kept   int // bytes of frames, counted in signals.kept
	}
}

type topicPlace struct {
	enc encoding
	id  string
	at  signal.Cursor
}

type topicFrame struct {
	bytes []byte // nil: nothing to say
	next  signal.Cursor
}

// Bounds of the frames that are kept for others who stand at the same place. What is beyond them is encoded for each.
const (
	mostTopicFrames = 32       // of a topic: those of its present step
	mostFrameBytes  = 64 << 10 // of one frame
	mostKeptBytes   = 16 << 20 // of all topics together
)

// follow returns the topic of a query, for one more subscription of c.
func (s *signals) follow(c *conn, ch *signal.Channel, q *query) (*topic, *wire.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &reader{query: q} // used under the state's lock
	var equal *signal.Equal
	if list := q.filter.Equals(); len(list) > 0 {
		e := list[0]
		equal = &signal.Equal{Column: e.Column, Value: string(change.AppendKey(nil, q.rel.Layout.Type(e.Column), e.Value, false, false))}
	}
	f, p := s.state.Follow(ch, q.canon, equal, r.match)
	if p != nil {
		return nil, p
	}
	t := s.mu.topics[f]
	if t == nil {
		t = &topic{s: s, feed: f, q: q}
		t.mu.conns, t.mu.frames = map[*conn]int{}, map[topicPlace]topicFrame{}
		s.mu.topics[f] = t
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.conns[c]++
	return t, nil
}

// leave undoes follow.
func (s *signals) leave(c *conn, t *topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.conns[c]--; t.mu.conns[c] == 0 {
		delete(t.mu.conns, c)
	}
	if len(t.mu.conns) == 0 {
		delete(s.mu.topics, t.feed)
		t.clearLocked() // for good: without connections none is kept
	}
	s.state.Unfollow(t.feed)
}

func (t *topic) followers() []*conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*conn, 0, len(t.mu.conns))
	for c := range t.mu.conns {
		list = append(list, c)
	}
	return list
}

// next returns what a subscription at a cursor is told next.
func (t *topic) next(enc encoding, id string, at signal.Cursor, room int) topicFrame {
	place, shown := topicPlace{enc, id, at}, t.feed.Shown()
	t.mu.Lock()
	if t.mu.shown != shown {
		t.mu.shown = shown
		t.clearLocked()
	}
	f, there := t.mu.frames[place]
	t.mu.Unlock()
	if there {
		return f
	}
	b := t.feed.Next(at, room)
	f.next = b.Next
	if !b.Empty() {
		f.bytes = t.encode(enc, id, &b)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.shown == shown {
		t.keepLocked(place, f)
	}
	return f
}

// keepLocked keeps a frame for others, if there are any.
func (t *topic) keepLocked(place topicPlace, f topicFrame) {
	size := len(f.bytes)
	if _, there := t.mu.frames[place]; there || len(t.mu.conns) < 2 || len(t.mu.frames) == mostTopicFrames || size > mostFrameBytes {
		return
	}
	if t.s.kept.Add(int64(size)) > mostKeptBytes {
		t.s.kept.Add(-int64(size))
		return
	}
	t.mu.kept += size
	t.mu.frames[place] = f
}

func (t *topic) clearLocked() {
	t.s.kept.Add(-int64(t.mu.kept))
	t.mu.kept = 0
	clear(t.mu.frames)
}

func (t *topic) encode(enc encoding, id string, b *signal.Batch) []byte {
	size := 256
	for _, r := range b.Put {
		size += 2*len(r) + 32
	}
	buf := make([]byte, frameHeader, size)
	if enc == eventStream {
		buf = append(buf[:0], "event: signals\ndata: "...)
	}
	start := len(buf)
	buf = wire.AppendSignalsHead(buf, id, b.Full, t.q.key, b.Count)
	if enc == eventStream { // the type is the event's name
		const kind = `"type":"signals"`
		rest := buf[start+1+len(kind):]
		if len(rest) > 0 {
			rest = rest[1:] // a comma
		}
		buf = append(buf[:start+1], rest...)
	}
	if b.Full || len(b.Put) > 0 {
		buf = append(comma(buf, start), `"put":[`...)
		for i, r := range b.Put {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = t.q.appendRow(buf, r)
		}
		buf = append(buf, ']')
	}
	if len(b.Del) > 0 {
		buf = append(comma(buf, start), `"del":[`...)
		for i, r := range b.Del {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = t.q.appendKey(buf, r)
		}
		buf = append(buf, ']')
	}
	if b.More {
		buf = append(comma(buf, start), `"more":true`...)
	}
	buf = append(buf, '}')
	if enc == eventStream {
		return append(buf, "\n\n"...)
	}
	return sealText(buf)
}

// comma separates a member of the object that begins at start from what is before it.
func comma(buf []byte, start int) []byte {
	if len(buf) > start+1 {
		return append(buf, ',')
	}
	return buf
}

// connectionName returns what others see of a client in the column connection: the same for each connection of one instance of one subject, and
// without an instance one that nobody else has.
func (s *signals) connectionName(who auth.Principal, instance string) string {
	if instance == "" {
		return rand.Text()[:16]
	}
	sum := sha256.New()
	sum.Write(s.salt[:])
	for _, part := range []string{who.Subject, instance} {
		own := sha256.Sum256([]byte(part))
		sum.Write(own[:])
	}
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))[:16]
}

// channel returns the channel of a name if who may follow it now, or why not; nothing at all when no channel has the name.
func (h *Hub) channel(who auth.Principal, name string) (*signal.Channel, *wire.Problem) {
	ch := h.signals.state.Channel(name)
	if ch == nil {
		return nil, nil
	}
	if p := h.era.Load().rules.Allow(who, name, app.Select); p != nil {
		return nil, p
	}
	return ch, nil
}

// sightOf returns what who sees of the rows of a channel that he may follow.
func (h *Hub) sightOf(who auth.Principal, ch *signal.Channel) sight {
	return sight{rel: ch.Relation(), columns: h.era.Load().rules.Columns(who, ch.Name(), app.Select)}
}

// accessChannel is channel for what somebody asks for anew.
func (h *Hub) accessChannel(who auth.Principal, name string) (*signal.Channel, *wire.Problem) {
	ch, p := h.channel(who, name)
	if h.opt.Access != nil && (ch != nil || p != nil) {
		if own := h.opt.Access(who, name, p); p == nil && own != nil {
			return nil, own
		}
	}
	return ch, p
}

// Channel reports whether a channel has the name.
func (h *Hub) Channel(name string) bool { return h.signals.state.Channel(name) != nil }

// Signals counts what is in channels.
func (h *Hub) Signals() signal.Stats { return h.signals.state.Stats() }

// UseChannels makes rels the channels of the app: one that is declared as before keeps its rows. It is called with Redefine; Settle moves those who
// follow.
func (h *Hub) UseChannels(rels []*expr.Relation) error { return h.signals.state.Use(rels) }

// maySend returns the channel of a name if who may set its rows, or why not.
func (h *Hub) maySend(who auth.Principal, name string) (*signal.Channel, *wire.Problem) {
	ch := h.signals.state.Channel(name)
	if ch == nil {
		p := wire.NewProblem(wire.UnknownTable, "no channel has this name").WithField("table", "channels are declared in app.sql: CREATE TABLE … WITH (channel)")
		if h.era.Load().byName[name] != nil {
			p = wire.NewProblem(wire.InvalidRequest, name+" is no channel: its rows are in the log").WithField("table", "send a write frame")
		}
		return nil, p
	}
	if h.opt.Signal == nil {
		return nil, wire.NewProblem(wire.NotSupported, "signals do not work here")
	}
	return ch, h.opt.Signal(who, name)
}

// settle moves those who follow channels to what these are now.
func (s *signals) settle() {
	s.mu.Lock()
	var all []*conn
	for _, t := range s.mu.topics {
		all = append(all, t.followers()...)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *conn) int { return int(a.number) - int(b.number) })
	for _, c := range slices.Compact(all) {
		c.retune()
	}
}
