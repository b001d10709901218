package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"laaster/client"
)

const channelSQL = appSQL + `CREATE TABLE typing (room text, who text, line integer CHECK (line < 100), PRIMARY KEY (room, who)) WITH (channel, ttl = '60 seconds');
CREATE TABLE here (page text) WITH (presence, ttl = '10 seconds', list_up_to = 3);
GRANT SELECT, INSERT ON typing, here TO anon;
`

// cuttable keeps the connections of a client, to cut them.
type cuttable struct {
	mu    sync.Mutex
	conns []net.Conn
	off   bool
	deny  int // dials that fail yet
}

func (x *cuttable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.off || x.deny > 0 {
		x.deny = max(0, x.deny-1)
		return nil, errors.New("the test is offline")
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		x.conns = append(x.conns, c)
	}
	return c, err
}

func (x *cuttable) offline(off bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.off = off
	if off {
		for _, c := range x.conns {
			_ = c.Close()
		}
		x.conns = nil
	}
}

// cut closes all connections and has the next dials fail, so many.
func (x *cuttable) cut(dials int) {
	x.offline(true)
	x.mu.Lock()
	x.deny = dials
	x.mu.Unlock()
	x.offline(false)
}

// awaitRows waits until the rows are as wanted.
func awaitRows(t *testing.T, s *client.Subscription, want string) {
	t.Helper()
	last := ""
	for range s.Events(within(t)) {
		if last = text(s.Rows()); last == want {
			return
		}
	}
	t.Fatalf("%s: has\n%s\nand never\n%s", s.View(), last, want)
}

// TestSignals: rows of channels are set, replaced, cleared, refused, and there again after a cut; presence grows into a count.
func TestSignals(t *testing.T) {
	n, _ := serve(t, channelSQL, nil)
	ctx := within(t)
	watch := dial(t, n.PublicURL(), client.Options{})
	typing := watch.Subscribe("typing", client.Query{Filter: "room=eq.a"})
	here := watch.Subscribe("here", client.Query{Select: []string{"page"}})
	events := dial(t, n.PublicURL(), client.Options{Transport: client.Events})
	also := events.Subscribe("typing", client.Query{Filter: "room=eq.a"})
	for _, s := range []*client.Subscription{typing, here, also} {
		if err := s.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
	x := &cuttable{}
	opt := eager()
	opt.Dial = x.dial
	c := dial(t, n.PublicURL(), opt)
	sig, err := c.Signal("typing", map[string]string{"room": "a", "who": "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.Set(map[string]int{"line": 7}); err != nil {
		t.Fatal(err)
	}
	awaitRows(t, typing, `{"room":"a","who":"ann","line":7}`)
	awaitRows(t, also, `{"room":"a","who":"ann","line":7}`)
	p, err := c.Signal("here", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Set(map[string]string{"page": "/x"}); err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprintf(`{"page":"/x","connection":%q}`, c.Connection())
	awaitRows(t, here, me)
	x.offline(true)
	if err := sig.Set(map[string]int{"line": 8}); err != nil { // the newest one is sent when the connection is back
		t.Fatal(err)
	}
	x.offline(false)
	awaitRows(t, typing, `{"room":"a","who":"ann","line":8}`)
	awaitRows(t, here, me)
	if err := sig.Set(map[string]int{"line": 100}); err != nil {
		t.Fatal(err)
	}
	for sig.Err() == nil && ctx.Err() == nil {
		_, _ = c.Read(ctx, "typing", client.Query{}, client.ReadOptions{}) // time for the refusal
	}
	if code(sig.Err()) != "constraint" {
		t.Errorf("%v", sig.Err())
	}
	if err := sig.Set(map[string]int{"line": 9}); err != nil {
		t.Fatal(err)
	}
	awaitRows(t, typing, `{"room":"a","who":"ann","line":9}`)
	sig.Clear()
	awaitRows(t, typing, "")
	awaitRows(t, also, "")
	var crowd []*client.Client
	for range 4 {
		one := dial(t, n.PublicURL(), client.Options{})
		s, _ := one.Signal("here", nil)
		if err := s.Set(map[string]string{"page": "/y"}); err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, one)
	}
	for range here.Events(ctx) {
		if n, listed := here.Count(); n == 5 && !listed {
			break
		}
	}
	if n, listed := here.Count(); n != 5 || listed || here.Len() != 0 {
		t.Errorf("%d, listed: %v, %d rows", n, listed, here.Len())
	}
	for _, one := range crowd { // whoever leaves clears its rows, and needs not be waited for
		one.Close()
	}
	awaitRows(t, here, me)
	if _, err := c.Signal("here", 7); code(err) != "invalid_request" {
		t.Errorf("%v", err)
	}
	if err := sig.Set(7); code(err) != "invalid_request" {
		t.Errorf("%v", err)
	}
}

// TestWindowOfRows: order and limit keep the first rows, as rows enter and leave.
func TestWindowOfRows(t *testing.T) {
	n, _ := serve(t, appSQL, nil)
	transports(t, func(t *testing.T, tr client.Transport) {
		ctx := within(t)
		c := dial(t, n.PublicURL(), client.Options{Transport: tr})
		if _, err := c.Delete(ctx, "people", "name=not.is.null"); err != nil {
			t.Fatal(err)
		}
		top := c.Subscribe("people", client.Query{Order: "age.desc.nullslast,name", Limit: 2, Offset: 1, Select: []string{"age"}})
		if err := top.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		var want [][]string
		for i, age := range []int{5, 9, 7, 8, 1} {
			r, err := c.Insert(ctx, "people", map[string]any{"name": fmt.Sprint("n", i), "age": age})
			if err != nil {
				t.Fatal(err)
			}
			_ = r
		}
		want = append(want, []string{`"age":8`, `"age":7`})
		follow := func(want []string) {
			t.Helper()
			for range top.Events(ctx) {
				rows := top.Rows()
				if len(rows) == 2 && strings.Contains(string(rows[0]), want[0]) && strings.Contains(string(rows[1]), want[1]) {
					return
				}
			}
			t.Fatalf("%s", text(top.Rows()))
		}
		follow(want[0])
		if _, err := c.Delete(ctx, "people", "age=eq.8"); err != nil {
			t.Fatal(err)
		}
		follow([]string{`"age":7`, `"age":5`})
		if _, err := c.Update(ctx, "people", "age=eq.1", map[string]int{"age": 10}); err != nil {
			t.Fatal(err)
		}
		follow([]string{`"age":9`, `"age":7`})
	})
}

// TestEnded: a row of a channel that has ended at the server is not set again at a reconnect; one of presence is.
func TestEnded(t *testing.T) {
	f := newFake(t)
	c := make1(t, f, eager())
	conn, _ := f.welcome()
	s := c.Subscribe("typing", client.Query{Filter: "room=eq.a"})
	conn.expect("subscribe")
	set := func(table string, key, value any) *client.Signal {
		t.Helper()
		x, err := c.Signal(table, key)
		if err == nil {
			err = x.Set(value)
		}
		if err != nil {
			t.Fatal(err)
		}
		if m := conn.expect("signal"); m["table"] != table {
			t.Fatalf("%v", m)
		}
		return x
	}
	ann := map[string]string{"room": "a", "who": "ann"}
	sig := set("typing", ann, map[string]int{"line": 7})
	set("here", nil, map[string]string{"page": "/x"})
	row := func(line int) string { return fmt.Sprintf(`{"room":"a","who":"ann","line":%d}`, line) }
	conn.send(`{"type":"signals","id":"s1","full":true,"key":["room","who"],"put":[` + row(7) + `]}`)
	awaitRows(t, s, row(7))
	if err := sig.Set(map[string]int{"line": 8}); err != nil {
		t.Fatal(err)
	}
	conn.expect("signal")
	conn.send(`{"type":"signals","id":"s1","del":[["a","ann"]]}`) // the end of the older value: both crossed
	awaitRows(t, s, "")
	conn.send(`{"type":"signals","id":"s1","put":[` + row(8) + `]}`)
	awaitRows(t, s, row(8))
	again := func() (tables string) { // what is set at a reconnect
		t.Helper()
		_ = conn.Close()
		conn, _ = f.welcome()
		mark, err := c.Signal("mark", map[string]int{"k": 1})
		if err != nil {
			t.Fatal(err)
		}
		awaitConnected(t, c)
		if err := mark.Set(map[string]int{}); err != nil {
			t.Fatal(err)
		}
		defer func() { mark.Clear(); conn.expect("signal") }()
		var got []string
		for {
			m := conn.expect("signal")
			if m["table"] == "mark" {
				slices.Sort(got)
				return strings.Join(got, " ")
			}
			got = append(got, m["table"].(string))
		}
	}
	if got := again(); got != "here typing" {
		t.Errorf("set again: %s", got)
	}
	conn.send(`{"type":"signals","id":"s1","full":true,"key":["room","who"],"put":[`+row(8)+`]}`, `{"type":"signals","id":"s1","del":[["a","ann"]]}`,
		`{"type":"signals","id":"s1","put":[`+row(1)+`]}`) // somebody else's
	awaitRows(t, s, row(1))
	if got := again(); got != "here" {
		t.Errorf("set again after its end: %s", got)
	}
}

// awaitConnected waits until the server has answered.
func awaitConnected(t *testing.T, c *client.Client) {
	t.Helper()
	for s := range c.States(within(t)) {
		if s.Name == client.StateLive || s.Name == client.StateCatchingUp {
			return
		}
	}
}
