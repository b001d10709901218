package push

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"laaster/app"
	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/expr"
	"laaster/internal/kit/run"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// ticking is a clock that goes on by a step each time that somebody looks; who waits on it waits for ever, unless at is set.
type ticking struct {
	at   *run.Manual
	step time.Duration
}

func (c ticking) Now() time.Time {
	c.at.Advance(c.step)
	return c.at.Now()
}

func (c ticking) After(d time.Duration) <-chan time.Time { return c.at.After(d) }

// wideView returns a hub over a view with n rows: id, and a text.
func wideView(t *testing.T, n int, text string, opt Options) (*Hub, func(path string) *httptest.ResponseRecorder) {
	t.Helper()
	cols := []app.Column{{Name: "id", Type: app.Int8}, {Name: "s", Type: app.Text}}
	rel := &expr.Relation{Name: "v", Columns: cols, Layout: change.ColumnLayout(cols), Key: []int{0}}
	opt.Store = view.New([]*expr.Relation{rel}, view.Options{})
	epoch := &change.Epoch{Seq: 1, Deltas: []change.Delta{{}}}
	for i := range int64(n) {
		row := rel.Layout.Append(nil, []change.Value{change.Int(i), change.Value{B: []byte(text)}})
		epoch.Deltas[0].Changes = append(epoch.Deltas[0].Changes, change.RowChange{Key: change.AppendKey(nil, app.Int8, change.Int(i), false, false), New: row})
	}
	opt.Store.Apply(epoch)
	opt.Rules = rulesFunc(func(auth.Principal, string) *wire.Problem { return nil })
	h, err := NewHub(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() }) // nothing runs that could fail
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/views/{view}", h.ServeView)
	return h, func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
}

func code(w *httptest.ResponseRecorder) string {
	var p wire.Problem
	if w.Code == http.StatusOK || json.Unmarshal(w.Body.Bytes(), &p) != nil {
		return ""
	}
	return string(p.Code)
}

// TestReadsHaveABudget: a read that computes too long ends with a problem when nothing is written yet, and with a cut answer when something is; what it held is
// given back. Small reads and those of one key never meet it.
func TestReadsHaveABudget(t *testing.T) {
	clock := ticking{run.NewManual(time.Unix(1e9, 0)), 30 * time.Millisecond}
	h, get := wideView(t, 100_000, "some text", Options{Clock: clock, ReadTime: time.Second})
	for _, c := range []struct {
		query, want string
		cut         bool
	}{
		{"s=like.x*y", "too_large", false},
		{"s=match.^(x|y)+$", "too_large", false},
		{"s=like.x*y&order=s.desc", "too_large", false},
		{"", "", true},
		{"id=eq.77", "", false},
		{"limit=3", "", false},
	} {
		func() {
			cut := false
			defer func() {
				if p := recover(); p != nil {
					if cut = p == http.ErrAbortHandler; !cut {
						panic(p)
					}
				}
				if cut != c.cut {
					t.Errorf("%q: cut %v, want %v", c.query, cut, c.cut)
				}
			}()
			w := get("/v1/views/v?" + c.query)
			if code(w) != c.want {
				t.Errorf("%q: %d %.200s, want %q", c.query, w.Code, w.Body, c.want)
			}
			if c.want != "" && (w.Header().Get("ETag") != "" || w.Header().Get("Cache-Control") != "no-store") {
				t.Errorf("%q: a refusal that may be kept: %v", c.query, w.Header())
			}
		}()
	}
	if r := h.reading; r.mu.running != 0 || r.mu.under != 0 || len(r.mu.callers) != 0 || len(r.mu.queue) != 0 || h.sorting.used.Load() != 0 {
		t.Errorf("left behind: %d running, %d under way, %d callers, %d waiting, %d bytes", r.mu.running, r.mu.under, len(r.mu.callers), len(r.mu.queue), h.sorting.used.Load())
	}
}

// TestSortingOfOneRead: one read may not take all that there is for sorting.
func TestSortingOfOneRead(t *testing.T) {
	_, get := wideView(t, 3000, "text", Options{SortBytes: 10 << 20, SortEach: 300_000})
	for query, want := range map[string]string{"order=s": "too_large", "order=s&limit=10": "", "id=lt.300&order=s": ""} {
		if w := get("/v1/views/v?" + query); code(w) != want {
			t.Errorf("%q: %d %.200s, want %q", query, w.Code, w.Body, want)
		}
	}
}

// TestHeavyReadsTakeTurns: while others have all turns, a heavy read waits and is told busy, and a small one does not notice.
func TestHeavyReadsTakeTurns(t *testing.T) {
	clock := run.NewManual(time.Unix(1e9, 0))
	h, get := wideView(t, 30_000, "text", Options{Clock: clock})
	for range h.reading.slots {
		h.reading.take(nil, nil)
	}
	if w := get("/v1/views/v?limit=100"); w.Code != http.StatusOK {
		t.Errorf("small: %d %s", w.Code, w.Body)
	}
	answers := make(chan *httptest.ResponseRecorder)
	go func() { answers <- get("/v1/views/v?s=like.x*y") }()
	wantQueue(t, h, 1)
	clock.Advance(readPatience)
	if w := <-answers; code(w) != "busy" || w.Header().Get("Retry-After") == "" {
		t.Errorf("heavy: %d %v %s", w.Code, w.Header(), w.Body)
	}
	go func() { answers <- get("/v1/views/v?s=like.x*y") }()
	wantQueue(t, h, 1)
	for range h.reading.slots {
		h.reading.give()
	}
	if w := <-answers; w.Code != http.StatusOK || w.Body.String() != "[]\n" {
		t.Errorf("heavy, with a turn: %d %s", w.Code, w.Body)
	}
}

// TestLargeAnswersTakeTurns: an answer of few rows that are large waits for its turns as well, and is not refused when it has begun.
func TestLargeAnswersTakeTurns(t *testing.T) {
	clock := run.NewManual(time.Unix(1e9, 0))
	h, get := wideView(t, 2000, strings.Repeat("x", 1000), Options{Clock: clock})
	for range h.reading.slots {
		h.reading.take(nil, nil)
	}
	if w := get("/v1/views/v?limit=200"); w.Code != http.StatusOK {
		t.Errorf("small: %d %s", w.Code, w.Body)
	}
	answers := make(chan *httptest.ResponseRecorder)
	go func() { answers <- get("/v1/views/v") }()
	wantQueue(t, h, 1)
	clock.Advance(readPatience)
	for range h.reading.slots {
		h.reading.give()
	}
	if w := <-answers; w.Code != http.StatusOK || w.Body.Len() < 2000*1000 {
		t.Errorf("large, with a turn: %d, %d bytes", w.Code, w.Body.Len())
	}
	if r := h.reading; r.mu.running != 0 || r.mu.under != 0 || len(r.mu.queue) != 0 {
		t.Errorf("left behind: %d running, %d under way, %d waiting", r.mu.running, r.mu.under, len(r.mu.queue))
	}
}

// TestLargeAnswerBecomesHeavy: a read that turns out to cost much when it already takes turns has one turn, and gives it back.
func TestLargeAnswerBecomesHeavy(t *testing.T) {
	h, _ := wideView(t, 1, "text", Options{Clock: run.NewManual(time.Unix(1e9, 0))})
	r := h.reading
	r.slots = 2
	m, problem := h.newMeter(t.Context(), auth.Principal{}, 1)
	if problem != nil {
		t.Fatal(problem)
	}
	w := &meteredWriter{w: io.Discard, m: m}
	if _, err := w.Write(make([]byte, largeAnswer+1)); err != nil || !m.turn || r.mu.under != 0 {
		t.Errorf("large: %v, a turn: %v, %d under way", err, m.turn, r.mu.under)
	}
	for range lightUnits + clockUnits {
		if !m.step(&expr.Ctx{}) {
			t.Fatal(m.ended())
		}
	}
	if !m.heavy || r.mu.under != 1 || r.mu.running != 1 {
		t.Errorf("heavy: %v, %d under way, %d turns", m.heavy, r.mu.under, r.mu.running)
	}
	if m.close(); r.mu.running != 0 || r.mu.under != 0 || len(r.mu.queue) != 0 {
		t.Errorf("left behind: %d running, %d under way, %d waiting", r.mu.running, r.mu.under, len(r.mu.queue))
	}
}

// wantQueue waits until so many reads wait for a turn.
func wantQueue(t *testing.T, h *Hub, n int) {
	t.Helper()
	for deadline := time.After(10 * time.Second); ; {
		h.reading.mu.Lock()
		waiting := len(h.reading.mu.queue)
		h.reading.mu.Unlock()
		if waiting == n {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%d reads wait, want %d", waiting, n)
		default:
		}
	}
}

// TestHeavyReadsOfOneCaller: who has many of them under way gets no more, and others do.
func TestHeavyReadsOfOneCaller(t *testing.T) {
	rs := newReaders()
	one, other := caller{"a", netip.MustParseAddr("192.0.2.1")}, caller{"b", netip.MustParseAddr("192.0.2.1")}
	for range mostHeavyEach {
		if p := rs.enter(one); p != nil {
			t.Fatal(p)
		}
	}
	if p := rs.enter(one); p == nil || p.Code != wire.Busy {
		t.Errorf("one too many: %v", p)
	}
	for i := range mostHeavy - mostHeavyEach {
		if p := rs.enter(caller{subject: strings.Repeat("c", i)}); p != nil {
			t.Fatalf("another, %d: %v", i, p)
		}
	}
	if p := rs.enter(other); p == nil {
		t.Error("more than there may be")
	}
	rs.leave(one)
	if p := rs.enter(other); p != nil {
		t.Error(p)
	}
}

// TestTurnsInOrder: turns go to who waits longest; who leaves the queue loses none.
func TestTurnsInOrder(t *testing.T) {
	rs := newReaders()
	rs.slots = 1
	if !rs.take(nil, nil) {
		t.Fatal("no turn")
	}
	gone := make(chan struct{})
	close(gone)
	if rs.take(gone, nil) {
		t.Error("a turn that somebody has")
	}
	if rs.wanted() {
		t.Error("who left still waits")
	}
	rs.give()
	if rs.mu.running != 0 {
		t.Errorf("%d running", rs.mu.running)
	}
}

// TestCostOfAQuery: what admission goes by grows with the rows, the patterns and sorting.
func TestCostOfAQuery(t *testing.T) {
	h, _ := wideView(t, 10_000, "text", Options{})
	seen, p := h.readable(auth.Anonymous(), "v")
	if p != nil {
		t.Fatal(p)
	}
	last := int64(0)
	for _, raw := range []string{"id=eq.5", "limit=10", "", "s=like.a*b*c*d", "s=match.(a|b){50}", "s=match.(a|b){500}"} {
		q, p := newQuery(seen, raw, false, false)
		if p != nil {
			t.Fatal(p)
		}
		c := q.cost(h.store.Snapshot(seen.rel.ID))
		if c <= last {
			t.Errorf("%q costs %d, no more than the one before, %d", raw, c, last)
		}
		last = c
	}
	plain, _ := newQuery(seen, "", false, false)
	sorted, _ := newQuery(seen, "order=s", false, false)
	if snap := h.store.Snapshot(seen.rel.ID); sorted.cost(snap) <= plain.cost(snap) {
		t.Error("sorting costs nothing")
	}
}

// TestPatternsOfLiveQueries: a live query with heavy patterns is refused, a read with them is not; and a row on which they cost too much is not part of a
// live result.
func TestPatternsOfLiveQueries(t *testing.T) {
	h, get := wideView(t, 3, strings.Repeat("ab", 20_000), Options{})
	seen, p := h.readable(auth.Anonymous(), "v")
	if p != nil {
		t.Fatal(p)
	}
	const heavy = "s=match.(a|b|ab){300}"
	if _, p := newQuery(seen, heavy, false, true); p == nil || p.Code != wire.TooMany || p.Field != "filter" {
		t.Errorf("live: %v", p)
	}
	if w := get("/v1/views/v?" + strings.ReplaceAll(heavy, "|", "%7C")); w.Code != http.StatusOK {
		t.Errorf("read: %d %s", w.Code, w.Body)
	}
	count := func(live bool) (n int) {
		q, p := newQuery(seen, "s=match.^(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)", false, live)
		if p != nil {
			t.Fatal(p)
		}
		r := reader{query: q}
		r.scan(h.store.Snapshot(seen.rel.ID), nil, func([]byte, change.Row) bool { n++; return true })
		return n
	}
	if read, live := count(false), count(true); read != 3 || live != 0 {
		t.Errorf("read %d rows, live %d: want 3 and 0", read, live)
	}
}
