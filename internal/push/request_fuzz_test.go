package push

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/kit/run"
	"laaster/internal/view"
	"laaster/internal/wire"
)

// FuzzRead reads with any query string and headers: the answer is rows, nothing new, or a problem of the caller's that can be read.
func FuzzRead(f *testing.F) {
	for _, s := range [][3]string{
		{"contestant=eq.A&order=votes.desc.nullslast&limit=1", "text/csv;q=0.5, application/x-ndjson", `"x-0.0-1"`},
		{"_at=0.0-1&_exact=true&_max_age=60", "*/*", "*"},
		{"or=(votes.gt.1,not.and(note.like.a*,note.is.null))&select=a:votes", "", `W/"a", "b"`},
		{"_from=x&_rate=1e-3&_every=true", "text/event-stream;q=x", ""},
		{"%zz=1&_wait=-1", "application/*", ""},
	} {
		f.Add(s[0], s[1], s[2])
	}
	rels := relations()
	store, world := view.New(rels, view.Options{}), newWorld(rels)
	var edits []edit
	for _, who := range []string{"A", "B", "C"} {
		votes, note := "1", "x"
		edits = append(edits, edit{rel: 0, vals: []*string{&who, &votes, &note}})
	}
	store.Apply(world.epoch(edits))
	h, err := NewHub(f.Context(), Options{Store: store, Log: testLog, Clock: run.NewManual(time.Unix(1e9, 0)), Rules: rulesFunc(func(auth.Principal, string) *wire.Problem { return nil })})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := h.Close(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, query, accept, tag string) {
		query = strings.NewReplacer("_wait", "_w", "_after", "_a").Replace(query) // nothing waits
		accept = strings.ReplaceAll(accept, "event", "e")
		q := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/v1/views/tally", RawQuery: query},
			Header: http.Header{"Accept": {accept}, "If-None-Match": {tag}}, Body: http.NoBody}).WithContext(t.Context())
		q.SetPathValue("view", "tally")
		w := httptest.NewRecorder()
		defer soon(t, run.System{}.Now())
		h.ServeView(w, q)
		var p wire.Problem
		switch w.Code {
		case http.StatusOK:
			if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%q is not JSON", w.Body)
			}
		case http.StatusNotModified:
		default:
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code == "" || p.Code == wire.Internal || p.Status >= 500 && p.RetryAfterMS == 0 && p.Code != wire.NotSupported {
				t.Fatalf("%d %q: %v", w.Code, w.Body, err)
			}
		}
	})
}

// FuzzSubscription binds any subscription: a query that works on the rows there are, or a problem of the caller's.
func FuzzSubscription(f *testing.F) {
	f.Add("contestant=eq.A", "votes", "votes.desc", 5, 1)
	f.Add("note=match.(a|b)*", "*", "", -1, -1)
	f.Add("limit=1&offset=2", "a:votes", "contestant", 1000, 10_000)
	f.Add("%26limit=0", "votes&limit=1", "votes&offset=-1", 0, 0)
	rels := relations()
	store, world := view.New(rels, view.Options{}), newWorld(rels)
	who, votes, note := "A", "1", "x"
	store.Apply(world.epoch([]edit{{rel: 0, vals: []*string{&who, &votes, &note}}}))
	f.Fuzz(func(t *testing.T, filter, columns, order string, limit, offset int) {
		s := &wire.Subscription{ID: "s", View: "tally", Filter: filter, Select: columns, Order: order}
		if limit >= 0 {
			s.Limit = &limit
		}
		if offset >= 0 {
			s.Offset = &offset
		}
		defer soon(t, run.System{}.Now())
		q, p := subscriptionQuery(sight{rel: rels[0]}, s, false)
		if (q == nil) == (p == nil) {
			t.Fatalf("query %v and problem %v", q, p)
		}
		if p != nil {
			if p.Status >= 500 && p.Code != wire.NotSupported || p.Code == "" {
				t.Fatalf("%+v", p)
			}
			return
		}
		for _, k := range q.keyNames {
			found := false
			for _, name := range q.names {
				found = found || string(name) == `"`+k+`":`
			}
			if !found {
				t.Fatalf("the key column %s does not travel", k)
			}
		}
		r := reader{query: q}
		r.scan(store.Snapshot(q.rel.ID), nil, func(_ []byte, row change.Row) bool {
			if b := q.appendRow(nil, row); !json.Valid(b) {
				t.Fatalf("%q is not JSON", b)
			}
			return true
		})
	})
}

// soon fails when a question about a few rows took long.
func soon(t *testing.T, began time.Time) {
	if took := (run.System{}).Now().Sub(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}
