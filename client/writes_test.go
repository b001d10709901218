package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"laaster/client"
	"laaster/internal/kit/run"
)

func result(id any, pos int) string {
	return fmt.Sprintf(`{"type":"result","id":%q,"position":"l.0-%d","final":true,"ack":"durable","accepted":1,"duplicates":0,"rejected":[]}`, id, pos)
}

// TestWritesRepeat: a write is sent again under its key after a cut, waits as long as the server says, and is given up after three sends.
func TestWritesRepeat(t *testing.T) {
	f := newFake(t)
	c := make1(t, f, eager())
	ctx := within(t)
	a, err := c.Enqueue(client.Write{Table: "t", Rows: map[string]int{"k": 1}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Enqueue(client.Write{Table: "t", Patch: map[string]any{"v": "<x>"}, Filter: "k=eq.1", Key: "mine", Atomic: true, Logged: true})
	if err != nil {
		t.Fatal(err)
	}
	conn, _ := f.welcome()
	x, y := conn.expect("write"), conn.expect("write")
	if x["key"] != a.Key() || y["key"] != "mine" || y["ack"] != "logged" || y["atomic"] != true || y["patch"].(map[string]any)["v"] != "<x>" {
		t.Errorf("%v %v", x, y)
	}
	conn.send(`{"type":"error","id":"` + y["id"].(string) + `","error":{"code":"busy","detail":"full","retry":"after","retry_after_ms":5}}`)
	if z := conn.expect("write"); z["key"] != "mine" {
		t.Errorf("%v", z)
	}
	_ = conn.Close()
	conn, _ = f.welcome()
	x, y = conn.expect("write"), conn.expect("write")
	if x["key"] != a.Key() || y["key"] != "mine" {
		t.Errorf("%v %v: the same writes in the same order", x, y)
	}
	conn.send(result(y["id"], 7))
	if r, err := b.Wait(ctx); err != nil || r.Position != "l.0-7" || r.Key != "mine" {
		t.Errorf("%+v %v", r, err)
	}
	_ = conn.Close()
	conn, _ = f.welcome()
	conn.expect("write")
	_ = conn.Close()
	if _, err := a.Wait(ctx); code(err) != client.CodeUnreachable || !strings.Contains(err.Error(), "sent 3 times") {
		t.Errorf("%v", err)
	}
	if n := c.Queued(); n != 0 {
		t.Errorf("%d are still queued", n)
	}
}

// TestWindow: not more than the server allows are in flight, and they are sent in order.
func TestWindow(t *testing.T) {
	f := newFake(t)
	c := make1(t, f, eager())
	var all []*client.Pending
	for i := range 10 {
		p, err := c.Enqueue(client.Write{Table: "t", Rows: []int{}[:0:0], Key: fmt.Sprint("k", i)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	conn, _ := f.welcome()
	var keys []string
	var open []any
	for range 10 {
		if len(open) == 3 { // the window is full
			conn.send(result(open[0], 1))
			open = open[1:]
		}
		w := conn.expect("write")
		keys = append(keys, w["key"].(string))
		open = append(open, w["id"])
	}
	for _, id := range open {
		conn.send(result(id, 1))
	}
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if _, err := p.Wait(within(t)); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(keys, " "); got != "k0 k1 k2 k3 k4 k5 k6 k7 k8 k9" {
		t.Errorf("%s", got)
	}
}

// store is a Store in memory.
type store struct {
	mu   sync.Mutex
	kept []client.Saved
	fail error
}

func (s *store) Load() ([]client.Saved, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kept), s.fail
}

func (s *store) Save(x client.Saved) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if i := slices.IndexFunc(s.kept, func(y client.Saved) bool { return y.ID == x.ID }); i >= 0 {
		s.kept[i] = x
		return nil
	}
	s.kept = append(s.kept, x)
	return nil
}

func (s *store) Forget(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = slices.DeleteFunc(s.kept, func(x client.Saved) bool { return x.ID == id })
	return nil
}

func (s *store) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// TestQueue: bounds, giving up, and writes that survive the process.
func TestQueue(t *testing.T) {
	f := newFake(t)
	f.with(nil, func(w http.ResponseWriter, _ *http.Request) { problem(w, 503, "busy", "after") })
	keep := &store{}
	opt := eager()
	opt.QueueWrites, opt.QueueBytes, opt.Store = 2, 300, keep
	c := make1(t, f, opt)
	write := func(key string, n int) error {
		_, err := c.Enqueue(client.Write{Table: "t", Rows: map[string]string{"v": strings.Repeat("x", n)}, Key: key})
		return err
	}
	if err := write("a", 500); code(err) != "too_large" {
		t.Error(err)
	}
	if err := write("a", 1); err != nil {
		t.Error(err)
	}
	if err := write("b", 240); code(err) != client.CodeQueueFull {
		t.Error(err)
	}
	if err := write("b", 1); err != nil {
		t.Error(err)
	}
	if err := write("c", 1); code(err) != client.CodeQueueFull {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err := c.Write(ctx, client.Write{Table: "t", Rows: map[string]string{}})
	if code(err) != client.CodeTimeout || !strings.Contains(err.Error(), "enough") {
		t.Error(err)
	}
	for _, w := range []client.Write{{}, {Table: "t"}, {Table: "t", Rows: 7}, {Table: "t", Rows: json.RawMessage(`{`)}, {Table: "t", Delete: true}, {Table: "t", Patch: []int{1}, Filter: "a=eq.1"},
		{Table: "t", Rows: []int{}, Producer: "p"}, {Table: "t", Rows: []int{}, Producer: "p", Sequence: 1, Key: "k"}, {Table: "t", Rows: func() {}}} {
		if _, err := c.Enqueue(w); code(err) != "invalid_request" {
			t.Errorf("%+v: %v", w, err)
		}
	}
	c.Close()
	<-c.Done()
	if keep.len() != 2 {
		t.Fatalf("%d writes are kept", keep.len())
	}
	f.with(nil, nil)
	opt.Store = keep
	c = make1(t, f, opt) // the next process
	conn, _ := f.welcome()
	x, y := conn.expect("write"), conn.expect("write")
	if x["key"] != "a" || y["key"] != "b" {
		t.Errorf("%v %v", x, y)
	}
	conn.send(result(x["id"], 1), `{"type":"error","id":"`+y["id"].(string)+`","error":{"code":"constraint","detail":"no","retry":"no"}}`)
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	if keep.len() != 0 {
		t.Errorf("%v are kept after their answers", keep.kept)
	}
	keep.fail = errors.New("the disk is full")
	if err := write("d", 1); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Error(err)
	}
	if _, err := client.New(f.URL, opt); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Error(err)
	}
}

// TestGiveUp: when the caller's context ends, the write is not sent any more, and its key is told.
func TestGiveUp(t *testing.T) {
	f := newFake(t)
	c := make1(t, f, eager())
	conn, _ := f.welcome()
	ctx, cancel := context.WithCancel(t.Context())
	g := run.New(t.Context())
	g.Go("writes", func(context.Context) error {
		_, err := c.Write(ctx, client.Write{Table: "t", Rows: map[string]int{}, Key: "k"})
		var p *client.Problem
		if !errors.As(err, &p) || p.Code != client.CodeTimeout || p.Key != "k" || !errors.Is(err, context.Canceled) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	conn.expect("write")
	cancel()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	conn, _ = f.welcome()
	p, err := c.Enqueue(client.Write{Table: "t", Rows: map[string]int{}, Key: "k2"})
	if err != nil {
		t.Fatal(err)
	}
	if w := conn.expect("write"); w["key"] != "k2" {
		t.Errorf("%v", w)
	}
	c.Close()
	if _, err := p.Wait(within(t)); code(err) != client.CodeClosed {
		t.Errorf("%v", err)
	}
}

// TestForgotten: a write that was sent longer ago than the server remembers keys is not sent again.
func TestForgotten(t *testing.T) {
	f := newFake(t)
	clock := run.NewManual(run.System{}.Now())
	c := make1(t, f, client.Options{Clock: clock, Random: func() float64 { return 0 }})
	p, err := c.Enqueue(client.Write{Table: "t", Rows: map[string]int{}})
	if err != nil {
		t.Fatal(err)
	}
	conn, _ := f.welcome()
	conn.expect("write")
	conn.send(`{"type":"goodbye","code":"draining","reason":"for long","retry_after_ms":601000}`)
	_ = conn.Close()
	awaitState(t, c, client.StateStale)
	clock.Advance(601e9)
	f.welcome()
	if _, err := p.Wait(within(t)); code(err) != client.CodeTimeout || !strings.Contains(err.Error(), "forgotten") {
		t.Errorf("%v", err)
	}
}

// TestHTTP: writes and reads by HTTP are repeated as long as the server says later.
func TestHTTP(t *testing.T) {
	f := newFake(t)
	var mu sync.Mutex
	var got []string
	f.with(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %s %s %s", r.Method, r.URL, r.Header.Get("Idempotency-Key"), read(r)))
		switch len(got) {
		case 1:
			problem(w, 503, "busy", "after")
		case 2:
			w.WriteHeader(502) // a proxy's
		case 3:
			h := w.(http.Hijacker)
			conn, _, _ := h.Hijack()
			_ = conn.Close()
		case 4:
			_, _ = w.Write([]byte(`{"position":"l.0-3","final":true,"accepted":1,"duplicates":0,"rejected":[{"index":1,"error":{"code":"constraint","detail":"no"}}]}`))
		case 5:
			problem(w, 409, "conflict", "no")
		case 6:
			problem(w, 503, "busy", "after")
		case 7:
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("Laaster-Position", "l.0-4")
			_, _ = w.Write([]byte(`[{"k":1},{"k":2}]`))
		default:
			w.WriteHeader(304)
		}
	}, nil)
	c := make1(t, f, eager())
	ctx := within(t)
	r, err := c.Write(ctx, client.Write{Table: "a b", Rows: []map[string]int{{"k": 1}, {"k": 2}}, Key: "key", OnConflict: "merge", Atomic: true, HTTP: true})
	if err != nil || r.Position != "l.0-3" || len(r.Rejected) != 1 || r.Rejected[0].Problem.Code != "constraint" {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := c.Write(ctx, client.Write{Table: "t", Delete: true, Filter: "k=eq.a b", Key: "z", HTTP: true}); code(err) != "conflict" {
		t.Errorf("%v", err)
	}
	x, err := c.Read(ctx, "v", client.Query{Filter: client.Where("name", "eq.a&b c"), Order: "k.desc", Limit: 2, Offset: 1, Select: []string{"k", "v"}}, client.ReadOptions{After: "l.0-3", Wait: 5e9})
	if err != nil || len(x.Rows) != 2 || x.ETag != `"e"` || x.Position != "l.0-4" {
		t.Errorf("%+v %v", x, err)
	}
	if x, err = c.Read(ctx, "v", client.Query{}, client.ReadOptions{NoneMatch: `"e"`}); err != nil || !x.Same || x.Rows != nil {
		t.Errorf("%+v %v", x, err)
	}
	post := `POST /v1/tables/a%20b?_atomic=true&on_conflict=merge key [{"k":1},{"k":2}]`
	get := `GET /v1/views/v?name=eq.a%26b%20c&select=k%2Cv&order=k.desc&limit=2&offset=1&_after=l.0-3&_wait=5000  `
	want := []string{post, post, post, post, `DELETE /v1/tables/t?k=eq.a%20b z `, get, get, "GET /v1/views/v  "}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(got, want) {
		t.Errorf("%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestLargeWrite: what does not fit a frame goes by HTTP, by itself.
func TestLargeWrite(t *testing.T) {
	f := newFake(t)
	f.with(func(w http.ResponseWriter, r *http.Request) {
		if len(read(r)) < 2000 || r.Header.Get("Idempotency-Key") != "k" {
			problem(w, 400, "invalid_request", "no")
			return
		}
		_, _ = w.Write([]byte(`{"position":"l.0-3","final":true,"accepted":1,"duplicates":0,"rejected":[]}`))
	}, nil)
	c := make1(t, f, eager())
	f.welcome()
	r, err := c.Write(within(t), client.Write{Table: "t", Rows: map[string]string{"v": strings.Repeat("x", 3000)}, Key: "k"})
	if err != nil || r.Position != "l.0-3" {
		t.Errorf("%+v %v", r, err)
	}
}

// TestFallback: where no WebSocket gets through, event streams and POST do the same.
func TestFallback(t *testing.T) {
	n, _ := serve(t, appSQL, nil)
	f := newFake(t)
	refused := 0
	pass := func(w http.ResponseWriter, r *http.Request) { // a proxy that knows no WebSocket
		q, _ := http.NewRequestWithContext(r.Context(), r.Method, n.PublicURL()+r.URL.String(), r.Body)
		q.Header = r.Header.Clone()
		a, err := http.DefaultTransport.RoundTrip(q)
		if err != nil {
			w.WriteHeader(502)
			return
		}
		defer a.Body.Close()
		for k, v := range a.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(a.StatusCode)
		buf := make([]byte, 4096)
		for {
			n, err := a.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	}
	f.with(pass, func(w http.ResponseWriter, _ *http.Request) { refused++; http.Error(w, "<h1>no</h1>", 400) })
	c := make1(t, f, eager())
	ctx := within(t)
	s := c.Subscribe("tally", client.Query{})
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	r, err := c.Insert(ctx, "votes", vote{1, "A", 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Reach(ctx, r.Position, s); err != nil || text(s.Rows()) != `{"contestant":"A","points":3,"n":1}` || refused != 2 {
		t.Errorf("%v %s, %d upgrades were refused", err, text(s.Rows()), refused)
	}
	if err := c.Subscribe("votes", client.Query{}).Ready(ctx); code(err) != "unauthenticated" && code(err) != "forbidden" {
		t.Errorf("%v", err)
	}
}

// TestForgottenHTTP: by HTTP, too, a write is not sent again when the server may have forgotten its key: after 10 minutes where it has not said so.
func TestForgottenHTTP(t *testing.T) {
	f := newFake(t)
	clock := run.NewManual(run.System{}.Now())
	var mu sync.Mutex
	posts := 0
	f.with(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		posts++
		clock.Advance(11 * time.Minute)
		w.WriteHeader(502) // whether it took effect is not known
	}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) })
	c := make1(t, f, client.Options{Clock: instant{clock}, Random: func() float64 { return 0 }})
	_, err := c.Write(within(t), client.Write{Table: "t", Rows: map[string]int{}, Key: "k", HTTP: true})
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != client.CodeTimeout || p.Retry || p.Key != "k" || !strings.Contains(p.Detail, "forgotten") {
		t.Errorf("%v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if posts != 1 {
		t.Errorf("sent %d times", posts)
	}
}

// instant is a clock that wakes sleepers of less than two seconds at once.
type instant struct{ *run.Manual }

func (c instant) After(d time.Duration) <-chan time.Time {
	if d < 2*time.Second {
		d = 0
	}
	return c.Manual.After(d)
}

// TestStored: a stored write that was never sent, or only refused for a while, is sent however long the process was away; one that was sent is
// given up when the server has forgotten it, and the log says so.
func TestStored(t *testing.T) {
	f := newFake(t)
	f.with(nil, func(w http.ResponseWriter, _ *http.Request) { problem(w, 503, "busy", "after") })
	clock := run.NewManual(run.System{}.Now())
	keep := &store{}
	var log bytes.Buffer
	opt := client.Options{Clock: clock, Random: func() float64 { return 0 }, Store: keep, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	next := func(c *client.Client) *client.Client { // the next process, long after
		t.Helper()
		if c != nil {
			c.Close()
			<-c.Done()
			clock.Advance(11 * time.Minute)
		}
		c, err := client.New(f.URL, opt)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := next(nil)
	if _, err := c.Enqueue(client.Write{Table: "t", Rows: map[string]int{}, Key: "k"}); err != nil {
		t.Fatal(err)
	}
	c = next(c)
	f.with(nil, nil)
	conn, _ := f.welcome()
	w := conn.expect("write")
	if w["key"] != "k" {
		t.Errorf("%v", w)
	}
	conn.send(`{"type":"error","id":"`+w["id"].(string)+`","error":{"code":"busy","detail":"full","retry":"after","retry_after_ms":5000}}`, `{"type":"freshness","state":"stale","since":1}`)
	awaitState(t, c, client.StateStale)
	c = next(c)
	conn, _ = f.welcome()
	if w := conn.expect("write"); w["key"] != "k" {
		t.Errorf("%v", w)
	}
	c = next(c)
	f.welcome()
	if err := c.Flush(within(t)); err != nil {
		t.Error(err)
	}
	c.Close()
	<-c.Done()
	if text := log.String(); keep.len() != 0 || strings.Count(text, "given up") != 1 || !strings.Contains(text, "id=k") {
		t.Errorf("%d are kept, and the log says %s", keep.len(), text)
	}
}

// TestGiveUpHTTP: a write that is given up ends its request, and those behind it are sent.
func TestGiveUpHTTP(t *testing.T) {
	f := newFake(t)
	arrived := make(chan struct{})
	f.with(func(w http.ResponseWriter, r *http.Request) {
		read(r)
		if r.Header.Get("Idempotency-Key") == "a" {
			arrived <- struct{}{}
			<-r.Context().Done()
			return
		}
		_, _ = w.Write([]byte(`{"position":"l.0-3","final":true,"accepted":1,"duplicates":0,"rejected":[]}`))
	}, nil)
	opt := eager()
	opt.Transport = client.Events
	c := make1(t, f, opt)
	a, err := c.Enqueue(client.Write{Table: "t", Rows: map[string]int{}, Key: "a"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Enqueue(client.Write{Table: "t", Rows: map[string]int{}, Key: "b"})
	if err != nil {
		t.Fatal(err)
	}
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Wait(ctx); code(err) != client.CodeTimeout {
		t.Errorf("%v", err)
	}
	if r, err := b.Wait(within(t)); err != nil || r.Position != "l.0-3" {
		t.Errorf("%+v %v", r, err)
	}
}
