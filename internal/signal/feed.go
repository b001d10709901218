package signal

import (
	"slices"
	"sort"
	"sync/atomic"

	"laaster/internal/change"
	"laaster/internal/wire"
)

// Feed is what those who follow one query over a channel share: the rows that it selects, in the order in which they last changed. It is guarded by
// the State's lock but for what says otherwise.
type Feed struct {
	ch      *Channel
	s       *State
	id      uint64
	canon   string
	match   func(change.Row) bool
	equal   *Equal
	users   int
	seen    uint64 // the last change that was looked at
	entries map[string]*entry
	log     []item // ascending by version; an item whose entry has changed since is void
	head    uint64 // the last version
	floor   uint64 // who stands below it needs all rows
	gone    int    // entries without a row
	left    int    // of bytes: of these
	bytes   int    // counted for it in Stats.Bytes
	count   int    // rows, as of shown
	numbers bool   // only their number is told
	due     int64  // with dirty: the next step, microseconds
	last    int64  // the last step
	shown   atomic.Uint64
}

// Equal is a condition column = value that every row of a feed meets; Value is the order-preserving key of the value.
type Equal struct {
	Column int
	Value  string
}

// entry is one key of a feed.
type entry struct {
	version uint64
	row     change.Row // when gone: the last one, for its key
	gone    bool
}

type item struct {
	version uint64
	key     string
	e       *entry
}

// Costs of a feed beside the rows that are there and the text of its query, in bytes, estimated.
const (
	entryCost = 160
	feedCost  = 1 << 10
)

// mostGone is how many keys that left are remembered beyond the number of rows: who is so far behind gets the rows anew.
const mostGone = 256

// Follow returns the feed of a query over a channel, shared with everybody whose canon is equal. match must not change and is called under the
// State's lock; equal, which may be nil, is a condition that it implies. Each needs an Unfollow.
func (s *State) Follow(ch *Channel, canon string, equal *Equal, match func(change.Row) bool) (*Feed, *wire.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.channels[ch.rel.Name] != ch {
		return nil, unknownTable(ch.rel.Name)
	}
	if f := ch.feeds[canon]; f != nil {
		f.users++
		return f, nil
	}
	if s.mu.stats.Feeds >= s.opt.MaxFeeds {
		return nil, full("as many different queries of channels as the server is set to serve")
	}
	s.mu.change++
	f := &Feed{ch: ch, s: s, id: s.mu.change, canon: canon, match: match, equal: equal, users: 1, entries: map[string]*entry{}, head: 1, floor: 1}
	for key, r := range ch.rows {
		if match(r.data) {
			f.head++
			e := &entry{version: f.head, row: r.data}
			f.entries[key] = e
			f.log = append(f.log, item{f.head, key, e})
		}
	}
	cost := feedCost + len(canon) + len(f.entries)*entryCost
	if s.mu.stats.Bytes+cost > s.opt.MaxBytes {
		s.shedLocked()
	}
	if s.mu.stats.Bytes+cost > s.opt.MaxBytes {
		return nil, s.noMemory()
	}
	f.grow(cost)
	s.mu.stats.Feeds++
	f.step(0)
	ch.feeds[canon] = f
	if equal == nil {
		ch.rest = append(ch.rest, f)
		return f, nil
	}
	if ch.byCol[equal.Column] == nil {
		ch.byCol[equal.Column] = map[string][]*Feed{}
	}
	ch.byCol[equal.Column][equal.Value] = append(ch.byCol[equal.Column][equal.Value], f)
	return f, nil
}

// grow counts what a feed takes.
func (f *Feed) grow(bytes int) {
	f.bytes += bytes
	f.s.mu.stats.Bytes += bytes
}

// leave counts a key that left, whose last row is kept; by is -1 when it is there again or is forgotten.
func (f *Feed) leave(e *entry, by int) {
	f.gone += by
	f.grow(by * len(e.row))
	f.left += by * (entryCost + len(e.row))
	f.s.mu.left += by * (entryCost + len(e.row))
}

// Unfollow gives a feed back.
func (s *State) Unfollow(f *Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.users--; f.users > 0 {
		return
	}
	ch := f.ch
	delete(ch.feeds, f.canon)
	delete(s.mu.dirty, f)
	s.mu.stats.Feeds--
	s.mu.left -= f.left
	f.grow(-f.bytes)
	same := func(x *Feed) bool { return x == f }
	if f.equal == nil {
		ch.rest = slices.DeleteFunc(ch.rest, same)
		return
	}
	values := ch.byCol[f.equal.Column]
	if left := slices.DeleteFunc(values[f.equal.Value], same); len(left) > 0 {
		values[f.equal.Value] = left
	} else {
		delete(values, f.equal.Value)
	}
}

// changedLocked tells the feeds of a row that it has changed from before; either is nil when there was or is none.
func (s *State) changedLocked(r *row, before change.Row, now int64) {
	ch := r.ch
	s.mu.change++
	for _, f := range ch.rest {
		s.tellLocked(f, r, now)
	}
	var scratch [64]byte
	for col, values := range ch.byCol {
		for _, data := range [2]change.Row{before, r.data} {
			if len(values) == 0 || data == nil {
				continue
			}
			v := ch.rel.Layout.Get(data, col)
			if v.Null {
				continue
			}
			for _, f := range values[string(change.AppendKey(scratch[:0], ch.rel.Layout.Type(col), v, false, false))] {
				s.tellLocked(f, r, now)
			}
		}
	}
}

// tellLocked notes a change of a row in a feed.
func (s *State) tellLocked(f *Feed, r *row, now int64) {
	if f.seen == s.mu.change {
		return
	}
	f.seen = s.mu.change
	is := r.data != nil && f.match(r.data)
	e := f.entries[r.key]
	switch {
	case is && e == nil:
		e = &entry{}
		f.entries[r.key] = e
		f.grow(entryCost)
	case is && e.gone:
		f.leave(e, -1)
	case is:
	case e == nil || e.gone:
		return
	default:
		f.leave(e, 1)
	}
	if e.gone = !is; is {
		e.row = r.data
	}
	f.head++
	e.version = f.head
	f.log = append(f.log, item{f.head, r.key, e})
	if f.gone > mostGone+len(f.entries)/2 {
		f.forget()
	}
	if len(f.log) > 2*len(f.entries)+64 {
		f.log = slices.DeleteFunc(f.log, func(i item) bool { return i.e.version != i.version })
	}
	if _, dirty := s.mu.dirty[f]; dirty {
		return
	}
	s.mu.dirty[f] = struct{}{}
	pause := s.opt.Merge
	if f.numbers {
		pause = s.opt.CountEvery
	}
	f.due = max(now, f.last+pause.Microseconds())
	s.wantLocked(f.due)
}

// forget lets go of the older half of the keys that left.
func (f *Feed) forget() {
	rest := f.gone - f.gone/2
	for _, i := range f.log {
		if f.gone == rest {
			break
		}
		if i.e.version == i.version && i.e.gone {
			delete(f.entries, i.key)
			f.floor = i.version
			i.e.version = 0 // void
			f.leave(i.e, -1)
			f.grow(-entryCost)
		}
	}
}

// step makes what has changed visible to followers.
func (f *Feed) step(now int64) {
	f.count = len(f.entries) - f.gone
	if e := f.ch.rules; e.Presence {
		switch {
		case f.count > e.ListUpTo:
			f.numbers = true
		case f.count*2 < e.ListUpTo:
			f.numbers = false
		}
	}
	f.last = now
	f.shown.Store(f.head)
}

// Cursor is how far a follower is. The zero value has been told nothing.
type Cursor struct {
	at      uint64 // it knows of everything up to here
	base    uint64 // and, once it is through with all rows, of every key that left up to here; 0 when that says no more than at
	numbers bool   // it was told a number: count
	count   int
}

func cursor(at, base uint64) Cursor {
	if base <= at {
		base = 0 // so that all who are through stand at the same place, whenever they began
	}
	return Cursor{at: at, base: base}
}

// Behind reports whether Next has something for a follower. It takes no lock.
func (f *Feed) Behind(c Cursor) bool { return c.at != f.shown.Load() }

// Shown returns the version that followers are brought to: it grows with each step. It takes no lock.
func (f *Feed) Shown() uint64 { return f.shown.Load() }

// Channel returns what the feed is of.
func (f *Feed) Channel() *Channel { return f.ch }

// Batch is what a follower is told next.
type Batch struct {
	Full  bool         // the rows begin anew
	Count int          // so many rows, none of which is listed; -1: they are
	Put   []change.Row // must not be changed
	Del   []change.Row // rows that were there, for their keys
	More  bool         // there is more to be told at once
	Next  Cursor
}

// Empty reports whether there is nothing to be told but where the follower stands.
func (b *Batch) Empty() bool { return !b.Full && b.Count < 0 && len(b.Put)+len(b.Del) == 0 }

// Next returns what a follower at c is to be told, at most about room bytes of rows, and at least one of them when there is one.
func (f *Feed) Next(c Cursor, room int) Batch {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	shown := f.shown.Load()
	b := Batch{Count: -1}
	if f.numbers {
		b.Next = Cursor{at: shown, numbers: true, count: f.count}
		if b.Full = !c.numbers; b.Full || c.count != f.count {
			b.Count = f.count
		}
		return b
	}
	from, base := c.at, c.base
	if b.Full = c.numbers || max(from, base) < f.floor; b.Full {
		from, base = 0, f.head
	}
	b.Next = cursor(shown, base)
	after := func(version uint64) int {
		return sort.Search(len(f.log), func(i int) bool { return f.log[i].version > version })
	}
	told := from
	for _, i := range f.log[after(from):after(shown)] {
		if i.e.version != i.version || i.e.gone && i.version <= base {
			continue
		}
		if room <= 0 && told > from {
			b.More, b.Next = true, cursor(told, base)
			return b
		}
		if i.e.gone {
			b.Del = append(b.Del, i.e.row)
		} else {
			b.Put = append(b.Put, i.e.row)
		}
		room -= len(i.e.row)
		told = i.version
	}
	return b
}
