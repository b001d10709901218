package signal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"laaster/internal/change"
)

// seeds returns how many histories to run: LAASTER_SEEDS, else a few.
func seeds(t *testing.T, few int) int {
	if n, err := strconv.Atoi(os.Getenv("LAASTER_SEEDS")); err == nil {
		return n
	}
	return few
}

// model is the rows as a simple program would keep them: maps that are searched.
type model struct {
	rows map[string]*modelRow // by channel and key
}

type modelRow struct {
	channel, text string
	room          string // of typing
	owner         *Sender
	until         time.Time // zero: for ever
}

func (m *model) expire(now time.Time) {
	maps.DeleteFunc(m.rows, func(_ string, r *modelRow) bool { return !r.until.IsZero() && !r.until.After(now) })
}

func (m *model) leave(x *Sender, now time.Time) {
	for k, r := range m.rows {
		switch {
		case r.owner != x:
		case r.channel == "here":
			r.owner, r.until = nil, now.Add(10*time.Second)
		default:
			delete(m.rows, k)
		}
	}
}

// text is what a follower of a channel should have.
func (m *model) text(channel, room string, only bool) string {
	var lines []string
	for _, r := range m.rows {
		if r.channel == channel && (!only || r.room == room) {
			lines = append(lines, r.text)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

const modelApp = `
CREATE TABLE typing (room text, who text, line int, PRIMARY KEY (room, who)) WITH (channel, ttl = '5 seconds');
CREATE TABLE marks (id int PRIMARY KEY, room text) WITH (channel);
CREATE TABLE here (page text) WITH (presence, ttl = '10 seconds', list_up_to = 6);
`

// TestModel runs random histories against the model: who sets, clears, leaves and comes back, time that passes, and followers with filters that
// read pages of any size at any time. Whenever everything is shown, every follower that has read to the end has the rows of the model.
func TestModel(t *testing.T) {
	for seed := range seeds(t, 60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { history(t, uint64(seed)) })
		if t.Failed() {
			return
		}
	}
}

type watch struct {
	*follower
	channel, room string
	only          bool
}

func history(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	b := newBench(t, modelApp, Options{Rate: 1e6, Burst: 1e6})
	m := &model{rows: map[string]*modelRow{}}
	senders := map[string]*Sender{}
	born := map[string]time.Time{}
	var watches []*watch
	keys := 3 + rnd.IntN(200) // few keys: many changes of one; many: tombstones are forgotten
	who := func() (string, *Sender) {
		name := fmt.Sprint("p", rnd.IntN(12))
		if senders[name] == nil {
			senders[name] = b.join(name)
		}
		return name, senders[name]
	}
	room := func() string { return string(rune('a' + rnd.IntN(3))) }
	send := func() {
		name, x := who()
		clear := rnd.IntN(4) == 0
		value := func(v string) string {
			if clear {
				return "null"
			}
			return v
		}
		var id, channel, key, val string
		r := &modelRow{owner: x}
		switch channel = []string{"typing", "marks", "here"}[rnd.IntN(3)]; channel {
		case "typing":
			k, n := fmt.Sprint("k", rnd.IntN(keys)), rnd.IntN(3)
			r.room = room()
			id = channel + r.room + k
			key, val = fmt.Sprintf(`{"room":"%s","who":"%s"}`, r.room, k), value(fmt.Sprintf(`{"line":%d}`, n))
			r.text, r.until = fmt.Sprintf("%s %s %d", r.room, k, n), b.now.Add(5*time.Second)
		case "marks":
			n := rnd.IntN(keys)
			r.room = room()
			id, key, val = fmt.Sprint(channel, n), fmt.Sprintf(`{"id":%d}`, n), value(fmt.Sprintf(`{"room":"%s"}`, r.room))
			r.text = fmt.Sprintf("%d %s", n, r.room)
		case "here":
			page := room()
			id, val = channel+name, value(fmt.Sprintf(`{"page":"%s"}`, page))
			if m.rows[id] == nil {
				born[name] = b.now
			}
			r.text = fmt.Sprintf("%s c-%s %s %s", page, name, name, born[name].UTC().Format("2006-01-02 15:04:05.999999-07"))
			r.room = page
		}
		r.channel = channel
		if got := b.set(x, channel, key, val); got != "" {
			t.Fatalf("%s %s %s: %s", channel, key, val, got)
		}
		if clear {
			delete(m.rows, id)
		} else {
			m.rows[id] = r
		}
	}
	follow := func() {
		w := &watch{channel: []string{"typing", "marks", "here"}[rnd.IntN(3)], room: room(), only: rnd.IntN(2) == 0}
		ch := b.Channel(w.channel)
		col := ch.columns["room"]
		if w.channel == "here" {
			col = ch.columns["page"]
		}
		match, canon := all, "all"
		var equal *Equal
		if w.only {
			canon = w.room
			match = func(r change.Row) bool { return string(ch.rel.Layout.Get(r, col).B) == w.room }
			if rnd.IntN(4) > 0 {
				canon += " indexed"
				equal = &Equal{col, string(change.AppendKey(nil, ch.rel.Columns[col].Type, change.Bytes([]byte(w.room)), false, false))}
			}
		}
		f, p := b.Follow(ch, canon, equal, match)
		if p != nil {
			t.Fatal(p)
		}
		w.follower = &follower{f: f, rows: map[string]change.Row{}, n: -1}
		watches = append(watches, w)
	}
	read := func(w *watch) {
		for range rnd.IntN(4) { // some pages, perhaps not all
			if !w.f.Behind(w.at) {
				return
			}
			n := w.f.Next(w.at, 1+rnd.IntN(200))
			w.at = n.Next
			w.apply(&n)
		}
	}
	compare := func() {
		b.pass(0)
		b.pass(time.Second) // whatever is due
		m.expire(b.now)
		b.pass(time.Second)
		m.expire(b.now)
		b.pass(0)
		for _, ch := range []string{"typing", "marks", "here"} {
			b.rows(ch, m.text(ch, "", false))
		}
		for _, w := range watches {
			w.read(1 + rnd.IntN(500))
			want := m.text(w.channel, w.room, w.only)
			if w.n >= 0 {
				want = fmt.Sprint("count ", len(strings.Split(want, "; ")))
				if m.text(w.channel, w.room, w.only) == "" {
					want = "count 0"
				}
			}
			if got := w.all(); got != want {
				t.Fatalf("seed %d: a follower of %s %q has %s\nwant %s", seed, w.channel, w.f.canon, got, want)
			}
		}
	}
	for range 600 {
		switch n := rnd.IntN(100); {
		case n < 60:
			send()
		case n < 64:
			if name, x := who(); rnd.IntN(2) == 0 {
				x.Leave(b.now)
				m.leave(x, b.now)
				delete(senders, name)
			}
		case n < 74:
			b.pass(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			m.expire(b.now)
		case n < 75: // as when memory is short
			for _, w := range watches {
				w.f.forget()
			}
		case n < 78:
			follow()
		case n < 80 && len(watches) > 0:
			i := rnd.IntN(len(watches))
			b.Unfollow(watches[i].f)
			watches = slices.Delete(watches, i, i+1)
		case n < 97 && len(watches) > 0:
			read(watches[rnd.IntN(len(watches))])
		case n >= 97:
			compare()
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	compare()
	for _, w := range watches {
		b.Unfollow(w.f)
	}
	for _, x := range senders {
		x.Leave(b.now)
	}
	b.pass(time.Hour)
	if st := b.Stats(); st.Rows != 0 || st.Bytes != 0 || st.Feeds != 0 || st.Senders != 0 {
		t.Fatalf("seed %d: left behind %+v", seed, st)
	}
}
