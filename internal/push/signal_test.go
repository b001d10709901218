package push

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
	"laaster/internal/signal"
	"laaster/internal/sql"
	"laaster/internal/view"
	"laaster/internal/wire"
)

const signalApp = `
CREATE TABLE typing (room text, who text NOT NULL DEFAULT auth_subject(), line int, PRIMARY KEY (room, who)) WITH (channel, ttl = '5 seconds');
CREATE TABLE cursors (x int NOT NULL, y int) WITH (channel);
CREATE TABLE here (page text, name text) WITH (presence, ttl = '10 seconds', list_up_to = 100);
CREATE TABLE secret (x int PRIMARY KEY) WITH (channel);
CREATE TABLE posted (x int PRIMARY KEY) WITH (channel);
`

func channelsOf(t testing.TB, src string) []*expr.Relation {
	t.Helper()
	p, diags := sql.Compile("app.sql", []byte(src), nil)
	if p == nil {
		t.Fatal(sql.Render(diags))
	}
	return p.Channels
}

// signalOptions has every change told at once unless opt says otherwise.
func signalOptions(t testing.TB, opt Options) Options {
	opt.Channels = channelsOf(t, signalApp)
	if opt.Signals.Merge == 0 {
		opt.Signals.Merge, opt.Signals.CountEvery = time.Nanosecond, time.Nanosecond
	}
	opt.Signal = func(p auth.Principal, channel string) *wire.Problem {
		if channel == "posted" {
			return wire.NewProblem(wire.Unauthenticated, "INSERT on posted is not granted to "+p.Role)
		}
		return nil
	}
	return opt
}

func newSignalBench(t *testing.T, opt Options) *bench {
	t.Helper()
	return newBench(t, signalOptions(t, opt), 1<<20)
}

// talking is a client that reads frame by frame.
type talking struct {
	t      *testing.T
	m      *memConn
	rest   []byte
	frames []string
}

// connect says hello with these members and takes the welcome.
func (b *bench) talker(hello string) *talking {
	b.t.Helper()
	x := &talking{t: b.t, m: newMemConn()}
	if p := b.hub.ServeConn(x.m, auth.Anonymous()); p != nil {
		b.t.Fatal(p)
	}
	x.send(`{"type":"hello"` + hello + `}`)
	x.wants(`"type":"welcome"`)
	return x
}

func (x *talking) send(frame string) { x.m.send(clientFrame(opText, true, []byte(frame))) }

// next waits for the next frame.
func (x *talking) next() string {
	x.t.Helper()
	for len(x.frames) == 0 {
		x.m.awaitOutput()
		var err error
		x.frames, x.rest, err = serverFrames(append(x.rest, x.m.take()...))
		if err != nil {
			x.t.Fatal(err)
		}
	}
	f := x.frames[0]
	x.frames = x.frames[1:]
	return f
}

// wants takes the next frame, which must contain all of these.
func (x *talking) wants(parts ...string) string {
	x.t.Helper()
	f := x.next()
	for _, p := range parts {
		if !strings.Contains(f, p) {
			x.t.Errorf("got  %s\nwant %s", f, p)
		}
	}
	return f
}

// is takes the next frame, which must be this one.
func (x *talking) is(want string) {
	x.t.Helper()
	if got := x.next(); got != want {
		x.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// nothing fails when the client was told anything that it has not taken: the server has answered all it sent.
func (x *talking) nothing() {
	x.t.Helper()
	x.send(`{"type":"ping","t":7}`)
	x.wants(`{"type":"pong","t":7,`)
}

// TestSignalConversation: what protocol.md says, step by step.
func TestSignalConversation(t *testing.T) {
	b := newSignalBench(t, Options{})
	watcher := b.talker(`,"subscribe":[{"id":"t","view":"typing","filter":"room=eq.a"},{"id":"v","view":"tally"},{"id":"c","view":"cursors","select":"x"}]`)
	watcher.wants(`"type":"signals","id":"t","full":true,"key":["room","who"],"put":[]}`)
	watcher.is(`{"type":"signals","id":"c","full":true,"key":["connection"],"put":[]}`)
	watcher.wants(`"type":"snapshot","id":"v"`)

	ann := &talking{t: t, m: newMemConn()}
	if p := b.hub.ServeConn(ann.m, auth.Principal{Subject: "ann", Role: "user"}); p != nil {
		t.Fatal(p)
	}
	ann.send(`{"type":"hello","instance":"0123456789abcdef"}`)
	var w struct {
		Connection string
		Limits     wire.Limits
	}
	if err := json.Unmarshal([]byte(ann.next()), &w); err != nil || len(w.Connection) != 16 || w.Limits.SignalBytes != 4096 || w.Limits.SignalsPerSecond != 50 {
		t.Fatalf("%v %+v", err, w)
	}
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{"line":7}}`)
	watcher.is(`{"type":"signals","id":"t","put":[{"room":"a","who":"ann","line":7}]}`)
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"b"},"value":{"line":7}}`) // another room
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":null}`)
	watcher.is(`{"type":"signals","id":"t","del":[["a","ann"]]}`)
	ann.send(`{"type":"signal","id":"s","table":"cursors","value":{"x":1,"y":2}}`)
	watcher.is(`{"type":"signals","id":"c","put":[{"x":1,"connection":"` + w.Connection + `"}]}`)

	for _, c := range [][2]string{
		{`"table":"nobody","value":{}`, `"code":"unknown_table"`},
		{`"table":"tally","value":{}`, `"code":"invalid_request","detail":"tally is no channel: its rows are in the log"`},
		{`"table":"posted","key":{"x":1},"value":{}`, `"code":"unauthenticated","detail":"INSERT on posted is not granted to user"`},
		{`"table":"typing","key":{"room":"a"},"value":{"line":"x"}`, `"code":"invalid_row"`},
		{`"table":"typing","key":{"room":"a"},"value":{"lime":1}`, `"code":"unknown_column"`},
		{`"table":"typing","value":{}`, `"code":"invalid_row","detail":"room may not be null","field":"room"`},
	} {
		ann.send(`{"type":"signal","id":"7",` + c[0] + `}`)
		ann.wants(`{"type":"error","id":"7","error":`, c[1])
	}
	ann.send(`{"type":"write","id":"8","table":"typing","rows":{}}`)
	ann.wants(`{"type":"error","id":"8"`, `"invalid_request","detail":"typing is a channel`)
	for _, c := range [][2]string{
		{`"id":"x","view":"secret"`, `"code":"unauthenticated","detail":"SELECT on secret is not granted to user"`},
		{`"id":"x","view":"here","limit":3`, `"code":"not_supported"`},
		{`"id":"x","view":"here","filter":"nope=eq.1"`, `"code":"unknown_column"`},
	} {
		ann.send(`{"type":"subscribe",` + c[0] + `}`)
		ann.wants(`{"type":"error","id":"x","error":`, c[1])
	}
	watcher.send(`{"type":"subscribe","id":"t","view":"tally"}`)
	watcher.wants(`{"type":"error","id":"t"`, `this id is in use`)
	watcher.send(`{"type":"subscribe","id":"v","view":"typing"}`)
	watcher.wants(`{"type":"error","id":"v"`, `this id is in use`)
	watcher.send(`{"type":"subscribe","id":"u","view":"typing","filter":"room=eq.a"}`) // the same again
	watcher.is(`{"type":"signals","id":"u","full":true,"key":["room","who"],"put":[]}`)
	watcher.send(`{"type":"unsubscribe","id":"t"}`)
	watcher.nothing()
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{}}`)
	watcher.is(`{"type":"signals","id":"u","put":[{"room":"a","who":"ann","line":null}]}`)
	watcher.send(`{"type":"unsubscribe","id":"u"}`)
	watcher.nothing()
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{"line":9}}`)
	ann.nothing()
	s := b.hub.signals
	if name := s.connectionName(auth.Principal{Subject: "bob"}, "0123456789abcdef"); name == w.Connection {
		t.Error("two subjects have one name, so one could speak for the other")
	}
	if s.connectionName(auth.Principal{Subject: "ann"}, "0123456789abcdef") != w.Connection {
		t.Error("the name of an instance changes")
	}
	ann.m.hangUp()
	watcher.is(`{"type":"signals","id":"c","del":[["` + w.Connection + `"]]}`)
	watcher.send(`{"type":"subscribe","id":"t","view":"typing","from":null}`)
	watcher.is(`{"type":"signals","id":"t","full":true,"key":["room","who"],"put":[]}`)
	watcher.m.hangUp()
	watcher.m.awaitClosed()
	ann.m.awaitClosed()
	for b.hub.Connections() > 0 {
		b.quiet()
	}
	if st := b.hub.Signals(); st.Rows != 0 || st.Feeds != 0 || st.Senders != 0 || st.Bytes != 0 {
		t.Errorf("left behind: %+v", st)
	}
}

// TestPresence: who comes back in time with the same instance was never away for others.
func TestPresence(t *testing.T) {
	b := newSignalBench(t, Options{})
	watcher := b.talker(`,"subscribe":[{"id":"h","view":"here","select":"page"}]`)
	watcher.wants(`"full":true,"key":["connection"],"put":[]`)
	const hello = `,"instance":"0123456789abcdef"`
	ann := b.talker(hello)
	ann.send(`{"type":"signal","id":"s","table":"here","value":{"page":"/a"}}`)
	first := watcher.wants(`"put":[{"page":"/a","connection":"`)
	name := first[strings.Index(first, `"connection":"`)+14:][:16]
	ann.m.hangUp()
	ann.m.awaitClosed()
	for b.hub.Connections() > 1 {
		b.quiet()
	}
	b.clock.AwaitSleepers(2) // the connections' and the signals'
	b.clock.Advance(9 * time.Second)
	again := b.talker(hello)
	again.send(`{"type":"signal","id":"s","table":"here","value":{"page":"/a"}}`)
	again.nothing()
	watcher.nothing()
	b.clock.AwaitSleepers(1)
	b.clock.Advance(8 * time.Second)
	watcher.nothing()
	other := b.talker("") // without an instance it is somebody else
	other.send(`{"type":"signal","id":"s","table":"here","value":{"page":"/b"}}`)
	if f := watcher.wants(`"put":[{"page":"/b"`); strings.Contains(f, name) {
		t.Error("two clients have one name")
	}
	again.m.hangUp()
	again.m.awaitClosed()
	for b.hub.Connections() > 2 {
		b.quiet()
	}
	b.clock.AwaitSleepers(2)
	b.clock.Advance(10 * time.Second)
	for f := watcher.next(); ; f = watcher.next() {
		if strings.HasPrefix(f, `{"type":"epoch"`) { // a heartbeat
			continue
		}
		if want := `{"type":"signals","id":"h","del":[["` + name + `"]]}`; f != want {
			t.Errorf("got %s\nwant %s", f, want)
		}
		return
	}
}

// TestSignalsSlow: who does not read is told the newest once, whatever came meanwhile, and nobody waits for it.
func TestSignalsSlow(t *testing.T) {
	b := newSignalBench(t, Options{Signals: signal.Options{Rate: 1e6, Burst: 1e6}})
	slow, fast := b.talker(""), b.talker("")
	for _, x := range []*talking{slow, fast} {
		x.send(`{"type":"subscribe","id":"t","view":"typing"}`)
		x.wants(`"full":true`)
	}
	slow.m.limit(10)
	ann := b.talker("")
	for i := range 300 {
		ann.send(fmt.Sprintf(`{"type":"signal","id":"s","table":"typing","key":{"room":"r%d"},"value":{"line":%d}}`, i%3, i))
		if i%100 == 0 {
			ann.nothing()
		}
	}
	ann.nothing()
	for f := fast.next(); !strings.Contains(f, `"line":299`); f = fast.next() {
	}
	slow.m.limit(-1)
	var told []string
	for f := slow.next(); ; f = slow.next() {
		told = append(told, f)
		if strings.Contains(f, `"line":299`) {
			break
		}
	}
	if len(told) > 3 {
		t.Errorf("%d frames for a client that was stopped", len(told))
	}
	if last := told[len(told)-1]; !strings.Contains(last, `"line":297`) || !strings.Contains(last, `"line":298`) {
		t.Errorf("the last frame has not all keys: %s", last)
	}
}

// TestSignalsRate: a connection with a rate hears no more often.
func TestSignalsRate(t *testing.T) {
	b := newSignalBench(t, Options{})
	x := b.talker(`,"rate":0.5,"subscribe":[{"id":"t","view":"typing"}]`)
	x.wants(`"full":true`)
	ann := b.talker("")
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{"line":1}}`)
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{"line":2}}`)
	ann.nothing()
	x.nothing()
	b.clock.AwaitSleepers(2)
	b.clock.Advance(time.Second)
	b.clock.AwaitSleepers(2)
	b.clock.Advance(time.Second)
	x.is(`{"type":"signals","id":"t","put":[{"room":"a","who":"anon","line":2}]}`)
}

// TestSignalsRedefined: a change of the app begins what has changed anew, ends what is gone, and leaves the rest alone.
func TestSignalsRedefined(t *testing.T) {
	b := newSignalBench(t, Options{})
	x := b.talker(`,"subscribe":[{"id":"t","view":"typing"},{"id":"c","view":"cursors"},{"id":"h","view":"here"}]`)
	for range 3 {
		x.wants(`"full":true`)
	}
	ann := b.talker("")
	ann.send(`{"type":"signal","id":"s","table":"here","value":{}}`)
	x.wants(`"id":"h","put":[`)
	ann.send(`{"type":"signal","id":"s","table":"cursors","value":{"x":1}}`)
	x.wants(`"id":"c","put":[`)
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{}}`)
	x.wants(`"id":"t","put":[`)
	events := newMemResponse()
	b.serve(events, b.hub.ServeView, request("GET", "/v1/views/typing", "", "Accept", "text/event-stream"))
	next := strings.Replace(signalApp, "line int", "line int, col int", 1)
	next = strings.Replace(next, "CREATE TABLE cursors (x int NOT NULL, y int) WITH (channel);", "", 1)
	change := func(src string) {
		if err := b.hub.UseChannels(channelsOf(t, src)); err != nil {
			t.Fatal(err)
		}
		b.hub.Redefine(b.store.Relations(), rulesFunc(authorize))
		b.hub.Settle()
	}
	change(next)
	told := x.next() + x.next()
	if !strings.Contains(told, `{"type":"signals","id":"t","full":true,"key":["room","who"],"put":[]}`) ||
		!strings.Contains(told, `{"type":"error","id":"c","error":{"type":"/errors/unknown_view"`) {
		t.Error(told)
	}
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{"col":4}}`)
	x.is(`{"type":"signals","id":"t","put":[{"room":"a","who":"anon","line":null,"col":4}]}`)
	ann.send(`{"type":"signal","id":"s","table":"cursors","value":{"x":1}}`)
	ann.wants(`unknown_table`)
	text := ""
	for !strings.Contains(text, `"col":4`) {
		events.awaitOutput()
		text += string(events.take())
	}
	change(strings.Replace(next, "TABLE typing", "TABLE other", 1))
	x.wants(`{"type":"error","id":"t","error":{"type":"/errors/unknown_view"`)
	x.nothing()
	events.awaitClosed()
	text += string(events.take())
	for _, part := range []string{"retry: 1000\n\n", "event: signals\ndata: {\"full\":true,\"key\":[\"room\",\"who\"],\"put\":[", `"col":4`, "event: error\n", "event: goodbye\n"} {
		if !strings.Contains(text, part) {
			t.Errorf("the stream lacks %q:\n%s", part, text)
		}
	}
}

func request(method, path, body string, heads ...string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/v1/views/"), "/v1/tables/")
	r.SetPathValue("view", name)
	r.SetPathValue("table", name)
	for i := 0; i+1 < len(heads); i += 2 {
		r.Header.Set(heads[i], heads[i+1])
	}
	return r
}

// TestConnectionHeader: who sends his secret with a request for events is told under which name others see him, before any row.
func TestConnectionHeader(t *testing.T) {
	b := newSignalBench(t, Options{})
	follow := func(secret string) string {
		r := request("GET", "/v1/views/here", "", "Accept", "text/event-stream", "Laaster-Instance", secret)
		ctx, cancel := context.WithCancel(r.Context())
		w := httptest.NewRecorder()
		cancel() // it ends at once; headers come first
		b.hub.ServeView(w, r.WithContext(ctx))
		return w.Header().Get("Laaster-Connection")
	}
	w := httptest.NewRecorder()
	b.hub.ServeSignals(w, request("POST", "/v1/tables/here", `{"page":"/"}`, "Laaster-Instance", "0123456789abcdef"))
	w = httptest.NewRecorder()
	b.hub.ServeView(w, request("GET", "/v1/views/here", "", ""))
	if name := follow("0123456789abcdef"); name == "" || !strings.Contains(w.Body.String(), `"connection":"`+name+`"`) {
		t.Errorf("he is told %q, and others see %s", name, w.Body)
	}
	if name := follow("short"); name != "" {
		t.Errorf("a secret that is none has the name %q", name)
	}
}

// TestSignalsHTTP: plain requests read, set and clear.
func TestSignalsHTTP(t *testing.T) {
	b := newSignalBench(t, Options{})
	ask := func(method, path, body, want string, heads ...string) *httptest.ResponseRecorder {
		t.Helper()
		w := httptest.NewRecorder()
		handler := b.hub.ServeSignals
		if strings.HasPrefix(path, "/v1/views/") {
			handler = b.hub.ServeView
		}
		handler(w, request(method, path, body, heads...))
		if got := fmt.Sprintf("%d %s", w.Code, strings.TrimSpace(w.Body.String())); !strings.Contains(got, want) {
			t.Errorf("%s %s %s\ngot  %s\nwant %s", method, path, body, got, want)
		}
		return w
	}
	const one = `200 {"final":true,"ack":"memory","accepted":1,"duplicates":0,"rejected":[]}`
	ask("POST", "/v1/tables/typing", `{"room":"a","line":3}`, one)
	ask("POST", "/v1/tables/typing", ` [{"room":"b"},{"room":null},{"room":"c","who":"x"}] `, `"accepted":2,"duplicates":0,"rejected":[{"index":1,"error":{`)
	ask("POST", "/v1/tables/typing", `[{"room":null}]`, `422 {"final":true`)
	ask("POST", "/v1/tables/typing", `{"room":null}`, `422 {"type":"/errors/invalid_row"`)
	ask("POST", "/v1/tables/typing", `x`, `400 {"type":"/errors/invalid_json"`)
	ask("POST", "/v1/tables/typing", `[`+strings.Repeat("{},", 1000)+`{}]`, `422 {"type":"/errors/too_many"`)
	ask("POST", "/v1/tables/typing", `"`+strings.Repeat("x", 1<<20)+`"`, `413 {"type":"/errors/too_large"`)
	ask("POST", "/v1/tables/typing?_ack=logged", `{}`, `400 {"type":"/errors/invalid_request"`)
	ask("POST", "/v1/tables/typing", `{}`, `415 {"type":"/errors/invalid_request"`, "Content-Type", "text/csv")
	ask("PATCH", "/v1/tables/typing?room=eq.a", `{}`, `405 {"type":"/errors/invalid_request"`)
	ask("POST", "/v1/tables/posted", `{"x":1}`, `401 {"type":"/errors/unauthenticated"`)
	ask("POST", "/v1/tables/secret", `{"x":1}`, `last as long as the connection`)
	ask("POST", "/v1/tables/here", `{"page":"/"}`, `"field":"Laaster-Instance"`)
	ask("POST", "/v1/tables/here", `{"page":"/"}`, one, "Laaster-Instance", "0123456789abcdef")

	w := ask("GET", "/v1/views/typing", "", "200 [{\"room\":\"a\",\"who\":\"anon\",\"line\":3},\n{\"room\":\"b\",\"who\":\"anon\",\"line\":null},\n{\"room\":\"c\",\"who\":\"x\",\"line\":null}]")
	if h := w.Header(); h.Get("Cache-Control") != "no-store" || h.Get("ETag") != "" || h.Get("Laaster-Position") != "" {
		t.Errorf("%v", h)
	}
	ask("GET", "/v1/views/typing?select=room&order=room.desc&limit=2", "", "200 [{\"room\":\"c\"},\n{\"room\":\"b\"}]")
	ask("GET", "/v1/views/typing?room=eq.a", "", "200 room,who,line\na,anon,3", "Accept", "text/csv")
	ask("GET", "/v1/views/typing?offset=2&select=room", "", `200 {"room":"c"}`, "Accept", "application/x-ndjson")
	ask("HEAD", "/v1/views/typing", "", "200 ")
	ask("GET", "/v1/views/typing?_after=x", "", `400 {"type":"/errors/invalid_request"`)
	ask("GET", "/v1/views/typing?x=eq.1", "", `400 {"type":"/errors/unknown_column"`)
	ask("GET", "/v1/views/typing", "", `400 {"type":"/errors/invalid_request"`, "Accept", "image/png")
	ask("GET", "/v1/views/typing?limit=1", "", `501 {"type":"/errors/not_supported"`, "Accept", "text/event-stream")
	ask("GET", "/v1/views/secret", "", `401 {"type":"/errors/unauthenticated"`)
	ask("GET", "/v1/views/here?select=page,subject", "", `200 [{"page":"/","subject":"anon"}]`)

	ask("DELETE", "/v1/tables/typing?room=eq.a", "", one)
	ask("DELETE", "/v1/tables/typing?room=eq.a", "", `"accepted":0`)
	ask("DELETE", "/v1/tables/typing", "", `400 {"type":"/errors/invalid_request","title":"the request or frame is malformed","status":400,"code":"invalid_request","detail":"a delete needs a filter"`)
	ask("DELETE", "/v1/tables/typing?limit=1", "", `400 {"type":"/errors/bad_filter"`)
	ask("DELETE", "/v1/tables/here", "", `"accepted":0`, "Laaster-Instance", "another secret of mine")
	ask("DELETE", "/v1/tables/here", "", one, "Laaster-Instance", "0123456789abcdef")
	ask("GET", "/v1/views/here", "", `200 []`)
	if b.hub.Channel("tally") || !b.hub.Channel("here") {
		t.Error("the wrong names are channels")
	}
}

// TestSignalsHTTPRate: requests have a rate by subject and address, which counts rows.
func TestSignalsHTTPRate(t *testing.T) {
	b := newSignalBench(t, Options{Signals: signal.Options{Rate: 1, Burst: 1},
		Principal: func(r *http.Request) (auth.Principal, *wire.Problem) { return auth.Anonymous().At(r.RemoteAddr), nil }})
	ask := func(from, method, path, body string, status int, after string) {
		t.Helper()
		w, r := httptest.NewRecorder(), request(method, path, body)
		r.RemoteAddr = from + ":1"
		b.hub.ServeSignals(w, r)
		if w.Code != status || w.Header().Get("Retry-After") != after || status == 429 && !strings.Contains(w.Body.String(), `"code":"rate_limited"`) {
			t.Errorf("%s %s %s\ngot  %d, again after %q: %s\nwant %d, %q", method, path, body, w.Code, w.Header().Get("Retry-After"), w.Body.String(), status, after)
		}
	}
	const typing = "/v1/tables/typing"
	ask("10.0.0.1", "POST", typing, `[{"room":"1"},{"room":"2"},{"room":"3"},{"room":"4"},{"room":"5"},{"room":"6"}]`, 200, "") // beyond the 4 at once
	ask("10.0.0.1", "POST", typing, `{"room":"1"}`, 429, "1")
	ask("10.0.0.1", "DELETE", typing+"?room=eq.1", "", 429, "1")
	ask("10.0.0.2", "POST", typing, `{"room":"1"}`, 200, "")
	b.clock.Advance(time.Second) // 4 more
	ask("10.0.0.1", "POST", typing, `{"room":"1"}`, 200, "")
	ask("10.0.0.1", "DELETE", typing+"?room=eq.1", "", 200, "") // costs as much as ten rows
	ask("10.0.0.1", "POST", typing, `{"room":"1"}`, 429, "3")
}

// TestPostRates: callers beyond those whose rate is known share one, until some have been quiet.
func TestPostRates(t *testing.T) {
	var r postRates
	r.begin(signal.Options{Rate: 1, Burst: 1})
	now := time.Unix(1000, 0)
	from := func(i int) poster { return poster{"anon", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})} }
	for i := range mostPosts + postFactor {
		if p := r.admit(from(i), now); p != nil {
			t.Fatal(p)
		}
	}
	if p := r.admit(from(mostPosts+postFactor), now); p == nil || len(r.mu.by) != mostPosts+1 {
		t.Errorf("%v, %d callers", p, len(r.mu.by))
	}
	if p := r.admit(from(3), now); p != nil {
		t.Error(p)
	}
	if p := r.admit(from(mostPosts+postFactor), now.Add(time.Second)); p != nil || len(r.mu.by) != 1 {
		t.Errorf("%v, %d callers", p, len(r.mu.by))
	}
}

// TestSignalsRedefinedBetween: a change of the app between the look-up of a channel and the subscription is not missed.
func TestSignalsRedefinedBetween(t *testing.T) {
	var between func()
	b := newSignalBench(t, Options{Access: func(auth.Principal, string, *wire.Problem) *wire.Problem {
		if change := between; change != nil {
			between = nil
			change()
		}
		return nil
	}})
	redefine := func(src string, rules func(auth.Principal, string) *wire.Problem) {
		if err := b.hub.UseChannels(channelsOf(t, src)); err != nil {
			t.Error(err)
		}
		b.hub.Redefine(b.store.Relations(), rulesFunc(rules))
		b.hub.signals.settle() // Settle would wait for the one that subscribes
	}
	first := b.talker(`,"subscribe":[{"id":"t","view":"typing"}]`)
	first.wants(`"full":true`)
	next := strings.Replace(signalApp, "line int", "line int, col int", 1)
	x := b.talker("")
	between = func() { redefine(next, authorize) }
	x.send(`{"type":"subscribe","id":"t","view":"typing"}`)
	x.is(`{"type":"signals","id":"t","full":true,"key":["room","who"],"put":[]}`)
	x.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{"col":4}}`)
	x.is(`{"type":"signals","id":"t","put":[{"room":"a","who":"anon","line":null,"col":4}]}`)
	first.wants(`"full":true`)

	between = func() {
		redefine(next, func(p auth.Principal, relation string) *wire.Problem {
			if relation == "cursors" {
				return wire.NewProblem(wire.Unauthenticated, "no more")
			}
			return authorize(p, relation)
		})
	}
	y := b.talker("")
	y.send(`{"type":"subscribe","id":"c","view":"cursors"}`)
	y.wants(`{"type":"error","id":"c"`, `"unauthenticated"`)
	between = func() { redefine(strings.Replace(next, "TABLE here", "TABLE gone", 1), authorize) }
	y.send(`{"type":"subscribe","id":"h","view":"here"}`)
	y.wants(`{"type":"error","id":"h"`, `"unknown_view"`)
	x.nothing()
	y.nothing()
}

// TestSignalsFramesKept: frames are kept for others only, and for no longer than there are any.
func TestSignalsFramesKept(t *testing.T) {
	b := newSignalBench(t, Options{})
	kept := func() int64 { return b.hub.signals.kept.Load() }
	const subscribe = `,"subscribe":[{"id":"t","view":"typing"}]`
	xs := []*talking{b.talker(subscribe)}
	xs[0].wants(`"full":true`)
	ann := b.talker("")
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{"line":1}}`)
	xs[0].wants(`"line":1`)
	if n := kept(); n != 0 {
		t.Errorf("%d bytes are kept for nobody", n)
	}
	xs = append(xs, b.talker(subscribe))
	xs[1].wants(`"full":true`)
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{"line":2}}`)
	for _, x := range xs {
		x.wants(`"line":2`)
	}
	s := b.hub.signals
	s.mu.Lock()
	for _, topic := range s.mu.topics {
		topic.mu.Lock()
		if n := len(topic.mu.frames); n != 1 || int64(topic.mu.kept) != kept() || topic.mu.kept == 0 {
			t.Errorf("%d frames of %d bytes for two clients at one place", n, topic.mu.kept)
		}
		topic.mu.Unlock()
	}
	s.mu.Unlock()
	for _, x := range xs {
		x.m.hangUp()
		x.m.awaitClosed()
	}
	for b.hub.Connections() > 1 {
		b.quiet()
	}
	if n := kept(); n != 0 {
		t.Errorf("%d bytes are kept for nobody", n)
	}
}

// TestSignalEvents: a channel as a stream of events, with heartbeats that name no position.
func TestSignalEvents(t *testing.T) {
	b := newSignalBench(t, Options{})
	m := newMemResponse()
	b.serve(m, b.hub.ServeView, request("GET", "/v1/views/typing?room=eq.a", "", "Accept", "text/event-stream"))
	var got string
	until := func(part string) {
		t.Helper()
		for !strings.Contains(got, part) {
			m.awaitOutput()
			got += string(m.take())
		}
	}
	until("event: signals\ndata: {\"full\":true,\"key\":[\"room\",\"who\"],\"put\":[]}\n\n")
	ann := b.talker("")
	ann.send(`{"type":"signal","id":"s","table":"typing","key":{"room":"a"},"value":{"line":1}}`)
	until("event: signals\ndata: {\"put\":[{\"room\":\"a\",\"who\":\"anon\",\"line\":1}]}\n\n")
	ann.m.hangUp()
	until("event: signals\ndata: {\"del\":[[\"a\",\"anon\"]]}\n\n")
	b.quiet() // the time of the last write is noted behind it
	for !strings.Contains(got, ": heartbeat\n\n") {
		b.clock.AwaitSleepers(1)
		b.clock.Advance(16 * time.Second)
		b.quiet()
		got += string(m.take())
	}
	if strings.Contains(got, "id:") {
		t.Errorf("a channel has no positions:\n%s", got)
	}
	m.vanish()
	<-m.done
}

// TestPresenceStorm: many who join at once over real sockets, each following all, cost a few frames each and not one per pair.
func TestPresenceStorm(t *testing.T) {
	many := 200
	if os.Getenv("LAASTER_FULL") != "" {
		many = 1000
	}
	b := newSignalBench(t, Options{MaxConnections: many, Signals: signal.Options{Merge: 20 * time.Millisecond, CountEvery: 250 * time.Millisecond}})
	server := httptest.NewServer(http.HandlerFunc(b.hub.ServeLive))
	defer server.Close()
	var mu sync.Mutex
	frames, bytes := 0, 0
	group := run.New(context.Background())
	for i := range many {
		group.Go("client", func(context.Context) error {
			n, size, err := joinPresence(server.Listener.Addr().String(), i, many)
			mu.Lock()
			defer mu.Unlock()
			frames, bytes = frames+n, bytes+size
			return err
		})
	}
	for b.hub.Signals().Rows < many { // who comes after the first is told of when the clock moves
		runtime.Gosched()
	}
	b.clock.AwaitSleepers(2)
	b.clock.Advance(time.Second)
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d joined: %d frames and %d bytes", many, frames, bytes)
	if frames > 4*many {
		t.Errorf("%d frames for %d clients who joined at once", frames, many)
	}
}

// joinPresence connects, follows presence, joins it and reads until everybody is there. It returns the frames of presence and their bytes.
func joinPresence(addr string, i, many int) (frames, size int, err error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, 0, err
	}
	defer nc.Close()
	fmt.Fprintf(nc, "GET /v1/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
	in := bufio.NewReader(nc)
	if _, err := http.ReadResponse(in, nil); err != nil {
		return 0, 0, err
	}
	send := func(text string) { _, _ = nc.Write(clientFrame(opText, true, []byte(text))) }
	send(`{"type":"hello","subscribe":[{"id":"h","view":"here","select":"name"}]}`)
	send(fmt.Sprintf(`{"type":"signal","id":"s","table":"here","value":{"name":"%d"}}`, i))
	rows, count := map[string]bool{}, 0
	for {
		payload, err := readServerFrame(in)
		if err != nil {
			return frames, size, err
		}
		var f struct {
			Type  string
			Full  bool
			Put   []struct{ Connection string }
			Count *int
		}
		if err := json.Unmarshal(payload, &f); err != nil {
			return frames, size, err
		}
		if f.Type != "signals" {
			continue
		}
		frames, size = frames+1, size+len(payload)
		if f.Full {
			clear(rows)
			count = 0
		}
		for _, r := range f.Put {
			rows[r.Connection] = true
		}
		if f.Count != nil {
			count = *f.Count
		}
		if max(len(rows), count) == many {
			break
		}
	}
	return frames, size, nil // whom others do not see leave before the ttl is over
}

// readServerFrame reads one unmasked frame.
func readServerFrame(in *bufio.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	n := int(head[1])
	extended := map[int]int{126: 2, 127: 8}[n]
	if extended > 0 {
		b := make([]byte, extended)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, err
		}
		n = 0
		for _, c := range b {
			n = n<<8 | int(c)
		}
	}
	payload := make([]byte, n)
	_, err := io.ReadFull(in, payload)
	return payload, err
}

// BenchmarkSignals is one row of a channel on its way to connections that take everything at once: the cost of ours, without the kernel's.
func BenchmarkSignals(b *testing.B) {
	for _, conns := range []int{1, 1000} {
		b.Run(fmt.Sprint(conns), func(b *testing.B) {
			opt := signalOptions(b, Options{Store: view.New(relations(), view.Options{}), Log: testLog, Rules: rulesFunc(authorize), CloseTimeout: time.Millisecond})
			opt.Signals.Rate, opt.Signals.Burst = 1e6, 1e6
			hub, err := NewHub(context.Background(), opt)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = hub.Close() })
			var last *conn
			for range conns {
				last = newConn(webSocket, auth.Anonymous())
				last.sink = nowhere{}
				if p := hub.open(last); p != nil {
					b.Fatal(p)
				}
				last.drain()
				last.hello(&wire.HelloFrame{Subscribe: []wire.Subscription{{ID: "a", View: "typing"}}})
				defer hub.opening.Done()
			}
			topic := last.talks.Load().subs[0].topic
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			for i := range b.N {
				shown := topic.feed.Shown()
				last.signal(&wire.SignalFrame{ID: "s", Table: "typing", Key: []byte(`{"room":"a"}`), Value: fmt.Appendf(nil, `{"line":%d}`, i)})
				for topic.feed.Shown() == shown {
					runtime.Gosched()
				}
			}
			spent := cpu() - before
			b.StopTimer()
			b.ReportMetric(float64(spent.Microseconds())/float64(b.N)/float64(conns), "µsCPU/delivery")
		})
	}
}
