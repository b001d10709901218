package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"laaster/internal/wire"
)

// sendsMost is how often a write is sent without an answer: one that kills connections must not do so for ever.
const sendsMost = 3

// Write is rows to insert, or a change of the rows that a filter selects: exactly one of Rows, Patch and Delete.
type Write struct {
	Table string
	// Rows is one row (a struct, a map, or JSON as json.RawMessage), or a slice of rows. A single row that is refused makes the call fail with
	// its problem; rows of a slice that are refused are listed in [Result].Rejected.
	Rows   any
	Patch  any    // columns to replace, with Filter
	Delete bool   // with Filter
	Filter string // "id=eq.7"

	// Key makes the write have one effect however often it is sent; default: a random one. Whoever repeats a write himself passes the key of
	// the first time.
	Key        string
	Atomic     bool   // all rows or none
	OnConflict string // "merge", "ignore", or empty: a row whose key exists is a conflict
	Logged     bool   // answered when durable, before the outcome of each row is known

	// Producer numbers its writes in place of Key: docs/protocol.md, "Producers".
	Producer string
	Sequence uint64

	// HTTP sends this write as a request of its own, past the queue.
	HTTP bool
}

// Result is what became of a write.
type Result struct {
	Position   string // where it is in the history; reads after it see it
	Final      bool   // false with Logged: durable, the outcome of each row is not known yet
	Ack        string // what the answer promises: durable, buffered or memory
	Accepted   int
	Duplicates int // rows that were there before: no effect
	Rejected   []Rejected
	Key        string // the idempotency key that was used; empty with a producer
}

// Rejected is one refused row.
type Rejected struct {
	Index   int // of the row in the request, from 0
	Problem *Problem
}

// Store keeps writes that have no answer yet, so that they survive the process. Its methods are called one at a time, with the client's lock
// held: they must not call the client, and be quick.
type Store interface {
	// Load returns what was saved and not forgotten, in the order of saving. It is called once, by [New].
	Load() ([]Saved, error)
	// Save keeps a write, in place of what is kept under the same ID: when it is queued, and again with a mark before it is sent first and
	// when the server has refused it for a while. An error fails a write that is being queued; the mark is tried again a second later, and
	// nothing is sent before.
	Save(Saved) error
	// Forget ends the keeping: the write was answered, or given up.
	Forget(id string) error
}

// Saved is a write in a [Store].
type Saved struct {
	ID   string          // unique: the idempotency key, or producer, table and sequence
	At   time.Time       // when it was queued
	Data json.RawMessage // opaque
}

// savedData is what is in Saved.Data.
type savedData struct {
	writeFrame
	Sent float64 `json:"sent,omitempty"` // when it was sent first, ms since 1970; 0: never, as far as its effect may be unknown
}

// Pending is a write that was queued.
type Pending struct {
	client *Client // nil: of an earlier process, and nobody waits
	id     string  // of frames
	saved  string  // its id in the store; empty: it is not kept there
	queued time.Time
	key    string
	frame  writeFrame
	bytes  int
	sends  int       // without an answer
	first  time.Time // when the first attempt began whose effect is not known; zero: there is none
	unsure bool      // an attempt has ended, and its effect is not known
	under  int       // attempts that are under way
	after  time.Time // not before
	aside  bool      // sent by HTTP, whatever becomes of the connection
	stop   func()    // ends the request, where it is sent by HTTP
	done   chan struct{}
	result Result
	err    *Problem
}

type writeFrame struct {
	Type       string          `json:"type,omitempty"`
	ID         string          `json:"id,omitempty"`
	Table      string          `json:"table"`
	Rows       json.RawMessage `json:"rows,omitempty"`
	Patch      json.RawMessage `json:"patch,omitempty"`
	Delete     bool            `json:"delete,omitempty"`
	Filter     string          `json:"filter,omitempty"`
	Key        string          `json:"key,omitempty"`
	Atomic     bool            `json:"atomic,omitempty"`
	OnConflict string          `json:"on_conflict,omitempty"`
	Ack        string          `json:"ack,omitempty"`
	Producer   string          `json:"producer,omitempty"`
	Sequence   uint64          `json:"sequence,omitempty"`
}

// frame checks a write and turns it into the frame.
func (w *Write) frame() (writeFrame, error) {
	f := writeFrame{Table: w.Table, Delete: w.Delete, Filter: w.Filter, Key: w.Key, Atomic: w.Atomic, OnConflict: w.OnConflict,
		Producer: w.Producer, Sequence: w.Sequence}
	bad := func(field, what string) (writeFrame, error) {
		p := problemf("invalid_request", "%s", what)
		p.Field = field
		return f, p
	}
	kinds := 0
	for _, is := range []bool{w.Rows != nil, w.Patch != nil, w.Delete} {
		if is {
			kinds++
		}
	}
	switch {
	case w.Table == "":
		return bad("Table", "a write needs the name of a table")
	case kinds != 1:
		return bad("Rows", "a write has exactly one of Rows, Patch and Delete")
	case w.Rows == nil && w.Filter == "":
		return bad("Filter", "a patch or delete needs a filter, such as id=eq.7")
	case (w.Producer == "") != (w.Sequence == 0):
		return bad("Sequence", "Producer and Sequence go together")
	case w.Producer != "" && w.Key != "":
		return bad("Key", "a write has a key or a producer with a sequence, not both")
	}
	for _, part := range []struct {
		name string
		from any
		to   *json.RawMessage
	}{{"Rows", w.Rows, &f.Rows}, {"Patch", w.Patch, &f.Patch}} {
		if part.from == nil {
			continue
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(part.from); err != nil {
			return bad(part.name, part.name+" cannot be written as JSON: "+err.Error())
		}
		*part.to = bytes.TrimSpace(b.Bytes())
		if c := (*part.to)[0]; c != '{' && (c != '[' || part.name == "Patch") {
			return bad(part.name, part.name+" must be an object, or for rows a slice of objects")
		}
	}
	if w.Logged {
		f.Ack = "logged"
	}
	if f.Key == "" && f.Producer == "" {
		f.Key = rand.Text()
	}
	return f, nil
}

// Insert appends one row, or a slice of rows, and waits until they are durable and in every view. See [Write] for more.
func (c *Client) Insert(ctx context.Context, table string, rows any) (Result, error) {
	return c.Write(ctx, Write{Table: table, Rows: rows})
}

// Update sets the columns of patch in every row of a keyed table that filter selects.
func (c *Client) Update(ctx context.Context, table, filter string, patch any) (Result, error) {
	return c.Write(ctx, Write{Table: table, Filter: filter, Patch: patch})
}

// Delete deletes every row of a keyed table that filter selects.
func (c *Client) Delete(ctx context.Context, table, filter string) (Result, error) {
	return c.Write(ctx, Write{Table: table, Filter: filter, Delete: true})
}

// Write queues a write, waits for room in the queue if need be, and then for the answer. While the server is away it waits for its return; what
// was sent and not answered is sent again under the same key. When ctx ends first the write is given up, and the [CodeTimeout] problem carries
// its key. Writes of one client are sent in the order of the calls.
func (c *Client) Write(ctx context.Context, w Write) (Result, error) {
	if w.HTTP {
		return c.writeHTTP(ctx, w)
	}
	f, err := w.frame()
	if err != nil {
		return Result{}, err
	}
	text := encode(f)
	var p *Pending
	err = c.await(ctx, "room in the queue of writes", func() (bool, error) {
		var err error
		p, err = c.enqueue(f, text)
		var full *Problem
		if as(err, &full) && full.Code == CodeQueueFull {
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return Result{}, err
	}
	return p.Wait(ctx)
}

// Enqueue queues a write and returns at once; it is sent when the connection allows it. A full queue is a problem with [CodeQueueFull].
func (c *Client) Enqueue(w Write) (*Pending, error) {
	f, err := w.frame()
	if err != nil {
		return nil, err
	}
	text := encode(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enqueue(f, text)
}

// Flush waits until no write waits for an answer any more.
func (c *Client) Flush(ctx context.Context) error {
	return c.await(ctx, "the queue of writes", func() (bool, error) { return c.writes.count == 0, nil })
}

// Queued returns how many writes have no answer yet.
func (c *Client) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes.count
}

// Key returns the idempotency key of the write.
func (p *Pending) Key() string { return p.key }

// Done is closed when the write was answered or has failed.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait waits for the answer. When ctx ends first the write is given up: it is not sent any more.
func (p *Pending) Wait(ctx context.Context) (Result, error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		err := p.client.timeout(ctx, "the write was not answered in time, whether it took effect is unknown")
		p.client.mu.Lock()
		p.client.writes.settle(p, Result{}, err)
		p.client.changed()
		p.client.mu.Unlock()
		<-p.done
	}
	if p.err != nil {
		return Result{Key: p.key}, p.err
	}
	return p.result, nil
}

// queue is the writes that have no answer yet, under client.mu.
type queue struct {
	opt     *Options
	waiting []*Pending          // in the order of sending
	flight  map[string]*Pending // sent on this connection, by frame id
	n       int                 // writes made
	count   int
	bytes   int
	posting bool

	remembered time.Duration // how long the server knows keys
}

const (
	remembersFor = 10 * time.Minute // how long a server knows keys that has not said so
	markWait     = time.Second      // after the store did not take a mark
)

func (q *queue) open(opt *Options) error {
	q.opt, q.flight, q.remembered = opt, map[string]*Pending{}, remembersFor
	if opt.Store == nil {
		return nil
	}
	saved, err := opt.Store.Load()
	if err != nil {
		return problemf("internal", "the store of writes cannot be read: %v", err)
	}
	for _, s := range saved {
		var k savedData
		if err := json.Unmarshal(s.Data, &k); err != nil || k.Table == "" {
			return problemf("internal", "the store of writes has one under %q that cannot be read: %v", s.ID, err)
		}
		p := q.add(nil, k.writeFrame, len(s.Data), s.ID)
		if p.queued = s.At; k.Sent != 0 {
			p.first, p.unsure = fromMillis(k.Sent), true
		}
	}
	return nil
}

// save keeps a write anew, with when it was sent first.
func (q *queue) save(p *Pending) error {
	if q.opt.Store == nil || p.saved == "" {
		return nil
	}
	k := savedData{writeFrame: p.frame}
	if !p.first.IsZero() {
		k.Sent = toMillis(p.first)
	}
	return q.opt.Store.Save(Saved{p.saved, p.queued, encode(k)})
}

// enqueue adds a write; text is the frame as JSON. The caller holds c.mu.
func (c *Client) enqueue(f writeFrame, text []byte) (*Pending, error) {
	q := &c.writes
	if c.state.Name == StateClosed {
		return nil, problemf(CodeClosed, "the client is closed")
	}
	if len(text) > q.opt.QueueBytes {
		return nil, problemf(string(wire.TooLarge), "the write has %d bytes, and QueueBytes is %d: send fewer rows at once", len(text), q.opt.QueueBytes)
	}
	if q.count >= q.opt.QueueWrites || q.bytes+len(text) > q.opt.QueueBytes {
		return nil, problemf(CodeQueueFull, "%d writes of %d bytes wait for an answer", q.count, q.bytes)
	}
	id := f.Key
	if id == "" {
		id = f.Producer + "/" + f.Table + "/" + strconv.FormatUint(f.Sequence, 10)
	}
	now := c.opt.Clock.Now()
	if q.opt.Store != nil {
		if err := q.opt.Store.Save(Saved{id, now, text}); err != nil {
			return nil, problemf("internal", "the store of writes did not take it: %v", err)
		}
	}
	p := q.add(c, f, len(text), id)
	p.queued = now
	if c.session != nil {
		c.session.kick()
	}
	if c.streaming {
		c.startPosting()
	}
	return p, nil
}

func (q *queue) add(c *Client, f writeFrame, bytes int, id string) *Pending {
	q.n++
	p := &Pending{client: c, id: "w" + strconv.Itoa(q.n), saved: id, key: f.Key, frame: f, bytes: bytes, done: make(chan struct{})}
	q.waiting = append(q.waiting, p)
	q.count++
	q.bytes += bytes
	return p
}

// pump sends what may be sent now.
func (q *queue) pump(c *Client, s *session) {
	most := s.limits.WritesInFlight
	if most <= 0 {
		most = 1
	}
	now := c.opt.Clock.Now()
	kept := q.waiting[:0]
	for i, p := range q.waiting {
		if len(q.flight) >= most {
			kept = append(kept, q.waiting[i:]...)
			break
		}
		if now.Before(p.after) {
			kept = append(kept, p)
			continue
		}
		f := p.frame
		f.Type, f.ID = "write", p.id
		text := encode(f)
		if s.limits.FrameBytes > 0 && len(text) > s.limits.FrameBytes {
			if p.stop != nil { // it is on its way already
				kept = append(kept, p)
			} else {
				c.postAside(p)
			}
			continue
		}
		switch err := q.begin(p, now); {
		case err == nil:
			p.sends++
			q.flight[p.id] = p
			s.out = append(s.out, text)
		case err.Retry:
			p.after = now.Add(err.RetryAfter)
			kept = append(kept, p)
		default:
			q.finish(p, Result{}, err)
		}
	}
	clear(q.waiting[len(kept):])
	q.waiting = kept
}

// begin notes that an attempt to send a write begins; the first one stands in the store before anything is sent. A problem says why the attempt
// must not be; with Retry, that it may be later.
func (q *queue) begin(p *Pending, now time.Time) *Problem {
	switch {
	case p.first.IsZero():
		p.first = now
		if err := q.save(p); err != nil {
			p.first = time.Time{}
			q.opt.Logger.Error("the store of writes does not take that one is sent: it waits", "id", p.saved, "err", err)
			t := problemf("internal", "the store of writes did not take that the write is sent: %v", err)
			t.Retry, t.RetryAfter = true, markWait
			return t
		}
	case p.expired(now, q.remembered):
		t := problemf(CodeTimeout, "sent at %s without an answer, and the server has forgotten keys of that time: sending it again might have a second effect",
			p.first.Format(time.DateTime))
		t.Retry = false
		return t
	}
	p.under++
	return nil
}

// ended notes that an attempt has ended without a result, and the write is not settled. none: that attempt had no effect.
func (q *queue) ended(p *Pending, none bool) {
	p.under--
	p.unsure = p.unsure || !none || p.under > 0
	if p.unsure || p.first.IsZero() || p.settled() {
		return
	}
	p.first = time.Time{}
	if err := q.save(p); err != nil {
		q.opt.Logger.Error("the store of writes keeps that one is sent, and it is not: after a restart it may be given up early", "id", p.saved, "err", err)
	}
}

// noEffect reports whether a refusal says that nothing of the write was stored.
func noEffect(p *Problem) bool {
	return !p.Retry || p.Code == string(wire.Busy) || p.Code == string(wire.RateLimited)
}

// expired reports whether the server may have forgotten the key under which the write was sent. A monotonic clock stands still while the machine
// sleeps, and the wall clock may be set back: the longer of both times counts.
func (p *Pending) expired(now time.Time, remembered time.Duration) bool {
	ago := max(now.Sub(p.first), now.Round(0).Sub(p.first.Round(0)))
	return !p.first.IsZero() && p.key != "" && ago > remembered
}

func (p *Pending) settled() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// due returns when a write that waits may be sent again; zero: none waits for a time.
func (q *queue) due() time.Time {
	var first time.Time
	for _, p := range q.waiting {
		if !p.after.IsZero() && (first.IsZero() || p.after.Before(first)) {
			first = p.after
		}
	}
	return first
}

// cut puts back what was sent on a connection that has ended, and gives up what was sent too often.
func (q *queue) cut() {
	if len(q.flight) == 0 {
		return
	}
	for id, p := range q.flight {
		if p.aside {
			continue
		}
		delete(q.flight, id)
		q.ended(p, false)
		if p.sends >= sendsMost {
			q.finish(p, Result{}, problemf(CodeUnreachable, "sent %d times, and the connection ended each time", sendsMost))
			continue
		}
		q.waiting = append(q.waiting, p)
	}
	slices.SortFunc(q.waiting, func(a, b *Pending) int {
		if len(a.id) != len(b.id) {
			return len(a.id) - len(b.id)
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
}

// answered settles the write that a result frame names.
func (q *queue) answered(id string, r *wire.WriteResult) {
	if p := q.flight[id]; p != nil {
		delete(q.flight, id)
		q.finish(p, resultOf(r, p.key), nil)
	}
}

func resultOf(r *wire.WriteResult, key string) Result {
	out := Result{Position: r.Position, Final: r.Final, Ack: r.Ack, Accepted: r.Accepted, Duplicates: r.Duplicates, Key: key}
	for _, x := range r.Rejected {
		out.Rejected = append(out.Rejected, Rejected{x.Index, fromWire(x.Error)})
	}
	return out
}

// refused handles an error frame; it reports whether the id is one of a write.
func (q *queue) refused(id string, err *Problem, c *Client) bool {
	p := q.flight[id]
	if p == nil {
		return false
	}
	delete(q.flight, id)
	if !err.Retry {
		q.finish(p, Result{}, err)
		return true
	}
	q.ended(p, noEffect(err))
	p.sends, p.after = 0, c.opt.Clock.Now().Add(retryWait(err, c.opt.Random()))
	c.opt.Logger.Debug("a write is refused for now", "table", p.frame.Table, "reason", err, "key", p.key)
	q.waiting = append(q.waiting, p)
	return true
}

// retryWait is how long to wait after a refusal.
func retryWait(err *Problem, random float64) time.Duration {
	if err.RetryAfter > 0 {
		return err.RetryAfter
	}
	return time.Duration((500 + 500*random) * float64(time.Millisecond))
}

// settle ends a write wherever it is. Settled already: no effect.
func (q *queue) settle(p *Pending, r Result, err *Problem) {
	if p.settled() {
		return
	}
	delete(q.flight, p.id)
	if i := slices.Index(q.waiting, p); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	q.finish(p, r, err)
}

// finish tells whoever waits. The write is in no list any more.
func (q *queue) finish(p *Pending, r Result, err *Problem) {
	if p.settled() {
		return
	}
	if p.stop != nil {
		p.stop()
	}
	switch {
	case p.client != nil: // whoever waits is told
	case err != nil && err.Code != CodeClosed:
		q.opt.Logger.Error("a write of an earlier process is given up", "table", p.frame.Table, "id", p.saved, "queued", p.queued, "reason", err)
	case err == nil && len(r.Rejected) > 0:
		q.opt.Logger.Error("rows of a write of an earlier process were refused", "table", p.frame.Table, "id", p.saved, "rows", len(r.Rejected),
			"reason", r.Rejected[0].Problem)
	}
	if err != nil {
		err.Key = p.key
		if err.Code == CodeTimeout && p.key != "" && err.cause != nil {
			err.Hint = "repeating it with the same key is safe"
		}
	}
	p.result, p.err = r, err
	q.count--
	q.bytes -= p.bytes
	if q.opt.Store != nil && (err == nil || err.Code != CodeClosed) {
		if err := q.opt.Store.Forget(p.saved); err != nil {
			q.opt.Logger.Error("the store of writes did not forget one: it will be sent again, and have no second effect", "id", p.saved, "err", err)
		}
	}
	close(p.done)
}

// fail ends all of them.
func (q *queue) fail(err *Problem) {
	all := q.waiting
	q.waiting = nil
	for _, p := range q.flight {
		all = append(all, p)
	}
	clear(q.flight)
	for _, p := range all {
		own := *err
		q.finish(p, Result{}, &own)
	}
}
