package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"laaster/internal/auth"
	"laaster/internal/backbone"
	"laaster/internal/backbone/memory"
	"laaster/internal/kit/run"
	"laaster/internal/observe"
	"laaster/internal/wire"
)

// FuzzBodies sends requests in every form that the door reads, whole: method, query, headers and body. Whatever comes, the answer is a result or a problem of the
// caller's, the counts fit the rows that were sent, and nothing is held afterwards.
func FuzzBodies(f *testing.F) {
	const event = `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":"x"}}`
	for _, s := range []struct {
		kind                 byte
		query, headers, body string
	}{
		{0, "", "", `{"a":"x"}`},
		{1, "_atomic=true", "Idempotency-Key: 1", `[{"a":"x"},{"a":null},7]`},
		{2, "_ack=logged", "", "{\"a\":\"x\"}\n\nx\n{\"a\":\"y\"}"},
		{2, "", "Laaster-Producer: p\nLaaster-Sequence: 1", "{\"a\":\"x\"}\r\n"},
		{3, "", "", event},
		{4, "", "", "[" + event + "," + event + "]"},
		{5, "", "ce-specversion: 1.0\nce-id: %20\nce-source: s\nce-type: t\nce-time: 2026-01-31T12:00:00Z", `{"a":"x"}`},
		{6, "", "", "a=1"},
		{16, "id=eq.1&or=(t.is.null,i.gt.3)", "", `{"i":1}`},
		{32, "id=in.(1,2)", "", ""},
		{0, "on_conflict=merge", "Content-Encoding: gzip", "\x1f\x8b\x08\x00"},
	} {
		f.Add(s.kind, s.query, s.headers, []byte(s.body))
	}
	h := fuzzDoor(f)
	types := []string{"", "application/json", "application/x-ndjson", "application/cloudevents+json", "application/cloudevents-batch+json", "application/json", "text/plain; charset=x"}
	f.Fuzz(func(t *testing.T, kind byte, query, headers string, body []byte) {
		if bytes.Contains(body, []byte("e")) && len(body) > 1<<12 { // numbers with long exponents are slow, and have their bound
			return
		}
		q := (&http.Request{Method: []string{"POST", "PATCH", "DELETE", "POST"}[kind>>4&3], URL: &url.URL{Path: "/v1/tables/r", RawQuery: query}, Header: http.Header{},
			Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}).WithContext(t.Context())
		if kind&128 != 0 {
			q.ContentLength = -1
		}
		for _, line := range strings.Split(headers, "\n") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				q.Header.Add(name, value)
			}
		}
		if s := types[int(kind&15)%len(types)]; s != "" {
			q.Header.Set("Content-Type", s)
		}
		q.SetPathValue("table", []string{"e", "r", "k", "absent"}[kind>>6&1+kind>>3&2])
		w := httptest.NewRecorder()
		h.ServeHTTP(w, q)
		if n := h.Door.budget.held(); n != 0 {
			t.Fatalf("%d bytes are still counted", n)
		}
		var p wire.Problem
		var r wire.WriteResult
		switch w.Code {
		case http.StatusOK, http.StatusUnprocessableEntity:
			if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
				t.Fatalf("%d %q: %v", w.Code, w.Body, err)
			}
			if z, err := gzip.NewReader(bytes.NewReader(body)); err == nil && q.Header.Get("Content-Encoding") == "gzip" {
				body, _ = io.ReadAll(z) // it was read, so it is not large
			}
			if rows := 1 + bytes.Count(body, []byte("\n")) + bytes.Count(body, []byte(",")); int(r.Accepted)+int(r.Duplicates)+len(r.Rejected) > rows {
				t.Fatalf("%d rows at most, the answer is %s", rows, w.Body)
			}
		default:
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code == "" || p.Code == wire.Internal || p.Status >= 500 && p.Code != wire.Busy {
				t.Fatalf("%d %q: %v", w.Code, w.Body, err)
			}
		}
	})
}

// TestInflated: a body that comes as gzip is read where that is asked for, and never becomes larger than asked for.
func TestInflated(t *testing.T) {
	const most = 100_000
	limits := ample()
	limits.Inflated = most
	d, r := newDoor(t, limits)
	r.accept()
	h := serving(d)
	pack := func(text string) string {
		var b strings.Builder
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(text))
		_ = z.Close()
		return b.String()
	}
	row := `{"a":"` + strings.Repeat("x", 1000) + `"}`
	whole := pack(row)
	spaces := func(n int) string { return row + strings.Repeat(" ", n-len(row)) }
	for _, c := range []struct {
		name, body string
		codings    []string
		status     int
	}{
		{"as it is", row, nil, 200},
		{"gzip", whole, []string{"gzip"}, 200},
		{"in capitals", whole, []string{" GZip "}, 200},
		{"in members", pack(row[:100]) + pack(row[100:]), []string{"gzip"}, 200},
		{"as large as may be", pack(spaces(most)), []string{"gzip"}, 200},
		{"a byte larger", pack(spaces(most + 1)), []string{"gzip"}, 413},
		{"a bomb", pack(spaces(50 << 20)), []string{"gzip"}, 413},
		{"a bomb in members", strings.Repeat(pack(strings.Repeat(" ", most/2)), 1000), []string{"gzip"}, 413},
		{"packed twice", pack(whole), []string{"gzip", "gzip"}, 415},
		{"packed twice, said once", pack(whole), []string{"gzip"}, 400},
		{"deflate", whole, []string{"deflate"}, 415},
		{"not packed", row, []string{"gzip"}, 400},
		{"nothing", "", []string{"gzip"}, 400},
		{"cut off", whole[:len(whole)-9], []string{"gzip"}, 400},
		{"damaged", whole[:20] + "\xff\xff" + whole[22:], []string{"gzip"}, 400},
		{"with something behind", whole + "x", []string{"gzip"}, 400},
	} {
		for _, chunked := range []bool{false, true} {
			q := httptest.NewRequest("POST", "/v1/tables/e", strings.NewReader(c.body))
			if chunked {
				q.ContentLength = -1
			}
			q.SetPathValue("table", "e")
			q.Header["Content-Encoding"] = c.codings
			w := httptest.NewRecorder()
			h.ServeHTTP(w, q)
			if w.Code != c.status {
				t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.status)
			}
			if n := d.budget.held(); n != 0 {
				t.Fatalf("%s: %d bytes are still counted", c.name, n)
			}
		}
	}
	r.close()
}

// fuzzDoor returns a door whose log is in memory and whose engine accepts every row.
func fuzzDoor(f *testing.F) *HTTP {
	f.Helper()
	p := compile(f)
	var rules auth.Rules
	rules.Use(p.Definition)
	shard, err := backbone.Open(context.Background(), backbone.Options{Driver: memory.New(), Clock: run.System{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	out, group := make(chan *Batch, 1), run.New(context.Background())
	writer := NewWriter(shard, run.System{}, observe.NewMetrics(), out, 1<<20, 2*time.Second)
	group.Go("writer", writer.Run)
	r := &rig{writer: writer, out: out, group: group}
	r.accept()
	limits := ample()
	limits.Inflated = 64 << 10
	d, err := NewDoor(Options{Tables: p.Relations, Rules: &rules, Writer: writer, Clock: run.System{}, Metrics: observe.NewMetrics(), Limits: limits,
		Position: func(seq uint64) string { return fmt.Sprint(seq) }, Applied: func() uint64 { return 0 }, Remembered: func() int { return 0 }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		writer.Close(wire.NewProblem(wire.Draining, "the test is over"))
		if err := group.Wait(); err != nil {
			f.Error(err)
		}
	})
	return &HTTP{Door: d, Principal: func(*http.Request) (auth.Principal, *wire.Problem) { return auth.Anonymous(), nil },
		RequestID: func(*http.Request) string { return "request" },
		Answer: func(w http.ResponseWriter, _ *http.Request, p *wire.Problem) {
			w.WriteHeader(p.Status)
			_ = json.NewEncoder(w).Encode(p)
		}}
}
