package conform

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// keeper is a cache between clients and the server that keeps what it may for ever and never asks again: the worst one that the headers
// of an answer allow, and one that does not even heed no-cache. It does heed Vary and no-store.
type keeper struct {
	upstream string
	mu       sync.Mutex
	kept     map[string]*http.Response
	bodies   map[string][]byte
	asked    int // requests of any kind
	served   int // from what is kept
}

// ServeHTTP implements http.Handler.
func (k *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Method + " " + r.URL.String() + " " + r.Header.Get("Accept") // Vary
	k.mu.Lock()
	k.asked++
	res, body := k.kept[id], k.bodies[id]
	if res != nil {
		k.served++
	}
	k.mu.Unlock()
	if res == nil {
		q, err := http.NewRequestWithContext(r.Context(), r.Method, k.upstream+r.URL.String(), r.Body)
		if err != nil {
			return
		}
		q.Header = r.Header.Clone()
		if res, err = http.DefaultTransport.RoundTrip(q); err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		if r.Method == http.MethodGet && res.StatusCode == http.StatusOK && !strings.Contains(res.Header.Get("Cache-Control"), "no-store") {
			if body, err = io.ReadAll(res.Body); err != nil {
				return
			}
			k.mu.Lock()
			k.kept[id], k.bodies[id] = res, body
			k.mu.Unlock()
		}
	}
	for name, values := range res.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(res.StatusCode)
	if body != nil {
		_, _ = w.Write(body) // the client may be gone
		return
	}
	flush := http.NewResponseController(w)
	b := make([]byte, 32<<10)
	for {
		n, err := res.Body.Read(b)
		_, _ = w.Write(b[:n]) // the client may be gone
		_ = flush.Flush()
		if err != nil {
			return
		}
	}
}

// TestStaleCache: behind a cache that answers with old rows for ever, live rows stay live and nobody asks in a loop: streams are never kept, so
// that a stale answer cannot be what a client goes on from.
func TestStaleCache(t *testing.T) {
	ds := drivers(t)
	for name, d := range ds {
		t.Run(name, func(t *testing.T) {
			dir, err := newDir()
			if err != nil {
				t.Fatal(err)
			}
			srv, err := startServer(dir, "votes", "limits: {ring: 64KiB}\n")
			if err != nil {
				t.Fatal(err)
			}
			defer srv.close()
			k := &keeper{upstream: srv.url, kept: map[string]*http.Response{}, bodies: map[string][]byte{}}
			cache := httptest.NewServer(k)
			defer cache.Close()
			defer cache.CloseClientConnections()
			p := &play{lane: lane{name, "sse", "none"}, script: &script{}, drivers: ds, id: "cache-" + name, srv: srv}
			p.open()
			read := func() string {
				r, err := http.Get(cache.URL + "/v1/views/votes")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Body.Close()
				var b bytes.Buffer
				_, _ = b.ReadFrom(r.Body)
				return b.String()
			}
			old := read()
			c := &watched{name: "a", id: p.id + "/a", d: d, lane: p.lane, state: "connecting", went: map[string]int{}, subs: map[string]*followed{}, open: map[string]*written{}}
			p.clients["a"] = c
			d.join(c.id, p.events)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%v\n%s", err, p.story())
				}
			}
			must(d.do(command{Do: "connect", Client: c.id, URL: cache.URL, Kind: "sse"}))
			lines := []string{"subscribe a.all votes", "subscribe a.tally tally", "fill 1 20", "settle"}
			for _, line := range append(lines, "fill 21 2000 note=100", "settle", "restart", "settle", "fill 3000 3010", "settle") {
				st, err := parseStep(line)
				must(err)
				p.note("> " + line)
				must(p.step(st))
			}
			must(p.end(c))
			if again := read(); again != old || k.served == 0 {
				t.Errorf("the cache keeps nothing: this shows nothing")
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.asked > 60 {
				t.Errorf("%d requests: somebody asks in a loop", k.asked)
			}
			t.Logf("%d requests, %d answered by the cache", k.asked, k.served)
		})
	}
}
