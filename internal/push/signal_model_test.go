package push

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/signal"
)

// listener is a client of TestSignalsModel: what it has of each of its subscriptions.
type listener struct {
	*talking
	subs map[string]*listened
	n    int // of the last subscription
}

type listened struct {
	view, filter string
	key          []string
	rows         map[string]string // by key, as JSON
	full, ended  bool
}

func (b *bench) listener() *listener {
	l := &listener{talking: &talking{t: b.t, m: newMemConn()}, subs: map[string]*listened{}}
	if p := b.hub.ServeConn(l.m, auth.Anonymous()); p != nil {
		b.t.Fatal(p)
	}
	l.send(`{"type":"hello","subscribe":[{"id":"0","view":"done"}]}`)
	l.subs["0"] = &listened{view: "done", rows: map[string]string{}}
	return l
}

func (l *listener) subscribe(view, filter string) {
	l.n++
	id := fmt.Sprint(l.n)
	l.subs[id] = &listened{view: view, filter: filter, rows: map[string]string{}}
	l.send(fmt.Sprintf(`{"type":"subscribe","id":"%s","view":"%s","filter":"%s"}`, id, view, filter))
}

// take applies one frame.
func (l *listener) take(frame string) {
	l.t.Helper()
	var f struct {
		Type, ID string
		Full     bool
		Key      []string
		Put      []map[string]any
		Del      [][]any
		Error    struct{ Code string }
	}
	if err := json.Unmarshal([]byte(frame), &f); err != nil {
		l.t.Fatal(err)
	}
	s := l.subs[f.ID]
	switch {
	case f.Type == "error" && s != nil:
		s.ended = true
	case f.Type == "error" && f.ID == "":
		l.t.Fatal(frame)
	case f.Type != "signals" || s == nil: // unsubscribed meanwhile
		return
	}
	if f.Full {
		s.full, s.key = true, f.Key
		clear(s.rows)
	}
	if f.Type == "signals" && (!s.full || s.ended) {
		l.t.Fatalf("out of turn: %s", frame)
	}
	name := func(k []any) string {
		text, _ := json.Marshal(k)
		return string(text)
	}
	for _, r := range f.Put {
		var k []any
		for _, c := range s.key {
			k = append(k, r[c])
		}
		text, _ := json.Marshal(r)
		s.rows[name(k)] = string(text)
	}
	for _, k := range f.Del {
		delete(s.rows, name(k))
	}
}

const (
	signalModelApp = `
CREATE TABLE done (n int PRIMARY KEY) WITH (channel);
CREATE TABLE typing (room text, who text, line int, PRIMARY KEY (room, who)) WITH (channel);
CREATE TABLE marks (id int PRIMARY KEY, room text) WITH (channel);
CREATE TABLE here (room text) WITH (presence, ttl = '1 hour', list_up_to = 1000);
`
	signalModelOther = `
CREATE TABLE done (n int PRIMARY KEY) WITH (channel);
CREATE TABLE typing (room text, who text, line int, PRIMARY KEY (room, who)) WITH (channel);
CREATE TABLE marks (id int PRIMARY KEY, room text, more int) WITH (channel);
`
)

// TestSignalsModel: clients that come, go, stop reading, subscribe with filters and end subscriptions, while others send and the app changes. When all is
// said, each has in each subscription exactly what the server has.
func TestSignalsModel(t *testing.T) {
	seeds := 15
	if n, err := strconv.Atoi(os.Getenv("LAASTER_SEEDS")); err == nil {
		seeds = n
	}
	for seed := range seeds {
		signalHistory(t, uint64(seed))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func signalHistory(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 11))
	opt := signalOptions(t, Options{PageBytes: 100 + rnd.IntN(2000), Signals: signal.Options{Rate: 1e6, Burst: 1e6}})
	opt.Channels = channelsOf(t, signalModelApp)
	b := newBench(t, opt, 1<<20)
	clients := []*listener{b.listener(), b.listener(), b.listener()}
	room := func() string { return string(rune('a' + rnd.IntN(3))) }
	other := false
	for range 400 {
		l := clients[rnd.IntN(len(clients))]
		switch n := rnd.IntN(100); {
		case n < 70:
			value := func(text string) string {
				if rnd.IntN(4) == 0 {
					return "null"
				}
				return text
			}
			switch rnd.IntN(3) {
			case 0:
				l.send(fmt.Sprintf(`{"type":"signal","id":"s","table":"typing","key":{"room":"%s","who":"%d"},"value":%s}`, room(), rnd.IntN(60),
					value(fmt.Sprintf(`{"line":%d}`, rnd.IntN(9)))))
			case 1:
				l.send(fmt.Sprintf(`{"type":"signal","id":"s","table":"marks","key":{"id":%d},"value":%s}`, rnd.IntN(60), value(`{"room":"`+room()+`"}`)))
			case 2:
				l.send(fmt.Sprintf(`{"type":"signal","id":"s","table":"here","value":%s}`, value(`{"room":"`+room()+`"}`)))
			}
		case n < 80:
			filter := ""
			if rnd.IntN(3) > 0 {
				filter = "room=eq." + room()
			}
			l.subscribe([]string{"typing", "marks", "here"}[rnd.IntN(3)], filter)
		case n < 84:
			for _, id := range slices.Sorted(maps.Keys(l.subs)) {
				if id != "0" && rnd.IntN(2) == 0 {
					delete(l.subs, id)
					l.send(fmt.Sprintf(`{"type":"unsubscribe","id":"%s"}`, id))
				}
			}
		case n < 88:
			l.m.limit(rnd.IntN(2000))
		case n < 93:
			l.m.limit(-1)
		case n < 96 && len(clients) < 6:
			clients = append(clients, b.listener())
		case n < 98 && len(clients) > 1:
			i := slices.Index(clients, l)
			l.m.limit(-1)
			l.m.hangUp()
			clients = slices.Delete(clients, i, i+1)
		case n == 99:
			other = !other
			rels := channelsOf(t, map[bool]string{false: signalModelApp, true: signalModelOther}[other])
			if err := b.hub.UseChannels(rels); err != nil {
				t.Fatal(err)
			}
			b.hub.Redefine(b.store.Relations(), rulesFunc(authorize))
			b.hub.Settle()
		}
	}
	for _, l := range clients {
		l.m.limit(-1)
		l.m.awaitIdle()
	}
	for b.hub.Connections() > len(clients) { // who left takes its rows along
		b.quiet()
	}
	last := b.talker("")
	last.send(`{"type":"signal","id":"s","table":"done","key":{"n":7},"value":{}}`)
	for i, l := range clients {
		for len(l.subs["0"].rows) == 0 {
			l.take(l.next())
		}
		b.quiet(l.m)
		l.send(`{"type":"ping","t":7}`)
		for f := l.next(); !strings.HasPrefix(f, `{"type":"pong"`); f = l.next() {
			l.take(f)
		}
		for id, s := range l.subs {
			compareListened(t, b, fmt.Sprintf("seed %d, client %d, %s", seed, i, id), s)
		}
	}
}

// compareListened holds what a client has of a subscription against the state.
func compareListened(t *testing.T, b *bench, who string, s *listened) {
	t.Helper()
	ch := b.hub.signals.state.Channel(s.view)
	if ch == nil || s.ended {
		if !s.ended {
			t.Errorf("%s: %s is gone, and nobody said so", who, s.view)
		}
		return // a subscription that ended stays so when the channel comes back
	}
	q, p := newQuery(sight{rel: ch.Relation()}, s.filter, false, true)
	if p != nil {
		t.Fatal(p)
	}
	r := reader{query: q}
	want := map[string]bool{}
	for _, row := range b.hub.signals.state.Rows(ch, func(row change.Row) bool { return r.match(row) }) {
		var cells map[string]any
		if err := json.Unmarshal(q.appendRow(nil, row), &cells); err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(cells)
		want[string(text)] = true
	}
	have := map[string]bool{}
	for _, text := range s.rows {
		have[text] = true
	}
	if !maps.Equal(have, want) {
		t.Errorf("%s: %s %s has\n%v\nwant\n%v", who, s.view, s.filter, slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
	}
}
