package node

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

const clinicSQL = `CREATE TABLE notes (id bigint PRIMARY KEY, author text NOT NULL DEFAULT auth_subject(), role text NOT NULL DEFAULT auth_role(), body text NOT NULL);
CREATE MATERIALIZED VIEW board AS SELECT author, count(*) AS n FROM notes GROUP BY author;
CREATE TABLE doors (name text PRIMARY KEY, open boolean NOT NULL);
CREATE ROLE nurse;
GRANT SELECT, INSERT ON notes TO nurse;
GRANT SELECT ON board TO nurse;
GRANT SELECT ON doors TO anon;
`

// skewed is the system's clock, some time ahead.
type skewed struct {
	run.System
	by atomic.Int64
}

func (c *skewed) Now() time.Time { return c.System.Now().Add(time.Duration(c.by.Load())) }

// clinic is a node with an issuer.
type clinic struct {
	*life
	clock  *skewed
	signer *auth.Signer
	dir    string
	set    app.Settings
}

func newClinic(t *testing.T, backbone string) *clinic {
	t.Helper()
	c := &clinic{clock: &skewed{}, dir: t.TempDir()}
	writeApp(t, c.dir, clinicSQL)
	var err error
	if c.signer, err = auth.NewSigner("EdDSA"); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.KeySet(nil, c.signer)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, "jwks.json"), keys, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.set = settingsFor(filepath.Join(c.dir, "data"), backbone)
	c.set.Auth.Issuers = []app.Issuer{{Issuer: "https://id.example.org/", Audience: "clinic", JWKS: "jwks.json"}}
	c.begin(t)
	return c
}

func (c *clinic) begin(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	n, err := Start(ctx, Options{Dir: c.dir, Settings: c.set, Clock: c.clock, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	c.life = &life{t, n, stop, n.PublicURL()}
}

// token signs claims that change a good token's.
func (c *clinic) token(change map[string]any) string {
	c.t.Helper()
	now := c.clock.Now().Unix()
	claims := map[string]any{"iss": "https://id.example.org/", "aud": "clinic", "sub": "u1", "iat": now, "exp": now + 600, "roles": []string{"nurse"}}
	for name, value := range change {
		claims[name] = value
	}
	text, err := c.signer.Sign(claims)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

type claims = map[string]any

func TestTokensOverHTTP(t *testing.T) {
	c := newClinic(t, "memory")
	defer c.end()
	good := c.token(nil)
	c.write("POST", "/v1/tables/notes", `{"id":1,"body":"x"}`, bearer(good)...)
	status, text, _ := c.call("GET", "/v1/views/notes", "", bearer(good)...)
	if status != 200 || text != `[{"id":1,"author":"u1","role":"nurse","body":"x"}]`+"\n" && text != `[{"id":1,"author":"u1","role":"nurse","body":"x"}]` {
		t.Fatalf("%d %s", status, text)
	}
	for name, x := range map[string]struct {
		header    []string
		path      string
		status    int
		code      wire.Code
		challenge string
	}{
		"no token":                   {nil, "notes", 401, wire.Unauthenticated, `Bearer realm="laaster"`},
		"no token, granted":          {nil, "doors", 200, "", ""},
		"a token":                    {bearer(good), "board", 200, "", ""},
		"a token, another scheme":    {[]string{"Authorization", "Basic dTpw"}, "doors", 401, wire.Unauthenticated, `Bearer realm="laaster", error="invalid_token"`},
		"nothing behind Bearer":      {[]string{"Authorization", "Bearer "}, "doors", 401, wire.Unauthenticated, `Bearer realm="laaster", error="invalid_token"`},
		"a small b":                  {[]string{"Authorization", "bearer " + good}, "board", 200, "", ""},
		"nonsense":                   {bearer("a.b.c"), "doors", 401, wire.Unauthenticated, `Bearer realm="laaster", error="invalid_token"`},
		"a token, not granted":       {bearer(good), "doors", 403, wire.Forbidden, ""},
		"a token of no role":         {bearer(c.token(claims{"roles": []string{"cook"}})), "notes", 403, wire.Forbidden, ""},
		"expired":                    {bearer(c.token(claims{"iat": c.clock.Now().Unix() - 100, "exp": c.clock.Now().Unix() - 50})), "doors", 401, wire.TokenExpired, `Bearer realm="laaster", error="invalid_token", error_description="the token has expired"`},
		"of another audience":        {bearer(c.token(claims{"aud": "bank"})), "doors", 401, wire.Unauthenticated, `Bearer realm="laaster", error="invalid_token"`},
		"an unknown name, no token":  {nil, "nothing", 404, wire.UnknownView, ""},
		"an unknown name, bad token": {bearer("a.b.c"), "nothing", 401, wire.Unauthenticated, `Bearer realm="laaster", error="invalid_token"`},
	} {
		status, text, head := c.call("GET", "/v1/views/"+x.path, "", x.header...)
		var p wire.Problem
		_ = json.Unmarshal([]byte(text), &p) // rows are none
		if status != x.status || p.Code != x.code || head.Get("WWW-Authenticate") != x.challenge {
			t.Errorf("%s: %d %s %q", name, status, text, head.Get("WWW-Authenticate"))
		}
	}
	q, _ := http.NewRequest("GET", c.url+"/v1/views/board", nil)
	q.Header["Authorization"] = []string{"Bearer " + good, "Bearer " + good}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 401 {
		t.Errorf("two headers: %s", r.Status)
	}
}

// socket is a live connection of a test.
type socket struct {
	t *testing.T
	c net.Conn
}

func (c *clinic) connect(hello string) *socket {
	c.t.Helper()
	d := ws.Dialer{Protocols: []string{wire.Subprotocol}, Timeout: 10 * time.Second}
	conn, _, _, err := d.Dial(c.t.Context(), "ws"+strings.TrimPrefix(c.url, "http")+"/v1/live")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(run.System{}.Now().Add(30 * time.Second))
	s := &socket{c.t, conn}
	s.send(hello)
	return s
}

func (s *socket) send(text string) {
	s.t.Helper()
	if err := wsutil.WriteClientText(s.c, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// frame is what is looked at in a server's frames.
type frame struct {
	Type, ID string
	Error    wire.Problem
	Code     wire.Code
	Retry    int `json:"retry_after_ms"`
	Rows     []json.RawMessage
	Changes  map[string]json.RawMessage
}

// next returns the next frame of a type; end: the connection has ended before.
func (s *socket) next(kind string) (f frame, end bool) {
	s.t.Helper()
	for {
		text, err := wsutil.ReadServerText(s.c)
		if err != nil {
			return f, true
		}
		f = frame{}
		if err := json.Unmarshal(text, &f); err != nil {
			s.t.Fatal(err)
		}
		if f.Type == kind {
			return f, false
		}
	}
}

func (s *socket) await(kind string) frame {
	s.t.Helper()
	f, end := s.next(kind)
	if end {
		s.t.Fatalf("the connection ended before %s", kind)
	}
	return f
}

// ends checks that the server says why and ends the connection.
func (s *socket) ends(code wire.Code) {
	s.t.Helper()
	if f := s.await("goodbye"); f.Code != code {
		s.t.Fatalf("goodbye %s, want %s", f.Code, code)
	}
	if _, end := s.next("nothing"); !end {
		s.t.Fatal("it goes on")
	}
}

func hello(token string) string {
	return `{"type":"hello","token":"` + token + `","subscribe":[{"id":"b","view":"board"}]}`
}

func TestTokensOverWebSocket(t *testing.T) {
	c := newClinic(t, "memory")
	defer c.end()
	s := c.connect(hello(c.token(nil)))
	s.await("welcome")
	s.await("snapshot")
	s.send(`{"type":"write","id":"w","table":"notes","rows":[{"id":1,"body":"x"}]}`)
	s.await("result")
	s.send(`{"type":"token","token":"` + c.token(claims{"jti": "second"}) + `"}`)
	s.send(`{"type":"write","id":"w2","table":"notes","rows":[{"id":2,"body":"y"}]}`)
	if f := s.await("result"); f.ID != "w2" {
		t.Fatalf("%+v", f)
	}
	s.send(`{"type":"token","token":"a.b.c"}`) // what is not believed changes nothing
	if f := s.await("error"); f.ID != "" || f.Error.Code != wire.Unauthenticated {
		t.Fatalf("%+v", f)
	}
	s.send(`{"type":"write","id":"w3","table":"notes","rows":[{"id":3,"body":"z"}]}`)
	if f := s.await("result"); f.ID != "w3" {
		t.Fatalf("%+v", f)
	}
	s.send(`{"type":"token","token":"` + c.token(claims{"roles": []string{"cook"}}) + `"}`)
	if f := s.await("error"); f.ID != "b" || f.Error.Code != wire.Forbidden {
		t.Fatalf("a role that may not: %+v", f)
	}
	s.send(`{"type":"token","token":"` + c.token(claims{"sub": "u2"}) + `"}`)
	if f := s.await("goodbye"); f.Code != wire.Unauthenticated || f.Retry == 0 {
		t.Fatalf("another subject: %+v", f)
	}
	s.c.Close()
	for name, x := range map[string]struct {
		token string
		code  wire.Code
	}{
		"nonsense": {"a.b.c", wire.Unauthenticated},
		"expired":  {c.token(claims{"iat": c.clock.Now().Unix() - 100, "exp": c.clock.Now().Unix() - 50}), wire.TokenExpired},
	} {
		s := c.connect(hello(x.token))
		if f := s.await("error"); f.Error.Code != x.code {
			t.Errorf("%s: %+v", name, f)
		}
		s.ends(x.code)
	}
	s = c.connect(`{"type":"hello"}`)
	s.await("welcome")
	s.send(`{"type":"token","token":"` + c.token(nil) + `"}`)
	s.ends(wire.Unauthenticated) // anon has become somebody
}

// TestEndOfTokens: open connections end when their token does.
func TestEndOfTokens(t *testing.T) {
	c := newClinic(t, "memory")
	defer c.end()
	s := c.connect(hello(c.token(nil)))
	s.await("snapshot")
	next, done := c.streamAs(c.token(nil))
	defer done()
	if kind, _ := next(); kind != "snapshot" {
		t.Fatal(kind)
	}
	c.clock.by.Add(int64(603 * time.Second))
	if f := s.await("error"); f.Error.Code != wire.TokenExpired {
		t.Fatalf("%+v", f)
	}
	s.ends(wire.TokenExpired)
	for {
		kind, data := next()
		if kind == "goodbye" {
			if !strings.Contains(data, `"token_expired"`) {
				t.Fatal(data)
			}
			break
		}
		if kind == "" {
			t.Fatal("the stream ended without a word")
		}
	}
}

// streamAs follows board as events; the function returns "" at the end.
func (c *clinic) streamAs(token string) (next func() (event, data string), done func()) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	q, _ := http.NewRequestWithContext(ctx, "GET", c.url+"/v1/views/board", nil)
	q.Header.Set("Accept", "text/event-stream")
	q.Header.Set("Authorization", "Bearer "+token)
	return events(c.t, q, cancel)
}

func events(t *testing.T, q *http.Request, cancel func()) (next func() (event, data string), done func()) {
	t.Helper()
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != 200 {
		b, _ := io.ReadAll(r.Body)
		t.Fatalf("%s %s", r.Status, b)
	}
	rest := ""
	return func() (event, data string) {
		for {
			if text, after, ok := strings.Cut(rest, "\n\n"); ok {
				rest = after
				for _, line := range strings.Split(text, "\n") {
					name, value, _ := strings.Cut(line, ": ")
					switch name {
					case "event":
						event = value
					case "data":
						data = value
					}
				}
				if event != "" {
					return event, data
				}
				continue
			}
			var b [4096]byte
			n, err := r.Body.Read(b[:])
			rest += string(b[:n])
			if err != nil && n == 0 {
				return "", ""
			}
		}
	}, func() { cancel(); r.Body.Close() }
}

func (c *clinic) revoke(body string) (int, string) {
	c.t.Helper()
	r, err := http.Post(c.n.AdminURL()+"/admin/v1/revoke", "application/json", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(b)
}

// TestRevoke: each way to take tokens back ends the connections that it concerns within five seconds and no others, and holds after a restart from the
// log, and from a checkpoint.
func TestRevoke(t *testing.T) {
	c := newClinic(t, "embedded")
	defer func() { c.end() }()
	now := c.clock.Now().Unix()
	tokens := map[string]string{
		"subject": c.token(claims{"sub": "thief"}),
		"id":      c.token(claims{"sub": "u2", "jti": "j1"}),
		"session": c.token(claims{"sub": "u3", "sid": "s1"}),
		"before":  c.token(claims{"sub": "u4", "iat": now - 100, "exp": now + 400}),
		"free":    c.token(claims{"sub": "u5", "jti": "j2", "sid": "s2"}),
	}
	sockets := map[string]*socket{}
	for name, token := range tokens {
		sockets[name] = c.connect(hello(token))
		sockets[name].await("snapshot")
	}
	for i, body := range []string{`{"subject":"thief"}`, `{"id":"j1"}`, `{"session":"s1"}`, `{"before":` + jsonOf(now-50) + `}`} {
		if i == 2 {
			if _, err := c.n.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if status, text := c.revoke(body); status != 200 || !strings.Contains(text, `"revocations":`) {
			t.Fatalf("%s: %d %s", body, status, text)
		}
	}
	began := run.System{}.Now()
	for name, s := range sockets {
		if name == "free" {
			continue
		}
		if f := s.await("error"); f.Error.Code != wire.Unauthenticated {
			t.Fatalf("%s: %+v", name, f)
		}
		s.ends(wire.Unauthenticated)
	}
	if took := (run.System{}).Now().Sub(began); took > 5*time.Second {
		t.Errorf("the connections ended after %s", took)
	}
	check := func(when string) {
		t.Helper()
		for name, token := range tokens {
			want := 401
			if name == "free" {
				want = 200
			}
			if status, text, _ := c.call("GET", "/v1/views/board", "", bearer(token)...); status != want {
				t.Errorf("%s, %s: %d %s", when, name, status, text)
			}
		}
	}
	check("running")
	sockets["free"].send(`{"type":"write","id":"w","table":"notes","rows":[{"id":1,"body":"x"}]}`)
	sockets["free"].await("result")
	sockets["free"].c.Close()
	c.end()
	c.begin(t)
	check("after a restart")
	if got := c.n.callers.verifier.Revocations.Len(); got != 4 {
		t.Errorf("%d revocations after a restart", got)
	}
	for _, body := range []string{``, `{}`, `{"issuer":"x"}`, `{"subject":5}`, `{"sub":"u1"}`, `{"subject":"u"} {}`, `{"before":99999999999}`} {
		if status, text := c.revoke(body); status != 400 {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	r, err := http.Post(c.n.AdminURL()+"/admin/v1/revoke", "text/plain", strings.NewReader(`{"subject":"u5"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a form of another site: %s", r.Status)
	}
}

func jsonOf(v any) string { b, _ := json.Marshal(v); return string(b) }

// TestTickets: a page's EventSource comes in once, from where the ticket was given to.
func TestTickets(t *testing.T) {
	c := newClinic(t, "memory")
	defer c.end()
	ticket := func(header ...string) string {
		t.Helper()
		status, text, head := c.call("POST", "/v1/ticket", "", append(header, bearer(c.token(nil))...)...)
		var x Ticket
		if err := json.Unmarshal([]byte(text), &x); err != nil || status != 200 || x.ExpiresMS != 30_000 || head.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %s", status, text)
		}
		return x.Ticket
	}
	open := func(ticket string, header ...string) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		q, _ := http.NewRequestWithContext(ctx, "GET", c.url+"/v1/views/board?_exact=true&_ticket="+ticket, nil)
		q.Header.Set("Accept", "text/event-stream")
		for i := 0; i < len(header); i += 2 {
			q.Header.Set(header[i], header[i+1])
		}
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var b [1024]byte
		n, _ := r.Body.Read(b[:])
		return r.StatusCode, string(b[:n])
	}
	x := ticket()
	if status, text := open(x); status != 200 || !strings.Contains(text, "event: ") && !strings.Contains(text, "retry:") {
		t.Fatalf("%d %s", status, text)
	}
	if status, text := open(x); status != 401 {
		t.Errorf("a second time: %d %s", status, text)
	}
	own := c.url // the server's own page: browsers name it when they post and leave it out when they read
	if status, text := open(ticket("Origin", own)); status != 200 {
		t.Errorf("its own page: %d %s", status, text)
	}
	x = ticket("Origin", "http://localhost:3000")
	if status, text := open(x, "Origin", "http://localhost:3001"); status != 401 {
		t.Errorf("another page: %d %s", status, text)
	}
	if status, text := open(x, "Origin", "http://localhost:3000"); status != 401 {
		t.Errorf("a ticket that somebody else tried: %d %s", status, text)
	}
	if status, text := open(ticket("Origin", "http://localhost:3000"), "Origin", "http://localhost:3000"); status != 200 {
		t.Errorf("its page: %d %s", status, text)
	}
	x = ticket()
	c.clock.by.Add(int64(30 * time.Second))
	if status, text := open(x); status != 401 {
		t.Errorf("after its time: %d %s", status, text)
	}
	if status, text := open(ticket(), "Accept", "application/json"); status != 400 {
		t.Errorf("for rows: %d %s", status, text)
	}
	if status, text := open(ticket(), "Accept", "application/json, text/event-stream;q=0.1"); status != 400 {
		t.Errorf("for rows rather than events: %d %s", status, text)
	}
	if status, text := open(""); status != 401 {
		t.Errorf("an empty one: %d %s", status, text)
	}
	if status, text, _ := c.call("POST", "/v1/ticket", ""); status != 401 {
		t.Errorf("without a token: %d %s", status, text)
	}
	for range mostOwn {
		ticket()
	}
	if status, text, head := c.call("POST", "/v1/ticket", "", bearer(c.token(nil))...); status != 429 || head.Get("Retry-After") == "" {
		t.Errorf("too many: %d %s", status, text)
	}
	c.clock.by.Add(int64(31 * time.Second))
	ticket()
	if n := len(c.n.callers.tickets.mu.given) + len(c.n.callers.tickets.mu.line); n != 2 {
		t.Errorf("%d tickets are remembered", n)
	}
}

// TestTicketsUsed: tickets that are used leave places for others.
func TestTicketsUsed(t *testing.T) {
	clock := &skewed{}
	x := newTickets(clock)
	busy := auth.Principal{Subject: "busy", Token: &auth.Token{}}
	if _, p := x.give(busy, ""); p != nil { // it is not used, and first in the line
		t.Fatal(p.Detail)
	}
	for range mostTicket + 1 {
		name, p := x.give(busy, "")
		if p != nil {
			t.Fatal(p.Detail)
		}
		if _, ok := x.take(name, "", busy.From); !ok {
			t.Fatal("not taken")
		}
	}
	if n := len(x.mu.line); n > 3*mostOwn {
		t.Errorf("%d names of tickets that are used are remembered", n)
	}
	other := auth.Principal{Subject: "other", Token: &auth.Token{}}
	if name, p := x.give(other, ""); p != nil {
		t.Errorf("none for another: %s", p.Detail)
	} else if who, ok := x.take(name, "", other.From); !ok || who != other {
		t.Errorf("%v %t", who, ok)
	}
	for i := range mostTicket - 1 {
		if _, p := x.give(auth.Principal{Subject: jsonOf(i)}, ""); p != nil {
			t.Fatalf("%d: %s", i, p.Detail)
		}
	}
	if _, p := x.give(other, ""); p == nil {
		t.Error("no bound")
	}
	clock.by.Add(int64(ticketLife))
	if _, p := x.give(other, ""); p != nil {
		t.Error(p.Detail)
	}
}

// TestRevokeAllWhenFull: the way out that the hint of a full table names is open, whatever fills it.
func TestRevokeAllWhenFull(t *testing.T) {
	c := newClinic(t, "embedded")
	defer func() { c.end() }()
	ctx, table := t.Context(), c.n.callers.verifier.Revocations
	fill := func(one func(text string) auth.Revocation, at time.Time) {
		t.Helper()
		for i := range auth.MaxRevocations {
			r, err := auth.NewRevocation(one(jsonOf(i)), at)
			if err != nil {
				t.Fatal(err)
			}
			table.Add(r, c.clock.Now())
		}
		if _, p := c.n.Revoke(ctx, auth.Revocation{Subject: "u1"}); p == nil || p.Code != wire.Busy {
			t.Fatalf("one more: %v", p)
		}
	}
	fill(func(text string) auth.Revocation { return auth.Revocation{ID: text} }, c.clock.Now().Add(-time.Minute))
	if _, p := c.n.Revoke(ctx, auth.Revocation{Before: c.clock.Now().Unix()}); p != nil || table.Len() != 1 {
		t.Fatalf("%v, and %d revocations", p, table.Len())
	}
	good := c.token(claims{"iat": c.clock.Now().Unix() + 1})
	if status, text, _ := c.call("GET", "/v1/views/board", "", bearer(good)...); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	fill(func(text string) auth.Revocation { return auth.Revocation{Session: text} }, c.clock.Now())
	before := c.clock.Now().Unix() + 2
	if _, p := c.n.Revoke(ctx, auth.Revocation{Before: before}); p != nil {
		t.Fatal(p.Detail)
	}
	if status, text, _ := c.call("GET", "/v1/views/board", "", bearer(good)...); status != 401 {
		t.Errorf("taken back with everything: %d %s", status, text)
	}
	if _, p := c.n.Revoke(ctx, auth.Revocation{Before: -1}); p == nil || p.Code != wire.InvalidRequest {
		t.Errorf("a time before 1970: %v", p)
	}
}

// TestRevocationsRestored: a backup that is restored does not make tokens good again, nor does one of what was restored.
func TestRevocationsRestored(t *testing.T) {
	c := newClinic(t, "embedded")
	defer func() { c.end() }()
	bad, good := c.token(claims{"jti": "j1"}), c.token(claims{"jti": "j2"})
	first := c.write("POST", "/v1/tables/notes", `{"id":1,"body":"x"}`, bearer(good)...)
	if status, text := c.revoke(`{"id":"j1"}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if _, err := c.n.Checkpoint(t.Context()); err != nil { // the log before it is not read again
		t.Fatal(err)
	}
	c.write("POST", "/v1/tables/notes", `{"id":2,"body":"y"}`, bearer(good)...)
	file := fetchBackup(t, c.life)
	c.end()
	for i, until := range []string{"", "", first.Position} { // the whole, the whole of that, and of the first one before the revocation
		from := file
		if i == 1 {
			from = fetchBackup(t, c.life)
			c.end()
		}
		data, _, err := restoreTo(t, from, until, "")
		if err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			c.end()
		}
		c.set.Data = data
		c.begin(t)
		for token, want := range map[string]int{bad: 401, good: 200} {
			if status, text, _ := c.call("GET", "/v1/views/board", "", bearer(token)...); status != want {
				t.Errorf("restore %d: %d %s, want %d", i, status, text, want)
			}
		}
	}
}

// TestKeysByAddress: a request with a key that is not known waits until it was fetched, and a provider that does not answer is told.
func TestKeysByAddress(t *testing.T) {
	var keys atomic.Pointer[[]byte]
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if text := keys.Load(); text != nil {
			_, _ = w.Write(*text)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer provider.Close()
	c := &clinic{clock: &skewed{}, dir: t.TempDir()}
	writeApp(t, c.dir, clinicSQL)
	var err error
	if c.signer, err = auth.NewSigner("ES256"); err != nil {
		t.Fatal(err)
	}
	c.set = settingsFor("", "memory")
	c.set.Auth.Issuers = []app.Issuer{{Issuer: "https://id.example.org/", Audience: "clinic", JWKS: provider.URL}}
	c.begin(t)
	defer c.end()
	degraded := func() bool {
		r, err := http.Get(c.n.AdminURL() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return strings.Contains(string(b), `"issuer"`) && strings.Contains(string(b), "502")
	}
	status, text, head := c.call("GET", "/v1/views/board", "", bearer(c.token(nil))...)
	if status != 503 || head.Get("Retry-After") == "" || !degraded() {
		t.Fatalf("%d %s", status, text)
	}
	set, err := auth.KeySet(nil, c.signer)
	if err != nil {
		t.Fatal(err)
	}
	keys.Store(&set)
	c.clock.by.Add(int64(11 * time.Second)) // an attempt is allowed again
	if status, text, _ := c.call("GET", "/v1/views/board", "", bearer(c.token(nil))...); status != 200 || degraded() {
		t.Fatalf("%d %s", status, text)
	}
	s := c.connect(hello(c.token(nil)))
	s.await("snapshot")
	s.c.Close()
}

// TestHugeTokens: what is too large for a token costs nobody anything, wherever it is sent.
func TestHugeTokens(t *testing.T) {
	c := newClinic(t, "memory")
	defer c.end()
	for _, n := range []int{8 << 10, 12 << 10} {
		if status, text, _ := c.call("GET", "/v1/views/doors", "", bearer(strings.Repeat(".", n))...); status != 401 {
			t.Errorf("%d dots: %d %s", n, status, text)
		}
	}
	for _, n := range []int{8<<10 + 1, 900_000} {
		s := c.connect(hello(strings.Repeat(".", n)))
		if f := s.await("error"); f.Error.Code != wire.InvalidRequest && f.Error.Code != wire.Unauthenticated && f.Error.Code != wire.TooLarge {
			t.Errorf("%d dots: %+v", n, f.Error)
		}
		if _, end := s.next("nothing"); !end {
			t.Errorf("%d dots: it goes on", n)
		}
	}
}
