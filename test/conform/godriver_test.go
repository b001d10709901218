package conform

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"laaster/client"
)

// quickClock is a clock that can run faster and jump; who sleeps does not jump with it.
type quickClock struct {
	began time.Time
	speed time.Duration
	mu    sync.Mutex
	ahead time.Duration
}

// Now implements client.Clock.
func (q *quickClock) Now() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.began.Add(time.Since(q.began)*q.speed + q.ahead)
}

// After implements client.Clock.
func (q *quickClock) After(d time.Duration) <-chan time.Time { return time.After(d / q.speed) }

func (q *quickClock) jump(d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ahead += d
}

// goSide is one Go client under command.
type goSide struct {
	id    string
	c     *client.Client
	clock *quickClock
	subs  map[string]*client.Subscription
	say   func(event)
}

// serveGo drives the Go client: see driver_test.go.
func serveGo(in io.Reader, out io.Writer) {
	var mu sync.Mutex
	say := func(e event) {
		line, _ := json.Marshal(e) // of JSON
		mu.Lock()
		defer mu.Unlock()
		_, _ = out.Write(append(line, '\n')) // whoever plays may have ended
	}
	sides := map[string]*goSide{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var c command
		if err := json.Unmarshal(line, &c); err != nil {
			say(event{Ev: "fatal", Text: err.Error()})
			continue
		}
		if c.Do == "connect" {
			g := &goSide{id: c.Client, clock: &quickClock{began: time.Now(), speed: time.Duration(max(c.Speed, 1))}, subs: map[string]*client.Subscription{}}
			g.say = func(e event) { e.Client = g.id; say(e) }
			if err := g.open(&c); err != nil {
				g.say(event{Ev: "fatal", Text: err.Error()})
				continue
			}
			sides[c.Client] = g
			continue
		}
		g := sides[c.Client]
		if g == nil {
			say(event{Ev: "fatal", Client: c.Client, Text: "there is no such client"})
			continue
		}
		g.do(&c)
		if c.Do == "close" {
			delete(sides, c.Client)
		}
	}
	for _, g := range sides {
		g.c.Close()
		<-g.c.Done()
	}
}

func (g *goSide) open(c *command) error {
	transport := client.WebSocket
	if c.Kind == "sse" {
		transport = client.Events
	}
	var err error
	g.c, err = client.New(c.URL, client.Options{Name: "conform", Transport: transport, Rate: float64(c.Rate), Clock: g.clock, EventBuffer: 1 << 16,
		Random: func() float64 { return 0.004 * rand.Float64() }}) // so that nobody waits long for another attempt
	if err != nil {
		return err
	}
	go func() {
		for s := range g.c.States(context.Background()) {
			g.say(event{Ev: "state", Name: string(s.Name), Code: goCode(s.Reason)})
		}
	}()
	return nil
}

func goCode(err error) string {
	var p *client.Problem
	switch {
	case err == nil:
		return ""
	case errors.As(err, &p):
		return string(p.Code)
	}
	return err.Error()
}

func (g *goSide) do(c *command) {
	switch c.Do {
	case "subscribe":
		q := client.Query{Filter: c.query.Filter, Order: c.query.Order, Limit: c.query.Limit}
		if c.query.Select != "" {
			q.Select = strings.Split(c.query.Select, ",")
		}
		s := g.c.Subscribe(c.View, q)
		g.subs[c.Sub] = s
		events := s.Events(context.Background())
		go g.follow(c.Sub, s, events)
	case "leave":
		g.subs[c.Sub].Close()
		delete(g.subs, c.Sub)
	case "write":
		go g.write(*c)
	case "freeze":
		g.clock.jump(time.Duration(c.Millis) * time.Millisecond)
	case "look":
		all := map[string]seen{}
		for id, s := range g.subs {
			var is seen
			for { // until both are of one moment
				is = seen{s.Position(), []json.RawMessage{}, string(s.Freshness().State)}
				for _, r := range s.Rows() {
					is.Rows = append(is.Rows, json.RawMessage(r))
				}
				if s.Position() == is.Position {
					break
				}
			}
			all[id] = is
		}
		g.say(event{Ev: "looked", Look: c.Look, Name: string(g.c.State().Name), Subs: all})
	case "close":
		g.c.Close()
		<-g.c.Done()
		g.say(event{Ev: "closed"})
	}
}

// follow tells a subscription's events.
func (g *goSide) follow(id string, s *client.Subscription, events func(func(client.Event) bool)) {
	fresh := ""
	defer g.say(event{Ev: "left", Sub: id})
	for e := range events {
		var key []string
		cause := ""
		switch e.Kind {
		case client.Changed:
			cause = "epoch"
		case client.Snapshot:
			cause = "snapshot"
		case client.Gap:
			cause = "gap"
		}
		if cause != "" {
			key = s.Key()
			out := event{Ev: "rows", Sub: id, Cause: cause, Key: key, answer: answer{Position: e.Position}}
			for _, ch := range e.Changes {
				out.Changes = append(out.Changes, rowChange{Op: string(ch.Op), Row: json.RawMessage(ch.Row), Old: json.RawMessage(ch.Old)})
			}
			g.say(out)
		}
		if now := string(e.Freshness.State); now != fresh {
			fresh = now
			g.say(event{Ev: "fresh", Sub: id, Name: now, Code: goCode(e.Err)})
		}
	}
}

func (g *goSide) write(c command) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	if c.Timeout > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), time.Duration(c.Timeout)*time.Millisecond)
	}
	defer cancel()
	w := client.Write{Table: c.Table, Filter: c.query.Filter, Key: c.Key, Atomic: c.Atomic, OnConflict: c.Conflict}
	switch c.Op {
	case "update":
		w.Patch = c.Patch
	case "delete":
		w.Delete = true
	default:
		var rows []json.RawMessage
		if err := json.Unmarshal(c.Rows, &rows); err != nil {
			g.say(event{Ev: "fatal", Text: fmt.Sprint(err)})
			return
		}
		w.Rows = rows
	}
	r, err := g.c.Write(ctx, w)
	out := event{Ev: "result", Write: c.Write, answer: answer{Position: r.Position, Accepted: r.Accepted, Duplicates: r.Duplicates}}
	if err != nil {
		out.answer = answer{Problem: goCode(err)}
		out.Text = err.Error()
	}
	for _, x := range r.Rejected {
		out.Rejected = append(out.Rejected, reject{Index: x.Index, Code: string(x.Problem.Code)})
	}
	g.say(out)
}
