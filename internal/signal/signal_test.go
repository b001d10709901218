package signal

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/sql"
	"laaster/internal/wire"
)

const testApp = `
CREATE TABLE typing (
  room text CHECK (length(room) < 10),
  who  text NOT NULL DEFAULT auth_subject() CHECK (who = auth_subject()),
  line int  NOT NULL DEFAULT 0,
  note text,
  PRIMARY KEY (room, who)
) WITH (channel, ttl = '5 seconds');
CREATE TABLE cursors (x int NOT NULL, y int) WITH (channel);
CREATE TABLE marks (id int PRIMARY KEY, by text DEFAULT auth_subject(), CHECK (id > 0)) WITH (channel);
CREATE TABLE here (page text, name text) WITH (presence, ttl = '10 seconds', list_up_to = 4);
`

func channels(t testing.TB, src string) []*expr.Relation {
	t.Helper()
	p, diags := sql.Compile("app.sql", []byte(src), nil)
	if p == nil {
		t.Fatal(sql.Render(diags))
	}
	return p.Channels
}

// bench is a State with a clock that the test moves.
type bench struct {
	t testing.TB
	*State
	now time.Time
}

func newBench(t testing.TB, src string, opt Options) *bench {
	t.Helper()
	b := &bench{t, New(opt), time.Unix(1000, 0)}
	if err := b.Use(channels(t, src)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) join(name string) *Sender {
	return b.Join(b.now, Caller{Subject: name, Connection: "c-" + name}, name)
}

// set sends a signal and returns the problem as text.
func (b *bench) set(x *Sender, channel, key, value string) string {
	b.t.Helper()
	var k, v []byte
	if key != "" {
		k = []byte(key)
	}
	if value != "null" {
		v = []byte(value)
	}
	return told(x.Set(b.now, "anon", b.Channel(channel), "id", k, v))
}

func told(p *wire.Problem) string {
	if p == nil {
		return ""
	}
	s := fmt.Sprintf("%s: %s [%s]", p.Code, p.Detail, p.Field)
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// want fails unless the call was answered so.
func (b *bench) want(got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func (b *bench) pass(d time.Duration) Advanced {
	b.now = b.now.Add(d)
	return b.Advance(b.now)
}

func all(change.Row) bool { return true }

// text prints rows, a line each, ordered.
func text(ch *Channel, rows []change.Row) string {
	var lines []string
	for _, r := range rows {
		lines = append(lines, line(ch, r))
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func line(ch *Channel, row change.Row) string {
	var cells []string
	for i, c := range ch.rel.Columns {
		v := ch.rel.Layout.Get(row, i)
		if v.Null {
			cells = append(cells, "-")
			continue
		}
		cells = append(cells, string(expr.AppendText(nil, c.Type, v)))
	}
	return strings.Join(cells, " ")
}

func (b *bench) rows(channel, want string) {
	b.t.Helper()
	ch := b.Channel(channel)
	if got := text(ch, b.Rows(ch, all)); got != want {
		b.t.Errorf("%s: %s\nwant %s", channel, got, want)
	}
}

// follower is what a client has.
type follower struct {
	f    *Feed
	at   Cursor
	rows map[string]change.Row
	n    int // told in place of rows; -1: they are listed
	told int // batches
}

func (b *bench) follow(channel, canon string, match func(change.Row) bool) *follower {
	b.t.Helper()
	f, p := b.Follow(b.Channel(channel), canon, nil, match)
	if p != nil {
		b.t.Fatal(p)
	}
	return &follower{f: f, rows: map[string]change.Row{}, n: -1}
}

// read takes what there is, in pages of room bytes, and returns the first batch as text.
func (x *follower) read(room int) string {
	said := ""
	for x.f.Behind(x.at) {
		n := x.f.Next(x.at, room)
		x.at = n.Next
		if n.Empty() {
			continue
		}
		x.apply(&n)
		if said == "" {
			said = x.describe(&n)
		}
	}
	return said
}

func (x *follower) apply(n *Batch) {
	if x.told++; x.told == 1 && !n.Full {
		panic("the first batch is not full")
	}
	if n.Full {
		clear(x.rows)
		x.n = -1
	}
	if n.Count >= 0 {
		x.n = n.Count
	}
	for _, r := range n.Put {
		x.rows[x.key(r)] = r
	}
	for _, r := range n.Del {
		delete(x.rows, x.key(r))
	}
}

func (x *follower) key(r change.Row) string {
	var k []byte
	rel := x.f.ch.rel
	for _, c := range rel.Key {
		k = change.AppendKey(k, rel.Layout.Type(c), rel.Layout.Get(r, c), false, false)
	}
	return string(k)
}

func (x *follower) describe(n *Batch) string {
	s := ""
	if n.Full {
		s = "full "
	}
	if n.Count >= 0 {
		return s + fmt.Sprint("count ", n.Count)
	}
	s += "put {" + text(x.f.ch, n.Put) + "}"
	if len(n.Del) > 0 {
		s += " del {" + text(x.f.ch, n.Del) + "}"
	}
	if n.More {
		s += " more"
	}
	return s
}

func (x *follower) all() string {
	if x.n >= 0 {
		return fmt.Sprint("count ", x.n)
	}
	var rows []change.Row
	for _, r := range x.rows {
		rows = append(rows, r)
	}
	return text(x.f.ch, rows)
}

// TestRows: rows are checked, completed and replaced like those of tables.
func TestRows(t *testing.T) {
	b := newBench(t, testApp, Options{})
	ann, bob := b.join("ann"), b.join("bob")
	b.want(b.set(ann, "typing", `{"room":"a"}`, `{"line":3}`), "")
	b.want(b.set(bob, "typing", `{"room":"a"}`, `{"note":"x"}`), "")
	b.rows("typing", "a ann 3 -; a bob 0 x")
	b.want(b.set(ann, "typing", `{"who":"ann","room":"a"}`, `{"note":"y"}`), "") // replaces the whole row
	b.rows("typing", "a ann 0 y; a bob 0 x")
	b.want(b.set(ann, "typing", `{"room":"a"}`, `null`), "")
	b.want(b.set(ann, "typing", `{"room":"a"}`, `null`), "") // nothing is there
	b.rows("typing", "a bob 0 x")

	b.want(b.set(ann, "typing", `{"room":"a","who":"bob"}`, `{}`), `constraint: the row violates check typing_who_check [typing_who_check] (it must hold: who = auth_subject())`)
	b.want(b.set(ann, "typing", `{"room":"a","who":"bob"}`, `null`),
		`constraint: this row is somebody else's: the row violates check typing_who_check [typing_who_check] (it must hold: who = auth_subject())`)
	b.want(b.set(ann, "typing", `{"room":"0123456789"}`, `{}`), `constraint: the row violates check typing_room_check [typing_room_check] (it must hold: length(room) < 10)`)
	b.want(b.set(ann, "typing", "", `{}`), `invalid_row: room may not be null [room] (give a value)`)
	b.want(b.set(ann, "typing", `{"room":null}`, `{}`), `invalid_row: room may not be null [room] (give a value)`)
	b.want(b.set(ann, "typing", `{"room":"a"}`, `{"line":null}`), `invalid_row: line may not be null [line] (give a value)`)
	b.want(b.set(ann, "typing", `{"room":"a"}`, `{"line":"x"}`), `invalid_row: invalid input syntax for type integer: "x" [line] (line is integer)`)
	b.want(b.set(ann, "typing", `{"room":"a"}`, `{"room":"b"}`), `invalid_row: room is a column of the key [room] (it belongs into key)`)
	b.want(b.set(ann, "typing", `{"room":"a","line":1}`, `{}`), `invalid_row: line is no column of the key [line] (it belongs into value)`)
	b.want(b.set(ann, "typing", `{"room":"a"}`, `{"nope":1}`), `unknown_column: typing has no column nope [nope] (the columns of typing are room, who, line, note)`)
	b.want(b.set(ann, "typing", `{"room":"a"`, `{}`), `invalid_json: expected ',' or '}' at byte 11 []`)
	b.want(b.set(ann, "typing", `{"room":"a"}`, `{"note":"`+strings.Repeat("x", 5000)+`"}`),
		`too_large: the row takes 5021 bytes, the limit of a channel is 4096 [] (signals are for small things that change often: write what is larger to a table)`)
	b.want(b.set(ann, "cursors", `{"x":1}`, `{}`), `invalid_request: the connection is the key of cursors [key] (leave it out)`)
	b.want(b.set(ann, "cursors", "", `{"connection":"me"}`), `invalid_row: connection is filled in by the server [connection] (leave it out)`)
	b.want(b.set(ann, "cursors", "", `{"x":1}`), "")
	b.want(b.set(ann, "cursors", "", `{"x":2,"y":3}`), "")
	b.want(b.set(bob, "cursors", "", `{"x":9}`), "")
	b.rows("cursors", "2 3 c-ann; 9 - c-bob")
	b.want(b.set(bob, "cursors", "", `null`), "")
	b.rows("cursors", "2 3 c-ann")
	if st := b.Stats(); st.Rows != 2 || st.Senders != 2 || st.Channels != 4 || st.Bytes <= 0 {
		t.Errorf("%+v", st)
	}
}

// TestEnds: rows end by ttl, with their connection, by being cleared; presence outlives a short absence.
func TestEnds(t *testing.T) {
	b := newBench(t, testApp, Options{})
	ann, bob := b.join("ann"), b.join("bob")
	b.set(ann, "typing", `{"room":"a"}`, `{}`)
	b.set(bob, "typing", `{"room":"a"}`, `{}`)
	b.set(ann, "marks", `{"id":1}`, `{}`)
	b.set(bob, "marks", `{"id":2}`, `{}`)
	b.set(ann, "here", "", `{"page":"/"}`)
	b.set(bob, "here", "", `{"page":"/"}`)
	if a := b.pass(3 * time.Second); !a.Next.Equal(b.now.Add(2 * time.Second)) {
		t.Errorf("next at %v, it is %v", a.Next, b.now)
	}
	b.set(bob, "typing", `{"room":"a"}`, `{}`) // the same again
	b.pass(2 * time.Second)
	b.rows("typing", "a bob 0 -")
	b.pass(3 * time.Second)
	b.rows("typing", "")
	b.rows("marks", "1 ann; 2 bob")
	b.set(ann, "marks", `{"id":2}`, `{}`) // takes it over
	bob.Leave(b.now)
	bob.Leave(b.now)
	b.want(b.set(bob, "marks", `{"id":7}`, `{}`), "") // too late, and nobody hears
	b.rows("marks", "1 ann; 2 ann")
	since := "1970-01-01 00:16:40+00"
	b.rows("here", "/ - c-ann ann "+since+"; / - c-bob bob "+since)
	b.pass(9 * time.Second)
	again := b.join("bob") // back in time
	b.set(again, "here", "", `{"page":"/"}`)
	b.pass(time.Hour)
	b.rows("here", "/ - c-ann ann "+since+"; / - c-bob bob "+since)
	ann.Leave(b.now)
	b.rows("marks", "")
	b.pass(10*time.Second - time.Microsecond)
	b.rows("here", "/ - c-ann ann "+since+"; / - c-bob bob "+since)
	b.pass(time.Microsecond)
	b.rows("here", "/ - c-bob bob "+since)
	// The old connection of an instance ends after the new one has begun.
	third := b.join("bob")
	b.set(third, "here", "", `{"page":"/b"}`)
	again.Leave(b.now)
	b.pass(time.Hour)
	b.rows("here", "/b - c-bob bob "+since)
	b.set(third, "here", "", `null`)
	b.rows("here", "")
	third.Leave(b.now)
	if st := b.Stats(); st.Rows != 0 || st.Bytes != 0 || st.Senders != 0 {
		t.Errorf("left behind: %+v", st)
	}
}

// TestPost: rows without a connection end after the ttl.
func TestPost(t *testing.T) {
	b := newBench(t, testApp, Options{})
	ann, bob := &Caller{Subject: "ann", Connection: "c-ann"}, &Caller{Subject: "bob", Connection: "c-bob"}
	b.want(told(b.Post(b.now, ann, b.Channel("typing"), []byte(`{"room":"a","line":2}`))), "")
	b.want(told(b.Post(b.now, bob, b.Channel("typing"), []byte(`{"room":"b"}`))), "")
	b.want(told(b.Post(b.now, ann, b.Channel("here"), []byte(`{"page":"/"}`))), "")
	b.want(told(b.Post(b.now, ann, b.Channel("typing"), []byte(`{"room":"b","who":"bob"}`))),
		"constraint: the row violates check typing_who_check [typing_who_check] (it must hold: who = auth_subject())")
	b.want(told(b.Post(b.now, ann, b.Channel("typing"), []byte(`[1]`))), "invalid_json: expected an object at byte 0 []")
	b.pass(4 * time.Second)
	b.rows("typing", "a ann 2 -; b bob 0 -")
	n, p := b.Clear(b.now, ann, b.Channel("typing"), all)
	if n != 1 || p == nil || p.Code != wire.Constraint {
		t.Errorf("cleared %d: %v", n, p)
	}
	b.rows("typing", "b bob 0 -")
	if n, p := b.Clear(b.now, bob, b.Channel("here"), all); n != 0 || p == nil || p.Code != wire.Forbidden {
		t.Errorf("cleared %d: %v", n, p)
	}
	if n, p := b.Clear(b.now, ann, b.Channel("here"), all); n != 1 || p != nil {
		t.Errorf("cleared %d: %v", n, p)
	}
	b.pass(time.Second)
	b.rows("typing", "")
	// Beside a live connection a post changes the row, and not how long it lasts.
	x := b.join("ann")
	b.set(x, "here", "", `{"page":"/"}`)
	b.Post(b.now, ann, b.Channel("here"), []byte(`{"page":"/c"}`))
	b.pass(time.Hour)
	b.rows("here", "/c - c-ann ann 1970-01-01 00:16:45+00")
	x.Leave(b.now)
	b.pass(6 * time.Second)
	b.Post(b.now, ann, b.Channel("here"), []byte(`{"page":"/d"}`))
	b.pass(9 * time.Second)
	b.rows("here", "/d - c-ann ann 1970-01-01 00:16:45+00")
	b.pass(time.Second)
	b.rows("here", "")
}

// TestFeed: a follower gets the newest of each key once per step, and needs no more than a cursor.
func TestFeed(t *testing.T) {
	b := newBench(t, testApp, Options{})
	ann, bob := b.join("ann"), b.join("bob")
	b.set(ann, "typing", `{"room":"a"}`, `{}`)
	a := b.Channel("typing")
	inA := func(r change.Row) bool { return string(a.rel.Layout.Get(r, 0).B) == "a" }
	every, room := b.follow("typing", "all", all), b.follow("typing", "a", inA)
	b.want(every.read(1000), "full put {a ann 0 -}")
	b.want(room.read(1000), "full put {a ann 0 -}")
	if adv := b.pass(0); len(adv.Feeds) != 0 {
		t.Errorf("steps of %d feeds without a change", len(adv.Feeds))
	}
	b.set(bob, "typing", `{"room":"b"}`, `{}`)
	if adv := b.pass(0); len(adv.Feeds) != 1 || adv.Feeds[0] != every.f {
		t.Errorf("%d feeds made a step", len(adv.Feeds))
	}
	b.want(every.read(1000), "put {b bob 0 -}")
	b.want(room.read(1000), "")
	for i := range 10 { // within 20 ms
		b.set(bob, "typing", `{"room":"b"}`, fmt.Sprintf(`{"line":%d}`, i))
	}
	b.set(ann, "typing", `{"room":"a"}`, `null`)
	if adv := b.pass(0); len(adv.Feeds) != 1 || adv.Feeds[0] != room.f || !adv.Next.Equal(b.now.Add(20*time.Millisecond)) {
		t.Errorf("%d feeds, next at %v", len(adv.Feeds), adv.Next)
	}
	b.want(room.read(1000), "put {} del {a ann 0 -}")
	b.want(every.read(1000), "")
	b.pass(20 * time.Millisecond)
	b.want(every.read(1000), "put {b bob 9 -} del {a ann 0 -}")
	// A row that comes and goes between two steps is a key that the follower does not have.
	b.pass(time.Second)
	b.set(ann, "typing", `{"room":"c"}`, `{}`)
	b.set(ann, "typing", `{"room":"c"}`, `null`)
	b.pass(time.Second)
	b.want(every.read(1000), "put {} del {c ann 0 -}")
	b.Unfollow(every.f)
	b.Unfollow(room.f)
	if st := b.Stats(); st.Feeds != 0 {
		t.Errorf("%+v", st)
	}
}

// TestFarBehind: who missed more than is remembered gets the rows anew, in pages.
func TestFarBehind(t *testing.T) {
	b := newBench(t, testApp, Options{Rate: 1e6, Burst: 1e6})
	ann := b.join("ann")
	slow := b.follow("marks", "all", all)
	b.set(ann, "marks", `{"id":5000}`, `{}`)
	b.pass(time.Second)
	slow.read(1000)
	for i := range 1000 {
		b.set(ann, "marks", fmt.Sprintf(`{"id":%d}`, i+1), `{}`)
		b.set(ann, "marks", fmt.Sprintf(`{"id":%d}`, i+1), `null`)
	}
	if n := len(slow.f.entries); n > 2*mostGone {
		t.Errorf("%d keys are remembered of 1 row", n)
	}
	for i := range 10 {
		b.set(ann, "marks", fmt.Sprintf(`{"id":%d}`, i+1), `{}`)
	}
	b.pass(time.Second)
	first := slow.read(1)
	if !strings.HasPrefix(first, "full put {") || !strings.HasSuffix(first, " more") || slow.told != 1+11 || len(slow.rows) != 11 {
		t.Errorf("%s, %d batches, %d rows", first, slow.told, len(slow.rows))
	}
	b.want(slow.all(), text(b.Channel("marks"), b.Rows(b.Channel("marks"), all)))
}

// TestCounts: presence beyond list_up_to is a number, and a list again below half of it.
func TestCounts(t *testing.T) {
	b := newBench(t, testApp, Options{})
	var xs []*Sender
	come := func() {
		x := b.join(fmt.Sprint(len(xs)))
		xs = append(xs, x)
		b.set(x, "here", "", `{}`)
		b.pass(time.Second)
	}
	late := func() string { return b.follow("here", "all", all).read(1000) }
	x := b.follow("here", "all", all)
	x.read(1000)
	for range 4 {
		come()
		x.read(1000)
	}
	if x.n != -1 || len(x.rows) != 4 {
		t.Errorf("%s", x.all())
	}
	come()
	b.want(x.read(1000), "full count 5")
	b.want(late(), "full count 5")
	come()
	b.want(x.read(1000), "count 6")
	b.set(xs[0], "here", "", `{"page":"x"}`) // no other number
	b.pass(time.Second)
	b.want(x.read(1000), "")
	for i := range 4 {
		b.set(xs[i], "here", "", `null`)
		b.pass(time.Second)
		b.want(x.read(1000), fmt.Sprint("count ", 5-i))
	}
	b.want(late(), "full count 2")
	b.set(xs[4], "here", "", `null`)
	b.pass(time.Second)
	if got := x.read(1000); !strings.HasPrefix(got, "full put {- - c-5 5 ") {
		t.Errorf("%s", got)
	}
	come()
	if got := x.read(1000); !strings.HasPrefix(got, "put {") {
		t.Errorf("%s", got)
	}
}

// TestRate: beyond the rate the newest of each key waits, and beyond so many keys the sender is told.
func TestRate(t *testing.T) {
	b := newBench(t, testApp, Options{Rate: 10, Burst: 3, MaxHeld: 2})
	ann := b.join("ann")
	for i := range 3 {
		b.want(b.set(ann, "marks", fmt.Sprintf(`{"id":%d}`, i+1), `{}`), "")
	}
	b.want(b.set(ann, "marks", `{"id":4}`, `{"by":"old"}`), "")
	b.want(b.set(ann, "marks", `{"id":5}`, `{}`), "")
	b.want(b.set(ann, "marks", `{"id":4}`, `{"by":"new"}`), "")
	b.want(b.set(ann, "marks", `{"id":6}`, `{}`), "rate_limited: more signals than a connection may send [] (send each key less often)")
	b.rows("marks", "1 ann; 2 ann; 3 ann")
	if a := b.pass(0); !a.Next.Equal(b.now.Add(100 * time.Millisecond)) {
		t.Errorf("next at %v, it is %v", a.Next, b.now)
	}
	b.pass(100 * time.Millisecond)
	b.rows("marks", "1 ann; 2 ann; 3 ann; 4 new")
	b.want(b.set(ann, "marks", `{"id":4}`, `null`), "") // behind the one that waits
	b.rows("marks", "1 ann; 2 ann; 3 ann; 4 new")
	b.pass(200 * time.Millisecond)
	b.rows("marks", "1 ann; 2 ann; 3 ann; 5 ann")
	if st := b.Stats(); st.Held != 4 || st.Merged != 1 {
		t.Errorf("%+v", st)
	}
	b.pass(time.Hour)
	for i := range 3 {
		b.set(ann, "marks", `{"id":9}`, fmt.Sprintf(`{"by":"%d"}`, i))
	}
	b.rows("marks", "1 ann; 2 ann; 3 ann; 5 ann; 9 2")
	b.set(ann, "marks", `{"id":10}`, `{}`)
	ann.Leave(b.now) // what waits goes with it
	b.pass(time.Hour)
	b.rows("marks", "")
}

// TestBounds: at each limit there is a typed answer, and nothing else changes.
func TestBounds(t *testing.T) {
	b := newBench(t, testApp, Options{MaxRows: 2, MaxBytes: 4000, MaxFeeds: 1, Burst: 4, Rate: 1})
	ann := b.join("ann")
	b.set(ann, "marks", `{"id":1}`, `{}`)
	b.set(ann, "marks", `{"id":2}`, `{}`)
	b.want(b.set(ann, "marks", `{"id":3}`, `{}`), "busy: marks has as many rows as a channel may have: 2 []")
	b.want(b.set(ann, "marks", `{"id":2}`, `{"by":"x"}`), "")
	f := b.follow("marks", "all", all)
	if _, p := b.Follow(b.Channel("marks"), "other", nil, all); told(p) != "busy: as many different queries of channels as the server is set to serve []" {
		t.Error(told(p))
	}
	if _, p := b.Follow(b.Channel("marks"), "all", nil, all); p != nil {
		t.Error(p)
	}
	// What waits takes memory, too. A signal that waited meets a limit later: who sent it hears of it.
	b.want(b.set(ann, "typing", `{"room":"a"}`, `{"note":"`+strings.Repeat("x", 3000)+`"}`),
		"busy: the channels together take as much memory as they may: 4000 bytes []")
	b.want(b.set(ann, "marks", `{"id":3}`, `{}`), "")
	a := b.pass(time.Second)
	if len(a.Refused) != 1 || a.Refused[0].Sender != ann || a.Refused[0].ID != "id" ||
		told(a.Refused[0].Problem) != "busy: marks has as many rows as a channel may have: 2 []" {
		t.Errorf("%+v", a.Refused)
	}
	b.Unfollow(f.f)
	b.Unfollow(f.f)
	b.pass(time.Second)
	b.want(b.set(ann, "typing", `{"room":"a"}`, `{"note":"`+strings.Repeat("x", 2000)+`"}`), "")
	b.want(b.set(ann, "typing", `{"room":"a"}`, `null`), "")
}

// TestMemory: what feeds keep is bounded like rows. Keys that left them are forgotten first; beyond the limit nothing changes, but a row can be kept up.
func TestMemory(t *testing.T) {
	b := newBench(t, testApp, Options{MaxBytes: 100_000, Rate: 1e6, Burst: 1e6})
	ann, marks := b.join("ann"), b.Channel("marks")
	var xs []*follower
	for i := range 20 {
		xs = append(xs, b.follow("marks", fmt.Sprint(i), func(r change.Row) bool { return string(marks.rel.Layout.Get(r, 1).B) == fmt.Sprint(i) }))
	}
	for i := range 200 { // rows that pass through all feeds
		for id := range 50 {
			b.want(b.set(ann, "marks", fmt.Sprintf(`{"id":%d}`, id+1), fmt.Sprintf(`{"by":"%d"}`, i%20)), "")
		}
		if n := b.Stats().Bytes; n > 101_000 {
			t.Fatalf("%d bytes of 100,000", n)
		}
		b.pass(time.Second)
		x := xs[i%7]
		x.read(1000)
		if i%20 == i%7 && len(x.rows) != 50 || i%20 != i%7 && len(x.rows) != 0 {
			t.Fatalf("%d: a follower has %d rows", i, len(x.rows))
		}
	}
	for _, x := range xs { // nothing can be let go of
		for x.f.gone > 1 {
			x.f.forget()
		}
	}
	b.opt.MaxBytes = b.Stats().Bytes - 1
	const busy = "busy: the channels together"
	if got := b.set(ann, "marks", `{"id":1}`, `{"by":""}`); !strings.HasPrefix(got, busy) {
		t.Errorf("a smaller row: %s", got)
	}
	if _, p := b.Follow(marks, "more", nil, all); !strings.HasPrefix(told(p), busy) {
		t.Error(told(p))
	}
	b.want(b.set(ann, "marks", `{"id":1}`, `{"by":"19"}`), "")
	b.want(b.set(ann, "marks", `{"id":1}`, `null`), "")
	for _, x := range xs {
		b.Unfollow(x.f)
	}
	ann.Leave(b.now)
	if st := b.Stats(); st.Bytes != 0 || b.mu.left != 0 {
		t.Errorf("left behind: %+v, %d", st, b.mu.left)
	}
}

// TestHeldBytes: what waits for one sender is bounded by its size, too, and counted.
func TestHeldBytes(t *testing.T) {
	b := newBench(t, testApp, Options{Rate: 1, Burst: 1, MaxRowBytes: 1000})
	ann := b.join("ann")
	set := func(room int) string {
		return b.set(ann, "typing", fmt.Sprintf(`{"room":"%d"}`, room), `{"note":"`+strings.Repeat("x", 900)+`"}`)
	}
	for i := range 5 { // one takes effect
		b.want(set(i), "")
	}
	b.want(set(4), "") // in place of the older one
	b.want(set(5), "rate_limited: more signals than a connection may send [] (send each key less often)")
	if st := b.Stats(); st.Bytes < 5*900 || st.Held != 5 || st.Merged != 1 {
		t.Errorf("%+v", st)
	}
	b.pass(time.Second)
	b.want(set(5), "")
	ann.Leave(b.now)
	if st := b.Stats(); st.Bytes != 0 || ann.waits != 0 {
		t.Errorf("left behind: %+v, %d", st, ann.waits)
	}
}

// TestOwned: nobody fills a channel alone.
func TestOwned(t *testing.T) {
	b := newBench(t, testApp, Options{MaxOwned: 2})
	ann, bob := b.join("ann"), b.join("bob")
	const many = "too_many: one sender has at most 2 rows of channels [] (clear some that are there)"
	mark := func(x *Sender, id int, value string) string {
		return b.set(x, "marks", fmt.Sprintf(`{"id":%d}`, id), value)
	}
	b.want(mark(ann, 1, `{}`), "")
	b.want(mark(ann, 2, `{}`), "")
	b.want(mark(ann, 3, `{}`), many)
	b.want(mark(ann, 2, `{"by":"x"}`), "")
	b.want(mark(bob, 3, `{}`), "")
	b.want(mark(ann, 3, `{}`), many) // to take it over
	b.want(mark(ann, 1, `null`), "")
	b.want(mark(ann, 3, `{}`), "")
	typing := b.Channel("typing")
	here, there := &Caller{Subject: "ann", From: netip.MustParseAddr("10.0.0.1")}, &Caller{Subject: "ann", From: netip.MustParseAddr("10.0.0.2")}
	post := func(who *Caller, room string) string {
		return told(b.Post(b.now, who, typing, []byte(`{"room":"`+room+`"}`)))
	}
	b.want(post(here, "a"), "")
	b.want(post(here, "b"), "")
	b.want(post(here, "b"), "")
	b.want(post(here, "c"), many)
	b.want(post(there, "b"), "") // is no longer the other's
	b.want(post(here, "c"), "")
	b.want(post(here, "d"), many)
	b.want(b.set(bob, "here", "", `{}`), "")
	b.want(told(b.Post(b.now, &Caller{Subject: "bob", Connection: "c-bob"}, b.Channel("here"), []byte(`{}`))), "") // stays the connection's
	b.pass(5 * time.Second)
	b.want(post(here, "d"), "")
	if len(b.mu.posted) != 1 {
		t.Errorf("%v", b.mu.posted)
	}
	b.pass(5 * time.Second)
	if len(b.mu.posted) != 0 {
		t.Errorf("%v", b.mu.posted)
	}
}

// TestUse: what is declared as before keeps its rows, everything else begins anew.
func TestUse(t *testing.T) {
	b := newBench(t, testApp, Options{})
	ann := b.join("ann")
	b.set(ann, "marks", `{"id":1}`, `{}`)
	b.set(ann, "cursors", "", `{"x":1}`)
	b.set(ann, "typing", `{"room":"a"}`, `{}`)
	marks, typing := b.follow("marks", "all", all), b.follow("typing", "all", all)
	old := b.Channel("typing")
	next := strings.Replace(testApp, "'5 seconds'", "'6 seconds'", 1)
	next = strings.Replace(next, "CREATE TABLE cursors (x int NOT NULL, y int) WITH (channel);", "CREATE TABLE fresh (id int PRIMARY KEY) WITH (channel);", 1)
	if err := b.Use(channels(t, next)); err != nil {
		t.Fatal(err)
	}
	b.rows("marks", "1 ann")
	b.rows("typing", "")
	if b.Channel("cursors") != nil || b.Channel("fresh") == nil || !b.Current(marks.f.Channel()) || b.Current(typing.f.Channel()) {
		t.Error("the wrong channels")
	}
	b.want(told(ann.Set(b.now, "anon", old, "", []byte(`{"room":"a"}`), []byte(`{}`))), "unknown_table: there is no table typing [table]")
	for _, canon := range []string{"x", "all"} { // that somebody still follows
		if _, p := b.Follow(old, canon, nil, all); p == nil {
			t.Error("a channel that is gone can be followed")
		}
	}
	b.Unfollow(typing.f)
	b.Unfollow(marks.f)
	ann.Leave(b.now)
	if st := b.Stats(); st.Rows != 0 || st.Bytes != 0 || st.Feeds != 0 || st.Evicted != 2 {
		t.Errorf("%+v", st)
	}
}

// FuzzSet sends anything as key and value: it is refused with a problem or is there afterwards, and what is there can be cleared.
func FuzzSet(f *testing.F) {
	for _, seed := range [][2]string{{`{"room":"a"}`, `{"line":1,"note":"x"}`}, {`{"room":"a","who":"ann"}`, `null`}, {``, `{}`}, {`{"room":"\u0000"}`, `{"line":1e400}`},
		{`{"room":"a","room":"b"}`, `{"note":"\ud800"}`}, {"{\"room\":\"\xff\"}", `{"line":null}`}, {`[]`, `3`}, {`{"room":{"a":1}}`, `{"note":[[[[]]]]}`}} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	rels := channels(f, testApp)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		b := &bench{t, New(Options{}), time.Unix(1000, 0)}
		if err := b.Use(rels); err != nil {
			t.Fatal(err)
		}
		x := b.join("ann")
		for _, name := range []string{"typing", "cursors", "marks", "here"} {
			ch := b.Channel(name)
			k := key
			if !ch.Keyed() {
				k = nil
			}
			p := x.Set(b.now, "anon", ch, "id", k, value)
			if p != nil && (p.Code == wire.Internal || p.Status == 0) {
				t.Fatalf("%s: %+v", name, p)
			}
			rows := b.Rows(ch, all)
			if (p == nil && value != nil) != (len(rows) == 1) {
				t.Fatalf("%s: %d rows after %v", name, len(rows), p)
			}
			if p != nil || value == nil {
				continue
			}
			if err := ch.rel.Layout.Valid(rows[0]); err != nil {
				t.Fatal(err)
			}
			if p := x.Set(b.now, "anon", ch, "id", k, nil); p != nil || len(b.Rows(ch, all)) != 0 {
				t.Fatalf("%s: the row cannot be cleared: %v", name, p)
			}
		}
		x.Leave(b.now)
		if st := b.Stats(); st.Rows != 0 || st.Bytes != 0 {
			t.Fatalf("%+v", st)
		}
	})
}
