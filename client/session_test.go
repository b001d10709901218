package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"laaster/client"
	"laaster/internal/kit/run"
)

// eager reconnects at once.
func eager() client.Options { return client.Options{Random: func() float64 { return 0 }} }

func make1(t *testing.T, f *fake, opt client.Options) *client.Client {
	t.Helper()
	c, err := client.New(f.URL, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); <-c.Done() })
	return c
}

func code(err error) string {
	var p *client.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return fmt.Sprint(err)
}

// awaitState waits until the connection is in a state.
func awaitState(t *testing.T, c *client.Client, name client.StateName) client.State {
	t.Helper()
	for s := range c.States(within(t)) {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("never %s", name)
	return client.State{}
}

// TestResume: what each subscription asks for after a cut.
func TestResume(t *testing.T) {
	f := newFake(t)
	c := make1(t, f, eager())
	a := c.Subscribe("a", client.Query{})
	b := c.Subscribe("b", client.Query{Filter: "k=gt.1", Select: []string{"v", "w"}, Order: "v.desc", Limit: 3, Offset: 1})
	conn, hello := f.welcome()
	subs := hello["subscribe"]
	if subs == nil { // they came after hello
		conn.expect("subscribe")
		if m := conn.expect("subscribe"); m["filter"] != "k=gt.1" || m["select"] != "v,w" || m["order"] != "v.desc" || m["limit"] != 3.0 || m["offset"] != 1.0 {
			t.Errorf("%v", m)
		}
	}
	conn.send(page("s1", "5", false, `{"k":1,"v":"x"}`), page("s2", "5", true, `{"k":2}`), epoch("6", `"s1":{"put":[{"k":1,"v":"y"}]}`))
	if err := c.Reach(within(t), "l.0-6", a); err != nil {
		t.Fatal(err)
	}
	c3 := c.Subscribe("c", client.Query{})
	conn.expect("subscribe")
	conn.send(page("s3", "7", false, `{"k":3}`))
	if err := c3.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close() // b is between pages, c is ahead of the cursor
	conn, hello = f.welcome()
	got := fmt.Sprint(hello["resume"])
	for _, s := range hello["subscribe"].([]any) {
		m := s.(map[string]any)
		from, given := m["from"]
		got += fmt.Sprintf(" %v:%v/%v", m["id"], from, given)
	}
	if got != "l.0-6 s1:<nil>/false s2:<nil>/true s3:l.0-7/true" {
		t.Errorf("%s", got)
	}
	if s := a.Freshness().State; s != client.CatchingUp && s != client.Stale {
		t.Errorf("a is %s while nothing is known", s)
	}
	events := make(chan client.Event, 10)
	stop := b.OnEvent(func(e client.Event) { events <- e })
	defer stop()
	conn.send(`{"type":"resumed","id":"s1","position":"l.0-6"}`, page("s2", "8", false, `{"k":2}`), `{"type":"gap","id":"s3","kept_from":"l.0-8"}`,
		page("s3", "8", false, `{"k":4}`), epoch("9", `"s2":{"del":[[2]]}`))
	awaitState(t, c, client.StateLive)
	if err := c.Reach(within(t), "l.0-9", a, b, c3); err != nil {
		t.Fatal(err)
	}
	m, err := c.Together(within(t), a, b, c3)
	if err != nil || m.Position != "l.0-9" || text(m.Rows[0]) != `{"k":1,"v":"y"}` || len(m.Rows[1]) != 0 || text(m.Rows[2]) != `{"k":4}` {
		t.Errorf("%v %+v", err, m)
	}
	for e := range c3.Events(within(t)) {
		if e.Kind != client.Snapshot || len(e.Changes) != 1 || string(e.Changes[0].Key) != "[4]" {
			t.Errorf("%+v", e)
		}
		break
	}
	b.Close()
	if m := conn.expect("unsubscribe"); m["id"] != "s2" {
		t.Errorf("%v", m)
	}
	var kinds []string
	for e := range events {
		kinds = append(kinds, string(e.Kind))
		if e.Kind == client.Closed {
			break
		}
	}
	if s := strings.Join(kinds, " "); s != "snapshot freshness change closed" && s != "snapshot change freshness closed" {
		t.Errorf("b was told %s", s)
	}
}

// TestRepeatsAndFalls: a frame that is repeated changes nothing, a position that falls ends the connection.
func TestRepeatsAndFalls(t *testing.T) {
	f := newFake(t)
	c := make1(t, f, eager())
	conn, _ := f.welcome()
	s := c.Subscribe("a", client.Query{})
	conn.expect("subscribe")
	conn.send(page("s1", "5", false, `{"k":1}`))
	var applied []client.Applied
	seen := make(chan struct{}, 10)
	c.Observe(func(a client.Applied) { applied = append(applied, a); seen <- struct{}{} })
	e := epoch("6", `"s1":{"put":[{"k":2}],"del":[[1],[9]]}`)
	conn.send(e, e, epoch("6", ""), epoch("7", `"s1":{"put":[{"k":1}]}`))
	if err := c.Reach(within(t), "l.0-7"); err != nil {
		t.Fatal(err)
	}
	conn.send(epoch("6", `"s1":{"put":[{"k":3}]}`))
	conn.gone()
	conn, hello := f.welcome()
	if hello["resume"] != "l.0-7" || text(s.Rows()) != "{\"k\":1}\n{\"k\":2}" {
		t.Errorf("%v %s", hello, text(s.Rows()))
	}
	c.Observe(nil)
	conn.send(`{"type":"gap","id":"s1","kept_from":"l.0-1"}`, page("s1", "3", false, `{"k":1}`), epoch("4", `"s1":{"put":[{"k":5}]}`)) // the server has lost its end
	awaitRows(t, s, "{\"k\":1}\n{\"k\":5}")
	if c.Cursor() != "l.0-4" {
		t.Errorf("the cursor is %s", c.Cursor())
	}
	rows := []int{}
	for _, a := range applied {
		rows = append(rows, a.Rows)
	}
	if last := rows[max(0, len(rows)-4):]; !slices.Equal(last, []int{2, 0, 0, 1}) {
		t.Errorf("%v rows changed", rows)
	}
}

// TestPacing: the server's wait is kept exactly; without one the wait is a random part of a doubling step.
func TestPacing(t *testing.T) {
	f := newFake(t)
	clock := run.NewManual(time.UnixMilli(0))
	c := make1(t, f, client.Options{Clock: clock, Random: func() float64 { return 0.5 }})
	conn, _ := f.welcome()
	awaitState(t, c, client.StateLive)
	conn.send(`{"type":"goodbye","code":"draining","reason":"a deploy","retry_after_ms":7000}`)
	_ = conn.Close()
	st := awaitState(t, c, client.StateStale)
	if wait := st.RetryAt.Sub(clock.Now()); wait != 7*time.Second || code(st.Reason) != "draining" {
		t.Fatalf("%v %+v", wait, st)
	}
	f.with(nil, func(w http.ResponseWriter, _ *http.Request) { problem(w, 503, "busy", "after") })
	for i, want := range []time.Duration{7 * time.Second, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		for s := range c.States(within(t)) {
			if s.Attempt == i+1 && !s.RetryAt.IsZero() {
				if wait := s.RetryAt.Sub(clock.Now()); wait != want {
					t.Errorf("before attempt %d: %v, want %v", i+1, wait, want)
				}
				break
			}
		}
		clock.Advance(want)
	}
}

// TestHalfOpen: a connection on which nothing is heard is given up.
func TestHalfOpen(t *testing.T) {
	f := newFake(t)
	clock := run.NewManual(time.UnixMilli(0))
	c := make1(t, f, client.Options{Clock: clock, Random: func() float64 { return 0 }})
	conn, _ := f.welcome()
	awaitState(t, c, client.StateLive)
	over := make(chan struct{})
	g := run.New(t.Context())
	g.Go("reads", func(context.Context) error { conn.gone(); close(over); return nil })
	for i := 0; ; i++ {
		select {
		case <-over:
			if i < 10 {
				t.Errorf("given up after %d beats of 2.5 s", i)
			}
			return
		default:
		}
		if i > 14 {
			t.Fatalf("not given up after %d beats", i)
		}
		if c.State().Name == client.StateLive {
			clock.AwaitSleepers(1)
		}
		clock.Advance(2500 * time.Millisecond)
		if i >= 10 {
			select {
			case <-over:
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

// TestTokens: the function is asked for each connection, and again when the server says that the token has expired.
func TestTokens(t *testing.T) {
	f := newFake(t)
	n := 0
	c := make1(t, f, client.Options{Random: func() float64 { return 0 }, Token: func(context.Context) (string, error) {
		if n++; n == 2 {
			return "", errors.New("the issuer is away")
		}
		return fmt.Sprint("t", n), nil
	}})
	conn, hello := f.accept()
	if hello["token"] != "t1" {
		t.Errorf("%v", hello)
	}
	conn.send(`{"type":"error","error":{"code":"token_expired","detail":"old","retry":"no"}}`)
	_ = conn.Close()
	conn, hello = f.accept() // the second time there was none
	if hello["token"] != "t3" {
		t.Errorf("%v", hello)
	}
	conn.send(`{"type":"error","error":{"code":"forbidden","detail":"not you","retry":"no"}}`)
	_ = conn.Close()
	if st := awaitState(t, c, client.StateClosed); code(st.Reason) != "forbidden" {
		t.Errorf("%+v", st)
	}
	if _, err := c.Insert(within(t), "t", map[string]int{"a": 1}); code(err) != client.CodeClosed {
		t.Errorf("%v", err)
	}
	if err := c.Subscribe("v", client.Query{}).Ready(within(t)); code(err) != "forbidden" {
		t.Errorf("%v", err)
	}
	<-c.Done()
}

// TestRefusals: one subscription that is refused harms no other; one that is refused for a while is asked for again.
func TestRefusals(t *testing.T) {
	f := newFake(t)
	c := make1(t, f, eager())
	conn, _ := f.welcome()
	bad, later := c.Subscribe("bad", client.Query{}), c.Subscribe("later", client.Query{})
	conn.expect("subscribe")
	conn.expect("subscribe")
	conn.send(`{"type":"error","id":"s1","error":{"code":"unknown_view","detail":"none","hint":"look","retry":"no"}}`,
		`{"type":"error","id":"s2","error":{"code":"busy","detail":"full","retry":"after","retry_after_ms":1}}`)
	if err := bad.Ready(within(t)); code(err) != "unknown_view" || bad.Freshness().State != client.Refused {
		t.Errorf("%v", err)
	}
	if m := conn.expect("subscribe"); m["id"] != "s2" { // at the next beat
		t.Errorf("%v", m)
	}
	conn.send(page("s2", "1", false))
	if err := later.Ready(within(t)); err != nil {
		t.Error(err)
	}
	if err := c.Subscribe("v", client.Query{Limit: -1}).Ready(within(t)); code(err) != "invalid_request" {
		t.Error(err)
	}
	conn.send(`{"type":"freshness","id":"s2","state":"stale","since":1,"reason":"too large"}`)
	for e := range later.Events(within(t)) {
		if e.Freshness.State == client.Stale && e.Freshness.Reason == "too large" {
			break
		}
	}
	conn.send(`{"type":"freshness","state":"stale","since":1}`)
	awaitState(t, c, client.StateStale)
	conn.send(`{"type":"freshness","state":"live","since":1}`, `{"type":"freshness","id":"s2","state":"live","since":1}`)
	awaitState(t, c, client.StateLive)
}

// TestBadServers: whatever comes, the client reconnects and is well.
func TestBadServers(t *testing.T) {
	f := newFake(t)
	opt := eager()
	opt.MessageBytes = 5000
	c := make1(t, f, opt)
	c.Subscribe("a", client.Query{})
	for _, raw := range []string{
		"\x81\x05hello",    // not JSON
		"\x81\x02[]",       // no object
		"\x81\x03{\"\xff",  // not UTF-8
		"\x82\x02{}",       // binary
		"\xc1\x02{}",       // a reserved bit
		"\x83\x02{}",       // an unknown opcode
		"\x80\x02{}",       // a continuation of nothing
		"\x09\x01a",        // a ping in fragments
		"\x89\x7e\x00\x80", // a ping that is too long
		"\x81\x82abcd{}",   // masked
		"\x81\x7e\xff\xff", // too large
		"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
		"\x01\x01{\x81\x02{}", // a message within a message
		"\x88\x02\x03\xe8",    // a close
		"\x88\x00",
	} {
		conn, _ := f.welcome()
		if _, err := conn.Write([]byte(raw)); err != nil {
			t.Fatal(err)
		}
		conn.gone()
	}
	conn, _ := f.welcome()
	conn.send(`{}`, `{"type":7}`, `{"type":"who knows","id":[]}`, `{"type":"epoch"}`, `{"type":"snapshot","id":"s1"}`, `{"type":"result","id":"w9"}`, `{"type":"error","id":{}}`)
	conn.send(`{"type":"snapshot","id":"s1","position":7,"key":{},"rows":{"a":[]},"more":1}`, `{"type":"pong"}`, `{"type":"freshness"}`, `{"type":"signals","id":"s1","put":7}`)
	if _, err := conn.Write([]byte("\x01\x01{\x89\x01x\x80\x01}")); err != nil { // a ping between two fragments is fine
		t.Fatal(err)
	}
	for { // until its pong
		h, err := readHead(conn)
		if err != nil {
			t.Fatal(err)
		}
		if h == 0x8a {
			break
		}
	}
	awaitState(t, c, client.StateLive)
}

// TestGoodbyes: a goodbye without a time leaves the back-off as it is, and a refusal with a time is not for good.
func TestGoodbyes(t *testing.T) {
	f := newFake(t)
	clock := run.NewManual(time.UnixMilli(0))
	c := make1(t, f, client.Options{Clock: clock, Random: func() float64 { return 0.5 }})
	for i, x := range []struct {
		frames []string
		want   time.Duration
	}{
		{[]string{`{"type":"goodbye","code":"draining","reason":"","retry_after_ms":0}`}, 125 * time.Millisecond},
		{[]string{`{"type":"goodbye","code":"draining","reason":"","retry_after_ms":0}`}, 250 * time.Millisecond},
		{[]string{`{"type":"error","error":{"code":"invalid_request","detail":"no hello came","retry":"after","retry_after_ms":1000}}`,
			`{"type":"goodbye","code":"invalid_request","reason":"","retry_after_ms":0}`}, time.Second},
	} {
		conn, _ := f.welcome()
		awaitState(t, c, client.StateLive)
		conn.send(x.frames...)
		_ = conn.Close()
		for s := range c.States(within(t)) {
			if s.Name == client.StateClosed {
				t.Fatalf("closed: %v", s.Reason)
			}
			if s.Attempt == i+1 && !s.RetryAt.IsZero() {
				if wait := s.RetryAt.Sub(clock.Now()); wait != x.want {
					t.Errorf("%v: waits %v", x.frames, wait)
				}
				break
			}
		}
		clock.Advance(x.want)
	}
}

// TestLargeSubscriptions: one that is larger than a frame may be is refused here; several that are too large together do not go into one hello.
func TestLargeSubscriptions(t *testing.T) {
	f := newFake(t)
	c := make1(t, f, eager())
	large := func(n int) client.Query { return client.Query{Filter: "k=neq." + strings.Repeat("x", n)} }
	never := c.Subscribe("v", large(70_000)) // before a server has said what it takes
	conn, _ := f.welcome()
	if err := never.Ready(within(t)); code(err) != "too_large" || never.Freshness().State != client.Refused {
		t.Errorf("%v", err)
	}
	if err := c.Subscribe("v", large(2_000)).Ready(within(t)); code(err) != "too_large" {
		t.Errorf("%v", err)
	}
	a, b := c.Subscribe("v", large(1_200)), c.Subscribe("v", large(1_200))
	for range 2 {
		conn.expect("subscribe")
	}
	conn.send(page("s3", "5", false, `{"k":1}`), page("s4", "5", false, `{"k":1}`))
	if err := c.Reach(within(t), "l.0-5", a, b); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	conn, hello := f.welcome()
	if subs := hello["subscribe"].([]any); len(subs) != 1 || subs[0].(map[string]any)["id"] != "s3" {
		t.Errorf("%v", subs)
	}
	if m := conn.expect("subscribe"); m["id"] != "s4" || m["from"] != "l.0-5" {
		t.Errorf("%v", m)
	}
	conn.send(`{"type":"resumed","id":"s3","position":"l.0-5"}`, epoch("6", `"s3":{"put":[{"k":2}]}`)) // that is none of s4's business
	if err := c.Reach(within(t), "l.0-6", a); err != nil {
		t.Fatal(err)
	}
	if at := b.Position(); at != "l.0-5" {
		t.Errorf("a subscription that has no answer is at %s", at)
	}
}

// TestPanics: a callback that panics closes the client, and it is told why.
func TestPanics(t *testing.T) {
	for _, observed := range []bool{false, true} {
		f := newFake(t)
		var log bytes.Buffer
		opt := eager()
		opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c := make1(t, f, opt)
		conn, _ := f.welcome()
		s := c.Subscribe("a", client.Query{})
		if observed {
			c.Observe(func(client.Applied) { panic("boom") })
		} else {
			s.OnEvent(func(e client.Event) {
				if e.Kind == client.Snapshot {
					panic("boom")
				}
			})
		}
		conn.expect("subscribe")
		conn.send(page("s1", "5", false, `{"k":1}`))
		<-c.Done()
		if st := c.State(); st.Name != client.StateClosed || code(st.Reason) != "internal" || !strings.Contains(st.Reason.Error(), "boom") {
			t.Errorf("observed %v: %+v", observed, st)
		}
		if code(s.Err()) != "internal" || !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "TestPanics") {
			t.Errorf("observed %v: %v, and the log says %s", observed, s.Err(), log.String())
		}
	}
}

// TestServerBack: a server that has been away for however many attempts is no reason for event streams.
func TestServerBack(t *testing.T) {
	n, _ := serve(t, channelSQL, nil)
	typing := dial(t, n.PublicURL(), client.Options{}).Subscribe("typing", client.Query{Filter: "room=eq.a"})
	for dials := range 8 {
		x := &cuttable{}
		opt := eager()
		opt.Dial = x.dial
		c := dial(t, n.PublicURL(), opt)
		sig, err := c.Signal("typing", map[string]string{"room": "a", "who": fmt.Sprint("n", dials)})
		if err != nil {
			t.Fatal(err)
		}
		if err := sig.Set(map[string]int{"line": 1}); err != nil {
			t.Fatal(err)
		}
		row := func(line int) string { return fmt.Sprintf(`{"room":"a","who":"n%d","line":%d}`, dials, line) }
		awaitRows(t, typing, row(1))
		x.cut(dials)
		if err := sig.Set(map[string]int{"line": 2}); err != nil {
			t.Fatalf("after %d failed dials: %v", dials, err)
		}
		awaitRows(t, typing, row(2))
		sig.Clear()
		awaitRows(t, typing, "")
	}
}

// TestNoWebSockets: behind a proxy that lets plain HTTP through and nothing else, rows come by event streams.
func TestNoWebSockets(t *testing.T) {
	n, _ := serve(t, channelSQL, nil)
	to, err := url.Parse(n.PublicURL())
	if err != nil {
		t.Fatal(err)
	}
	through := httputil.NewSingleHostReverseProxy(to)
	through.FlushInterval = -1
	var upgrades atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			upgrades.Add(1)
			http.Error(w, "not here", http.StatusForbidden)
			return
		}
		through.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	c := make1(t, &fake{Server: proxy}, eager())
	s := c.Subscribe("typing", client.Query{Filter: "room=eq.a"})
	if err := s.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := upgrades.Load(); got != 2 {
		t.Errorf("%d WebSockets were tried, want 2", got)
	}
	sig, err := c.Signal("typing", map[string]string{"room": "a", "who": "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.Set(map[string]int{"line": 1}); code(err) != "not_supported" {
		t.Errorf("%v", err)
	}
	c.Close() // before the proxy waits for its streams
	<-c.Done()
}
