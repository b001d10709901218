package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"laaster/internal/change"
	"laaster/internal/kit/run"
)

// cache is a shared cache as RFC 9111 describes it, of what a test needs: it keeps answers that say public, serves them while they are fresh, and asks whether
// they are still right when they are not.
type cache struct {
	origin string
	clock  *run.Manual
	asked  atomic.Int64 // requests that reached the origin
	mu     sync.Mutex
	kept   map[string]*keptAnswer
}

type keptAnswer struct {
	head http.Header
	body []byte
	at   time.Time
}

func (c *cache) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.kept[q.URL.String()]
	if kept != nil && c.clock.Now().Sub(kept.at) < maxAge(kept.head) {
		c.answer(w, kept)
		return
	}
	out, err := http.NewRequest("GET", c.origin+q.URL.String(), nil)
	if err != nil {
		panic(err)
	}
	if kept != nil {
		out.Header.Set("If-None-Match", kept.head.Get("ETag"))
	} else if tag := q.Header.Get("If-None-Match"); tag != "" {
		out.Header.Set("If-None-Match", tag)
	}
	c.asked.Add(1)
	r, err := http.DefaultClient.Do(out)
	if err != nil {
		panic(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	if r.StatusCode == http.StatusNotModified && kept != nil && r.Header.Get("ETag") == kept.head.Get("ETag") {
		for name, v := range r.Header {
			kept.head[name] = v
		}
		kept.at = c.clock.Now()
		c.answer(w, kept)
		return
	}
	if r.StatusCode == http.StatusOK && strings.Contains(r.Header.Get("Cache-Control"), "public") {
		kept = &keptAnswer{r.Header.Clone(), body, c.clock.Now()}
		c.kept[q.URL.String()] = kept
	}
	maps.Copy(w.Header(), r.Header)
	w.WriteHeader(r.StatusCode)
	_, _ = io.Copy(w, bytes.NewReader(body))
}

func (c *cache) answer(w http.ResponseWriter, kept *keptAnswer) {
	maps.Copy(w.Header(), kept.head)
	_, _ = w.Write(kept.body)
}

func maxAge(h http.Header) time.Duration {
	_, s, _ := strings.Cut(h.Get("Cache-Control"), "max-age=")
	n, _ := strconv.Atoi(s)
	return time.Duration(n) * time.Second
}

// get reads rows and their position by way of the cache.
func (c *cache) get(t *testing.T, url string) (rows map[string]bool, at uint64) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var list []map[string]any
	if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	p, err := change.ParsePosition(r.Header.Get("Laaster-Position"))
	if err != nil {
		t.Fatal(err)
	}
	rows = map[string]bool{}
	for _, row := range list {
		rows[fmt.Sprint(row["room"], row["n"])] = true
	}
	return rows, p.Seq
}

// TestCachedRows: a cache on the way serves a view to many, and each of them goes on live from the position of what it got, however old that is.
func TestCachedRows(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, linesSQL)
	s := settingsFor("", "memory")
	s.Limits.Ring = 64 << 10
	l := start(t, dir, s)
	defer l.end()
	w := &lines{l: l, r: nil}
	say := func(n int) {
		t.Helper()
		for range n {
			w.next++
			res := l.write("POST", "/v1/tables/line", fmt.Sprintf(`{"room":"a","n":%d,"who":"w","body":%q}`, w.next, strings.Repeat("x", 3000)))
			p, err := change.ParsePosition(res.Position)
			if err != nil {
				t.Fatal(err)
			}
			w.all = append(w.all, wrote{p.Seq, "a", "w", w.next})
		}
	}
	all := func(wrote) bool { return true }
	c := &cache{origin: l.url, clock: run.NewManual(time.UnixMilli(0)), kept: map[string]*keptAnswer{}}
	proxy := httptest.NewServer(c)
	defer proxy.Close()
	check := func(what, path string, asked int64) uint64 {
		t.Helper()
		rows, at := c.get(t, proxy.URL+path)
		if got := c.asked.Swap(0); got != asked {
			t.Errorf("%s: the origin was asked %d times, want %d", what, got, asked)
		}
		if want := w.at(at, all); !maps.Equal(rows, want) {
			t.Errorf("%s: %d rows at %d, want %d", what, len(rows), at, len(want))
		}
		return at
	}
	const aged, asking = "/v1/views/said?_max_age=30", "/v1/views/said?select=n,room"
	say(2)
	first := check("the first read", aged, 1)
	say(2)
	if at := check("a fresh answer", aged, 0); at != first {
		t.Errorf("the cache's answer is of %d, not of %d", at, first)
	}
	check("asking", asking, 1)
	l.write("POST", "/v1/tables/line", `{"room":"b","n":1000,"who":"w","body":"other"}`)
	if at := check("asking again", asking, 1); at != l.n.applied.Load() { // the same rows, and they are those of a later position
		t.Errorf("the position is %d, not that of the answer 304", at)
	}
	say(1)
	check("asking after a change", asking, 1)

	// Everybody goes on from what the cache has: out of the ring, and, when that has gone on, out of the log.
	if got := w.follow("/v1/views/said?select=body", first, all); got != "resumed epoch " {
		t.Error(got)
	}
	say(30)
	if floor := l.n.store.Floor(); floor <= first {
		t.Fatal("the ring reaches back to", floor)
	}
	at := check("a fresh answer that is old", aged, 0)
	next, done := l.stream(fmt.Sprintf("/v1/views/said?_from=%s", l.n.position(at)), "")
	if kind, data, _ := next(); kind != "resumed" {
		t.Error(kind, data)
	}
	done()
	if got := w.follow("/v1/views/said", at, all); got != "resumed epoch " {
		t.Error(got)
	}

	// A view that the log does not tell begins anew on the stream itself: who followed a gap back to the cache would get the old position for ever.
	_, old := c.get(t, proxy.URL+"/v1/views/rooms?_max_age=30")
	say(30)
	if _, again := c.get(t, proxy.URL+"/v1/views/rooms?_max_age=30"); again != old {
		t.Error("the cache's answer has moved")
	}
	next, done = l.stream("/v1/views/rooms?_from="+l.n.position(old), "")
	defer done()
	kind, _, _ := next()
	kind2, data, id := next()
	if kind != "gap" || kind2 != "snapshot" || id != l.n.position(l.n.applied.Load()) {
		t.Error(kind, kind2, data, id)
	}
	c.clock.Advance(31 * time.Second)
	c.asked.Store(0)
	check("an answer that is not fresh any more", aged, 1)
}

// What may be kept, by whom.
func TestCacheControl(t *testing.T) {
	dir := t.TempDir()
	writeApp(t, dir, strings.Replace(linesSQL, "(append_only)", "(append_only, audit)", 1))
	l := start(t, dir, settingsFor(t.TempDir(), "embedded"))
	defer l.end()
	for path, want := range map[string]string{
		"/v1/views/said":             "public, no-cache",
		"/v1/views/said?_max_age=10": "public, max-age=10",
		"/v1/views/said?_wait=1":     "no-store",
		"/v1/views/line":             "no-store", // reads of it are recorded
	} {
		status, body, head := l.call("GET", path, "")
		if got := head.Get("Cache-Control"); status != http.StatusOK || got != want || !strings.Contains(strings.Join(head.Values("Vary"), ","), "Authorization") {
			t.Errorf("%s: %d %q %s, want %q", path, status, got, body, want)
		}
		if status, _, head = l.call("GET", path, "", "If-None-Match", head.Get("ETag")); status != http.StatusNotModified || head.Get("Cache-Control") != want {
			t.Errorf("%s again: %d %v", path, status, head)
		}
	}
}
