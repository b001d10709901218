package push

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/wire"
)

// ledger is a Limiter that books what it is asked and told, and refuses on demand.
type ledger struct {
	noLimiter
	mu       sync.Mutex
	next     uint64
	open     map[uint64]bool
	subs     map[string]int // granted, ended
	replayed int
	refuse   map[string]bool
	bad      []string // what may not be
}

func newLedger() *ledger {
	return &ledger{open: map[uint64]bool{}, subs: map[string]int{}, refuse: map[string]bool{}}
}

func (l *ledger) set(what string, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse[what] = on
}

func (l *ledger) refusesLocked(what string) *wire.Problem {
	if !l.refuse[what] {
		return nil
	}
	wait := 1500 * time.Millisecond
	if what == "query" { // whose answer would wait for the clock
		wait = 9 * time.Millisecond
	}
	return retryLater(wire.RateLimited, "no "+what+" now", wait)
}

func (l *ledger) Connect(auth.Principal) (uint64, *wire.Problem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.refusesLocked("connect"); p != nil {
		return 0, p
	}
	l.next++
	l.open[l.next] = true
	return l.next, nil
}

func (l *ledger) Left(_ auth.Principal, place uint64, lived time.Duration, subscribed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open[place] || lived < 0 || subscribed < 0 {
		l.bad = append(l.bad, fmt.Sprintf("left %d after %s with %d", place, lived, subscribed))
	}
	delete(l.open, place)
}

func (l *ledger) Subscribe(auth.Principal) *wire.Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs["asked"]++
	return l.refusesLocked("subscribe")
}

func (l *ledger) Unsubscribed(auth.Principal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs["ended"]++
}

func (l *ledger) Replayed(_ auth.Principal, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replayed += bytes
}

func (l *ledger) Frame(_ auth.Principal, _ int) (*wire.Problem, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.refusesLocked("cut"); p != nil {
		return p, true
	}
	return l.refusesLocked("frame"), false
}

func (l *ledger) Cut(auth.Principal) *wire.Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusesLocked("cut")
}

func (l *ledger) Query(auth.Principal) *wire.Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusesLocked("query")
}

// talk connects and sends frames; it returns what came back.
func (b *bench) talk(frames ...string) []string {
	b.t.Helper()
	m := newMemConn()
	if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil {
		b.t.Fatal(p)
	}
	for _, f := range frames {
		m.send(clientFrame(opText, true, []byte(f)))
	}
	m.awaitIdle()
	b.quiet(m)
	out, _, err := serverFrames(m.take())
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// TestLimiterAnswers refuses each thing over each transport.
func TestLimiterAnswers(t *testing.T) {
	l := newLedger()
	b := newBench(t, Options{Limiter: l}, 1<<20)
	b.apply(edit{rel: 0, vals: []*string{str("A"), str("3"), nil}})
	b.flushed()
	hello := `{"type":"hello","subscribe":[{"id":"1","view":"tally"}]}`
	has := func(what string, frames []string, parts ...string) {
		t.Helper()
		all := strings.Join(frames, "\n")
		for _, p := range parts {
			if !strings.Contains(all, p) {
				t.Errorf("%s: %q is not in\n%s", what, p, all)
			}
		}
	}
	l.set("connect", true)
	got := b.talk(hello)
	has("connect", got, `"type":"error","error":{`, `"code":"rate_limited"`, `"type":"goodbye"`, `"retry_after_ms":1500`, `(close 1013)`)
	r := newMemResponse()
	q := httptest.NewRequest("GET", "/v1/views/tally", nil)
	q.SetPathValue("view", "tally")
	q.Header.Set("Accept", "text/event-stream")
	b.serve(r, b.hub.ServeView, q)
	if r.status != 429 || r.head.Get("Retry-After") != "2" || r.head.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a stream of events: %d %v", r.status, r.head)
	}
	l.set("connect", false)
	l.set("query", true)
	r = newMemResponse()
	q = httptest.NewRequest("GET", "/v1/views/tally", nil)
	q.SetPathValue("view", "tally")
	b.serve(r, b.hub.ServeView, q)
	if r.status != 429 || r.head.Get("Retry-After") != "1" {
		t.Errorf("a read: %d %v", r.status, r.head)
	}
	l.set("subscribe", true)
	got = b.talk(hello, `{"type":"ping","t":1}`)
	has("subscribe", got, `"type":"welcome"`, `"type":"error","id":"1"`, `"code":"rate_limited"`, `"pong"`)
	l.set("subscribe", false)
	l.set("frame", true)
	got = b.talk(hello, `{"type":"subscribe","id":"2","view":"tally"}`, `{"type":"ping","t":1}`, `{"type":"unsubscribe","id":"1"}`)
	has("frame", got, `"type":"snapshot","id":"1"`, `"type":"error","id":"2"`, `"pong"`)
	if l.subs["ended"] != 1 {
		t.Errorf("%d ended", l.subs["ended"])
	}
	l.set("frame", false)
	l.set("cut", true)
	for _, frame := range []string{`{"type":"ping","t":1}`, `{"type":"write","id":"w","table":"x","rows":[{}]}`, `{"type":"nonsense"}`} {
		got = b.talk(hello, frame, `{"type":"ping","t":2}`)
		has("cut by "+frame, got, `"type":"snapshot","id":"1"`, `"type":"goodbye"`, `"code":"rate_limited"`)
		if strings.Contains(strings.Join(got, ""), `"pong"`) {
			t.Errorf("after %s it goes on: %s", frame, got)
		}
	}
	if l.replayed == 0 {
		t.Error("nothing was replayed")
	}
}

// TestLimiterPlaces opens and ends connections in all ways, and looks that each place is given back once.
func TestLimiterPlaces(t *testing.T) {
	l := newLedger()
	b := newBench(t, Options{Limiter: l, MaxConnections: 40}, 1<<20)
	b.apply(edit{rel: 0, vals: []*string{str("A"), str("3"), nil}})
	b.flushed()
	r := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		switch r.IntN(6) {
		case 0: // a stream of events whose client vanishes
			m := newMemResponse()
			q := httptest.NewRequest("GET", "/v1/views/tally", nil)
			q.SetPathValue("view", "tally")
			q.Header.Set("Accept", "text/event-stream")
			b.serve(m, b.hub.ServeView, q)
			if r.IntN(3) > 0 {
				m.vanish()
				<-m.done
			}
		case 1:
			l.set("connect", r.IntN(4) == 0)
		default:
			m := newMemConn()
			if p := b.hub.ServeConn(m, auth.Anonymous()); p != nil { // full
				for _, c := range b.hub.connections()[:10] {
					c.close()
				}
				continue
			}
			m.send(clientFrame(opText, true, []byte([]string{`{"type":"hello"}`, `{"type":"hello","subscribe":[{"id":"1","view":"tally"},{"id":"2","view":"secret"}]}`, `{"type":"ping","t":1}`, `{`}[r.IntN(4)])))
			if r.IntN(2) == 0 {
				m.awaitIdle()
			}
			if r.IntN(2) == 0 {
				m.hangUp()
			}
		}
	}
	b.hub.Drain()
	for _, c := range b.hub.connections() {
		c.close()
	}
	if err := b.hub.Close(); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) > 0 || len(l.bad) > 0 || l.next < 100 {
		t.Errorf("%d of %d places are not given back; %v", len(l.open), l.next, l.bad)
	}
}
