package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"laaster/app"
	"laaster/client"
	"laaster/internal/kit/run"
)

// person is a row of the model.
type person struct {
	Name string  `json:"name"`
	Age  *int    `json:"age"`
	Note *string `json:"note"`
}

// history is what the rows of people were after each write.
type history struct {
	mu   sync.Mutex
	at   []uint64
	rows []map[string]person
}

func (h *history) note(pos uint64, rows map[string]person) {
	h.mu.Lock()
	h.at, h.rows = append(h.at, pos), append(h.rows, rows)
	h.mu.Unlock()
}

// when returns the rows as of a position.
func (h *history) when(pos uint64) map[string]person {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, found := slices.BinarySearch(h.at, pos)
	if !found {
		i--
	}
	if i < 0 {
		return nil
	}
	return h.rows[i]
}

func seqOf(position string) uint64 {
	n, _ := strconv.ParseUint(position[strings.LastIndexByte(position, '-')+1:], 10, 64)
	return n
}

// question is a subscription and the same in the model.
type question struct {
	query client.Query
	match func(p person) bool
	text  func(p person) string
}

func questions() []question {
	all := func(p person) string {
		b, _ := json.Marshal(p)
		return string(b)
	}
	return []question{
		{client.Query{}, func(person) bool { return true }, all},
		{client.Query{Filter: "age=gt.50"}, func(p person) bool { return p.Age != nil && *p.Age > 50 }, all},
		{client.Query{Filter: "note=is.null", Order: "age.desc.nullslast"}, func(p person) bool { return p.Note == nil }, all},
		{client.Query{Filter: client.Where("name", `in.(p1,p2,"p \"3")`), Select: []string{"age"}},
			func(p person) bool { return p.Name == "p1" || p.Name == "p2" || p.Name == `p "3` },
			func(p person) string {
				b, _ := json.Marshal(struct {
					Age  *int   `json:"age"`
					Name string `json:"name"`
				}{p.Age, p.Name})
				return string(b)
			}},
	}
}

// canonical makes rows comparable whatever the order of their columns.
func canonical(t testing.TB, text string) string {
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// seen is what a client showed at a position.
type seen struct {
	q    int
	pos  uint64
	rows []string
	who  string
}

// TestModel: clients with cuts, slow frames and coming and going subscriptions show at each position that they are told the rows of that
// position, arrive at the last one, and every write has one effect.
func TestModel(t *testing.T) {
	seeds := 3
	if n, err := strconv.Atoi(os.Getenv("LAASTER_SEEDS")); err == nil {
		seeds = n
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { playModel(t, seed) })
	}
}

func playModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	n, _ := serve(t, appSQL, func(s *app.Settings) {
		if r.IntN(2) == 0 {
			s.Limits.Ring = 64 << 10 // gaps
		}
	})
	ctx := within(t)
	h := &history{}
	h.note(0, map[string]person{})
	var mu sync.Mutex
	var all []seen
	playing, written := context.WithCancel(ctx)
	defer written()
	g := run.New(playing)
	const clients = 4
	type player struct {
		c    *client.Client
		f    *faults
		name string
	}
	var players []*player
	for i := range clients {
		f := &faults{rand: rand.New(rand.NewPCG(seed, uint64(100+i))), most: 30_000}
		tr := []client.Transport{client.WebSocket, client.WebSocket, client.Events}[r.IntN(3)]
		opt := client.Options{Transport: tr, Dial: f.dial, Random: func() float64 { return f.float() / 50 }, EventBuffer: 1 + r.IntN(4)}
		if tr == client.WebSocket && r.IntN(3) == 0 {
			opt.Rate = 40
		}
		c, err := client.New(n.PublicURL(), opt)
		if err != nil {
			t.Fatal(err)
		}
		p := &player{c, f, fmt.Sprintf("client %d (%s)", i, tr)}
		players = append(players, p)
		live := map[*client.Subscription]int{}
		c.Observe(func(a client.Applied) {
			mu.Lock()
			defer mu.Unlock()
			for s, q := range live {
				if s.Freshness().State == client.Live && s.Position() == a.Position {
					x := seen{q: q, pos: seqOf(a.Position), who: p.name}
					for _, row := range s.Rows() {
						x.rows = append(x.rows, string(row))
					}
					all = append(all, x)
				}
			}
		})
		own := rand.New(rand.NewPCG(seed, uint64(200+i)))
		g.Go("player", func(ctx context.Context) error {
			for ctx.Err() == nil {
				q := own.IntN(len(questions()))
				s := c.Subscribe("people", questions()[q].query)
				mu.Lock()
				live[s] = q
				mu.Unlock()
				if err := follows(ctx, s, 1+own.IntN(60)); err != nil {
					return fmt.Errorf("%s: %w", p.name, err)
				}
				if own.IntN(2) == 0 {
					mu.Lock()
					delete(live, s)
					mu.Unlock()
					s.Close()
				}
			}
			return nil
		})
	}
	// One writer through broken connections, one write after the other.
	wf := &faults{rand: rand.New(rand.NewPCG(seed, 99)), most: 20_000}
	writer := dial(t, n.PublicURL(), client.Options{Dial: wf.dial, Random: func() float64 { return wf.float() / 50 },
		Transport: []client.Transport{client.WebSocket, client.Events}[r.IntN(2)]})
	last := playWrites(ctx, t, writer, h, r, 400)
	written()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, p := range players {
		p.f.heal()
		s := p.c.Subscribe("people", client.Query{})
		if err := s.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		if err := p.c.Reach(ctx, last, s); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		p.c.Close()
		<-p.c.Done()
	}
	for _, x := range all {
		q := questions()[x.q]
		var want []string
		for _, row := range h.when(x.pos) {
			if q.match(row) {
				want = append(want, canonical(t, q.text(row)))
			}
		}
		got := make([]string, len(x.rows))
		for i, row := range x.rows {
			got[i] = canonical(t, row)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %s, query %d at %d has\n%s\nand not\n%s", seed, x.who, x.q, x.pos, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	cuts := wf.cuts
	for _, p := range players {
		cuts += p.f.cuts
	}
	t.Logf("%d states compared, %d cuts", len(all), cuts)
	if len(all) < 50 {
		t.Errorf("only %d states were compared", len(all))
	}
}

// follows reads n events, keeping rows of its own from the changes alone, and compares them with the subscription's at the same position.
func follows(ctx context.Context, s *client.Subscription, n int) error {
	rows := map[string]string{}
	for e := range s.Events(ctx) {
		for _, c := range e.Changes {
			key := string(c.Key)
			_, there := rows[key]
			if there != (c.Op != client.Insert) {
				return fmt.Errorf("%s of %s, there: %v (%+v)", c.Op, key, there, e)
			}
			if c.Op == client.Delete {
				delete(rows, key)
			} else {
				rows[key] = string(c.Row)
			}
		}
		if e.Kind == client.Closed {
			return e.Err
		}
		if s.Position() == e.Position && len(e.Changes) > 0 { // not always true by now: the reader is behind
			now := s.Rows()
			if s.Position() == e.Position && len(now) != len(rows) {
				return fmt.Errorf("%d rows by events, %d in the subscription at %s", len(rows), len(now), e.Position)
			}
		}
		if n--; n <= 0 {
			return nil
		}
	}
	return nil // the writer has ended
}

// playWrites changes people at random and returns the last position.
func playWrites(ctx context.Context, t *testing.T, c *client.Client, h *history, r *rand.Rand, n int) string {
	t.Helper()
	rows := map[string]person{}
	last := ""
	names := []string{"p1", "p2", `p "3`, "p/4", "π5", "p6", "p7", "p8\n"}
	for i := range n {
		name := names[r.IntN(len(names))]
		var w client.Write
		next := make(map[string]person, len(rows))
		for k, v := range rows {
			next[k] = v
		}
		pick := r.IntN(5)
		if i == n-1 {
			pick = 4 // something new, so that everybody hears of it
			name = "last"
		}
		switch pick {
		case 0:
			w = client.Write{Table: "people", Delete: true, Filter: client.Where("name", "eq."+name)}
			delete(next, name)
		case 1:
			age := r.IntN(100)
			w = client.Write{Table: "people", Patch: map[string]int{"age": age}, Filter: "age=lt." + strconv.Itoa(age)}
			for k, v := range next {
				if v.Age != nil && *v.Age < age {
					v.Age = &age
					next[k] = v
				}
			}
		default:
			p := person{Name: name}
			if r.IntN(4) > 0 {
				age := r.IntN(100)
				p.Age = &age
			}
			if r.IntN(3) > 0 {
				note := strings.Repeat("n", r.IntN(300)) + strconv.Itoa(i)
				p.Note = &note
			}
			w = client.Write{Table: "people", Rows: p, OnConflict: "merge", HTTP: r.IntN(10) == 0}
			next[name] = p
		}
		res, err := c.Write(ctx, w)
		if err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
		rows, last = next, res.Position
		h.note(seqOf(last), rows)
	}
	return last
}
