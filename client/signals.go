package client

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// signalsMost bounds the rows of channels that one client has.
const signalsMost = 1000

// Signal is one row of a channel or of presence that this client has set. It is sent again after each reconnect, so that others see no change;
// not one that has ended meanwhile, by its ttl say, as far as a subscription of this client to the channel showed that.
type Signal struct {
	client *Client
	id     string
	table  string
	key    json.RawMessage
	value  json.RawMessage // nil: cleared
	err    error

	by   *Subscription // where the row shows; nil: nowhere so far
	sent bool          // and has not shown since
	gone bool          // it has ended at the server
}

// signals are the rows of channels that are this client's own, under client.mu.
type signals struct {
	instance   string // the same member of presence over reconnects
	connection string
	n          int
	own        map[string]*Signal // by frame id
}

type signalFrame struct {
	Type  string          `json:"type"`
	ID    string          `json:"id"`
	Table string          `json:"table"`
	Key   json.RawMessage `json:"key,omitempty"`
	Value json.RawMessage `json:"value"`
}

// Signal returns a row of a channel, or of presence: key has the channel's key columns and is nil where the connection is the key. Nothing is
// sent before [Signal.Set]. Rows of channels live in the server's memory alone, outside of the positions.
func (c *Client) Signal(channel string, key any) (*Signal, error) {
	s := &Signal{client: c, table: channel}
	if key != nil {
		text, err := json.Marshal(key)
		if err != nil || len(text) == 0 || text[0] != '{' {
			p := problemf("invalid_request", "the key of a signal must be an object of the key columns")
			p.Field = "key"
			return nil, p
		}
		s.key = text
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signals.n++
	s.id = "g" + strconv.Itoa(c.signals.n)
	return s, nil
}

// Set sets the row: value has the other columns. It returns at once; a refusal by the server shows in [Signal.Err]. While there is no
// connection the newest value waits for it.
func (s *Signal) Set(value any) error {
	text, err := json.Marshal(value)
	if err != nil || len(text) == 0 || text[0] != '{' {
		p := problemf("invalid_request", "the value of a signal must be an object of columns")
		p.Field = "value"
		return p
	}
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state.Name == StateClosed:
		return problemf(CodeClosed, "the client is closed")
	case c.signals.full(s.id):
		return problemf("too_many", "a client has at most %d rows of channels: clear some", signalsMost)
	case c.streaming:
		p := problemf("not_supported", "signals need a WebSocket: the transport is event streams")
		p.Hint = "POST /v1/tables/{channel} sets rows without a connection"
		return p
	}
	if c.signals.own == nil {
		c.signals.own = map[string]*Signal{}
	}
	s.value, s.err, s.gone = bytes.Clone(text), nil, false
	c.signals.own[s.id] = s
	s.send()
	return nil
}

// Clear ends the row. Not set: no effect.
func (s *Signal) Clear() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.value == nil {
		return
	}
	s.value = nil
	delete(c.signals.own, s.id)
	s.send()
}

// Err returns why the server refused the last value that it was sent: a *[Problem], or nil. A refused row is not sent again.
func (s *Signal) Err() error {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.err
}

func (s *Signal) send() {
	if w := s.client.session; w != nil && w.open {
		value := s.value
		if value == nil {
			value = json.RawMessage("null")
		}
		w.send(signalFrame{"signal", s.id, s.table, s.key, value})
		s.sent = true
	}
}

// full reports whether there is no room for one more row. Rows that have ended at the server make room.
func (g *signals) full(id string) bool {
	if g.own[id] != nil || len(g.own) < signalsMost {
		return false
	}
	maps.DeleteFunc(g.own, func(_ string, x *Signal) bool { return x.gone })
	return len(g.own) >= signalsMost
}

// heard notes what a subscription is told of this client's own rows: one that has ended, by its ttl or by somebody else, is not set again at a
// reconnect. Rows whose key is the connection, as those of presence, are kept up. key is the key columns.
func (g *signals) heard(s *Subscription, key []string, f *received) {
	if len(g.own) == 0 || len(key) == 0 || !s.query.byKey(key) {
		return
	}
	var own map[string]*Signal
	for _, x := range g.own {
		if x.table == s.view && x.key != nil {
			if own == nil {
				own = map[string]*Signal{}
			}
			own[string(rowKey(nil, x.key, key))] = x
		}
	}
	if own == nil {
		return
	}
	of := func(id []byte) *Signal { // only one subscription tells of a row: another one may be behind it
		x := own[string(id)]
		if x == nil || x.by != nil && x.by != s && !x.by.state.over {
			return nil
		}
		x.by = s
		return x
	}
	elements(f.del, func(values []byte) {
		if x := of(delKey(nil, values)); x != nil {
			x.gone = true
		}
	})
	elements(f.put, func(row []byte) {
		if x := of(rowKey(nil, row, key)); x != nil && x.sent { // the end that was told before was that of an older value
			x.sent, x.gone = false, false
		}
	})
}

// byKey reports whether the query selects by key columns alone: then a row leaves its rows only by ending.
func (q *Query) byKey(key []string) bool {
	if q.Limit > 0 || q.Offset > 0 {
		return false
	}
	for part := range strings.SplitSeq(q.Filter, "&") {
		if name, _, _ := strings.Cut(part, "="); part != "" && !slices.Contains(key, name) {
			return false
		}
	}
	return true
}

// Connection returns what others see of this client in the column connection of presence; empty before the first welcome, and when the app
// has no channels.
func (c *Client) Connection() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signals.connection
}

// open makes the secret by which the server knows this client again.
func (g *signals) open() { g.instance = rand.Text() }

// again sends the rows of one channel, or of all when its name is empty, anew.
func (g *signals) again(s *session, channel string) {
	for _, x := range g.own {
		if s != nil && s.open && !x.gone && (channel == "" || x.table == channel) {
			s.send(signalFrame{"signal", x.id, x.table, x.key, x.value})
			x.sent = true
		}
	}
}

// refused handles an error frame; it reports whether the id is a signal's.
func (g *signals) refused(id string, p *Problem) bool {
	x := g.own[id]
	if x == nil {
		return len(id) > 1 && id[0] == 'g' // of one that was cleared meanwhile
	}
	x.err = p
	if !p.Retry {
		delete(g.own, id)
		x.value = nil
	}
	return true
}

// close clears all rows, so that others need not wait for their end.
func (g *signals) close(s *session) {
	for _, x := range g.own {
		if s != nil && s.open {
			s.send(signalFrame{"signal", x.id, x.table, x.key, json.RawMessage("null")})
		}
	}
	g.own = nil
}

// signal handles the rows of a channel.
func (s *session) signal(f *received, _ []byte) (done Applied, tell bool) {
	sub := s.c.subs[f.id]
	if sub == nil {
		return done, false
	}
	done.Rows, tell = sub.signal(f)
	done.Only = sub
	if tell {
		s.c.refresh()
	}
	return done, tell
}

// signal applies a frame of a channel. It reports whether the rows are complete.
func (s *Subscription) signal(f *received) (rows int, complete bool) {
	st := &s.state
	st.channel, st.position = true, ""
	switch {
	case isTrue(f.full):
		if st.complete && !st.behind { // the app has changed: the server may have forgotten ours
			s.client.signals.again(s.client.session, s.view)
		}
		st.count = nil
		st.pages = &pages{key: names(f.key), rows: map[string]*entry{}}
	case st.pages == nil && !st.complete:
		return 0, false
	}
	key := st.key
	if st.pages != nil {
		key = st.pages.key
	}
	s.client.signals.heard(s, key, f)
	if n, err := strconv.Atoi(string(f.count)); err == nil {
		st.count = &n
	}
	if st.pages == nil {
		n := s.apply(&change{put: f.put, del: f.del})
		if n == 0 && f.count != nil {
			s.tell(s.event(Changed))
		}
		return n, true
	}
	if !isTrue(f.full) { // rows may end between the pages
		elements(f.del, func(values []byte) { delete(st.pages.rows, string(delKey(nil, values))) })
	}
	if !s.page("", st.pages.key, f.put, isTrue(f.more)) {
		return 0, false
	}
	return len(st.rows), true
}

// Count returns how many rows a subscription has at the server, and whether they are listed here: presence that has grown too large for a
// list tells only their number.
func (s *Subscription) Count() (n int, listed bool) {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	if s.state.count != nil {
		return *s.state.count, false
	}
	return len(s.state.rows), true
}
