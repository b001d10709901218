package signal

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"laaster/app"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/wire"
)

// Options bound a State. Zero fields have the defaults.
type Options struct {
	MaxRows     int           // of one channel; default 20,000; beyond it a new row is told busy
	MaxRowBytes int           // of one row; default 4 KiB; larger: too_large
	MaxBytes    int           // of all rows and what is kept for those who follow them; default 64 MiB; beyond it: busy
	MaxOwned    int           // of the rows of all channels that one connection, or one subject at one address over HTTP, has set; default 1,000: too_many
	MaxFeeds    int           // different queries that are followed; default 2,000; beyond it: busy
	Rate        int           // signals of one sender that take effect per second, for long; default 50
	Burst       int           // and at once after a pause; default 100
	MaxHeld     int           // keys for which a sender's signals are held back; default 64; beyond it: rate_limited
	Merge       time.Duration // least time between two steps of a feed; default 20 ms
	CountEvery  time.Duration // and while it tells numbers only; default 250 ms

	// Wake is called, under the lock, when Advance has something to do earlier than it last said. It must not block nor call the State.
	Wake func()
}

func (o *Options) defaults() {
	for _, d := range []struct {
		field    *int
		standard int
	}{{&o.MaxRows, 20_000}, {&o.MaxRowBytes, 4 << 10}, {&o.MaxBytes, 64 << 20}, {&o.MaxOwned, 1000}, {&o.MaxFeeds, 2000},
		{&o.Rate, 50}, {&o.Burst, 100}, {&o.MaxHeld, 64}} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	o.Merge, o.CountEvery = cmp.Or(o.Merge, 20*time.Millisecond), cmp.Or(o.CountEvery, 250*time.Millisecond)
	if o.Wake == nil {
		o.Wake = func() {}
	}
}

// State is the rows of all channels of an app.
type State struct {
	opt   Options
	named atomic.Pointer[map[string]*Channel] // mu.channels, for every write that asks whether its table is one
	mu    struct {
		sync.Mutex
		channels map[string]*Channel // replaced as a whole
		stats    Stats
		change   uint64               // counts changes of rows: see Feed.seen
		dirty    map[*Feed]struct{}   // changed since their last step
		limited  map[*Sender]struct{} // hold signals back
		posted   map[account]int      // rows that somebody without a connection set last; those with none are left out
		left     int                  // of stats.Bytes: of keys that left feeds, see Feed.forget
		wakeAt   int64                // when Advance is to be called, microseconds; math.MaxInt64: not
	}
}

// Stats is what a State holds now and has done since its beginning.
type Stats struct {
	Channels, Rows, Bytes, Feeds, Senders int   // now
	Set, Cleared, Expired                 int64 // rows: set or refreshed, cleared or left with their connection, ended by time
	Held, Merged                          int64 // signals beyond the rate: held back, and of those replaced by a newer one before they took effect
	Evicted                               int64 // rows of channels that the app no longer has
}

// New returns a State without channels.
func New(opt Options) *State {
	opt.defaults()
	s := &State{opt: opt}
	s.mu.channels, s.mu.dirty, s.mu.limited = map[string]*Channel{}, map[*Feed]struct{}{}, map[*Sender]struct{}{}
	s.mu.posted, s.mu.wakeAt = map[account]int{}, math.MaxInt64
	none := s.mu.channels
	s.named.Store(&none)
	return s
}

// Options returns the bounds in use.
func (s *State) Options() Options { return s.opt }

// Use makes the channels of rels those of the app. One that is declared as before keeps its rows; others are forgotten with theirs. An error
// has changed nothing.
func (s *State) Use(rels []*expr.Relation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]*Channel, len(rels))
	for _, rel := range rels {
		if old := s.mu.channels[rel.Name]; old != nil && same(old.rel, rel) {
			next[rel.Name] = old
			continue
		}
		ch, err := newChannel(rel)
		if err != nil {
			return err
		}
		next[rel.Name] = ch
	}
	for name, old := range s.mu.channels {
		if next[name] != old {
			s.dropLocked(old)
		}
	}
	s.mu.channels = next
	s.named.Store(&next)
	return nil
}

// dropLocked forgets a channel's rows. Its feeds say nothing more, and stay until those who follow them give them back: nobody else comes to them.
func (s *State) dropLocked(ch *Channel) {
	for _, r := range ch.rows {
		if r.owner != nil {
			delete(r.owner.rows, r)
		}
		s.postedLocked(r, account{})
		s.mu.stats.Bytes -= r.cost()
		s.mu.stats.Rows--
		s.mu.stats.Evicted++
	}
	ch.rows, ch.ends = map[string]*row{}, nil
}

// Channel returns the channel of a name, nil when the app has none. It takes no lock.
func (s *State) Channel(name string) *Channel { return (*s.named.Load())[name] }

// Current reports whether ch is what its name stands for: what could not be done with one that is not may work with another look-up.
func (s *State) Current(ch *Channel) bool { return s.Channel(ch.rel.Name) == ch }

// Stats counts.
func (s *State) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.mu.stats
	st.Channels = len(s.mu.channels)
	return st
}

// row is one row of a channel.
type row struct {
	ch       *Channel
	key      string
	data     change.Row
	owner    *Sender // whose connection keeps it up; nil: nobody's, it ends at its deadline
	by       account // who set it last, without a connection
	deadline int64   // microseconds; 0: none
	place    int     // in the channel's deadlines; -1: it has none
}

// account is who sets rows without a connection; the zero value is nobody.
type account struct {
	somebody bool
	subject  string
	from     netip.Addr
}

// rowOverhead estimates what the maps and structs of a row take.
const rowOverhead = 288

func (r *row) cost() int { return len(r.data) + len(r.key) + rowOverhead }

// deadlines is a heap of rows by deadline.
type deadlines []*row

// Len implements heap.Interface.
func (d deadlines) Len() int { return len(d) }

// Less implements heap.Interface.
func (d deadlines) Less(i, j int) bool { return d[i].deadline < d[j].deadline }

// Swap implements heap.Interface.
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	r := x.(*row)
	r.place = len(*d)
	*d = append(*d, r)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	r := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	r.place = -1
	return r
}

// endsLocked sets when a row ends by itself; 0: it does not.
func (s *State) endsLocked(r *row, at int64) {
	r.deadline = at
	switch {
	case at == 0 && r.place >= 0:
		heap.Remove(&r.ch.ends, r.place)
	case at == 0:
	case r.place >= 0:
		heap.Fix(&r.ch.ends, r.place)
	default:
		heap.Push(&r.ch.ends, r)
	}
	if at != 0 {
		s.wantLocked(at)
	}
}

// wantLocked asks for Advance at a time.
func (s *State) wantLocked(at int64) {
	if at < s.mu.wakeAt {
		s.mu.wakeAt = at
		s.opt.Wake()
	}
}

// intent is one signal, checked: a row to set, or a key to clear.
type intent struct {
	ch  *Channel
	key string
	row change.Row // nil: clear
	ctx *expr.Ctx  // of the caller
	id  string     // of the frame
	by  account    // of somebody without a connection
}

// size is how many bytes a client sent, about.
func (in *intent) size() int { return len(in.row) + len(in.key) + len(in.id) }

// applyLocked carries out an intent of x; nil: of somebody without a connection.
func (s *State) applyLocked(x *Sender, in *intent, now int64) *wire.Problem {
	if s.mu.channels[in.ch.rel.Name] != in.ch {
		return unknownTable(in.ch.rel.Name)
	}
	old := in.ch.rows[in.key]
	if old != nil && (x == nil || old.owner != x) && in.ch.Keyed() {
		if p := in.ch.mayTouch(in.ctx, old.data); p != nil {
			return p
		}
	}
	if in.row == nil {
		if old != nil {
			s.mu.stats.Cleared++
			s.removeLocked(old, now)
		}
		return nil
	}
	r := &row{ch: in.ch, key: in.key, data: in.row, place: -1}
	need := r.cost()
	if old != nil {
		need -= old.cost()
	}
	if p := s.roomLocked(x, in, old, need); p != nil {
		return p
	}
	s.mu.stats.Bytes += need
	s.mu.stats.Set++
	if old == nil {
		s.mu.stats.Rows++
		in.ch.rows[in.key] = r
		s.changedLocked(r, nil, now)
	} else {
		r = old
		if before := old.data; string(before) != string(in.row) { // else the feeds share the one that is there
			r.data = in.row
			s.changedLocked(r, before, now)
		}
	}
	if in.ch.rules.Presence {
		s.attendLocked(r, x, in.by, now)
		return nil
	}
	s.ownLocked(r, x)
	s.postedLocked(r, in.by)
	if in.ch.ttl > 0 {
		s.endsLocked(r, now+in.ch.ttl)
	}
	return nil
}

// roomLocked says why an intent of x to set a row is beyond a limit. need is how many bytes more than old the row takes. What changes nothing takes no
// memory: a row can be kept up whatever the others take. What changes a row may enter feeds, so it is refused when too much is taken
// even if it is smaller.
func (s *State) roomLocked(x *Sender, in *intent, old *row, need int) *wire.Problem {
	changes, need := old == nil || string(old.data) != string(in.row), max(need, 0)
	if changes && s.mu.stats.Bytes+need > s.opt.MaxBytes {
		s.shedLocked()
	}
	owned := 0 // when it is to have one more
	switch {
	case x != nil:
		if old == nil || old.owner != x {
			owned = len(x.rows)
		}
	case old != nil && (old.by == in.by || in.ch.rules.Presence && old.owner != nil):
	default:
		owned = s.mu.posted[in.by]
	}
	switch {
	case old == nil && len(in.ch.rows) >= s.opt.MaxRows:
		return full(fmt.Sprintf("%s has as many rows as a channel may have: %d", in.ch.rel.Name, s.opt.MaxRows))
	case owned >= s.opt.MaxOwned:
		return wire.NewProblem(wire.TooMany, fmt.Sprintf("one sender has at most %d rows of channels", s.opt.MaxOwned)).WithHint("clear some that are there")
	case changes && s.mu.stats.Bytes+need > s.opt.MaxBytes:
		return s.noMemory()
	}
	return nil
}

func (s *State) noMemory() *wire.Problem {
	return full(fmt.Sprintf("the channels together take as much memory as they may: %d bytes", s.opt.MaxBytes))
}

// shedLocked lets go of half of the keys that left feeds when these take a good part of the memory, so that what is remembered for those who
// are behind does not keep others from what is new. That part is a great many keys, which come anew before the next time: it costs little for each.
func (s *State) shedLocked() {
	if s.mu.left <= s.opt.MaxBytes/8 {
		return
	}
	for _, ch := range s.mu.channels {
		for _, f := range ch.feeds {
			f.forget()
		}
	}
}

// attendLocked keeps a row of presence up: by a connection for as long as that lasts, else for the ttl.
func (s *State) attendLocked(r *row, x *Sender, by account, now int64) {
	switch {
	case x != nil:
		s.ownLocked(r, x)
		s.postedLocked(r, account{})
		s.endsLocked(r, 0)
	case r.owner == nil:
		s.postedLocked(r, by)
		s.endsLocked(r, now+r.ch.ttl)
	}
}

func full(detail string) *wire.Problem {
	p := wire.NewProblem(wire.Busy, detail)
	p.RetryAfterMS = 1000
	return p
}

func unknownTable(name string) *wire.Problem {
	return wire.NewProblem(wire.UnknownTable, "there is no table "+clip(name)).WithField("table", "")
}

func (s *State) ownLocked(r *row, x *Sender) {
	if r.owner == x {
		return
	}
	if r.owner != nil {
		delete(r.owner.rows, r)
	}
	if r.owner = x; x != nil {
		x.rows[r] = struct{}{}
	}
}

// postedLocked notes who set a row without a connection.
func (s *State) postedLocked(r *row, by account) {
	if r.by == by {
		return
	}
	if r.by.somebody {
		if s.mu.posted[r.by]--; s.mu.posted[r.by] == 0 {
			delete(s.mu.posted, r.by)
		}
	}
	if r.by = by; by.somebody {
		s.mu.posted[by]++
	}
}

func (s *State) removeLocked(r *row, now int64) {
	s.ownLocked(r, nil)
	s.postedLocked(r, account{})
	s.endsLocked(r, 0)
	delete(r.ch.rows, r.key)
	s.mu.stats.Rows--
	s.mu.stats.Bytes -= r.cost()
	before := r.data
	r.data = nil
	s.changedLocked(r, before, now)
}

// Post sets one row that no connection keeps up: object has all of its columns. It ends after the channel's ttl.
func (s *State) Post(now time.Time, who *Caller, ch *Channel, object []byte) *wire.Problem {
	us := now.UnixMicro()
	in, p := s.intent(who, ch, us, nil, object, wholeRow)
	if p != nil {
		return p
	}
	in.by = account{true, who.Subject, who.From}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applyLocked(nil, in, us)
}

// intent reads what a client sent. A nil value clears the key.
func (s *State) intent(who *Caller, ch *Channel, now int64, key, value []byte, which part) (*intent, *wire.Problem) {
	if !ch.Keyed() && which == valuePart && key != nil {
		return nil, wire.NewProblem(wire.InvalidRequest, "the connection is the key of "+ch.rel.Name).WithField("key", "leave it out")
	}
	d := ch.draft(who, now)
	if p := d.take(key, keyPart); p != nil {
		return nil, p
	}
	if p := d.take(value, which); p != nil {
		return nil, p
	}
	fills := wholeRow
	if value == nil {
		fills = keyPart
	}
	if p := d.fill(fills, who, now); p != nil {
		return nil, p
	}
	in := &intent{ch: ch, key: d.key(), ctx: &d.ctx}
	if value == nil {
		return in, nil
	}
	if ch.rules.Presence {
		if since, there := s.since(ch, in.key); there {
			d.vals[len(d.vals)-1] = since
		}
	}
	var p *wire.Problem
	in.row, p = d.row(s.opt.MaxRowBytes)
	return in, p
}

// since returns the column of this name of a row of presence that is there.
func (s *State) since(ch *Channel, key string) (change.Value, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := ch.rows[key]
	if r == nil {
		return change.Value{}, false
	}
	return ch.rel.Layout.Get(r.data, len(ch.rel.Columns)-1), true
}

// Clear clears the rows for which match holds and that who may clear. It returns how many it did, and why it left the first of the others.
func (s *State) Clear(now time.Time, who *Caller, ch *Channel, match func(change.Row) bool) (cleared int, denied *wire.Problem) {
	us := now.UnixMicro()
	d := ch.draft(who, us)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.channels[ch.rel.Name] != ch {
		return 0, unknownTable(ch.rel.Name)
	}
	own := change.Value{B: []byte(who.Connection)}
	var keys []string
	for key, r := range ch.rows {
		if match(r.data) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		r := ch.rows[key]
		p := ch.mayTouch(&d.ctx, r.data)
		if !ch.Keyed() && string(ch.rel.Layout.Get(r.data, ch.rel.Key[0]).B) != string(own.B) {
			p = wire.NewProblem(wire.Forbidden, "this row belongs to another connection").WithField(app.ConnectionColumn, "only its own connection clears it")
		}
		if p != nil {
			if denied == nil {
				denied = p
			}
			continue
		}
		cleared++
		s.mu.stats.Cleared++
		s.removeLocked(r, us)
	}
	return cleared, denied
}

// Rows returns the rows of a channel for which match holds, in the order of their keys. They must not be changed.
func (s *State) Rows(ch *Channel, match func(change.Row) bool) []change.Row {
	found := s.find(ch, match)
	slices.SortFunc(found, func(a, b foundRow) int { return strings.Compare(a.key, b.key) })
	out := make([]change.Row, len(found))
	for i, f := range found {
		out[i] = f.data
	}
	return out
}

type foundRow struct {
	key  string
	data change.Row
}

// find returns the rows for which match holds, in no order: sorting them under the lock would hold up everybody.
func (s *State) find(ch *Channel, match func(change.Row) bool) (out []foundRow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, r := range ch.rows {
		if match(r.data) {
			out = append(out, foundRow{key, r.data})
		}
	}
	return out
}

// Refusal is a signal that was held back and could not take effect then.
type Refusal struct {
	Sender  *Sender
	ID      string // of the frame
	Problem *wire.Problem
}

// Advanced is what Advance did.
type Advanced struct {
	Feeds   []*Feed   // made a step: their followers have something to be told
	Refused []Refusal // who sent these should hear of it
	Next    time.Time // when Advance is to be called again; zero: when Wake is called
}

// Advance lets take effect what was held back as far as the rate allows, ends rows whose time is over, and makes what has changed visible to
// followers, at most once in Options.Merge for each feed.
func (s *State) Advance(now time.Time) (a Advanced) {
	us := now.UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.wakeAt = math.MaxInt64
	for x := range s.mu.limited {
		a.Refused = s.releaseLocked(x, us, a.Refused)
	}
	for _, ch := range s.mu.channels {
		for len(ch.ends) > 0 && ch.ends[0].deadline <= us {
			s.mu.stats.Expired++
			s.removeLocked(ch.ends[0], us)
		}
		if len(ch.ends) > 0 {
			s.mu.wakeAt = min(s.mu.wakeAt, ch.ends[0].deadline)
		}
	}
	next := s.mu.wakeAt
	for f := range s.mu.dirty {
		if f.due > us {
			next = min(next, f.due)
			continue
		}
		f.step(us)
		delete(s.mu.dirty, f)
		a.Feeds = append(a.Feeds, f)
	}
	for x := range s.mu.limited {
		next = min(next, x.nextToken(us))
	}
	slices.SortFunc(a.Feeds, func(x, y *Feed) int { return cmp.Compare(x.id, y.id) })
	if s.mu.wakeAt = next; next != math.MaxInt64 {
		a.Next = time.UnixMicro(next)
	}
	return a
}
