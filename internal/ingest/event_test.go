package ingest

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"laaster/internal/auth"
	"laaster/internal/change"
	"laaster/internal/wire"
)

// TestEventsRefused posts what is no CloudEvent, or not for this server, and reads what is said.
func TestEventsRefused(t *testing.T) {
	d, r := newDoor(t, ample())
	r.accept()
	h := &HTTP{Door: d, Principal: func(*http.Request) (auth.Principal, *wire.Problem) { return auth.Anonymous(), nil },
		RequestID: func(*http.Request) string { return "1" },
		Answer: func(w http.ResponseWriter, _ *http.Request, p *wire.Problem) {
			w.WriteHeader(p.Status)
			_ = json.NewEncoder(w).Encode(p)
		}}
	const one, many = "application/cloudevents+json", "application/cloudevents-batch+json"
	ok := `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":"x"}}`
	headers := []string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "s", "ce-type", "t"}
	for _, c := range []struct {
		name, method, kind, body string
		headers                  []string
		status                   int
		field                    string
	}{
		{"one", "POST", one, ok, nil, 200, ""},
		{"null and extensions are passed over", "POST", one, strings.Replace(ok, `"type"`, `"subject":null,"traceparent":"x","type"`, 1), nil, 200, ""},
		{"many", "POST", many, "[" + ok + "]", nil, 200, ""},
		{"none", "POST", many, "[]", nil, 200, ""},
		{"binary", "POST", "application/json", `{"a":"x"}`, headers, 200, ""},
		{"binary, another JSON", "POST", "application/vnd.x+json", `{"a":"x"}`, headers, 200, ""},
		{"binary, in quotes", "POST", "", `{"a":"x"}`, append([]string{"ce-subject", `"a \" b"`}, headers...), 200, ""},
		{"binary, no JSON", "POST", "text/plain", `{"a":"x"}`, headers, 415, "Content-Type"},
		{"binary, lines", "POST", "application/x-ndjson", `{"a":"x"}`, headers, 415, "Content-Type"},
		{"binary, no data", "POST", "", "", headers, 422, "a"},
		{"binary, no id", "POST", "application/json", `{"a":"x"}`, []string{"ce-specversion", "1.0", "ce-source", "s", "ce-type", "t"}, 422, "id"},
		{"XML", "POST", "application/cloudevents+xml", ok, nil, 415, "Content-Type"},
		{"one as many", "POST", many, ok, nil, 400, ""},
		{"many as one", "POST", one, "[" + ok + "]", nil, 422, ""},
		{"cut", "POST", one, ok[:40], nil, 400, ""},
		{"and more", "POST", one, ok + ok, nil, 400, ""},
		{"no source", "POST", one, strings.Replace(ok, `"source":"s",`, "", 1), nil, 422, "source"},
		{"an empty id", "POST", one, strings.Replace(ok, `"id":"1"`, `"id":""`, 1), nil, 422, "id"},
		{"a number as id", "POST", one, strings.Replace(ok, `"id":"1"`, `"id":1`, 1), nil, 422, "id"},
		{"two ids", "POST", one, strings.Replace(ok, `"id":"1"`, `"id":"1","\u0069d":"2"`, 1), nil, 422, "id"},
		{"a long id", "POST", one, strings.Replace(ok, `"id":"1"`, `"id":"`+strings.Repeat("x", maxAttribute)+`"`, 1), nil, 422, "id"},
		{"no type", "POST", one, strings.Replace(ok, `"type":"t",`, "", 1), nil, 422, "type"},
		{"another version", "POST", one, strings.Replace(ok, `"1.0"`, `"0.3"`, 1), nil, 422, "specversion"},
		{"a bad time", "POST", one, strings.Replace(ok, `"type"`, `"time":"tomorrow","type"`, 1), nil, 422, "time"},
		{"data of another type", "POST", one, strings.Replace(ok, `"type"`, `"datacontenttype":"text/plain","type"`, 1), nil, 422, "datacontenttype"},
		{"data twice", "POST", one, strings.Replace(ok, `"type"`, `"data_base64":"e30=","type"`, 1), nil, 422, "data"},
		{"no base64", "POST", one, strings.Replace(ok, `"data":{"a":"x"}`, `"data_base64":"*"`, 1), nil, 422, "data_base64"},
		{"no JSON in base64", "POST", one, strings.Replace(ok, `"data":{"a":"x"}`, `"data_base64":"eyJh"`, 1), nil, 400, ""},
		{"data that is no row", "POST", one, strings.Replace(ok, `{"a":"x"}`, `"x"`, 1), nil, 422, ""},
		{"another column", "POST", one, strings.Replace(ok, `{"a":"x"}`, `{"x":1}`, 1), nil, 400, "x"},
		{"a key beside", "POST", one, ok, []string{"Idempotency-Key", "k"}, 400, keyField},
		{"a number beside", "POST", one, ok, []string{"Laaster-Producer", "p", "Laaster-Sequence", "1"}, 400, sequenceField},
		{"all or none", "POST", many + "?_atomic=true", "[" + ok + "]", nil, 400, "_atomic"},
		{"a change", "PATCH", one, ok, nil, 400, ""},
		{"a binary change", "PATCH", "application/json", `{"a":"x"}`, headers, 400, ""},
	} {
		kind, query, _ := strings.Cut(c.kind, "?")
		table := "e"
		if c.method == "PATCH" {
			table = "r"
		}
		q := httptest.NewRequest(c.method, "/v1/tables/"+table+"?"+query, strings.NewReader(c.body))
		q.SetPathValue("table", table)
		if kind != "" {
			q.Header.Set("Content-Type", kind)
		}
		for i := 0; i < len(c.headers); i += 2 {
			q.Header.Set(c.headers[i], c.headers[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, q)
		var p wire.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != c.status || p.Field != c.field {
			t.Errorf("%s: %d %s, want %d about %q", c.name, w.Code, w.Body, c.status, c.field)
		}
	}
	if n := d.budget.held(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
	r.close()
}

// TestEventBounds: a batch has a bound of its own, and its keys count as the caller's part of what is remembered.
func TestEventBounds(t *testing.T) {
	d, r := newDoor(t, ample())
	r.accept()
	one := `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":"x"}}`
	many := func(n int) *Request {
		return &Request{Events: EventBatch, Rows: []byte("[" + strings.Repeat(one+",", n-1) + one + "]")}
	}
	if _, p := d.send(t, many(maxEvents)); p != nil {
		t.Errorf("%+v", p)
	}
	if _, p := d.send(t, many(maxEvents+1)); p == nil || p.Code != wire.TooMany {
		t.Errorf("%+v", p)
	}
	d.opt.Remembered = func() int { return d.opt.Limits.DedupeMemory }
	if _, p := d.send(t, many(1)); p == nil || p.Code != wire.Busy {
		t.Errorf("with the memory for keys full: %+v", p)
	}
	r.close()
}

// FuzzEvents reads an event as the scanner does and as the standard library does: what is taken has the same source, id and data.
func FuzzEvents(f *testing.F) {
	for _, s := range []string{`{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"id":1}}`, `{"specversion":"1.0","id":"\u0031","source":"\ud83d\ude00","type":"t","data_base64":"eyJpZCI6MX0="}`,
		`{"id":"1","id":"2"}`, `{"data":1,"data":2}`, `[]`, `{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2026-01-31T12:00:00Z"}`, `{`, `{"data":{"a":[}}`} {
		f.Add(s)
	}
	anon := auth.Anonymous()
	table, err := newTable(relation(f, "r"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if !utf8.ValidString(src) || strings.Count(src, "[")+strings.Count(src, "{") > maxDepth {
			return
		}
		d, e := &rowDecoder{}, &event{}
		d.reset(table, &permit{}, []byte(src), 0, &anon)
		err := e.read(&d.scan, table)
		if err == nil {
			err = end(d)
		}
		if valid := json.Valid([]byte(src)); valid != (err == nil) {
			t.Fatalf("%q: read with %v, the standard library says valid %v", src, err, valid)
		}
		if err != nil {
			return
		}
		if e.check(); e.problem != nil {
			return
		}
		var want struct {
			ID     string          `json:"id"`
			Source string          `json:"source"`
			Data   json.RawMessage `json:"data"`
		}
		var members map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal([]byte(src), &want), json.Unmarshal([]byte(src), &members)); err != nil {
			t.Fatalf("%q: taken, but %v", src, err)
		}
		if _, exact := members["data"]; exact && !strings.EqualFold(string(e.data), string(want.Data)) && len(members["data"]) > 0 && string(e.data) != string(members["data"]) {
			t.Fatalf("%q: data %q", src, e.data)
		}
		var id, source string
		_ = json.Unmarshal(members["id"], &id)
		_ = json.Unmarshal(members["source"], &source)
		if id != e.id || source != e.source || e.id == "" {
			t.Fatalf("%q: %q and %q, want %q and %q", src, e.source, e.id, source, id)
		}
		if k := e.key(); len(k) != 25 || k[0] != eventKey || len(k) > change.MaxField {
			t.Fatalf("%q: key %q", src, k)
		}
	})
}
