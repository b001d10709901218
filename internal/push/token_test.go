package push

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// teamsApp shows rows by what the token claims, and what a channel fills in of the sender.
const teamsApp = `
CREATE ROLE reader;
CREATE ROLE writer;
CREATE TABLE notes (id text PRIMARY KEY, team text);
GRANT SELECT ON notes TO reader, writer;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (team = auth_claim('team'));
CREATE TABLE said (room text PRIMARY KEY, by_role text DEFAULT auth_role()) WITH (channel);
GRANT SELECT ON said TO reader, writer;
`

// issuer gives tokens out: "team a" and "team b" are each one token, everything else is not believed, "as writer" has another role.
type issuer struct {
	known map[string]auth.Principal
	ended atomic.Bool
	asked atomic.Int64 // whether a token has ended
}

func newIssuer() *issuer {
	of := func(role, team string) auth.Principal {
		return auth.Principal{Subject: "ann", Role: role, Token: &auth.Token{Roles: []string{role}, Claims: []byte(`{"team":"` + team + `"}`)}}
	}
	return &issuer{known: map[string]auth.Principal{"team a": of("reader", "a"), "team b": of("reader", "b"), "as writer": of("writer", "a")}}
}

func (s *issuer) identify(token string, was auth.Principal) (auth.Principal, *wire.Problem) {
	p, ok := s.known[token]
	if !ok {
		return p, wire.NewProblem(wire.Unauthenticated, "nobody signed this").WithField("token", "")
	}
	p.From = was.From
	return p, nil
}

func (s *issuer) endedFor(auth.Principal) *wire.Problem {
	s.asked.Add(1)
	if s.ended.Load() {
		return wire.NewProblem(wire.TokenExpired, "the token has expired")
	}
	return nil
}

// teamsBench is a bench over teamsApp with a note of each team.
func teamsBench(t *testing.T, s *issuer, opt Options) *bench {
	t.Helper()
	p, rules := compiled(t, teamsApp)
	opt.Rules, opt.Identify, opt.Ended, opt.Channels = rules, s.identify, s.endedFor, p.Channels
	opt.Signals.Merge, opt.Signals.CountEvery = time.Nanosecond, time.Nanosecond
	opt.Signal = func(auth.Principal, string) *wire.Problem { return nil }
	b := newBenchOf(t, opt, 1<<20, p.Relations)
	b.happens(edit{rel: 0, vals: []*string{str("1"), str("a")}}, edit{rel: 0, vals: []*string{str("2"), str("b")}})
	return b
}

// enter connects as somebody and says frames.
func (b *bench) enter(p auth.Principal, frames ...string) *memConn {
	b.t.Helper()
	m := newMemConn()
	if refused := b.hub.ServeConn(m, p); refused != nil {
		b.t.Fatal(refused)
	}
	for _, f := range frames {
		m.send(clientFrame(opText, true, []byte(f)))
		b.quiet(m)
	}
	return m
}

// says sends a frame and returns all that comes then.
func (b *bench) says(m *memConn, frame string) string {
	b.t.Helper()
	b.told(m, 0)
	m.send(clientFrame(opText, true, []byte(frame)))
	return strings.Join(b.told(m, 10_000), "\n")
}

// only returns the hub's only connection.
func (b *bench) only() *conn {
	b.t.Helper()
	all := b.hub.connections()
	if len(all) != 1 {
		b.t.Fatal(len(all), "connections")
	}
	return all[0]
}

// TestWritesEndWithToken: of the writes that wait when the token ends none is carried out, and each is answered.
func TestWritesEndWithToken(t *testing.T) {
	s := newIssuer()
	begun, goOn := make(chan struct{}, 3), make(chan struct{})
	b := teamsBench(t, s, Options{Writer: writerFunc(func(context.Context, auth.Principal, *wire.WriteFrame) (*wire.WriteResult, *wire.Problem) {
		begun <- struct{}{}
		<-goOn
		return &wire.WriteResult{Rejected: []wire.Rejected{}}, nil
	})})
	m := newMemConn()
	if p := b.hub.ServeConn(m, s.known["team a"]); p != nil {
		t.Fatal(p)
	}
	m.send(clientFrame(opText, true, []byte(`{"type":"hello"}`)))
	for i := range 3 {
		m.send(clientFrame(opText, true, fmt.Appendf(nil, `{"type":"write","id":"w%d","table":"notes","rows":[{}]}`, i)))
	}
	m.awaitIdle()
	<-begun
	s.ended.Store(true)
	close(goOn)
	got := b.told(m, 10_000)
	if len(got) != 3 || !strings.Contains(got[0], `"type":"result","id":"w0"`) || len(begun) > 0 {
		t.Fatalf("%d more writes began: %s", len(begun), strings.Join(got, "\n"))
	}
	for i, f := range got[1:] {
		if !strings.Contains(f, fmt.Sprintf(`"type":"error","id":"w%d"`, i+1)) || !strings.Contains(f, `"token_expired"`) {
			t.Error(f)
		}
	}
}

// misreads is a ledger that keeps of what it is told the codes.
type misreads struct {
	*ledger
	who []string
}

func (l *misreads) Misread(p auth.Principal, code wire.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.who = append(l.who, p.Subject+" "+string(code))
}

func (l *misreads) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.subs["asked"]
}

// TestTokenFrames: they have a rate, what they move is charged and recorded like what is asked for, and the same token again costs nothing.
func TestTokenFrames(t *testing.T) {
	s, l := newIssuer(), &misreads{ledger: newLedger()}
	var reads struct {
		sync.Mutex
		of []string
	}
	b := teamsBench(t, s, Options{Limiter: l, Access: func(_ auth.Principal, relation string, _ *wire.Problem) *wire.Problem {
		reads.Lock()
		defer reads.Unlock()
		reads.of = append(reads.of, relation)
		return nil
	}})
	m := b.enter(s.known["team a"], `{"type":"hello","subscribe":[{"id":"n","view":"notes"},{"id":"s","view":"said"}]}`)
	if n := l.asked(); n != 2 {
		t.Fatal(n)
	}
	if got := b.says(m, `{"type":"token","token":"team b"}`); !strings.Contains(got, `"snapshot","id":"n"`) || !strings.Contains(got, `"2"`) {
		t.Error(got)
	}
	if got := b.says(m, `{"type":"token","token":"as writer"}`); !strings.Contains(got, `"snapshot","id":"n"`) {
		t.Error(got)
	}
	before := s.asked.Load()
	if got, n := b.says(m, `{"type":"token","token":"as writer"}`), l.asked(); got != "" || n != 4 || s.asked.Load() != before+1 { // once for the frame
		t.Errorf("%d subscriptions are charged, %d looked at; the same again: %s", n, s.asked.Load()-before-1, got)
	}
	reads.Lock()
	if want := []string{"notes", "said", "notes", "notes"}; !slices.Equal(reads.of, want) {
		t.Errorf("recorded are reads of %v, want %v", reads.of, want)
	}
	reads.Unlock()
	l.set("subscribe", true)
	got := b.says(m, `{"type":"token","token":"team b"}`)
	if !strings.Contains(got, `"type":"error","id":"n","error":{"type":"/errors/rate_limited"`) || strings.Contains(got, `"snapshot"`) {
		t.Errorf("it goes on: %s", got)
	}
	if got := b.says(m, `{"type":"token","token":"forged"}`); !strings.Contains(got, `"unauthenticated"`) || !slices.Equal(l.who, []string{"ann invalid_request"}) {
		t.Errorf("%v; %s", l.who, got)
	}
	got = b.says(m, `{"type":"token","token":"team a"}`) // the sixth within a second
	if !strings.Contains(got, `"rate_limited"`) || !strings.Contains(got, `"goodbye"`) || !strings.Contains(got, "1013") || b.only().asks() != s.known["team b"] {
		t.Error(got)
	}
	m.hangUp()
	m.awaitClosed()
	l.set("subscribe", false)
	m = b.enter(s.known["team a"], `{"type":"hello"}`)
	for i := range 20 {
		if got := b.says(m, fmt.Sprintf(`{"type":"token","token":"team %c"}`, "ab"[i%2])); got != "" {
			t.Fatal(i, got)
		}
		b.advance(time.Second)
	}
	l.set("frame", true)
	if got := b.says(m, `{"type":"token","token":"team a"}`); !strings.Contains(got, `"rate_limited"`) || !strings.Contains(got, `"goodbye"`) {
		t.Error(got)
	}
}

// TestRoleOfNow: whatever brought a token in while the app was deployed, it speaks in the role that the app gives it now.
func TestRoleOfNow(t *testing.T) {
	s := newIssuer()
	b := teamsBench(t, s, Options{Again: func(p auth.Principal) auth.Principal {
		if p.Role == "reader" {
			p.Role = "writer"
		}
		return p
	}})
	m := b.enter(s.known["team a"])
	if role := b.only().asks().Role; role != "writer" {
		t.Error("by its request:", role)
	}
	m.hangUp()
	m.awaitClosed()
	m = b.enter(auth.Anonymous(), `{"type":"hello","token":"team a"}`)
	if role := b.only().asks().Role; role != "writer" {
		t.Error("by hello:", role)
	}
	b.says(m, `{"type":"token","token":"team b"}`)
	if who := b.only().asks(); who.Role != "writer" || who.Token != s.known["team b"].Token {
		t.Error("by token:", who.Role)
	}
}

// TestSignalRole: rows of a channel have the role that their sender has when he sends them.
func TestSignalRole(t *testing.T) {
	s := newIssuer()
	b := teamsBench(t, s, Options{})
	x := &talking{t: t, m: newMemConn()}
	if p := b.hub.ServeConn(x.m, s.known["as writer"]); p != nil {
		t.Fatal(p)
	}
	x.send(`{"type":"hello","subscribe":[{"id":"s","view":"said"}]}`)
	x.wants(`"welcome"`)
	x.wants(`"signals","id":"s","full":true`)
	m := b.enter(s.known["team a"], `{"type":"hello"}`)
	if got := b.says(m, `{"type":"signal","id":"1","table":"said","key":{"room":"r"},"value":{}}`); got != "" {
		t.Fatal(got)
	}
	x.wants(`"by_role":"reader"`)
	b.says(m, `{"type":"token","token":"as writer"}`)
	if got := b.says(m, `{"type":"signal","id":"1","table":"said","key":{"room":"r"},"value":{}}`); got != "" {
		t.Fatal(got)
	}
	x.wants(`"by_role":"writer"`)
}

// TestStrangers: WebSockets that say no hello are counted by address until they do, and are faults when they never do.
func TestStrangers(t *testing.T) {
	l := &misreads{ledger: newLedger()}
	b := newBench(t, Options{EachOpening: 2, Limiter: l}, 0)
	from := func(address string) auth.Principal { return auth.Anonymous().At(address) }
	refused := func(address string) bool {
		t.Helper()
		p := b.hub.ServeConn(newMemConn(), from(address))
		if p != nil && (p.Code != wire.Busy || p.RetryAfterMS == 0) {
			t.Error(p)
		}
		return p != nil
	}
	first, second := b.enter(from("192.0.2.1:1")), b.enter(from("192.0.2.1:2"))
	if !refused("192.0.2.1:3") || refused("192.0.2.2:1") || refused("[::1]:1") || refused("[::1]:2") || refused("[::1]:3") {
		t.Error("the wrong ones are refused")
	}
	first.send(clientFrame(opText, true, []byte(`{"type":"hello"}`)))
	b.quiet(first)
	if refused("192.0.2.1:4") || !refused("192.0.2.1:5") {
		t.Error("a hello makes no place, or more than one")
	}
	second.hangUp()
	second.awaitClosed()
	if refused("192.0.2.1:6") || !refused("192.0.2.1:7") {
		t.Error("a client that left makes no place, or more than one")
	}
	for range 11 {
		b.advance(time.Second)
	}
	for len(b.hub.connections()) > 1 {
		b.advance(time.Second)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.who) != 6 || l.who[0] != "anon invalid_request" {
		t.Error("faults:", l.who)
	}
	b.hub.strangers.mu.Lock()
	defer b.hub.strangers.mu.Unlock()
	if len(b.hub.strangers.mu.by) != 0 || len(b.hub.strangers.mu.conns) != 0 {
		t.Error(b.hub.strangers.mu.by)
	}
}

// TestEndsDoNotWait: a connection whose token has ended does not keep the clock waiting with what takes long there.
func TestEndsDoNotWait(t *testing.T) {
	s := newIssuer()
	b := teamsBench(t, s, Options{})
	m := b.enter(s.known["team a"], `{"type":"hello","subscribe":[{"id":"n","view":"notes"}]}`)
	b.told(m, 0)
	c := b.only()
	for range cap(b.hub.scans) { // others look through many rows
		b.hub.scans <- struct{}{}
	}
	c.mu.Lock()
	c.mu.ops = append(c.mu.ops, op{id: "n", feed: c.mu.subs["n"], end: true, long: true})
	delete(c.mu.subs, "n")
	c.mu.Unlock()
	s.ended.Store(true)
	looked := make(chan struct{})
	b.group.Go("look", func(context.Context) error {
		defer close(looked)
		c.look(b.hub.now())
		return nil
	})
	select {
	case <-looked:
	case <-time.After(10 * time.Second):
		t.Error("the clock waits")
	}
	for range cap(b.hub.scans) {
		<-b.hub.scans
	}
	if got := strings.Join(b.told(m, 10_000), "\n"); !strings.Contains(got, `"token_expired"`) || !strings.Contains(got, `"goodbye"`) {
		t.Error(got)
	}
	<-looked
	m.hangUp()
	m.awaitClosed()
	for c := b.hub; ; {
		c.mu.Lock()
		feeds, conns := c.mu.feedCount, len(c.mu.conns)
		c.mu.Unlock()
		if conns == 0 {
			if feeds != 0 {
				t.Error(feeds, "feeds are left")
			}
			break
		}
	}
}

// TestQuietConnections: a connection on which nothing happens is left alone until something is due, and nothing that is due comes later for that.
func TestQuietConnections(t *testing.T) {
	s := newIssuer()
	var revised atomic.Uint64
	b := teamsBench(t, s, Options{Revised: revised.Load, PartialTimeout: 5 * time.Second})
	until := func(d time.Duration) auth.Principal {
		who := s.known["team a"]
		own := *who.Token
		own.Expires = b.clock.Now().Add(d)
		who.Token = &own
		return who
	}
	hello := `{"type":"hello","subscribe":[{"id":"n","view":"notes"}]}`
	enter := func(d time.Duration) *memConn {
		m := b.enter(until(d), hello)
		b.advance(tick)
		b.told(m, 0)
		return m
	}
	ticks := func(m *memConn, n int) (looks int64, came string) {
		before := s.asked.Load()
		for range n {
			b.advance(tick)
			b.quiet(m)
		}
		return s.asked.Load() - before, strings.Join(b.told(m, 10_000), "\n")
	}
	m := enter(time.Hour)
	if looks, came := ticks(m, 13); looks != 0 || came != "" {
		t.Errorf("%d looks before the first heartbeat, %s", looks, came)
	}
	if looks, came := ticks(m, 3); looks == 0 || !strings.Contains(came, `"epoch"`) {
		t.Errorf("%d looks at the time of a heartbeat, %s", looks, came)
	}
	if looks, _ := ticks(m, 5); looks != 0 {
		t.Errorf("%d looks after a heartbeat", looks)
	}
	revised.Add(1)
	if looks, _ := ticks(m, 5); looks != 1 {
		t.Errorf("%d looks after a revocation of others", looks)
	}
	m.hangUp()

	m = enter(time.Hour)
	ticks(m, 2)
	m.send(clientFrame(opText, true, []byte(hello))[:9])
	if _, came := ticks(m, 7); !strings.Contains(came, "took too long") {
		t.Errorf("half a message: %s", came)
	}
	m.hangUp()

	m = enter(8 * time.Second)
	ticks(m, 5)
	s.ended.Store(true) // as it is by then
	if looks, came := ticks(m, 1); looks != 0 || came != "" {
		t.Errorf("%d looks at a token that is good, %s", looks, came)
	}
	if _, came := ticks(m, 2); !strings.Contains(came, `"token_expired"`) {
		t.Errorf("the time of the token is over: %s", came)
	}
	m.hangUp()

	s.ended.Store(false)
	m = enter(time.Hour)
	ticks(m, 2)
	s.ended.Store(true)
	revised.Add(1)
	if _, came := ticks(m, 1); !strings.Contains(came, `"token_expired"`) {
		t.Errorf("the token was taken back: %s", came)
	}
}
