package client

import (
	"context"
	"iter"
	"sync"
	"time"
)

// EventKind says what an event is about.
type EventKind string

// The kinds of events, the weakest first.
const (
	FreshnessChanged EventKind = "freshness" // only Freshness is new
	Changed          EventKind = "change"    // rows changed in an epoch, or in several
	Snapshot         EventKind = "snapshot"  // the rows came anew; Changes is the difference to those that were there
	Gap              EventKind = "gap"       // as Snapshot, and history between is gone: what happened there is not known
	Closed           EventKind = "closed"    // the last event: closed, or refused with Err
)

// Op says what happened to a row.
type Op string

// The operations.
const (
	Insert Op = "insert"
	Update Op = "update"
	Delete Op = "delete"
)

// Change is what happened to one row. A key appears once in an event.
type Change struct {
	Op  Op
	Key Row // the key's values as a JSON array, in the order of [Subscription.Key]
	Row Row // the row now; nil after a delete
	Old Row // the row before; nil at an insert
	id  string
}

// Event is a step of one subscription: whoever applies the changes of each one has the rows of Position.
type Event struct {
	Kind      EventKind
	Position  string
	From      string    // of merged epochs: where they began; else empty
	At        time.Time // the log's time of Position, by the server's clock; zero for a snapshot
	Changes   []Change
	Freshness Freshness // when the event was made
	Merged    int       // how many events were merged into this one, since the reader was slow
	Err       error     // of Closed: a *Problem when the server refused, else nil
}

// FreshnessState is how far rows can be trusted to be current.
type FreshnessState string

// The states.
const (
	Loading    FreshnessState = "loading"     // never complete yet: there are no rows
	CatchingUp FreshnessState = "catching_up" // has rows of an earlier position and is being brought up to date
	Live       FreshnessState = "live"        // follows
	Stale      FreshnessState = "stale"       // contact lost, or the view stands still: the last known rows
	Refused    FreshnessState = "refused"     // the server said no: see [Subscription.Err]
	Ended      FreshnessState = "closed"      // closed here; the rows stay readable
)

// Freshness is how fresh the rows of a subscription are.
type Freshness struct {
	State  FreshnessState
	Since  time.Time // catching_up and stale: when the rows were last known to be right, by the local clock
	Reason string    // of a view that stands still by itself: why
}

// stream is one reader's place in the sequence of a subscription's events. It holds at most limit events; then the newest ones are merged,
// which takes as much room as the rows at most.
type stream struct {
	limit int
	wake  chan struct{} // capacity 1
	mu    struct {
		sync.Mutex
		queue []Event
		last  map[string]int // the changes of the newest event by key, once something was merged into it
		gone  int            // of those: changes that came to nothing
		over  bool
	}
}

func newStream(limit int) *stream { return &stream{limit: limit, wake: make(chan struct{}, 1)} }

// put adds an event. It never waits.
func (s *stream) put(e Event) {
	s.mu.Lock()
	switch n := len(s.mu.queue); {
	case s.mu.over:
	case n >= s.limit && e.Kind != Closed:
		s.merge(&s.mu.queue[n-1], &e)
	default:
		s.mu.queue, s.mu.last, s.mu.gone = append(s.mu.queue, e), nil, 0
	}
	s.mu.over = s.mu.over || e.Kind == Closed
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// merge brings into the event what e says.
func (s *stream) merge(into, e *Event) {
	if s.mu.last == nil {
		into.Changes = append([]Change(nil), into.Changes...) // the others have the same
		s.mu.last = make(map[string]int, len(into.Changes))
		for i := range into.Changes {
			s.mu.last[into.Changes[i].id] = i
		}
	}
	for i := range e.Changes {
		c := &e.Changes[i]
		at, met := s.mu.last[c.id]
		if !met || into.Changes[at].Op == "" {
			s.mu.last[c.id] = len(into.Changes)
			into.Changes = append(into.Changes, *c)
			continue
		}
		if into.Changes[at] = joined(&into.Changes[at], c); into.Changes[at].Op == "" {
			s.mu.gone++
		}
	}
	if s.mu.gone > 64+len(into.Changes)/2 {
		into.Changes, s.mu.last, s.mu.gone = compact(into.Changes), nil, 0
	}
	if strength(e.Kind) > strength(into.Kind) {
		into.Kind = e.Kind
	}
	if e.Kind == Changed {
		into.At = e.At
		if into.From == "" {
			into.From = e.From
		}
	}
	into.Position, into.Freshness = e.Position, e.Freshness
	into.Merged += 1 + e.Merged
}

func strength(k EventKind) int {
	for i, x := range []EventKind{FreshnessChanged, Changed, Snapshot, Gap} {
		if x == k {
			return i
		}
	}
	return 4
}

// joined is what two changes of one row, the first one first, come to. An operation "" is none.
func joined(a, b *Change) Change {
	out := *b
	out.Old = a.Old
	switch {
	case a.Op == Insert && b.Op == Delete:
		out.Op = ""
	case a.Op == Insert:
		out.Op = Insert
	case a.Op == Delete && b.Op == Insert:
		out.Op = Update
	}
	return out
}

func compact(changes []Change) []Change {
	out := changes[:0]
	for _, c := range changes {
		if c.Op != "" {
			out = append(out, c)
		}
	}
	return out
}

// take returns the oldest event, if there is one.
func (s *stream) take() (Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.queue) == 0 {
		return Event{}, false
	}
	e := s.mu.queue[0]
	s.mu.queue[0] = Event{}
	s.mu.queue = s.mu.queue[1:]
	if len(s.mu.queue) == 0 {
		s.mu.queue, s.mu.last = nil, nil
	}
	if e.Merged > 0 {
		e.Changes = compact(e.Changes)
	}
	return e, true
}

// each yields events until the last one, the end of ctx, or no more are wanted.
func (s *stream) each(ctx context.Context, yield func(Event) bool) {
	for {
		if ctx.Err() != nil {
			return
		}
		if e, ok := s.take(); ok {
			if !yield(e) || e.Kind == Closed {
				return
			}
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

// Events returns what happens to the subscription from now on: first the rows that are there as a [Snapshot] (once they are complete), then
// each change, until the subscription ends (the last event is [Closed]) or ctx does. Each call has its own place in the sequence. A loop that
// is slow holds up nobody: beyond [Options].EventBuffer events the newest ones are merged into one.
func (s *Subscription) Events(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		st := s.listen()
		defer s.unlisten(st)
		st.each(ctx, yield)
	}
}

// OnEvent calls f with each event, as [Subscription.Events] yields them, on a goroutine of its own that ends with the subscription or by stop.
// After stop returned, f may be running a last time.
func (s *Subscription) OnEvent(f func(Event)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	st := s.listen() // here, so that nothing after this call is missed
	if !s.client.background("client callback", func(context.Context) error {
		defer cancel()
		defer s.unlisten(st)
		st.each(ctx, func(e Event) bool { f(e); return true })
		return nil
	}) {
		cancel()
		s.unlisten(st)
	}
	return cancel
}

func (s *Subscription) listen() *stream {
	c := s.client
	st := newStream(c.opt.EventBuffer)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.state.streams == nil {
		s.state.streams = map[*stream]bool{}
	}
	s.state.streams[st] = true
	if s.state.had {
		e := s.event(Snapshot)
		for id, x := range s.state.rows {
			e.Changes = append(e.Changes, Change{Op: Insert, Key: x.key, Row: x.row, id: id})
		}
		s.sortChanges(e.Changes)
		st.put(e)
	}
	if s.state.over {
		st.put(s.lastEvent())
	}
	return st
}

func (s *Subscription) unlisten(st *stream) {
	s.client.mu.Lock()
	delete(s.state.streams, st)
	s.client.mu.Unlock()
}
