package ingest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/kit/run"
	"laaster/internal/wire"
)

// TestFloodWaitsBehindItself: with the log standing still, one that fills its queue is refused before others are, and when the log moves a newcomer's
// write is in the next batch, before what the flood queued earlier.
func TestFloodWaitsBehindItself(t *testing.T) {
	l := &scriptLog{gate: make(chan struct{}, 1000)}
	r := newScript(t, l, 32<<20)
	r.accept()
	flood, other := auth.Principal{Subject: "flood"}, auth.Principal{Subject: "other"}
	taken, refused := 0, 0
	for range 2000 {
		x := newPart(8000)
		x.entry.Request = []byte("flood")
		tk, p := r.writer.enter(gone(), flood, app.NormalPriority, "t", 8000)
		if p != nil {
			refused++
			continue
		}
		if p := r.writer.submit(tk, []*part{x}); p != nil {
			t.Fatal(p)
		}
		if taken++; taken == 1 {
			r.awaitTaken() // is being appended
		}
	}
	if refused == 0 || taken < 10 {
		t.Fatalf("%d taken, %d refused", taken, refused)
	}
	parts := []*part{newPart(100), newPart(100), newPart(100)}
	for i, x := range parts { // one request of three parts
		x.entry.Request, x.entry.First, x.entry.Last = []byte("other"), uint32(i), i == 2
	}
	if p := r.submitAs(t.Context(), other, parts); p != nil {
		t.Fatalf("a newcomer with little: %v", p)
	}
	for range 100 {
		l.gate <- struct{}{}
	}
	for i, x := range parts {
		if a := <-x.done; a.problem != nil || a.seq != 2 {
			t.Errorf("part %d of the newcomer: %+v", i, a)
		}
	}
	r.close()
	at, ahead, firsts := 0, -1, ""
	for i := range l.batches {
		it, e := l.batches[i].Entries(), change.Entry{}
		for ; it.Next(&e); at++ {
			if string(e.Request) == "other" {
				if ahead < 0 {
					ahead = at
				}
				firsts += fmt.Sprint(at-ahead, e.First, " ")
			}
		}
	}
	if ahead > 1+2*quantum/8000 {
		t.Errorf("%d entries of the flood went before the newcomer's", ahead)
	}
	if firsts != "0 0 1 1 2 2 " {
		t.Errorf("the parts of one request: %s", firsts)
	}
}

// TestBudgetIsShared: one with large requests leaves room for those who come, and gets all of it when there is nobody else.
func TestBudgetIsShared(t *testing.T) {
	b := &budget{limit: 1 << 20}
	grow := func(who string, bytes int) (*share, *wire.Problem) {
		s := &share{}
		s.begin(b, auth.Principal{Subject: who}, "t")
		return s, s.grow(bytes)
	}
	one, p := grow("flood", 1<<20)
	if p != nil {
		t.Fatalf("a single request may have all of it: %v", p)
	}
	one.free()
	var held []*share
	for p == nil {
		var s *share
		if s, p = grow("flood", 80_000); p == nil {
			held = append(held, s)
		} else {
			s.free()
		}
	}
	if p.Code != wire.RateLimited || p.RetryAfterMS == 0 || len(held) < 10 {
		t.Errorf("%d requests, then %+v", len(held), p)
	}
	small, p := grow("other", 100_000)
	if p != nil {
		t.Errorf("a newcomer: %v", p)
	}
	small.free()
	for _, s := range held[1:] {
		s.free()
	}
	if _, p := grow("other", 700_000); p == nil || p.Code != wire.RateLimited {
		t.Errorf("more than its half, beside another: %v", p)
	}
	// Random histories: what is taken is given back.
	rng := rand.New(rand.NewPCG(1, 1))
	held[0].free()
	b = &budget{limit: 1 << 20}
	open := map[int]*share{}
	for range 20_000 {
		i := rng.IntN(40)
		if s := open[i]; s != nil && rng.IntN(2) == 0 {
			s.free()
			delete(open, i)
		} else if s != nil {
			_ = s.grow(rng.IntN(50_000))
		} else {
			s, p := grow(fmt.Sprint(i%5), rng.IntN(50_000))
			if open[i] = s; p != nil {
				s.free()
				delete(open, i)
			}
		}
		if n := b.held(); n > b.limit || n < 0 {
			t.Fatalf("%d of %d bytes are taken", n, b.limit)
		}
	}
	for _, s := range open {
		s.free()
	}
	if b.held() != 0 || len(b.mu.holders) != 0 {
		t.Errorf("%d bytes and %d holders are left", b.held(), len(b.mu.holders))
	}
}

// TestClaims: one that fills the memory for ids leaves an eighth to others, and each has a part once it is half full; what leaves the window is
// forgotten.
func TestClaims(t *testing.T) {
	const limit = 1 << 20
	c := &claims{window: 8 * time.Second}
	now := time.Unix(1000, 0)
	filled := 0
	put := func(who string, bytes int) *wire.Problem {
		p := c.take(auth.Principal{Subject: who}, bytes, filled, limit, now)
		if p == nil {
			filled += bytes
		}
		return p
	}
	var p *wire.Problem
	for p == nil {
		p = put("flood", 1000)
	}
	if p.Code != wire.RateLimited || filled < limit/8*7-2000 || filled > limit/8*7+2000 || p.RetryAfterMS < 100 {
		t.Errorf("at %d of %d bytes: %+v", filled, limit, p)
	}
	n := 0
	for ; put("other", 1000) == nil; n++ {
	}
	if n < limit/8/1000-2 {
		t.Errorf("another one had %d times 1000 bytes, an eighth of %d is left", n, limit)
	}
	if p := put("third", 1000); p == nil || p.Code != wire.Busy {
		t.Errorf("full: %+v", p)
	}
	filled = limit / 4 * 3
	if p := put("flood", 1000); p == nil || p.Code != wire.RateLimited {
		t.Errorf("three quarters full, most of it the flood's: %+v", p)
	}
	if p := put("third", 1000); p != nil {
		t.Errorf("three quarters full: %+v", p)
	}
	now = now.Add(20 * time.Second)
	filled = 0
	if p := put("flood", 1000); p != nil || len(c.mu.of) != 1 || c.mu.total != 1000 {
		t.Errorf("after the window: %v, %d known, %d bytes", p, len(c.mu.of), c.mu.total)
	}
}

// TestProducerAtTheDoor: what goes into the log for a producer, what is refused before, and how the engine's refusal of a gap is told.
func TestProducerAtTheDoor(t *testing.T) {
	d, r := newDoor(t, ample())
	keys := make(chan string, 10)
	gap := false
	r.group.Go("engine", func(context.Context) error {
		for b := range r.out {
			var outcomes []change.Outcome
			it, e := b.Entries(), change.Entry{}
			for it.Next(&e) {
				keys <- fmt.Sprintf("%q %d %d", e.Key, e.BodyHash, e.Count)
				o := change.Outcome{Accepted: e.Count}
				if gap {
					o = change.Outcome{Rejected: []change.Reject{{Code: "conflict", Field: "Producer-Sequence", Detail: "sequence gap: 7 is expected, not 9"}}}
				}
				outcomes = append(outcomes, o)
			}
			r.writer.Complete(b, outcomes)
		}
		return nil
	})
	row := []byte(`{"a":"x"}`)
	for _, c := range []struct {
		r    Request
		code wire.Code
		key  string
	}{
		{Request{Rows: row, Producer: "p", Sequence: 3}, "", `"\x00p" 3 1`},
		{Request{Rows: []byte(`{"a":null}`), Producer: "p", Sequence: 4}, "", `"\x00p" 4 1`},
		{Request{Rows: []byte(`[]`), Producer: "p", Sequence: 5}, "", `"\x00p" 5 0`},
		{Request{Rows: []byte(`nonsense`), Producer: "p", Sequence: 6}, wire.InvalidJSON, ""},
		{Request{Rows: row, Producer: "p"}, wire.InvalidRequest, ""},
		{Request{Rows: row, Sequence: 1}, wire.InvalidRequest, ""},
		{Request{Rows: row, Producer: "p", Sequence: 1, Key: "k"}, wire.InvalidRequest, ""},
		{Request{Rows: row, Producer: strings.Repeat("p", 65), Sequence: 1}, wire.InvalidRequest, ""},
		{Request{Rows: row, Producer: "p", Sequence: 1<<53 + 1}, wire.InvalidRequest, ""},
		{Request{Rows: row, Key: "\x00p"}, wire.InvalidRequest, ""},
	} {
		res, p := d.send(t, &c.r)
		if (p == nil) != (c.code == "") || p != nil && p.Code != c.code {
			t.Errorf("%+v: %+v, want %q", c.r, p, c.code)
		}
		if p == nil && (<-keys != c.key || res == nil) {
			t.Errorf("%+v: want the key %s", c.r, c.key)
		}
	}
	gap = true
	if _, p := d.send(t, &Request{Rows: row, Producer: "p", Sequence: 9}); p == nil || p.Code != wire.SequenceGap || p.Expected != 7 {
		t.Errorf("a gap: %+v", p)
	}
	<-keys
	r.close()
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a refused request is read")
	return 0, http.ErrBodyNotAllowed
}

// TestRefusedUnread: what a refused request brings is not taken into memory, whatever its size.
func TestRefusedUnread(t *testing.T) {
	d, r := newDoor(t, ample())
	h := &HTTP{Door: d, Principal: func(q *http.Request) (auth.Principal, *wire.Problem) { return auth.Anonymous().At(q.RemoteAddr), nil },
		RequestID: func(*http.Request) string { return "1" }, BodyTime: time.Second,
		Answer: func(w http.ResponseWriter, _ *http.Request, p *wire.Problem) { http.Error(w, p.Detail, p.Status) }}
	who := auth.Anonymous().At("192.0.2.1:1234")
	for range 100 { // until there is no room
		_, _ = d.opt.Writer.enter(gone(), who, app.NormalPriority, "e", 20_000)
	}
	if _, p := d.opt.Writer.enter(t.Context(), who, app.LowPriority, "e", 20_000); p == nil {
		t.Fatal("there is room")
	}
	post := func(from string, size int64, body io.Reader) int {
		q := httptest.NewRequest("POST", "/v1/tables/e", body)
		q.SetPathValue("table", "e")
		q.RemoteAddr, q.ContentLength = from, size
		w := httptest.NewRecorder()
		h.ServeHTTP(w, q)
		return w.Code
	}
	if status := post("192.0.2.1:999", 1<<20, unread{t}); status != 503 && status != 429 {
		t.Errorf("status %d", status)
	}
	body := strings.NewReader(strings.Repeat("x", 150_000)) // small enough to be skipped, for the connection's sake
	if status := post("192.0.2.1:999", 150_000, body); status != 503 && status != 429 || body.Len() != 0 || d.budget.held() != 0 {
		t.Errorf("status %d, %d bytes not skipped", status, body.Len())
	}
	r.accept()
	if status := post("192.0.2.2:999", 150_000, strings.NewReader(`{"a":"`+strings.Repeat("x", 149_992)+`"}`)); status != 200 {
		t.Errorf("another caller: status %d", status)
	}
	r.close()
}

// TestRefusalsArePaced: one who is refused very often waits for the answer, others do not.
func TestRefusalsArePaced(t *testing.T) {
	r := newRig(t, nil, 1<<20)
	flood, other := auth.Principal{Subject: "flood"}, auth.Principal{Subject: "other"}
	for range 200 {
		_, _ = r.writer.enter(gone(), flood, app.NormalPriority, "t", 20_000)
	}
	for i := range 200 { // alone it hardly waits
		if p, wait := r.writer.refuses(flood, app.LowPriority, "t", 20_000); p == nil || wait > 20*time.Millisecond {
			t.Fatalf("refusal %d of one who is alone: %v, %s", i, p, wait)
		}
	}
	_, _ = r.writer.refuses(other, app.LowPriority, "t", 2_000_000)
	r.clock.Advance(500 * time.Millisecond)
	longest := time.Duration(0)
	for i := range 4000 { // 200 a second are told
		p, wait := r.writer.refuses(flood, app.LowPriority, "t", 20_000)
		if p == nil || wait < longest || i < 5 && wait > 0 {
			t.Fatalf("refusal %d: %v, %s after %s", i, p, wait, longest)
		}
		longest = wait
	}
	if longest != paceMost {
		t.Errorf("the last one waits %s", longest)
	}
	if p, wait := r.writer.refuses(other, app.LowPriority, "t", 2_000_000); p == nil || wait != 0 {
		t.Errorf("another one: %v, %s", p, wait)
	}
	r.clock.Advance(3 * time.Second)
	if _, wait := r.writer.refuses(flood, app.LowPriority, "t", 20_000); wait != 0 {
		t.Errorf("later: %s", wait)
	}
	r.close()
}

// ticking moves the clock by steps, as fast as it can, until stop is called.
func (r *rig) ticking(t *testing.T, step time.Duration) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	g := run.New(t.Context())
	g.Go("clock", func(context.Context) error {
		for {
			select {
			case <-done:
				return nil
			default:
				r.clock.Advance(step)
				r.writer.Held()
			}
		}
	})
	return func() {
		close(done)
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestManyAtOnce runs everything at once: for the race detector.
func TestManyAtOnce(t *testing.T) {
	l := &scriptLog{}
	for i := range 200 {
		f := failure{}
		if i%20 == 7 {
			f = failure{full(), i%40 == 7}
		}
		l.fails = append(l.fails, f)
	}
	r := newScript(t, l, 1<<20)
	r.accept()
	g := run.New(t.Context())
	for i := range 20 {
		g.Go("sender", func(ctx context.Context) error {
			for n := range 50 {
				x := newPart(1000 * (i + 1))
				if p := r.submitAs(ctx, auth.Principal{Subject: fmt.Sprint(i % 5)}, []*part{x}); p == nil {
					<-x.done
				}
				if n%10 == 0 {
					r.writer.Note(change.EntryCanary, []byte("c"))
					_, _ = r.writer.Record(ctx, []byte("{}"))
					r.writer.Tick()
				}
			}
			return nil
		})
	}
	stop := r.ticking(t, 50*time.Millisecond)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	r.close()
	stop()
	if n := r.writer.Held(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}
