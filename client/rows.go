package client

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"laaster/internal/wire"
)

// Row is one row: a JSON object as the server sent it.
type Row = json.RawMessage

// Subscription is a live copy of the rows of a view, or of the part of it that was asked for. Made by [Client.Subscribe].
type Subscription struct {
	client *Client
	id     string
	view   string
	query  Query
	ready  chan struct{} // closed at the first complete state, or at the end

	state struct { // under client.mu
		rows     map[string]*entry // by key
		key      []string          // names of the key columns
		by       []term
		sorted   []Row // nil: sort anew
		position string
		complete bool   // the rows are a state that was, at position
		had      bool   // they were complete once
		behind   bool   // asked, and not answered yet on this connection
		pages    *pages // of a snapshot that is not complete
		gap      bool   // the server said that history is gone
		reported string // what the server said of this view: a state of wire.FreshnessFrame
		reason   string
		fresh    Freshness
		err      error
		over     bool
		streams  map[*stream]bool
		again    time.Time // refused for a while: ask again then
		feed     *feed     // with the transport Events
		channel  bool      // rows of a channel: they have no position
		count    *int      // of a channel that is too large to list
	}
}

type entry struct {
	row  Row
	key  Row
	sort []sortValue
}

// pages is a snapshot that is not complete.
type pages struct {
	position string
	key      []string
	rows     map[string]*entry
	later    []change // changes of epochs that came between the pages, to be applied after them
}

// change is the part of an epoch that concerns one subscription.
type change struct {
	position, from string
	at             time.Time
	put, del       []byte // JSON arrays
}

// laterMost bounds the epochs kept between pages. Servers send none there.
const laterMost = 1024

// View returns the name of the view.
func (s *Subscription) View() string { return s.view }

// Rows returns the rows sorted by the query's order, by key where that does not decide. It is the same slice until they change; it must not be
// changed.
func (s *Subscription) Rows() []Row {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.sortedRows()
}

// Len returns the number of rows.
func (s *Subscription) Len() int {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return len(s.state.rows)
}

// Key returns the names of the key columns; empty before the first complete state, and for a view that always has one row.
func (s *Subscription) Key() []string {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.state.key
}

// Get returns the row whose key columns have these values, given in the order of [Subscription.Key].
func (s *Subscription) Get(key ...any) (Row, bool) {
	var id []byte
	for i, v := range key {
		text, err := json.Marshal(v)
		if err != nil {
			return nil, false
		}
		if i > 0 {
			id = append(id, ',')
		}
		id = appendCanonical(id, text)
	}
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	x, ok := s.state.rows[string(id)]
	if !ok {
		return nil, false
	}
	return x.row, true
}

// Position returns the position of the rows; empty before the first complete state.
func (s *Subscription) Position() string {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.state.position
}

// Freshness returns how fresh the rows are.
func (s *Subscription) Freshness() Freshness {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.state.fresh
}

// Err returns why the subscription ended: a *[Problem] when the server refused it or it was closed, nil while it goes on.
func (s *Subscription) Err() error {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.state.err
}

// Ready returns when the rows are complete for the first time, with the problem when the subscription ends before, or with the context's error.
func (s *Subscription) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return s.client.timeout(ctx, "the rows of "+s.view)
	}
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	if !s.state.complete && s.state.err != nil {
		return s.state.err
	}
	return nil
}

// Close ends the subscription. The rows stay readable. Again: no effect.
func (s *Subscription) Close() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.state.over {
		return
	}
	s.end(problemf(CodeClosed, "the subscription to %s was closed", s.view), Ended)
	c.left(s)
}

// end marks the subscription as over. The caller holds client.mu.
func (s *Subscription) end(why error, state FreshnessState) {
	st := &s.state
	if st.over {
		return
	}
	st.over, st.err, st.pages = true, why, nil
	st.fresh = Freshness{State: state}
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
	s.tell(s.lastEvent())
	s.client.changed()
}

func (s *Subscription) lastEvent() Event {
	e := s.event(Closed)
	if s.state.fresh.State == Refused {
		e.Err = s.state.err
	}
	return e
}

func (s *Subscription) event(kind EventKind) Event {
	return Event{Kind: kind, Position: s.state.position, Freshness: s.state.fresh}
}

func (s *Subscription) tell(e Event) {
	for st := range s.state.streams {
		st.put(e)
	}
}

// request returns what asks for these rows; resume is the connection's cursor, empty for none.
func (s *Subscription) request(resume string) subscribeFrame {
	q, st := &s.query, &s.state
	out := subscribeFrame{ID: s.id, View: s.view, Filter: q.Filter, Select: strings.Join(q.Select, ","), Order: q.Order, Limit: q.Limit, Offset: q.Offset}
	switch {
	case !st.complete || st.position == "":
		out.From = json.RawMessage("null")
	case st.position != resume:
		out.From = wire.AppendString(nil, st.position)
	}
	return out
}

// page takes a page of a snapshot. It reports whether that was the last one.
func (s *Subscription) page(position string, key []string, rows []byte, more bool) bool {
	st := &s.state
	p := st.pages
	if p == nil || p.position != position {
		next := &pages{position: position, key: key, rows: map[string]*entry{}}
		if p != nil {
			next.later = p.later
		}
		p = next
		st.pages = p
	}
	elements(rows, func(row []byte) { put(p.rows, bytes.Clone(row), p.key) })
	if more {
		return false
	}
	st.pages = nil
	s.setKey(p.key)
	kind := Snapshot
	if st.gap {
		kind = Gap
	}
	e := Event{Kind: kind, Position: p.position, Changes: s.replace(p.rows)}
	st.gap, st.complete, st.had, st.behind, st.position = false, true, true, false, p.position
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
	e.Freshness = s.freshness(s.client.connected(), s.client.freshSince())
	s.sortChanges(e.Changes)
	s.tell(e)
	s.refreshOne() // after the rows that it is about
	for i := range p.later {
		s.apply(&p.later[i])
	}
	return true
}

// put stores a row under its key and returns the key and what was there.
func put(rows map[string]*entry, row Row, key []string) (id string, old *entry, x *entry) {
	var room [128]byte
	k := rowKey(room[:0], row, key)
	old = rows[string(k)]
	if old != nil {
		x = &entry{row: row, key: old.key}
		id = keyID(old.key)
		rows[id] = x
		return id, old, x
	}
	full := make([]byte, 0, len(k)+2)
	full = append(append(append(full, '['), k...), ']')
	x = &entry{row: row, key: full}
	id = keyID(full)
	rows[id] = x
	return id, nil, x
}

// keyID returns a key as text without the brackets.
func keyID(key Row) string { return string(key[1 : len(key)-1]) }

// replace puts next in place of the rows and returns what changed.
func (s *Subscription) replace(next map[string]*entry) []Change {
	st := &s.state
	var out []Change
	for id, old := range st.rows {
		if next[id] == nil {
			out = append(out, Change{Op: Delete, Key: old.key, Old: old.row, id: id})
		}
	}
	for id, x := range next {
		old := st.rows[id]
		switch {
		case old == nil:
			out = append(out, Change{Op: Insert, Key: x.key, Row: x.row, id: id})
		case !bytes.Equal(old.row, x.row):
			out = append(out, Change{Op: Update, Key: x.key, Row: x.row, Old: old.row, id: id})
		default:
			next[id] = old
		}
	}
	st.rows = next
	if len(out) > 0 {
		st.sorted = nil
	}
	return out
}

// apply applies the changes of one epoch, or keeps them until the snapshot that they follow is whole. It returns how many rows changed.
func (s *Subscription) apply(c *change) int {
	st := &s.state
	if st.pages != nil {
		if len(st.pages.later) < laterMost {
			kept := *c
			kept.put, kept.del = bytes.Clone(c.put), bytes.Clone(c.del)
			st.pages.later = append(st.pages.later, kept)
		} else {
			s.client.broken("more than 1,024 frames of changes came between the pages of a snapshot")
		}
		return 0
	}
	if !st.complete {
		return 0
	}
	var out []Change
	elements(c.del, func(values []byte) {
		id := string(delKey(nil, values))
		if old := st.rows[id]; old != nil {
			delete(st.rows, id)
			out = append(out, Change{Op: Delete, Key: old.key, Old: old.row, id: id})
		}
	})
	elements(c.put, func(row []byte) {
		id, old, x := put(st.rows, bytes.Clone(row), st.key)
		switch {
		case old == nil:
			out = append(out, Change{Op: Insert, Key: x.key, Row: x.row, id: id})
		case !bytes.Equal(old.row, row): // a repeat is no change
			out = append(out, Change{Op: Update, Key: x.key, Row: x.row, Old: old.row, id: id})
		}
	})
	st.position = c.position
	if len(out) > 0 {
		st.sorted = nil
		if len(st.streams) > 0 {
			s.tell(Event{Kind: Changed, Position: c.position, From: c.from, At: c.at, Changes: out, Freshness: st.fresh})
		}
	}
	return len(out)
}

func (s *Subscription) setKey(key []string) {
	st := &s.state
	if st.by != nil && slices.Equal(key, st.key) {
		return
	}
	st.key, st.by, st.sorted = key, terms(s.query.Order, key), nil
	for _, x := range st.rows {
		x.sort = nil
	}
}

// sortedRows returns the rows in order. The caller holds client.mu.
func (s *Subscription) sortedRows() []Row {
	st := &s.state
	if st.sorted != nil || len(st.rows) == 0 {
		return st.sorted
	}
	all := make([]*entry, 0, len(st.rows))
	for _, x := range st.rows {
		if x.sort == nil {
			x.sort = sortKey(x.row, st.by)
		}
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *entry) int {
		if s.query.Compare != nil {
			if c := s.query.Compare(a.row, b.row); c != 0 {
				return c
			}
		}
		return compareBy(st.by, a.sort, b.sort)
	})
	st.sorted = make([]Row, len(all))
	for i, x := range all {
		st.sorted[i] = x.row
	}
	return st.sorted
}

// sortChanges gives the changes of a snapshot an order that does not depend on a map's.
func (s *Subscription) sortChanges(changes []Change) {
	keys := make(map[string][]sortValue, len(changes))
	of := func(c *Change) []sortValue {
		if k, ok := keys[c.id]; ok {
			return k
		}
		row := c.Row
		if row == nil {
			row = c.Old
		}
		k := sortKey(row, s.state.by)
		keys[c.id] = k
		return k
	}
	slices.SortFunc(changes, func(a, b Change) int {
		if c := compareBy(s.state.by, of(&a), of(&b)); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
}
