package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"laaster/app"
	"laaster/client"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

// exampleServer runs the app of these examples and returns its address.
func exampleServer() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "laaster-example")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "app.sql"), []byte(channelSQL), 0o600)
	}
	if err != nil {
		panic(err)
	}
	s := app.DefaultSettings()
	s.Listen, s.Admin, s.Backbone = "127.0.0.1:0", "127.0.0.1:0", "memory"
	n, err := node.Start(context.Background(), node.Options{Dir: dir, Settings: s, Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return n.PublicURL(), func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.Wait(ctx)
		_ = os.RemoveAll(dir)
	}
}

// Score is a row of the view tally.
type Score struct {
	Contestant string `json:"contestant"`
	Points     int    `json:"points"`
}

func Example() {
	url, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	c, err := client.Dial(ctx, url, client.Options{Name: "scores"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	tally := c.Subscribe("tally", client.Query{Order: "points.desc"})
	if err := tally.Ready(ctx); err != nil {
		fmt.Println(err) // a wrong name, or not granted
		return
	}
	if _, err := c.Insert(ctx, "votes", map[string]any{"id": 1, "contestant": "Åse", "points": 12}); err != nil {
		fmt.Println(err)
		return
	}
	for e := range tally.Events(ctx) {
		for _, change := range e.Changes {
			fmt.Println(change.Op, string(change.Row))
		}
		if len(e.Changes) > 0 {
			break
		}
	}
	// Output: insert {"contestant":"Åse","points":12,"n":1}
}

func ExampleSubscribeAs() {
	url, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	tally := client.SubscribeAs[Score](c, "tally", client.Query{Order: "points.desc", Filter: "points=gt.0"})
	r, err := c.Insert(ctx, "votes", []map[string]any{
		{"id": 1, "contestant": "Åse", "points": 7},
		{"id": 2, "contestant": "Bo", "points": 12},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := c.Reach(ctx, r.Position, tally.Subscription); err != nil {
		fmt.Println(err)
		return
	}
	scores, err := tally.All()
	fmt.Println(scores, err)
	// Output: [{Bo 12} {Åse 7}] <nil>
}

func ExampleClient_Together() {
	url, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	tally, total := c.Subscribe("tally", client.Query{}), c.Subscribe("total", client.Query{})
	r, err := c.Insert(ctx, "votes", map[string]any{"id": 1, "contestant": "Bo", "points": 5})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := c.Reach(ctx, r.Position); err != nil {
		fmt.Println(err)
		return
	}
	m, err := c.Together(ctx, tally, total)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Position == r.Position, string(m.Rows[0][0]), string(m.Rows[1][0]))
	// Output: true {"contestant":"Bo","points":5,"n":1} {"points":5,"n":1}
}

func ExampleClient_Write() {
	url, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	row := map[string]any{"name": "Ann", "age": 41}
	for range 2 { // the second one has no effect: it has the key of the first
		r, err := c.Write(ctx, client.Write{Table: "people", Rows: row, Key: "sign-up of Ann"})
		fmt.Println(r.Accepted, r.Duplicates, err)
	}
	_, err = c.Insert(ctx, "people", row)
	var p *client.Problem
	if errors.As(err, &p) {
		fmt.Println(p.Code, p.Retry)
	}
	_, err = c.Write(ctx, client.Write{Table: "people", Rows: map[string]any{"name": "Ann", "age": 42}, OnConflict: "merge"})
	fmt.Println(err)
	// Output:
	// 1 0 <nil>
	// 1 0 <nil>
	// conflict false
	// <nil>
}

func ExampleClient_Read() {
	url, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.New(url, client.Options{Transport: client.Events}) // nothing is opened that is not asked for
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	r, err := c.Insert(ctx, "votes", map[string]any{"id": 1, "contestant": "Bo", "points": 5})
	if err != nil {
		fmt.Println(err)
		return
	}
	scores, reading, err := client.ReadAs[Score](ctx, c, "tally", client.Query{Filter: client.Where("contestant", "eq.Bo")}, client.ReadOptions{After: r.Position})
	fmt.Println(scores, err)
	again, err := c.Read(ctx, "tally", client.Query{Filter: client.Where("contestant", "eq.Bo")}, client.ReadOptions{NoneMatch: reading.ETag})
	fmt.Println(again.Same, err)
	// Output:
	// [{Bo 5}] <nil>
	// true <nil>
}

func ExampleClient_Signal() {
	url, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	typing := c.Subscribe("typing", client.Query{Filter: "room=eq.a"})
	sig, err := c.Signal("typing", map[string]string{"room": "a", "who": "ann"})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = sig.Set(map[string]int{"line": 7})
	for e := range typing.Events(ctx) {
		for _, change := range e.Changes {
			fmt.Println(change.Op, string(change.Row))
		}
		if len(e.Changes) > 0 {
			break
		}
	}
	sig.Clear()
	// Output: insert {"room":"a","who":"ann","line":7}
}
